import SluiceCore

/// What the gateway did since the process started.
public struct GatewayCounters: Sendable, Equatable {
    /// Stored, `unmatched` included.
    public var accepted = 0
    /// Answered 2xx because the first copy is stored already.
    public var repeated = 0
    /// Stored without a trigger that listens.
    public var unmatched = 0
    /// Handshakes answered: nothing was stored.
    public var handshakes = 0
    /// Everything that was not answered 2xx.
    public var refused: [GatewayRefusal: Int] = [:]
    /// The same by connection, where the connection was known. Forgotten together with the connection's routes.
    public var connections: [ConnectionID: GatewayConnectionCounters] = [:]

    public init() {}
}

/// Why a request was not answered 2xx, for counting. `reason` comes from a fixed set.
public struct GatewayRefusal: Sendable, Hashable {
    public var status: Int
    public var reason: String
    public init(status: Int, reason: String) {
        self.status = status
        self.reason = reason
    }
}

public struct GatewayConnectionCounters: Sendable, Equatable {
    public var accepted = 0
    public var repeated = 0
    public var unmatched = 0
    public var handshakes = 0
    public var refused = 0
    /// Refused with 401; part of `refused`.
    public var unverified = 0
    public init() {}
}
