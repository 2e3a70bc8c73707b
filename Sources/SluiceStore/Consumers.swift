import SluiceCore

/// Consumers: destinations of the kind `pull`, whose jobs several workers fetch and ack.
///
/// Of a consumer only its position is kept and what is in hand: a job that was acked leaves no trace. `ConsumerMachine` decides.
public protocol ConsumerStore: Sendable {
    /// Hands out jobs: first what comes again, then what is new, in the order of their commits. Nothing that is committed
    /// later comes earlier, and no job is in two valid leases. What comes again of a trigger that was detached meanwhile becomes
    /// a dead letter, `detached`: with the attachment went its filter. Durable once it returns. Throws `.notFound` if the destination
    /// is gone or no consumer.
    func fetchJobs(_ fetch: ConsumerFetch) async throws -> ConsumerBatch
    /// Acks, nacks, extends or gives back. Throws `.notFound` for a lease or a job that is not this consumer's, `.fenced`
    /// where the lease ran out and somebody else has the job, `.conflict` where the opposite was said before (of a whole lease: a
    /// nack where everything was acked), `.invalid` for a token that is none; nothing is changed then. Saying the same again
    /// changes nothing and is no error.
    func settleJobs(_ settlement: LeaseSettlement) async throws -> LeaseAnswer
    /// The jobs that were handed out with a lease and are kept, without their records. Throws `.notFound`.
    func leaseJobs(_ consumer: DestinationID, _ lease: LeaseID) async throws -> [StoredJob]
    /// Where consumers stand, in the order of their numbers; nil: all of a namespace.
    func consumers(_ namespace: NamespaceID, only consumer: DestinationID?, at time: Timestamp) async throws -> [StoredConsumer]
    /// Moves a consumer to another place, as if everything before it were acked and nothing after it. What is in hand is
    /// given up. Throws `.notFound`, `.invalid` for a token that is none, and `.pastRetention`, with `next` to go on with what is
    /// kept, where jobs of its triggers behind that place were removed: nothing is changed then. `.oldest` passes over them.
    func seekConsumer(_ consumer: DestinationID, to target: SeekTarget, at time: Timestamp) async throws -> SeekOutcome
}

/// Which lease, and proof that it is meant.
public struct LeaseID: Sendable, Hashable {
    public var number: Int64
    public var nonce: Int64
    public init(number: Int64, nonce: Int64) {
        self.number = number
        self.nonce = nonce
    }
}

public struct ConsumerFetch: Sendable {
    public var consumer: DestinationID
    public var limit: Int
    /// Stop early once the records add up to this many bytes (at least one job is handed out).
    public var bytesMax: Int
    public var visibility: Span
    public var rules: ConsumerMachine.Rules
    /// Random.
    public var nonce: Int64
    public var worker: String?
    public var at: Timestamp
    public init(
        consumer: DestinationID, limit: Int, bytesMax: Int = 8 * 1024 * 1024, visibility: Span = .seconds(60),
        rules: ConsumerMachine.Rules = ConsumerMachine.Rules(), nonce: Int64, worker: String? = nil, at: Timestamp
    ) {
        self.consumer = consumer
        self.limit = limit
        self.bytesMax = bytesMax
        self.visibility = visibility
        self.rules = rules
        self.nonce = nonce
        self.worker = worker
        self.at = at
    }
}

public struct ConsumerBatch: Sendable {
    public struct Job: Sendable {
        public var job: StoredJob
        /// 1 for the first time it is handed out.
        public var attempt: Int
        /// The record holds the fields only that the consumer asked for. Never from the store.
        public var isProjected: Bool
        public init(job: StoredJob, attempt: Int, isProjected: Bool = false) {
            self.isProjected = isProjected
            self.job = job
            self.attempt = attempt
        }
    }
    /// Nil where there was nothing.
    public var lease: LeaseID?
    public var expiresAt: Timestamp
    public var jobs: [Job]
    /// What the attachments of these jobs' triggers say, by trigger, as it was when the jobs were handed out. Triggers whose
    /// attachment says nothing are missing.
    public var settings: [TriggerID: [UInt8]]
    /// Whether more may be there now.
    public var more: Bool
    /// As many jobs are unacked as may be: nothing new is handed out until some are acked.
    public var isAtBound: Bool
    /// When something in hand may come again, at the earliest.
    public var nextDueAt: Timestamp?
    /// Jobs that became dead letters by the way.
    public var dead: Int
    public init(
        lease: LeaseID?, expiresAt: Timestamp, jobs: [Job], settings: [TriggerID: [UInt8]] = [:], more: Bool, isAtBound: Bool,
        nextDueAt: Timestamp?, dead: Int
    ) {
        self.lease = lease
        self.expiresAt = expiresAt
        self.jobs = jobs
        self.settings = settings
        self.more = more
        self.isAtBound = isAtBound
        self.nextDueAt = nextDueAt
        self.dead = dead
    }
}

