import NIOPosix
import SluiceCore

#if canImport(Glibc)
    import Glibc
#elseif canImport(Musl)
    import Musl
#elseif canImport(Darwin)
    import Darwin
#endif

/// All addresses of a host, in the order in which to try them (RFC 6724), given up after so long. Throws `.providerUnreachable`.
public typealias HostLookUp = @Sendable (_ host: String, _ within: Duration) async throws(SluiceError) -> [IPAddress]

/// Asks the system's name service, on threads of its own: `getaddrinfo` blocks, for half a minute where a name server is
/// dead, and must hold up neither Swift's cooperative pool nor another destination.
public struct HostResolver: Sendable {
    /// Blocks until a name service has answered.
    typealias Ask = @Sendable (_ host: String) throws(SluiceError) -> [IPAddress]

    private let threads: NIOThreadPool
    private let ask: Ask

    /// With so many threads; more dead name servers than that at once delay the others. They last as long as the process: make
    /// one resolver for each kind of work, so that one kind does not hold up another.
    public init(threadCount: Int) { self.init(threadCount: threadCount, ask: HostResolver.askSystem) }

    init(threadCount: Int, ask: @escaping Ask) {
        self.ask = ask
        threads = NIOThreadPool(numberOfThreads: threadCount)
        threads.start()
    }

    /// All addresses of a host, in the order in which to try them (RFC 6724), given up after so long, and once the task is
    /// cancelled: `getaddrinfo` itself cannot be broken off, and goes on in its thread. Throws `.providerUnreachable`.
    public func addresses(of host: String, within span: Duration) async throws(SluiceError) -> [IPAddress] {
        let loop = MultiThreadedEventLoopGroup.singleton.any()
        let promise = loop.makePromise(of: [IPAddress].self)
        let timer = loop.scheduleTask(in: .init(span)) {
            promise.fail(SluiceError(.providerUnreachable, "The host name \(host) was not resolved in time."))
        }
        threads.runIfActive(eventLoop: loop) { [ask] in try ask(host) }.cascade(to: promise)
        promise.futureResult.whenComplete { _ in timer.cancel() }
        do {
            return try await withTaskCancellationHandler {
                try await promise.futureResult.get()
            } onCancel: {
                promise.fail(SluiceError(.providerUnreachable, "The host name \(host) was not resolved: nobody waits for it any more."))
            }
        } catch {
            throw error as? SluiceError ?? SluiceError(.providerUnreachable, "The host name \(host) could not be resolved.")
        }
    }

    /// By this resolver.
    public var lookUp: HostLookUp {
        { [self] (host: String, span: Duration) async throws(SluiceError) -> [IPAddress] in try await addresses(of: host, within: span) }
    }

    @Sendable private static func askSystem(_ host: String) throws(SluiceError) -> [IPAddress] {
        var list: UnsafeMutablePointer<addrinfo>?
        let result = getaddrinfo(host, nil, nil, &list)
        guard result == 0 else {
            let reason = gai_strerror(result).map { String(cString: $0) } ?? "error \(result)"
            throw SluiceError(.providerUnreachable, "The host name \(host) could not be resolved: \(reason).")
        }
        defer { freeaddrinfo(list) }
        var addresses: [IPAddress] = []
        var entry = list
        // One entry for each kind of socket: the same address comes up to three times. 64: nobody needs more.
        while let info = entry?.pointee, addresses.count < 64 {
            if let address = address(info), !addresses.contains(address) { addresses.append(address) }
            entry = info.ai_next
        }
        guard !addresses.isEmpty else {
            throw SluiceError(.providerUnreachable, "The host name \(host) has no IPv4 or IPv6 address.")
        }
        return addresses
    }

    private static func address(_ info: addrinfo) -> IPAddress? {
        guard let socketAddress = info.ai_addr else { return nil }
        let raw = UnsafeRawPointer(socketAddress)
        switch info.ai_family {
        case AF_INET:
            let address = raw.loadUnaligned(as: sockaddr_in.self).sin_addr
            return withUnsafeBytes(of: address) { IPAddress(bytes: Array($0)) }
        case AF_INET6:
            let address = raw.loadUnaligned(as: sockaddr_in6.self).sin6_addr
            return withUnsafeBytes(of: address) { IPAddress(bytes: Array($0)) }
        default: return nil
        }
    }
}
