import Crypto
import Foundation
import SluiceConnectors
import SluiceCore
import Testing

@testable import SluiceGateway

/// P8: what fails verification gets 401, leaves nothing, and raises an alarm when it goes on.
struct VerificationTests {
    static let body = #"{"id":"evt_1","type":"order"}"#

    enum Forgery: String, CaseIterable { case missing, malformed, stale, mismatch }

    static func headers(_ forgery: Forgery, _ bench: Bench) -> [HTTPField] {
        switch forgery {
        case .missing: []
        case .malformed: [HTTPField("X-Signature", "garbage")]
        case .stale: [HTTPField("X-Signature", bench.signature(body, age: 301))]
        case .mismatch: [HTTPField("X-Signature", bench.signature(body, secret: "another-secret"))]
        }
    }

    @Test(arguments: Forgery.allCases)
    func P8_forgedWebhookIsRefusedAndLeavesNothing(_ forgery: Forgery) async throws {
        let bench = Bench()
        let headers = Self.headers(forgery, bench)
        let request = WebhookRequest(method: "POST", path: Bench.path, query: "", headers: headers, body: Array(Self.body.utf8))
        let answer = await bench.accept(request)
        #expect(answer.status == 401)
        #expect(bench.inbox.entries.isEmpty)
        let text = String(decoding: answer.body, as: UTF8.self)
        let error = try JSONDocument(answer.body).root["error"]
        #expect(error?["code"]?.string == "unauthorized")
        #expect(text.contains(forgery == .missing ? "missing_header" : forgery == .malformed ? "malformed_header" : forgery.rawValue))
        #expect(!text.contains(Bench.secret) && !text.contains(bench.signature(Self.body).suffix(64)))
        #expect(bench.gateway.counters.connections[bench.connection.id]?.unverified == 1)
    }

    @Test func P8_repeatedRefusalsRaiseAnAlarmAndTheNextSuccessClearsIt() async {
        let bench = Bench()
        let forged = WebhookRequest(method: "POST", path: Bench.path, query: "", headers: [], body: [])
        for _ in 1...2 { _ = await bench.accept(forged) }
        #expect(bench.alarms.standing.isEmpty)
        _ = await bench.accept(forged)
        #expect(bench.alarms.standing.map(\.kind) == [.verificationFailing])
        #expect(bench.alarms.standing.first?.subject == "connection shop")
        #expect(bench.alarms.standing.first?.message.contains("missing_header") == true)
        #expect(bench.refusals.connections.isEmpty, "a forger must not be able to make it poll")
        #expect(await bench.accept(bench.webhook(Self.body)).status == 200)
        #expect(bench.alarms.standing.isEmpty)
        #expect(bench.refusals.connections == [bench.connection.id], "what was refused may have been the provider's own")
    }

    @Test func P8_aSuccessBetweenRaisesNoAlarm() async {
        let bench = Bench()
        let forged = WebhookRequest(method: "POST", path: Bench.path, query: "", headers: [], body: [])
        #expect(await bench.accept(bench.webhook(Self.body)).status == 200)
        for _ in 1...4 { _ = await bench.accept(forged) }
        _ = await bench.accept(bench.webhook(Self.body))
        for _ in 1...4 { _ = await bench.accept(forged) }
        #expect(bench.alarms.raised.isEmpty)
        bench.time.advance(by: .minutes(11))
        for _ in 1...4 { _ = await bench.accept(forged) }
        #expect(bench.alarms.raised.isEmpty)
        _ = await bench.accept(forged)
        #expect(bench.alarms.raised.count == 1)
    }

    @Test func P8_aFloodOfForgeriesRaisesOneAlarmUntilItsReasonChanges() {
        var watch = VerificationWatch()
        var raised = 0
        for second in 0..<1000 {
            if case .raise = watch.failed(.mismatch, at: Timestamp(seconds: Int64(second))) { raised += 1 }
        }
        #expect(raised == 1)
        #expect(watch.failed(.stale, at: Timestamp(seconds: 1000)) == .raise(failures: 1001))
        // Reasons that change with each forgery are a flood as well.
        for second in 1001..<1600 {
            #expect(watch.failed(second % 2 == 0 ? .stale : .mismatch, at: Timestamp(seconds: Int64(second))) == .none)
        }
    }

    private static func raises(_ failures: [Int64], after success: Int64?) -> [Int64] {
        var watch = VerificationWatch()
        if let success { _ = watch.succeeded(at: Timestamp(seconds: success)) }
        return failures.filter { if case .raise = watch.failed(.mismatch, at: Timestamp(seconds: $0)) { true } else { false } }
    }

