import SluiceCore

/// How destinations stand: what waits for them, and what blocks the jobs of ordered triggers.
public protocol DestinationStore: Sendable {
    /// What there is for a destination.
    func backlog(_ destination: DestinationID) async throws -> DeliveryBacklog
    /// The deliveries of ordered triggers that hold up those behind them: each was attempted and failed, or is a dead letter.
    /// Ordered by destination and trigger.
    func blockedDeliveries(_ namespace: NamespaceID) async throws -> [BlockedDelivery]
}

/// Whether jobs are carried to a destination. Deliveries are intended and kept in every state.
public enum DestinationState: String, Sendable, Codable {
    case active
    /// A person paused it.
    case paused
    /// It answered that it takes nothing more (HTTP 410).
    case gone
}

/// Counts go up to `countMax`.
public struct DeliveryBacklog: Sendable, Equatable {
    public static let countMax = 10_000
    public var pending: Int
    public var dead: Int
    /// When the next pending delivery is due; nil if none is, or all wait behind another.
    public var nextAttemptAt: Timestamp?
    /// Jobs that filters left out since the destination was made, of consumers too; exact.
    public var filtered: Int
    public init(pending: Int, dead: Int, nextAttemptAt: Timestamp?, filtered: Int = 0) {
        self.filtered = filtered
        self.pending = pending
        self.dead = dead
        self.nextAttemptAt = nextAttemptAt
    }
}

/// A delivery that others wait behind.
public struct BlockedDelivery: Sendable, Equatable {
    public var destination: DestinationID
    public var trigger: TriggerID
    public var delivery: Int64
    public var position: JobPosition
    public var dedupKey: [UInt8]
    /// Pending or dead. A dead letter blocks until it is replayed or discarded.
    public var state: DeliveryState
    public var attempts: Int
    /// When it was first attempted.
    public var since: Timestamp?
    public var lastError: String?
    public var lastStatus: Int?
    /// Nil for a dead letter.
    public var nextAttemptAt: Timestamp?
    /// Deliveries behind it, counted up to `DeliveryBacklog.countMax`.
    public var waiting: Int
    public init(
        destination: DestinationID, trigger: TriggerID, delivery: Int64, position: JobPosition, dedupKey: [UInt8], state: DeliveryState,
        attempts: Int, since: Timestamp?, lastError: String?, lastStatus: Int?, nextAttemptAt: Timestamp?, waiting: Int
    ) {
        self.destination = destination
        self.trigger = trigger
        self.delivery = delivery
        self.position = position
        self.dedupKey = dedupKey
        self.state = state
        self.attempts = attempts
        self.since = since
        self.lastError = lastError
        self.lastStatus = lastStatus
        self.nextAttemptAt = nextAttemptAt
        self.waiting = waiting
    }
}
