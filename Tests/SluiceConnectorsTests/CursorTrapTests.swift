import SluiceCore
import Testing

@testable import SluiceConnectors

/// Each row of the table of what goes wrong with cursors, sprung by a provider in memory.
@Suite struct CursorTrapTests {
    private let t0: Int64 = 1_700_000_000

    /// A record is read, then another one changes within the same second.
    private func sameSecond(_ rules: Incremental) async throws -> (FakeProvider, Follower) {
        let provider = FakeProvider { $0.put("a", t0 - 10) }
        var follower = Follower(rules, provider)
        try await follower.cycle()
        provider.change {
            $0.put("b", t0 - 10)
            $0.put("c", t0 - 9)
        }
        try await follower.cycle()
        return (provider, follower)
    }

    @Test func P4_sameSecondRecordsAreKept() async throws {
        let (provider, follower) = try await sameSecond(try Rules.bare())
        #expect(Set(follower.jobs) == provider.versions)
        #expect(follower.jobs.count == 3)
    }

    /// The recipe that the API's page suggests: `updated_at[after]` = the last record's time.
    @Test func plainRecipeLosesSameSecondRecords() async throws {
        let (provider, follower) = try await sameSecond(try Rules.bare { $0.cursor?.overlap = 0 })
        #expect(provider.versions.subtracting(follower.jobs) == ["b@\(t0 - 10)"])
        let url = provider.requests.last!.url
        #expect(FakeProvider.query(url)["updated_at[after]"] == String(t0 - 10))
    }

    @Test(arguments: [false, true]) func P4_aWholePageSharesOneTimestamp(_ restarts: Bool) async throws {
        let provider = FakeProvider { state in for index in 0..<9 { state.put("r\(index)", t0 - 100 + (index == 8 ? 1 : 0)) } }
        let token = Incremental.Pagination.token(from: JSONPath(["next_offset"]), parameter: "offset", restartsFromMark: restarts)
        var follower = Follower(try Rules.bare { $0.pagination = token }, provider)
        try await follower.cycle()
        #expect(Set(follower.jobs) == provider.versions)
        #expect(provider.requests.count < 10)
    }

    @Test(arguments: [30, 0] as [Int64]) func P4_lateRecordsAreFoundWithinTheLookback(_ lookback: Int64) async throws {
        let provider = FakeProvider {
            $0.put("a", t0 - 10)
            $0.put("late", t0 - 20, visibleFrom: t0 + 5)
        }
        var follower = Follower(try Rules.bare { $0.cursor?.lookback = lookback }, provider)
        try await follower.cycle()
        provider.change { $0.nowSeconds += 10 }
        try await follower.cycle()
        // Without the lookback the record is lost, which is what the lookback is for.
        #expect(provider.versions.subtracting(follower.jobs) == (lookback > 0 ? [] : ["late@\(t0 - 20)"]))
    }

    @Test func P4_theMarkStaysBehindTheVisibilityLag() async throws {
        let provider = FakeProvider {
            $0.put("a", t0 - 1)
            $0.put("late", t0 - 3, visibleFrom: t0 + 2)
        }
        var follower = Follower(try Rules.bare { $0.cursor?.visibilityLag = .seconds(5) }, provider)
        try await follower.cycle()
        #expect(follower.mark == t0 - 5)
        provider.change { $0.nowSeconds += 10 }
        try await follower.cycle()
        #expect(Set(follower.jobs) == provider.versions)
        #expect(follower.mark == t0 - 1)
    }

    @Test func aFutureDatedRecordDoesNotCarryTheCursorAway() async throws {
        let provider = FakeProvider {
            $0.put("a", t0 - 10)
            $0.put("future", t0 + 86_400)
        }
        var follower = Follower(try Rules.bare(), provider)
        try await follower.cycle()
        #expect(follower.mark == t0)
        provider.change {
            $0.put("b", t0 + 1)
            $0.nowSeconds += 5
        }
        try await follower.cycle()
        #expect(Set(follower.jobs) == provider.versions)
    }

