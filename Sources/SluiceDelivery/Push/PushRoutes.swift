import AsyncHTTPClient
import NIOCore
import NIOPosix
import SluiceCore
import Synchronization

/// An HTTP client that connects to one checked address only. Shut down when it is retired and its last user is done.
final class PinnedClient: Sendable {
    let target: WebAddress
    let address: IPAddress
    let client: HTTPClient
    private let state = Mutex((users: 0, isRetired: false))

    init(target: WebAddress, address: IPAddress, timeoutSeconds: Int, connectionsMax: Int) {
        self.target = target
        self.address = address
        var pool = HTTPClient.Configuration.ConnectionPool(
            // Shorter than any server's usual keep-alive (Node: 5 s): a connection that the server closes just as it is
            // used again is an attempt lost.
            idleTimeout: .seconds(3), concurrentHTTP1ConnectionsPerHostSoftLimit: max(1, connectionsMax))
        pool.retryConnectionEstablishment = false
        var configuration = HTTPClient.Configuration(
            redirectConfiguration: .disallow, timeout: .init(connect: .seconds(Int64(min(10, timeoutSeconds)))), connectionPool: pool)
        configuration.httpVersion = .http1Only
        // The name stays in the Host header, in SNI and in the certificate's check; the connection goes to the address that
        // was checked. So a name that answers differently a moment later (DNS rebinding) changes nothing.
        if target.literal == nil { configuration.dnsOverride = [target.host: address.description] }
        client = HTTPClient(eventLoopGroupProvider: .shared(MultiThreadedEventLoopGroup.singleton), configuration: configuration)
    }

    /// False if it was retired already.
    func begin() -> Bool {
        state.withLock { state in
            if !state.isRetired { state.users += 1 }
            return !state.isRetired
        }
    }

    func end() {
        let isLast = state.withLock { state in
            state.users -= 1
            return state.isRetired && state.users == 0
        }
        if isLast { shutDown() }
    }

    func retire() {
        let isUnused = state.withLock { state in
            defer { state.isRetired = true }
            return !state.isRetired && state.users == 0
        }
        if isUnused { shutDown() }
    }

    private func shutDown() { let _: EventLoopFuture<Void> = client.shutdown() }
}

/// Where each destination is reached: its URL's host resolved and checked, at most once a minute, never by two at once.
final class PushRoutes: Sendable {
    private struct Route {
        var url: String
        var allowsPrivate: Bool
        var timeoutSeconds: Int
        var attemptsAtOnceMax: Int
        var addresses: [IPAddress]
        var next = 0
        var checkedAt: ContinuousClock.Instant
        var client: PinnedClient

        func fits(_ destination: PushDestination) -> Bool {
            url == destination.url && allowsPrivate == destination.allowsPrivate && timeoutSeconds == destination.timeoutSeconds
                && attemptsAtOnceMax == destination.attemptsAtOnceMax
        }
    }

    private let resolver = HostResolver.pushes
    private let freshFor: Duration
    private let routes = Mutex<[DestinationID: Route]>([:])

    init(addressSecondsMax: Int) { freshFor = .seconds(addressSecondsMax) }

    /// A client for one request, on which `begin` was called: call `end` when done. Only a destination's own worker calls
    /// this, so a destination is resolved once at a time. Throws `.invalid`, `.forbiddenAddress`, `.providerUnreachable`.
    func client(for destination: PushDestination) async throws(SluiceError) -> PinnedClient {
        let known = routes.withLock { routes in routes[destination.id].flatMap { $0.fits(destination) ? $0 : nil } }
        if let known, known.checkedAt.duration(to: .now) < freshFor, known.client.begin() { return known.client }
        let target = try WebAddress(destination.url)
        let addresses: [IPAddress]
        if let literal = target.literal {
            addresses = [literal]
        } else {
            do {
                addresses = try await resolver.addresses(of: target.host)
            } catch {
                throw error as? SluiceError ?? SluiceError(.providerUnreachable, "The host name \(target.host) could not be resolved.")
            }
        }
        do {
            try AddressGuard.check(host: target.host, addresses: addresses, allowsPrivate: destination.allowsPrivate)
        } catch {
            remove(destination.id)
            throw error
        }
        return try take(destination, target, addresses, known)
    }

    private func take(
        _ destination: PushDestination, _ target: WebAddress, _ addresses: [IPAddress], _ known: Route?
    ) throws(SluiceError) -> PinnedClient {
        let client: PinnedClient
        var next = 0
        if let known, addresses.contains(known.client.address), known.client.begin() {
            client = known.client
            next = addresses.firstIndex(of: client.address).map { $0 + 1 } ?? 0
        } else {
            client = make(destination, target, addresses[0])
            next = 1
            guard client.begin() else { throw SluiceError(.internalError, "A new client was retired before its first use.") }
        }
        let route = Route(
            url: destination.url, allowsPrivate: destination.allowsPrivate, timeoutSeconds: destination.timeoutSeconds,
            attemptsAtOnceMax: destination.attemptsAtOnceMax, addresses: addresses, next: next, checkedAt: .now, client: client)
        let old = routes.withLock { $0.updateValue(route, forKey: destination.id) }
        if let old, old.client !== client { old.client.retire() }
        return client
    }

    /// No connection could be made: the next attempt takes the next of the addresses that were checked together.
    func connectFailed(_ destination: PushDestination, with client: PinnedClient) {
        let old: PinnedClient? = routes.withLock { routes in
            guard var route = routes[destination.id], route.client === client, route.addresses.count > 1 else { return nil }
            route.client = make(destination, client.target, route.addresses[route.next % route.addresses.count])
            route.next += 1
            routes[destination.id] = route
            return client
        }
        old?.retire()
    }

    private func make(_ destination: PushDestination, _ target: WebAddress, _ address: IPAddress) -> PinnedClient {
        PinnedClient(
            target: target, address: address, timeoutSeconds: destination.timeoutSeconds, connectionsMax: destination.attemptsAtOnceMax)
    }

    func remove(_ destination: DestinationID) { routes.withLock { $0.removeValue(forKey: destination) }?.client.retire() }

    func keepOnly(_ destinations: Set<DestinationID>) {
        for gone in routes.withLock({ $0.keys.filter { !destinations.contains($0) } }) { remove(gone) }
    }
}
