import SluiceCore

/// Takes secrets out of what a provider wrote, before anybody reads it.
///
/// A secret is found as it is and in other capitals, percent-encoded, escaped as in JSON or HTML, in base64 at whatever place (as the
/// password of `Authorization: Basic`), and where the end of the text cuts it off.
public struct SecretScrubber: Sendable {
    /// A shorter secret is left: taking out every `a` would help nobody.
    public static let secretBytesMin = 4
    /// Fewer bytes at the end of a text would be found by chance, and fewer digits of base64 anywhere.
    private static let cutBytesMin = 6
    private static let base64DigitsMin = 6
    private static let replacement = Array("[secret]".utf8)

    private struct Form: Sendable {
        var bytes: [UInt8]
        var isBase64 = false
    }

    private let forms: [Form]

    public init(_ secrets: [String]) {
        var forms: [Form] = []
        for secret in Set(secrets) where secret.utf8.count >= SecretScrubber.secretBytesMin {
            forms.append(Form(bytes: secret.utf8.map(ASCII.lowercased)))
            // Clients form-encode what they put into Basic (RFC 6749, 2.3.1).
            for text in Set([secret, WebURL.encode(secret)]) {
                for digits in SecretScrubber.base64(Array(text.utf8)) {
                    forms.append(Form(bytes: digits.map(ASCII.lowercased), isBase64: true))
                }
            }
        }
        // The longest first: one may be the start of another.
        self.forms = forms.sorted { $0.bytes.count > $1.bytes.count }
    }

    /// What is the same in the base64 of everything that holds these bytes, for each of the three places where they can begin.
    private static func base64(_ bytes: [UInt8]) -> [[UInt8]] {
        var result: [[UInt8]] = []
        for offset in 0..<3 {
            let digits = Array(Base64.encode([UInt8](repeating: 0, count: offset) + bytes).utf8)
            let known = digits[(offset * 8 + 5) / 6..<(offset + bytes.count) * 8 / 6]
            guard known.count >= base64DigitsMin else { continue }
            result.append(Array(known))
            let urlDigits = known.map { $0 == UInt8(ascii: "+") ? UInt8(ascii: "-") : $0 == UInt8(ascii: "/") ? UInt8(ascii: "_") : $0 }
            if urlDigits != Array(known) { result.append(urlDigits) }
        }
        return result
    }

    /// The text with `[secret]` in place of each.
    public func scrubbed(_ text: String) -> String {
        if forms.isEmpty { return text }
        return String(decoding: scrubbed(Array(text.utf8)), as: UTF8.self)
    }

    /// The same for bytes.
    public func scrubbed(_ text: [UInt8]) -> [UInt8] {
        if forms.isEmpty { return text }
        let end = SecretScrubber.endOfWords(text)
        var result: [UInt8] = []
        result.reserveCapacity(text.count)
        var index = 0
        while index < text.count {
            guard let (form, length) = find(in: text, at: index, end: end) else {
                result.append(text[index])
                index += 1
                continue
            }
            index += length
            if form.isBase64 {
                // The digits beside it hold the rest of its first and its last byte.
                while let last = result.last, SecretScrubber.isDigit(last) { result.removeLast() }
                while index < text.count, SecretScrubber.isDigit(text[index]) || text[index] == UInt8(ascii: "=") { index += 1 }
            }
            result += SecretScrubber.replacement
        }
        return result
    }

    private func find(in text: [UInt8], at index: Int, end: Int) -> (form: Form, length: Int)? {
        for form in forms {
            var next = index
            var matched = 0
            for byte in form.bytes {
                guard next < text.count, let length = EscapedText.length(of: byte, in: text, at: next) else { break }
                next += length
                matched += 1
            }
            let isCut = next >= end && matched >= (form.isBase64 ? SecretScrubber.base64DigitsMin : SecretScrubber.cutBytesMin)
            if matched == form.bytes.count || isCut { return (form, next - index) }
        }
        return nil
    }

    /// Where the text ends but for what closes a quotation: before quotes, points, an ellipsis, half a letter.
    private static func endOfWords(_ text: [UInt8]) -> Int {
        var end = text.count
        while end > 0 {
            let last = text[end - 1]
            if last >= 0x80 || "\"'`.,;:)]}> \n".utf8.contains(last) { end -= 1 } else { break }
        }
        return end
    }

