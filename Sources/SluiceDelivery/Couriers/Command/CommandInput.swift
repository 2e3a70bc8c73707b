import Synchronization

#if canImport(Glibc)
    import Glibc
#elseif canImport(Musl)
    import Musl
#elseif canImport(Darwin)
    import Darwin
#endif

/// What a program reads, there in full before the program is started. From a pipe that Sluice writes to, a program would read the
/// end of its input where Sluice is killed, and take nothing, or half a job, for all there is.
///
/// A file in memory that has no name, so nobody else can open it.
final class CommandInput: Sendable {
    let descriptor: Int32

    private static let number = Atomic<UInt64>(0)
    private static let namesTriedMax = 100

    /// Nil where the system has no room for it, or no such files.
    init?(_ bytes: [UInt8]) {
        #if canImport(Darwin)
            return nil
        #else
            guard let descriptor = CommandInput.open() else { return nil }
            self.descriptor = descriptor
            guard CommandInput.write(bytes, to: descriptor), lseek(descriptor, 0, SEEK_SET) == 0 else { return nil }
        #endif
    }

    deinit { close(descriptor) }

    #if !canImport(Darwin)
        /// Closed on exec, as POSIX has it.
        private static func open() -> Int32? {
            for _ in 0..<namesTriedMax {
                let name = "/sluice-\(getpid())-\(number.wrappingAdd(1, ordering: .relaxed).newValue)"
                let descriptor = shm_open(name, O_RDWR | O_CREAT | O_EXCL, S_IRUSR | S_IWUSR)
                if descriptor >= 0 {
                    shm_unlink(name)
                    return descriptor
                }
                guard errno == EEXIST else { return nil }
            }
            return nil
        }
    #endif

    private static func write(_ bytes: [UInt8], to descriptor: Int32) -> Bool {
        var rest = bytes[...]
        while !rest.isEmpty {
            let count = rest.withUnsafeBytes { writeBytes(descriptor, $0.baseAddress, $0.count) }
            if count < 0, errno == EINTR { continue }
            guard count > 0 else { return false }
            rest = rest.dropFirst(count)
        }
        return true
    }
}

private func writeBytes(_ descriptor: Int32, _ bytes: UnsafeRawPointer?, _ count: Int) -> Int { write(descriptor, bytes, count) }
