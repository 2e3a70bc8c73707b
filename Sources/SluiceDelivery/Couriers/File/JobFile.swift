import SluiceCore

#if canImport(Glibc)
    import Glibc
#elseif canImport(Musl)
    import Musl
#elseif canImport(Darwin)
    import Darwin
#endif

/// A file of lines that is only ever appended to, through crashes, full disks and rotations. Blocks; not for several at once.
///
/// Between calls the file ends with a line feed, and everything in it is synced. Each failure closes it; the next call opens it
/// again and mends what it finds.
struct JobFile: Sendable {
    /// What a test replaces, to fail at each step.
    struct Calls: Sendable {
        var write: @Sendable (Int32, UnsafeRawPointer, Int) -> Int
        var sync: @Sendable (Int32) -> Int32
        /// How often to ask another holder of the file to let go.
        var lockTries = 50
        static let system = Calls(
            write: { descriptor, bytes, count in
                #if canImport(Glibc)
                    Glibc.write(descriptor, bytes, count)
                #elseif canImport(Musl)
                    Musl.write(descriptor, bytes, count)
                #else
                    Darwin.write(descriptor, bytes, count)
                #endif
            }, sync: { fsync($0) })
    }

    let path: String
    let root: String
    let rotation: FileRotation
    let calls: Calls
    private var descriptor: Int32 = -1

    static let lockWaitMicroseconds: UInt32 = 100_000
    static let writeBytesMax = 1 << 20

    init(path: String, root: String, rotation: FileRotation, calls: Calls) {
        self.path = path
        self.root = root
        self.rotation = rotation
        self.calls = calls
    }

    private var directory: String { String(path[..<(path.lastIndex(of: "/") ?? path.startIndex)]) }
    private var name: String { String(path[(path.lastIndex(of: "/").map { path.index(after: $0) } ?? path.startIndex)...]) }

    /// Returns once all lines are on disk. Throws with none of them in the file, as far as the disk lets it be known.
    mutating func append(_ lines: [[UInt8]], at now: Timestamp) throws(SluiceError) {
        do throws(SluiceError) {
            try appendOrFail(lines, now)
        } catch {
            close()
            throw error
        }
    }

    mutating func close() {
        // Closing gives the lock back as well.
        if descriptor >= 0 { _ = closeDescriptor(descriptor) }
        descriptor = -1
    }

    private mutating func appendOrFail(_ lines: [[UInt8]], _ now: Timestamp) throws(SluiceError) {
        if descriptor >= 0, !isStillThere() { close() }
        if descriptor < 0 { try open() }
        let adding = lines.reduce(Int64(0)) { $0 + Int64($1.count) }
        var state = try status()
        let modifiedAt = Timestamp(seconds: Int64(state.st_mtim.tv_sec))
        if rotation.isDue(size: Int64(state.st_size), adding: adding, modifiedAt: modifiedAt, now: now) {
            try rotate()
            state = try status()
        }
        do throws(SluiceError) {
            try write(lines)
            guard calls.sync(descriptor) == 0 else { throw failure("synced") }
        } catch {
            // After a sync that failed the system may think its pages clean: what was not synced is taken back, written anew.
            _ = ftruncate(descriptor, state.st_size)
            _ = fsync(descriptor)
            throw error
        }
    }

    // MARK: - Opening

    /// Somebody else may have moved or removed the file, as log rotation does.
    private func isStillThere() -> Bool {
        var (here, there) = (stat(), stat())
        return fstat(descriptor, &here) == 0 && lstat(path, &there) == 0 && here.st_ino == there.st_ino && here.st_dev == there.st_dev
    }

    private mutating func open() throws(SluiceError) {
        try makeDirectories()
        for _ in 0..<calls.lockTries {
            let opened = openDescriptor(path, O_RDWR | O_APPEND | O_CREAT | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK, 0o640)
            guard opened >= 0 else { throw failure("opened") }
            descriptor = opened
            let state = try status()
            guard state.st_mode & S_IFMT == S_IFREG else {
                throw SluiceError(.conflict, "\(path) is there and is no plain file: give the destination another `path`")
            }
            guard flock(descriptor, LOCK_EX | LOCK_NB) == 0 else {
                close()
                usleep(JobFile.lockWaitMicroseconds)
                continue
            }
            // Whoever had it may have rotated it meanwhile.
            guard isStillThere() else {
                close()
                continue
            }
            try repair(size: Int64(state.st_size))
            guard calls.sync(descriptor) == 0 else { throw failure("synced") }
            try syncDirectory(directory)
            return
        }
        throw SluiceError(.conflict, "another process writes to \(path): two servers, or two destinations, must not share a file")
    }

    /// Cuts off a last line without an end: a crash in the middle of a write. Its job was not acknowledged and comes again.
    private func repair(size: Int64) throws(SluiceError) {
        var end = size
        var buffer = [UInt8](repeating: 0, count: 64 * 1024)
        while end > 0 {
            let start = max(0, end - Int64(buffer.count))
            let count = Int(end - start)
            guard pread(descriptor, &buffer, count, off_t(start)) == count else { throw failure("read") }
            if let place = buffer[..<count].lastIndex(of: 0x0A) {
                end = start + Int64(place) + 1
                break
            }
            end = start
        }
        if end < size, ftruncate(descriptor, off_t(end)) != 0 { throw failure("cut back to its last whole line") }
    }

