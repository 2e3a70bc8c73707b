import SluiceCore
import Testing

@testable import SluiceConnectors

/// Requests, answers and rules of `incremental`, apart from the traps of cursors.
@Suite struct IncrementalTests {
    private let t0: Int64 = 1_700_000_000

    private func follower(_ answer: HTTPReply, cursor: String? = nil, pageState: String? = nil) throws -> Follower {
        let provider = FakeProvider { $0.answer = { _, _, _ in answer } }
        var follower = Follower(try Rules.bare(), provider)
        follower.cursor = cursor.map { Array($0.utf8) }
        follower.pageState = pageState.map { Array($0.utf8) }
        return follower
    }

    @Test func theRequestIsBuiltFromConnectionAndInput() throws {
        var follower = Follower(try Rules.bare(pageSize: 100), FakeProvider())
        follower.connection = #"{"site_url":"https://api.test/base/","api_key":"key_1"}"#
        follower.input = #"{"resource":"credit note/1"}"#
        follower.cursor = Array(#"{"mark":500,"value":"500"}"#.utf8)
        let plan = try IncrementalPoll(Rules.bare(pageSize: 100)).nextRequest(follower.request())
        #expect(plan.method == "GET")
        #expect(
            plan.url
                == "https://api.test/base/api/v2/credit%20note%2F1s?sort_by%5Basc%5D=updated_at&limit=100&updated_at%5Bafter%5D=499")
        #expect(plan.headers.first("authorization") == "Basic a2V5XzE6")
    }

