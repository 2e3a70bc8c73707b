import SluiceCore

/// Deliveries that were given up: they stay, visible, until somebody replays or discards them, or retention removes them with
/// their job.
public protocol DeadLetterStore: Sendable {
    /// Those that died last come first.
    func deadLetters(_ query: DeadLetterQuery) async throws -> DeadLetterPage
    /// One delivery, dead or not, with its job and its last attempts, oldest first; nil if there is none.
    func deliveryDetail(_ namespace: NamespaceID, _ delivery: Int64, attemptsMax: Int) async throws -> DeliveryDetail?
    /// Makes dead letters pending again: further attempts of the same jobs. Looks at no more than `limit` of them, those that died
    /// first first, so that nobody who writes waits for long; call again with `next` while there is one. What is named by its
    /// number may also have been discarded. Left alone is what its trigger no longer delivers there: with the attachment went its
    /// filter and its projection. A callback's result needs none.
    func replayDeadLetters(_ selection: DeadLetterSelection, after: DeadLetterMark?, limit: Int, at time: Timestamp) async throws
        -> DeadLetterBatch
    /// Says of dead letters that nobody is to deliver them, in batches like `replayDeadLetters`.
    func discardDeadLetters(
        _ selection: DeadLetterSelection, by who: String, because note: String, after: DeadLetterMark?, limit: Int, at time: Timestamp
    ) async throws -> DeadLetterBatch
}

/// Which dead letters are meant: all that every part which is set agrees to.
public struct DeadLetterSelection: Sendable, Equatable {
    public var namespace: NamespaceID
    /// By their numbers; the other parts are not looked at then.
    public var deliveries: [Int64]?
    public var destination: DestinationID?
    public var trigger: TriggerID?
    /// `exhausted`, `gone`, `expired`, `filter`, `detached`, or a courier's own.
    public var reason: String?
    /// Died then or later.
    public var since: Timestamp?
    /// Died before.
    public var until: Timestamp?
    public init(
        namespace: NamespaceID = .default, deliveries: [Int64]? = nil, destination: DestinationID? = nil, trigger: TriggerID? = nil,
        reason: String? = nil, since: Timestamp? = nil, until: Timestamp? = nil
    ) {
        self.namespace = namespace
        self.deliveries = deliveries
        self.destination = destination
        self.trigger = trigger
        self.reason = reason
        self.since = since
        self.until = until
    }
}

/// A place in the order of dying.
public struct DeadLetterMark: Sendable, Equatable {
    public var diedAt: Timestamp
    public var delivery: Int64
    public init(diedAt: Timestamp, delivery: Int64) {
        self.diedAt = diedAt
        self.delivery = delivery
    }
}

public struct DeadLetterQuery: Sendable {
    public var selection: DeadLetterSelection
    /// Those that were discarded, instead of those that wait for somebody.
    public var isDiscarded: Bool
    /// Only what died before this one, or at the same time with a lower number.
    public var before: DeadLetterMark?
    public var limit: Int
    public init(_ selection: DeadLetterSelection = .init(), isDiscarded: Bool = false, before: DeadLetterMark? = nil, limit: Int = 50) {
        self.selection = selection
        self.isDiscarded = isDiscarded
        self.before = before
        self.limit = limit
    }
}

public struct DeadLetterPage: Sendable {
    public var letters: [DeadLetter]
    /// Go on before this one; nil at the end.
    public var next: DeadLetterMark?
    public init(letters: [DeadLetter], next: DeadLetterMark?) {
        self.letters = letters
        self.next = next
    }
}

public struct DeadLetter: Sendable {
    public var delivery: StoredDelivery
    public var diedAt: Timestamp
    /// Of the job: its id is derived from it.
    public var dedupKey: [UInt8]
    /// What the last attempt said, for people; nil if there was none.
    public var lastError: String?
    /// Nil for one that waits.
    public var discard: Discard?

    public struct Discard: Sendable, Equatable {
        public var at: Timestamp
        public var by: String
        public var note: String
        public init(at: Timestamp, by: String, note: String) {
            self.at = at
            self.by = by
            self.note = note
        }
    }

    public init(delivery: StoredDelivery, diedAt: Timestamp, dedupKey: [UInt8], lastError: String?, discard: Discard?) {
        self.delivery = delivery
        self.diedAt = diedAt
        self.dedupKey = dedupKey
        self.lastError = lastError
        self.discard = discard
    }
}

public struct DeadLetterBatch: Sendable, Equatable {
    /// How many were replayed or discarded.
    public var changed: Int
    /// Named by number, and neither dead nor, for a replay, discarded; or not attached any more.
    public var refused: [Int64]
    /// How many a replay left alone since their trigger no longer delivers there, named by number or not.
    public var detached: Int
    /// Go on after this; nil: nothing more is to be had.
    public var next: DeadLetterMark?
    public init(changed: Int = 0, refused: [Int64] = [], detached: Int = 0, next: DeadLetterMark? = nil) {
        self.changed = changed
        self.refused = refused
        self.detached = detached
        self.next = next
    }
}

public struct DeliveryDetail: Sendable {
    public var delivery: StoredDelivery
    /// When it was delivered, left out or given up.
    public var settledAt: Timestamp?
    public var discard: DeadLetter.Discard?
    public var job: StoredJob
    public var attempts: [StoredAttempt]
    /// Of all replays together; `attempts` may hold fewer.
    public var attemptsInAll: Int
    public init(
        delivery: StoredDelivery, settledAt: Timestamp?, discard: DeadLetter.Discard?, job: StoredJob, attempts: [StoredAttempt],
        attemptsInAll: Int
    ) {
        self.delivery = delivery
        self.settledAt = settledAt
        self.discard = discard
        self.job = job
        self.attempts = attempts
        self.attemptsInAll = attemptsInAll
    }
}

public struct StoredAttempt: Sendable, Equatable {
    public var at: Timestamp
    public var status: Int?
    public var error: String?
    /// The first bytes of the answer, at most 4 KiB.
    public var response: [UInt8]
    public var durationMilliseconds: Int64
    public init(at: Timestamp, status: Int?, error: String?, response: [UInt8], durationMilliseconds: Int64) {
        self.at = at
        self.status = status
        self.error = error
        self.response = response
        self.durationMilliseconds = durationMilliseconds
    }
}
