/// JSON as bytes. Sluice never turns a record into values and back: it checks a body once, then looks into it where it
/// lies, so no number is rounded and no key reordered (RFC 8259).

/// A body that was checked from end to end: well-formed JSON, valid UTF-8, not too deep.
public struct JSONDocument: Sendable {
    public let root: JSONView

    /// Checks `bytes` once. Throws `JSONError` with the offset of the first fault.
    public init(_ bytes: [UInt8], depthMax: Int = 64) throws(JSONError) {
        try self.init(bytes[...], depthMax: depthMax)
    }

    /// Checks a slice of a larger body; the views share its storage.
    public init(_ bytes: ArraySlice<UInt8>, depthMax: Int = 64) throws(JSONError) {
        let result = bytes.withUnsafeBufferPointer { buffer -> Result<Range<Int>, JSONError> in
            var checker = JSONChecker(buffer, depthMax: depthMax)
            do throws(JSONError) {
                return .success(try checker.document())
            } catch {
                return .failure(error)
            }
        }
        let range = try result.get()
        root = JSONView(bytes: bytes[bytes.startIndex + range.lowerBound..<bytes.startIndex + range.upperBound])
    }
}

/// Why a body is not the JSON that Sluice takes.
public struct JSONError: Error, Equatable, Sendable, CustomStringConvertible {
    public enum Reason: String, Sendable {
        case truncated = "ends too early"
        case unexpectedByte = "has an unexpected byte"
        case invalidUTF8 = "is not valid UTF-8"
        case invalidNumber = "has a malformed number"
        case invalidEscape = "has a malformed escape in a string"
        case tooDeep = "is nested too deeply"
        case trailingBytes = "goes on after its value"
    }
    public var reason: Reason
    /// Bytes from the start of the body.
    public var offset: Int
    /// What follows "it": `has an unexpected byte at byte 17`.
    public var description: String { "\(reason.rawValue) at byte \(offset)" }
}

/// One pass over untrusted bytes.
struct JSONChecker {
    let bytes: UnsafeBufferPointer<UInt8>
    let depthMax: Int
    var index = 0

    init(_ bytes: UnsafeBufferPointer<UInt8>, depthMax: Int) {
        self.bytes = bytes
        self.depthMax = depthMax
    }

    /// The range of the one value, without the white space around it.
    mutating func document() throws(JSONError) -> Range<Int> {
        skipSpace()
        let start = index
        try value(depth: 0)
        let end = index
        skipSpace()
        if index < bytes.count { throw JSONError(reason: .trailingBytes, offset: index) }
        return start..<end
    }

    @inline(__always)
    private mutating func skipSpace() {
        while index < bytes.count, bytes[index] <= 0x20, JSONBytes.isSpace(bytes[index]) { index += 1 }
    }

    private func fault(_ reason: JSONError.Reason) -> JSONError {
        JSONError(reason: index >= bytes.count ? .truncated : reason, offset: index)
    }

    private mutating func value(depth: Int) throws(JSONError) {
        guard index < bytes.count else { throw fault(.truncated) }
        switch bytes[index] {
        case UInt8(ascii: "\""): try string()
        case UInt8(ascii: "{"): try container(depth: depth, close: UInt8(ascii: "}"), keyed: true)
        case UInt8(ascii: "["): try container(depth: depth, close: UInt8(ascii: "]"), keyed: false)
        case UInt8(ascii: "t"): try literal("true")
        case UInt8(ascii: "f"): try literal("false")
        case UInt8(ascii: "n"): try literal("null")
        default: try number()
        }
    }

    private mutating func container(depth: Int, close: UInt8, keyed: Bool) throws(JSONError) {
        guard depth < depthMax else { throw JSONError(reason: .tooDeep, offset: index) }
        index += 1
        skipSpace()
        if index < bytes.count, bytes[index] == close {
            index += 1
            return
        }
        while true {
            if keyed {
                guard index < bytes.count, bytes[index] == UInt8(ascii: "\"") else { throw fault(.unexpectedByte) }
                try string()
                skipSpace()
                guard index < bytes.count, bytes[index] == UInt8(ascii: ":") else { throw fault(.unexpectedByte) }
                index += 1
                skipSpace()
            }
            try value(depth: depth + 1)
            skipSpace()
            guard index < bytes.count else { throw fault(.truncated) }
            let byte = bytes[index]
            guard byte == UInt8(ascii: ",") || byte == close else { throw fault(.unexpectedByte) }
            index += 1
            if byte == close { return }
            skipSpace()
        }
    }

    private mutating func literal(_ text: StaticString) throws(JSONError) {
        for offset in 0..<text.utf8CodeUnitCount {
            guard index < bytes.count, bytes[index] == text.utf8Start[offset] else { throw fault(.unexpectedByte) }
            index += 1
        }
    }