    /// Makes what is missing of the directories below the root, and makes sure that no link leads out of it.
    private func makeDirectories() throws(SluiceError) {
        var made = root
        if mkdir(made, 0o750) != 0, errno != EEXIST { throw failure("given its directory") }
        for part in directory.dropFirst(root.count).split(separator: "/") {
            let parent = made
            made += "/" + part
            if mkdir(made, 0o750) == 0 {
                try syncDirectory(parent)
            } else if errno != EEXIST {
                throw failure("given its directory")
            }
        }
        guard let real = JobFile.real(directory), let realRoot = JobFile.real(root) else { throw failure("given its directory") }
        guard real == realRoot || real.hasPrefix(realRoot == "/" ? "/" : realRoot + "/") else {
            throw SluiceError(.conflict, "the directory of \(path) leads out of \(root) by a symbolic link: give another `path`")
        }
    }

    private static func real(_ path: String) -> String? {
        guard let resolved = realpath(path, nil) else { return nil }
        defer { free(resolved) }
        return String(cString: resolved)
    }

    // MARK: - Writing

    private func write(_ lines: [[UInt8]]) throws(SluiceError) {
        var pending: [UInt8] = []
        for line in lines {
            if !pending.isEmpty, pending.count + line.count > JobFile.writeBytesMax {
                try write(pending)
                pending.removeAll(keepingCapacity: true)
            }
            pending += line
        }
        try write(pending)
    }

    private func write(_ bytes: [UInt8]) throws(SluiceError) {
        var done = 0
        while done < bytes.count {
            let (count, number) = bytes.withUnsafeBytes { buffer -> (Int, Int32) in
                guard let base = buffer.baseAddress else { return (0, 0) }
                let count = calls.write(descriptor, base + done, bytes.count - done)
                return (count, errno)
            }
            if count < 0, number == EINTR { continue }
            guard count > 0 else {
                errno = count == 0 ? ENOSPC : number
                throw failure("written to")
            }
            done += count
        }
    }

    // MARK: - Rotating

    private mutating func rotate() throws(SluiceError) {
        let numbers = try rotatedNumbers()
        let next = (numbers.max() ?? 0) + 1
        let target = FileRotation.rotated(path, number: next)
        // A number beyond the eight digits would sort wrongly, and be taken for no rotated file.
        guard FileRotation.number(of: target, in: path) != nil else {
            throw SluiceError(.conflict, "\(path) was rotated \(next - 1) times: move its rotated files away")
        }
        guard rename(path, target) == 0 else { throw failure("rotated") }
        close()
        // Opening syncs the directory, and with it the new name.
        try open()
        for number in rotation.surplus(numbers + [next]) { unlink(FileRotation.rotated(path, number: number)) }
    }

    private func rotatedNumbers() throws(SluiceError) -> [Int] {
        guard let listing = opendir(directory.isEmpty ? "/" : directory) else { throw failure("rotated") }
        defer { closedir(listing) }
        var numbers: [Int] = []
        while let entry = readdir(listing) {
            let found = withUnsafePointer(to: entry.pointee.d_name) { pointer in
                pointer.withMemoryRebound(to: CChar.self, capacity: MemoryLayout.size(ofValue: pointer.pointee)) { String(cString: $0) }
            }
            if let number = FileRotation.number(of: found, in: name) { numbers.append(number) }
        }
        return numbers
    }

    // MARK: - System calls

    private func status() throws(SluiceError) -> stat {
        var state = stat()
        guard fstat(descriptor, &state) == 0 else { throw failure("looked at") }
        return state
    }

    private func syncDirectory(_ directory: String) throws(SluiceError) {
        let opened = openDescriptor(directory.isEmpty ? "/" : directory, O_RDONLY | O_DIRECTORY | O_CLOEXEC, 0)
        guard opened >= 0 else { throw failure("synced with its directory") }
        defer { _ = closeDescriptor(opened) }
        guard calls.sync(opened) == 0 else { throw failure("synced with its directory") }
    }

    private func failure(_ what: String) -> SluiceError {
        let number = errno
        if number == ENOSPC || number == EDQUOT {
            return SluiceError(.diskFull, "\(path) could not be \(what): the disk is full. Make room; nothing is lost, it is tried again.")
        }
        if number == EACCES || number == EPERM || number == EROFS {
            return SluiceError(.conflict, "\(path) could not be \(what): the user that Sluice runs as may not write there")
        }
        return SluiceError(.conflict, "\(path) could not be \(what): \(String(cString: strerror(number)))")
    }

    private func openDescriptor(_ path: String, _ flags: Int32, _ mode: mode_t) -> Int32 {
        #if canImport(Glibc)
            Glibc.open(path, flags, mode)
        #elseif canImport(Musl)
            Musl.open(path, flags, mode)
        #else
            Darwin.open(path, flags, mode)
        #endif
    }

    private func closeDescriptor(_ descriptor: Int32) -> Int32 {
        #if canImport(Glibc)
            Glibc.close(descriptor)
        #elseif canImport(Musl)
            Musl.close(descriptor)
        #else
            Darwin.close(descriptor)
        #endif
    }
}
