import SluiceCore
import Testing

@testable import SluiceConnectors

/// What was wrong in 70 of 89 polls of public connectors, mistake by mistake: refused at load, or impossible by construction.
@Suite struct NineMistakesTests {
    private let t0 = Replies.now
    private let updated = #"{"field":"updated_at","parameter":"since","type":"unix_seconds","order":"asc"}"#

    private func record(_ id: String, _ at: Int64) -> String { #"{"id":"\#(id)","at":\#(at),"updated_at":\#(at)}"# }
    private func page(_ records: [String], _ extra: String = "", at seconds: Int64? = nil) -> HTTPReply {
        Replies.ok(#"{"items":[\#(records.joined(separator: ","))]\#(extra)}"#, at: seconds ?? t0)
    }

    @Test func mistake1_theDefaultSinceIsStoredWithTheFirstPage() async throws {
        // The first page succeeds and holds nothing, the second fails; an hour passes.
        let http = Replies { _, number in
            switch number {
            case 1: return page([], #","next":"t""#)
            case 2: throw PollFailure(.transient, SluiceError(.providerStatus, "down"))
            default: return page([record("a", t0 - 30)], at: t0 + 7200)
            }
        }
        let json = items(#""default_since_seconds_ago":60,"pagination":{"token":{"from":"next","parameter":"t"}}"#)
        var reader = try Reader(json, http)
        #expect(await failure { try await reader.cycle() }?.kind == .transient)
        #expect(reader.mark == t0 - 60)
        (reader.pageState, reader.nowSeconds) = (nil, t0 + 7200)
        try await reader.cycle()
        #expect(FakeProvider.query(http.requests[2].url)["since"] == String(t0 - 60))
        #expect(reader.keys.count == 1)
    }

    @Test func mistake2_theLastPagesTokenIsNotKept() async throws {
        let http = Replies { _, number in
            page([record("r\(number)", t0 - 100 + Int64(number))], #","next":"t\#(number)","more":\#(number % 2 == 1)"#)
        }
        var reader = try Reader(items(#""pagination":{"token":{"from":"next","parameter":"t","has_more":"more"}}"#), http)
        try await reader.cycle()
        #expect(reader.pageState == nil)
        #expect(!reader.cursorText.contains("t2"))
        try await reader.cycle()
        #expect(http.requests.map { FakeProvider.query($0.url)["t"] } == [nil, "t1", nil, "t3"])
    }

    @Test func mistake3_ourClockIsNeverTheCursor() async throws {
        let http = Replies { _, _ in page([record("a", t0 - 500)]) }
        for skew in [-86_400, 0, 86_400] as [Int64] {
            var reader = try Reader(items(#""retention_seconds":864000"#), http)
            reader.nowSeconds = t0 + skew
            try await reader.cycle()
            #expect(reader.mark == t0 - 500, "the record's own time")
        }
        // Nor is a Date that is wrong for one answer: the mark, which follows the server's clock where nothing changes, never goes back.
        let wrong = Replies { _, number in page([record("a", t0 - 500)], at: number == 1 ? t0 + 7 * 86_400 : t0) }
        var quiet = try Reader(items(#""retention_seconds":345600"#), wrong)
        try await quiet.cycle()
        #expect(quiet.mark == t0 - 500, "\(quiet.cursorText)")
        quiet.nowSeconds = t0 + 7 * 86_400
        try await quiet.cycle()
        #expect(quiet.mark == t0 - 500, "\(quiet.cursorText)")
        // Only a record dated in the future lets a clock decide: the server's.
        let future = Replies { _, _ in page([record("a", t0 + 99_999)]) }
        var reader = try Reader(items(), future)
        reader.nowSeconds = t0 + 50_000
        try await reader.cycle()
        #expect(reader.mark == t0)
    }

    /// What lies below came before and is forgotten: a lookback that was made longer reaches there once the mark has moved on.
    @Test func aLongerLookbackDoesNotReachBelowWhatIsForgotten() async throws {
        let http = Replies { _, _ in page([record("a", t0 - 10)]) }
        func since(_ lookback: Int64, forgottenBelow: Int64?) async throws -> String? {
            var reader = try Reader(
                items(
                    cursor: #"{"field":"at","parameter":"since","type":"unix_seconds","order":"none","lookback_seconds":\#(lookback)}"#),
                http)
            try await reader.cycle()
            var request = try reader.request()
            request.forgottenBelow = forgottenBelow
            let before = http.requests.count
            _ = try await reader.rules.run(request, http: http)
            return FakeProvider.query(http.requests[before].url)["since"]
        }
        #expect(try await since(60, forgottenBelow: nil) == String(t0 - 70))
        #expect(try await since(60, forgottenBelow: t0 - 72) == String(t0 - 70))
        #expect(try await since(3600, forgottenBelow: t0 - 72) == String(t0 - 72))
        // Written as the parameter is, and to the whole second.
        let written = #"{"field":"at","parameter":"since","type":"rfc3339","format":"unix_seconds","lookback_seconds":3600}"#
        let stamped = Replies { _, _ in page([#"{"id":"a","at":"\#(Timestamp(seconds: t0 - 10))"}"#]) }
        var reader = try Reader(items(cursor: written), stamped)
        try await reader.cycle()
        var request = try reader.request()
        request.forgottenBelow = (t0 - 72) * 1000 - 2
        let before = stamped.requests.count
        _ = try await reader.rules.run(request, http: stamped)
        #expect(
            FakeProvider.query(stamped.requests[before].url)["since"] == String(t0 - 72), "the rest of that second is forgotten as well")
        #expect(try await since(60, forgottenBelow: t0 + 5) == String(t0 - 70), "a cursor that was set below it reads from there")
    }

    @Test func mistake4_theLastRecordOfAnUnorderedFeedIsNotTheCursor() async throws {
        let http = Replies { _, number in
            number == 1
                ? page([record("a", t0 - 10), record("b", t0 - 900)], #","next":"t""#)
                : page([record("c", t0 - 400), record("d", t0 - 700)])
        }
        var reader = try Reader(items(#""pagination":{"token":{"from":"next","parameter":"t"}}"#), http)
        try await reader.cycle(pagesMax: 1)
        #expect(reader.cursor == nil, "before the last page nothing is known")
        try await reader.cycle()
        #expect(reader.mark == t0 - 10)
    }

    @Test func mistake5_newRecordsAreNotThoseThatChanged() async throws {
        #expect(refusal(items(cursor: updated, dedup: #"{"id":"id"}"#))?.contains("created = \"created_at\"") == true)
        // Made before the trigger began and changed since; made since; made since and changed.
        let http = Replies { _, number in
            let all = [
                #"{"id":"old","created_at":\#(t0 - 9000),"updated_at":\#(t0 - 50)}"#,
                #"{"id":"new","created_at":\#(t0 - 40),"updated_at":\#(t0 - 40)}"#,
                #"{"id":"new","created_at":\#(t0 - 40),"updated_at":\#(t0 - 5)}"#,
                #"{"id":"old2","created_at":\#(t0 - 9000),"updated_at":\#(t0 - 4)}"#,
            ]
            return page(number == 1 ? Array(all.prefix(2)) : all)
        }
        let json = items(#""default_since_seconds_ago":60"#, cursor: updated, dedup: #"{"id":"id","created":"created_at"}"#)
        var reader = try Reader(json, http)
        for _ in 0..<3 { try await reader.cycle() }
        #expect(reader.keys == ["new"])
        #expect(reader.cursorText.contains(#""began":\#(t0 - 60)"#))
    }

    @Test func mistake6_changesWithoutAVersionAreRefused() {
        for field in ["updated_at", "lastModified", "meta.date_modified", "changed_on", "LastUpdatedDate"] {
            let cursor = #"{"field":"\#(field)","parameter":"since","type":"rfc3339"}"#
            #expect(refusal(items(cursor: cursor, dedup: #"{"id":"id"}"#))?.contains("has no version") == true, "\(field)")
            #expect(refusal(items(cursor: cursor, dedup: #"{"id":"id","version":"\#(field)"}"#)) == nil)
        }
        #expect(refusal(items(cursor: #"{"field":"created","parameter":"since","type":"rfc3339"}"#, dedup: #"{"id":"id"}"#)) == nil)
    }

    @Test func mistake7_pagingDoesNotStopEarly() async throws {
        // Short pages, an empty one, and one whose records are all known.
        let pages = [["a", "b"], ["c"], [], ["a"], ["d"]]
        let http = Replies { _, number in
            page(pages[number - 1].map { record($0, t0 - 10) }, number < 5 ? #","next":"t\#(number)""# : "")
        }
        var reader = try Reader(
            items(#""page_size":{"parameter":"n","value":2},"pagination":{"token":{"from":"next","parameter":"t"}}"#), http)
        try await reader.cycle()
        #expect(reader.keys.count == 4)
    }

    @Test func mistake8_pagingEnds() async throws {
        for (name, count) in [("the same token", 1), ("two in turn", 2)] {
            let http = Replies { _, number in page([record("r\(number)", t0 - 10)], #","next":"t\#(number % count)""#) }
            var reader = try Reader(items(#""pagination":{"token":{"from":"next","parameter":"t"}}"#), http)
            #expect(await failure { try await reader.cycle() }?.error.message.hasPrefix("no progress") == true, "\(name)")
            #expect(http.requests.count < 10)
        }
    }

    @Test func mistake9_aTieAtAPagesEndIsNotSkipped() async throws {
        // An API that lists strictly after its bound, two records a page, three at the same second.
        let all = [("a", t0 - 30), ("b", t0 - 20), ("c", t0 - 20), ("d", t0 - 20), ("e", t0 - 10)]
        let http = Replies { plan, _ in
            let query = FakeProvider.query(plan.url)
            let after = Int64(query["since"] ?? "0") ?? 0
            let skip = Int(query["o"] ?? "0") ?? 0
            return page(all.filter { $0.1 > after }.dropFirst(skip).prefix(2).map { record($0.0, $0.1) })
        }
        let cursor = #"{"field":"at","parameter":"since","type":"unix_seconds","order":"asc","exclusive":true}"#
        let json = items(#""page_size":{"parameter":"n","value":2},"pagination":{"offset":{"parameter":"o"}}"#, cursor: cursor)
        var reader = try Reader(json, http)
        try await reader.cycle()
        #expect(reader.keys.map { String($0.prefix(1)) } == ["a", "b", "c", "d", "e"])
    }
}
