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
    /// A POST without headers and body: the URL is read once.
    let request: Result<HTTPClient.Request, any Error>
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
        request = Result { try HTTPClient.Request(url: target.url, method: .POST) }
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

/// Where a destination is reached: its URL's host resolved and checked, at most once a minute, never by two at once.
final class PushRoute: Sendable {
    private struct State {
        var addresses: [IPAddress] = []
        var next = 0
        var checkedAt: ContinuousClock.Instant?
        var client: PinnedClient?
        var isResolving = false
        var waiters: [CheckedContinuation<Void, Never>] = []
    }

    private let destination: PushDestination
    private let lookUp: HostLookUp
    private let freshFor: Duration
    private let state = Mutex(State())

    init(_ destination: PushDestination, freshFor: Duration, lookUp: @escaping HostLookUp = HostResolver.lookUpForPushes) {
        self.destination = destination
        self.lookUp = lookUp
        self.freshFor = freshFor
    }

    /// A client for one request, on which `begin` was called: call `end` when done. Throws `.invalid`, `.forbiddenAddress`,
    /// `.providerUnreachable`.
    func client(within seconds: Int) async throws(SluiceError) -> PinnedClient {
        while true {
            if let client = fresh() { return client }
            if await isTurn() { break }
        }
        defer { endTurn() }
        let target = try WebAddress(destination.url)
        var addresses: [IPAddress] = []
        if let literal = target.literal {
            addresses = [literal]
        } else {
            addresses = try await lookUp(target.host, .seconds(Int64(seconds)))
        }
        do {
            try AddressGuard.check(host: target.host, addresses: addresses, allowed: destination.addresses)
        } catch {
            close()
            throw error
        }
        return take(target, addresses)
    }

    private func fresh() -> PinnedClient? {
        state.withLock { state in
            guard let client = state.client, let checkedAt = state.checkedAt, checkedAt.duration(to: .now) < freshFor, client.begin()
            else { return nil }
            return client
        }
    }

    /// True: the caller resolves. False: somebody else did just now.
    private func isTurn() async -> Bool {
        let mayBegin = state.withLock { state in
            defer { state.isResolving = true }
            return !state.isResolving
        }
        if mayBegin { return true }
        await withCheckedContinuation { waiter in
            let isOver = state.withLock { state in
                if state.isResolving { state.waiters.append(waiter) }
                return !state.isResolving
            }
            if isOver { waiter.resume() }
        }
        return false
    }

    private func endTurn() {
        let waiters = state.withLock { state in
            defer { (state.isResolving, state.waiters) = (false, []) }
            return state.waiters
        }
        for waiter in waiters { waiter.resume() }
    }

    private func take(_ target: WebAddress, _ addresses: [IPAddress]) -> PinnedClient {
        let (client, old) = state.withLock { state in
            let former = state.client
            (state.addresses, state.checkedAt) = (addresses, .now)
            if let former, addresses.contains(former.address), former.begin() {
                state.next = addresses.firstIndex(of: former.address).map { $0 + 1 } ?? 0
                return (former, nil as PinnedClient?)
            }
            let client = make(target, addresses[0])
            _ = client.begin()
            (state.client, state.next) = (client, 1)
            return (client, former)
        }
        old?.retire()
        return client
    }

    /// No connection could be made: the next attempt takes the next of the addresses that were checked together.
    func connectFailed(_ client: PinnedClient) {
        let old: PinnedClient? = state.withLock { state in
            guard state.client === client, state.addresses.count > 1 else { return nil }
            state.client = make(client.target, state.addresses[state.next % state.addresses.count])
            state.next += 1
            return client
        }
        old?.retire()
    }

    private func make(_ target: WebAddress, _ address: IPAddress) -> PinnedClient {
        PinnedClient(
            target: target, address: address, timeoutSeconds: destination.timeoutSeconds, connectionsMax: destination.connectionsMax)
    }

    func close() {
        let client = state.withLock { state in
            defer { (state.client, state.checkedAt) = (nil, nil) }
            return state.client
        }
        client?.retire()
    }
}
