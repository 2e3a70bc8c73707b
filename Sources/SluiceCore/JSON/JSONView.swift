/// A value inside checked JSON: its bytes, exactly as they came, and ways to look into them.
///
/// A view copies nothing: it keeps the whole body alive. Where an object has a key twice, the first counts.
public struct JSONView: Sendable {
    public enum Kind: Sendable { case object, array, string, number, bool, null }

    /// The value's own bytes, without white space around them.
    public let bytes: ArraySlice<UInt8>

    /// `bytes` must be one value of JSON that was checked.
    init(bytes: ArraySlice<UInt8>) { self.bytes = bytes }

    /// A view on bytes that were part of a checked document, for example a stored record. Nothing is checked again.
    public init(checked bytes: ArraySlice<UInt8>) { self.bytes = bytes }

    public var kind: Kind {
        switch bytes[bytes.startIndex] {
        case UInt8(ascii: "{"): .object
        case UInt8(ascii: "["): .array
        case UInt8(ascii: "\""): .string
        case UInt8(ascii: "t"), UInt8(ascii: "f"): .bool
        case UInt8(ascii: "n"): .null
        default: .number
        }
    }

    public var isNull: Bool { kind == .null }
    public var bool: Bool? { kind == .bool ? bytes[bytes.startIndex] == UInt8(ascii: "t") : nil }

    /// The value of a key of an object; nil for anything else.
    public subscript(key: String) -> JSONView? {
        guard kind == .object else { return nil }
        var key = key
        return key.withUTF8 { wanted in
            bytes.withUnsafeBufferPointer { buffer in
                var cursor = JSONCursor(buffer)
                guard let range = cursor.member(wanted) else { return nil }
                return JSONView(bytes: bytes[bytes.startIndex + range.lowerBound..<bytes.startIndex + range.upperBound])
            }
        }
    }

    /// Follows keys through objects; nil as soon as one is missing.
    public subscript(path path: [String]) -> JSONView? {
        var view = self
        for key in path {
            guard let next = view[key] else { return nil }
            view = next
        }
        return view
    }

    /// The elements of an array, in order; nil for anything else.
    public var elements: [JSONView]? {
        guard kind == .array else { return nil }
        var result: [JSONView] = []
        bytes.withUnsafeBufferPointer { buffer in
            var cursor = JSONCursor(buffer)
            cursor.enter()
            while let range = cursor.nextElement() {
                result.append(JSONView(bytes: bytes[bytes.startIndex + range.lowerBound..<bytes.startIndex + range.upperBound]))
            }
        }
        return result
    }

    /// The members of an object in their order; nil for anything else.
    public var members: [(key: String, value: JSONView)]? {
        guard kind == .object else { return nil }
        var result: [(key: String, value: JSONView)] = []
        bytes.withUnsafeBufferPointer { buffer in
            var cursor = JSONCursor(buffer)
            cursor.enter()
            while let (key, value) = cursor.nextMember() {
                let keyView = JSONView(bytes: bytes[bytes.startIndex + key.lowerBound..<bytes.startIndex + key.upperBound])
                let view = JSONView(bytes: bytes[bytes.startIndex + value.lowerBound..<bytes.startIndex + value.upperBound])
                result.append((keyView.string ?? "", view))
            }
        }
        return result
    }

    /// A string's text with its escapes resolved (a lone surrogate becomes U+FFFD); nil for anything else.
    public var string: String? {
        guard kind == .string else { return nil }
        let inner = bytes.dropFirst().dropLast()
        if !inner.contains(UInt8(ascii: "\\")) { return String(decoding: inner, as: UTF8.self) }
        return inner.withUnsafeBufferPointer { JSONCursor.unescape($0) }
    }

    /// A number's literal as it came, for example 1e2 or 9007199254740993; nil for anything else.
    public var numberLiteral: String? { kind == .number ? String(decoding: bytes, as: UTF8.self) : nil }

    /// A whole number that fits in 64 bits and is written without fraction or exponent; nil for anything else.
    public var int64: Int64? { kind == .number ? Int64(String(decoding: bytes, as: UTF8.self)) : nil }

    /// A number as the nearest double; nil for anything else. Never used for what is stored.
    public var double: Double? { kind == .number ? Double(String(decoding: bytes, as: UTF8.self)) : nil }

    /// A string's text or a number's literal: what can stand in a URL or a key without changing its meaning.
    public var text: String? { string ?? numberLiteral }
}

/// Walks over JSON that is known to be well-formed.
struct JSONCursor {
    let bytes: UnsafeBufferPointer<UInt8>
    var index = 0

    init(_ bytes: UnsafeBufferPointer<UInt8>) { self.bytes = bytes }

