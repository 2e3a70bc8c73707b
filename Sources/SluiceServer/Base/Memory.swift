#if canImport(Glibc)
    import Glibc
#endif

/// What the C library keeps of freed memory.
enum Memory {
    /// Gives free pages back to the system. Definitions are read as a whole after each change, and with many triggers the
    /// allocator would keep what that took for ever.
    static func giveBack() {
        #if canImport(Glibc)
            // Declared in malloc.h, which the Glibc module does not bring.
            guard let symbol = dlsym(nil, "malloc_trim") else { return }
            _ = unsafeBitCast(symbol, to: (@convention(c) (Int) -> Int32).self)(0)
        #endif
    }
}
