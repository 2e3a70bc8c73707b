import SluiceCore
import Synchronization
import Testing

@testable import SluiceConnectors

@Suite struct SubscriptionRulesTests {
    /// Answers in order, and remembers what was asked.
    final class Script: HTTPSending {
        private let state: Mutex<(answers: [HTTPReply], asked: [HTTPRequestPlan])>
        init(_ answers: [(Int, String)]) {
            state = Mutex((answers.map { HTTPReply(status: $0.0, headers: [], body: Array($0.1.utf8)) }, []))
        }
        var asked: [HTTPRequestPlan] { state.withLock { $0.asked } }
        func send(_ request: HTTPRequestPlan) async throws -> HTTPReply {
            try state.withLock { state in
                state.asked.append(request)
                guard !state.answers.isEmpty else { throw SluiceError(.internalError, "no answer is left") }
                return state.answers.removeFirst()
            }
        }
    }

    static func rules(_ json: String) throws -> SubscriptionRules { try SubscriptionRules(json: try JSONDocument(Array(json.utf8))) }

    /// As for GitHub.
    static let github = """
        {"base_url": "https://api.example.com", "auth": {"bearer": "{connection.token}"}, "headers": {"X-Version": "1"},
         "create": {"path": "/repos/{input.owner}/hooks",
                    "body": {"config": {"url": "{webhook.url}", "secret": "{webhook.secret}"}, "events": "{input.events|push}", "note": "{input.note}"}},
         "id": "id", "output": {"at": "config.at"},
         "list": {"path": "/repos/{input.owner}/hooks", "url": "config.url", "active": {"path": "active", "is": "true"},
                  "expect": {"events": "{input.events}"}, "next": "next"},
         "delete": {"path": "/repos/{input.owner}/hooks/{output.id}"}}
        """
    /// As for Microsoft Graph.
    static let graph = """
        {"base_url": "{connection.site|https://graph.example.com}", "auth": {"basic": {"user": "{connection.token}"}},
         "create": {"path": "/subscriptions", "form": {"notificationUrl": "{webhook.url}", "until": "{webhook.expires_at}", "types": ["a", "b"]}},
         "expires_at": "expirationDateTime", "lifetime_seconds": 3600, "secret": "clientState",
         "refresh": {"path": "/subscriptions/{output.id}", "body": {"expirationDateTime": "{webhook.expires_at}"}},
         "delete": {"path": "/subscriptions/{output.id}", "query": {"why": "{input.none}"}}}
        """