    @inline(__always)
    mutating func skipSpace() {
        while index < bytes.count, JSONBytes.isSpace(bytes[index]) { index += 1 }
    }

    /// Steps inside an object or array.
    mutating func enter() { index += 1 }

    mutating func nextElement() -> Range<Int>? {
        skipSeparators()
        guard index < bytes.count, bytes[index] != UInt8(ascii: "]") else { return nil }
        return skipValue()
    }

    mutating func nextMember() -> (Range<Int>, Range<Int>)? {
        skipSeparators()
        guard index < bytes.count, bytes[index] == UInt8(ascii: "\"") else { return nil }
        let key = skipValue()
        skipSeparators()
        return (key, skipValue())
    }

    private mutating func skipSeparators() {
        while index < bytes.count, JSONBytes.isSpace(bytes[index]) || bytes[index] == 0x2C || bytes[index] == 0x3A { index += 1 }
    }

    /// The range of the first member with this key.
    mutating func member(_ wanted: UnsafeBufferPointer<UInt8>) -> Range<Int>? {
        enter()
        while let (key, value) = nextMember() {
            if matches(key.lowerBound + 1..<key.upperBound - 1, wanted) { return value }
        }
        return nil
    }

    func matches(_ key: Range<Int>, _ wanted: UnsafeBufferPointer<UInt8>) -> Bool {
        if key.count == wanted.count {
            var offset = 0
            while offset < wanted.count {
                if bytes[key.lowerBound + offset] != wanted[offset] { return false }
                offset += 1
            }
            return true
        }
        // A key with escapes is longer than its text.
        guard key.count > wanted.count, bytes[key].contains(UInt8(ascii: "\\")) else { return false }
        return JSONCursor.unescape(UnsafeBufferPointer(rebasing: bytes[key])).utf8.elementsEqual(wanted)
    }

    mutating func skipValue() -> Range<Int> {
        let start = index
        switch bytes[index] {
        case UInt8(ascii: "\""): skipString()
        case UInt8(ascii: "{"), UInt8(ascii: "["):
            var depth = 0
            repeat {
                switch bytes[index] {
                case UInt8(ascii: "\""):
                    skipString()
                    continue
                case UInt8(ascii: "{"), UInt8(ascii: "["): depth += 1
                case UInt8(ascii: "}"), UInt8(ascii: "]"): depth -= 1
                default: break
                }
                index += 1
            } while depth > 0 && index < bytes.count
        default:
            while index < bytes.count {
                let byte = bytes[index]
                if byte == 0x2C || byte == 0x5D || byte == 0x7D || JSONBytes.isSpace(byte) { break }
                index += 1
            }
        }
        return start..<index
    }

    @inline(__always)
    private mutating func skipString() {
        index += 1
        while index < bytes.count {
            let byte = bytes[index]
            if byte == UInt8(ascii: "\"") {
                index += 1
                return
            }
            index += byte == UInt8(ascii: "\\") ? 2 : 1
        }
    }

    /// The text of a string's inner bytes.
    static func unescape(_ inner: UnsafeBufferPointer<UInt8>) -> String {
        var output: [UInt8] = []
        output.reserveCapacity(inner.count)
        var index = 0
        while index < inner.count {
            guard inner[index] == UInt8(ascii: "\\"), index + 1 < inner.count else {
                output.append(inner[index])
                index += 1
                continue
            }
            let kind = inner[index + 1]
            index += 2
            switch kind {
            case UInt8(ascii: "b"): output.append(0x08)
            case UInt8(ascii: "f"): output.append(0x0C)
            case UInt8(ascii: "n"): output.append(0x0A)
            case UInt8(ascii: "r"): output.append(0x0D)
            case UInt8(ascii: "t"): output.append(0x09)
            case UInt8(ascii: "u"):
                var code = hex4(inner, index)
                index += 4
                if code & 0xFC00 == 0xD800, index + 5 < inner.count, inner[index] == 0x5C, inner[index + 1] == UInt8(ascii: "u") {
                    let low = hex4(inner, index + 2)
                    if low & 0xFC00 == 0xDC00 {
                        code = 0x10000 + (code & 0x3FF) << 10 + (low & 0x3FF)
                        index += 6
                    }
                }
                output.append(contentsOf: String(Unicode.Scalar(code) ?? "\u{FFFD}").utf8)
            default: output.append(kind)
            }
        }
        return String(decoding: output, as: UTF8.self)
    }

    private static func hex4(_ bytes: UnsafeBufferPointer<UInt8>, _ start: Int) -> UInt32 {
        var value: UInt32 = 0
        for offset in 0..<4 where start + offset < bytes.count {
            value = value << 4 | (JSONBytes.hexValue(bytes[start + offset]) ?? 0)
        }
        return value
    }
}
