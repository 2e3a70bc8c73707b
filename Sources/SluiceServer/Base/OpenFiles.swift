#if canImport(Glibc)
    import Glibc
#elseif canImport(Musl)
    import Musl
#endif

/// How many files and sockets the process may have open.
enum OpenFiles {
    /// As many as are asked for where the system sets no limit.
    private static let most = 1 << 20

    /// Raises the soft limit to the hard one, once, and returns what holds now.
    static func raise() -> Int {
        #if canImport(Glibc) || canImport(Musl)
            var limit = rlimit()
            #if canImport(Glibc)
                let resource = __rlimit_resource_t(RLIMIT_NOFILE.rawValue)
            #else
                let resource = RLIMIT_NOFILE
            #endif
            guard getrlimit(resource, &limit) == 0 else { return 1024 }
            if limit.rlim_cur < limit.rlim_max {
                var raised = limit
                raised.rlim_cur = limit.rlim_max
                if setrlimit(resource, &raised) == 0 { limit = raised }
            }
            return Int(clamping: min(limit.rlim_cur, rlim_t(most)))
        #else
            return 1024
        #endif
    }
}
