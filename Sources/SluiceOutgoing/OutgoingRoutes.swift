import AsyncHTTPClient
import SluiceCore
import Synchronization

/// The ways to the hosts that requests of one kind ask for, each made when it is first asked for.
public final class OutgoingRoutes: Sendable {
    /// More hosts than these at once cost new connections.
    public static let hostsMax = 512

    private let lookUp: HostLookUp
    private let freshFor: Duration
    private let configuration: HTTPClient.Configuration
    private let routes = Mutex<[String: OutgoingRoute]>([:])

    /// As for each `OutgoingRoute`.
    public init(lookUp: @escaping HostLookUp, freshFor: Duration, configuration: HTTPClient.Configuration) {
        self.lookUp = lookUp
        self.freshFor = freshFor
        self.configuration = configuration
    }

    /// A client for one request to `host`: call its `end` when done. Throws as a route does, and `.connector` for what is no
    /// host name.
    @inline(never)
    public func client(
        for host: String, allowed: AddressAllowance, within span: Duration
    ) async throws(SluiceError) -> PinnedClient {
        // Two readings of one host would be a way around the check.
        guard host.utf8.allSatisfy({ ASCII.isHostByte($0) }) else {
            throw SluiceError(.connector, "the host asked for holds characters that a host name cannot hold; check the base URL")
        }
        return try await route(to: host).client(allowed: allowed, within: span)
    }

    /// No connection could be made, or no answer came: the next request goes to the host's next address.
    public func failed(_ client: PinnedClient) { failed(client.client, at: client.host) }

    /// The same, of the HTTP client of one.
    public func failed(_ client: HTTPClient, at host: String) { routes.withLock { $0[host] }?.failed(client) }

    public func close() {
        let closed = routes.withLock { routes in
            defer { routes = [:] }
            return Array(routes.values)
        }
        for route in closed { route.close() }
    }

    private func route(to host: String) -> OutgoingRoute {
        let (route, closed) = routes.withLock { routes -> (OutgoingRoute, [OutgoingRoute]) in
            if let known = routes[host] { return (known, []) }
            var closed: [OutgoingRoute] = []
            if routes.count >= OutgoingRoutes.hostsMax {
                closed = Array(routes.values)
                routes = [:]
            }
            let route = OutgoingRoute(host: host, lookUp: lookUp, freshFor: freshFor, configuration: configuration)
            routes[host] = route
            return (route, closed)
        }
        for route in closed { route.close() }
        return route
    }
}

extension ASCII {
    /// What stands in host names and literal addresses.
    fileprivate static func isHostByte(_ byte: UInt8) -> Bool {
        lowercased(byte) &- 0x61 < 26 || byte &- 0x30 < 10 || "-._:[]".utf8.contains(byte)
    }
}
