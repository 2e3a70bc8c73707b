import SluiceCore

/// Which headers say how much may still be asked. Without any, those that many providers and the IETF's draft use.
public struct RateLimitRule: Sendable, Equatable {
    public enum ResetUnit: String, Sendable, CaseIterable {
        /// Seconds from now.
        case seconds
        case milliseconds
        case epochSeconds = "epoch_seconds"
        case epochMilliseconds = "epoch_milliseconds"
        /// RFC 3339, or a date of HTTP.
        case date
        /// A date; else by its size: from 1,000,000,000 on a moment in seconds, from 1,000,000,000,000 on in milliseconds,
        /// below that seconds from now.
        case automatic = "auto"
    }

    public var remaining: String?
    public var limit: String?
    public var reset: String?
    public var resetUnit = ResetUnit.automatic
    /// With so many left nothing is asked, so that others who use the same account can go on.
    public var reserve: Int64 = 0

    public init() {}

    init(_ rule: RuleReader) throws(SluiceError) {
        var rule = rule
        remaining = try rule.optionalText("remaining")
        limit = try rule.optionalText("limit")
        reset = try rule.optionalText("reset")
        resetUnit = try rule.choice("reset_unit", ResetUnit.allCases.map(\.rawValue)).flatMap(ResetUnit.init) ?? .automatic
        reserve = try rule.integer("reserve", 0...1_000_000) ?? 0
        if (remaining == nil) != (reset == nil) { throw rule.fault("remaining", "and reset go together: give both, or neither") }
        try rule.finish()
    }

    private static let remainingNames = ["x-ratelimit-remaining", "ratelimit-remaining", "x-rate-limit-remaining"]
    private static let limitNames = ["x-ratelimit-limit", "ratelimit-limit", "x-rate-limit-limit"]
    private static let resetNames = ["x-ratelimit-reset", "ratelimit-reset", "x-rate-limit-reset"]

    /// What the headers of an answer say. What cannot be read is as if it were not there.
    public func report(_ headers: [HTTPField], now: Timestamp) -> RateReport {
        var report = RateReport(retryAfter: headers.first("retry-after").flatMap { RetryAfter.parse($0, now: now) })
        func first(_ named: String?, _ names: [String]) -> String? {
            if let named { return headers.first(named) }
            return names.lazy.compactMap { headers.first($0) }.first
        }
        report.remaining = first(remaining, Self.remainingNames).flatMap(RateLimitRule.number)
        report.limit = first(limit, Self.limitNames).flatMap(RateLimitRule.number)
        report.resetAfter = first(reset, Self.resetNames).flatMap { span($0, now) }
        if remaining == nil, report.remaining == nil || report.resetAfter == nil,
            let structured = RateLimitRule.structured(headers)
        {
            report.remaining = structured.remaining
            report.resetAfter = structured.resetAfter
            report.limit = structured.limit ?? report.limit
        }
        return report
    }

    /// A whole number, perhaps with a fraction or with what the older drafts allow after it (`100, 100;w=60`).
    private static func number(_ text: String) -> Int64? {
        let head = text.prefix { $0 != "," && $0 != ";" }.filter { $0 != " " }
        return Double(head).flatMap { $0 >= 0 && $0 < 1e15 ? Int64($0) : nil }
    }

    private func span(_ text: String, _ now: Timestamp) -> Span? {
        if resetUnit == .date || resetUnit == .automatic, let time = RateLimitRule.date(text) { return max(.zero, time - now) }
        let head = text.prefix { $0 != "," && $0 != ";" }.filter { $0 != " " }
        guard let value = Double(head), value >= 0, value < 1e15 else { return nil }
        func until(_ milliseconds: Double) -> Span { max(.zero, Timestamp(milliseconds: Int64(milliseconds)) - now) }
        switch resetUnit {
        case .seconds: return .milliseconds(Int64(min(value, 1e9) * 1000))
        case .milliseconds: return .milliseconds(Int64(value))
        case .epochSeconds: return until(min(value, 1e11) * 1000)
        case .epochMilliseconds: return until(value)
        case .date: return nil
        case .automatic:
            if value >= 1e12 { return until(value) }
            return value >= 1e9 ? until(value * 1000) : .milliseconds(Int64(value * 1000))
        }
    }

    private static func date(_ text: String) -> Timestamp? {
        if let time = HTTPDate.parse(text) { return time }
        if case .milliseconds(let time) = Times.rfc3339(text) { return Timestamp(milliseconds: time) }
        return nil
    }

    /// `RateLimit: "default";r=50;t=30` with `RateLimit-Policy: "default";q=100;w=60`, or the drafts before
    /// (`RateLimit: limit=100, remaining=50, reset=30`). Of several policies the one with the least left counts.
    /// Source: draft-ietf-httpapi-ratelimit-headers.
    private static func structured(_ headers: [HTTPField]) -> (remaining: Int64, resetAfter: Span, limit: Int64?)? {
        guard let text = headers.first("ratelimit") else { return nil }
        let quotas = headers.first("ratelimit-policy").map(items) ?? []
        var best: (remaining: Int64, resetAfter: Span, limit: Int64?)?
        for item in items(text) {
            guard let remaining = item.values["r"], let seconds = item.values["t"], seconds < 1_000_000_000 else { continue }
            let limit = quotas.first { $0.name == item.name }?.values["q"]
            if best.map({ remaining < $0.remaining }) ?? true { best = (remaining, .seconds(seconds), limit) }
        }
        if let best { return best }
        let flat = items(text.split(separator: ",").joined(separator: ";"))[0].values
        guard let remaining = flat["remaining"], let seconds = flat["reset"], seconds < 1_000_000_000 else { return nil }
        return (remaining, .seconds(seconds), flat["limit"])
    }

    /// Members of a list, each a name and its integer parameters.
    private static func items(_ text: String) -> [(name: String, values: [String: Int64])] {
        text.split(separator: ",", maxSplits: 20, omittingEmptySubsequences: false).map { member in
            let parts = member.split(separator: ";").map { $0.filter { $0 != " " && $0 != "\"" } }
            var values: [String: Int64] = [:]
            for part in parts {
                let pair = part.split(separator: "=", maxSplits: 1)
                if pair.count == 2, let value = Int64(pair[1]), value >= 0 { values[String(pair[0])] = value }
            }
            return (parts.first ?? "", values)
        }
    }
}
