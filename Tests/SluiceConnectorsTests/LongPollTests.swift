import SluiceConnectors
import SluiceCore
import Synchronization
import Testing

/// A source of numbered events that is restarted, forgets, and answers what was not asked for, as real ones do.
final class EventSource: HTTPSending {
    struct State {
        var life = "2026-01-01T00:00:00Z"
        /// What it still lists.
        var ids: [Int64] = []
        var requests: [HTTPRequestPlan] = []
    }
    let state = Mutex(State())

    func restart(_ life: String, ids: ClosedRange<Int64>) { state.withLock { ($0.life, $0.ids) = (life, Array(ids)) } }
    func say(_ ids: ClosedRange<Int64>) { state.withLock { $0.ids += ids } }
    var requests: [HTTPRequestPlan] { state.withLock { $0.requests } }

    func send(_ request: HTTPRequestPlan) async throws -> HTTPReply {
        state.withLock { state in
            state.requests.append(request)
            if request.url.contains("/status") { return reply("{\"startTime\":\"\(state.life)\"}") }
            let since = request.url.split(separator: "since=").dropFirst().first.flatMap { Int64($0.prefix { $0.isNumber }) } ?? 0
            var ids = state.ids.filter { $0 > since }
            if request.url.contains("limit=1") { ids = Array(ids.suffix(1)) }
            return reply("[" + ids.map { "{\"id\":\($0),\"life\":\"\(state.life)\"}" }.joined(separator: ",") + "]")
        }
    }

    private func reply(_ body: String) -> HTTPReply { HTTPReply(status: 200, headers: [], body: Array(body.utf8)) }
}

@Suite struct LongPollTests {
    static func rules(_ epoch: LongPollRule.EpochQuestion?, consecutive: Bool = true) -> (Incremental, LongPollRule) {
        var rules = Incremental(
            baseURL: "https://p.example", path: "/events", records: JSONPath([]), dedup: .init(id: JSONPath(["id"]), versions: []))
        var cursor = CursorRule(field: JSONPath(["id"]), parameter: "since", kind: .integer)
        (cursor.isExclusive, cursor.order) = (true, .ascending)
        rules.cursor = cursor
        rules.query = [Incremental.NamedTemplate("timeout", "0")]
        var rule = LongPollRule(parameter: "timeout", hold: .seconds(60))
        (rule.epoch, rule.areIDsConsecutive) = (epoch, consecutive)
        return (rules, rule)
    }

    static let token = LongPollRule.EpochQuestion(.token, path: "/status", field: JSONPath(["startTime"]))
    static let newest = LongPollRule.EpochQuestion(
        .newestID, query: [Incremental.NamedTemplate("since", "0"), Incremental.NamedTemplate("limit", "1")], field: JSONPath(["id"]))

    /// A trigger as the polling service runs it: connects with a poll, then holds; keeps keys and cursor.
    struct Reader {
        let rules: Incremental
        let rule: LongPollRule
        let source: EventSource
        var cursor: [UInt8]?
        var keys: [String] = []
        var doubled = 0
        var warnings: [String] = []
        var now = Timestamp(seconds: 1_800_000_000)

        init(_ source: EventSource, _ epoch: LongPollRule.EpochQuestion?, consecutive: Bool = true) {
            (rules, rule) = LongPollTests.rules(epoch, consecutive: consecutive)
            self.source = source
        }

        mutating func poll(held: Bool) async throws {
            now = now + .seconds(10)
            let empty = try JSONDocument(Array("{}".utf8))
            let request = PollRequest(
                triggerType: "event", connection: empty, input: empty, cursor: cursor, pageState: nil, readBound: now)
            let page = try await held ? rule.longPoll(request, rules, http: source) : rule.poll(request, rules, http: source)
            for key in try rules.dedupKeys(records: page.records).map({ try $0.get() }) {
                let full = (page.epoch.map { $0 + "/" } ?? "") + String(decoding: key, as: UTF8.self)
                if keys.contains(full) { doubled += 1 } else { keys.append(full) }
            }
            cursor = page.cursor ?? cursor
            warnings += page.warnings.filter { $0.hasPrefix("gap:") }
        }
    }

