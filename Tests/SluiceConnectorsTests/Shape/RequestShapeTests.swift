import Crypto
import SluiceCore
import Testing

@testable import SluiceConnectors

/// What requests look like: keys, bodies, signatures, lookups, carried headers, bounds from above.
@Suite struct RequestShapeTests {
    private let empty = #"{"items":[]}"#

    private func first(_ json: String, input: String = "{}", cursor: String? = nil) async throws -> HTTPRequestPlan {
        let replies = Replies { [empty] _, _ in Replies.ok(empty) }
        var reader = try Reader(json, replies)
        reader.input = input
        reader.cursor = cursor.map { Array($0.utf8) }
        try await reader.cycle()
        return try #require(replies.requests.first)
    }

    @Test func aKeyGoesIntoAHeaderOrTheQuery() async throws {
        let header = try await first(items(#""auth":{"header":{"name":"X-API-Key","value":"{connection.key}"}}"#))
        #expect(header.headers.first("x-api-key") == "k1")
        let query = try await first(items(#""query":{"a":"b"},"auth":{"query":{"name":"api_key","value":"{connection.key}"}}"#))
        #expect(FakeProvider.query(query.url) == ["a": "b", "api_key": "k1"])
        #expect(query.headers.first("Authorization") == nil)
        #expect(refusal(items(#""auth":{"header":{"name":"a b","value":"x"}}"#))?.contains("auth.header.name must be the name") == true)
    }

    @Test func aKeyInTheQueryIsSentOnceAndNeverStoredWithAPage() async throws {
        let replies = Replies { _, number in
            number == 1
                ? Replies.ok(#"{"items":[{"id":1,"at":5}]}"#, ["Link": #"</items?page=2&api_key=k1&x=1>; rel="next""#])
                : Replies.ok(#"{"items":[]}"#)
        }
        var reader = try Reader(
            items(#""pagination":{"link":true},"auth":{"query":{"name":"api_key","value":"{connection.key}"}}"#), replies)
        try await reader.cycle(pagesMax: 1)
        #expect(reader.pageState.map { String(decoding: $0, as: UTF8.self).contains("k1") } == false)
        try await reader.cycle()
        #expect(replies.requests[1].url == "https://api.test/items?page=2&x=1&api_key=k1")
    }

    @Test func headersComeFromTheInput() async throws {
        let json = items(#""headers":{"X-Team":"{input.team}","X-Region":"{input.region|eu}","X-None":"{input.none}"}"#)
        let plan = try await first(json, input: #"{"team":"t7"}"#)
        #expect(plan.headers.first("X-Team") == "t7" && plan.headers.first("X-Region") == "eu")
        #expect(plan.headers.first("X-None") == nil)
    }

    @Test func aBodysPlacesKeepTheirTypes() async throws {
        let body = #"""
            "method":"POST","body":{"json":{"filters":[{"field":"at","op":"GTE","value":"{cursor}"},{"text":"{cursor:text}"}],
            "states":"{input.states}","limit":"{input.limit}","deep":"{input.deep}","none":"{input.none}","id":"n-{input.limit}",
            "fixed":[1,true,null,"{{x}}"],"number":"{input.count:number}"}}
            """#
        let json = items(body, cursor: #"{"field":"at","type":"unix_seconds","order":"none"}"#)
        let input = #"{"states":["open","new"],"limit":50,"deep":true,"count":"7"}"#
        let plan = try await first(json, input: input, cursor: #"{"mark":1699999999,"value":"1699999999"}"#)
        #expect(plan.method == "POST")
        #expect(plan.headers.first("Content-Type") == "application/json")
        #expect(
            String(decoding: plan.body, as: UTF8.self)
                == #"{"filters":[{"field":"at","op":"GTE","value":1699999999},{"text":"1699999999"}],"states":["open","new"],"limit":50,"deep":true,"id":"n-50","fixed":[1,true,null,"{x}"],"number":7}"#
        )
    }

    @Test func aCursorThatIsTextStaysText() async throws {
        let body = #""body":{"json":{"since":"{cursor}"}}"#
        let json = items(body, cursor: #"{"field":"at","type":"rfc3339","order":"none"}"#)
        let plan = try await first(json, cursor: #"{"mark":1700000000000,"value":"2023-11-14T22:13:20Z"}"#)
        #expect(plan.method == "POST", "a body makes it a POST")
        #expect(String(decoding: plan.body, as: UTF8.self) == #"{"since":"2023-11-14T22:13:20Z"}"#)
        // Without a cursor its member is left out, and with a value for that case it is that.
        let none = try await first(items(body, cursor: #"{"field":"at","type":"rfc3339","order":"none"}"#))
        #expect(String(decoding: none.body, as: UTF8.self) == "{}")
    }

    @Test func aFormIsEncoded() async throws {
        let json = items(
            #""body":{"form":{"since":"{cursor|0}","who":"{input.who}","none":"{input.none}"}}"#,
            cursor: #"{"field":"at","type":"unix_seconds"}"#)
        let plan = try await first(json, input: #"{"who":"a b&c"}"#)
        #expect(String(decoding: plan.body, as: UTF8.self) == "since=0&who=a%20b%26c")
        #expect(plan.headers.first("Content-Type") == "application/x-www-form-urlencoded")
    }

    /// What a user or a provider wrote cannot become an element of the request.
    @Test func XMLIsSentWithItsValuesEscaped() async throws {
        let json = items(
            #""headers":{"SOAPAction":"\"list\""},"body":{"xml":"<list who='{input.who}'><since>{cursor|0}</since>{{}}</list>"}"#,
            cursor: #"{"field":"at","type":"unix_seconds"}"#)
        let plan = try await first(json, input: #"{"who":"a'b</list>&\"ü"}"#)
        #expect(
            String(decoding: plan.body, as: UTF8.self) == "<list who='a&apos;b&lt;/list&gt;&amp;&quot;ü'><since>0</since>{}</list>")
        #expect(plan.method == "POST" && plan.headers.first("SOAPAction") == "\"list\"")
        #expect(plan.headers.first("Content-Type") == "text/xml; charset=utf-8")
        await #expect(throws: PollFailure.self) { try await first(json, input: #"{"who":"\u0001"}"#) }
        for (members, words) in [
            (#""body":{"xml":"<since>{cursor}</since>"}"#, "before the first poll"),
            (#""body":{"xml":"<since>{cursor</since>"}"#, "malformed"),
            (
                #""body":{"xml":"<list/>"},"pagination":{"token":{"from":"next","parameter":"page","in":"body"}}"#,
                "no members to set a page's parameter in"
            ),
        ] {
            let message = #expect(throws: SluiceError.self) {
                try Incremental(json: JSONDocument(Array(items(members, cursor: #"{"field":"at","type":"unix_seconds"}"#).utf8)))
            }?.message
            #expect(message?.contains(words) == true, "\(message ?? "")")
        }
    }

    @Test func P3_aGraphQLErrorFailsThePoll() async throws {
        let query = #"query($since: String) { items(since: $since) { id at } }"#
        let json =
            #"{"base_url":"https://api.test","path":"/graphql","records":"data.items","dedup":{"id":"id","version":"at"},"cursor":{"field":"at","type":"unix_seconds"},"body":{"graphql":{"query":"\#(query)","variables":{"since":"{cursor:text}"}}}}"#
        let plan = try await { () async throws -> HTTPRequestPlan in
            let replies = Replies { _, _ in Replies.ok(#"{"data":{"items":[]},"errors":[]}"#) }
            var reader = try Reader(json, replies)
            reader.cursor = Array(#"{"mark":7,"value":"7"}"#.utf8)
            try await reader.cycle()
            return try #require(replies.requests.first)
        }()
        #expect(String(decoding: plan.body, as: UTF8.self) == #"{"query":"\#(query)","variables":{"since":"7"}}"#)
        for (code, kind) in [("THROTTLED", PollFailure.Kind.rateLimited), ("FORBIDDEN", .unauthorized), ("x", .transient)] {
            let replies = Replies { _, _ in
                Replies.ok(
                    #"{"data":{"items":[{"id":1,"at":9}]},"errors":[{"message":"half of it","extensions":{"code":"\#(code)"}}]}"#)
            }
            var reader = try Reader(json, replies)
            let failure = await failure { try await reader.cycle() }
            #expect(failure?.kind == kind)
            #expect(failure?.error.message.contains("half of it") == true)
            #expect(reader.jobs.isEmpty)
        }
    }

    @Test(arguments: ["hex", "base64"]) func requestsAreSigned(_ encoding: String) async throws {
        let json = items(
            #""query":{"b":"x y"},"sign":{"hmac":"sha256","key":"{connection.secret}","content":"{timestamp}.{method}{host}{path}?{query}{body}","header":"X-Signature","value":"v1={signature}","encoding":"\#(encoding)","timestamp":{"header":"X-Time"}}"#
        )
        let plan = try await first(json, cursor: #"{"mark":5,"value":"5"}"#)
        let content = "1700000000.GETapi.test/items?b=x%20y&since=5"
        let code = HMAC<SHA256>.authenticationCode(for: Array(content.utf8), using: SymmetricKey(data: Array("s3cret".utf8)))
        let text = encoding == "hex" ? Hex.text(bytes: code) : Base64.encode(Array(code))
        #expect(plan.headers.first("X-Signature") == "v1=" + text)
        #expect(plan.headers.first("X-Time") == "1700000000")
    }

    /// RFC 4231, test case 2, and the body's hash of FIPS 180-4.
    @Test func signaturesAreThoseOfThePublishedVectors() throws {
        var signing = RequestSigning(hash: .sha512, key: "Jefe", content: "what do ya want for nothing?", header: "S")
        var plan = HTTPRequestPlan(method: "POST", url: "https://api.test/a?x=1", body: Array("abc".utf8))
        let request = PollRequest(
            triggerType: "t", connection: try JSONDocument(Array("{}".utf8)), input: try JSONDocument(Array("{}".utf8)), cursor: nil,
            pageState: nil, readBound: Timestamp(seconds: 0))
        try signing.sign(&plan, request)
        #expect(
            plan.headers.first("S")
                == "164b7a7bfcf819e2e395fbe73b56e0a387bd64222e831fd610270cd7ea2505549758bf75c05a994a6d034f65f8f0e6fdcaeab1a34d4a6b4b636e070a38bce737"
        )
        signing.hash = .sha256
        (signing.key, signing.keyEncoding) = ("4a656665", .hex)
        try signing.sign(&plan, request)
        #expect(plan.headers.first("S") == "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843")
        signing.content = "{body_sha256}"
        signing.value = "{signature}/{timestamp}"
        try signing.sign(&plan, request)
        let hash = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
        let code = HMAC<SHA256>.authenticationCode(for: Array(hash.utf8), using: SymmetricKey(data: Array("Jefe".utf8)))
        #expect(plan.headers.first("S") == Hex.text(bytes: code) + "/0")
        signing.key = "xyz"
        #expect(throws: PollFailure.self) { try signing.sign(&plan, request) }
    }

    @Test func aLookupFeedsThePathOncePerCycle() async throws {
        let json = #"""
            {"base_url":"https://api.test","path":"/accounts/{lookup.account}/items","query":{"p":"{lookup.project}"},"records":"items",
             "auth":{"bearer":"{connection.key}"},"dedup":{"id":"id"},"pagination":{"token":{"from":"next","parameter":"t"}},
             "lookup":[{"as":"account","path":"/me","at":"account.id"},
               {"as":"project","path":"/accounts/{lookup.account}/projects","records":"list","where":{"field":"key","equals":"{input.project}"},"at":"id"}]}
            """#
        let replies = Replies { plan, _ in
            if plan.url.hasSuffix("/me") { return Replies.ok(#"{"account":{"id":42}}"#) }
            if plan.url.hasSuffix("/projects") { return Replies.ok(#"{"list":[{"key":"A","id":"p1"},{"key":"B","id":"p2"}]}"#) }
            return Replies.ok(plan.url.contains("t=n") ? #"{"items":[{"id":2}]}"# : #"{"items":[{"id":1}],"next":"n"}"#)
        }
        var reader = try Reader(json, replies)
        reader.input = #"{"project":"B"}"#
        try await reader.cycle(pagesMax: 1)
        try await reader.cycle()
        #expect(reader.keys == ["1", "2"])
        #expect(
            replies.requests.map(\.url) == [
                "https://api.test/me", "https://api.test/accounts/42/projects", "https://api.test/accounts/42/items?p=p2",
                "https://api.test/accounts/42/items?p=p2&t=n",
            ])
        #expect(replies.requests.allSatisfy { $0.headers.first("Authorization") == "Bearer k1" })
        try await reader.cycle()
        #expect(replies.requests.count == 8, "the next cycle looks again")
        reader.input = #"{"project":"C"}"#
        let failure = await failure { try await reader.cycle() }
        #expect(failure?.kind == .permanent)
        #expect(failure?.error.message.contains("lookup project found nothing: none of 2 records") == true)
    }

    @Test func aHeaderIsCarriedThroughACycle() async throws {
        let replies = Replies { _, number in
            switch number {
            case 1: Replies.ok(#"{"items":[{"id":1,"at":5}],"next":"a"}"#, ["x-session": "s1"])
            case 2: Replies.ok(#"{"items":[{"id":2,"at":5}],"next":"b"}"#)
            case 3: Replies.ok(#"{"items":[{"id":3,"at":5}]}"#, ["X-Session": "s2"])
            default: Replies.ok(#"{"items":[]}"#)
            }
        }
        var reader = try Reader(
            items(#""pagination":{"token":{"from":"next","parameter":"t"}},"carry":{"header":"X-Session","as":"X-Use-Session"}"#), replies)
        // Each page by a process of its own.
        for _ in 0..<3 { try await reader.cycle(pagesMax: 1) }
        #expect(replies.requests.map { $0.headers.first("X-Use-Session") } == [nil, "s1", "s1"])
        #expect(reader.keys == ["1@5", "2@5", "3@5"])
        try await reader.cycle()
        #expect(replies.requests[3].headers.first("X-Use-Session") == nil, "another cycle begins without it")
    }

    // MARK: The bound from above

    private let bounded =
        #"{"field":"at","parameter":"since","upper_parameter":"until","upper_always":true,"type":"unix_seconds","order":"none"}"#

    /// Our clock is behind the provider's: what it listed up to our time is put aside and asked for again, up to the provider's.
    @Test func P2_aBoundByAClockThatIsSlowIsAskedForAgain() async throws {
        let replies = Replies { plan, _ in
            let until = Int64(FakeProvider.query(plan.url)["until"] ?? "") ?? 0
            let list = [Replies.now - 100, Replies.now + 50].filter { $0 <= until }.map { #"{"id":"r\#($0)","at":\#($0)}"# }
            return Replies.ok(#"{"items":[\#(list.joined(separator: ","))]}"#, at: Replies.now + 60)
        }
        var reader = try Reader(items(cursor: bounded), replies)
        try await reader.cycle()
        #expect(replies.requests.map { FakeProvider.query($0.url)["until"] } == ["1700000001", "1700000061"])
        #expect(reader.keys.count == 2)
        #expect(reader.mark == Replies.now + 50)
        // Clocks that agree need one request.
        reader.nowSeconds = Replies.now + 60
        try await reader.cycle()
        #expect(replies.requests.count == 3)
        #expect(replies.requests[2].url.contains("since=\(Replies.now + 50)&until=\(Replies.now + 61)"))
    }

    @Test func aBoundThatIsRoundedToADayIsRefused() {
        let cursor = #"{"field":"at","parameter":"since","type":"date","zone":"utc","upper_parameter":"until","upper_always":true}"#
        #expect(refusal(items(cursor: cursor))?.contains("finer than a second") == true)
    }

    @Test func theBoundHoldsForTheWholeCycle() async throws {
        let replies = Replies { _, number in
            Replies.ok(number < 3 ? #"{"items":[{"id":\#(number),"at":5}],"next":"\#(number)"}"# : #"{"items":[]}"#)
        }
        var reader = try Reader(items(#""pagination":{"token":{"from":"next","parameter":"t"}}"#, cursor: bounded), replies)
        for second in 0..<3 {
            reader.nowSeconds = Replies.now + Int64(second) * 10
            try await reader.cycle(pagesMax: 1)
        }
        #expect(replies.requests.map { FakeProvider.query($0.url)["until"] } == Array(repeating: "1700000001", count: 3))
    }

    // MARK: Descriptions that are refused

    @Test(arguments: [
        (#""body":{"json":{"a":"{record.id}"}}"#, "body.json is malformed"), (#""body":{"json":{},"form":{"a":"b"}}"#, "exactly one of"),
        (#""body":{"jsn":{}}"#, "body.jsn means nothing here"), (#""method":"GET","body":{"json":{}}"#, "needs method = \"POST\""),
        (#""body":{"json":{"a":"{upper}"}}"#, "upper_always"), (#""sign":{"hmac":"md5","key":"k","content":"c","header":"H"}"#, "sha256"),
        (#""sign":{"hmac":"sha1","key":"k","content":"{timestamp}","header":"H"}"#, "sign.timestamp is missing"),
        (#""sign":{"hmac":"sha1","key":"k","content":"{nonce}","header":"H"}"#, "must be one of {body}"),
        (#""sign":{"hmac":"sha1","key":"k","content":"c","header":"H","value":"x"}"#, "must hold {signature}"),
        (#""sign":{"hmac":"sha1","key":"k","content":"c","header":"Content-Length"}"#, "must be the name of a header"),
        (#""carry":{"header":"X-A","to":"X-B"}"#, "carry.to means nothing here"),
        (#""query":{"a":"{lookup.b}"}"#, "names {lookup.b}, which no lookup"),
        (#""headers":{"a":"{lookup.b}"},"lookup":{"as":"b","path":"/b","at":"id"}"#, "incremental.headers names {lookup.b}"),
        (#""lookup":[{"as":"b","path":"/b/{lookup.b}","at":"id"}]"#, "names {lookup.b}"),
        (#""lookup":[{"as":"b","path":"/b","at":"id"},{"as":"b","path":"/b","at":"id"}]"#, "is there twice"),
        (#""lookup":{"as":"b","path":"/b","at":"id","where":{"field":"x","equals":1}}"#, "where needs records"),
    ]) func aFaultyRequestIsRefusedByName(_ extra: String, _ word: String) {
        let message = refusal(items(extra))
        #expect(message?.contains(word) == true, "\(message ?? "taken")")
    }

    @Test func bracesAreWrittenTwice() throws {
        let request = try Reader(items(), Replies { _, _ in Replies.ok("") }).request()
        #expect(try Template(#"{{"a":"{connection.key}"}}"#).text(request, for: "x") == #"{"a":"k1"}"#)
        #expect(try Template("}").text(request, for: "x") == "}")
        let unknown = "{{{a}}}"
        #expect(throws: SluiceError.self) { try Template(unknown) }
    }
}
