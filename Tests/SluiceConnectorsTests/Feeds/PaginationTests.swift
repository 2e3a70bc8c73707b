import SluiceCore
import Testing

@testable import SluiceConnectors

/// Each form of pagination: where the next page is, what ends a cycle, and what fails loudly.
@Suite struct PaginationTests {
    private let t0 = Replies.now

    private func list(_ ids: [Int], _ extra: String = "") -> HTTPReply {
        let records = ids.map { #"{"id":"r\#($0)","at":\#(t0 - 1000 + Int64($0))}"# }.joined(separator: ",")
        return Replies.ok(#"{"items":[\#(records)]\#(extra.isEmpty ? "" : ",")\#(extra)}"#)
    }

    private func query(_ http: Replies, _ number: Int) -> [String: String] { FakeProvider.query(http.requests[number - 1].url) }
    private func ids(_ reader: Reader) -> [String] { reader.keys.map { String($0.prefix { $0 != "@" }) } }

    @Test(arguments: ["https://api.test/items?p=2", "/items?p=2", "?p=2", "items?p=2"])
    func theNextURLMayStandInTheBody(_ link: String) async throws {
        let http = Replies { _, number in
            number == 1 ? list([1, 2], #""next":"\#(link)""#) : list([3], #""next":null"#)
        }
        var reader = try Reader(items(#""pagination":{"next_url":{"from":"next"}}"#), http)
        try await reader.cycle()
        #expect(ids(reader) == ["r1", "r2", "r3"])
        #expect(http.requests[1].url == "https://api.test/items?p=2")
        #expect(http.requests.count == 2)
    }

    /// As Zendesk's end_of_stream: a token comes with the last page, too.
    @Test func theLastPageMaySayThatItIsTheLast() async throws {
        let http = Replies { _, number in list([number], #""next":"t\#(number)","done":\#(number == 3)"#) }
        var reader = try Reader(items(#""pagination":{"token":{"from":"next","parameter":"t","is_last":"done"}}"#), http)
        try await reader.cycle()
        #expect(ids(reader) == ["r1", "r2", "r3"] && http.requests.count == 3)
        let silent = Replies { _, _ in list([1], #""next":"t""#) }
        reader = try Reader(items(#""pagination":{"token":{"from":"next","parameter":"t","is_last":"done"}}"#), silent)
        #expect(await failure { try await reader.cycle() }?.error.message.contains("does not say at") == true)
        let both = items(#""pagination":{"token":{"from":"next","parameter":"t","is_last":"done","has_more":"more"}}"#)
        #expect(refusal(both)?.contains("is_last and has_more say the same") == true)
    }

    @Test(arguments: ["https://evil.test/x", "//evil.test/x", "http://api.test/x", "https://api.test:8443/x"])
    func aNextURLOnAnotherHostIsRefused(_ link: String) async throws {
        let http = Replies { _, _ in list([1], #""next":"\#(link)""#) }
        var reader = try Reader(items(#""pagination":{"next_url":{"from":"next"}}"#), http)
        #expect(await failure { try await reader.cycle() }?.error.message.contains("another host") == true)
        #expect(http.requests.count == 1)
    }

    @Test func aNextPageHeaderHoldsAWholeURL() async throws {
        let http = Replies { _, number in
            number < 3
                ? Replies.ok(#"{"items":[{"id":"r\#(number)","at":1}]}"#, ["Next-Page": "https://api.test/items?_token=\(number)"])
                : list([3])
        }
        var reader = try Reader(items(#""pagination":{"next_url":{"header":"Next-Page"}}"#), http)
        try await reader.cycle()
        #expect(ids(reader) == ["r1", "r2", "r3"])
        #expect(query(http, 3) == ["_token": "2"])
    }

    @Test(arguments: [(#""24e0""#, #""24e0""#), ("17", "17"), (#""007""#, #""007""#), ("9007199254740993", "9007199254740993")])
    func aContinuationTokenGoesIntoTheBodyAsWhatItWas(_ token: String, _ sent: String) async throws {
        let http = Replies { _, number in number == 1 ? list([1], #""paging":{"next":\#(token)}"#) : list([2]) }
        let extra =
            #""body":{"json":{"filter":{"since":"{cursor}"}}},"page_size":{"parameter":"limit","in":"body","value":50},"#
            + #""pagination":{"token":{"from":"paging.next","parameter":"paging.after","in":"body"}}"#
        let cursor = #"{"field":"at","type":"unix_seconds"}"#
        var reader = try Reader(items(extra, cursor: cursor), http)
        reader.cursor = Array(#"{"mark":5,"value":"5"}"#.utf8)
        try await reader.cycle()
        #expect(ids(reader) == ["r1", "r2"])
        #expect(http.requests.allSatisfy { $0.method == "POST" && $0.url == "https://api.test/items" })
        #expect(String(decoding: http.requests[0].body, as: UTF8.self) == #"{"filter":{"since":5},"limit":50}"#)
        #expect(String(decoding: http.requests[1].body, as: UTF8.self).contains(#""paging":{"after":\#(sent)}"#))
    }

    @Test func aTokenMayComeAndGoInHeaders() async throws {
        let http = Replies { _, number in
            number == 1 ? Replies.ok(#"{"items":[]}"#, ["X-Next": "a b"]) : list([2])
        }
        var reader = try Reader(items(#""pagination":{"token":{"header":"X-Next","parameter":"X-Page","in":"header"}}"#), http)
        try await reader.cycle()
        #expect(http.requests[0].headers.first("X-Page") == nil)
        #expect(http.requests[1].headers.first("X-Page") == "a b")
    }

    // MARK: What ends a cycle

    @Test func aShortPageIsNotTheEndUnlessDeclared() async throws {
        let pages = [[1, 2, 3], [4], [5, 6], []]
        for (ending, count) in [("", 4), (#","ends_with":"short_page""#, 2), (#","ends_with":"empty_page""#, 4)] {
            let http = Replies { _, number in list(pages[number - 1]) }
            var reader = try Reader(
                items(#""page_size":{"parameter":"limit","value":3},"pagination":{"offset":{"parameter":"skip","overlap":0\#(ending)}}"#),
                http)
            try await reader.cycle()
            #expect(http.requests.count == count, "\(ending)")
        }
        #expect(
            refusal(items(#""pagination":{"offset":{"parameter":"skip","ends_with":"short_page"}}"#))?.contains("page_size is missing")
                == true)
    }

    @Test func anEmptyPageWithATokenIsNotTheEnd() async throws {
        let http = Replies { _, number in number < 4 ? list([], #""next":"t\#(number)""#) : list([9]) }
        var reader = try Reader(items(#""pagination":{"token":{"from":"next","parameter":"t"}}"#), http)
        try await reader.cycle()
        #expect(ids(reader) == ["r9"])
    }

    @Test func totalsAndFlagsEndACycle() async throws {
        for (rule, extra) in [
            (#"{"offset":{"parameter":"skip","overlap":0,"total":"n"}}"#, #""n":4"#),
            (#"{"offset":{"parameter":"skip","overlap":0,"has_more":"more"}}"#, #""more":"#),
            (#"{"page":{"parameter":"page","stable":true,"total_pages":"n"}}"#, #""n":"2""#),
            (#"{"page":{"parameter":"page","stable":true,"total":"n"}}"#, #""n":4"#),
            (#"{"page":{"parameter":"page","stable":true,"first":0,"total_pages":"n"}}"#, #""n":2"#),
        ] {
            let http = Replies { _, number in
                list(number == 1 ? [1, 2] : [3, 4], extra.hasSuffix(":") ? extra + "\(number == 1)" : extra)
            }
            var reader = try Reader(items(#""page_size":{"parameter":"limit","value":2},"pagination":\#(rule)"#), http)
            try await reader.cycle()
            #expect(ids(reader) == ["r1", "r2", "r3", "r4"], "\(rule)")
            #expect(http.requests.count == 2, "\(rule)")
        }
    }

    @Test func anAnswerThatDoesNotSayWhetherThereIsMoreFails() async throws {
        let http = Replies { _, _ in list([1]) }
        for rule in [
            #"{"token":{"from":"next","parameter":"t","has_more":"more"}}"#, #"{"offset":{"parameter":"skip","total":"n"}}"#,
        ] {
            var reader = try Reader(items(#""pagination":\#(rule)"#), http)
            let failure = await failure { try await reader.cycle() }
            #expect(failure?.kind == .permanent)
        }
        let liar = Replies { _, _ in list([1], #""more":true"#) }
        var reader = try Reader(items(#""pagination":{"token":{"from":"next","parameter":"t","has_more":"more"}}"#), liar)
        #expect(await failure { try await reader.cycle() }?.error.message.hasPrefix("no progress") == true)
    }

    // MARK: What never ends

    @Test func P10_aSourceThatIgnoresPagesFailsLoudly() async throws {
        for rule in [
            #"{"offset":{"parameter":"skip","overlap":0}}"#, #"{"page":{"parameter":"page","stable":true}}"#,
            #"{"token":{"from":"next","parameter":"t"}}"#,
        ] {
            let http = Replies { _, number in list([1, 2], #""next":"t\#(number)""#) }
            var reader = try Reader(items(#""pagination":\#(rule)"#), http)
            let failure = await failure { try await reader.cycle() }
            #expect(failure?.error.message.hasPrefix("no progress: five pages in a row are the same") == true, "\(rule)")
            #expect(http.requests.count < 8)
        }
    }

    @Test func P10_aCycleHasABoundOfPages() async throws {
        let http = Replies { _, number in list([number], #""next":"t\#(number)""#) }
        var reader = try Reader(items(#""pagination":{"token":{"from":"next","parameter":"t"},"pages_max":7}"#), http)
        #expect(await failure { try await reader.cycle() }?.error.message.contains("raise pagination.pages_max") == true)
        #expect(http.requests.count == 7)
    }

    // MARK: Tokens that expire, lists that shift

    @Test func furtherStatusesMayMeanThatATokenExpired() async throws {
        let http = Replies { _, number in number == 2 ? Replies.ok("{}", status: 422) : list([number], #""next":"t""#) }
        for (extra, kind) in [(#","expired_status":[422]"#, PollFailure.Kind.pageStateExpired), ("", .permanent)] {
            var reader = try Reader(items(#""pagination":{"token":{"from":"next","parameter":"t"}\#(extra)}"#), http)
            reader.cursor = Array(#"{"mark":5,"value":"5"}"#.utf8)
            reader.pageState = Array(#"{"pages":1,"token":"t","steps":0,"steps_max":1}"#.utf8)
            let request = try reader.request()
            let failure = await failure { _ = try IncrementalPoll(reader.rules).page(from: Replies.ok("{}", status: 422), for: request) }
            #expect(failure?.kind == kind)
        }
        _ = http
    }

    /// The record that ends page 1 is deleted, and another before it: page 2 holds neither, so the cycle steps back.
    @Test func anOffsetStepsBackWhereItsListHasShifted() async throws {
        let lists = [Array(1...10), [1, 2, 3, 5, 7, 8, 9, 10]]
        let http = Replies { plan, number in
            let skip = Int(FakeProvider.query(plan.url)["skip"] ?? "0") ?? 0
            let all = lists[number == 1 ? 0 : 1]
            return list(Array(all.dropFirst(skip).prefix(4)))
        }
        let json = items(#""page_size":{"parameter":"limit","value":4},"pagination":{"offset":{"parameter":"skip"}}"#)
        var reader = try Reader(json, http)
        try await reader.cycle()
        #expect(Set(ids(reader)).isSuperset(of: [1, 2, 3, 5, 7, 8, 9, 10].map { "r\($0)" }))
        #expect(query(http, 2)["skip"] == "3", "one record is read twice on purpose")
        #expect(http.requests.count <= 7)
    }

    @Test func aListThatShiftsTooFastHoldsTheCursor() async throws {
        // No page ever holds a record of the one before.
        let http = Replies { plan, number in
            let skip = Int(FakeProvider.query(plan.url)["skip"] ?? "0") ?? 0
            return number > 40 ? list([]) : skip == 0 ? list([number * 10]) : list([number * 10 + 1, number * 10 + 2])
        }
        var reader = try Reader(items(#""page_size":{"parameter":"limit","value":2},"pagination":{"offset":{"parameter":"skip"}}"#), http)
        reader.cursor = Array(#"{"mark":5,"value":"5"}"#.utf8)
        try await reader.cycle(pagesMax: 60)
        #expect(reader.mark == 5)
        #expect(reader.warnings.contains { $0.contains("shifted faster") })
    }

    @Test func linksGoOnFromTheMarkWhereTheOrderAllowsIt() async throws {
        // GitHub's issues: since and sort=updated, and links that are page numbers.
        let http = Replies { plan, number in
            let since = Int64(FakeProvider.query(plan.url)["since"] ?? "0") ?? 0
            let all = (1...6).filter { t0 - 1000 + Int64($0) >= since }
            let reply = list(Array(all.prefix(3)))
            return HTTPReply(
                status: 200, headers: reply.headers + (all.count > 3 ? [HTTPField("Link", "<?page=2>; rel=\"next\"")] : []),
                body: reply.body)
        }
        let cursor = #"{"field":"at","parameter":"since","type":"unix_seconds","order":"asc"}"#
        var reader = try Reader(items(#""pagination":{"link":true}"#, cursor: cursor), http)
        try await reader.cycle()
        #expect(ids(reader) == (1...6).map { "r\($0)" })
        #expect(http.requests.map { FakeProvider.query($0.url)["page"] } == [nil, nil, nil])
        #expect(query(http, 2)["since"] == String(t0 - 997))
    }

    @Test(arguments: [
        (#"{"page":{"parameter":"page"}}"#, "none", "skips records"),
        (#"{"page":{"parameter":"page","total":"n"}}"#, "desc", "skips records"),
        (#"{"token":{"from":"next","parameter":"t","restart_from_mark":true}}"#, "none", "order = \"asc\""),
        (#"{"token":{"parameter":"t"}}"#, "asc", "from"), (#"{"token":{"from":"a","header":"b","parameter":"t"}}"#, "asc", "not both"),
        (#"{"offset":{"parameter":"o"},"link":true}"#, "asc", "exactly one of"),
        (#"{"token":{"from":"next","parameter":"a.b","in":"body"}}"#, "asc", "method"),
        (#"{"keyset":{"from":"id","parameter":"after","has_more":"more"}}"#, "asc", "skips records of a list ordered by"),
        (#"{"offset":{"parameter":"o","ends_with":"never"}}"#, "asc", "empty_page, short_page"),
    ])
    func P10_descriptionsThatWouldLoseRecordsAreRefused(_ rule: String, _ order: String, _ words: String) throws {
        let cursor = #"{"field":"updated_at","parameter":"since","type":"unix_seconds","order":"\#(order)"}"#
        let message = refusal(items(#""pagination":\#(rule)"#, cursor: cursor))
        #expect(message?.contains(words) == true, "\(message ?? "taken")")
    }
}
