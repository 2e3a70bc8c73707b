import SluiceCore

/// Backfills: a window of a trigger's provider read again, with a cursor of its own. Nothing here touches the trigger's cursor,
/// its cycles or its progress, except that jobs which are made take the next positions.
public protocol BackfillStore: Sendable {
    /// Notes a backfill that begins with its first phase. From then until it ends no dedup key of its trigger is forgotten. Throws
    /// `.notFound` if the trigger is gone, `.conflict` with `backfill` in its context if another one of it has not ended.
    func startBackfill(_ new: NewBackfill, at time: Timestamp) async throws -> StoredBackfill
    /// Newest first.
    func backfills(_ query: BackfillQuery) async throws -> [StoredBackfill]
    /// Nil if it is unknown, or was removed.
    func backfill(_ namespace: NamespaceID, _ id: BackfillID) async throws -> StoredBackfill?
    /// Throws `.notFound`, or `.conflict` where the command makes no sense.
    func commandBackfill(_ namespace: NamespaceID, _ id: BackfillID, _ command: BackfillCommand, at time: Timestamp) async throws
        -> StoredBackfill
    /// One piece of work in one transaction: lease, generation, state and step are checked inside it.
    func commitBackfill(_ commit: BackfillCommit) async throws -> BackfillOutcome
    /// Notes why it waits, or that it ends. Changes nothing if it is no longer at `step`, or does not run.
    func recordBackfillFailure(_ failure: BackfillFailure) async throws
    /// What the comparison found, in the order of the keys.
    func backfillDifferences(_ query: BackfillDifferenceQuery) async throws -> [BackfillDifference]
    /// The last job of a trigger that retention removed, and when it was made; nil if none was.
    func removedJobs(_ trigger: TriggerID) async throws -> (through: JobPosition, madeAt: Timestamp)?
}

public struct NewBackfill: Sendable {
    public var namespace: NamespaceID
    public var trigger: TriggerID
    public var mode: BackfillMode
    public var isAudit: Bool
    public var window: BackfillWindow
    /// Where it begins to read, JSON.
    public var cursor: [UInt8]
    /// What the trigger is: recognises one that became another.
    public var definition: [UInt8]
    /// Sentences that belong to its statement.
    public var notes: [String]
    public init(
        namespace: NamespaceID = .default, trigger: TriggerID, mode: BackfillMode, isAudit: Bool, window: BackfillWindow, cursor: [UInt8],
        definition: [UInt8], notes: [String] = []
    ) {
        self.namespace = namespace
        self.trigger = trigger
        self.mode = mode
        self.isAudit = isAudit
        self.window = window
        self.cursor = cursor
        self.definition = definition
        self.notes = notes
    }
}

public struct StoredBackfill: Sendable {
    public var id: BackfillID
    public var namespace: NamespaceID
    public var trigger: TriggerID
    public var connection: ConnectionID
    public var mode: BackfillMode
    public var isAudit: Bool
    public var window: BackfillWindow
    public var definition: [UInt8]
    public var notes: [String]
    public var state: BackfillState
    public var phase: BackfillPhase
    /// Counts the commits, so that none is made twice.
    public var step: Int64
    /// Jobs up to here were gathered, of those up to `gatherTo`.
    public var gathered: JobPosition
    public var gatherTo: JobPosition
    /// Its own; JSON.
    public var cursor: [UInt8]
    public var pageState: [UInt8]?
    /// Who wrote the page state: name, version and hash.
    public var connector: String
    public var counts: BackfillCounts
    /// In a row.
    public var failures: Int
    public var retryAt: Timestamp?
    public var lastError: String?
    public var createdAt: Timestamp
    /// When something last came of it.
    public var progressAt: Timestamp
    public var endedAt: Timestamp?
    public init(
        id: BackfillID, namespace: NamespaceID, trigger: TriggerID, connection: ConnectionID, mode: BackfillMode, isAudit: Bool,
        window: BackfillWindow, definition: [UInt8], notes: [String], state: BackfillState, phase: BackfillPhase, step: Int64,
        gathered: JobPosition, gatherTo: JobPosition, cursor: [UInt8], pageState: [UInt8]?, connector: String, counts: BackfillCounts,
        failures: Int, retryAt: Timestamp?, lastError: String?, createdAt: Timestamp, progressAt: Timestamp, endedAt: Timestamp?
    ) {
        self.id = id
        self.namespace = namespace
        self.trigger = trigger
        self.connection = connection
        self.mode = mode
        self.isAudit = isAudit
        self.window = window
        self.definition = definition
        self.notes = notes
        self.state = state
        self.phase = phase
        self.step = step
        self.gathered = gathered
        self.gatherTo = gatherTo
        self.cursor = cursor
        self.pageState = pageState
        self.connector = connector
        self.counts = counts
        self.failures = failures
        self.retryAt = retryAt
        self.lastError = lastError
        self.createdAt = createdAt
        self.progressAt = progressAt
        self.endedAt = endedAt
    }
}

