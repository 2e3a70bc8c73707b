import SluiceConnectors
import SluiceCore

/// Decides when refused signatures become an alarm (P8: a wrong secret must not quietly become a twelve-hour poll). The next
/// success clears it.
///
///     quiet ──5 failures in 10 min, the last success a minute ago or longer──▶ alarmed ──success──▶ quiet
///     quiet ──3 failures, the last success an hour ago or longer, or never──▶ alarmed
///     quiet ──2 failures an hour apart──▶ alarmed
///
/// All count failures with no success between them. A connection that gets a webhook every few minutes, or one a day, is found by
/// the slower rules; where webhooks verify, forgeries between them raise nothing.
struct VerificationWatch: Sendable {
    /// `clear(wasRaised:)`: whether the alarm was raised since this process started. Said once an hour: forgers must not be able to make
    /// a connection poll.
    enum Action: Equatable { case none, raise(failures: Int), clear(wasRaised: Bool) }

    static let failuresMax = 5
    static let window = Span.minutes(10)
    /// A success as recent as this: the secret is right, and the failures are somebody else's.
    static let healthySpan = Span.minutes(1)
    static let quietFailuresMax = 3
    static let quietSpan = Span.hours(1)

    /// The last few failures, oldest first; never more than `failuresMax`.
    private var recent: [Timestamp] = []
    /// Since the last success.
    private var failures = 0
    private var firstFailureAt: Timestamp?
    /// Nil: none since this process started.
    private var lastSuccessAt: Timestamp?
    private var lastReason: Refusal.Reason?
    private var raisedAt: Timestamp?
    /// An alarm may stand from before this process started, so the first success clears as well.
    private var mayBeAlarmed = true

    /// When it was last said that webhooks were refused until now.
    private var saidAt: Timestamp?

    init() {}

    mutating func failed(_ reason: Refusal.Reason, at now: Timestamp) -> Action {
        failures += 1
        firstFailureAt = firstFailureAt ?? now
        recent.removeAll { $0 < now - VerificationWatch.window }
        if recent.count == VerificationWatch.failuresMax { recent.removeFirst() }
        recent.append(now)
        guard isFailing(at: now) else { return .none }
        // Raised again only when it would say something else: a flood of forgeries must not become a flood of alarms.
        if let raisedAt, reason == lastReason || now - raisedAt < VerificationWatch.window { return .none }
        (raisedAt, lastReason, mayBeAlarmed) = (now, reason, true)
        return .raise(failures: failures)
    }

    private func isFailing(at now: Timestamp) -> Bool {
        if recent.count == VerificationWatch.failuresMax, isLong(since: lastSuccessAt, VerificationWatch.healthySpan, now) { return true }
        if failures >= VerificationWatch.quietFailuresMax, isLong(since: lastSuccessAt, VerificationWatch.quietSpan, now) { return true }
        return firstFailureAt.map { now - $0 >= VerificationWatch.quietSpan } ?? false
    }

    private func isLong(since time: Timestamp?, _ span: Span, _ now: Timestamp) -> Bool { time.map { now - $0 >= span } ?? true }

    mutating func succeeded(at now: Timestamp) -> Action {
        let (clears, says) = (mayBeAlarmed, raisedAt != nil && isLong(since: saidAt, VerificationWatch.quietSpan, now))
        let saidAt = says ? now : saidAt
        if failures > 0 || clears {
            self = VerificationWatch()
            mayBeAlarmed = false
        }
        self.saidAt = saidAt
        lastSuccessAt = now
        return clears ? .clear(wasRaised: says) : .none
    }
}