    private static func isDigit(_ byte: UInt8) -> Bool {
        switch ASCII.lowercased(byte) {
        case UInt8(ascii: "a")...UInt8(ascii: "z"), UInt8(ascii: "0")...UInt8(ascii: "9"): true
        case UInt8(ascii: "+"), UInt8(ascii: "/"), UInt8(ascii: "-"), UInt8(ascii: "_"): true
        default: false
        }
    }
}

/// How a byte may stand in a text that somebody escaped, perhaps twice.
private enum EscapedText {
    private static let named: [(name: [UInt8], byte: UInt8)] = [
        (Array("amp".utf8), 0x26), (Array("lt".utf8), 0x3C), (Array("gt".utf8), 0x3E), (Array("quot".utf8), 0x22),
        (Array("apos".utf8), 0x27),
    ]

    /// How many bytes of the text stand for it; nil if others do. `byte` is in small letters.
    static func length(of byte: UInt8, in text: [UInt8], at index: Int) -> Int? {
        let first = text[index]
        // An escape first: it may begin with the very byte that it stands for, as `&amp;` does.
        let escaped: Int? =
            switch first {
            case UInt8(ascii: "+"): byte == 0x20 ? 1 : nil
            case UInt8(ascii: "%"): number(text, index + 1, digits: 2) == byte ? 3 : nil
            case UInt8(ascii: "\\"): backslashed(byte, text, index)
            case UInt8(ascii: "&"): entity(byte, text, index)
            default: nil
            }
        return escaped ?? (ASCII.lowercased(first) == byte ? 1 : nil)
    }

    private static func backslashed(_ byte: UInt8, _ text: [UInt8], _ index: Int) -> Int? {
        var next = index
        while next < text.count, text[next] == UInt8(ascii: "\\") { next += 1 }
        guard next < text.count else { return nil }
        if text[next] == UInt8(ascii: "u"), number(text, next + 1, digits: 4) == byte { return next + 5 - index }
        let meant: UInt8 =
            switch text[next] {
            case UInt8(ascii: "n"): 0x0A
            case UInt8(ascii: "r"): 0x0D
            case UInt8(ascii: "t"): 0x09
            default: ASCII.lowercased(text[next])
            }
        return meant == byte || ASCII.lowercased(text[next]) == byte ? next + 1 - index : nil
    }

    private static func entity(_ byte: UInt8, _ text: [UInt8], _ index: Int) -> Int? {
        guard let end = text[index..<min(text.count, index + 8)].firstIndex(of: UInt8(ascii: ";")) else { return nil }
        let name = text[(index + 1)..<end].map(ASCII.lowercased)
        let meant: Int?
        if name.first == UInt8(ascii: "#") {
            let isHex = name.dropFirst().first == UInt8(ascii: "x")
            meant = Int(String(decoding: name.dropFirst(isHex ? 2 : 1), as: UTF8.self), radix: isHex ? 16 : 10)
        } else {
            meant = named.first { $0.name == name }.map { Int($0.byte) }
        }
        guard let meant, let value = UInt8(exactly: meant), ASCII.lowercased(value) == byte else { return nil }
        return end + 1 - index
    }

    /// A byte in hexadecimal digits, in small letters; nil for anything else.
    private static func number(_ text: [UInt8], _ start: Int, digits: Int) -> UInt8? {
        guard start + digits <= text.count else { return nil }
        var value = 0
        for digit in text[start..<start + digits] {
            switch ASCII.lowercased(digit) {
            case let digit where (0x30...0x39).contains(digit): value = value << 4 | Int(digit - 0x30)
            case let digit where (0x61...0x66).contains(digit): value = value << 4 | Int(digit - 0x57)
            default: return nil
            }
        }
        return UInt8(exactly: value).map(ASCII.lowercased)
    }
}

extension SluiceError {
    /// Without what the scrubber knows, in the message and in the context.
    public func scrubbed(by scrubber: SecretScrubber) -> SluiceError {
        SluiceError(code, scrubber.scrubbed(message), context: context.mapValues(scrubber.scrubbed))
    }
}

extension PollFailure {
    public func scrubbed(by scrubber: SecretScrubber) -> PollFailure {
        var failure = self
        failure.error = error.scrubbed(by: scrubber)
        return failure
    }
}
