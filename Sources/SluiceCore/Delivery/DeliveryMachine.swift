/// What becomes of a delivery after an attempt. Pure: the time, and a random number for the jitter, are passed in.
///
/// ```
///              2xx
///  pending ─────────▶ delivered
///   ▲   │  410 ─────▶ dead: gone (and its destination is to be disabled)
///   │   │  else, the schedule is used up ─▶ dead: exhausted
///   │   │  else, too old for another try ─▶ dead: expired
///   └───┘  else: again after the schedule's wait, with 429 and 503 not before what Retry-After asks
/// ```
/// A redirect is a failure like others: following it would carry a signed job to a host that nobody configured.
/// Source for 2xx, 410 and the schedule: the Standard Webhooks specification, "Deliverability and reliability".
public struct DeliveryMachine: Sendable {
    public var schedule: RetrySchedule
    /// The most that a Retry-After can put off.
    public var retryAfterMax: Span
    /// A delivery older than this gets no further attempt.
    public var ageMax: Span

    public init(schedule: RetrySchedule = .standard, retryAfterMax: Span = .hours(24), ageMax: Span = .days(30)) {
        self.schedule = schedule
        self.retryAfterMax = retryAfterMax
        self.ageMax = ageMax
    }

    /// What an attempt came to: an answer's status, or none and why.
    public struct Attempt: Sendable {
        public var status: Int?
        public var retryAfter: Span?
        /// Attempts made before this one.
        public var attemptsBefore: Int
        /// When the delivery was intended.
        public var createdAt: Timestamp
        public init(status: Int?, retryAfter: Span? = nil, attemptsBefore: Int, createdAt: Timestamp) {
            self.status = status
            self.retryAfter = retryAfter
            self.attemptsBefore = attemptsBefore
            self.createdAt = createdAt
        }
    }

    public enum Decision: Sendable, Equatable {
        case delivered
        case retry(at: Timestamp)
        case dead(DeadReason)

        /// 410: the receiver wants nothing more.
        public var disablesDestination: Bool { self == .dead(.gone) }
    }

    public enum DeadReason: String, Sendable { case exhausted, gone, expired }

    /// `random`: from 0 up to 1.
    public func decide(_ attempt: Attempt, at now: Timestamp, random: Double) -> Decision {
        switch attempt.status {
        case .some(200..<300): return .delivered
        case .some(410): return .dead(.gone)
        default: break
        }
        guard var wait = schedule.delay(afterAttempts: attempt.attemptsBefore + 1, random: random) else { return .dead(.exhausted) }
        if let asked = askedRest(attempt.status, attempt.retryAfter) { wait = max(wait, asked) }
        let next = now + wait
        return next > attempt.createdAt + ageMax ? .dead(.expired) : .retry(at: next)
    }

    /// How long the receiver asks to be left alone, bounded; nil if it does not. Only 429 and 503 can ask.
    public func askedRest(_ status: Int?, _ retryAfter: Span?) -> Span? {
        guard status == 429 || status == 503, let retryAfter else { return nil }
        return min(max(retryAfter, .zero), retryAfterMax)
    }
}