    static func request(_ input: String = #"{"owner":"a b","events":["push","star"]}"#, output: String? = nil) throws -> SubscriptionRequest
    {
        SubscriptionRequest(
            triggerType: "t", connection: try JSONDocument(Array(#"{"token":"tok-canary"}"#.utf8)),
            input: try JSONDocument(Array(input.utf8)),
            webhookURL: "https://hooks.example.com/hooks/mine", secret: "secret-canary", output: output.map { Array($0.utf8) },
            now: Timestamp(seconds: 1_700_000_000))
    }

    @Test func itSubscribesAsDescribed() async throws {
        let rules = try Self.rules(Self.github)
        #expect(rules.traits.abilities == SubscriptionAbilities(canRefresh: false, canCheck: true))
        #expect(rules.traits.inputFields == ["events", "note", "owner"] && rules.traits.usesOfferedSecret)
        let http = Script([(201, #"{"id": 12345678901234567890, "config": {"at": "x"}}"#)])
        let answer = try await rules.subscribe(Self.request(), http: http)
        #expect(String(decoding: answer.output ?? [], as: UTF8.self) == #"{"id":12345678901234567890,"at":"x"}"#, "an id keeps its digits")
        #expect(answer.expiresAt == nil && answer.secret == nil)
        let asked = try #require(http.asked.first)
        #expect(asked.method == "POST" && asked.url == "https://api.example.com/repos/a%20b/hooks")
        #expect(asked.headers.first("Authorization") == "Bearer tok-canary" && asked.headers.first("X-Version") == "1")
        #expect(
            String(decoding: asked.body, as: UTF8.self)
                == #"{"config":{"url":"https://hooks.example.com/hooks/mine","secret":"secret-canary"},"events":["push","star"]}"#,
            "a list stays a list, and what has no value is left out")
    }

    @Test func whatEndsIsRefreshed() async throws {
        let rules = try Self.rules(Self.graph)
        #expect(rules.traits.abilities == SubscriptionAbilities(canRefresh: true, canCheck: false) && rules.traits.hasOwnSecret)
        let http = Script([
            (201, #"{"id":"g1","expirationDateTime":"2023-11-14T23:13:20Z","clientState":"theirs"}"#), (200, "{}"), (404, "{}"), (204, ""),
        ])
        let answer = try await rules.subscribe(Self.request(), http: http)
        #expect(answer.expiresAt == Timestamp(seconds: 1_700_003_600) && answer.secret == "theirs")
        let form = String(decoding: http.asked[0].body, as: UTF8.self)
        #expect(form == "notificationUrl=https%3A%2F%2Fhooks.example.com%2Fhooks%2Fmine&until=2023-11-14T23%3A13%3A20.000Z&types=a&types=b")
        let kept = try Self.request(output: #"{"id":"g1"}"#)
        #expect(try await rules.refreshSubscription(kept, http: http).expiresAt == Timestamp(seconds: 1_700_003_600))
        #expect(http.asked[1].method == "PATCH" && http.asked[1].url == "https://graph.example.com/subscriptions/g1")
        #expect(try await rules.refreshSubscription(kept, http: http).status == .missing)
        try await rules.unsubscribe(kept, http: http)
        #expect(http.asked[3].method == "DELETE" && http.asked[3].url.hasSuffix("/subscriptions/g1"))
    }

    @Test func P11_aCheckTellsWhatTheProviderHas() async throws {
        let rules = try Self.rules(Self.github)
        func item(_ id: Int, _ url: String, active: Bool = true, events: String = #"["star","push"]"#) -> String {
            #"{"id":\#(id),"config":{"url":"\#(url)"},"active":\#(active),"events":\#(events)}"#
        }
        let mine = "https://hooks.example.com/hooks/mine"
        func check(_ pages: [String], output: String? = #"{"id":7}"#) async throws -> SubscriptionAnswer {
            try await rules.checkSubscription(Self.request(output: output), http: Script(pages.map { (200, $0) }))
        }
        #expect(try await check(["[\(item(7, mine))]"]).status == .active, "the order of a list does not matter")
        #expect(try await check(["[\(item(7, mine, active: false))]"]).status == .disabled)
        #expect(try await check(["[\(item(7, mine, events: #"["push"]"#))]"]).status == .drifted)
        #expect(try await check(["[\(item(7, "https://elsewhere.example.com/x"))]"]).status == .drifted)
        let found = try await check([
            "[\(item(8, mine)),\(item(9, "https://hooks.example.com/hooks/other")),\(item(10, "https://hooks.example.com/elsewhere"))]"
        ])
        #expect(found.status == .missing && found.others?.map(\.id) == ["8", "9"], "only what comes to this server is ours")
        let adopted = try await check(["[\(item(8, mine))]"], output: nil)
        #expect(adopted.status == .active && adopted.output.map { String(decoding: $0, as: UTF8.self) } == #"{"id":8}"#)
        await #expect(throws: PollFailure.self, "a list that cannot be read is not an empty one") { try await check(["{}"]) }
    }

    @Test func pagesOfAListAreFollowedOnTheSameHostOnly() async throws {
        let rules = try Self.rules(
            Self.github.replacing(#""path": "/repos/{input.owner}/hooks", "url""#, with: #""path": "/h", "items": "hooks", "url""#))
        let second = #"{"hooks":[{"id":7,"config":{"url":"https://hooks.example.com/hooks/mine"},"active":true,"events":["push","star"]}]}"#
        let http = Script([(200, #"{"hooks":[],"next":"/h?page=2"}"#), (200, second)])
        #expect(try await rules.checkSubscription(Self.request(output: #"{"id":7}"#), http: http).status == .active)
        #expect(http.asked.map(\.url) == ["https://api.example.com/h", "https://api.example.com/h?page=2"])
        // Relative to the page that names it (RFC 3986, 5.1.3).
        for (next, url) in [("?page=2", "https://api.example.com/h?page=2"), ("h2?page=2", "https://api.example.com/h2?page=2")] {
            let relative = Script([(200, #"{"hooks":[],"next":"\#(next)"}"#), (200, second)])
            #expect(try await rules.checkSubscription(Self.request(output: #"{"id":7}"#), http: relative).status == .active)
            #expect(relative.asked.last?.url == url)
        }
        let elsewhere = Script([(200, #"{"hooks":[],"next":"https://evil.example.com/h"}"#)])
        await #expect(throws: PollFailure.self) { try await rules.checkSubscription(Self.request(output: #"{"id":7}"#), http: elsewhere) }
    }

    @Test func aRefusalQuotesTheAnswerWithoutOurSecrets() async throws {
        let rules = try Self.rules(Self.github)
        let http = Script([(422, #"{"message":"secret-canary and https://hooks.example.com/hooks/mine are wrong"}"#)])
        let failure = await #expect(throws: PollFailure.self) { try await rules.subscribe(Self.request(), http: http) }
        #expect(failure?.kind == .permanent && failure?.error.message.contains("422") == true)
        #expect(failure?.error.message.contains("canary") == false && failure?.error.message.contains("/hooks/mine") == false)
    }

    @Test(arguments: [
        (#"{"base_url": "https://x.example.com"}"#, "subscription.create is missing"),
        (#"{"create": {"path": "/"}, "delete": {"path": "/"}}"#, "subscription.base_url is missing"),
        (#"{"base_url": "https://x", "create": {"path": "/"}}"#, "subscription.delete is missing"),
        (#"{"base_url": "https://x", "create": {"path": "/{webhok.url}"}, "delete": {"path": "/"}}"#, "must begin with"),
        (#"{"base_url": "https://x", "create": {"path": "/", "bdy": {}}, "delete": {"path": "/"}}"#, "bdy"),
        (#"{"base_url": "https://x", "create": {"path": "/"}, "delete": {"path": "/"}, "list": {"path": "/"}}"#, "list.url is missing"),
    ])
    func mistakesAreNamed(json: String, words: String) {
        let error = #expect(throws: SluiceError.self) { try Self.rules(json) }
        #expect(error?.message.contains(words) == true, "\(error?.message ?? "")")
    }

    @Test func endsAreReadAsProvidersWriteThem() throws {
        for (text, seconds) in [
            ("1700000000", 1_700_000_000), ("1700000000000", 1_700_000_000), (#""2023-11-14T22:13:20Z""#, 1_700_000_000),
            (#""1700000000""#, 1_700_000_000),
        ] {
            #expect(SubscriptionTime.read(try JSONDocument(Array(text.utf8)).root) == Timestamp(seconds: Int64(seconds)), "\(text)")
        }
        #expect(SubscriptionTime.read(try JSONDocument(Array(#""soon""#.utf8)).root) == nil)
    }
}
