import NIOPosix
import SluiceCore

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

    /// Throws `.forbiddenAddress`, or `.providerUnreachable` if the host has no address.
    static func check(_ host: String, allowsPrivate: Bool) async throws {
        let bare = host.hasPrefix("[") && host.hasSuffix("]") ? String(host.dropFirst().dropLast()) : host
        let addresses: [IPAddress]
        if let literal = IPAddress(bare) {
            addresses = [literal]
        } else {
            addresses = try await threads.runIfActive { try lookUp(bare) }
        }
        try AddressGuard.check(host: host, addresses: addresses, allowsPrivate: allowsPrivate)
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
            if let address = address(info) { addresses.append(address) }
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