    /// A wrong secret shows however seldom webhooks come.
    @Test func P8_aWrongSecretOnAQuietConnectionRaisesAnAlarm() {
        let (minute, hour, day): (Int64, Int64, Int64) = (60, 3600, 86_400)
        // Never one that verified: the third says so.
        #expect(Self.raises([0, 5 * minute, 10 * minute], after: nil) == [10 * minute])
        #expect(Self.raises([0, day, 2 * day], after: nil) == [day])
        // The secret was changed at the provider; one webhook every five minutes, one an hour, one a day.
        #expect(Self.raises((1...13).map { $0 * 5 * minute }, after: 0).first == 12 * 5 * minute, "an hour after the last success")
        #expect(Self.raises([hour, 2 * hour], after: 0) == [2 * hour])
        #expect(Self.raises([day, 2 * day], after: 0) == [2 * day])
        #expect(Self.raises([day, day + 1, day + 2], after: 0) == [day + 2], "one webhook, sent again and again")
        #expect(Self.raises([day], after: 0) == [], "one alone may be anybody's")
    }

    /// Who knows the URL and not the secret raises nothing while webhooks verify.
    @Test func P8_forgeriesBetweenWebhooksThatVerifyRaiseNoAlarm() {
        var watch = VerificationWatch()
        _ = watch.succeeded(at: Timestamp(seconds: 0))
        for second in 1...7200 as ClosedRange<Int64> {
            let now = Timestamp(seconds: second)
            if second % 59 == 0 { #expect(watch.succeeded(at: now) == .none) }
            #expect(watch.failed(second % 2 == 0 ? .stale : .mismatch, at: now) == .none, "at \(second)")
        }
        // Two in a row seldom: a few forgeries an hour against a webhook every half hour.
        for half in 4...52 as ClosedRange<Int64> {
            #expect(watch.succeeded(at: Timestamp(seconds: half * 1800)) == .none)
            for offset in [300, 900, 1500] as [Int64] {
                #expect(watch.failed(.mismatch, at: Timestamp(seconds: half * 1800 + offset)) == .none)
            }
        }
    }

    /// The one that raised it goes with the next success, and what comes after counts anew.
    @Test func P8_aSuccessClearsAndForgets() {
        var watch = VerificationWatch()
        #expect(watch.succeeded(at: Timestamp(seconds: 0)) == .clear(wasRaised: false), "one may stand from before this process")
        #expect(watch.succeeded(at: Timestamp(seconds: 1)) == .none)
        for second in 61...64 as ClosedRange<Int64> { #expect(watch.failed(.mismatch, at: Timestamp(seconds: second)) == .none) }
        #expect(watch.failed(.mismatch, at: Timestamp(seconds: 65)) == .raise(failures: 5))
        #expect(watch.succeeded(at: Timestamp(seconds: 66)) == .clear(wasRaised: true))
        for second in 126...129 as ClosedRange<Int64> { #expect(watch.failed(.mismatch, at: Timestamp(seconds: second)) == .none) }
    }

    @Test func eachSecretOfARotationIsTaken() async {
        let bench = Bench()
        var connection = bench.connection
        connection.secrets = ["the-new-secret", Bench.secret]
        #expect(await bench.gateway.accept(bench.webhook(Self.body), connection: connection, isForced: false).status == 200)
    }

    @Test func theUnsafeSchemeTakesEverything() async {
        let bench = Bench(scheme: TestScheme.unsigned)
        let request = WebhookRequest(method: "POST", path: Bench.path, query: "", headers: [], body: Array(Self.body.utf8))
        #expect(await bench.accept(request).status == 200)
        #expect(bench.inbox.entries.first?.topics == [Bench.orders])
    }

    /// The URL that a provider signs is the public one, whatever stands before the listener.
    @Test func aSchemeThatSignsTheURLGetsThePublicOne() async throws {
        let square = try #require(SignatureScheme.named("square"))
        let body = Array(Self.body.utf8)
        let key = SymmetricKey(data: Array(Bench.secret.utf8))
        let signed = Array("https://hooks.example.com\(Bench.path)".utf8) + body
        let signature = Data(HMAC<SHA256>.authenticationCode(for: signed, using: key)).base64EncodedString()
        let request = WebhookRequest(
            method: "POST", path: Bench.path, query: "", headers: [HTTPField("x-square-hmacsha256-signature", signature)], body: body)
        for (publicURL, status) in [("https://hooks.example.com", 200), ("https://elsewhere.example.com", 401), (nil, 401)] {
            #expect(await Bench(scheme: square, publicURL: publicURL).gateway.respond(to: request).status == status)
        }
    }
}
