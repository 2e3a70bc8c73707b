import SluiceCore
import Testing

@testable import SluiceConnectors

@Suite struct ConnectorTests {
    private let t0: Int64 = 1_700_000_000

    /// A provider that changes between requests, hides some records for seconds and lets pages shift.
    private func hostile(_ seed: UInt64) -> FakeProvider {
        FakeProvider { state in
            for index in 0..<250 { state.put("r\(index)", 1_700_000_000 - 900 + Int64(index / 3)) }
            var random = SplitMix(seed: seed)
            let seeds = (0..<4000).map { _ in random.next() }
            state.beforeAnswer = { state, number in
                state.nowSeconds += 1
                guard number < 60 else { return }
                for step in 0..<4 {
                    let draw = seeds[number * 8 + step]
                    let hidden: Int64 = draw % 5 == 0 ? Int64(draw % 4) : 0
                    state.put("r\(draw % 400)", state.nowSeconds, visibleFrom: state.nowSeconds + hidden)
                }
            }
        }
    }

    private func follow(_ make: (FakeProvider) throws -> Follower, seed: UInt64) async throws -> (missing: Set<String>, doubled: Int) {
        let provider = hostile(seed)
        var follower = try make(provider)
        for round in 0..<40 {
            follower.nowSeconds = provider.change { $0.nowSeconds }
            // Sometimes the process dies between pages, with or without the page state.
            try await follower.cycle(pagesMax: round % 3 == 0 ? 2 : 500)
            if round % 6 == 0 { follower.pageState = nil }
        }
        provider.change { $0.nowSeconds += 20 }
        try await follower.cycle()
        return (provider.versions.subtracting(follower.jobs), follower.jobs.count - Set(follower.jobs).count)
    }

    @Test(arguments: 1...40 as ClosedRange<UInt64>) func P4_chargebeeAsDataAndInSwiftBothMissNothing(_ seed: UInt64) async throws {
        let incremental = try Rules.incremental(Rules.chargebee)
        let asData = try await follow({ Follower(incremental, $0) }, seed: seed)
        #expect(asData.missing.isEmpty && asData.doubled == 0, "seed \(seed): \(asData.missing)")
        let inSwift = try await follow({ Follower(ChargebeeSwift.connector, $0) }, seed: seed)
        #expect(inSwift.missing.isEmpty && inSwift.doubled == 0, "seed \(seed): \(inSwift.missing)")
    }

    @Test func thePlainRecipeMissesSomethingThere() async throws {
        let plain = try Rules.incremental(Rules.chargebee) {
            $0.cursor?.overlap = 0
            $0.cursor?.visibilityLag = .zero
        }
        var missing = 0
        for seed in 1...10 as ClosedRange<UInt64> { missing += try await follow({ Follower(plain, $0) }, seed: seed).missing.count }
        #expect(missing > 0)
    }

    @Test func bothFormsGiveTheSameJobs() async throws {
        let provider = FakeProvider { state in for index in 0..<230 { state.put("r\(index)", t0 - 500 + Int64(index / 4)) } }
        var asData = Follower(try Rules.incremental(Rules.chargebee), provider)
        var inSwift = Follower(ChargebeeSwift.connector, provider)
        try await asData.cycle()
        try await inSwift.cycle()
        #expect(asData.jobs.sorted() == inSwift.jobs.sorted())
        #expect(asData.jobs.count == 230)
    }

