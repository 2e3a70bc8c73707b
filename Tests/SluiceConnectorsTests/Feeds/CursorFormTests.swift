import SluiceCore
import Testing

@testable import SluiceConnectors

/// Bounds as APIs want them, and cursors that are no plain time.
@Suite struct CursorFormTests {
    private let t0 = Replies.now

    private func read(_ pattern: TimePattern, _ text: String) -> Times.Reading {
        Array(text.utf8).withUnsafeBufferPointer { pattern.read($0) }
    }

    @Test(arguments: [
        ("%Y-%m-%d %H:%M:%S", "2023-11-14 22:13:20", 1_700_000_000_000, false), ("%F", "2023-11-14", 1_699_920_000_000, false),
        ("%d/%m/%Y %I:%M %p", "14/11/2023 10:13 PM", 1_699_999_980_000, false),
        ("%FT%T.%3fZ", "2023-11-14T22:13:20.123Z", 1_700_000_000_123, true),
        ("%FT%T.%6f%:z", "2023-11-14T22:13:20.123000+00:00", 1_700_000_000_123, true),
        ("%FT%T%z", "2023-11-14T22:13:20+0000", 1_700_000_000_000, true),
        ("%s", "1700000000", 1_700_000_000_000, true), ("%b %d %Y %T", "Nov 14 2023 22:13:20", 1_700_000_000_000, false),
        ("at %s.%f", "at 1700000000.123000", 1_700_000_000_123, true),
        ("%d.%m.%Y 12:%M %%", "14.11.2023 12:00 %", 1_699_920_000_000, false),
    ])
    func patternsReadWhatTheyWrite(_ pattern: String, _ text: String, _ milliseconds: Int64, _ namesZone: Bool) throws {
        let pattern = try TimePattern(pattern)
        #expect(pattern.write(milliseconds, offsetSeconds: 0) == text)
        #expect(read(pattern, text) == (namesZone ? .milliseconds(milliseconds) : .zoneless(milliseconds)))
        for bad in ["", text + "x", "x" + text, "2023-13-45"] { #expect(read(pattern, bad) == .unreadable, "\(bad)") }
    }

    @Test(arguments: [("%Y-%q", "%q is not known"), ("%H:%M", "needs %Y"), ("%F %I", "belong together"), ("%", "not known")])
    func patternsThatSayTooLittleAreRefused(_ pattern: String, _ words: String) {
        let error = #expect(throws: SluiceError.self) { try TimePattern(pattern) }
        #expect(error?.message.contains(words) == true, "\(error?.message ?? "")")
    }

    @Test func anOffsetIsWrittenAsItWas() throws {
        let pattern = try TimePattern("%F %T %:z")
        #expect(pattern.write(1_700_000_000_000, offsetSeconds: -12_600) == "2023-11-14 18:43:20 -03:30")
        #expect(read(pattern, "2023-11-14 18:43:20 -03:30") == .milliseconds(1_700_000_000_000))
    }

    // MARK: In requests

    private func url(_ json: String, cursor: String?, method: String = "GET") async throws -> HTTPRequestPlan {
        let http = Replies { _, _ in Replies.ok(#"{"items":[]}"#) }
        var reader = try Reader(json, http)
        reader.cursor = cursor.map { Array($0.utf8) }
        try await reader.cycle()
        return http.requests[0]
    }

    private func described(_ members: String, _ rest: String = #""query":{"filter":"modified gt '{cursor}'","x":"1"}"#) -> String {
        items(rest, cursor: #"{"field":"at",\#(members)}"#)
    }

    @Test(arguments: [
        (#""type":"rfc3339""#, #""2023-11-14T22:13:20.123456Z""#, "2023-11-14T22:13:20.123456Z"),
        (#""type":"rfc3339","format":"%FT%T.%3fZ""#, #""2023-11-14T22:13:20.123456Z""#, "2023-11-14T22:13:20.123Z"),
        (#""type":"rfc3339","format":"date","zone":"utc""#, #""2023-11-14T22:13:20Z""#, "2023-11-14"),
        (#""type":"rfc3339","format":"date","zone":"+02:00""#, #""2023-11-14T22:13:20Z""#, "2023-11-15"),
        (#""type":"rfc3339","format":"date","zone":"utc","exclusive":true"#, #""2023-11-14T22:13:20Z""#, "2023-11-13"),
        (#""type":"rfc3339","format":"%F %T","zone":"-05:00""#, #""2023-11-14T22:13:20.9Z""#, "2023-11-14 17:13:20"),
        (#""type":"rfc3339","format":"unix_milliseconds""#, #""2023-11-14T22:13:20.123456Z""#, "1700000000123"),
        (#""type":"rfc3339","format":"unix_seconds","exclusive":true"#, #""2023-11-14T22:13:20.9Z""#, "1699999999"),
        (#""type":"unix_milliseconds","format":"rfc3339","lookback_seconds":1"#, "1700000000123", "2023-11-14T22:13:19.123Z"),
        (#""type":"unix_seconds","format":"%F %T %:z","zone":"+01:00""#, "1700000000", "2023-11-14 23:13:20 +01:00"),
        (#""type":"unix_decimal""#, #""1700000000.000100""#, "1700000000.000100"),
        (#""type":"unix_decimal","exclusive":true"#, #""1700000000.000100""#, "1700000000.000099"),
        (#""type":"unix_microseconds","lookback_seconds":1"#, "1700000000000100", "1699999999000100"),
        (#""type":"date","zone":"utc""#, #""2023-11-14""#, "2023-11-14"),
        (#""type":"date","zone":"utc","exclusive":true"#, #""2023-11-14""#, "2023-11-13"),
        (#""type":"strftime","pattern":"%d/%m/%Y %H:%M","zone":"utc""#, #""14/11/2023 22:13""#, "14/11/2023 22:13"),
        (#""type":"strftime","pattern":"%d/%m/%Y %H:%M","zone":"utc","exclusive":true"#, #""14/11/2023 22:13""#, "14/11/2023 22:12"),
        (#""type":"integer""#, "9007199254740993", "9007199254740993"), (#""type":"integer""#, #""007""#, "007"),
        (#""type":"integer""#, #""24e0""#, "24e0"), (#""type":"text""#, #""01ARZ3NDEKTSV4RRFFQ69G5FAV""#, "01ARZ3NDEKTSV4RRFFQ69G5FAV"),
        (#""type":"text""#, #""24e0""#, "24e0"), (#""type":"text""#, #""007""#, "007"),
    ])
    func P4_theBoundIsWrittenAsTheAPIWantsIt(_ members: String, _ value: String, _ bound: String) async throws {
        // As it comes in a record, through the stored cursor, into the next request.
        let http = Replies { _, _ in Replies.ok(#"{"items":[{"id":"a","at":\#(value)}]}"#, at: 2_000_000_000) }
        var reader = try Reader(described(members), http)
        try await reader.cycle()
        try await reader.cycle()
        let queries = http.requests.map { FakeProvider.query($0.url) }
        #expect(queries[0] == ["x": "1"], "there is no cursor yet")
        #expect(queries[1] == ["filter": "modified gt '\(bound)'", "x": "1"])
        #expect(reader.jobs.count == 1)
    }

    @Test func P4_theCursorStandsWhereverATemplateDoes() async throws {
        let cursor = #"{"mark":1700000000,"value":"1700000000"}"#
        let body = try await url(
            described(#""type":"unix_seconds""#, #""body":{"json":{"q":"updated>{cursor}","n":"{cursor}","t":"{cursor:text}"}}"#),
            cursor: cursor)
        #expect(String(decoding: body.body, as: UTF8.self) == #"{"q":"updated>1700000000","n":1700000000,"t":"1700000000"}"#)
        let path = try await url(
            #"{"base_url":"https://api.test","path":"/changes/{cursor|0}","records":"items","dedup":{"id":"id"},"cursor":{"field":"seq","type":"integer"}}"#,
            cursor: nil)
        #expect(path.url == "https://api.test/changes/0")
        let header = try await url(described(#""type":"unix_seconds""#, #""headers":{"X-Since":"{cursor}"}"#), cursor: cursor)
        #expect(header.headers.first("X-Since") == "1700000000")
    }

    @Test func P4_aDayIsReadAgainAsAWhole() async throws {
        let http = Replies { _, number in
            Replies.ok(#"{"items":[{"id":"a","at":"2023-11-14"}\#(number > 1 ? #",{"id":"b","at":"2023-11-14"}"# : "")]}"#)
        }
        var reader = try Reader(items(cursor: #"{"field":"at","parameter":"from","type":"date","zone":"utc","order":"asc"}"#), http)
        try await reader.cycle()
        try await reader.cycle()
        #expect(FakeProvider.query(http.requests[1].url)["from"] == "2023-11-14")
        #expect(reader.keys == ["a@2023-11-14", "b@2023-11-14"])
    }

    /// Where the clock is put back an hour comes twice: what is written in the second one sorts before the end of the first.
    @Test func P4_theHourThatComesTwiceIsReadTwice() throws {
        let json = items(cursor: #"{"field":"at","parameter":"from","type":"rfc3339","zone":["+01:00","+02:00"]}"#)
        let rule = try #require(try Incremental(json: JSONDocument(Array(json.utf8))).cursor)
        func mark(_ text: String) -> Int64? {
            Array("\"\(text)\"".utf8).withUnsafeBufferPointer { if case .mark(let mark) = rule.read($0) { mark } else { nil } }
        }
        // Germany, 2023-10-29: 02:59 summer time, then 02:10 winter time, 11 minutes later.
        let last = try #require(mark("2023-10-29T02:59:00"))
        let next = try #require(mark("2023-10-29T02:10:00"))
        #expect(rule.lowerBound(from: CursorValue(mark: last, text: "2023-10-29T02:59:00")).mark <= next)
        #expect(rule.rereadUnits >= 3_600_000)
    }

    @Test(arguments: [
        (#""type":"date""#, "zone is missing"), (#""type":"strftime","pattern":"%F %T""#, "zone is missing"),
        (#""type":"rfc3339","format":"%F %T""#, "zone is missing"), (#""type":"rfc3339","zone":"Europe/Berlin""#, "zone must be \"utc\""),
        (#""type":"rfc3339","zone":["+01:00","+09:00"]"#, "zone must be"), (#""type":"integer","format":"rfc3339""#, "format needs a time"),
        (#""type":"rfc3339","format":"iso""#, "format must be"), (#""type":"strftime""#, "pattern is missing"),
        (#""type":"text","exclusive":true"#, "unique = true"), (#""type":"text","lookback":3"#, "nothing can be subtracted"),
        (#""type":"unix_seconds","parameter":"since""#, "say the same twice"), (#""type":"opaque""#, "from"),
    ])
    func formsThatWouldLoseRecordsAreRefused(_ members: String, _ words: String) {
        let message = refusal(described(members))
        #expect(message?.contains(words) == true, "\(message ?? "taken")")
    }

    @Test func whatTemplatesMustNotSayIsRefused() {
        for (json, words) in [
            (
                #"{"base_url":"https://a.test","path":"/x/{cursor}","dedup":{"id":"id"},"cursor":{"field":"seq","type":"integer"}}"#,
                "before the first poll"
            ),
            (#"{"base_url":"https://a.test","query":{"q":"{cursor}"},"dedup":{"id":"id"}}"#, "there is none"),
            (
                #"{"base_url":"https://a.test","path":"/x/{cursor|}","dedup":{"id":"id"},"cursor":{"type":"opaque","from":"p","url":true}}"#,
                "asked for as it stands"
            ),
            (
                #"{"base_url":"https://a.test","dedup":{"id":"id"},"cursor":{"type":"opaque","from":"p","url":true,"parameter":"q"}}"#,
                "exclude each other"
            ),
            (#"{"base_url":"https://a.test","dedup":{"id":"id"},"cursor":{"type":"opaque","from":"p"}}"#, "or url = true"),
            (#"{"base_url":"https://{cursor}.test","dedup":{"id":"id"},"cursor":{"field":"seq","type":"integer"}}"#, "base_url cannot"),
            (
                #"{"base_url":"https://a.test","dedup":{"id":"id"},"default_since_seconds_ago":5,"cursor":{"field":"seq","type":"integer","parameter":"s"}}"#,
                "needs a cursor that is a time"
            ),
        ] {
            let message = refusal(json)
            #expect(message?.contains(words) == true, "\(message ?? "taken")")
        }
    }

    // MARK: Text and positions that the answer hands out

    @Test func P4_textThatSortsIsACursor() async throws {
        let ids = ["01A", "01B", "01C", "01D", "01E"]
        let http = Replies { plan, number in
            let after = FakeProvider.query(plan.url)["after"] ?? ""
            let shown = ids.prefix(number > 2 ? 5 : 3).filter { $0 > after }.prefix(2)
            let more = shown.last.map { $0 < (number > 2 ? "01E" : "01C") } ?? false
            return Replies.ok(#"{"items":[\#(shown.map { #"{"id":"\#($0)"}"# }.joined(separator: ","))],"more":\#(more)}"#)
        }
        let cursor = #"{"field":"id","parameter":"after","type":"text","order":"asc","exclusive":true,"unique":true}"#
        var reader = try Reader(
            items(#""pagination":{"keyset":{"from":"id","parameter":"after","has_more":"more"}}"#, cursor: cursor, dedup: #"{"id":"id"}"#),
            http)
        try await reader.cycle()
        #expect(reader.cursorText == #"{"mark":0,"value":"01C"}"#)
        try await reader.cycle()
        #expect(reader.keys == ids)
    }

    @Test func P4_aPositionThatTheAnswerHandsOutIsKeptAsItIs() async throws {
        let http = Replies { plan, number in
            let sent = FakeProvider.query(plan.url)
            switch number {
            case 1: return Replies.ok(#"{"items":[{"id":"a"}],"next":"p2"}"#)
            case 2: return Replies.ok(#"{"items":[{"id":"b"}],"sync":"24e0"}"#)
            case 3: return Replies.ok(sent["sync"] == "24e0" ? #"{"items":[{"id":"c"}],"sync":"007"}"# : "{}")
            case 4: return Replies.ok("{}", status: 410)
            default: return Replies.ok(#"{"items":[{"id":"a"},{"id":"d"}],"sync":"s9"}"#)
            }
        }
        let cursor = #"{"type":"opaque","from":"sync","parameter":"sync"}"#
        var reader = try Reader(
            items(#""pagination":{"token":{"from":"next","parameter":"page"}}"#, cursor: cursor, dedup: #"{"id":"id"}"#), http)
        try await reader.cycle()
        #expect(reader.cursorText == #"{"mark":0,"value":"24e0"}"#)
        try await reader.cycle()
        #expect(reader.cursorText == #"{"mark":0,"value":"007"}"#)
        // The source has forgotten it: everything is read again, and says so.
        try await reader.cycle()
        #expect(reader.keys == ["a", "b", "c", "d"])
        #expect(FakeProvider.query(http.requests[4].url)["sync"] == nil)
        #expect(reader.warnings.contains { $0.contains("everything is read again") })
        #expect(reader.cursorText.contains("s9"))
    }

    /// A delta link: the position says all there is to say, down to its own parameters, and pages follow from it.
    @Test func P4_aPositionThatIsAURLIsAskedForAsItStands() async throws {
        let delta = "https://api.test/items?$deltatoken=a%2Fb&x=1"
        let http = Replies { _, number in
            switch number {
            case 1: return Replies.ok(#"{"items":[{"id":"a"}],"next":"https://api.test/items?$skiptoken=p2"}"#)
            case 2: return Replies.ok(#"{"items":[{"id":"b"}],"delta":"\#(delta)"}"#)
            case 3: return Replies.ok(#"{"items":[{"id":"c"}],"next":"/items?$skiptoken=p3"}"#)
            case 4: return Replies.ok(#"{"items":[{"id":"d"}],"delta":"/items?$deltatoken=2"}"#)
            case 5: return Replies.ok("{}", status: 410)
            case 6: return Replies.ok(#"{"items":[{"id":"a"},{"id":"e"}],"delta":"https://api.test/items?$deltatoken=3"}"#)
            default: return Replies.ok(#"{"items":[],"delta":"https://elsewhere.test/items?$deltatoken=4"}"#)
            }
        }
        var reader = try Reader(
            items(
                #""query":{"size":"5"},"pagination":{"next_url":{"from":"next"}}"#, cursor: #"{"type":"opaque","from":"delta","url":true}"#,
                dedup: #"{"id":"id"}"#), http)
        for _ in 0..<3 { try await reader.cycle() }
        #expect(
            http.requests.map(\.url) == [
                "https://api.test/items?size=5", "https://api.test/items?$skiptoken=p2", delta, "https://api.test/items?$skiptoken=p3",
                "https://api.test/items?$deltatoken=2", "https://api.test/items?size=5",
            ])
        #expect(reader.keys == ["a", "b", "c", "d", "e"])
        #expect(reader.warnings.contains { $0.contains("everything is read again") })
        // Credentials go to no other host, whoever says so.
        let failure = await failure { try await reader.cycle() }
        #expect(failure?.error.message.contains("position lies on another host") == true, "\(failure?.error.message ?? "")")
        #expect(reader.cursorText.contains("deltatoken=3"))
    }

    /// One that expires now and then is read on from its beginning; one that is refused each time was never right.
    @Test func P3_aPositionThatIsRefusedEachTimeFailsThePoll() async throws {
        let http = Replies { plan, number in
            if FakeProvider.query(plan.url)["sync"] != nil { return Replies.ok("{}", status: 400) }
            return Replies.ok(#"{"items":[{"id":"a"}],"sync":"s\#(number)"}"#)
        }
        let cursor = #"{"type":"opaque","from":"sync","parameter":"sync"}"#
        var reader = try Reader(items(cursor: cursor, dedup: #"{"id":"id"}"#), http)
        for _ in 0..<4 { try await reader.cycle() }
        let failure = await failure { try await reader.cycle() }
        #expect(failure?.kind == .permanent)
        #expect(failure?.error.message.contains("4 positions in a row") == true, "\(String(describing: failure))")
        // Where one is taken in between, the count begins anew.
        let sometimes = Replies { plan, number in
            let position = FakeProvider.query(plan.url)["sync"].flatMap { Int($0.dropFirst()) }
            if let position, position % 3 != 0 { return Replies.ok("{}", status: 410) }
            return Replies.ok(#"{"items":[{"id":"a"}],"sync":"s\#(number)"}"#)
        }
        var other = try Reader(
            items(#""tombstone":{"field":"gone"}"#, cursor: cursor, dedup: #"{"id":"id","version":"v"}"#), sometimes)
        for _ in 0..<30 { try await other.cycle() }
        #expect(other.warnings.contains { $0.hasPrefix("gap:") && $0.contains("deleted in between") }, "deletions cannot be found again")
    }

    /// Else only the beginning of a list would ever be read, and nothing would tell.
    @Test func P3_aPageThatLeadsNowhereFailsThePoll() async throws {
        let cursor = #"{"type":"opaque","from":"sync","parameter":"sync"}"#
        let next = #""pagination":{"token":{"from":"@odata.nextLink","parameter":"page"}}"#
        for (body, words) in [
            (#"{"items":[{"id":"a"}],"@odata.nextLink":"p2"}"#, "no next page"),
            (#"{"items":[{"id":"a"}],"sync":"https://api.test/items?t=1"}"#, "url = true"),
        ] {
            var reader = try Reader(items(next, cursor: cursor, dedup: #"{"id":"id"}"#), Replies { _, _ in Replies.ok(body) })
            let failure = await failure { try await reader.cycle() }
            #expect(failure?.error.message.contains(words) == true, "\(String(describing: failure))")
            #expect(reader.jobs.isEmpty)
        }
        var quiet = try Reader(items(next, cursor: cursor, dedup: #"{"id":"id"}"#), Replies { _, _ in Replies.ok(#"{"items":[]}"#) })
        try await quiet.cycle()
    }

    @Test func aFieldThatNoRecordHasIsNoCursor() async throws {
        let cursor = #"{"field":"last_edited","parameter":"s","type":"rfc3339"}"#
        func page(_ records: String...) -> Replies { Replies { _, _ in Replies.ok(#"{"items":[\#(records.joined(separator: ","))]}"#) } }
        let (timed, untimed) = (#"{"id":"a","last_edited":"2023-11-14T22:13:20Z"}"#, #"{"id":"b","edited":"2023-11-14T22:13:21Z"}"#)
        var wrong = try Reader(items(cursor: cursor), page(untimed, untimed, untimed, untimed, untimed))
        #expect(await failure { try await wrong.cycle() }?.error.message.contains("check cursor.field") == true)
        for http in [page(timed, untimed, untimed, untimed, untimed), page(untimed, untimed)] {
            var right = try Reader(items(cursor: cursor), http)
            try await right.cycle()
            #expect(!right.keys.isEmpty, "some may lack it")
        }
    }

    @Test func oneTimeWithoutAZoneAmongOthersIsSetAside() async throws {
        let http = Replies { _, _ in
            Replies.ok(#"{"items":[{"id":"a","at":"2023-11-14T22:13:20Z"},{"id":"b","at":"2023-11-14T22:13:21"}]}"#)
        }
        var reader = try Reader(items(cursor: #"{"field":"at","parameter":"s","type":"rfc3339"}"#), http)
        try await reader.cycle()
        #expect(reader.keys.count == 2)
        #expect(reader.cursorText.contains("22:13:20Z"))
        let alone = Replies { _, _ in Replies.ok(#"{"items":[{"id":"b","at":"2023-11-14T22:13:21"}]}"#) }
        var stuck = try Reader(items(cursor: #"{"field":"at","parameter":"s","type":"rfc3339"}"#), alone)
        #expect(await failure { try await stuck.cycle() }?.error.message.contains("without a zone") == true)
    }
}
