import SluiceCore
import Testing

@testable import SluiceConnectors

/// XML answers: the mapping, what is refused, and pages made of it.
@Suite struct XMLTests {
    private func json(_ xml: String, records: [String] = [], lists: Set<String> = []) -> String {
        do {
            return String(decoding: try XMLMapping(records: records, lists: lists).json(Array(xml.utf8)), as: UTF8.self)
        } catch {
            return "\(error)"
        }
    }

    @Test(arguments: [
        ("<a>x</a>", #"{"a":"x"}"#), ("<a/>", #"{"a":""}"#), ("<a></a>", #"{"a":""}"#), ("<a> x </a>", #"{"a":" x "}"#),
        ("<a b='1' c=\"2\"/>", #"{"a":{"@b":"1","@c":"2"}}"#), ("<a b='1'>x</a>", ##"{"a":{"@b":"1","#text":"x"}}"##),
        ("<a><b>1</b><c>2</c><b>3</b></a>", #"{"a":{"b":["1","3"],"c":"2"}}"#),
        ("<a>\n  <b>1</b>\n</a>", #"{"a":{"b":"1"}}"#), ("<a>x<b/>y</a>", ##"{"a":{"b":"","#text":"xy"}}"##),
        ("<a>&lt;&gt;&amp;&quot;&apos;&#65;&#x1F600;</a>", #"{"a":"<>&\"'A😀"}"#), ("<a b=\"&#10;&quot;\n\"/>", #"{"a":{"@b":"\n\" "}}"#),
        ("<a><![CDATA[<b>&amp;]]]></a>", #"{"a":"<b>&amp;]"}"#), ("<a>x<![CDATA[y]]>z</a>", #"{"a":"xyz"}"#),
        ("<?xml version='1.0' encoding='UTF-8'?>\n<!-- c --><a><!-- <b> --><?p x?>1</a>\n<!-- e -->", #"{"a":"1"}"#),
        ("\u{FEFF}<a/>", #"{"a":""}"#), ("<!DOCTYPE rss PUBLIC \"x\" \"y\"><a/>", #"{"a":""}"#), ("<a>1\r\n2\r3</a>", #"{"a":"1\n2\n3"}"#),
        ("<n:a xmlns:n='u'><n:b>é</n:b></n:a>", #"{"n:a":{"@xmlns:n":"u","n:b":"é"}}"#), ("<a ><b /></a >", #"{"a":{"b":""}}"#),
    ]) func XMLBecomesJSON(_ xml: String, _ expected: String) {
        #expect(json(xml) == expected)
    }

    @Test func listsAreArraysEvenOfOne() {
        #expect(json("<a><b>1</b></a>", lists: ["b"]) == #"{"a":{"b":["1"]}}"#)
        #expect(json("<f><e>1</e></f>", records: ["f", "e"]) == #"{"f":{"e":["1"]}}"#)
        #expect(json("<f><t>n</t></f>", records: ["f", "e"]) == #"{"f":{"t":"n","e":[]}}"#)
        #expect(json("<f/>", records: ["f", "e"]) == #"{"f":{"e":[]}}"#)
        #expect(json("<r> <c/> </r>", records: ["r", "c", "i"]) == #"{"r":{"c":{"i":[]}}}"#)
        #expect(json("<r></r>", records: ["r", "c", "i"]) == #"{"r":{"c":{"i":[]}}}"#)
        // Another answer than the one with records: nothing is made up.
        #expect(json("<r><error>no</error></r>", records: ["r", "c", "i"]) == #"{"r":{"error":"no"}}"#)
        #expect(json("<error><e/></error>", records: ["f", "e"]) == #"{"error":{"e":""}}"#)
    }

    @Test(arguments: [
        ("", "has no element"), ("<a>", "ends before </a>"), ("<a></b>", "closes <a> with </b>"), ("<a/><b/>", "goes on after its root"),
        ("x<a/>", "text outside"), ("<a/>x", "text outside"), ("<a>&b;</a>", "unknown reference &b;"), ("<a>&</a>", "& that begins"),
        ("<a>&#0;</a>", "unknown reference"), ("<a>&#xD800;</a>", "unknown reference"), ("<a b=1/>", "without quotes"),
        ("<a b='1' b='2'/>", "twice"), ("<a b='1'c='2'/>", "no space before"), ("<a b/>", "without a value"),
        ("<a b='<'/>", "without its end"),
        ("<a><!-- x</a>", "ends inside"), ("<a><![CDATA[x</a>", "ends inside"), ("<>", "empty or too long name"),
        ("< a/>", "empty or too long name"),
        ("<a", "ends inside of <a"), ("<a b='x", "without its end"), ("</a>", "closes <> with </a>"),
        ("<a><!ELEMENT b></a>", "unexpected <!"),
        ("<!DOCTYPE a [<!ENTITY x 'y'>]><a>&x;</a>", "definitions, which are not taken"),
        ("<?xml version='1.0' encoding='ISO-8859-1'?><a/>", "written in iso-8859-1"),
        (String(repeating: "<a>", count: 65), "nested deeper than 64"),
    ]) func P10_otherXMLIsRefused(_ xml: String, _ word: String) {
        #expect(json(xml).contains(word), "\(json(xml))")
    }

    @Test func P10_bytesOfAnyKindNeverTrap() {
        let pieces = [
            "<", ">", "/", "a", "=", "'", "\"", "&", ";", "#", "!", "-", "[", "]", "?", " ", "<![CDATA[", "]]>", "<!--", "-->", "&#x", "é",
        ]
        var seed: UInt64 = 7
        for _ in 0..<20_000 {
            var text = "<a>"
            for _ in 0..<8 {
                seed = seed &* 6_364_136_223_846_793_005 &+ 1_442_695_040_888_963_407
                text += pieces[Int(seed >> 33) % pieces.count]
            }
            let result = json(text)
            if result.hasPrefix("{") { #expect((try? JSONDocument(Array(result.utf8))) != nil, "\(text)") }
        }
        #expect(throws: XMLError.self) { try XMLMapping(records: [], lists: []).json([0x3C, 0x61, 0x3E, 0xFF]) }
    }

    private let feed = #"""
        {"base_url":"https://api.test","path":"/feed","format":"xml","records":"feed.entry","xml_lists":["category"],
         "dedup":{"id":"id","version":"updated"},"cursor":{"field":"updated","parameter":"since","type":"rfc3339","order":"none"},
         "pagination":{"token":{"from":"feed.next","parameter":"page"}}}
        """#

    @Test func P3_aFeedIsReadLikeAnyOther() async throws {
        let replies = Replies { _, number in
            number == 1
                ? Replies.ok(
                    "<feed><next>2</next><entry n='1'><id>a</id><updated>2023-11-14T22:13:19Z</updated><category>x</category></entry></feed>"
                )
                : Replies.ok("<feed><entry><id>b</id><updated>2023-11-14T22:13:18Z</updated></entry></feed>")
        }
        var reader = try Reader(feed, replies)
        try await reader.cycle()
        #expect(reader.keys == ["a@2023-11-14T22:13:19Z", "b@2023-11-14T22:13:18Z"])
        #expect(reader.records[0] == #"{"@n":"1","id":"a","updated":"2023-11-14T22:13:19Z","category":["x"]}"#)
        #expect(reader.jobs.allSatisfy { $0.record.isDerived })
        #expect(reader.mark == 1_699_999_999_000)
        #expect(replies.requests[0].headers.first("Accept")?.hasPrefix("application/xml") == true)
        #expect(replies.requests[1].url.contains("page=2"))
    }

    @Test func answersThatAreNoFeedFail() async throws {
        for (body, kind, word) in [
            ("<feed><entry>", PollFailure.Kind.transient, "ends before </entry>"), ("{}", .transient, "text outside"),
            ("<!DOCTYPE f [ ]><feed/>", .permanent, "definitions"),
            ("<error>x</error>", .permanent, "no array of records at \"feed.entry\""),
        ] {
            var reader = try Reader(feed, Replies { _, _ in Replies.ok(body) })
            let failure = await failure { try await reader.cycle() }
            #expect(failure?.kind == kind, "\(body)")
            #expect(failure?.error.message.contains(word) == true, "\(failure?.error.message ?? "")")
        }
        var reader = try Reader(feed, Replies { _, _ in Replies.ok("<html>", status: 503) })
        #expect(await failure { try await reader.cycle() }?.kind == .transient)
    }
}