    @Test func webhooksOfChargebeeAreKeyedByTheirFirstWord() throws {
        let connector = ChargebeeSwift.connector
        func keys(_ body: String) throws -> [String] {
            try connector.webhookKeys(WebhookRequest(method: "POST", path: "/", query: "", headers: [], body: Array(body.utf8)))
        }
        #expect(try keys(#"{"id":"ev_1","event_type":"subscription_renewal_reminder"}"#) == ["subscription"])
        let payment = #"{"event_type":"payment_failed","content":{"transaction":{},"payment_source":{},"invoice":{},"credit_note":{}}}"#
        #expect(try keys(payment) == ["payment", "transaction", "invoice", "credit"])
        #expect(throws: SluiceError.self) { try keys("{}") }
        #expect(throws: SluiceError.self) { try keys("{") }
        let input = try JSONDocument(Array(#"{"resource":"invoice"}"#.utf8))
        #expect(try connector.webhookKey(triggerType: "updated_record", input: input) == "invoice")
        #expect(throws: SluiceError.self) { try connector.webhookKey(triggerType: "other", input: input) }
        #expect(connector.definition.webhook?.scheme == "basic-auth")
        #expect(connector.definition.trigger("updated_record")?.kind == .hybrid)
        #expect(connector.help(webhookBaseURL: "https://in.test/x").contains("https://in.test/x"))
    }

    @Test func aTriggerTypeTakesItsBoundsFromIncremental() throws {
        let rules = try Rules.incremental(Rules.chargebee) { $0.retention = .days(3) }
        let connector = ConnectorDescription("orders", title: "Orders", version: "2") {
            for name in ["site_url", "api_key"] { Field(name) }
            TriggerType("updated", title: "Updated") {
                Input(Field("resource"))
                Poll(rules)
            }
        }
        let trigger = try #require(connector.definition.trigger("updated"))
        #expect(trigger.kind == .polling)
        #expect(trigger.lookback == 61)
        #expect(trigger.visibilityLag == .seconds(5))
        #expect(trigger.retention == .days(3))
        #expect(connector.definition.connectionFields.map(\.name) == ["site_url", "api_key"])
        #expect(connector.definition.hash == "swift:orders@2")
        #expect(try connector.webhookKeys(WebhookRequest(method: "POST", path: "/", query: "", headers: [], body: [])) == [])
    }

    /// A poll that starts with its webhook may come before the record shows: it must not be the last one for it.
    @Test func P2_whoeverReadsAgainBelowTheMarkSupposesALag() throws {
        func lag(_ kind: CursorRule.Kind, lookback: Int64, declared: Span? = nil) -> Span {
            var rule = CursorRule(field: JSONPath(["at"]), parameter: "since", kind: kind)
            (rule.lookback, rule.declaredVisibilityLag) = (lookback, declared)
            return rule.signalLag
        }
        #expect(lag(.unixSeconds, lookback: 60) == .seconds(10) && lag(.rfc3339, lookback: 60_000) == .seconds(10))
        #expect(lag(.unixSeconds, lookback: 3) == .seconds(3) && lag(.unixNanoseconds, lookback: 1_500_000_000) == .milliseconds(1500))
        #expect(lag(.unixSeconds, lookback: 0) == .zero && lag(.integer, lookback: 60) == .zero)
        #expect(
            lag(.unixSeconds, lookback: 60, declared: .zero) == .zero
                && lag(.unixSeconds, lookback: 60, declared: .seconds(90)) == .seconds(90))
        #expect(lag(.unixNanoseconds, lookback: .max) == .seconds(10))

        func trigger(_ lag: String) throws -> TriggerTypeDefinition? {
            let json = """
                {"base_url": "https://a.test", "path": "/x", "records": "list", "dedup": {"id": "id", "version": "at"},
                 "cursor": {"field": "at", "parameter": "since", "type": "rfc3339", "order": "asc", "lookback_seconds": 60\(lag)}}
                """
            let rules = try Incremental(json: JSONDocument(Array(json.utf8), depthMax: 80))
            return ConnectorDescription("orders", title: "Orders", version: "2") {
                TriggerType("updated", title: "Updated") {
                    WebhookKey { _ in "order" }
                    Poll(rules)
                }
            }.definition.trigger("updated")
        }
        #expect(try trigger("")?.kind == .hybrid)
        #expect(try trigger("")?.visibilityLag == .seconds(10))
        #expect(try trigger(", \"visibility_lag_seconds\": 0")?.visibilityLag == .zero)
        #expect(try trigger(", \"visibility_lag_seconds\": 25")?.visibilityLag == .seconds(25))
    }

    @Test func oneRecordWithoutAKeyDoesNotBreakTheOthers() throws {
        let records = [#"{"id":"a","updated_at":1}"#, #"{"id":"b"}"#, #"{"id":"a","updated_at":1,"resource_version":1002}"#].map {
            Record(bytes: Array($0.utf8)[...])
        }
        let keys = try ChargebeeSwift.connector.dedupKeys(triggerType: "updated_record", records: records)
        #expect(try String(decoding: keys[0].get(), as: UTF8.self) == "a@1")
        #expect(throws: SluiceError.self) { try keys[1].get() }
        #expect(try String(decoding: keys[2].get(), as: UTF8.self) == "a@1", "its states are told apart beside it")
    }
}

/// Numbers that one seed reproduces. Source: Steele, Lea and Flood, "Fast splittable pseudorandom number generators".
struct SplitMix {
    private var state: UInt64
    init(seed: UInt64) { state = seed }
    mutating func next() -> UInt64 {
        state &+= 0x9E37_79B9_7F4A_7C15
        var value = state
        value = (value ^ (value >> 30)) &* 0xBF58_476D_1CE4_E5B9
        value = (value ^ (value >> 27)) &* 0x94D0_49BB_1331_11EB
        return value ^ (value >> 31)
    }
}
