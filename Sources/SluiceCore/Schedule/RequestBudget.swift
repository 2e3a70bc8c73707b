/// What a connection may ask of its provider: all its triggers, their pages and their retries draw on it.
///
/// Three things hold a request back: our own limit a second, the provider's word (Retry-After), and what the provider's
/// rate headers say is left. With little left the rest is spread over the time until it is filled up again; with nothing
/// left, or no more than the reserve, nothing is asked before that.
public struct RequestBudget: Sendable {
    /// Why no request may be made before a moment.
    public enum Reason: String, Sendable {
        case askedToWait = "the provider asked to wait"
        case usedUp = "the provider's rate limit is used up"
        case spread = "little of the provider's rate limit is left, and it is spread"
        case ownLimit = "its requests_per_second are used up"
    }

    /// A rate header is believed for at most this long: a wrong unit must not silence a connection for days.
    public static let rateWaitMax = Span.hours(1)
    /// Below this part of the limit what is left is spread.
    private static let spreadBelow = 0.1
    /// Where the limit is not told: below so many requests.
    private static let spreadBelowRequests: Int64 = 5
    private static let spreadApartMax = Span.seconds(30)

    /// Requests a second, or nil for no limit of ours.
    public var perSecond: Double?
    private var tokens: Double
    private var filledAt: Timestamp?
    public private(set) var blockedUntil: Timestamp?
    private var blockedBy = Reason.askedToWait
    /// How far apart requests lie until then.
    private var spread: (apart: Span, until: Timestamp, next: Timestamp)?

    public init(perSecond: Double?) {
        self.perSecond = perSecond
        tokens = RequestBudget.burst(perSecond)
    }

    private static func burst(_ perSecond: Double?) -> Double { max(1, perSecond ?? 1) }

    /// Takes one request, or says how long to wait before asking again.
    public mutating func take(at now: Timestamp) -> Span? { takeOrReason(at: now)?.wait }

    /// The same, with the reason.
    public mutating func takeOrReason(at now: Timestamp) -> (wait: Span, reason: Reason)? {
        if let blockedUntil, blockedUntil > now { return (blockedUntil - now, blockedBy) }
        if let spread, spread.until > now, spread.next > now { return (spread.next - now, .spread) }
        if let perSecond, perSecond > 0 {
            if let filledAt {
                tokens = min(RequestBudget.burst(perSecond), tokens + Double((now - filledAt).milliseconds) / 1000 * perSecond)
            }
            filledAt = now
            guard tokens >= 1 else { return (Span(milliseconds: Int64(((1 - tokens) / perSecond * 1000).rounded(.up))), .ownLimit) }
            tokens -= 1
        }
        if let spread { self.spread = spread.until > now ? (spread.apart, spread.until, now + spread.apart) : nil }
        return nil
    }

    /// Until when nothing is asked, and why; nil if a request may be made now. Our own limit does not count.
    public func blocked(at now: Timestamp) -> (until: Timestamp, reason: Reason)? {
        blockedUntil.flatMap { $0 > now ? ($0, blockedBy) : nil }
    }

    /// Until when little is left, and why; nil if there is enough for what can wait. Our own limit does not count.
    public func shortage(at now: Timestamp) -> (until: Timestamp, reason: Reason)? {
        blocked(at: now) ?? spread.flatMap { $0.until > now ? ($0.until, .spread) : nil }
    }

    /// No request before this moment.
    public mutating func block(until time: Timestamp, because reason: Reason = .askedToWait) {
        if let blockedUntil, blockedUntil >= time { return }
        blockedUntil = time
        blockedBy = reason
    }

    /// Takes heed of what an answer says about the rate. Requests under way may be answered out of order, so a report is never
    /// taken as leave to go faster before its window ends.
    public mutating func heed(_ report: RateReport, reserve: Int64 = 0, at now: Timestamp) {
        if let wait = report.retryAfter, wait > .zero { block(until: now + wait) }
        guard let remaining = report.remaining, let left = report.resetAfter, left > .zero else { return }
        let window = min(left, RequestBudget.rateWaitMax)
        if remaining <= reserve { return block(until: now + window, because: .usedUp) }
        let spare = remaining - reserve
        let isLow =
            report.limit.map { Double(remaining) < Double($0) * RequestBudget.spreadBelow } ?? (spare < RequestBudget.spreadBelowRequests)
        guard isLow else { return }
        let apart = min(Span(milliseconds: window.milliseconds / (spare + 1)), RequestBudget.spreadApartMax)
        spread = (apart, now + window, now + apart)
    }
}

/// What an answer says about how much may still be asked.
public struct RateReport: Sendable, Equatable {
    /// Retry-After.
    public var retryAfter: Span?
    /// Requests that may still be made before the reset.
    public var remaining: Int64?
    /// How many they are after a reset.
    public var limit: Int64?
    public var resetAfter: Span?

    public init(retryAfter: Span? = nil, remaining: Int64? = nil, limit: Int64? = nil, resetAfter: Span? = nil) {
        self.retryAfter = retryAfter
        self.remaining = remaining
        self.limit = limit
        self.resetAfter = resetAfter
    }
}
