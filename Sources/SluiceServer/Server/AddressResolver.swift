import SluiceCore
import SluiceDelivery
import Synchronization

/// Looks the hosts of polls up, on threads apart from those of pushes, and refuses those that polls may not reach.
final class AddressResolver: Sendable {
    private static let threads = HostResolver(threadCount: 8)
    /// The one of this process's polls.
    private static let polls = AddressResolver { try await threads.addresses(of: $0) }

    /// For so long an answer holds: each page of a long read asks anew.
    private static let freshFor = Duration.seconds(10)
    private static let answersMax = 1000

    private let lookUp: @Sendable (String) async throws -> [IPAddress]
    private let freshFor: Duration
    private let answers = Mutex<[String: (addresses: [IPAddress], at: ContinuousClock.Instant)]>([:])

    init(freshFor: Duration = freshFor, lookUp: @escaping @Sendable (String) async throws -> [IPAddress]) {
        self.lookUp = lookUp
        self.freshFor = freshFor
    }

    static func addresses(of host: String, allowed: AddressAllowance) async throws -> [IPAddress] {
        try await polls.addresses(of: host, allowed: allowed)
    }

    /// The addresses of a host, each of which may be connected to; empty where it is a literal address that may be. Throws
    /// `.forbiddenAddress`, or `.providerUnreachable` if the host has no address.
    func addresses(of host: String, allowed: AddressAllowance) async throws -> [IPAddress] {
        let bare = host.hasPrefix("[") && host.hasSuffix("]") ? String(host.dropFirst().dropLast()) : host
        if let literal = IPAddress(bare) {
            try AddressGuard.check(host: host, addresses: [literal], allowed: allowed)
            return []
        }
        let addresses = try await resolved(bare)
        try AddressGuard.check(host: host, addresses: addresses, allowed: allowed)
        return addresses
    }

    private func resolved(_ host: String) async throws -> [IPAddress] {
        let now = ContinuousClock.now
        if let known = answers.withLock({ $0[host] }), known.at.duration(to: now) < freshFor { return known.addresses }
        let addresses = try await lookUp(host)
        answers.withLock { answers in
            if answers.count >= AddressResolver.answersMax { answers = [:] }
            answers[host] = (addresses, now)
        }
        return addresses
    }
}
