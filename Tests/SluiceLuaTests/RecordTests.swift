import SluiceConnectors
import SluiceCore
import Testing

@testable import SluiceLua

@Suite struct RecordTests {
    /// What a float, a re-encoded object or an unescaped string would each change.
    static let records = [
        #"{"z":1,"a":9007199254740993,"price":1.10,"e":1e2,"E":-0.0E-3}"#, #"{ "b" : [ ] ,"text":"\u00e9\/\n\ud83d\ude00","b":2}"#,
        #"{"id":18446744073709551615,"deep":{"x":[1,{"y":null}]}}"#, #"{}"#,
    ]
    static let body = #"{"data": {"list" : ["# + records.joined(separator: " ,\n") + #"], "next":"n1"}}"#

    @Test(arguments: [
        "return { events = get('https://e.com').json.data.list }",
        "local events = {} for i, record in ipairs(get('https://e.com').json.data.list) do events[i] = record end return { events = events }",
        "local list = get('https://e.com').json.data.list return { events = { list[1], list[2], list[3], list[4] } }",
        "for key, value in pairs(get('https://e.com').json.data) do if key == 'list' then return { events = value } end end",
    ])
    func recordsKeepTheirBytes(poll: String) async throws {
        let page = try await connector(poll: poll).poll(pollRequest(), http: FakeHTTP(json: RecordTests.body))
        #expect(page.records.map { text($0.bytes) } == RecordTests.records)
        #expect(page.records.allSatisfy { !$0.isDerived })
        #expect(!page.more && page.cursor == nil)
    }

    @Test func nestedViewsKeepTheirBytes() async throws {
        let poll = "local e = {} for i, entry in ipairs(get('https://e.com').json.list) do e[i] = entry.event end return { events = e }"
        let page = try await connector(poll: poll).poll(pollRequest(), http: FakeHTTP(json: #"{"list":[{"event": {"a": 1.10 } }]}"#))
        #expect(page.records.map { text($0.bytes) } == [#"{"a": 1.10 }"#])
        #expect(page.records.map(\.isDerived) == [false])
    }

    @Test func builtTablesAreDerived() async throws {
        let poll = """
            local record = get('https://e.com').json
            local copy = json_table(record)
            copy.added = true
            return { events = { { z = record.big, a = record.inner, list = { 1, 2.5, 1e300, -0.1, "\\"\\n" }, empty = {}, none = json_array(),
              huge = record.huge, null = json_null, int = math.mininteger }, copy } }
            """
        let body = #"{"big":9007199254740993,"inner":{"b": 1.10,"a":1e2},"huge":18446744073709551615,"none":null,"l":[]}"#
        let page = try await connector(poll: poll).poll(pollRequest(), http: FakeHTTP(json: body))
        #expect(
            page.records.map { text($0.bytes) } == [
                #"{"a":{"b": 1.10,"a":1e2},"empty":{},"huge":18446744073709551615,"int":-9223372036854775808,"#
                    + #""list":[1,2.5,1e+300,-0.1,"\"\n"],"none":[],"null":null,"z":9007199254740993}"#,
                #"{"added":true,"big":9007199254740993,"huge":18446744073709551615,"inner":{"a":100.0,"b":1.1},"l":[],"none":null}"#,
            ])
        #expect(page.records.map(\.isDerived) == [true, true])
    }

    @Test func valuesReadAsLuaHasThem() throws {
        let lua = try keysConnector(
            """
            local v = request.json
            return { math.type(v.int), math.type(v.float), tostring(v.int), tostring(v.exp), v.text, tostring(v.missing), tostring(v.null),
              tostring(v.yes), v.huge .. "", "n" .. v.fine, tostring(v.huge > 5), tostring(v.huge + 1 == 2^64), tostring(#v.list),
              tostring(v.list[2]), tostring(v.list[4]), tostring(v.list[-1]), v["k\\"ey"], v.obj.x.y, tostring(v.obj), type(v.obj),
              tostring(v.huge == v.huge2), request.headers["x-foo"], request.headers.date or "none", request.method .. request.path .. request.query }
            """)
        let body =
            #"{"int":9223372036854775807,"float":1.10,"exp":1e2,"text":"\u00e9\n\ud83d\ude00","null":null,"yes":true,"#
            + #""huge":18446744073709551615,"huge2":18446744073709551615,"fine":1700000000.123456789,"list":[1,"b",null],"#
            + #""k\"ey":"escaped","obj":{"x":{"y":"deep"}}}"#
        #expect(
            try lua.webhookKeys(webhook(body, headers: [HTTPField("X-Foo", "bar"), HTTPField("X-Foo", "second")])) == [
                "integer", "float", "9223372036854775807", "100.0", "é\n😀", "nil", "nil", "true", "18446744073709551615",
                "n1700000000.123456789", "true", "true", "3", "b", "nil", "nil", "escaped", "deep", #"{"x":{"y":"deep"}}"#, "userdata",
                "true", "bar", "none", "POST/w/1a=b",
            ])
    }