    private mutating func digits() throws(JSONError) {
        let start = index
        while index < bytes.count, bytes[index] &- 0x30 < 10 { index += 1 }
        if index == start { throw fault(.invalidNumber) }
    }

    private mutating func number() throws(JSONError) {
        if bytes[index] == UInt8(ascii: "-") {
            index += 1
        } else if bytes[index] &- 0x30 >= 10 {
            throw fault(.unexpectedByte)
        }
        if index < bytes.count, bytes[index] == UInt8(ascii: "0") {
            index += 1
        } else {
            try digits()
        }
        if index < bytes.count, bytes[index] == UInt8(ascii: ".") {
            index += 1
            try digits()
        }
        if index < bytes.count, bytes[index] | 0x20 == UInt8(ascii: "e") {
            index += 1
            if index < bytes.count, bytes[index] == UInt8(ascii: "+") || bytes[index] == UInt8(ascii: "-") { index += 1 }
            try digits()
        }
    }

    private mutating func string() throws(JSONError) {
        index += 1
        while index < bytes.count {
            skipPlain()
            guard index < bytes.count else { break }
            let byte = bytes[index]
            if byte == UInt8(ascii: "\"") {
                index += 1
                return
            }
            if byte == UInt8(ascii: "\\") {
                try escape()
            } else if byte < 0x20 {
                throw fault(.unexpectedByte)
            } else if byte < 0x80 {
                index += 1
            } else {
                try multibyte(first: byte)
            }
        }
        throw fault(.truncated)
    }

    /// Passes over bytes of a string that mean themselves, eight at a time.
    @inline(__always)
    private mutating func skipPlain() {
        let (ones, tops): (UInt64, UInt64) = (0x0101_0101_0101_0101, 0x8080_8080_8080_8080)
        while index + 8 <= bytes.count {
            let word = UInt64(littleEndian: UnsafeRawBufferPointer(bytes).loadUnaligned(fromByteOffset: index, as: UInt64.self))
            let (quote, backslash) = (word ^ (ones &* 0x22), word ^ (ones &* 0x5C))
            // The top bit of each byte that is a quote, a backslash, below 0x20 or above 0x7F. What a borrow adds lies behind a
            // byte that is marked rightly, so that the first one is right.
            let marked = ((word &- ones &* 0x20) | (quote &- ones) | (backslash &- ones) | word) & tops
            if marked != 0 {
                index += marked.trailingZeroBitCount >> 3
                return
            }
            index += 8
        }
    }

    private mutating func escape() throws(JSONError) {
        index += 1
        guard index < bytes.count else { throw fault(.truncated) }
        switch bytes[index] {
        case UInt8(ascii: "u"):
            index += 1
            for _ in 0..<4 {
                guard index < bytes.count, JSONBytes.hexValue(bytes[index]) != nil else { throw fault(.invalidEscape) }
                index += 1
            }
        case UInt8(ascii: "\""), UInt8(ascii: "\\"), UInt8(ascii: "/"), UInt8(ascii: "b"), UInt8(ascii: "f"),
            UInt8(ascii: "n"), UInt8(ascii: "r"), UInt8(ascii: "t"):
            index += 1
        default: throw fault(.invalidEscape)
        }
    }

    /// A well-formed UTF-8 sequence of two to four bytes (Unicode 15, table 3-7).
    private mutating func multibyte(first: UInt8) throws(JSONError) {
        var low: UInt8 = 0x80
        var high: UInt8 = 0xBF
        let more: Int
        switch first {
        case 0xC2...0xDF: more = 1
        case 0xE0...0xEF:
            more = 2
            if first == 0xE0 { low = 0xA0 }
            if first == 0xED { high = 0x9F }
        case 0xF0...0xF4:
            more = 3
            if first == 0xF0 { low = 0x90 }
            if first == 0xF4 { high = 0x8F }
        default: throw JSONError(reason: .invalidUTF8, offset: index)
        }
        let start = index
        index += 1
        for _ in 0..<more {
            guard index < bytes.count else { throw fault(.truncated) }
            guard bytes[index] >= low, bytes[index] <= high else { throw JSONError(reason: .invalidUTF8, offset: start) }
            (low, high) = (0x80, 0xBF)
            index += 1
        }
    }
}

enum JSONBytes {
    @inline(__always)
    static func isSpace(_ byte: UInt8) -> Bool { byte == 0x20 || byte == 0x0A || byte == 0x0D || byte == 0x09 }

    static func hexValue(_ byte: UInt8) -> UInt32? {
        switch byte {
        case 0x30...0x39: UInt32(byte - 0x30)
        case 0x41...0x46: UInt32(byte - 0x41 + 10)
        case 0x61...0x66: UInt32(byte - 0x61 + 10)
        default: nil
        }
    }
}
