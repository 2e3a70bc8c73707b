import SluiceCore
import Testing

@testable import SluiceConnectors

@Suite struct RateLimitTests {
    static let now = Timestamp(seconds: 1_767_261_600)

    static func rule(_ json: String = "{}") throws -> RateLimitRule {
        try ConnectionAccess(json: try JSONDocument(Array(#"{"rate_limit":\#(json)}"#.utf8))).rateLimit
    }

    static func report(_ headers: [(String, String)], _ rule: String = "{}") throws -> RateReport {
        try Self.rule(rule).report(headers.map { HTTPField($0.0, $0.1) }, now: now)
    }

    /// As providers write them.
    @Test func headersThatManyProvidersUse() throws {
        let github = try Self.report([("X-RateLimit-Limit", "5000"), ("X-RateLimit-Remaining", "12"), ("X-RateLimit-Reset", "1767261900")])
        #expect(github == RateReport(remaining: 12, limit: 5000, resetAfter: .seconds(300)))
        let delta = try Self.report([("x-ratelimit-remaining", "0"), ("x-ratelimit-reset", "59.5")])
        #expect(delta == RateReport(remaining: 0, resetAfter: .milliseconds(59_500)))
        let milliseconds = try Self.report([("X-Rate-Limit-Remaining", "1"), ("X-Rate-Limit-Reset", "1767261610000")])
        #expect(milliseconds.resetAfter == .seconds(10))
        let date = try Self.report([("X-RateLimit-Remaining", "3"), ("X-RateLimit-Reset", "2026-01-01T10:01:00Z")])
        #expect(date.resetAfter == .seconds(60))
        let past = try Self.report([("X-RateLimit-Remaining", "0"), ("X-RateLimit-Reset", "1767261000")])
        #expect(past.resetAfter == .zero, "a reset in the past holds nobody back")
        #expect(try Self.report([("Retry-After", "7")]) == RateReport(retryAfter: .seconds(7)))
        #expect(try Self.report([("Retry-After", "Thu, 01 Jan 2026 10:00:30 GMT")]).retryAfter == .seconds(30))
    }

    /// draft-ietf-httpapi-ratelimit-headers, the newest form and those before it.
    @Test func headersOfTheDraft() throws {
        let new = try Self.report([("RateLimit", "\"default\";r=50;t=30"), ("RateLimit-Policy", "\"default\";q=100;w=60")])
        #expect(new == RateReport(remaining: 50, limit: 100, resetAfter: .seconds(30)))
        let several = try Self.report([
            ("RateLimit", "\"day\";r=900;t=3600, \"burst\";r=2;t=9"), ("RateLimit-Policy", "\"burst\";q=10;w=10,\"day\";q=1000;w=86400"),
        ])
        #expect(several == RateReport(remaining: 2, limit: 10, resetAfter: .seconds(9)), "the one with the least left")
        let old = try Self.report([("RateLimit", "limit=100, remaining=50, reset=5")])
        #expect(old == RateReport(remaining: 50, limit: 100, resetAfter: .seconds(5)))
        let older = try Self.report([("RateLimit-Limit", "10, 10;w=1"), ("RateLimit-Remaining", "9"), ("RateLimit-Reset", "1")])
        #expect(older == RateReport(remaining: 9, limit: 10, resetAfter: .seconds(1)))
    }

    @Test(arguments: ["", "x", "-1", "1e400", "r=;t=", ";;,;", "99999999999999999999", "\"a\";r=1", "NaN"])
    func whatCannotBeReadIsAsIfItWereNotThere(text: String) throws {
        let report = try Self.report([
            ("RateLimit", text), ("X-RateLimit-Remaining", text), ("X-RateLimit-Reset", text), ("Retry-After", text),
        ])
        #expect(report.resetAfter.map { $0 >= .zero } ?? true)
        #expect(report.remaining.map { $0 >= 0 } ?? true)
    }

    @Test(arguments: [
        ("seconds", "30"), ("milliseconds", "30000"), ("epoch_seconds", "1767261630"), ("epoch_milliseconds", "1767261630000"),
        ("date", "2026-01-01T10:00:30Z"), ("auto", "30"),
    ])
    func aConnectorMayNameItsHeadersAndTheirUnit(unit: String, text: String) throws {
        let rule = #"{"remaining":"X-Left","limit":"X-All","reset":"X-Again","reset_unit":"\#(unit)","reserve":5}"#
        let report = try Self.report([("x-left", "4"), ("x-all", "40"), ("x-again", text), ("X-RateLimit-Remaining", "0")], rule)
        #expect(report == RateReport(remaining: 4, limit: 40, resetAfter: .seconds(30)))
        #expect(try Self.rule(rule).reserve == 5)
    }
}
