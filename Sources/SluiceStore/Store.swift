import SluiceCore

/// Where everything durable lives: one protocol of whole intentions, not rows. Every implementation passes the one
/// conformance suite in SluiceTesting.
///
/// What each implementation promises:
/// - A call that returned is durable: it survives kill -9 and power loss. A call that threw changed nothing.
/// - Each call is one transaction. Calls made at the same time may share a sync (group commit).
/// - Nothing blocks Swift's cooperative pool.
/// - Time, identity and randomness come in with the call.
/// - Errors are `SluiceError`: `.diskFull`, `.overloaded` (too much is waiting; nothing was taken), `.fenced`, `.conflict`,
///   `.notFound`, `.storage`.
public protocol Store: InboxStore, DefinitionStore, SubscriptionStore, CredentialStore, PollStore, JobStore, QuarantineStore, DeliveryStore,
    DestinationStore, DeadLetterStore, CatchUpStore, ConsumerStore, BackfillStore, CallbackStore, ConnectorTextStore, TokenStore,
    MaintenanceStore
{
    /// Told after each commit, on the store's own thread, what it may have changed for others. Must return quickly.
    func observe(_ observer: any StoreObserver)

    /// Ends work in hand and closes. Later calls throw `.storage`.
    func close() async
}

/// Hears of commits.
public protocol StoreObserver: Sendable {
    /// Webhooks were appended: the new signal sequences, one entry a topic.
    func signalled(_ signals: [TopicSignal])
    /// Jobs were committed for these triggers.
    func jobsCommitted(_ triggers: [TriggerID], at time: Timestamp)
    /// Deliveries were intended, replayed or put back.
    func deliveriesIntended()
    /// Consumers were attached, moved, or got jobs back: what they were told last may no longer hold.
    func consumersChanged(_ consumers: [DestinationID])
}

extension StoreObserver {
    public func consumersChanged(_ consumers: [DestinationID]) {}
}

/// Proof of a lease. Opaque to its users: they hand it back with each commit.
public struct Fence: Sendable, Equatable {
    /// The shard of triggers; SQLite has one, number 0.
    public var shard: Int
    public var epoch: LeaseEpoch
    public init(shard: Int, epoch: LeaseEpoch) {
        self.shard = shard
        self.epoch = epoch
    }
}

// MARK: - Inbox

public protocol InboxStore: Sendable {
    /// Appends one webhook and raises the signal of its topics. Whoever waits shares one transaction and one sync.
    /// A repeated delivery (same `deliveryDigest`, unless `isForced`) is not stored again and raises no signal, and the
    /// receipt names the first copy. Throws `.overloaded` or `.diskFull` with nothing stored.
    func append(_ webhook: InboxEntry) async throws -> InboxReceipt
    /// The same for a caller that cannot wait, such as an event loop: `then` is called once, after the commit or the refusal,
    /// on any thread, and must return quickly.
    func append(_ webhook: InboxEntry, then: @escaping @Sendable (Result<InboxReceipt, SluiceError>) -> Void)

    /// Newest first.
    func inbox(_ query: InboxQuery) async throws -> [InboxItem]
    /// One webhook with headers and body; nil if it is unknown or was pruned.
    func inboxItem(_ namespace: NamespaceID, _ sequence: InboxSequence) async throws -> InboxItem?
    /// The webhooks of some topics after a sequence, oldest first: what a webhook-only trigger polls. Whatever is appended
    /// later comes behind the batch's `through`.
    func readInbox(_ query: InboxRead) async throws -> InboxBatch
    /// For each connection with triggers that read the inbox (`DefinitionChange.readsInbox`): how many of its webhooks the
    /// last of them has not covered, counted up to `countMax`. Retention keeps these.
    func unreadWebhooks(_ namespace: NamespaceID, countMax: Int) async throws -> [ConnectionID: Int]
}

