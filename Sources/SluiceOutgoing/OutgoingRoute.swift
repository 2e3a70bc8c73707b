import AsyncHTTPClient
import SluiceCore
import Synchronization

/// The way to one host: its name is resolved and checked, and connections go to an address that was checked.
///
/// A name is resolved anew once what is known is no longer fresh, never by two at once: whoever comes meanwhile waits for the
/// answer, and shares it also where it is a failure. One address is used for as long as it answers and the name has it.
public final class OutgoingRoute: Sendable {
    private struct State {
        var addresses: [IPAddress] = []
        var resolvedAt: ContinuousClock.Instant?
        /// For whom all addresses were last found good: looking again costs more than comparing.
        var checkedFor: AddressAllowance?
        var current: IPAddress?
        /// Of these addresses only.
        var clients: [IPAddress: PinnedClient] = [:]
        var isClosed = false
        var isResolving = false
        var waiters: [CheckedContinuation<SluiceError?, Never>] = []
    }

    public let host: String
    private let configuration: HTTPClient.Configuration
    private let lookUp: HostLookUp
    private let freshFor: Duration
    private let state = Mutex(State())

    /// `host`: a name or a literal address as a URL has it, an IPv6 one with or without brackets. `configuration`: of every
    /// client; its `dnsOverride` is replaced.
    public init(host: String, lookUp: @escaping HostLookUp, freshFor: Duration, configuration: HTTPClient.Configuration) {
        self.host = host
        self.lookUp = lookUp
        self.freshFor = freshFor
        self.configuration = configuration
    }

    deinit { close() }

    /// A client for one request: call its `end` when done. Throws `.forbiddenAddress` if one of the host's addresses may not be
    /// connected to, `.providerUnreachable` if it has none or they are not known within `span`.
    public func client(allowed: AddressAllowance, within span: Duration) async throws(SluiceError) -> PinnedClient {
        while true {
            if let known = state.withLock({ isFresh($0) ? pinned(allowed, &$0) : nil }) { return try known.get() }
            if try await isTurn() { break }
        }
        let addresses: [IPAddress]
        do {
            addresses = try await resolved(within: span)
        } catch {
            // Who gave up said nothing of the host: the next of those who wait asks itself.
            endTurn(Task.isCancelled ? nil : error)
            throw error
        }
        let (client, gone) = state.withLock { state in
            let gone = take(addresses, &state)
            return (pinned(allowed, &state), gone)
        }
        endTurn(nil)
        for client in gone { client.retire() }
        return try client.get()
    }

    /// No connection could be made, or no answer came: the next request goes to the next address.
    public func failed(_ client: PinnedClient) { failed(client.client) }

    func failed(_ client: HTTPClient) {
        state.withLock { state in
            guard let current = state.current, state.clients[current]?.client === client,
                let index = state.addresses.firstIndex(of: current)
            else { return }
            state.current = state.addresses[(index + 1) % state.addresses.count]
        }
    }

    /// Clients are shut down as soon as nobody uses them. One that is asked for after that serves one request.
    public func close() {
        let clients = state.withLock { state in
            defer { (state.clients, state.isClosed) = ([:], true) }
            return Array(state.clients.values)
        }
        for client in clients { client.retire() }
    }

    /// How many wait for the answer of a name service.
    var waiting: Int { state.withLock { $0.waiters.count } }

    // MARK: Resolving

    /// The address that a host is written as, if it is no name.
    static func literal(_ host: String) -> IPAddress? {
        IPAddress(host.hasPrefix("[") && host.hasSuffix("]") ? String(host.dropFirst().dropLast()) : host)
    }

    private func resolved(within span: Duration) async throws(SluiceError) -> [IPAddress] {
        if let literal = OutgoingRoute.literal(host) { return [literal] }
        return try await lookUp(host, span)
    }

    private func isFresh(_ state: borrowing State) -> Bool { state.resolvedAt.map { $0.duration(to: .now) < freshFor } ?? false }

    /// True: the caller resolves. False: somebody else did just now; throws what that one threw.
    private func isTurn() async throws(SluiceError) -> Bool {
        let mayBegin = state.withLock { state in
            defer { state.isResolving = true }
            return !state.isResolving
        }
        if mayBegin { return true }
        let failure = await withCheckedContinuation { (waiter: CheckedContinuation<SluiceError?, Never>) in
            let isOver = state.withLock { state in
                if state.isResolving { state.waiters.append(waiter) }
                return !state.isResolving
            }
            if isOver { waiter.resume(returning: nil) }
        }
        if let failure { throw failure }
        return false
    }

    private func endTurn(_ failure: SluiceError?) {
        let waiters = state.withLock { state in
            defer { (state.isResolving, state.waiters) = (false, []) }
            return state.waiters
        }
        for waiter in waiters { waiter.resume(returning: failure) }
    }

    // MARK: Clients

    /// Returns the clients of addresses that the host has no longer.
    private func take(_ addresses: [IPAddress], _ state: inout State) -> [PinnedClient] {
        (state.addresses, state.resolvedAt, state.checkedFor) = (addresses, .now, nil)
        if state.current.map({ addresses.contains($0) }) != true { state.current = addresses.first }
        let gone = state.clients.filter { !addresses.contains($0.key) }
        for address in gone.keys { state.clients[address] = nil }
        return Array(gone.values)
    }

    private func pinned(_ allowed: AddressAllowance, _ state: inout State) -> Result<PinnedClient, SluiceError> {
        guard let address = state.current else {
            return .failure(SluiceError(.providerUnreachable, "The host name \(host) has no address."))
        }
        if state.checkedFor != allowed {
            do {
                try AddressGuard.check(host: host, addresses: state.addresses, allowed: allowed)
            } catch {
                // Whoever mends the name is heard at once.
                state.resolvedAt = nil
                return .failure(error)
            }
            state.checkedFor = allowed
        }
        if let client = state.clients[address], client.begin() { return .success(client) }
        let client = PinnedClient(host: host, address: address, configuration)
        _ = client.begin()
        if state.isClosed { client.retire() } else { state.clients[address] = client }
        return .success(client)
    }
}
