#if canImport(Glibc)
    import Glibc
#endif

/// What the C library keeps of freed memory.
enum Memory {
    /// Before there are threads: few arenas, and none that keeps what was freed at its end. By default there are eight a core,
    /// and each may keep 64 MB.
    static func bound() {
        #if canImport(Glibc)
            // The constants of malloc.h, which the Glibc module does not bring.
            let (trimThreshold, mapThreshold, arenasMax): (Int32, Int32, Int32) = (-1, -3, -8)
            guard let symbol = dlsym(nil, "mallopt") else { return }
            let set = unsafeBitCast(symbol, to: (@convention(c) (Int32, Int32) -> Int32).self)
            _ = set(arenasMax, 4)
            _ = set(trimThreshold, 4 << 20)
            _ = set(mapThreshold, 1 << 20)
        #endif
    }

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
