import AsyncHTTPClient
import NIOCore
import NIOPosix
import SluiceCore
import Synchronization

/// An HTTP client that connects to one checked address only. Shut down when it is retired and its last user is done.
public final class PinnedClient: Sendable {
    /// As its URL names it.
    public let host: String
    public let address: IPAddress
    public let client: HTTPClient
    private let state = Mutex((users: 0, isRetired: false))

    init(host: String, address: IPAddress, _ configuration: HTTPClient.Configuration) {
        self.host = host
        self.address = address
        var configuration = configuration
        // The name stays in the Host header, in SNI and in the certificate's check; the connection goes to the address that
        // was checked. So a name that answers differently a moment later (DNS rebinding) changes nothing.
        configuration.dnsOverride = OutgoingRoute.literal(host) == nil ? [host: address.description] : [:]
        client = HTTPClient(eventLoopGroupProvider: .shared(MultiThreadedEventLoopGroup.singleton), configuration: configuration)
    }

    /// False if it was retired already.
    func begin() -> Bool {
        state.withLock { state in
            if !state.isRetired { state.users += 1 }
            return !state.isRetired
        }
    }

    /// Whoever got it from a route says once that it is done.
    public func end() {
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
