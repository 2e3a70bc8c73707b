import SluiceCore

/// Why XML was not taken.
struct XMLError: Error, Equatable, CustomStringConvertible {
    var what: String
    /// Bytes from the start of the answer.
    var offset: Int
    /// It is XML, but of a kind that is not taken: asking again does not help.
    var isRefusal = false
    var description: String { "\(what) at byte \(offset)" }
}

/// Reads XML 1.0 in one pass over untrusted bytes and hands out what it finds. UTF-8 only, and no DTD: the only entities are
/// the five of XML itself, so that nothing expands. Everything is bounded (P10).
struct XMLReader {
    enum Event {
        case open(name: String, attributes: [(name: String, value: String)])
        case text(String)
        case close
    }

    static let bytesMax = 32 * 1024 * 1024
    static let depthMax = 64
    static let elementsMax = 1_000_000
    static let attributesMax = 256
    static let nameBytesMax = 256

    private let bytes: UnsafeBufferPointer<UInt8>
    private var index = 0
    private var open: [String] = []
    private var elements = 0
    private var closesNext = false
    private var hasRoot = false

    /// `bytes` must be valid UTF-8.
    init(_ bytes: UnsafeBufferPointer<UInt8>) throws(XMLError) {
        self.bytes = bytes
        guard bytes.count <= XMLReader.bytesMax else {
            throw XMLError(what: "is larger than \(XMLReader.bytesMax >> 20) MB", offset: XMLReader.bytesMax, isRefusal: true)
        }
        if bytes.starts(with: [0xEF, 0xBB, 0xBF]) { index = 3 }
        if startsWith("<?xml") { try declaration() }
    }

    /// What comes next; nil at the end of a whole document.
    mutating func next() throws(XMLError) -> Event? {
        if closesNext {
            closesNext = false
            open.removeLast()
            return .close
        }
        while index < bytes.count {
            guard bytes[index] == UInt8(ascii: "<") else {
                if let text = try text() { return .text(text) }
                continue
            }
            if startsWith("<!--") {
                try skip(past: "-->", from: index + 4)
            } else if startsWith("<![CDATA[") {
                let start = index + 9
                try skip(past: "]]>", from: start)
                guard !open.isEmpty else { throw fault("has text outside of its root") }
                return .text(String(decoding: bytes[start..<index - 3], as: UTF8.self))
            } else if startsWith("<?") {
                try skip(past: "?>", from: index + 2)
            } else if startsWith("<!") {
                try doctype()
            } else if startsWith("</") {
                return try end()
            } else {
                return try begin()
            }
        }
        guard open.isEmpty else { throw fault("ends before </\(open.last ?? "")>") }
        guard hasRoot else { throw fault("has no element") }
        return nil
    }

    // MARK: Parts

    private func fault(_ what: String, isRefusal: Bool = false) -> XMLError { XMLError(what: what, offset: index, isRefusal: isRefusal) }

    private func startsWith(_ prefix: StaticString) -> Bool { matches(prefix, at: index) }

    private func matches(_ text: StaticString, at start: Int) -> Bool {
        let count = text.utf8CodeUnitCount
        guard start + count <= bytes.count else { return false }
        for offset in 0..<count where bytes[start + offset] != text.utf8Start[offset] { return false }
        return true
    }

    private mutating func skipSpace() {
        while index < bytes.count, JSONSpace.isSpace(bytes[index]) { index += 1 }
    }

    private mutating func skip(past end: StaticString, from start: Int) throws(XMLError) {
        var at = start
        while at < bytes.count {
            if matches(end, at: at) {
                index = at + end.utf8CodeUnitCount
                return
            }
            at += 1
        }
        index = bytes.count
        throw fault("ends inside of what \(end) closes")
    }

    /// `<?xml version="1.0" encoding="…"?>`
    private mutating func declaration() throws(XMLError) {
        let start = index
        try skip(past: "?>", from: index)
        let text = String(decoding: bytes[start..<index], as: UTF8.self).lowercased()
        guard let place = text.firstRange(of: "encoding") else { return }
        let name = text[place.upperBound...].drop { $0 == " " || $0 == "=" || $0 == "\"" || $0 == "'" }.prefix {
            $0 != "\"" && $0 != "'"
        }
        guard name == "utf-8" || name == "utf8" || name == "us-ascii" else {
            throw fault("is written in \(name), and only UTF-8 is read", isRefusal: true)
        }
    }

    /// A document type that only names itself is passed over; one that defines anything is refused.
    private mutating func doctype() throws(XMLError) {
        guard startsWith("<!DOCTYPE"), !hasRoot else { throw fault("has an unexpected <!") }
        while index < bytes.count, bytes[index] != UInt8(ascii: ">") {
            if bytes[index] == UInt8(ascii: "[") {
                throw fault("has a document type with definitions, which are not taken", isRefusal: true)
            }
            index += 1
        }
        guard index < bytes.count else { throw fault("ends inside of its document type") }
        index += 1
    }

    /// A name up to white space or one of / > =.
    private mutating func name() throws(XMLError) -> String {
        let start = index
        while index < bytes.count {
            let byte = bytes[index]
            if JSONSpace.isSpace(byte) || byte == UInt8(ascii: "/") || byte == UInt8(ascii: ">") || byte == UInt8(ascii: "=") { break }
            if byte < 0x20 || "<&\"'".utf8.contains(byte) { throw fault("has a name with an unexpected sign") }
            index += 1
        }
        guard index > start, index - start <= XMLReader.nameBytesMax else { throw fault("has an empty or too long name") }
        return String(decoding: bytes[start..<index], as: UTF8.self)
    }

