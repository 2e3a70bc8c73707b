import SluiceCore
import Testing

@testable import SluiceConnectors

/// What becomes of the elements of a page, and that the cursor is not disturbed by it.
@Suite struct RecordShapeTests {
    private func read(_ json: String, _ body: String, input: String = "{}", type: String = "application/json") async throws -> Reader {
        var reader = try Reader(json, Replies { _, _ in Replies.ok(body, ["Content-Type": type]) })
        reader.input = input
        try await reader.cycle()
        return reader
    }

    // MARK: Filter

    private let mixed =
        #"{"items":[{"id":1,"at":5,"state":"open","n":1.0,"ok":true},{"id":2,"at":6,"state":"new","n":10},{"id":3,"at":9,"state":"closed","n":"2","ok":null}]}"#

    @Test(
        arguments: [
            (#"{"field":"state","equals":"open"}"#, ["1"]), (#"{"field":"state","not_equals":"open"}"#, ["2", "3"]),
            (#"{"field":"state","one_of":["open","new"]}"#, ["1", "2"]), (#"{"field":"state","one_of":"{input.states}"}"#, ["1", "3"]),
            (#"{"field":"state","equals":"{input.state}"}"#, ["1", "2", "3"]), (#"{"field":"n","equals":1}"#, ["1"]),
            (#"{"field":"n","above":1}"#, ["2", "3"]), (#"{"field":"n","at_most":2}"#, ["1", "3"]), (#"{"field":"n","below":2}"#, ["1"]),
            (#"{"field":"n","at_least":"{input.least}"}"#, ["2"]), (#"{"field":"state","above":"new"}"#, ["1"]),
            (#"{"field":"ok","equals":true}"#, ["1"]), (#"{"field":"ok","exists":true}"#, ["1"]),
            (#"{"field":"ok","exists":false}"#, ["2", "3"]), (#"{"field":"none","not_equals":"x"}"#, ["1", "2", "3"]),
            (#"[{"field":"n","above":1},{"field":"state","equals":"new"}]"#, ["2"]),
        ] as [(String, [String])])
    func P3_filteredRecordsMoveTheMark(_ filter: String, _ ids: [String]) async throws {
        let reader = try await read(
            items(#""filter":\#(filter)"#), mixed, input: #"{"states":["open","closed"],"least":"9"}"#)
        #expect(reader.keys.map { String($0.prefix { $0 != "@" }) } == ids)
        #expect(reader.mark == 9)
        #expect(reader.jobs.allSatisfy { !$0.record.isDerived })
    }

    @Test func P3_aFilterDoesNotEndThePages() async throws {
        let replies = Replies { plan, _ in
            let after = Int(FakeProvider.query(plan.url)["after"] ?? "0") ?? 0
            let list = (after + 1...max(after + 1, min(after + 2, 6))).filter { $0 <= 6 }
            return Replies.ok(
                #"{"items":[\#(list.map { #"{"id":\#($0),"at":\#($0),"keep":\#($0 == 5)}"# }.joined(separator: ","))],"more":\#(after + 2 < 6)}"#
            )
        }
        var reader = try Reader(
            items(
                #""filter":{"field":"keep","equals":true},"page_size":{"parameter":"n","value":2},"pagination":{"keyset":{"from":"id","parameter":"after","has_more":"more"}}"#
            ), replies)
        try await reader.cycle()
        #expect(reader.keys == ["5@5"])
        #expect(reader.mark == 6)
        #expect(reader.pages == 3)
    }

    // MARK: Tombstones

    @Test func aDeletionIsAJobOfItsOwn() async throws {
        let json = items(
            #""tombstone":{"field":"deleted","equals":true},"filter":{"field":"state","equals":"open"},"map":{"id":"id","was":"state"}"#)
        var reader = try await read(json, #"{"items":[{"id":1,"at":5,"state":"open"},{"id":2,"at":5,"state":"shut"}]}"#)
        reader.http = Replies { _, _ in Replies.ok(#"{"items":[{"id":1,"at":5,"deleted":true},{"id":2,"at":7,"deleted":"true"}]}"#) }
        try await reader.cycle()
        #expect(reader.keys == ["1@5", "1@5@deleted", "2@7@deleted"])
        #expect(reader.jobs.map(\.record.isDeletion) == [false, true, true])
        #expect(reader.records == [#"{"id":1,"was":"open"}"#, #"{"id":1}"#, #"{"id":2}"#])
        #expect(reader.mark == 7)
        #expect(refusal(items(#""tombstone":{"field":"gone"}"#, dedup: #"{"id":"id"}"#))?.contains("tombstone needs dedup.version") == true)
    }

    /// Tombstones of a delta query hold no version: that an item went twice shows in the positions behind which it is told.
    @Test func P3_anItemThatIsDeletedTwiceIsTwoJobs() async throws {
        let gone = #"{"id":"a","@removed":{"reason":"deleted"}}"#
        let http = Replies { plan, number in
            let records = ["\(gone),\(gone)", #"{"id":"a","etag":"2"}"#, gone, gone]
            // The last answer is that of the same position once more.
            let position = number == 4 ? 3 : number
            return Replies.ok(#"{"items":[\#(records[min(number, 4) - 1])],"sync":"p\#(position)"}"#)
        }
        var reader = try Reader(
            items(
                #""tombstone":{"field":["@removed"]}"#, cursor: #"{"type":"opaque","from":"sync","parameter":"sync"}"#,
                dedup: #"{"id":"id","version":"etag"}"#), http)
        for _ in 0..<3 { try await reader.cycle() }
        #expect(reader.keys.count == 3, "\(reader.keys)")
        // A page that is read again, after a crash for example, tells nothing new.
        reader.cursor = Array(#"{"mark":0,"value":"p2"}"#.utf8)
        try await reader.cycle()
        #expect(reader.keys.count == 3, "\(reader.keys)")
    }

    @Test func aTombstoneWithoutAValueIsAnyButNullAndFalse() async throws {
        let reader = try await read(
            items(#""tombstone":{"field":"gone"}"#),
            #"{"items":[{"id":1,"at":1,"gone":"2026-01-01"},{"id":2,"at":1,"gone":null},{"id":3,"at":1,"gone":false},{"id":4,"at":1,"gone":""},{"id":5,"at":1}]}"#
        )
        #expect(reader.jobs.map(\.record.isDeletion) == [true, false, false, false, false])
    }

    // MARK: Flatten and map

    private let orders =
        #"{"items":[{"id":"o1","at":5,"lines":[{"id": 1, "n":1.50},{"id":2,"at":99}]},{"id":"o2","at":8,"lines":[]},{"id":"o3","at":9}]}"#

    @Test func P3_flattenedRecordsKeepTheirBytesAndTheirElementsMark() async throws {
        let json = items(#""flatten":{"path":"lines"}"#, dedup: #"{"id":"id"}"#)
        let page = try await Incremental(json: JSONDocument(Array(json.utf8))).run(
            try Reader(json, Replies { _, _ in Replies.ok("") }).request(), http: Replies { [orders] _, _ in Replies.ok(orders) })
        #expect(page.records.map { String(decoding: $0.bytes, as: UTF8.self) } == [#"{"id": 1, "n":1.50}"#, #"{"id":2,"at":99}"#])
        #expect(page.records.allSatisfy { !$0.isDerived })
        #expect(page.marks == [5, 5])
        #expect(page.cursorMark == 9, "elements without records move the mark as well")
    }

    @Test func aFlattenedRecordTakesFieldsOfItsParent() async throws {
        let json = items(
            #""flatten":{"path":"lines","parent":{"order":"id","at":"at"}}"#, dedup: #"{"id":"order","version":["id","at"]}"#)
        let reader = try await read(json, orders)
        #expect(reader.keys == ["o1@1@5", "o1@2@5"])
        #expect(
            reader.records == [#"{"at":5,"order":"o1","id":1,"n":1.50}"#, #"{"at":5,"order":"o1","id":2}"#].map { $0 }
                || reader.records == [#"{"order":"o1","at":5,"id":1,"n":1.50}"#, #"{"order":"o1","at":5,"id":2}"#])
        #expect(reader.jobs.allSatisfy { $0.record.isDerived })
    }

    @Test func P10_flattenIsBounded() async throws {
        let json = items(#""flatten":{"path":"lines"}"#)
        var request = try Reader(json, Replies { _, _ in Replies.ok("") }).request()
        request.recordsMax = 3
        let body = #"{"items":[{"id":1,"at":1,"lines":[1,2]},{"id":2,"at":2,"lines":[3,4]}]}"#
        let rules = try Incremental(json: JSONDocument(Array(json.utf8)))
        let many = request
        let failed = await failure { _ = try await rules.run(many, http: Replies { _, _ in Replies.ok(body) }) }
        #expect(failed?.kind == .permanent)
        #expect(failed?.error.message.contains("flatten makes more than 3 records") == true)
        let odd = await failure { _ = try await rules.run(many, http: Replies { _, _ in Replies.ok(#"{"items":[{"lines":{}}]}"#) }) }
        #expect(odd?.error.message.contains("\"lines\" in an element is not an array") == true)
    }

    @Test func P3_aMapComesAfterMarkAndKey() async throws {
        let json = items(#""map":{"number":"id","name":"who.name","none":"who.none"}"#)
        let reader = try await read(json, #"{"items":[{"id":12345678901234567890,"at":7,"who":{"name":"a\u0000b"}}]}"#)
        #expect(reader.keys == ["12345678901234567890@7"])
        #expect(
            Set(reader.records).isSubset(of: [
                #"{"name":"a\u0000b","number":12345678901234567890}"#, #"{"number":12345678901234567890,"name":"a\u0000b"}"#,
            ]))
        #expect(reader.jobs.count == 1 && reader.jobs[0].record.isDerived)
        #expect(reader.mark == 7)
    }

    @Test func aRecordWithoutAKeyIsSetAsideAsItCame() async throws {
        let reader = try await read(items(#""map":{"n":"id"}"#), #"{"items":[{"at":7},{"id":2,"at":8}]}"#)
        #expect(reader.keys == ["2@8"])
        #expect(reader.quarantined.map(\.bytes) == [#"{"at":7}"#])
        #expect(reader.mark == 8)
    }

    // MARK: Variants

    private let variants = #"""
        {"base_url":"https://api.test","records":"items","dedup":{"id":"id"},
         "variants":{"by":"{input.object}",
           "contact":{"path":"/contacts","cursor":{"field":"at","parameter":"since","type":"unix_seconds","order":"asc","lookback":60}},
           "company":{"path":"/companies","dedup":{"id":"name","version":"rev"},"retention_seconds":100,
             "cursor":{"field":"rev","parameter":"after","type":"integer","order":"asc","lookback":7}}}}
        """#

    @Test func eachVariantHasItsOwnRules() async throws {
        let replies = Replies { plan, _ in Replies.ok(#"{"items":[{"id":1,"at":5,"name":"n","rev":9}]}"#) }
        var reader = try Reader(variants, replies)
        reader.input = #"{"object":"contact"}"#
        try await reader.cycle()
        reader.cursor = nil
        reader.input = #"{"object":"company"}"#
        try await reader.cycle()
        #expect(reader.keys == ["1", "n@9"])
        #expect(reader.mark == 9)
        #expect(replies.requests.map(\.url) == ["https://api.test/contacts", "https://api.test/companies"])
        #expect(reader.rules.lookback == 60, "keys are kept as long as the longest of them needs")
        #expect(reader.rules.retention == .seconds(100))
        reader.input = #"{"object":"deal"}"#
        let failure = await failure { try await reader.cycle() }
        #expect(failure?.error.message == "there is no variant \"deal\": choose from company, contact")
    }

    @Test(arguments: [
        (#"{"contact":{}}"#, "variants.by is missing"), (#"{"by":"{input.x}"}"#, "holds none"),
        (#"{"by":"{input.x}","a":{"pth":"/x"}}"#, "in incremental.variants.a: incremental.pth means nothing here"),
        (#"{"by":"{input.x}","a":{"variants":{}}}"#, "must hold no variants"), (#"{"by":"{input.x}","a":7}"#, "must be a table of keys"),
    ]) func aFaultyVariantIsRefusedByName(_ json: String, _ word: String) {
        let message = refusal(items(#""variants":\#(json)"#))
        #expect(message?.contains(word) == true, "\(message ?? "taken")")
    }

    // MARK: Lines

    @Test func linesAreRecordsByteForByte() async throws {
        let json =
            #"{"base_url":"https://api.test","path":"/log","format":"ndjson","dedup":{"id":"id","version":"at"},"cursor":{"field":"at","type":"unix_seconds"}}"#
        let reader = try await read(json, "{\"id\": 1, \"at\":5}\r\n\n  {\"id\":2,\"at\":6.50}\t\n{\"id\":3,\"at\":7}")
        #expect(reader.records == [#"{"id": 1, "at":5}"#, #"{"id":2,"at":6.50}"#, #"{"id":3,"at":7}"#])
        #expect(reader.jobs.allSatisfy { !$0.record.isDerived })
        #expect(reader.mark == 7)
        let bad = try await read(json, "{\"id\":1,\"at\":5}\nnot \"json\n{\"id\":3,\"at\":7}\n")
        #expect(bad.keys == ["1@5", "3@7"])
        #expect(bad.quarantined.map(\.bytes) == [#""not \"json""#])
        let cut = await failure { _ = try await read(json, "{\"id\":1,\"at\":5}\n{\"id\":2,\"a") }
        #expect(cut?.kind == .transient)
        #expect(cut?.error.message.contains("ends in the middle of line 2") == true)
        #expect(refusal(items(#""format":"ndjson""#))?.contains("records must be left out") == true)
        #expect(try await read(json, "").keys.isEmpty)
    }

    @Test(arguments: [
        (#""filter":{"field":"a"}"#, "filter.field needs exactly one of equals"),
        (#""filter":[{"field":"a","equals":1},{"field":"a","equals":1,"above":2}]"#, "filter[2].field needs exactly one"),
        (#""filter":{"field":"a","equals":{}}"#, "must be text, a number"),
        (#""filter":{"field":"a","one_of":[]}"#, "must be a list of values"),
        (#""map":{}"#, "map must name at least one field"), (#""flatten":{"parent":{"a":"b"}}"#, "flatten.path is missing"),
        (#""format":"csv""#, "must be json, ndjson, xml"), (#""xml_lists":["a"]"#, "needs format"),
        (#""format":"xml""#, "must name the elements from the root"), (#""enrich":{"concurrency":4}"#, "or url must say"),
        (#""enrich":{"path":"/x","url":"{record.u}"}"#, "and not both"), (#""enrich":{"path":"/{item.id}"}"#, "{record.FIELD}"),
        (#""enrich":{"path":"/x","concurrency":33}"#, "from 1 to 32"), (#""tombstone":{"fild":"x"}"#, "tombstone.field is missing"),
    ]) func aFaultyShapeIsRefusedByName(_ extra: String, _ word: String) {
        let message = refusal(items(extra))
        #expect(message?.contains(word) == true, "\(message ?? "taken")")
    }
}
