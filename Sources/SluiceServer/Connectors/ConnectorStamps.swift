import SluiceCore

#if canImport(Glibc)
    import Glibc
#elseif canImport(Musl)
    import Musl
#endif

/// Reads the stamps of a connectors directory's files.
enum ConnectorStamps {
    /// By the names of the directories that hold a connector.lua. Throws `.notFound` if the directory cannot be read: a mount
    /// that is away must not look as if every connector had been removed.
    static func all(in directory: String) throws(SluiceError) -> [String: ConnectorFiles.Stamp] {
        guard access(directory, R_OK | X_OK) == 0 else {
            throw SluiceError(.notFound, "the directory of connectors, \(directory), cannot be read: what is loaded runs on")
        }
        var stamps: [String: ConnectorFiles.Stamp] = [:]
        for name in SmallFile.names(in: directory) {
            var status = stat()
            guard stat("\(directory)/\(name)/connector.lua", &status) == 0 else { continue }
            stamps[name] = ConnectorFiles.Stamp(
                modifiedAtNanoseconds: Int64(status.st_mtim.tv_sec) * 1_000_000_000 + Int64(status.st_mtim.tv_nsec),
                bytes: Int64(status.st_size), inode: UInt64(status.st_ino))
        }
        return stamps
    }

    /// The clock that stamps files.
    static func nowNanoseconds() -> Int64 {
        var time = timespec()
        clock_gettime(CLOCK_REALTIME, &time)
        return Int64(time.tv_sec) * 1_000_000_000 + Int64(time.tv_nsec)
    }
}
