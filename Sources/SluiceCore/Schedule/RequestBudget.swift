/// What a connection may ask of its provider: all its triggers, their pages and their retries draw on it.
public struct RequestBudget: Sendable {
    /// Requests a second, or nil for no limit of ours.
    public var perSecond: Double?
    private var tokens: Double
    private var filledAt: Timestamp?
    public private(set) var blockedUntil: Timestamp?

    public init(perSecond: Double?) {
        self.perSecond = perSecond
        tokens = RequestBudget.burst(perSecond)
    }

    private static func burst(_ perSecond: Double?) -> Double { max(1, perSecond ?? 1) }

    /// Takes one request, or says how long to wait before asking again.
    public mutating func take(at now: Timestamp) -> Span? {
        if let blockedUntil, blockedUntil > now { return blockedUntil - now }
        guard let perSecond, perSecond > 0 else { return nil }
        if let filledAt { tokens = min(RequestBudget.burst(perSecond), tokens + Double((now - filledAt).milliseconds) / 1000 * perSecond) }
        filledAt = now
        if tokens >= 1 {
            tokens -= 1
            return nil
        }
        return Span(milliseconds: Int64(((1 - tokens) / perSecond * 1000).rounded(.up)))
    }

    /// No request before this moment.
    public mutating func block(until time: Timestamp) { blockedUntil = max(blockedUntil ?? time, time) }
}
