import SluiceCore
import Testing

/// JSON as bytes: what is taken, what is refused and where, and that nothing is changed on the way (RFC 8259).
@Suite struct JSONTests {
    struct Fault: Equatable {
        var reason: JSONError.Reason
        var offset: Int
    }

    private func fault(_ bytes: [UInt8]) -> Fault? {
        do throws(JSONError) {
            _ = try JSONDocument(bytes)
            return nil
        } catch {
            return Fault(reason: error.reason, offset: error.offset)
        }
    }

    @Test(
        arguments: [
            "0", "-0", "1", "-1", "1.5", "1e5", "1E+5", "1e-5", "0.0", "-0.0e-0", "123456789012345678901234567890", "true", "false", "null",
            "\"\"", "\"a\"", "\"\\\"\\\\\\/\\b\\f\\n\\r\\t\\u0041\"", "\"\\uD83D\\uDE00\"", "\"\\uD800\"", "\"\u{7F}\"", "\"é😀\u{10FFFF}\"",
            "[]", "{}", "[[]]", "[1,2]", "{\"a\":1,\"a\":2}", "{\"\":{}}", " \t\r\n[ 1 , 2 ]\n", "{ \"a\" : [ { } ] }", "\"\u{2028}\"",
        ]) func takes(_ text: String) throws
    {
        _ = try JSONDocument(Array(text.utf8))
    }

    @Test(
        arguments: [
            ("", .truncated, 0), (" ", .truncated, 1), ("tru", .truncated, 3), ("truE", .unexpectedByte, 3), ("nul", .truncated, 3),
            ("True", .unexpectedByte, 0), ("NaN", .unexpectedByte, 0), ("Infinity", .unexpectedByte, 0), ("+1", .unexpectedByte, 0),
            (".5", .unexpectedByte, 0), ("-", .truncated, 1), ("-a", .invalidNumber, 1), ("01", .trailingBytes, 1),
            ("-01", .trailingBytes, 2),
            ("1.", .truncated, 2), ("1.e5", .invalidNumber, 2), ("1e", .truncated, 2), ("1e+", .truncated, 3), ("1ex", .invalidNumber, 2),
            ("0x1", .trailingBytes, 1), ("1 2", .trailingBytes, 2), ("[1,]", .unexpectedByte, 3), ("[,1]", .unexpectedByte, 1),
            ("[1 2]", .unexpectedByte, 3), ("{\"a\":1,}", .unexpectedByte, 7), ("{a:1}", .unexpectedByte, 1), ("{1:1}", .unexpectedByte, 1),
            ("{\"a\"}", .unexpectedByte, 4), ("{\"a\":}", .unexpectedByte, 5), ("[1}", .unexpectedByte, 2), ("]", .unexpectedByte, 0),
            ("\"a", .truncated, 2), ("\"\\x\"", .invalidEscape, 2), ("\"\\u12G4\"", .invalidEscape, 5), ("\"\\", .truncated, 2),
            ("\"\n\"", .unexpectedByte, 1), ("\"\u{0}\"", .unexpectedByte, 1), ("'a'", .unexpectedByte, 0), ("{}{}", .trailingBytes, 2),
            ("/*c*/1", .unexpectedByte, 0), ("\u{FEFF}1", .unexpectedByte, 0), ("\u{A0}1", .unexpectedByte, 0), ("[1,2", .truncated, 4),
        ] as [(String, JSONError.Reason, Int)]) func refuses(_ text: String, _ reason: JSONError.Reason, _ offset: Int)
    {
        #expect(fault(Array(text.utf8)) == Fault(reason: reason, offset: offset))
    }

