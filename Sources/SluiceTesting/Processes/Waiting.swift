import NIOCore
import NIOPosix
import SluiceCore
import Synchronization

#if canImport(Glibc)
    import Glibc
#elseif canImport(Musl)
    import Musl
#elseif canImport(Darwin)
    import Darwin
#endif

/// Asks until `condition` holds. Throws after `seconds`, saying `what` was waited for; an error of `condition` is thrown on.
/// Time in which this process did not get to run, because the machine has other work, does not count.
public func waitUntil(
    _ what: String, seconds: Double = 30, everyMilliseconds: Int = 20, _ condition: @Sendable () async throws -> Bool
) async throws {
    let clock = ContinuousClock()
    let pause = Duration.milliseconds(everyMilliseconds)
    var left = Duration.milliseconds(Int64(seconds * 1000))
    while true {
        let begun = clock.now
        if try await condition() { return }
        if left <= .zero { throw SluiceError("timed_out", "Waited \(seconds) s in vain for: \(what).") }
        let asked = clock.now
        try await Task.sleep(for: pause)
        left -= begun.duration(to: asked) + min(asked.duration(to: clock.now), pause * 4 + .milliseconds(50))
    }
}

/// Runs a blocking call on a thread of its own pool, off Swift's cooperative one.
public func offPool<Value: Sendable>(_ body: @escaping @Sendable () throws -> Value) async throws -> Value {
    try await NIOThreadPool.singleton.runIfActive(body)
}

/// Ports on 127.0.0.1.
public enum LocalPort {
    /// Below the ports that Linux gives to outgoing connections and to servers that ask for any (32768 and up): a server that is
    /// killed and started again on such a port finds it free, whatever else ran meanwhile.
    private static let range: Range<UInt16> = 10_000..<32_768
    /// What this process gave away already. No port is given twice: its server may be down for a moment.
    private static let given = Mutex<Set<UInt16>>([])

    /// A port of which nobody makes use, for a server that must know its own before it starts. Prefer port 0 where the program can
    /// tell which one it took.
    public static func free() throws -> Int {
        for _ in 0..<1000 {
            let port = UInt16.random(in: range)
            guard given.withLock({ $0.insert(port).inserted }) else { continue }
            if try isFree(port) { return Int(port) }
        }
        throw SluiceError(.internalError, "None of 1000 ports from \(range.lowerBound) to \(range.upperBound) was free.")
    }

    private static func isFree(_ port: UInt16) throws -> Bool {
        let descriptor = socket(AF_INET, Int32(SOCK_STREAM.rawValue), 0)
        guard descriptor >= 0 else { throw SluiceError(.internalError, "No socket: \(String(cString: strerror(errno))).") }
        defer { close(descriptor) }
        var address = sockaddr_in()
        address.sin_family = sa_family_t(AF_INET)
        address.sin_addr.s_addr = UInt32(0x7F00_0001).bigEndian
        address.sin_port = port.bigEndian
        return withUnsafePointer(to: &address) { pointer in
            pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) {
                bind(descriptor, $0, socklen_t(MemoryLayout<sockaddr_in>.size)) == 0
            }
        }
    }

    /// Waits until something accepts connections on 127.0.0.1:`port`.
    public static func waitForListener(_ port: Int, seconds: Double = 60) async throws {
        try await waitUntil("a listener on port \(port)", seconds: seconds, everyMilliseconds: 50) { await accepts(port) }
    }

    /// Whether something accepts connections on 127.0.0.1:`port`.
    public static func accepts(_ port: Int) async -> Bool {
        let bootstrap = ClientBootstrap(group: MultiThreadedEventLoopGroup.singleton).connectTimeout(.milliseconds(500))
        guard let channel = try? await bootstrap.connect(host: "127.0.0.1", port: port).get() else { return false }
        try? await channel.close()
        return true
    }
}