    /// What a source's numbers count within: the polling service makes it a part of the dedup keys.
    @Test func anEpochGoesWithItsPage() async throws {
        let lua = try connector(poll: "return { events = {}, epoch = '17.' .. (closure and 1 or 0), next_poll = 1 }")
        #expect(try await lua.poll(pollRequest(cursor: "1", recordsMax: 10), http: FakeHTTP(json: "{}")).epoch == "17.1")
        let plain = try connector(poll: "return { events = {} }")
        #expect(try await plain.poll(pollRequest(cursor: "1", recordsMax: 10), http: FakeHTTP(json: "{}")).epoch == nil)
    }

    @Test(arguments: [
        ("return nil", "returned a nil"), ("return 1", "returned a number"), ("return {}", "returned no events"),
        ("return { events = 1 }", "events of type number"), ("return { events = { 1 } }", "event 1 as a number"),
        ("return { events = { {}, nil, {} } }", "event"), ("return { events = { x = {} } }", "not a sequence"),
        ("return { events = {}, can_pol_more = true }", "unknown key 'can_pol_more'"),
        ("return { events = {}, can_poll_more = 1 }", "can_poll_more as a number"),
        ("return { events = {}, can_poll_more = true }", "without next_poll"),
        ("return { events = {}, next_poll = function() end }", "function"),
        ("return { events = {}, next_poll = { x = 0/0 } }", "not finite"),
        ("return { events = {}, next_poll = ('x'):rep(70000) }", "more than 65536 bytes"),
        ("return { events = {}, epoch = 1 }", "epoch"), ("return { events = {}, epoch = '' }", "epoch"),
        ("return { events = {}, epoch = ('x'):rep(201) }", "at most 200 bytes"), ("return { events = {}, epoch = '\\255' }", "not UTF-8"),
        ("local t = {} t.t = t return { events = {}, next_poll = t }", "contains itself"),
        ("return { events = {}, next_poll = closure, can_poll_more = true }", "the same for ever"),
        ("return { events = connection }", "object of the answer, expected an array"),
        ("local e = {} for i = 1, 11 do e[i] = { id = i } end return { events = e }", "returned 11 events, more than 10"),
        ("return { events = get('https://e.com').json }", "returned 12 events, more than 10"),
        ("get('ftp://x')", "must begin with https://"), ("get('https://x', { parms = {} })", "unknown option 'parms'"),
        ("get('https://x', { headers = { A = 'b\\r\\nC: d' } })", "cannot hold"), ("get()", "string expected"),
        ("table.sort({ 1, 2 }, function() get('https://x') end)", "not inside a callback"),
    ])
    func nonsenseIsAClearError(poll: String, expected: String) async throws {
        let lua = try connector(poll: poll)
        let twelve = "[" + (1...12).map { "{\"id\":\($0)}" }.joined(separator: ",") + "]"
        let message = await message {
            _ = try await lua.poll(pollRequest(cursor: #"{"a":[1,"x",{}]}"#, recordsMax: 10), http: FakeHTTP(json: twelve))
        }
        #expect(message?.hasPrefix("connector.lua:") == true, "\(message ?? "no error")")
        #expect(message?.contains(expected) == true, "\(message ?? "no error")")
    }

    @Test(arguments: [#"{"a":[1,"x",{}],"b":[],"c":null,"d":9007199254740993,"e":{}}"#, "5", #""text""#, "[]", "true", "[1,null]"])
    func closuresRoundTrip(cursor: String) async throws {
        let page = try await connector(poll: "return { events = {}, next_poll = closure }").poll(pollRequest(cursor: cursor), http: noHTTP)
        #expect(page.cursor.map(text) == cursor)
    }

    @Test func theClosureOfAnOpenCycleGoesFirst() async throws {
        let lua = try connector(poll: "return { events = {}, next_poll = { n = closure.n + 1 }, can_poll_more = closure.n < 5 }")
        let open = try await lua.poll(pollRequest(cursor: #"{"n":1}"#), http: noHTTP)
        #expect(open.more && open.cursor == nil && open.pageState.map(text) == #"{"n":2}"#)
        let last = try await lua.poll(pollRequest(cursor: #"{"n":1}"#, pageState: #"{"n":7}"#), http: noHTTP)
        #expect(!last.more && last.pageState == nil && last.cursor.map(text) == #"{"n":8}"#)
    }

    @Test func failuresKeepTheirKind() async throws {
        let failing = FakeHTTP { _ in throw PollFailure(.rateLimited, SluiceError(.rateLimited, "slow down"), retryAfter: .seconds(7)) }
        let lua = try connector(poll: "pcall(get, 'https://e.com') return { events = {} }")
        #expect(await message { _ = try await lua.poll(pollRequest(), http: failing) } == "rateLimited: slow down")
        let html = try connector(poll: "local ok = pcall(function() return get('https://e.com').json.x end) return { events = {} }")
        let answer = await message { _ = try await html.poll(pollRequest(), http: FakeHTTP(json: "<html>")) }
        #expect(answer?.hasPrefix("transient: the provider's answer is not JSON") == true, "\(answer ?? "no error")")
        let own = try connector(poll: "pcall(poll_failure, 'bad_cursor', 'unknown cursor') return { events = {} }")
        #expect(await message { _ = try await own.poll(pollRequest(), http: noHTTP) } == "badCursor: unknown cursor")
        let leaking = try connector(poll: "error('key is ' .. connection.api_key)")
        let message = await message { _ = try await leaking.poll(pollRequest(), http: noHTTP) }
        #expect(message == "connector.lua:9: key is [api_key]")
    }

    @Test func requestsAreBuiltAsAsked() async throws {
        let poll = """
            post("https://e.com/a?x=1", { params = { b = { 1, 2 }, a = "ü &" }, headers = { ["X-A"] = "1" }, json = { k = { 1 } } })
            post("https://e.com", { form = { { "z", 1 }, { "a", true } }, any_status = true })
            local r = post("https://e.com", { body = "raw" })
            return { events = {}, next_poll = { status = r.status, date = parse_http_date(r.headers.Date), b64 = base64_encode("ab:"),
              mac = hmac_sha256_hex("key", "The quick brown fox jumps over the lazy dog"), url = url_encode("a b/ü"), body = r.body } }
            """
        let seen = Recorder<HTTPRequestPlan>()
        let http = FakeHTTP { plan in
            seen.add(plan)
            return reply("{}", status: 201, headers: [HTTPField("date", "Sun, 06 Nov 1994 08:49:37 GMT")])
        }
        let page = try await connector(poll: poll).poll(pollRequest(), http: http)
        #expect(
            page.cursor.map(text)
                == #"{"b64":"YWI6","body":"{}","date":784111777,"mac":"f7bc83f430538424b13298e6aa6fb143ef4d59a14946175997479dbc2d1a3cd8","status":201,"url":"a%20b%2F%C3%BC"}"#
        )
        let plans = seen.values
        #expect(plans.map(\.url) == ["https://e.com/a?x=1&a=%C3%BC%20%26&b=1&b=2", "https://e.com", "https://e.com"])
        #expect(plans.map { text($0.body) } == [#"{"k":[1]}"#, "z=1&a=true", "raw"])
        #expect(plans.map(\.method) == ["POST", "POST", "POST"])
        #expect(plans.map(\.acceptsAnyStatus) == [false, true, false])
        #expect(plans[0].headers.first("x-a") == "1" && plans[0].headers.first("content-type") == "application/json")
    }
}