    /// Overlong forms, surrogates, stray and missing continuation bytes (Unicode, table 3-7).
    @Test(
        arguments: [
            [0x80], [0xBF], [0xC0, 0x80], [0xC1, 0xBF], [0xE0, 0x80, 0x80], [0xE0, 0x9F, 0xBF], [0xED, 0xA0, 0x80], [0xED, 0xBF, 0xBF],
            [0xF0, 0x80, 0x80, 0x80], [0xF0, 0x8F, 0xBF, 0xBF], [0xF4, 0x90, 0x80, 0x80], [0xF5, 0x80, 0x80, 0x80], [0xFF], [0xFE],
            [0xC3, 0x28], [0xE2, 0x82, 0x28], [0xF0, 0x9F, 0x98, 0x28], [0xC3], [0xE2, 0x82],
        ] as [[UInt8]]) func refusesWhatIsNoUTF8(_ bytes: [UInt8])
    {
        let document = [UInt8(ascii: "\"")] + bytes + [UInt8(ascii: "\"")]
        #expect(fault(document) == Fault(reason: .invalidUTF8, offset: 1))
    }

    /// Strings are passed over eight bytes at a time: each byte at each place between neighbours that differ from one that ends a
    /// run by a bit or a borrow.
    @Test func eachByteOfAStringIsSeen() {
        let length = 25
        for filler: UInt8 in [0x61, 0x20, 0x21, 0x23, 0x5B, 0x5D, 0x7F] {
            for byte in UInt8.min...UInt8.max {
                for place in 0..<length {
                    var text = [UInt8](repeating: filler, count: length)
                    text[place] = byte
                    let document = [0x22] + text + [0x22]
                    let expected: Fault? =
                        switch byte {
                        case 0x22: Fault(reason: .trailingBytes, offset: firstVisible(document, after: place + 1))
                        case 0x5C where place == length - 1: Fault(reason: .truncated, offset: document.count)
                        case 0x5C: Fault(reason: .invalidEscape, offset: place + 2)
                        case ..<0x20: Fault(reason: .unexpectedByte, offset: place + 1)
                        case 0x80...: Fault(reason: .invalidUTF8, offset: place + 1)
                        default: nil
                        }
                    let found = fault(document)
                    if found != expected { Issue.record("byte \(byte) at \(place) among \(filler): \(String(describing: found))") }
                }
            }
        }
    }

    private func firstVisible(_ document: [UInt8], after index: Int) -> Int {
        document[(index + 1)...].firstIndex { $0 != 0x20 } ?? document.count
    }

    @Test func refusesADocumentCutAnywhere() throws {
        let text = "{\"a\":[1.5e3,\"é\\u00e9😀\",true,null,{\"b\":-0}],\"c\":{}}"
        let bytes = Array(text.utf8)
        _ = try JSONDocument(bytes)
        for length in 0..<bytes.count {
            #expect(fault(Array(bytes[..<length])) == Fault(reason: .truncated, offset: length))
        }
    }

    @Test func P10_depthIsBounded() throws {
        func nested(_ depth: Int) -> [UInt8] { Array((String(repeating: "[", count: depth) + String(repeating: "]", count: depth)).utf8) }
        _ = try JSONDocument(nested(64))
        #expect(fault(nested(65)) == Fault(reason: .tooDeep, offset: 64))
        #expect(fault(Array(String(repeating: "[", count: 1_000_000).utf8)) == Fault(reason: .tooDeep, offset: 64))
        _ = try JSONDocument(nested(3), depthMax: 3)
        #expect(throws: JSONError.self) { try JSONDocument(nested(4), depthMax: 3) }
    }

    @Test func viewsAreTheBytesAsTheyCame() throws {
        let text = " { \"b\" : [ 1.0 , {\"x\" : 12345678901234567890 } ] , \"a\":\"\\u0041\\/\" } "
        let root = try JSONDocument(Array(text.utf8)).root
        func raw(_ view: JSONView?) -> String? { view.map { String(decoding: $0.bytes, as: UTF8.self) } }
        #expect(raw(root) == String(text.dropFirst().dropLast()))
        #expect(raw(root["b"]) == "[ 1.0 , {\"x\" : 12345678901234567890 } ]")
        #expect(raw(root["b"]?.elements?[0]) == "1.0")
        #expect(raw(root["b"]?.elements?[1]) == "{\"x\" : 12345678901234567890 }")
        #expect(root["b"]?.elements?[1]["x"]?.numberLiteral == "12345678901234567890")
        #expect(raw(root["a"]) == "\"\\u0041\\/\"")
        #expect(root["a"]?.string == "A/")
        #expect(root.members?.map(\.key) == ["b", "a"])
    }

