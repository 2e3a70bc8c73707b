import AsyncHTTPClient
import NIOCore
import SluiceCore
import Synchronization

/// How polls reach a host: its name is resolved and checked once, and the connection goes to an address that was checked. A
/// name that answers differently a moment later (DNS rebinding) changes nothing.
public final class PollRoutes: Sendable {
    /// The addresses that may be connected to, in the order in which to try them; empty for a host that is an address itself.
    /// Throws `SluiceError` where one of them may not be reached.
    public typealias Resolve = @Sendable (_ host: String, _ allowed: AddressAllowance) async throws -> [IPAddress]

    private struct Key: Hashable {
        var host: String
        var address: IPAddress
    }

    private struct State {
        var clients: [Key: PinnedPollClient] = [:]
        /// How often a host's address in turn could not be reached.
        var turns: [String: Int] = [:]
    }

    /// More hosts than these at once cost new connections.
    private static let clientsMax = 512

    private let configuration: HTTPClient.Configuration
    private let resolve: Resolve
    private let state = Mutex(State())

    /// `configuration`: of every client; its `dnsOverride` is replaced.
    public init(configuration: HTTPClient.Configuration, resolve: @escaping Resolve) {
        self.configuration = configuration
        self.resolve = resolve
    }

    /// A client on which `begin` was called: call `end` when done. Nil: the host is an address, any client will do.
    func client(for host: String, allowed: AddressAllowance, on group: any EventLoopGroup) async throws -> PinnedPollClient? {
        // Two readings of one host would be a way around the check.
        guard host.utf8.allSatisfy({ ASCII.isHostByte($0) }) else {
            throw SluiceError(.connector, "the host asked for holds characters that a host name cannot hold; check the base URL")
        }
        let addresses = try await resolve(host, allowed)
        return addresses.isEmpty ? nil : client(for: host, addresses, on: group)
    }

    @inline(never)
    private func client(for host: String, _ addresses: [IPAddress], on group: any EventLoopGroup) -> PinnedPollClient {
        let (client, retired) = state.withLock { state -> (PinnedPollClient, [PinnedPollClient]) in
            let key = Key(host: host, address: addresses[(state.turns[host] ?? 0) % addresses.count])
            if let known = state.clients[key], known.begin() { return (known, []) }
            var retired: [PinnedPollClient] = []
            if state.clients.count >= PollRoutes.clientsMax {
                retired = Array(state.clients.values)
                state.clients = [:]
                state.turns = [:]
            }
            var configuration = self.configuration
            configuration.dnsOverride = [host: key.address.description]
            let client = PinnedPollClient(HTTPClient(eventLoopGroupProvider: .shared(group), configuration: configuration))
            _ = client.begin()
            state.clients[key] = client
            return (client, retired)
        }
        for client in retired { client.retire() }
        return client
    }

    /// No answer came: the next request takes the host's next address.
    func failed(_ host: String) { state.withLock { $0.turns[host, default: 0] &+= 1 } }

    func close() {
        let clients = state.withLock { state in
            defer { state = State() }
            return Array(state.clients.values)
        }
        for client in clients { client.retire() }
    }
}

/// A client that is shut down when it is retired and its last user is done.
final class PinnedPollClient: Sendable {
    let client: HTTPClient
    private let state = Mutex((users: 0, isRetired: false))

    init(_ client: HTTPClient) { self.client = client }

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

extension ASCII {
    /// What stands in host names and literal addresses.
    fileprivate static func isHostByte(_ byte: UInt8) -> Bool {
        lowercased(byte) &- 0x61 < 26 || byte &- 0x30 < 10 || "-._:[]".utf8.contains(byte)
    }
}