/// Which webhooks to read on with.
public struct InboxRead: Sendable {
    public var namespace: NamespaceID
    public var connection: ConnectionID
    /// A webhook under any of these is meant.
    public var topics: [TopicID]
    /// And one under any of these, up to a webhook.
    public var formerTopics: [FormerTopic]
    public var after: InboxSequence
    /// Only what was received then or later.
    public var since: Timestamp?
    public var limit: Int
    /// Stop early once bodies and headers add up to this many bytes (at least one webhook is returned).
    public var bytesMax: Int
    public init(
        namespace: NamespaceID = .default, connection: ConnectionID, topics: [TopicID], formerTopics: [FormerTopic] = [],
        after: InboxSequence, since: Timestamp? = nil, limit: Int = 500, bytesMax: Int = 8 * 1024 * 1024
    ) {
        self.namespace = namespace
        self.connection = connection
        self.topics = topics
        self.formerTopics = formerTopics
        self.after = after
        self.since = since
        self.limit = limit
        self.bytesMax = bytesMax
    }
}

public struct InboxBatch: Sendable {
    public var items: [InboxItem]
    /// Everything up to here was looked at.
    public var through: InboxSequence
    /// Whether more may be there now.
    public var more: Bool
    public init(items: [InboxItem], through: InboxSequence, more: Bool) {
        self.items = items
        self.through = through
        self.more = more
    }
}

/// A verified webhook, to be kept.
public struct InboxEntry: Sendable {
    public var namespace: NamespaceID
    public var connection: ConnectionID
    public var receivedAt: Timestamp
    public var method: String
    public var path: String
    public var query: String
    /// Names and values, one after the other, joined by newlines: `name: value`.
    public var headers: [UInt8]
    public var body: [UInt8]
    public var deliveryID: String?
    /// SHA-256 over URL, delivery id and body; nil where repeated deliveries are not recognised.
    public var deliveryDigest: [UInt8]?
    /// Store it even if it is a repetition.
    public var isForced: Bool
    /// What it signals. Empty for an unknown key.
    public var topics: [TopicID]
    /// Why no trigger was matched, for people; nil if one was.
    public var unmatchedReason: String?

    public init(
        namespace: NamespaceID = .default, connection: ConnectionID, receivedAt: Timestamp, method: String = "POST", path: String = "",
        query: String = "", headers: [UInt8] = [], body: [UInt8], deliveryID: String? = nil, deliveryDigest: [UInt8]? = nil,
        isForced: Bool = false, topics: [TopicID], unmatchedReason: String? = nil
    ) {
        self.namespace = namespace
        self.connection = connection
        self.receivedAt = receivedAt
        self.method = method
        self.path = path
        self.query = query
        self.headers = headers
        self.body = body
        self.deliveryID = deliveryID
        self.deliveryDigest = deliveryDigest
        self.isForced = isForced
        self.topics = topics
        self.unmatchedReason = unmatchedReason
    }
}

public struct InboxReceipt: Sendable, Equatable {
    /// Where the webhook, or the first copy of it, stands.
    public var sequence: InboxSequence
    public var isRepeated: Bool
    public init(sequence: InboxSequence, isRepeated: Bool) {
        self.sequence = sequence
        self.isRepeated = isRepeated
    }
}

public struct TopicSignal: Sendable, Equatable {
    public var topic: TopicID
    public var sequence: InboxSequence
    /// When the last of its webhooks was received.
    public var at: Timestamp
    public init(topic: TopicID, sequence: InboxSequence, at: Timestamp) {
        self.topic = topic
        self.sequence = sequence
        self.at = at
    }
}

