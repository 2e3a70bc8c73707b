import SluiceConnectors
import SluiceCore

/// Decides when refused signatures become an alarm: `failuresMax` within `window` with no success between them (P8: a
/// wrong secret must not quietly become a twelve-hour poll). The next success clears it.
///
///     quiet ──5th failure in 10 min──▶ alarmed ──success──▶ quiet
struct VerificationWatch: Sendable {
    enum Action: Equatable { case none, raise(failures: Int), clear }

    static let failuresMax = 5
    static let window = Span.minutes(10)

    /// The last few failures, oldest first; never more than `failuresMax`.
    private var failures: [Timestamp] = []
    private var lastReason: Refusal.Reason?
    /// An alarm may stand from before this process started, so the first success clears as well.
    private var mayBeAlarmed = true
    private var isAlarmed = false

    init() {}

    mutating func failed(_ reason: Refusal.Reason, at now: Timestamp) -> Action {
        failures.removeAll { $0 < now - VerificationWatch.window }
        if failures.count == VerificationWatch.failuresMax { failures.removeFirst() }
        failures.append(now)
        guard failures.count == VerificationWatch.failuresMax else { return .none }
        // Raised again only when it would say something else: a flood of forgeries must not become a flood of alarms.
        guard !isAlarmed || reason != lastReason else { return .none }
        isAlarmed = true
        mayBeAlarmed = true
        lastReason = reason
        return .raise(failures: failures.count)
    }

    mutating func succeeded() -> Action {
        guard mayBeAlarmed || !failures.isEmpty else { return .none }
        let clears = mayBeAlarmed
        self = VerificationWatch()
        mayBeAlarmed = false
        return clears ? .clear : .none
    }
}
