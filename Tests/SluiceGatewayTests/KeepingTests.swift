import SluiceConnectors
import SluiceCore
import SluiceStore
import Testing

@testable import SluiceGateway

/// After verification: whom a webhook signals, what is kept of it, and what happens when it cannot be kept.
struct KeepingTests {
    struct Case: Sendable, CustomTestStringConvertible {
        var testDescription: String
        var body: [UInt8]
        var topics: [TopicID]
        var reason: String?
        init(_ name: String, _ body: String, _ topics: [TopicID], _ reason: String?) {
            self.init(name, bytes: Array(body.utf8), topics, reason)
        }
        init(_ name: String, bytes: [UInt8], _ topics: [TopicID], _ reason: String?) {
            testDescription = name
            self.body = bytes
            self.topics = topics
            self.reason = reason
        }
    }

    static let deep = String(repeating: "[", count: 65) + String(repeating: "]", count: 65)

    @Test(arguments: [
        Case("known key", #"{"type":"order"}"#, [Bench.orders], nil),
        Case("several keys", #"{"types":["refund","order","refund","x"]}"#, [Bench.refunds, Bench.orders], nil),
        Case("unknown key", #"{"type":"invoice"}"#, [], "no trigger listens for key invoice"),
        Case("no key", #"{"a":1}"#, [Bench.whole], "webhook_keys gave no key"),
        Case("keys that throw", #"{"type":"boom"}"#, [Bench.whole], "connector.lua:7: attempt to index a nil value"),
        Case("not JSON", "type=order", [Bench.whole], "unexpected byte"),
        Case("not UTF-8", bytes: Array(#"{"type":"order"#.utf8) + [0xFF] + Array(#""}"#.utf8), [Bench.whole], "UTF-8"),
        Case("too deep", deep, [Bench.whole], "nested too deeply"),
        Case("empty", "", [Bench.whole], "ends too early"),
    ])
    func verifiedWebhookIsKeptWhateverItsBodySays(_ one: Case) async throws {
        let bench = Bench()
        let answer = await bench.accept(bench.webhook(one.body))
        #expect(answer.status == 200)
        let entry = try #require(bench.inbox.entries.first)
        #expect(entry.topics == one.topics)
        #expect(entry.body == one.body)
        #expect((entry.unmatchedReason == nil) == (one.reason == nil))
        if let reason = one.reason { #expect(entry.unmatchedReason?.contains(reason) == true, "\(entry.unmatchedReason ?? "")") }
        #expect(bench.gateway.counters.unmatched == (one.reason == nil ? 0 : 1))
        #expect(bench.gateway.counters.accepted == 1)
    }

    @Test func aBodyThatIsNotJSONIsMatchedIfTheConnectorCanDoWithout() async {
        let bench = Bench()
        _ = await bench.accept(bench.webhook("type=order", headers: [HTTPField("X-Type", "order")]))
        #expect(bench.inbox.entries.first?.topics == [Bench.orders])
        // But an unknown key made from an unreadable body is not taken for an answer.
        _ = await bench.accept(bench.webhook("type=order", headers: [HTTPField("X-Type", "nonsense")]))
        #expect(bench.inbox.entries.last?.topics == [Bench.whole])
    }

    @Test func aRepeatedDeliveryIsStoredOnceUnlessForced() async {
        let bench = Bench()
        let first = await bench.accept(bench.webhook(#"{"id":"e1","type":"order"}"#))
        bench.time.advance(by: .seconds(60))
        let second = await bench.accept(bench.webhook(#"{"id":"e1","type":"order"}"#))
        #expect(second.status == 200 && second.isRepeated && second.sequence == first.sequence)
        #expect(bench.inbox.entries.count == 1)
        let changed = await bench.accept(bench.webhook(#"{"id":"e1","type":"order","changed":true}"#))
        let forced = await bench.accept(bench.webhook(#"{"id":"e1","type":"order"}"#), isForced: true)
        #expect(!changed.isRepeated && !forced.isRepeated)
        #expect(bench.inbox.entries.count == 3)
        #expect(bench.gateway.counters.repeated == 1 && bench.gateway.counters.accepted == 3)
    }

    @Test func theDigestTellsConnectionURLIDAndBodyApart() {
        let bench = Bench()
        func digest(id: Int64 = 7, path: String = "/hooks/a", delivery: String = "d", body: String = "b") -> [UInt8] {
            var connection = bench.connection
            connection.id = ConnectionID(id)
            let request = WebhookRequest(method: "POST", path: path, query: "", headers: [], body: Array(body.utf8))
            return InboxDraft.digest(connection, request, deliveryID: delivery)
        }
        let all = [
            digest(), digest(id: 8), digest(path: "/hooks/ad", delivery: ""), digest(path: "/hooks/b"), digest(delivery: "db", body: ""),
            digest(body: "c"),
        ]
        #expect(Set(all).count == all.count)
        #expect(digest() == digest() && digest().count == 32)
    }

    @Test func withoutASignedBodyNoRepetitionIsRecognised() async {
        let bench = Bench(scheme: TestScheme.unsigned)
        for _ in 1...2 { _ = await bench.accept(bench.webhook(#"{"id":"e1","type":"order"}"#)) }
        #expect(bench.inbox.entries.count == 2)
        #expect(bench.inbox.entries.allSatisfy { $0.deliveryDigest == nil && $0.deliveryID == "e1" })
    }

    @Test func theDeliveryIDMayStandInAHeader() async {
        let bench = Bench(deliveryID: .header("X-Delivery"))
        for id in ["a", "a", "b"] { _ = await bench.accept(bench.webhook(#"{"type":"order"}"#, headers: [HTTPField("x-delivery", id)])) }
        #expect(bench.inbox.entries.map(\.deliveryID) == ["a", "b"])
    }

    @Test func P8_whatIsKeptShowsNoCredential() async throws {
        let bench = Bench()
        let credentials = [
            HTTPField("Authorization", "Basic c2VjcmV0"), HTTPField("Cookie", "session=c2VjcmV0"), HTTPField("X-Other", "seen"),
        ]
        _ = await bench.accept(bench.webhook(#"{"type":"order"}"#, headers: credentials))
        let entry = try #require(bench.inbox.entries.first)
        let headers = String(decoding: entry.headers, as: UTF8.self)
        #expect(headers.contains("X-Other: seen") && headers.contains("Authorization: [redacted]"))
        #expect(!headers.contains("c2VjcmV0"))
        #expect(entry.path == "/hooks/secr…")
    }

    /// CloudEvents lets the token stand in the query: it is verified there, and is not kept.
    @Test(arguments: ["access_token=", "a=b&access_token=", "acces%73_token=", "access_token=wrong&access_token="])
    func P8_theTokenInAQueryIsNotKept(prefix: String) async throws {
        let scheme = try #require(SignatureScheme.named("cloudevents"))
        let bench = Bench(scheme: scheme)
        func webhook(_ query: String) -> WebhookRequest {
            WebhookRequest(method: "POST", path: Bench.path, query: query, headers: [], body: Array(#"{"type":"order"}"#.utf8))
        }
        let query = prefix.replacing("wrong", with: Bench.secret) + Bench.secret + "&after=1"
        #expect(await bench.accept(webhook(query)).status == 200, "\(query)")
        #expect(await bench.accept(webhook("access_token=another")).status == 401)
        let entry = try #require(bench.inbox.entries.first)
        #expect(bench.inbox.entries.count == 1)
        #expect(!entry.query.contains(Bench.secret) && entry.query.hasSuffix("[redacted]&after=1"), "\(entry.query)")
        #expect(!bench.logs.text.contains(Bench.secret))
        // What is kept of it can be matched again.
        let again = WebhookRequest(method: entry.method, path: entry.path, query: entry.query, headers: [], body: entry.body)
        let answer = await bench.gateway.keep(again, connection: bench.connection, isForced: true)
        #expect(answer.status == 200 && bench.inbox.entries.last?.topics == [Bench.orders])
    }

    @Test func aQueryWithoutCredentialsIsKeptAsItCame() throws {
        let scheme = try #require(SignatureScheme.named("cloudevents"))
        for query in ["", "a=b", "a=%20&&b=+&c", "=", "&", "token=a&access_tokens=b"] {
            #expect(scheme.visibleQuery(query) == query)
        }
        #expect(SignatureScheme.named("github")?.visibleQuery("access_token=a&b=c") == "access_token=[redacted]&b=c")
    }

    @Test(arguments: [(SluiceError.Code.overloaded, "overloaded"), (.diskFull, "disk_full"), (.storage, "storage")])
    func P6_whatCannotBeStoredIsAnswered503AndTheObserverHearsOfIt(_ code: SluiceError.Code, _ reason: String) async {
        let bench = Bench()
        bench.inbox.fail(with: SluiceError(code, "it does not work"))
        let answer = await bench.accept(bench.webhook(#"{"type":"order"}"#))
        #expect(answer.status == 503 && answer.reason == reason)
        #expect((answer.retryAfterSeconds ?? 0) >= 1)
        #expect(bench.refusals.connections == [bench.connection.id])
        #expect(bench.alarms.standing.map(\.kind) == (code == .overloaded ? [] : [.storage]))
        bench.inbox.fail(with: nil)
        #expect(await bench.accept(bench.webhook(#"{"type":"order"}"#)).status == 200)
        #expect(bench.alarms.standing.isEmpty)
    }
}
