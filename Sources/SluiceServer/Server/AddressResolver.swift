import NIOPosix
import SluiceCore
import Synchronization

#if canImport(Glibc)
    import Glibc
#elseif canImport(Musl)
    import Musl
#endif

/// Looks hosts up on threads of its own, because `getaddrinfo` blocks, and refuses those that polls may not reach.
struct AddressResolver: Sendable {
    private static let threads: NIOThreadPool = {
        let pool = NIOThreadPool(numberOfThreads: 8)
        pool.start()
        return pool
    }()

    /// For so long an answer holds: each page of a long read asks anew.
    private static let freshFor = Duration.seconds(10)
    private static let answersMax = 1000
    private static let answers = Mutex<[String: (addresses: [IPAddress], at: ContinuousClock.Instant)]>([:])

    /// The addresses of a host, each of which may be connected to; empty where it is a literal address that may be. Throws
    /// `.forbiddenAddress`, or `.providerUnreachable` if the host has no address.
    static func addresses(of host: String, allowsPrivate: Bool) async throws -> [IPAddress] {
        let bare = host.hasPrefix("[") && host.hasSuffix("]") ? String(host.dropFirst().dropLast()) : host
        if let literal = IPAddress(bare) {
            try AddressGuard.check(host: host, addresses: [literal], allowsPrivate: allowsPrivate)
            return []
        }
        let addresses = try await resolved(bare)
        try AddressGuard.check(host: host, addresses: addresses, allowsPrivate: allowsPrivate)
        return addresses
    }

    private static func resolved(_ host: String) async throws -> [IPAddress] {
        let now = ContinuousClock.now
        if let known = answers.withLock({ $0[host] }), known.at.duration(to: now) < freshFor { return known.addresses }
        let addresses = try await threads.runIfActive { try lookUp(host) }
        answers.withLock { answers in
            if answers.count >= answersMax { answers = [:] }
            answers[host] = (addresses, now)
        }
        return addresses
    }

    private static func lookUp(_ host: String) throws(SluiceError) -> [IPAddress] {
        var hints = addrinfo()
        hints.ai_socktype = Int32(SOCK_STREAM.rawValue)
        var list: UnsafeMutablePointer<addrinfo>?
        let result = getaddrinfo(host, nil, &hints, &list)
        guard result == 0 else {
            throw SluiceError(.providerUnreachable, "the host \(host) could not be found: \(String(cString: gai_strerror(result)))")
        }
        defer { freeaddrinfo(list) }
        var addresses: [IPAddress] = []
        var entry = list
        while let info = entry?.pointee, addresses.count < 64 {
            if let address = address(info), !addresses.contains(address) { addresses.append(address) }
            entry = info.ai_next
        }
        if addresses.isEmpty { throw SluiceError(.providerUnreachable, "the host \(host) has no address") }
        return addresses
    }

    private static func address(_ info: addrinfo) -> IPAddress? {
        guard let pointer = info.ai_addr else { return nil }
        let raw = UnsafeRawPointer(pointer)
        switch info.ai_family {
        case AF_INET: return withUnsafeBytes(of: raw.loadUnaligned(as: sockaddr_in.self).sin_addr) { IPAddress(bytes: Array($0)) }
        case AF_INET6: return withUnsafeBytes(of: raw.loadUnaligned(as: sockaddr_in6.self).sin6_addr) { IPAddress(bytes: Array($0)) }
        default: return nil
        }
    }
}