    @Test(
        arguments: [
            ("9223372036854775807", Int64.max), ("-9223372036854775808", Int64.min), ("9223372036854775808", nil), ("1.0", nil),
            ("1e2", nil),
            ("9007199254740993", 9_007_199_254_740_993), ("-0", 0), ("\"5\"", nil), ("true", nil),
        ] as [(String, Int64?)]) func bigNumbersAreKept(_ text: String, _ expected: Int64?) throws
    {
        let root = try JSONDocument(Array(text.utf8)).root
        #expect(root.int64 == expected)
        if root.kind == .number { #expect(root.numberLiteral == text) }
    }

    @Test func lookups() throws {
        let root = try JSONDocument(Array("{\"a\":{\"b\":[]},\"t\":true,\"n\":null,\"\\u0061\\n\":7,\"x\":1,\"x\":2,\"s\":\"1\"}".utf8))
            .root
        #expect(root[path: ["a", "b"]]?.elements?.isEmpty == true)
        #expect(root[path: ["a", "c"]] == nil && root["zz"] == nil && root["t"]?["a"] == nil)
        #expect(root["t"]?.bool == true && root["n"]?.isNull == true && root["n"]?.bool == nil)
        #expect(root["a\n"]?.int64 == 7)
        #expect(root["x"]?.int64 == 1)
        #expect(root["s"]?.text == "1" && root["x"]?.text == "1" && root["t"]?.text == nil)
        #expect(root.elements == nil && root.string == nil && root["a"]?.members?.count == 1)
    }

    @Test(arguments: [
        ("\"\\uD83D\\uDE00\"", "😀"), ("\"\\uD800\"", "\u{FFFD}"), ("\"\\uD800\\u0041\"", "\u{FFFD}A"), ("\"\\uDC00\"", "\u{FFFD}"),
        ("\"\\b\\f\\n\\r\\t\\\"\\\\\\/\"", "\u{8}\u{C}\n\r\t\"\\/"), ("\"a\\u0000b\"", "a\u{0}b"),
    ]) func escapesAreResolved(_ text: String, _ expected: String) throws {
        #expect(try JSONDocument(Array(text.utf8)).root.string == expected)
    }

    @Test func aSliceOfALargerBodyIsViewedInPlace() throws {
        let body = Array("xx[1,{\"a\":2}]yy".utf8)
        let root = try JSONDocument(body[2..<13]).root
        #expect(root.bytes.startIndex == 2 && root.elements?[1].bytes.startIndex == 5)
        #expect(root.elements?[1]["a"]?.int64 == 2)
    }

    @Test func whatIsWrittenIsReadBack() throws {
        var writer = JSONWriter()
        let nasty = "\u{0}\u{1F}\"\\/\n\r\té😀\u{2028}"
        writer.object { writer in
            writer.member(nasty, nasty)
            writer.member("none", nil as String?)
            writer.member("n", Int64.min)
            writer.key("list")
            writer.array { writer in
                writer.value(true)
                writer.null()
                writer.object { _ in }
                writer.raw("1.50".utf8)
            }
        }
        let root = try JSONDocument(writer.bytes).root
        #expect(root[nasty]?.string == nasty)
        #expect(root["n"]?.int64 == Int64.min && root["none"]?.isNull == true)
        #expect(root["list"].map { String(decoding: $0.bytes, as: UTF8.self) } == "[true,null,{},1.50]")
    }
}
