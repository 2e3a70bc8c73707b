import SluiceCore
import Synchronization
import Testing

@testable import SluiceConnectors

/// A described poll read for a window: what lies in it comes, nothing else does, and the list is not read for longer than needed.
@Suite struct WindowTests {
    private let base: Int64 = 1_699_990_000

    private func window(_ from: Int64, _ to: Int64) -> BackfillWindow {
        BackfillWindow(from: Timestamp(seconds: base + from), to: Timestamp(seconds: base + to))
    }

    /// `GET /items?since=N&page=P`: ten records that never change, ten seconds apart, in this order, three a page.
    private func feed(_ order: CursorRule.Order, exclusive: Bool = false) -> Replies {
        let base = base
        return Replies { request, _ in
            let query = FakeProvider.query(request.url)
            let since = Int64(query["since"] ?? "") ?? 0
            let until = Int64(query["until"] ?? "") ?? Int64.max
            var times = (0..<10).map { base + Int64($0) * 10 }
            if order == .descending { times.reverse() }
            if order == .none { times = times.filter { $0 % 20 == 0 } + times.filter { $0 % 20 != 0 } }
            let listed = times.filter { (exclusive ? $0 > since : $0 >= since) && $0 <= until }
            let page = Int(query["page"] ?? "") ?? 1
            let items = listed.dropFirst((page - 1) * 3).prefix(3).map { #"{"id":"r\#(($0 - base) / 10)","at":\#($0),"made":\#($0 - 5)}"# }
            return Replies.ok(#"{"items":[\#(items.joined(separator: ","))]}"#)
        }
    }

    private func rules(_ order: String, extra: String = "", cursorExtra: String = "", dedup: String = #"{"id":"id","version":"at"}"#)
        -> String
    {
        items(
            #""pagination":{"page":{"parameter":"page","stable":true}},"page_size":{"parameter":"limit","value":3}"# + extra,
            cursor: #"{"field":"at","parameter":"since","type":"unix_seconds","order":"\#(order)"\#(cursorExtra)}"#, dedup: dedup)
    }

    private func read(_ json: String, _ http: Replies, _ window: BackfillWindow) async throws -> [String] {
        let rules = try Incremental(json: JSONDocument(Array(json.utf8), depthMax: 80))
        var request = PollRequest(
            triggerType: "t", connection: try JSONDocument(Array(#"{"key":"k"}"#.utf8)), input: try JSONDocument(Array("{}".utf8)),
            cursor: nil,
            pageState: nil, readBound: Timestamp(seconds: Replies.now))
        request.window = window
        request.cursor = try rules.windowStart(window, request).cursor
        var keys: [String] = []
        for _ in 0..<100 {
            let page = try await rules.run(request, http: http)
            let places = try rules.isInWindow(window, request, records: page.records)
            #expect(places.allSatisfy { $0 != false }, "what a page shows lies in the window")
            for key in page.keys ?? rules.dedupKeys(records: page.records) {
                let text = String(decoding: try key.get(), as: UTF8.self).prefix { $0 != "@" }
                if !keys.contains(String(text)) { keys.append(String(text)) }
            }
            request.cursor = page.cursor ?? request.cursor
            request.pageState = page.pageState
            if !page.more { return keys }
        }
        Issue.record("it never ended")
        return keys
    }

    @Test(arguments: ["asc", "desc", "none"]) func aWindowHoldsItsBeginningAndNotItsEnd(_ order: String) async throws {
        let http = feed(CursorRule.Order(rawValue: order)!)
        #expect(try await Set(read(rules(order), http, window(20, 50))) == ["r2", "r3", "r4"])
        #expect(try await Set(read(rules(order), feed(CursorRule.Order(rawValue: order)!), window(0, 100))).count == 10)
        #expect(try await read(rules(order), feed(CursorRule.Order(rawValue: order)!), window(21, 29)).isEmpty)
    }

    @Test func neighbouringWindowsShareNothingAndLoseNothing() async throws {
        var all: [String] = []
        for from in stride(from: Int64(0), to: 100, by: 7) { all += try await read(rules("asc"), feed(.ascending), window(from, from + 7)) }
        #expect(all.sorted() == (0..<10).map { "r\($0)" })
    }

    @Test func anExclusiveBoundIsAskedForOneGranuleEarlier() async throws {
        let http = feed(.ascending, exclusive: true)
        #expect(try await read(rules("asc", cursorExtra: #","exclusive":true"#), http, window(20, 40)) == ["r2", "r3"])
    }

    @Test func anAscendingListIsLeftOnceItIsPast() async throws {
        let http = feed(.ascending)
        _ = try await read(rules("asc"), http, window(0, 20))
        #expect(http.requests.count == 1)
        let whole = feed(.none)
        _ = try await read(rules("none"), whole, window(0, 20))
        #expect(whole.requests.count > 3, "without an order it is read to its end")
    }

    @Test func aBoundFromAboveIsAskedFor() async throws {
        let http = feed(.none)
        #expect(
            try await Set(read(rules("none", cursorExtra: #","upper_parameter":"until""#), http, window(20, 50))) == ["r2", "r3", "r4"])
        #expect(http.requests.allSatisfy { $0.url.contains("until=\(base + 50)") })
        let always = feed(.none)
        let json = rules("none", cursorExtra: #","upper_parameter":"until","upper_always":true"#)
        #expect(try await Set(read(json, always, window(20, 50))) == ["r2", "r3", "r4"])
        #expect(always.requests.allSatisfy { $0.url.contains("until=\(base + 50)") }, "not the clock's, and not asked for twice")
    }

    @Test func whereOnlyNewRecordsCountTheWindowIsOfTheirCreation() async throws {
        let http = feed(.ascending)
        let json = rules("asc", dedup: #"{"id":"id","created":"made"}"#)
        // r3 was made at 25 and changed at 30, behind the window's end.
        #expect(try await read(json, http, window(15, 28)) == ["r2", "r3"])
    }

    @Test func aRecordWithoutATimeStaysAndSaysSo() async throws {
        let http = Replies { _, number in Replies.ok(number == 1 ? #"{"items":[{"id":"x"},{"id":"y","at":1}]}"# : #"{"items":[]}"#) }
        #expect(try await read(rules("none"), http, window(0, 10)) == ["x"])
    }

    @Test func partitionsBeginWhereTheWindowDoes() async throws {
        let http = Replies { request, _ in
            let query = FakeProvider.query(request.url)
            let since = Int64(query["since"] ?? "") ?? 0
            let name = request.url.contains("/a?") ? "a" : "b"
            let items = [10, 20, 30, 40].map { Int64($0) + 1_699_990_000 }.filter { $0 >= since }.map {
                #"{"id":"\#(name)\#($0 % 100)","at":\#($0)}"#
            }
            return Replies.ok(#"{"items":[\#(items.joined(separator: ","))]}"#)
        }
        let json =
            #"{"base_url":"https://api.test","path":"/{partition}","records":"items","dedup":{"id":"id","version":"at"},"partitions":{"values":["a","b"]},"cursor":{"field":"at","parameter":"since","type":"unix_seconds","order":"asc"}}"#
        #expect(try await read(json, http, window(20, 40)) == ["a/a20", "a/a30", "b/b20", "b/b30"])
        #expect(http.requests.allSatisfy { $0.url.contains("since=\(base + 20)") })
    }

    @Test(arguments: [
        (#"{"field":"at","parameter":"since","type":"integer","order":"asc"}"#, "a number that is no time"),
        (#"{"field":"at","parameter":"since","type":"text","order":"asc"}"#, "a text that is no time"),
        (#"{"type":"opaque","from":"sync","parameter":"sync"}"#, "say nothing of a time"),
    ]) func whatHasNoTimeIsRefusedWithWhatToDo(_ cursor: String, _ reason: String) throws {
        let rules = try Incremental(json: JSONDocument(Array(items(cursor: cursor).utf8), depthMax: 80))
        let request = PollRequest(
            triggerType: "t", connection: try JSONDocument(Array("{}".utf8)), input: try JSONDocument(Array("{}".utf8)), cursor: nil,
            pageState: nil, readBound: Timestamp(seconds: Replies.now))
        let error = #expect(throws: SluiceError.self) { try rules.windowStart(window(0, 1), request) }
        #expect(error?.message.contains(reason) == true && error?.message.contains("--cursor JSON") == true, "\(error?.message ?? "")")
    }

    @Test func timesForPeopleNeedAZone() throws {
        #expect(try Timestamp(rfc3339: "2026-01-31T09:00:00+02:00", "from") == Timestamp(rfc3339: "2026-01-31T07:00:00Z", "from"))
        let zoneless = #expect(throws: SluiceError.self) { try Timestamp(rfc3339: "2026-01-31T09:00:00", "from") }
        #expect(
            zoneless?.message == "`from` names no zone: write 2026-01-31T09:00:00Z for UTC, or an offset such as 2026-01-31T09:00:00+02:00")
        for text in ["", "yesterday", "2026-02-30T00:00:00Z", "1700000000"] {
            #expect(throws: SluiceError.self) { try Timestamp(rfc3339: text, "to") }
        }
    }
}