public struct InboxQuery: Sendable {
    public var namespace: NamespaceID
    public var connection: ConnectionID?
    public var unmatchedOnly: Bool
    /// Only what is older than this one.
    public var before: InboxSequence?
    public var limit: Int
    /// False: leave headers and body empty; `bodyBytes` tells how long the body is.
    public var includesContent: Bool
    public init(
        namespace: NamespaceID = .default, connection: ConnectionID? = nil, unmatchedOnly: Bool = false, before: InboxSequence? = nil,
        limit: Int = 50, includesContent: Bool = true
    ) {
        self.namespace = namespace
        self.connection = connection
        self.unmatchedOnly = unmatchedOnly
        self.before = before
        self.limit = limit
        self.includesContent = includesContent
    }
}

public struct InboxItem: Sendable {
    public var sequence: InboxSequence
    public var entry: InboxEntry
    /// Of the body as it is stored.
    public var bodyBytes: Int
    public init(sequence: InboxSequence, entry: InboxEntry, bodyBytes: Int? = nil) {
        self.sequence = sequence
        self.entry = entry
        self.bodyBytes = bodyBytes ?? entry.body.count
    }
}

// MARK: - Polls

public protocol PollStore: Sendable {
    /// Takes the lease on the shard for `holder` and raises its epoch: whoever held it before can no longer commit.
    func acquireLease(shard: Int, holder: String, at time: Timestamp) async throws -> Fence

    /// Commits a page, or one chunk of it: dedup keys, jobs, deliveries, quarantine, and with the last chunk the cursor and
    /// the open cycle, or the cycle's end. One transaction; the epoch and the generation are checked inside it.
    func commitPage(_ commit: PageCommit) async throws -> PageOutcome

    /// Of records that are not known by their own dedup key: what is known of the former keys that are, by these. Looks through the
    /// trigger's newest `jobsMax` jobs for what they hold.
    func formerJobs(_ trigger: TriggerID, _ records: [FormerLookup], jobsMax: Int) async throws -> [[UInt8]: FormerJob]

    /// How many records a commit should have at most as things are now: few while webhooks come, since each waits for the commit
    /// in flight. May differ from one chunk of a page to the next.
    var recordsPerCommit: Int { get }

    /// Notes a failed cycle: failures, when to try again, why. The open cycle and the cursor stay, unless `dropsOpenCycle`.
    func recordFailure(_ failure: CycleFailure) async throws -> PageOutcome
}

/// A record by the dedup key that it has now and by those that it had.
public struct FormerLookup: Sendable {
    public var key: [UInt8]
    public var formers: [[UInt8]]
    public init(key: [UInt8], formers: [[UInt8]]) {
        self.key = key
        self.formers = formers
    }
}

/// What became of a record under a former key.
public struct FormerJob: Sendable {
    /// The highest mark with which it came under this key.
    public var mark: Int64?
    /// What its job holds; nil where that is gone, or too far back.
    public var record: Record?
    public init(mark: Int64?, record: Record?) {
        self.mark = mark
        self.record = record
    }
}

public struct PageCommit: Sendable {
    public var fence: Fence
    public var trigger: TriggerID
    public var generation: Generation
    /// The cycle's number, the page's in the cycle and the chunk's in the page. A page that is complete and committed again is
    /// `.repeated`. One that was only begun is committed anew, chunk by chunk, whatever the chunks hold now: its dedup keys drop what
    /// was committed before.
    public var cycle: Int64
    public var page: Int
    public var chunk: Int
    public var cause: PollCause
    public var records: [KeyedRecord]
    public var quarantined: [QuarantinedRecord]
    /// With the last chunk of a page only: what changes besides the records.
    public var completion: PageCompletion?
    public var at: Timestamp
    /// With what the keys are made from these records on; nil: as before.
    public var keyOrigin: KeyOrigin?

    public init(
        fence: Fence, trigger: TriggerID, generation: Generation, cycle: Int64, page: Int, chunk: Int, cause: PollCause,
        records: [KeyedRecord], quarantined: [QuarantinedRecord] = [], completion: PageCompletion?, at: Timestamp,
        keyOrigin: KeyOrigin? = nil
    ) {
        self.keyOrigin = keyOrigin
        self.fence = fence
        self.trigger = trigger
        self.generation = generation
        self.cycle = cycle
        self.page = page
        self.chunk = chunk
        self.cause = cause
        self.records = records
        self.quarantined = quarantined
        self.completion = completion
        self.at = at
    }
}

