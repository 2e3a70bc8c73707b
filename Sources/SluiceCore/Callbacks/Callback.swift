/// Where a callback stands. Everything but `pending` is for good.
public enum CallbackState: String, Sendable, Codable, CaseIterable {
    /// The operation is not over, as far as anybody told.
    case pending
    /// The operation is over, and its result is there.
    case settled
    /// The operation failed, as the provider says: its result is there all the same.
    case failed
    /// Its time was up before a result came.
    case expired
    /// Whoever waited for it does not any more.
    case cancelled

    public var isOver: Bool { self != .pending }
}

/// What is known of one pending operation, in durable numbers alone: a process that begins from these goes on as the one
/// before it would have.
public struct Callback: Sendable, Equatable {
    public var state = CallbackState.pending
    /// The provider can be asked how the operation stands (`status`); then a call only makes us ask. Otherwise a verified
    /// call brings the result.
    public var asks: Bool
    public var createdAt: Timestamp
    public var expiresAt: Timestamp
    /// When something is due: a status poll, or the end of its time. `.distantFuture` once it is over.
    public var nextAt: Timestamp
    /// When the last status poll began whose answer is recorded. Of those that were sent once its time was up, and that gave no
    /// answer, the first.
    public var lastStartAt: Timestamp?
    /// Status polls whose answer is recorded.
    public var polls = 0
    /// How far the schedule of pauses has come.
    public var step = 0
    /// Status polls in a row that gave no answer.
    public var failures = 0
    /// Calls that asked for a status poll, those left out that came while one of them was waiting already.
    public var signals: Int64 = 0
    /// How many of these a status poll that began later has answered.
    public var covered: Int64 = 0
    /// What the last status poll failed with, or nil.
    public var lastError: String?
    public var endedAt: Timestamp?
    /// Why it expired or was cancelled, for people.
    public var reason: String?

    public init(asks: Bool, createdAt: Timestamp, expiresAt: Timestamp, nextAt: Timestamp) {
        self.asks = asks
        self.createdAt = createdAt
        self.expiresAt = expiresAt
        self.nextAt = nextAt
    }
}

/// When the provider is asked how an operation stands.
public struct CallbackPolicy: Sendable, Equatable {
    /// Pauses between one status poll and the next; the last one repeats.
    public var pauses: [Span]
    /// Polls that calls cause begin at least this long after the one before.
    public var throttle: Span
    /// For how long the last status poll is tried again, if the provider gives no answer.
    public var grace: Span
    /// For how long after its end it waits where no status poll can be sent: its connector is not loaded, its connection waits.
    public var graceUnasked: Span
    /// For how long after a start calls are waited for whose time was up meanwhile.
    public var graceOfCalls: Span

    public static let pausesStandard: [Span] = [.seconds(5), .seconds(15), .minutes(1), .minutes(5), .minutes(15), .hours(1)]
    public static let pausesMax = 32
    public static let lifetimeMax = Span.days(90)
    public static let retryAfterMax = Span.days(1)

    public init(
        pauses: [Span] = pausesStandard, throttle: Span = .seconds(20), grace: Span = .minutes(15), graceUnasked: Span = .days(1),
        graceOfCalls: Span = .hours(1)
    ) {
        self.pauses = pauses.isEmpty ? CallbackPolicy.pausesStandard : pauses
        self.throttle = throttle
        self.grace = grace
        self.graceUnasked = graceUnasked
        self.graceOfCalls = graceOfCalls
    }

    func pause(_ step: Int) -> Span { pauses[min(step, pauses.count - 1)] }
}
