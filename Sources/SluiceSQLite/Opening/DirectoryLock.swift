import Glibc
import SluiceCore

/// One server a data directory: an flock on `sluice.lock` and one on the directory itself, held for life. The kernel lets go of them when
/// the process ends, however it ends.
final class DirectoryLock: Sendable {
    private let descriptor: Int32
    /// Whoever deletes `sluice.lock` lets nobody in by that: the next server would make and lock another file. Nil on file systems that lock
    /// no directories, such as NFS.
    private let directoryDescriptor: Int32?

    /// Makes the directory if it is missing. Throws `.locked`, naming the process that holds it, or `.storage`.
    init(directory: String) throws(SluiceError) {
        try DirectoryLock.prepare(directory)
        let path = directory + "/sluice.lock"
        let descriptor = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0o600)
        guard descriptor >= 0 else { throw DirectoryLock.fault("cannot write in the data directory", directory) }
        guard flock(descriptor, LOCK_EX | LOCK_NB) == 0 else {
            let reason = errno
            let holder = DirectoryLock.holder(descriptor)
            close(descriptor)
            guard reason == EWOULDBLOCK else { throw DirectoryLock.fault("cannot lock the data directory", directory, reason) }
            throw SluiceError(
                .locked, "another Sluice\(holder.map { " (process \($0))" } ?? "") uses \(directory): stop it, or use another directory",
                context: holder.map { ["pid": $0] } ?? [:])
        }
        do throws(SluiceError) {
            directoryDescriptor = try DirectoryLock.lock(directory)
        } catch {
            close(descriptor)
            throw error
        }
        self.descriptor = descriptor
        let text = Array("\(getpid())\n".utf8)
        guard ftruncate(descriptor, 0) == 0, pwrite(descriptor, text, text.count, 0) == text.count else {
            // Being whole, it closes what it holds.
            let reason = errno
            throw DirectoryLock.fault("cannot write sluice.lock in the data directory", directory, reason)
        }
    }

    /// Lets another server in. The object must not be used again.
    func release() {
        flock(descriptor, LOCK_UN)
        if let directoryDescriptor { flock(directoryDescriptor, LOCK_UN) }
    }

    deinit {
        close(descriptor)
        if let directoryDescriptor { close(directoryDescriptor) }
    }

    /// Throws `.locked` where somebody else holds it; nil where directories cannot be locked.
    private static func lock(_ directory: String) throws(SluiceError) -> Int32? {
        let descriptor = open(directory, O_RDONLY | O_DIRECTORY | O_CLOEXEC)
        guard descriptor >= 0 else { return nil }
        if flock(descriptor, LOCK_EX | LOCK_NB) == 0 { return descriptor }
        let reason = errno
        close(descriptor)
        guard reason == EWOULDBLOCK else { return nil }
        throw SluiceError(
            .locked, "another Sluice uses \(directory), though its sluice.lock was deleted or replaced: stop it, or use another directory")
    }

    private static func prepare(_ directory: String) throws(SluiceError) {
        var status = stat()
        if stat(directory, &status) == 0 {
            guard status.st_mode & S_IFMT == S_IFDIR else {
                throw SluiceError(.storage, "\(directory) is not a directory: give one for Sluice's data")
            }
            return
        }
        guard errno == ENOENT, mkdir(directory, 0o700) == 0 || errno == EEXIST else {
            throw fault("cannot make the data directory", directory)
        }
    }

    private static func holder(_ descriptor: Int32) -> String? {
        var buffer = [UInt8](repeating: 0, count: 20)
        let count = pread(descriptor, &buffer, buffer.count, 0)
        let digits = buffer.prefix(max(0, count)).prefix { $0 &- 0x30 < 10 }
        return digits.isEmpty ? nil : String(decoding: digits, as: UTF8.self)
    }

    private static func fault(_ what: String, _ directory: String, _ code: Int32 = errno) -> SluiceError {
        let words = String(cString: strerror(code))
        if code == ENOSPC || code == EDQUOT { return SluiceError(.diskFull, "\(what) \(directory): \(words)") }
        return SluiceError(.storage, "\(what) \(directory): \(words). Check its permissions, its parent and its mount")
    }
}