    @Test(arguments: [
        (#"{"api_key":"k"}"#, #"{"resource":"x"}"#, "site_url"), (#"{"site_url":"https://a.test"}"#, #"{"resource":"x"}"#, "api_key"),
        (#"{"site_url":"https://a.test","api_key":"k"}"#, "{}", "resource"),
        (#"{"site_url":"ftp://a.test","api_key":"k"}"#, #"{"resource":"x"}"#, "base URL"),
        (#"{"site_url":"https://u:p@a.test","api_key":"k"}"#, #"{"resource":"x"}"#, "base URL"),
        (#"{"site_url":"https://a.test?x=1","api_key":"k"}"#, #"{"resource":"x"}"#, "base URL"),
    ]) func P10_missingOrOddFieldsAreNamed(_ connection: String, _ input: String, _ word: String) async throws {
        var follower = Follower(try Rules.bare(), FakeProvider())
        (follower.connection, follower.input) = (connection, input)
        let failure = await failure { try await follower.cycle() }
        #expect(failure?.kind == .permanent)
        #expect(failure?.error.message.contains(word) == true)
    }

    @Test(
        arguments: [
            (400, nil, nil, PollFailure.Kind.permanent), (400, "500", nil, .badCursor), (410, "500", nil, .badCursor),
            (400, "500", "t", .pageStateExpired), (404, "500", "t", .pageStateExpired), (410, nil, "t", .pageStateExpired),
            (404, "500", nil, .permanent), (429, nil, nil, .rateLimited), (401, nil, nil, .unauthorized), (403, nil, "t", .unauthorized),
            (500, nil, "t", .transient), (503, "500", nil, .transient), (302, nil, nil, .permanent),
        ] as [(Int, String?, String?, PollFailure.Kind)])
    func P10_eachStatusHasItsKind(_ status: Int, _ cursor: String?, _ token: String?, _ kind: PollFailure.Kind) throws {
        let state = token.map { #"{"pages":1,"token":"\#($0)","steps":0,"steps_max":1}"# }
        let request = try follower(HTTPReply(status: 200, headers: [], body: []), cursor: cursor, pageState: state).request()
        let reply = HTTPReply(status: status, headers: [HTTPField("Retry-After", "7")], body: [])
        #expect(throws: PollFailure.self) { try IncrementalPoll(Rules.bare()).page(from: reply, for: request) }
        do {
            _ = try IncrementalPoll(Rules.bare()).page(from: reply, for: request)
        } catch let failure as PollFailure {
            #expect(failure.kind == kind)
            #expect(failure.retryAfter == (status == 429 || status >= 500 ? .seconds(7) : nil))
        }
    }

    @Test func P10_answersThatAreNoPageFail() async throws {
        for (body, kind, word) in [
            ("<!DOCTYPE html><html>", PollFailure.Kind.transient, "<!DOCTYPE"), ("", .transient, "ends too early"),
            (#"{"list":[{"#, .transient, "ends too early"), (#"{"items":[]}"#, .permanent, "\"list\""),
            (#"{"list":{}}"#, .permanent, "\"list\""),
            (#"{"list":[],"next_offset":{"a":1}}"#, .permanent, "next_offset"),
        ] {
            var follower = try follower(HTTPReply(status: 200, headers: [FakeProvider.date(t0)], body: Array(body.utf8)))
            let failure = await failure { try await follower.cycle() }
            #expect(failure?.kind == kind, "\(body)")
            #expect(failure?.error.message.contains(word) == true, "\(failure?.error.message ?? "")")
        }
    }

    @Test func P10_aPageThatIsTooLargeFails() throws {
        let body = #"{"list":["# + Array(repeating: #"{"subscription":{}}"#, count: 11).joined(separator: ",") + "]}"
        var request = try follower(HTTPReply(status: 200, headers: [], body: [])).request()
        request.recordsMax = 10
        let plan = try IncrementalPoll(Rules.bare(pageSize: 100)).nextRequest(request)
        #expect(FakeProvider.query(plan.url)["limit"] == "10")
        #expect(throws: PollFailure.self) {
            try IncrementalPoll(Rules.bare()).page(from: HTTPReply(status: 200, headers: [], body: Array(body.utf8)), for: request)
        }
    }

    @Test func aRecordWithoutItsTimeIsKeptAndDoesNotMoveTheMark() async throws {
        let body =
            #"{"list":[{"subscription":{"id":"a","updated_at":\#(t0 - 9)}},{"subscription":{"id":"b"}},{"subscription":{"id":"c","updated_at":"x"}}]}"#
        var follower = try follower(HTTPReply(status: 200, headers: [FakeProvider.date(t0)], body: Array(body.utf8)))
        let page = try await follower.read(follower.request())
        #expect(page.marks == [t0 - 9, Int64.max, Int64.max])
        #expect(page.cursorMark == t0 - 9)
        #expect(page.records.map { String(decoding: $0.bytes, as: UTF8.self) }[1] == #"{"id":"b"}"#)
        try await follower.cycle()
        #expect(follower.jobs.count == 3)
        #expect(follower.warnings.contains { $0.contains("2 of 3 records have no readable updated_at") })
    }

    @Test func linkPagesStayOnTheirHost() async throws {
        let style = FakeProvider.Style(paging: .link)
        let provider = FakeProvider(style) { state in for index in 0..<5 { state.put("r\(index)", t0 - 100 + Int64(index)) } }
        var follower = Follower(try Rules.bare { ($0.pagination, $0.linksRestartFromMark) = (.link, false) }, provider)
        try await follower.cycle()
        #expect(Set(follower.jobs) == provider.versions)
        #expect(provider.requests[1].url == "https://api.test/api/v2/subscriptions?offset=2&limit=2")
        #expect(provider.requests[1].headers.first("Authorization") != nil)
        for target in [
            "https://evil.test/x", "http://api.test/x", "//evil.test/x", "https://api.test:444/x", "https://api.test@evil.test/x",
            "javascript:x",
        ] {
            provider.change {
                $0.answer = { _, _, _ in
                    HTTPReply(
                        status: 200, headers: [HTTPField("Link", "<\(target)>; rel=\"prev next\"")], body: Array(#"{"list":[]}"#.utf8))
                }
            }
            follower.pageState = nil
            let failure = await failure { try await follower.cycle() }
            #expect(failure?.error.message.contains("another host") == true, "\(target)")
        }
    }

    @Test func linkHeadersAreReadAsWritten() {
        func next(_ value: String) -> String? { LinkHeader.next(in: [HTTPField("link", value)]) }
        #expect(next(#"<a?x=1,2>; rel=prev, <b>; title="x, rel=next"; rel="next""#) == "b")
        #expect(next("<c>; REL=NEXT") == "c")
        #expect(next(#"<c>; rel="last"; title="next""#) == nil)
        #expect(next("<c; rel=next") == nil)
        #expect(next("") == nil)
        let base = WebURL("https://h.test/a/b?x=1")
        #expect(base.resolve("?y=2") == "https://h.test/a/b?y=2")
        #expect(base.resolve("c#f") == "https://h.test/a/c")
        #expect(base.resolve("/d") == "https://h.test/d")
        #expect(base.resolve("//o.test/d") == "https://o.test/d")
        #expect(WebURL.origin("HTTPS://H.test:443/x") == WebURL.origin("https://h.test"))
    }

    // MARK: Keyset, as Stripe and its stand-in do it

    private func events(_ order: FakeProvider.Order, _ count: Int) -> FakeProvider {
        let style = FakeProvider.Style(
            filter: "created[gte]", isStrict: false, order: order, paging: .startingAfter, wrapper: nil, list: "data", timeField: "created")
        return FakeProvider(style) { state in for index in 0..<count { state.put("evt_\(index)", t0 - 100 + Int64(index / 9)) } }
    }

    private func stripe(_ provider: FakeProvider, pageSize: Int) throws -> Follower {
        var follower = Follower(try Rules.incremental(Rules.stripe) { $0.pageSize?.value = pageSize }, provider)
        follower.connection = #"{"base_url":"http://127.0.0.1:1","api_key":"sk_1"}"#
        follower.input = "{}"
        return follower
    }

    @Test(arguments: [FakeProvider.Order.descending, .insertion]) func P4_stripeEventsInEitherOrder(_ order: FakeProvider.Order)
        async throws
    {
        let provider = events(order, 20)
        var follower = try stripe(provider, pageSize: 3)
        try await follower.cycle()
        #expect(follower.jobs.count == 20)
        #expect(follower.cursors.dropLast().allSatisfy { $0.contains(String(t0 - 3600)) }, "the mark waits for the last page")
        // Everything was seen up to the last event, and the server's clock less a second is later still.
        #expect(follower.mark == t0 - 98)
        provider.change { state in for index in 20..<30 { state.put("evt_\(index)", t0 - 98) } }
        try await follower.cycle()
        #expect(follower.jobs.count == 30)
    }

    @Test func theUpperBoundIsFrozenAtTheCyclesStart() async throws {
        let provider = events(.insertion, 4)
        provider.change { state in
            state.beforeAnswer = { state, number in
                state.nowSeconds += 10
                state.put("live_\(number)", state.nowSeconds)
            }
        }
        var follower = try stripe(provider, pageSize: 2)
        try await follower.cycle()
        #expect(FakeProvider.query(provider.requests[0].url)["created[lte]"] == nil)
        for request in provider.requests.dropFirst() { #expect(FakeProvider.query(request.url)["created[lte]"] == String(t0 + 10)) }
        #expect(provider.requests.count == 3, "a feed that grows while it is read does not keep the cycle open")
        provider.change { $0.beforeAnswer = nil }
        try await follower.cycle()
        #expect(follower.jobs.count == 7)
    }

    @Test func aSourceThatSilentlyBeginsAnewIsNoticed() async throws {
        let provider = events(.insertion, 12)
        // The event that marks the place is gone when the third page is asked for.
        provider.change { $0.beforeAnswer = { state, number in if number == 3 { state.items.removeAll { $0.id == "evt_5" } } } }
        var follower = try stripe(provider, pageSize: 3)
        try await follower.cycle()
        #expect(follower.jobs.count == 12)
        #expect(provider.requests.count < 10)
        // A source that ignores the key altogether would be read for ever.
        let deaf = events(.insertion, 12)
        var endless = try stripe(deaf, pageSize: 3)
        deaf.change { state in
            state.answer = { state, _, _ in
                HTTPReply(
                    status: 200, headers: [FakeProvider.date(state.nowSeconds)],
                    body: Array(#"{"data":[{"id":"evt_1","created":1699999999},{"id":"evt_2","created":1699999999}],"has_more":true}"#.utf8)
                )
            }
        }
        #expect(await failure { try await endless.cycle() }?.error.message.hasPrefix("no progress") == true)
    }

    // MARK: Dedup keys

    @Test func P4_dedupKeysAreExact() throws {
        func key(_ record: String, _ versions: [String] = ["v"]) throws -> String? {
            let rules = try Rules.bare { $0.dedup = .init(id: JSONPath(["id"]), versions: versions.map { JSONPath([$0]) }) }
            return try? rules.dedupKeys(records: [Record(bytes: Array(record.utf8)[...])]).first?.map {
                String(decoding: $0, as: UTF8.self)
            }.get()
        }
        #expect(try key(#"{"id":"a","v":9007199254740993}"#) == "a@9007199254740993")
        #expect(try key(#"{"id":7,"v":"24e0"}"#) == "7@24e0")
        #expect(try key(#"{"id":"a@b","v":"c"}"#) != key(#"{"id":"a","v":"b@c"}"#))
        #expect(try key(#"{"id":"a\u00e9\n","v":1}"#) == "aé\n@1")
        #expect(try key(#"{"id":"a","v":1,"w":2}"#, ["v", "w"]) == "a@1@2")
        #expect(try key(#"{"id":"a"}"#, []) == "a")
        // Without its version a record counts by its content.
        #expect(try key(#"{"id":"a","x":1}"#) != key(#"{"id":"a","x":2}"#))
        #expect(try key(#"{"id":"a","x":1}"#)?.hasPrefix("a@content:") == true)
        for bad in [
            #"{"v":1}"#, #"{"id":null,"v":1}"#, #"{"id":{},"v":1}"#, #"{"id":"","v":1}"#,
            #"{"id":"\#(String(repeating: "a", count: 1024))","v":1}"#, "[]",
        ] {
            #expect(try key(bad) == nil, "\(bad.prefix(40))")
        }
    }
}
