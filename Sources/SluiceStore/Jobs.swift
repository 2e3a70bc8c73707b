import SluiceCore

/// Jobs are read in an order in which nothing that is committed later can come earlier.
public protocol JobStore: Sendable {
    /// The jobs after a token, oldest first. Throws `.invalid` for a token that is none, and `.pastRetention` where jobs
    /// behind the token were removed after their time since it was given.
    func jobs(_ query: JobQuery) async throws -> JobPage
}

public struct JobQuery: Sendable {
    public var namespace: NamespaceID
    /// Only of this trigger.
    public var trigger: TriggerID?
    /// Opaque, from a page before; nil: from the oldest that is kept.
    public var after: String?
    /// Only of a trigger: from this position on.
    public var fromPosition: JobPosition?
    public var limit: Int
    /// Stop early once the records read add up to this many bytes (at least one job is returned).
    public var bytesMax: Int
    /// Newest first, for people; `after` then means before.
    public var newestFirst: Bool
    /// False: leave `record` empty.
    public var includesRecords: Bool
    public init(
        namespace: NamespaceID = .default, trigger: TriggerID? = nil, after: String? = nil, fromPosition: JobPosition? = nil,
        limit: Int = 100, bytesMax: Int = 8 * 1024 * 1024, newestFirst: Bool = false, includesRecords: Bool = true
    ) {
        self.namespace = namespace
        self.trigger = trigger
        self.after = after
        self.fromPosition = fromPosition
        self.limit = limit
        self.bytesMax = bytesMax
        self.newestFirst = newestFirst
        self.includesRecords = includesRecords
    }
}

public struct JobPage: Sendable {
    public var jobs: [StoredJob]
    /// Read on after this; equal to the query's where there was nothing, never nil, so that a reader can always go on.
    public var next: String
    /// Whether more is there now.
    public var more: Bool
    public init(jobs: [StoredJob], next: String, more: Bool) {
        self.jobs = jobs
        self.next = next
        self.more = more
    }
}

/// One deduplicated record of one trigger. Its public id is derived from the trigger's uid and the dedup key.
public struct StoredJob: Sendable {
    public var trigger: TriggerID
    public var position: JobPosition
    /// The `after` token that comes right behind this job.
    public var token: String
    public var dedupKey: [UInt8]
    public var record: [UInt8]
    public var isDerived: Bool
    /// The record is a tombstone: the item is gone at the source.
    public var isDeletion: Bool
    public var cause: PollCause
    public var createdAt: Timestamp
    public init(
        trigger: TriggerID, position: JobPosition, token: String, dedupKey: [UInt8], record: [UInt8], isDerived: Bool,
        isDeletion: Bool = false, cause: PollCause, createdAt: Timestamp
    ) {
        self.trigger = trigger
        self.position = position
        self.token = token
        self.dedupKey = dedupKey
        self.record = record
        self.isDerived = isDerived
        self.isDeletion = isDeletion
        self.cause = cause
        self.createdAt = createdAt
    }
}

// MARK: - Delivery

/// Deliveries to destinations of every kind but `pull`: intended in the transaction that makes the job.
public protocol DeliveryStore: Sendable {
    /// Takes pending deliveries of a destination that are due, oldest first (of an ordered trigger the first unsettled one), and hides
    /// them until `hiddenUntil`: a claim that nobody records an attempt of comes back then, or by `releaseClaims`. Nothing is taken
    /// twice at once.
    func claimDeliveries(_ destination: DestinationID, limit: Int, at time: Timestamp, hiddenUntil: Timestamp) async throws
        -> [ClaimedDelivery]
    /// Gives back up to `limit` claims that were made before: each is due at once, in the place that it had when it was intended, with
    /// the attempts it had. Retries that are due later, and what waits in its order, stay as they are; leases of consumers belong to
    /// workers outside and are not touched. What was intended or tried later than `time` was so by a clock that was ahead, and is given
    /// back as well. Returns how many were given back: with fewer than `limit` none is left. Tells observers.
    ///
    /// For the start of a process that has the data to itself, before it claims anything: then every claim is a former process's. A
    /// store that several nodes share keeps with each claim whose it is, and gives back those only of nodes whose lease has run out.
    func releaseClaims(_ namespace: NamespaceID, limit: Int, at time: Timestamp) async throws -> Int
    /// Destinations that have pending deliveries, when the first of each is due, and how many there are, counted up to 1,000. None
    /// of kind `pull`.
    func pendingDestinations(_ namespace: NamespaceID) async throws -> [(destination: DestinationID, dueAt: Timestamp, pending: Int)]
    /// Records attempts and what becomes of their deliveries, in one transaction. Tells observers of those that wait again.
    func recordAttempts(_ attempts: [DeliveryAttempt]) async throws
    /// Newest first.
    func deliveries(_ query: DeliveryQuery) async throws -> [StoredDelivery]
}

public struct ClaimedDelivery: Sendable {
    public var id: Int64
    public var destination: DestinationID
    public var job: StoredJob
    /// Attempts made before.
    public var attempts: Int
    /// When the delivery was intended, or last replayed: a replayed one is as young as a new one.
    public var createdAt: Timestamp
    /// Of an ordered trigger: others wait behind it.
    public var isOrdered: Bool
    /// Of the attachment, as they were when it was claimed; empty where it has none.
    public var attachmentSettings: [UInt8]
    public init(
        id: Int64, destination: DestinationID, job: StoredJob, attempts: Int, createdAt: Timestamp, isOrdered: Bool = false,
        attachmentSettings: [UInt8] = []
    ) {
        self.isOrdered = isOrdered
        self.id = id
        self.destination = destination
        self.job = job
        self.attempts = attempts
        self.createdAt = createdAt
        self.attachmentSettings = attachmentSettings
    }
}

