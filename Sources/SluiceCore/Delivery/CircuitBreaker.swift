/// Keeps calls from a destination that fails again and again, so that its jobs keep their attempts for when it works. Pure.
///
/// ```
///            failuresToOpen in a row
///   closed ─────────────────────────▶ open ◀──────┐ fails: open twice as long
///     ▲                                │ its time  │
///     │            delivers            ▼ is over   │
///     └─────────────────────────── half open ──────┘
///                                  (one call)
/// ```
/// Nobody tells a breaker that its time is over: it is half open from then on by itself.
public struct CircuitBreaker: Sendable, Equatable {
    public enum State: String, Sendable { case closed, open, halfOpen = "half_open" }

    public private(set) var failuresInRow = 0
    /// Nil while it is closed.
    public private(set) var opensAgainAt: Timestamp?
    /// How often it opened since it was last closed.
    private var openings = 0

    /// Failures in a row that open it.
    public static let failuresToOpen = 10
    public static let openSpanLeast = Span.seconds(30)
    public static let openSpanMost = Span.minutes(15)

    public init() {}

    public func state(at now: Timestamp) -> State {
        guard let opensAgainAt else { return .closed }
        return now < opensAgainAt ? .open : .halfOpen
    }

    public mutating func noteSuccess() { self = CircuitBreaker() }

    /// Those of calls that were under way when it opened change nothing.
    public mutating func noteFailure(at now: Timestamp) {
        failuresInRow += 1
        guard state(at: now) != .open, opensAgainAt != nil || failuresInRow >= CircuitBreaker.failuresToOpen else { return }
        let factor = Int64(1) << Int64(min(openings, 10))
        let span = min(CircuitBreaker.openSpanMost, Span(milliseconds: CircuitBreaker.openSpanLeast.milliseconds * factor))
        openings += 1
        opensAgainAt = now + span
    }
}