/// What the last chunk of a page commits besides its records.
public struct PageCompletion: Sendable {
    /// The new committed cursor, JSON; nil leaves it.
    public var cursor: [UInt8]?
    /// The committed cursor in the unit of the marks; nil leaves it.
    public var cursorMark: Int64?
    /// The cycle as it goes on, or nil because it ends with this page. `jobs` is filled in by the store.
    public var openCycle: OpenCycle?
    /// Set exactly when `openCycle` is nil.
    public var end: CycleEnd?
    public init(cursor: [UInt8]? = nil, cursorMark: Int64? = nil, openCycle: OpenCycle? = nil, end: CycleEnd? = nil) {
        self.cursor = cursor
        self.cursorMark = cursorMark
        self.openCycle = openCycle
        self.end = end
    }
}

/// A cycle that succeeded.
public struct CycleEnd: Sendable {
    public var cause: PollCause
    public var startedAt: Timestamp
    /// The trigger's covered sequence rises to this, never falls.
    public var coveredSequence: InboxSequence
    /// When the next poll without a signal is due.
    public var safetyDueAt: Timestamp
    /// Dedup keys whose mark lies below may be forgotten; nil: unchanged.
    public var dedupFloor: Int64?
    /// Whether keys without a mark become older by this cycle.
    public var agesKeys: Bool
    public init(
        cause: PollCause, startedAt: Timestamp, coveredSequence: InboxSequence, safetyDueAt: Timestamp, dedupFloor: Int64? = nil,
        agesKeys: Bool = true
    ) {
        self.agesKeys = agesKeys
        self.cause = cause
        self.startedAt = startedAt
        self.coveredSequence = coveredSequence
        self.safetyDueAt = safetyDueAt
        self.dedupFloor = dedupFloor
    }
}

/// A record that could not be keyed: kept, visible, and out of the way of the others.
public struct QuarantinedRecord: Sendable {
    public var bytes: [UInt8]
    public var reason: String
    /// Recognises the same record read again.
    public var digest: [UInt8]
    public init(bytes: [UInt8], reason: String, digest: [UInt8]) {
        self.bytes = bytes
        self.reason = reason
        self.digest = digest
    }
}

public enum PageOutcome: Sendable, Equatable {
    /// New jobs of this commit: their number and the last position of the trigger.
    case committed(jobs: Int, lastPosition: JobPosition)
    /// This very (cycle, page, chunk) was committed before; nothing changed.
    case repeated
    /// The lease was lost, or the trigger changed since the cycle began; nothing changed.
    case fenced(FenceReason)
}

public enum FenceReason: String, Sendable {
    case leaseLost = "lease_lost", triggerChanged = "trigger_changed", triggerGone = "trigger_gone"
}

public struct CycleFailure: Sendable {
    public var fence: Fence
    public var trigger: TriggerID
    public var generation: Generation
    public var cause: PollCause
    public var startedAt: Timestamp
    public var error: SluiceError
    /// Failures in a row, this one included.
    public var failures: Int
    public var retryAt: Timestamp
    /// The page token expired: begin again from the committed cursor.
    public var dropsOpenCycle: Bool
    public var at: Timestamp
    public init(
        fence: Fence, trigger: TriggerID, generation: Generation, cause: PollCause, startedAt: Timestamp, error: SluiceError,
        failures: Int, retryAt: Timestamp, dropsOpenCycle: Bool, at: Timestamp
    ) {
        self.fence = fence
        self.trigger = trigger
        self.generation = generation
        self.cause = cause
        self.startedAt = startedAt
        self.error = error
        self.failures = failures
        self.retryAt = retryAt
        self.dropsOpenCycle = dropsOpenCycle
        self.at = at
    }
}