public enum DeliveryState: String, Sendable, Codable, CaseIterable {
    case pending, delivered, dead
    /// Settled without being delivered: the filter of the attachment leaves the job out.
    case filtered
    /// Was a dead letter, of which somebody said that nobody is to deliver it.
    case discarded
}

public struct DeliveryAttempt: Sendable {
    public enum Outcome: Sendable, Equatable {
        case delivered
        case retry(at: Timestamp)
        /// A dead letter with the reason: `exhausted`, `gone`, `expired`, `filter`, or a courier's own.
        case dead(reason: String)
        /// No attempt was made, and none is to be: the filter leaves the job out.
        case filtered
        /// No attempt was made: what was claimed is put back, due at this time.
        case putBack(at: Timestamp)
    }
    public var delivery: Int64
    public var outcome: Outcome
    /// The HTTP status, or nil if there was none.
    public var status: Int?
    public var error: String?
    /// The first bytes of the answer, at most 4 KiB.
    public var response: [UInt8]
    public var at: Timestamp
    public var durationMilliseconds: Int64
    public init(
        delivery: Int64, outcome: Outcome, status: Int?, error: String?, response: [UInt8], at: Timestamp, durationMilliseconds: Int64
    ) {
        self.delivery = delivery
        self.outcome = outcome
        self.status = status
        self.error = error
        self.response = response
        self.at = at
        self.durationMilliseconds = durationMilliseconds
    }
}

public struct DeliveryQuery: Sendable {
    public var namespace: NamespaceID
    public var destination: DestinationID?
    public var state: DeliveryState?
    /// Only what is older than this one.
    public var before: Int64?
    public var limit: Int
    public init(
        namespace: NamespaceID = .default, destination: DestinationID? = nil, state: DeliveryState? = nil, before: Int64? = nil,
        limit: Int = 50
    ) {
        self.before = before
        self.namespace = namespace
        self.destination = destination
        self.state = state
        self.limit = limit
    }
}

public struct StoredDelivery: Sendable {
    public var id: Int64
    public var destination: DestinationID
    public var trigger: TriggerID
    public var position: JobPosition
    public var state: DeliveryState
    public var attempts: Int
    public var nextAttemptAt: Timestamp?
    /// Why it is dead, or what the last attempt said.
    public var reason: String?
    public var lastStatus: Int?
    public var createdAt: Timestamp
    public init(
        id: Int64, destination: DestinationID, trigger: TriggerID, position: JobPosition, state: DeliveryState, attempts: Int,
        nextAttemptAt: Timestamp?, reason: String?, lastStatus: Int?, createdAt: Timestamp
    ) {
        self.id = id
        self.destination = destination
        self.trigger = trigger
        self.position = position
        self.state = state
        self.attempts = attempts
        self.nextAttemptAt = nextAttemptAt
        self.reason = reason
        self.lastStatus = lastStatus
        self.createdAt = createdAt
    }
}

// MARK: - Tokens and upkeep

/// API tokens, stored hashed.
public protocol TokenStore: Sendable {
    /// Throws `.conflict` if the name is taken.
    func createToken(name: String, hash: [UInt8], at time: Timestamp) async throws
    /// Throws `.notFound` if there is none of that name.
    func revokeToken(name: String) async throws
    func tokens() async throws -> [StoredToken]
}

public struct StoredToken: Sendable {
    public var name: String
    /// SHA-256 of the token.
    public var hash: [UInt8]
    public var createdAt: Timestamp
    public init(name: String, hash: [UInt8], createdAt: Timestamp) {
        self.name = name
        self.hash = hash
        self.createdAt = createdAt
    }
}

public protocol MaintenanceStore: Sendable {
    /// Removes a bounded batch of what retention allows: never an undelivered job (P9), never a dedup key that can come
    /// again (P4), never a webhook that a trigger has not covered. Call again while `isPartial`. Kinds of rows take turns: many of one kind
    /// that must be looked at hold up no other for more than a few batches.
    func prune(_ retention: RetentionPolicy, at time: Timestamp) async throws -> PruneReport
    /// Small facts of the store itself, such as the master key's check value.
    func fact(_ name: String) async throws -> [UInt8]?
    func setFact(_ name: String, _ value: [UInt8]) async throws
}

public struct RetentionPolicy: Sendable {
    public var inbox: Span
    public var jobs: Span
    /// Pending deliveries older than this become dead letters, reason `expired`.
    public var pendingDeliveries: Span
    public var rowsPerBatchMax: Int
    public init(inbox: Span = .days(7), jobs: Span = .days(30), pendingDeliveries: Span = .days(30), rowsPerBatchMax: Int = 2000) {
        self.inbox = inbox
        self.jobs = jobs
        self.pendingDeliveries = pendingDeliveries
        self.rowsPerBatchMax = rowsPerBatchMax
    }
}

public struct PruneReport: Sendable, Equatable {
    public var webhooks = 0
    public var jobs = 0
    public var dedupKeys = 0
    public var expiredDeliveries = 0
    public var isPartial = false
    /// How long ago the last webhook or job that was removed could have been removed: how far retention is behind.
    public var behind = Span.zero
    /// What this batch took of the writer's time, its commit aside.
    public var workMicroseconds: Int64 = 0
    public init() {}
}