    /// Numeric offsets: a record of page 1 changes and leaves for the end, so page 2 begins one record too late.
    @Test(arguments: [true, false]) func P4_pagesThatShiftLoseNothing(_ restarts: Bool) async throws {
        let provider = FakeProvider { state in
            for index in 0..<6 { state.put("r\(index)", t0 - 1000 + Int64(index) * 100) }
            state.beforeAnswer = { state, number in if number == 2 { state.put("r0", 1_700_000_000 - 5) } }
        }
        let token = Incremental.Pagination.token(from: JSONPath(["next_offset"]), parameter: "offset", restartsFromMark: restarts)
        var follower = Follower(try Rules.bare { $0.pagination = token }, provider)
        try await follower.cycle()
        try await follower.cycle()
        // Offsets alone do lose the record that slid over the page's edge.
        #expect(provider.versions.subtracting(follower.jobs) == (restarts ? [] : ["r2@\(t0 - 800)"]))
    }

    @Test func P3_aDescendingFeedMovesTheMarkAfterItsLastPageOnly() async throws {
        let style = FakeProvider.Style(filter: "none", order: .descending, paging: .keysetToken)
        let provider = FakeProvider(style) { state in for index in 0..<6 { state.put("r\(index)", t0 - 600 + Int64(index) * 100) } }
        let rules = try Rules.bare {
            $0.cursor?.order = .descending
            $0.cursor?.parameter = nil
            $0.pagination = .token(from: JSONPath(["next_offset"]), parameter: "offset")
        }
        var follower = Follower(rules, provider)
        try await follower.cycle(pagesMax: 1)
        let start = follower.mark
        #expect(start == t0 - 3600, "the start is stored with the first page, and not more")
        follower.pageState = nil
        try await follower.cycle()
        #expect(Set(follower.jobs) == provider.versions)
        #expect(follower.mark == t0 - 100)
        let before = provider.requests.count
        provider.change {
            $0.put("new", t0 - 50)
            $0.nowSeconds += 10
        }
        try await follower.cycle()
        #expect(Set(follower.jobs) == provider.versions)
        #expect(provider.requests.count == before + 2, "it is read back to the mark and no further")
    }

    /// Listed by id, not by time: what changes on a page that was read already must not fall behind the mark.
    @Test func P4_anUnorderedFeedIsCappedAtTheCyclesStart() async throws {
        let style = FakeProvider.Style(order: .insertion)
        let provider = FakeProvider(style) { state in
            for index in 0..<4 { state.put("r\(index)", 1_700_000_000 - 100) }
            state.beforeAnswer = { state, number in
                guard number == 2 else { return }
                state.nowSeconds += 20
                state.items[0].time = 1_700_000_000 + 5
                state.items[3].time = 1_700_000_000 + 10
            }
        }
        let rules = try Rules.bare {
            $0.cursor?.order = .none
            $0.pagination = .token(from: JSONPath(["next_offset"]), parameter: "offset")
        }
        var follower = Follower(rules, provider)
        try await follower.cycle()
        try await follower.cycle()
        #expect(provider.versions.subtracting(follower.jobs).isEmpty)
    }

    @Test func P3_aBrokenOrderHoldsTheMark() async throws {
        let provider = FakeProvider(FakeProvider.Style(order: .insertion)) { state in
            for (id, time) in [("a", t0 - 10), ("b", t0 - 500), ("c", t0 - 400), ("d", t0 - 300)] { state.put(id, time) }
        }
        var follower = Follower(try Rules.bare(), provider)
        try await follower.cycle(pagesMax: 1)
        #expect(follower.mark == t0 - 3600)
        #expect(follower.warnings.contains { $0.contains("not in ascending order") })
        try await follower.cycle()
        #expect(Set(follower.jobs) == provider.versions)
        #expect(follower.mark == t0 - 10)
    }

