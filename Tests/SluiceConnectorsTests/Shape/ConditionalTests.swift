import SluiceCore
import Synchronization
import Testing

@testable import SluiceConnectors

/// ETag, Last-Modified and 304: a saving that must never hide news.
@Suite struct ConditionalTests {
    /// A list with an ETag of its content, in pages of two.
    final class Listing: Sendable {
        let state = Mutex<(items: [(id: Int, at: Int64)], requests: [HTTPRequestPlan])>(([], []))
        let isNewestFirst: Bool
        init(_ count: Int, isNewestFirst: Bool = false) {
            self.isNewestFirst = isNewestFirst
            add(count)
        }
        func add(_ count: Int) {
            state.withLock { state in
                for _ in 0..<count { state.items.append((state.items.count + 1, Replies.now - 1000 + Int64(state.items.count))) }
            }
        }
        var statuses: [Bool] { state.withLock { $0.requests.map { $0.headers.first("If-None-Match") != nil } } }

        var http: Replies {
            Replies { [self] plan, _ in
                state.withLock { state in
                    state.requests.append(plan)
                    let query = FakeProvider.query(plan.url)
                    let since = Int64(query["since"] ?? "") ?? 0
                    let offset = Int(query["t"] ?? "") ?? 0
                    var listed = state.items.filter { $0.at >= since }
                    if isNewestFirst { listed.reverse() }
                    let page = listed.dropFirst(offset).prefix(2)
                    let next = offset + 2 < listed.count ? #","next":\#(offset + 2)"# : ""
                    // As some do: the token is no part of what the ETag is made of.
                    let etag = "\"" + page.map { "\($0.id)" }.joined(separator: "-") + "\""
                    if plan.headers.first("If-None-Match") == etag { return Replies.ok("", ["ETag": etag], status: 304) }
                    let records = page.map { #"{"id":\#($0.id),"at":\#($0.at),"born":\#($0.id < 3 ? 1 : $0.at)}"# }.joined(separator: ",")
                    return Replies.ok(#"{"items":[\#(records)]\#(next)}"#, ["ETag": etag])
                }
            }
        }
    }

    private static func rules(order: String = "asc", lookback: Int = 0, cursor: Bool = true) -> String {
        let rule =
            cursor ? #","cursor":{"field":"at","parameter":"since","type":"unix_seconds","order":"\#(order)","lookback":\#(lookback)}"# : ""
        return
            #"{"base_url":"https://api.test","path":"/items","records":"items","dedup":{"id":"id","version":"at"},"conditional":true,"pagination":{"token":{"from":"next","parameter":"t"}},"page_size":{"parameter":"n","value":2}\#(rule)}"#
    }

    /// A partition in which there is nothing yet has a validator and no position.
    @Test func P2_aPartitionThatIsEmptyIsReadOn() async throws {
        let listing = Listing(0)
        let partitions = #""query":{"list":"{partition}"},"partitions":{"values":["a","b"]},"dedup""#
        var reader = try Reader(ConditionalTests.rules().replacing(#""dedup""#, with: partitions), listing.http)
        for _ in 0..<3 { try await reader.cycle() }
        #expect(listing.statuses == [false, false, true, true, true, true] && reader.keys.isEmpty)
        listing.add(1)
        try await reader.cycle()
        #expect(reader.keys == ["a/1@\(Replies.now - 1000)", "b/1@\(Replies.now - 1000)"])
    }

    @Test func P3_a304IsNoNewsAndMovesNothing() async throws {
        let listing = Listing(1)
        var reader = try Reader(ConditionalTests.rules(), listing.http)
        for _ in 0..<4 { try await reader.cycle() }
        // The second asks at the mark, where no answer was given yet; from then on nothing changes.
        #expect(listing.statuses == [false, false, true, true])
        #expect(reader.mark == Replies.now - 1000)
        #expect(reader.cursorText.contains(#""unchanged":2"#))
        listing.add(1)
        try await reader.cycle()
        #expect(reader.keys.count == 2)
        #expect(reader.mark == Replies.now - 999)
    }

    /// Pages that are full, lists of several pages, lists that overlap: records are added one at a time, and each is found in
    /// the cycle after it.
    @Test(arguments: ["asc", "none"], [0, 3, 1000]) func P3_aValidatorNeverHidesARecord(_ order: String, _ lookback: Int) async throws {
        let listing = Listing(0)
        var reader = try Reader(ConditionalTests.rules(order: order, lookback: lookback), listing.http)
        for count in 0..<9 {
            for _ in 0..<3 { try await reader.cycle() }
            #expect(reader.keys.count == count)
            listing.add(1)
        }
        #expect(listing.statuses.contains(true))
    }

    @Test func P3_aListWithoutACursorIsReadWholeWhenItChanges() async throws {
        for isNewestFirst in [false, true] {
            let listing = Listing(0, isNewestFirst: isNewestFirst)
            var reader = try Reader(ConditionalTests.rules(cursor: false), listing.http)
            for count in 0..<6 {
                for _ in 0..<3 { try await reader.cycle() }
                #expect(reader.keys.count == count)
                listing.add(1)
            }
        }
    }

    /// A page that is full of changed records, none of them new, has no room for the one that follows.
    @Test func P3_whatIsNotNewStillFillsAPage() async throws {
        let listing = Listing(2)
        let json = ConditionalTests.rules(order: "none", lookback: 1000)
        var reader = try Reader(String(json.dropLast()) + #","since":"\#(Replies.now - 2000)"}"#, listing.http)
        reader.rules.dedup = .init(id: JSONPath(["id"]), versions: [])
        reader.rules.dedup.created = JSONPath(["born"])
        for _ in 0..<3 { try await reader.cycle() }
        #expect(reader.keys.isEmpty)
        listing.add(1)
        try await reader.cycle()
        #expect(reader.keys == ["3"])
    }

    /// What lies below the mark of a list without a bound is left out, but it fills the page: the next record goes to another one,
    /// and the first one keeps its ETag.
    @Test(arguments: ["asc", "none"]) func P3_whatWasReadBeforeStillFillsAPage(_ order: String) async throws {
        let listing = Listing(0)
        let json = ConditionalTests.rules(order: order).replacing(#""parameter":"since","#, with: "")
        var reader = try Reader(json, listing.http)
        for count in 0..<9 {
            for _ in 0..<3 { try await reader.cycle() }
            #expect(reader.keys.count == count)
            listing.add(1)
        }
        #expect(listing.statuses.contains(true), "a page with room has a validator")
    }

    /// The process dies after the first page: its validator must not make the next cycle believe that all was read.
    @Test func P3_aCycleThatDidNotEndLeavesNoValidator() async throws {
        for order in ["asc", "none", "desc"] {
            let listing = Listing(5, isNewestFirst: order == "desc")
            var reader = try Reader(ConditionalTests.rules(order: order), listing.http)
            try await reader.cycle(pagesMax: 1)
            reader.pageState = nil
            try await reader.cycle()
            #expect(reader.keys.count == 5, "\(order)")
        }
    }

    @Test func P4_aListIsReadWholeEveryFiftyPolls() async throws {
        let listing = Listing(1)
        var reader = try Reader(ConditionalTests.rules(cursor: false), listing.http)
        for _ in 0..<110 { try await reader.cycle() }
        let whole = listing.statuses.enumerated().filter { !$0.element }.map(\.offset)
        #expect(whole == [0, 51, 102], "keys of lists without marks are kept for \(DedupRetention.cyclesKept) cycles")
    }

    @Test func aValidatorIsForOneRequestOnly() async throws {
        let listing = Listing(1)
        var reader = try Reader(ConditionalTests.rules(cursor: false), listing.http)
        try await reader.cycle()
        reader.connection = #"{"key":"k2"}"#
        try await reader.cycle()
        try await reader.cycle()
        #expect(listing.statuses == [false, false, true], "another account may see another list")
    }

    /// RFC 9110, 8.8.2.2: a second change in the same second leaves Last-Modified as it is.
    @Test func aLastModifiedServesOnlyOnceItHasAged() async throws {
        for (age, serves) in [(Int64(0), false), (59, false), (60, true)] {
            let date = FakeProvider.date(Replies.now - age).value
            let replies = Replies { _, _ in Replies.ok(#"{"items":[]}"#, ["Last-Modified": date]) }
            var reader = try Reader(ConditionalTests.rules(cursor: false), replies)
            try await reader.cycle()
            try await reader.cycle()
            #expect((replies.requests[1].headers.first("If-Modified-Since") == date) == serves, "\(age) s")
        }
    }

    @Test func aCursorKeepsItsFormWithAValidator() async throws {
        let listing = Listing(1)
        var reader = try Reader(ConditionalTests.rules(), listing.http)
        for _ in 0..<2 { try await reader.cycle() }
        #expect(reader.cursorText.hasPrefix(#"{"mark":\#(Replies.now - 1000),"value":"\#(Replies.now - 1000)""#))
        #expect(reader.cursorText.contains(#""validator":{"for":""#))
        // Set by hand: taken, and without a validator.
        reader.cursor = Array("7".utf8)
        try await reader.cycle()
        #expect(listing.state.withLock { $0.requests.last?.url.contains("since=7") } == true)
        #expect(listing.statuses.last == false)
    }

    @Test(arguments: [
        (#""conditional":true,"method":"POST""#, "needs method"),
        (#""conditional":true,"pagination":{"link":true}"#, "needs page_size"),
    ]) func whereItCannotBeSafeItIsRefused(_ extra: String, _ word: String) {
        #expect(refusal(items(extra))?.contains("incremental.conditional \(word)") == true, "\(refusal(items(extra)) ?? "taken")")
    }
}
