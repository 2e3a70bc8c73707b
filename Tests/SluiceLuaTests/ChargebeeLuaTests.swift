import FoundationEssentials
import SluiceConnectors
import SluiceCore
import Synchronization
import Testing

@testable import SluiceLua

/// As much of Chargebee's list API as the connector uses: strict `updated_at[after]`, ascending order, opaque offsets.
private final class FakeChargebee: HTTPSending {
    struct Item { var id: String, updatedAt: Int64 }
    struct Inside {
        var items: [Item] = []
        var now: Int64 = 1_700_010_000
        var expiresOffsets = false
        var requests: [HTTPRequestPlan] = []
    }
    let inside: Mutex<Inside>
    let pageSize: Int

    init(_ items: [Item], pageSize: Int) {
        inside = Mutex(Inside(items: items))
        self.pageSize = pageSize
    }

    func send(_ request: HTTPRequestPlan) async throws -> HTTPReply {
        inside.withLock { inside in
            inside.requests.append(request)
            let parameters = FakeChargebee.parameters(request.url)
            guard let after = parameters["updated_at[after]"].flatMap({ Int64($0) }), parameters["include_deleted"] == "true",
                parameters["sort_by[asc]"] == "updated_at", request.url.hasPrefix("https://acme.example/api/v2/subscriptions?"),
                request.headers.first("Authorization") == "Basic azFrMWsxOg=="
            else { return reply(#"{"api_error_code":"invalid_request"}"#, status: 400) }
            if inside.expiresOffsets, parameters["offset"] != nil { return reply(#"{"api_error_code":"invalid_offset"}"#, status: 400) }
            let found = inside.items.filter { $0.updatedAt > after }.sorted { $0.updatedAt < $1.updatedAt }
            let start = parameters["offset"].flatMap { Int($0.dropFirst().dropLast()) } ?? 0
            let page = found.dropFirst(start).prefix(pageSize)
            let list = page.map { #"{"subscription": {"id":"\#($0.id)","updated_at":\#($0.updatedAt),"mrr": 1.10}}"# }.joined(
                separator: ",")
            let next = start + page.count < found.count ? #","next_offset":"[\#(start + page.count)]""# : ""
            let date = FakeChargebee.httpDate(inside.now)
            return reply("{\"list\":[\(list)]\(next)}", headers: [HTTPField("Date", date)])
        }
    }

    static func parameters(_ url: String) -> [String: String] {
        let query = url.split(separator: "?", maxSplits: 1).last ?? ""
        return Dictionary(
            query.split(separator: "&").map { pair in
                let parts = pair.split(separator: "=", maxSplits: 1).map { decoded($0) }
                return (parts[0], parts.count > 1 ? parts[1] : "")
            }, uniquingKeysWith: { first, _ in first })
    }

    static func decoded(_ text: Substring) -> String {
        let parts = text.split(separator: "%", omittingEmptySubsequences: false)
        let rest = parts.dropFirst().flatMap { part -> [UInt8] in [UInt8(part.prefix(2), radix: 16) ?? 0] + Array(part.dropFirst(2).utf8) }
        return String(decoding: Array(parts[0].utf8) + rest, as: UTF8.self)
    }

    static func httpDate(_ seconds: Int64) -> String {
        let text = Array(Timestamp(seconds: seconds).description)
        let months = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"]
        return "Mon, \(String(text[8..<10])) \(months[Int(String(text[5..<7]))! - 1]) \(String(text[0..<4])) \(String(text[11..<19])) GMT"
    }
}

@Suite struct ChargebeeLuaTests {
    private func load() throws -> LuaConnector {
        let path = URL(filePath: #filePath).deletingLastPathComponent().deletingLastPathComponent().deletingLastPathComponent()
            .appending(path: "connectors/chargebee-lua/connector.lua").path
        let source = try #require(FileManager.default.contents(atPath: path))
        return try LuaConnector.load(source: Array(source), name: "chargebee-lua", path: path)
    }

    private let connection = #"{"site_url":"https://acme.example/","api_key":"k1k1k1"}"#

    /// Runs one cycle as the polling service does: dedup, then the next page, until there is none.
    private func cycle(
        _ lua: LuaConnector, _ http: any HTTPSending, cursor: inout String?, seen: inout [String],
        input: String = #"{"resource":"subscription"}"#
    ) async throws -> Int {
        var pageState: String?
        for pages in 1...1000 {
            let page = try await lua.poll(
                pollRequest(connection: connection, input: input, cursor: cursor, pageState: pageState, type: "updated_record"), http: http)
            for key in try lua.dedupKeys(triggerType: "updated_record", records: page.records) {
                let key = text(try key.get())
                if !seen.contains(key) { seen.append(key) }
            }
            #expect(page.records.allSatisfy { !$0.isDerived && text($0.bytes).hasSuffix(#","mrr": 1.10}"#) })
            if let next = page.cursor { cursor = text(next) }
            pageState = page.pageState.map { text($0) }
            if !page.more { return pages }
        }
        Issue.record("the cycle does not end")
        return 0
    }

    @Test func P3_sameSecondPagesAreReadWhole() async throws {
        let lua = try load()
        let items = (0..<25).map { FakeChargebee.Item(id: "s\($0)", updatedAt: 1_700_009_000 + Int64($0 / 10)) }
        let http = FakeChargebee(items, pageSize: 3)
        var cursor: String?
        var seen: [String] = []
        // Nine full pages; one more wherever a page got past its second, and the next begins there again.
        let pages = try await cycle(lua, http, cursor: &cursor, seen: &seen)
        #expect((9...12).contains(pages), "\(pages)")
        #expect(seen == items.map { "\($0.id)@\($0.updatedAt)" })
        #expect(cursor == #"{"mark":1700009002}"#)

        // More of the mark's own second, and one that becomes visible late, below the mark.
        http.inside.withLock {
            $0.items += [.init(id: "same", updatedAt: 1_700_009_002), .init(id: "late", updatedAt: 1_700_008_995)]
        }
        _ = try await cycle(lua, http, cursor: &cursor, seen: &seen)
        #expect(Set(seen.suffix(2)) == ["same@1700009002", "late@1700008995"])
        #expect(seen.count == 27)
    }

    @Test func theDefaultSinceIsAnHourBeforeTheServersNow() async throws {
        let lua = try load()
        let now: Int64 = 1_700_010_000
        let http = FakeChargebee(
            [
                .init(id: "old", updatedAt: now - 3700), .init(id: "new", updatedAt: now - 3500),
                .init(id: "future", updatedAt: now + 999_999),
            ],
            pageSize: 10)
        var cursor: String?
        var seen: [String] = []
        _ = try await cycle(lua, http, cursor: &cursor, seen: &seen)
        #expect(seen == ["new@\(now - 3500)", "future@\(now + 999_999)"])
        // The future-dated record does not carry the mark past the server's now.
        #expect(cursor == "{\"mark\":\(now)}")
        #expect(http.inside.withLock { $0.requests.count } == 2)
    }

    @Test func sinceIsTakenFromTheInput() async throws {
        let lua = try load()
        let http = FakeChargebee([.init(id: "old", updatedAt: 100), .init(id: "a", updatedAt: 500)], pageSize: 10)
        var cursor: String?
        var seen: [String] = []
        _ = try await cycle(lua, http, cursor: &cursor, seen: &seen, input: #"{"resource":"subscription","since":400}"#)
        #expect(seen == ["a@500"])
    }

    @Test func anEmptyListKeepsTheMark() async throws {
        let lua = try load()
        var cursor: String? = #"{"mark":1700009000}"#
        var seen: [String] = []
        _ = try await cycle(lua, FakeChargebee([], pageSize: 3), cursor: &cursor, seen: &seen)
        #expect(cursor == #"{"mark":1700009000}"#)
    }

    @Test func anExpiredOffsetBeginsTheCycleAgain() async throws {
        let lua = try load()
        let http = FakeChargebee((0..<5).map { .init(id: "s\($0)", updatedAt: 1_700_009_000) }, pageSize: 3)
        http.inside.withLock { $0.expiresOffsets = true }
        let cursor = #"{"mark":1700008999}"#
        let input = #"{"resource":"subscription"}"#
        let first = try await lua.poll(
            pollRequest(connection: connection, input: input, cursor: cursor, type: "updated_record"), http: http)
        #expect(first.more && first.cursor == nil)
        // The page after may begin anew at the second that this one reached; the one after that goes on by the offset.
        let message = await message {
            var state = first.pageState
            for _ in 1...2 {
                state = try await lua.poll(
                    pollRequest(
                        connection: connection, input: input, cursor: cursor, pageState: state.map { text($0) }, type: "updated_record"),
                    http: http
                ).pageState
            }
        }
        #expect(message == "pageStateExpired: Chargebee did not take the offset: status 400, invalid_offset")
    }

    @Test(arguments: [
        (#"{"id":"ev_1","event_type":"subscription_created"}"#, "subscription"), (#"{"event_type":"invoice_payment_failed"}"#, "invoice"),
        (#"{"event_type":"customer"}"#, "customer"),
    ])
    func webhooksAreKeyedByTheFirstWord(body: String, key: String) throws {
        let lua = try load()
        #expect(try lua.webhookKeys(webhook(body)) == [key])
        #expect(try lua.webhookKey(triggerType: "updated_record", input: json("{\"resource\":\"\(key)\"}")) == key)
    }

    @Test(arguments: ["{}", #"{"event_type":5}"#, "[]", #"{"event_type":""}"#, "nonsense"])
    func webhooksWithoutATypeAreRefused(body: String) async throws {
        let lua = try load()
        let message = await message { _ = try lua.webhookKeys(webhook(body)) }
        #expect(message?.hasPrefix("connector.lua:") == true, "\(message ?? "no error")")
    }

    @Test func itsDefinitionIsWhole() throws {
        let definition = try load().definition
        #expect(definition.trigger("updated_record")?.kind == .hybrid)
        #expect(definition.webhook?.scheme == "basic-auth" && definition.webhook?.deliveryID == .body(["id"]))
        #expect(definition.connectionFields.filter(\.isSecret).map(\.name) == ["api_key"])
    }
}
