/// One way in which the provider's API fails a request.
public enum ProviderFault: Hashable, Sendable {
    /// 500 with a JSON error.
    case serverError
    /// 429 with `Retry-After` in seconds.
    case tooManyRequests(retryAfterSeconds: Int)
    /// The right answer, late.
    case slow(milliseconds: Int)
    /// 200 and a page of HTML, as a proxy in trouble sends it.
    case html
    /// No answer until the client gives up.
    case hang
    /// 400: the offset is not known any more. Does nothing to a request without an offset.
    case offsetExpired
    /// 200 and only half of the JSON.
    case truncated
    /// 401 although the key is right.
    case unauthorized

    /// A short name for counts.
    public var name: String {
        switch self {
        case .serverError: "server_error"
        case .tooManyRequests: "too_many_requests"
        case .slow: "slow"
        case .html: "html"
        case .hang: "hang"
        case .offsetExpired: "offset_expired"
        case .truncated: "truncated"
        case .unauthorized: "unauthorized"
        }
    }
}

/// Which requests fail, and how. Pure.
public struct ProviderFaults: Sendable {
    /// Faults of the next requests, in order; nil lets one pass. Used up before the shares count.
    public var next: [ProviderFault?]
    /// Share of requests that meet each fault; together at most 1.
    public var shares: [(fault: ProviderFault, share: Double)]

    public init(next: [ProviderFault?] = [], shares: [(fault: ProviderFault, share: Double)] = []) {
        self.next = next
        self.shares = shares
    }

    public static let none = ProviderFaults()

    /// Every request meets this fault: a provider that is down.
    public static func always(_ fault: ProviderFault) -> ProviderFaults { ProviderFaults(shares: [(fault, 1)]) }

    /// The fault that the next request meets, if any.
    public mutating func draw(using random: inout ProviderRandom) -> ProviderFault? {
        if !next.isEmpty { return next.removeFirst() }
        if shares.isEmpty { return nil }
        var point = Double.random(in: 0..<1, using: &random)
        for entry in shares {
            if point < entry.share { return entry.fault }
            point -= entry.share
        }
        return nil
    }
}
