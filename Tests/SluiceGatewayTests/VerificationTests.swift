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
        for _ in 1...4 { _ = await bench.accept(forged) }
        #expect(bench.alarms.standing.isEmpty)
        _ = await bench.accept(forged)
        #expect(bench.alarms.standing.map(\.kind) == [.verificationFailing])
        #expect(bench.alarms.standing.first?.subject == "connection shop")
        #expect(bench.alarms.standing.first?.message.contains("missing_header") == true)
        #expect(await bench.accept(bench.webhook(Self.body)).status == 200)
        #expect(bench.alarms.standing.isEmpty)
    }

    @Test func P8_aSuccessBetweenOrALongTimeRaisesNoAlarm() async {
        let bench = Bench()
        let forged = WebhookRequest(method: "POST", path: Bench.path, query: "", headers: [], body: [])
        for _ in 1...4 { _ = await bench.accept(forged) }
        _ = await bench.accept(bench.webhook(Self.body))
        for _ in 1...4 { _ = await bench.accept(forged) }
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
        #expect(watch.failed(.stale, at: Timestamp(seconds: 1000)) == .raise(failures: 5))
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