    @Test func P3_anExpiredTokenBeginsAgainFromTheMark() async throws {
        let provider = FakeProvider { state in
            for index in 0..<8 { state.put("r\(index)", t0 - 800) }
            state.put("z", t0 - 100)
            state.answer = { state, number, query in
                number == 3 && query["offset"] != nil
                    ? HTTPReply(status: 400, headers: [], body: Array(#"{"message":"invalid offset"}"#.utf8)) : nil
            }
        }
        var follower = Follower(try Rules.bare(), provider)
        try await follower.cycle()
        #expect(Set(follower.jobs) == provider.versions)
        #expect(follower.mark == t0 - 100)
        #expect(follower.pageState == nil)
    }

    @Test(arguments: [["same"], ["a", "b"], ["a", "b", "c", "d", "e"], ["24e0"]]) func P10_tokensThatGoRoundFailLoudly(_ tokens: [String])
        async throws
    {
        let provider = FakeProvider { state in
            state.answer = { state, number, _ in
                let body = #"{"list":[],"next_offset":"\#(tokens[number % tokens.count])"}"#
                return HTTPReply(status: 200, headers: [FakeProvider.date(state.nowSeconds)], body: Array(body.utf8))
            }
        }
        var follower = Follower(try Rules.bare(), provider)
        let failure = await failure { try await follower.cycle() }
        #expect(failure?.kind == .permanent)
        #expect(failure?.error.message.hasPrefix("no progress") == true)
        #expect(provider.requests.count < 25)
        // A token stays the text it was, also where it looks like a number.
        if tokens == ["24e0"] { #expect(FakeProvider.query(provider.requests[1].url)["offset"] == "24e0") }
    }

    @Test func theCursorNeverMovesBack() async throws {
        let provider = FakeProvider { $0.put("a", t0 - 10) }
        var follower = Follower(try Rules.incremental(Rules.chargebee), provider)
        try await follower.cycle()
        #expect(follower.mark == t0 - 10)
        provider.change {
            $0.items = [FakeProvider.Item(id: "old", time: t0 - 30)]
            $0.nowSeconds -= 3600
        }
        try await follower.cycle()
        #expect(follower.mark == t0 - 10)
        #expect(follower.jobs.contains("old@\(t0 - 30)"))
    }

    @Test(arguments: [0, -10_800, 10_800, 40, -3] as [Int64]) func theDefaultStartComesFromTheServersClockOnce(_ ours: Int64) async throws {
        let provider = FakeProvider {
            $0.put("in", t0 - 3599)
            $0.put("out", t0 - 3700)
        }
        var follower = Follower(try Rules.bare(), provider)
        follower.nowSeconds += ours
        // The process dies right after the first page, and the clock goes on: the start stays.
        try await follower.cycle(pagesMax: 1)
        #expect(follower.cursors.first == #"{"mark":\#(t0 - 3600),"value":"\#(t0 - 3600)"}"# || follower.mark == t0 - 3599)
        follower.pageState = nil
        follower.nowSeconds += 7200
        try await follower.cycle()
        #expect(follower.jobs == ["in@\(t0 - 3599)"])
        #expect(follower.mark == t0 - 3599)
    }

    @Test func aGivenStartIsInclusive() async throws {
        let provider = FakeProvider {
            $0.put("before", t0 - 7201)
            $0.put("at", t0 - 7200)
        }
        for text in [String(t0 - 7200), "\"\(Timestamp(seconds: t0 - 7200))\""] {
            var follower = Follower(try Rules.bare(), provider)
            follower.input = #"{"resource":"subscription","since":\#(text)}"#
            try await follower.cycle()
            #expect(follower.jobs == ["at@\(t0 - 7200)"])
        }
        var follower = Follower(try Rules.bare(), provider)
        follower.input = #"{"resource":"subscription","since":"yesterday"}"#
        #expect(await failure { try await follower.cycle() }?.error.message.contains("since is \"yesterday\"") == true)
    }

    @Test func aCursorOlderThanTheRetentionRaisesTheGapWarning() async throws {
        let provider = FakeProvider { $0.put("a", t0 - 10) }
        var follower = Follower(try Rules.bare { $0.retention = .days(30) }, provider)
        follower.cursor = Array(#"{"mark":\#(t0 - 31 * 86_400),"value":"\#(t0 - 31 * 86_400)"}"#.utf8)
        try await follower.cycle()
        #expect(follower.warnings.contains { $0.hasPrefix("gap:") })
        try await follower.cycle()
        #expect(follower.warnings.count == 1)
    }
}