    @Test func heldRequestsAskForExactlyWhatComesAfterTheCursor() async throws {
        let source = EventSource()
        source.say(1...3)
        var reader = Reader(source, nil, consecutive: false)
        try await reader.poll(held: false)
        try await reader.poll(held: true)
        let held = try #require(source.requests.last)
        #expect(held.holdSpan == .seconds(60))
        #expect(held.url == "https://p.example/events?since=3&timeout=60", "an overlap would be answered at once, for ever")
        #expect(source.requests.first?.url.contains("timeout=0") == true && source.requests.first?.holdSpan == nil)
    }

    @Test(arguments: [true, false])
    func aRestartBeginsANewEpochAndSwallowsNothing(byToken: Bool) async throws {
        let source = EventSource()
        source.say(1...5)
        var reader = Reader(source, byToken ? LongPollTests.token : LongPollTests.newest)
        try await reader.poll(held: false)
        try await reader.poll(held: true)
        #expect(reader.keys.count == 5 && reader.warnings.isEmpty)
        // Restarted while nobody was connected; its ids have not reached ours again.
        source.restart("2026-02-02T00:00:00Z", ids: 1...3)
        try await reader.poll(held: false)
        #expect(reader.keys.count == 8, "ids 1 to 3 of the new life are new")
        #expect(reader.warnings.count == 1 && reader.warnings[0].contains("after id 5"))
        source.say(4...7)
        try await reader.poll(held: true)
        #expect(reader.keys.count == 12 && reader.doubled == 0)
        // Connecting again within one life finds nothing new and repeats nothing.
        try await reader.poll(held: false)
        #expect(reader.keys.count == 12 && reader.doubled == 0 && reader.warnings.count == 1)
    }

    /// No connection broke, and a `since` that is too high is answered with nothing for ever.
    @Test(arguments: [true, false])
    func aRestartThatNoConnectionShowsIsNoticedByTheNextEmptyAnswer(byToken: Bool) async throws {
        let source = EventSource()
        source.say(1...5)
        var reader = Reader(source, byToken ? LongPollTests.token : LongPollTests.newest)
        try await reader.poll(held: false)
        source.restart("2026-02-02T00:00:00Z", ids: 1...3)
        try await reader.poll(held: true)
        try await reader.poll(held: true)
        #expect(reader.keys.count == 8 && reader.doubled == 0 && reader.warnings.count == 1)
        try await reader.poll(held: true)
        #expect(reader.keys.count == 8 && reader.warnings.count == 1, "and no more is made of it")
    }

    @Test func aRestartThatOvertakesTheCursorIsToldByTheTokenAlone() async throws {
        let source = EventSource()
        source.say(1...5)
        var reader = Reader(source, LongPollTests.token)
        try await reader.poll(held: false)
        source.restart("2026-02-02T00:00:00Z", ids: 1...9)
        try await reader.poll(held: false)
        #expect(reader.keys.count == 14 && reader.warnings.count == 1)
    }

    @Test func idsThatFallWhileARequestIsHeldBeginANewEpoch() async throws {
        let source = EventSource()
        source.say(4...5)
        var reader = Reader(source, nil)
        try await reader.poll(held: false)
        // A source that answers a `since` that is too high with all it has.
        let falling = Falling(inner: source)
        source.restart("x", ids: 1...2)
        let empty = try JSONDocument(Array("{}".utf8))
        let request = PollRequest(
            triggerType: "event", connection: empty, input: empty, cursor: reader.cursor, pageState: nil, readBound: reader.now)
        let page = try await reader.rule.longPoll(request, reader.rules, http: falling)
        #expect(page.records.isEmpty && page.cursor != nil && page.warnings.contains { $0.hasPrefix("gap:") })
        reader.cursor = page.cursor
        try await reader.poll(held: true)
        #expect(reader.keys.count == 4, "and its events are read from the beginning")
    }