public struct LeaseSettlement: Sendable {
    public enum Action: Sendable {
        case ack
        /// They come again after `delay` of the attempts made.
        case nack(delay: @Sendable (Int) -> Span, reason: String?)
        case extend(by: Span)
        /// The lease never reached its worker: it counts as no attempt.
        case giveBack
        /// `jobs` were filtered out, and a filter failed on these, with what it said.
        case sift(refused: [(token: String, detail: String)])
    }
    public var consumer: DestinationID
    public var lease: LeaseID
    public var action: Action
    /// The `token`s of jobs; nil: all of the lease.
    public var jobs: [String]?
    public var rules: ConsumerMachine.Rules
    public var at: Timestamp
    public init(
        consumer: DestinationID, lease: LeaseID, action: Action, jobs: [String]? = nil,
        rules: ConsumerMachine.Rules = ConsumerMachine.Rules(), at: Timestamp
    ) {
        self.consumer = consumer
        self.lease = lease
        self.action = action
        self.jobs = jobs
        self.rules = rules
        self.at = at
    }
}

public struct LeaseAnswer: Sendable, Equatable {
    public var settled: ConsumerMachine.Settled
    public var expiresAt: Timestamp?
    public var nextDueAt: Timestamp?
    /// Jobs that became dead letters.
    public var dead: Int
    public init(settled: ConsumerMachine.Settled, expiresAt: Timestamp? = nil, nextDueAt: Timestamp? = nil, dead: Int = 0) {
        self.settled = settled
        self.expiresAt = expiresAt
        self.nextDueAt = nextDueAt
        self.dead = dead
    }
}

/// Where a consumer stands.
public struct StoredConsumer: Sendable {
    /// A lease that holds jobs.
    public struct Lease: Sendable {
        public var id: LeaseID
        public var worker: String?
        public var jobs: Int
        public var takenAt: Timestamp
        public var expiresAt: Timestamp
        public init(id: LeaseID, worker: String?, jobs: Int, takenAt: Timestamp, expiresAt: Timestamp) {
            self.id = id
            self.worker = worker
            self.jobs = jobs
            self.takenAt = takenAt
            self.expiresAt = expiresAt
        }
    }
    public var id: DestinationID
    public var triggers: [TriggerID]
    /// New jobs come from after this `after` token.
    public var position: String
    /// Everything up to this `after` token is settled.
    public var floor: String
    /// Handed out and not acked.
    public var unacked: Int
    /// Of those: held by a lease whose time has not run out.
    public var inHand: Int
    /// Jobs that were not handed out yet, counted up to `backlogMax`.
    public var backlog: Int
    public static let backlogMax = 10_000
    /// The oldest job that is not settled.
    public var oldest: StoredJob?
    /// Open ones, the oldest first; 100 at most.
    public var leases: [Lease]
    public init(
        id: DestinationID, triggers: [TriggerID], position: String, floor: String, unacked: Int, inHand: Int, backlog: Int,
        oldest: StoredJob?, leases: [Lease]
    ) {
        self.id = id
        self.triggers = triggers
        self.position = position
        self.floor = floor
        self.unacked = unacked
        self.inHand = inHand
        self.backlog = backlog
        self.oldest = oldest
        self.leases = leases
    }
}

public enum SeekTarget: Sendable, Equatable {
    /// Before the oldest job that is kept.
    case oldest
    /// Behind the newest.
    case now
    /// Behind the job of this `after` token.
    case after(String)
    /// Before the first job that was made then or later.
    case time(Timestamp)
}

public struct SeekOutcome: Sendable, Equatable {
    public var position: String
    /// Jobs that were not acked and are passed over now, counted up to `countMax`.
    public var skipped: Int
    /// Jobs that were handed out before and come again, counted up to `countMax`.
    public var again: Int
    public static let countMax = 100_000
    public init(position: String, skipped: Int, again: Int) {
        self.position = position
        self.skipped = skipped
        self.again = again
    }
}

extension SluiceError.Code {
    /// Jobs behind a reader's token were removed after their time. The context has `next`, to go on with what is kept.
    public static let pastRetention: Self = "past_retention"
}