    private mutating func begin() throws(XMLError) -> Event {
        if open.isEmpty && hasRoot { throw fault("goes on after its root") }
        guard open.count < XMLReader.depthMax else { throw fault("is nested deeper than \(XMLReader.depthMax)", isRefusal: true) }
        elements += 1
        guard elements <= XMLReader.elementsMax else {
            throw fault("has more than \(XMLReader.elementsMax) elements: ask for smaller pages", isRefusal: true)
        }
        index += 1
        let name = try name()
        var attributes: [(name: String, value: String)] = []
        while true {
            let before = index
            skipSpace()
            guard index < bytes.count else { throw fault("ends inside of <\(name)") }
            if bytes[index] == UInt8(ascii: ">") || bytes[index] == UInt8(ascii: "/") { break }
            guard index > before else { throw fault("has no space before an attribute of <\(name)") }
            let attribute = try attribute()
            guard !attributes.contains(where: { $0.name == attribute.name }) else { throw fault("has an attribute of <\(name)> twice") }
            guard attributes.count < XMLReader.attributesMax else { throw fault("has too many attributes in <\(name)>", isRefusal: true) }
            attributes.append(attribute)
        }
        if bytes[index] == UInt8(ascii: "/") {
            index += 1
            guard index < bytes.count, bytes[index] == UInt8(ascii: ">") else { throw fault("has a / without its > in <\(name)") }
            closesNext = true
        }
        index += 1
        hasRoot = true
        open.append(name)
        return .open(name: name, attributes: attributes)
    }

    private mutating func attribute() throws(XMLError) -> (name: String, value: String) {
        let name = try name()
        skipSpace()
        guard index < bytes.count, bytes[index] == UInt8(ascii: "=") else { throw fault("has an attribute without a value") }
        index += 1
        skipSpace()
        guard index < bytes.count, bytes[index] == UInt8(ascii: "\"") || bytes[index] == UInt8(ascii: "'") else {
            throw fault("has an attribute without quotes")
        }
        let quote = bytes[index]
        index += 1
        let start = index
        while index < bytes.count, bytes[index] != quote, bytes[index] != UInt8(ascii: "<") { index += 1 }
        guard index < bytes.count, bytes[index] == quote else { throw fault("has an attribute without its end") }
        let value = try decoded(start..<index, isAttribute: true)
        index += 1
        return (name, value)
    }

    private mutating func end() throws(XMLError) -> Event {
        index += 2
        let name = try name()
        skipSpace()
        guard index < bytes.count, bytes[index] == UInt8(ascii: ">") else { throw fault("has a malformed </\(name)") }
        guard open.last == name else { throw fault("closes <\(open.last ?? "")> with </\(name)>") }
        index += 1
        open.removeLast()
        return .close
    }

    /// Nil for white space outside of the root.
    private mutating func text() throws(XMLError) -> String? {
        let start = index
        while index < bytes.count, bytes[index] != UInt8(ascii: "<") { index += 1 }
        if open.isEmpty {
            guard bytes[start..<index].allSatisfy(JSONSpace.isSpace) else {
                index = start
                throw fault("has text outside of its root")
            }
            return nil
        }
        return try decoded(start..<index, isAttribute: false)
    }

    /// Text with its references resolved and its line ends as \n.
    private mutating func decoded(_ range: Range<Int>, isAttribute: Bool) throws(XMLError) -> String {
        var output: [UInt8] = []
        output.reserveCapacity(range.count)
        var at = range.lowerBound
        while at < range.upperBound {
            let byte = bytes[at]
            if byte == UInt8(ascii: "&") {
                let (text, next) = try reference(at, range.upperBound)
                output.append(contentsOf: text.utf8)
                at = next
                continue
            }
            if byte == 0x0D {
                if at + 1 >= range.upperBound || bytes[at + 1] != 0x0A { output.append(isAttribute ? 0x20 : 0x0A) }
            } else if isAttribute, byte == 0x0A || byte == 0x09 {
                output.append(0x20)
            } else {
                output.append(byte)
            }
            at += 1
        }
        return String(decoding: output, as: UTF8.self)
    }

    /// `&amp;` and the other four, `&#10;` and `&#xA;`.
    private mutating func reference(_ start: Int, _ limit: Int) throws(XMLError) -> (String, Int) {
        guard let end = bytes[start..<min(limit, start + 12)].firstIndex(of: UInt8(ascii: ";")) else {
            index = start
            throw fault("has a & that begins no reference")
        }
        let name = String(decoding: bytes[start + 1..<end], as: UTF8.self)
        let known = ["amp": "&", "lt": "<", "gt": ">", "quot": "\"", "apos": "'"]
        if let text = known[name] { return (text, end + 1) }
        let digits = name.hasPrefix("#x") ? name.dropFirst(2) : name.dropFirst()
        guard name.hasPrefix("#"), !digits.isEmpty, digits.allSatisfy(\.isHexDigit),
            let number = UInt32(digits, radix: name.hasPrefix("#x") ? 16 : 10), let scalar = Unicode.Scalar(number), number != 0
        else {
            index = start
            throw fault("has an unknown reference &\(name);")
        }
        return (String(Character(scalar)), end + 1)
    }
}

enum JSONSpace {
    /// White space of XML, which is that of JSON.
    static func isSpace(_ byte: UInt8) -> Bool { byte == 0x20 || byte == 0x0A || byte == 0x0D || byte == 0x09 }
}