    private struct Falling: HTTPSending {
        let inner: EventSource
        func send(_ request: HTTPRequestPlan) async throws -> HTTPReply {
            var request = request
            request.url = "https://p.example/events?since=0"
            return try await inner.send(request)
        }
    }

    @Test func skippedIDsRaiseAGap() async throws {
        let source = EventSource()
        source.say(1...5)
        var reader = Reader(source, nil)
        try await reader.poll(held: false)
        source.restart("2026-01-01T00:00:00Z", ids: 9...10)
        try await reader.poll(held: true)
        #expect(reader.warnings == ["gap: ids 6 to 8 are missing: the provider no longer lists what it said then"])
        #expect(reader.keys.count == 7)
    }

    @Test func aNewLifeWhoseFirstEventsAreGoneRaisesAGap() async throws {
        let source = EventSource()
        source.say(1...5)
        var reader = Reader(source, LongPollTests.token)
        try await reader.poll(held: false)
        source.restart("2026-02-02T00:00:00Z", ids: 3...4)
        try await reader.poll(held: false)
        #expect(reader.warnings.count == 2 && reader.warnings[1].contains("ids 1 to 2 are missing"))
    }

    @Test(arguments: [
        ("{\"seconds\":60}", nil), ("{\"parameter\":\"t\",\"seconds\":30,\"unit\":\"milliseconds\"}", nil),
        ("{\"parameter\":\"t\"}", "seconds is missing"), ("{\"seconds\":0}", "from 1 to 900"),
        ("{\"seconds\":60,\"limit\":1}", "means nothing here"), ("{\"seconds\":60,\"epoch\":{\"path\":\"/x\"}}", "token"),
    ])
    func rulesAreReadAndMisspeltOnesAreNamed(json: String, problem: String?) throws {
        do {
            _ = try LongPollRule(json: try JSONDocument(Array(json.utf8)))
            #expect(problem == nil)
        } catch let error as SluiceError {
            #expect(problem.map { error.message.contains($0) } == true, "\(error.message)")
        }
    }

    @Test func kindsFollowFromWhatIsDefined() throws {
        let (rules, rule) = LongPollTests.rules(nil)
        let connector = ConnectorDescription("many", title: "Many", version: "1") {
            Webhook(scheme: "stripe") { _ in ["k"] }
            TriggerType("polled", title: "") { Poll(rules) }
            TriggerType("held", title: "") {
                Poll(rules)
                LongPoll(rule)
            }
            TriggerType("hybrid", title: "") {
                WebhookKey { _ in "k" }
                Poll(rules)
            }
            TriggerType("webhook", title: "") { WebhookKey { _ in "k" } }
            TriggerType("every_webhook", title: "") { WebhookNotification { request, _, _ in [request.bodyRecord] } }
        }
        #expect(connector.definition.triggers.map(\.kind) == [.polling, .longPolling, .hybrid, .webhook, .webhook])
        #expect(connector.definition.triggers.map(\.countsByDelivery) == [false, false, false, true, true])
    }

    @Test(arguments: [
        ("{\"a\": 1.0}", "{\"a\": 1.0}", false), (" \n[1, 2]\n", "[1, 2]", false), ("a=1&b=ü", "\"a=1&b=ü\"", true), ("", "\"\"", true),
    ])
    func aBodyIsOneRecordByteForByteOrSaysThatItWasChanged(body: String, record: String, isDerived: Bool) {
        let result = WebhookRequest(method: "POST", path: "/", query: "", headers: [], body: Array(body.utf8)).bodyRecord
        #expect(String(decoding: result.bytes, as: UTF8.self) == record && result.isDerived == isDerived)
    }

    @Test func bytesThatAreNoTextAreKeptInBase64() {
        let result = WebhookRequest(method: "POST", path: "/", query: "", headers: [], body: [0xFF, 0x00]).bodyRecord
        #expect(String(decoding: result.bytes, as: UTF8.self) == "{\"base64\":\"/wA=\"}" && result.isDerived)
    }
}
