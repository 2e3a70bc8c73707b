import SluiceCore

/// What a provider signs, as one line: text with `{body}`, `{timestamp}`, `{method}`, `{url}`, `{secret}`, `{crc32}` (of the
/// body, in decimal), `{header:NAME}` and `{parameter:NAME}` (a setting of the connection) in it.
public struct ContentTemplate: Sendable, ExpressibleByStringLiteral, CustomStringConvertible {
    enum Part: Sendable, Equatable {
        case text([UInt8])
        case body, timestamp, method, url, secret, crc32
        case header(String)
        case parameter(String)
    }

    public let description: String
    let parts: [Part]
    /// Whether every byte of the text was understood; a test checks every row of the table.
    let isWellFormed: Bool

    public init(stringLiteral value: String) { self.init(value) }

    public init(_ text: String) {
        description = text
        var parts: [Part] = []
        var isWellFormed = true
        var rest = Substring(text)
        while let open = rest.firstIndex(of: "{") {
            if open > rest.startIndex { parts.append(.text(Array(rest[..<open].utf8))) }
            guard let close = rest[open...].firstIndex(of: "}"), let part = Part(rest[rest.index(after: open)..<close]) else {
                isWellFormed = false
                break
            }
            parts.append(part)
            rest = rest[rest.index(after: close)...]
        }
        if isWellFormed, !rest.isEmpty { parts.append(.text(Array(rest.utf8))) }
        self.parts = parts
        self.isWellFormed = isWellFormed
    }

    func contains(_ part: Part) -> Bool { parts.contains(part) }
    /// The headers whose values are signed.
    var headers: [String] {
        parts.compactMap { if case .header(let name) = $0 { name } else { nil } }
    }
    var parameters: [String] {
        parts.compactMap { if case .parameter(let name) = $0 { name } else { nil } }
    }
}

extension ContentTemplate.Part {
    init?(_ placeholder: Substring) {
        switch placeholder {
        case "body": self = .body
        case "timestamp": self = .timestamp
        case "method": self = .method
        case "url": self = .url
        case "secret": self = .secret
        case "crc32": self = .crc32
        default:
            let halves = placeholder.split(separator: ":", maxSplits: 1)
            guard halves.count == 2 else { return nil }
            switch halves[0] {
            case "header": self = .header(String(halves[1]))
            case "parameter": self = .parameter(String(halves[1]))
            default: return nil
            }
        }
    }

    var name: String {
        switch self {
        case .text(let bytes): "\"\(String(decoding: bytes, as: UTF8.self))\""
        case .body: "body"
        case .timestamp: "timestamp"
        case .method: "method"
        case .url: "url"
        case .secret: "secret"
        case .crc32: "crc32"
        case .header(let name): name
        case .parameter(let name): name
        }
    }
}

/// CRC-32 as zip and PayPal have it (ISO 3309, reflected 0xEDB88320).
enum CRC32 {
    private static let table: [UInt32] = (0..<256).map { index in
        var value = UInt32(index)
        for _ in 0..<8 { value = value & 1 == 1 ? value >> 1 ^ 0xEDB8_8320 : value >> 1 }
        return value
    }

    static func of(_ bytes: [UInt8]) -> UInt32 {
        var value: UInt32 = 0xFFFF_FFFF
        for byte in bytes { value = value >> 8 ^ table[Int((value ^ UInt32(byte)) & 0xFF)] }
        return value ^ 0xFFFF_FFFF
    }
}