public struct BackfillQuery: Sendable {
    public var namespace: NamespaceID
    public var trigger: TriggerID?
    /// Only those that have not ended.
    public var unfinishedOnly: Bool
    /// Only what is older than this one.
    public var before: BackfillID?
    public var limit: Int
    public init(
        namespace: NamespaceID = .default, trigger: TriggerID? = nil, unfinishedOnly: Bool = false, before: BackfillID? = nil,
        limit: Int = 50
    ) {
        self.namespace = namespace
        self.trigger = trigger
        self.unfinishedOnly = unfinishedOnly
        self.before = before
        self.limit = limit
    }
}

public struct BackfillCommit: Sendable {
    /// A job that there is.
    public struct GatheredJob: Sendable {
        public var key: [UInt8]
        public var position: JobPosition
        /// Whether its record's time lies in the window; nil if it has none.
        public var isInWindow: Bool?
        public init(key: [UInt8], position: JobPosition, isInWindow: Bool?) {
            self.key = key
            self.position = position
            self.isInWindow = isInWindow
        }
    }

    /// How a page ends: with its last chunk.
    public struct PageEnd: Sendable {
        /// Nil leaves it.
        public var cursor: [UInt8]?
        /// Nil with `isLast`.
        public var pageState: [UInt8]?
        /// Everything in the window was read.
        public var isLast: Bool
        public var connector: String
        public init(cursor: [UInt8]?, pageState: [UInt8]?, isLast: Bool, connector: String) {
            self.cursor = cursor
            self.pageState = pageState
            self.isLast = isLast
            self.connector = connector
        }
    }

    public enum Work: Sendable {
        /// Jobs up to `through`; nothing more is to be gathered if that is `gatherTo`, or `isLast`.
        case gathered([GatheredJob], through: JobPosition, isLast: Bool)
        /// A chunk of a page. A record whose mark is `unplacedMark` has no readable time.
        case page([KeyedRecord], quarantined: [QuarantinedRecord], end: PageEnd?)
        /// Compares the next so many keys; with none left it is done.
        case compared(limit: Int)
    }

    /// The mark of a record without a readable time.
    public static let unplacedMark = Int64.max

    public var fence: Fence
    public var namespace: NamespaceID
    public var backfill: BackfillID
    public var trigger: TriggerID
    public var generation: Generation
    /// Where the backfill stands, as it was read.
    public var step: Int64
    public var work: Work
    /// Marks of records say whether they have a readable time, and nothing else: jobs are made without them.
    public var hasOwnMarks: Bool
    public var at: Timestamp
    public init(
        fence: Fence, namespace: NamespaceID = .default, backfill: BackfillID, trigger: TriggerID, generation: Generation, step: Int64,
        work: Work, hasOwnMarks: Bool = false, at: Timestamp
    ) {
        self.hasOwnMarks = hasOwnMarks
        self.fence = fence
        self.namespace = namespace
        self.backfill = backfill
        self.trigger = trigger
        self.generation = generation
        self.step = step
        self.work = work
        self.at = at
    }
}

public enum BackfillOutcome: Sendable {
    /// As it stands now.
    case committed(StoredBackfill)
    /// It was paused, cancelled or removed, or somebody else went on with it; nothing changed.
    case stopped
    /// As for a page: nothing changed.
    case fenced(FenceReason)
}

public struct BackfillFailure: Sendable {
    public var namespace: NamespaceID
    public var backfill: BackfillID
    public var step: Int64
    /// In a row, this one included. Zero: it only waits.
    public var failures: Int
    public var retryAt: Timestamp?
    public var error: String
    /// The page state is of no use any more: go on from the cursor.
    public var dropsPageState: Bool
    /// It ends, failed.
    public var isFinal: Bool
    public var at: Timestamp
    public init(
        namespace: NamespaceID = .default, backfill: BackfillID, step: Int64, failures: Int, retryAt: Timestamp?, error: String,
        dropsPageState: Bool = false, isFinal: Bool = false, at: Timestamp
    ) {
        self.namespace = namespace
        self.backfill = backfill
        self.step = step
        self.failures = failures
        self.retryAt = retryAt
        self.error = error
        self.dropsPageState = dropsPageState
        self.isFinal = isFinal
        self.at = at
    }
}

public struct BackfillDifference: Sendable, Equatable {
    public enum Kind: String, Sendable, CaseIterable {
        /// The provider has it, and it was neither a job nor known by its key.
        case missing
        /// It is a job, and the provider no longer lists it in the window.
        case extra
        /// Known by its dedup key only.
        case keyOnly = "key_only"
    }
    public var kind: Kind
    public var key: [UInt8]
    /// Of its job, if there is one: for a missing one the job that was made.
    public var position: JobPosition?
    public init(kind: Kind, key: [UInt8], position: JobPosition?) {
        self.kind = kind
        self.key = key
        self.position = position
    }
}

public struct BackfillDifferenceQuery: Sendable {
    public var namespace: NamespaceID
    public var backfill: BackfillID
    public var kind: BackfillDifference.Kind
    /// Only keys behind this one.
    public var after: [UInt8]?
    public var limit: Int
    public init(
        namespace: NamespaceID = .default, backfill: BackfillID, kind: BackfillDifference.Kind, after: [UInt8]? = nil, limit: Int = 100
    ) {
        self.namespace = namespace
        self.backfill = backfill
        self.kind = kind
        self.after = after
        self.limit = limit
    }
}
