/// What becomes of a delivery after an attempt. Pure: the time, and a random number for the jitter, are passed in.
///
/// ```
///              delivered
///  pending ─────────▶ delivered
///   ▲   │  gone ────▶ dead: gone (and its destination is to be stopped)
///   │   │  refused ─▶ dead, with the courier's reason
///   │   │  failed, the schedule is used up ─▶ dead: exhausted
///   │   │  failed, too old for another try ─▶ dead: expired
///   └───┘  failed: again after the schedule's wait, and not before the receiver's own wish
/// ```
/// What counts as delivered or gone is the courier's to say: for HTTP 2xx and 410, and a redirect is a failure like others,
/// because following it would carry a signed job to a host that nobody configured.
/// Source for 2xx, 410 and the schedule: the Standard Webhooks specification, "Deliverability and reliability".
public struct DeliveryMachine: Sendable {
    public var schedule: RetrySchedule
    /// The most that a receiver's wish can put off.
    public var retryAfterMax: Span
    /// A delivery older than this gets no further attempt.
    public var ageMax: Span

    public init(schedule: RetrySchedule = .standard, retryAfterMax: Span = .hours(24), ageMax: Span = .days(30)) {
        self.schedule = schedule
        self.retryAfterMax = retryAfterMax
        self.ageMax = ageMax
    }

    /// What one attempt came to.
    public enum Result: Sendable, Equatable {
        case delivered
        /// To be tried again by the schedule.
        case failed
        /// The receiver takes nothing more of anything: its destination is stopped.
        case gone
        /// Trying this job again can change nothing: a dead letter at once, with this reason.
        case refused(reason: String)
    }

    public struct Attempt: Sendable {
        public var result: Result
        /// How long the receiver asks to be left alone.
        public var retryAfter: Span?
        /// Attempts made before this one.
        public var attemptsBefore: Int
        /// When the delivery was intended.
        public var createdAt: Timestamp
        public init(result: Result, retryAfter: Span? = nil, attemptsBefore: Int, createdAt: Timestamp) {
            self.result = result
            self.retryAfter = retryAfter
            self.attemptsBefore = attemptsBefore
            self.createdAt = createdAt
        }
    }

    public enum Decision: Sendable, Equatable {
        case delivered
        case retry(at: Timestamp)
        case dead(DeadReason)
    }

    /// Why a delivery is a dead letter: a word for programs.
    public struct DeadReason: RawRepresentable, Sendable, Equatable {
        public var rawValue: String
        public init(rawValue: String) { self.rawValue = rawValue }
        public static let exhausted = DeadReason(rawValue: "exhausted")
        public static let gone = DeadReason(rawValue: "gone")
        public static let expired = DeadReason(rawValue: "expired")
        /// The filter failed on the job.
        public static let filter = DeadReason(rawValue: "filter")
        /// The trigger no longer delivers there.
        public static let detached = DeadReason(rawValue: "detached")
        /// A program said that it never will take the job.
        public static let refused = DeadReason(rawValue: "refused")
        /// A message broker takes no message of that size.
        public static let tooLarge = DeadReason(rawValue: "too_large")
        /// The trigger was removed: discarded at once.
        public static let removed = DeadReason(rawValue: "removed")

        /// All there are.
        public static let known = [exhausted, gone, expired, filter, detached, refused, tooLarge, removed]
    }

    /// `random`: from 0 up to 1.
    public func decide(_ attempt: Attempt, at now: Timestamp, random: Double) -> Decision {
        switch attempt.result {
        case .delivered: return .delivered
        case .gone: return .dead(.gone)
        case .refused(let reason): return .dead(DeadReason(rawValue: reason))
        case .failed: break
        }
        guard var wait = schedule.delay(afterAttempts: attempt.attemptsBefore + 1, random: random) else { return .dead(.exhausted) }
        if let asked = askedRest(attempt.retryAfter) { wait = max(wait, asked) }
        let next = now + wait
        return next > attempt.createdAt + ageMax ? .dead(.expired) : .retry(at: next)
    }

    /// How long the receiver asks to be left alone, bounded; nil if it does not.
    public func askedRest(_ retryAfter: Span?) -> Span? { retryAfter.map { min(max($0, .zero), retryAfterMax) } }
}
