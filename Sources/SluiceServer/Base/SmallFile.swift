import SluiceCore

#if canImport(Glibc)
    import Glibc
#elseif canImport(Musl)
    import Musl
#endif

/// Small files that hold keys, tokens and manifests: read whole within a bound, written for their owner alone.
public enum SmallFile {
    /// The bytes of a file; nil if there is none. Throws `.storage` if it cannot be read or is larger than `bytesMax`.
    public static func read(_ path: String, bytesMax: Int = 1 << 20) throws(SluiceError) -> [UInt8]? {
        let descriptor = open(path, O_RDONLY | O_CLOEXEC)
        if descriptor < 0 {
            if errno == ENOENT || errno == ENOTDIR { return nil }
            throw fault("cannot read", path)
        }
        defer { close(descriptor) }
        var bytes: [UInt8] = []
        var buffer = [UInt8](repeating: 0, count: 64 * 1024)
        while bytes.count <= bytesMax {
            let count = readSome(descriptor, &buffer, buffer.count)
            if count < 0 && errno == EINTR { continue }
            if count < 0 { throw fault("cannot read", path) }
            if count == 0 { return bytes }
            bytes.append(contentsOf: buffer[..<count])
        }
        throw SluiceError(.invalid, "\(path) is larger than \(bytesMax) bytes").with("file", path)
    }

    /// Replaces or creates a file with mode 0600, in one step: a reader sees the old or the new one whole, and after a
    /// return the new one survives a power cut. With `isNew`, throws `.conflict` if there is one already.
    public static func writePrivate(_ path: String, _ bytes: [UInt8], isNew: Bool = false) throws(SluiceError) {
        if isNew, access(path, F_OK) == 0 { throw SluiceError(.conflict, "\(path) exists already").with("file", path) }
        try replace(path, bytes, mode: 0o600)
    }

    /// Replaces or creates a file that everybody may read, in one step.
    public static func writePage(_ path: String, _ text: String) throws(SluiceError) {
        try replace(path, Array(text.utf8), mode: 0o644)
    }

    private static func replace(_ path: String, _ bytes: [UInt8], mode: mode_t) throws(SluiceError) {
        let temporary = "\(path).\(getpid()).new"
        let descriptor = open(temporary, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, mode)
        if descriptor < 0 { throw fault("cannot write", path) }
        var written = 0
        while written < bytes.count {
            let count = bytes.withUnsafeBytes { write(descriptor, $0.baseAddress! + written, bytes.count - written) }
            if count < 0 && errno == EINTR { continue }
            if count <= 0 { break }
            written += count
        }
        let isDurable = written == bytes.count && fsync(descriptor) == 0
        let code = errno
        close(descriptor)
        guard isDurable, rename(temporary, path) == 0 else {
            if isDurable == false { errno = code }
            let error = fault("cannot write", path)
            unlink(temporary)
            throw error
        }
        syncDirectory(of: path)
    }

    /// Removes a file if it is there.
    public static func remove(_ path: String) { unlink(path) }

    /// Makes a directory for its owner alone, with those above it, unless it is there.
    public static func makeDirectory(_ path: String) throws(SluiceError) {
        var status = stat()
        if stat(path, &status) == 0 { return }
        if let slash = path.lastIndex(of: "/"), slash > path.startIndex { try makeDirectory(String(path[..<slash])) }
        if mkdir(path, 0o700) != 0 && errno != EEXIST { throw fault("cannot make the directory", path) }
    }

    private static func syncDirectory(of path: String) {
        let directory = path.lastIndex(of: "/").map { String(path[..<$0]) } ?? "."
        let descriptor = open(directory.isEmpty ? "/" : directory, O_RDONLY | O_DIRECTORY | O_CLOEXEC)
        if descriptor < 0 { return }
        fsync(descriptor)
        close(descriptor)
    }

    private static func fault(_ what: String, _ path: String) -> SluiceError {
        let code = errno
        return SluiceError(code == ENOSPC ? .diskFull : .storage, "\(what) \(path): \(String(cString: strerror(code)))").with("file", path)
    }
}

/// The system's `read`, which `SmallFile.read` hides.
private func readSome(_ descriptor: Int32, _ buffer: inout [UInt8], _ count: Int) -> Int { read(descriptor, &buffer, count) }

extension SmallFile {
    /// What a directory holds, in order; empty if there is none.
    static func names(in path: String) -> [String] {
        guard let directory = opendir(path) else { return [] }
        defer { closedir(directory) }
        var names: [String] = []
        while names.count < 100_000, let entry = readdir(directory) {
            let name = withUnsafePointer(to: &entry.pointee.d_name) { pointer in
                pointer.withMemoryRebound(to: CChar.self, capacity: 256) { String(cString: $0) }
            }
            if name != "." && name != ".." { names.append(name) }
        }
        return names.sorted()
    }

    static func exists(_ path: String) -> Bool { access(path, F_OK) == 0 }

    /// The permission bits of a file; nil if there is none.
    static func mode(_ path: String) -> UInt32? {
        var status = stat()
        return stat(path, &status) == 0 ? UInt32(status.st_mode) & 0o777 : nil
    }
}
