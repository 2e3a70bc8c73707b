/// Finds secrets in text, however they are written there: as they are, percent-encoded once or twice, with `+` for a space, escaped
/// as JSON or XML does it, and in Base64 of either alphabet, also as a part of a longer text such as `user:password`.
package struct SecretFinder: Sendable {
    private struct Needle {
        var bytes: [UInt8]
        var label: [UInt8]
        /// In Base64 a character on either side holds bits of the secret, too.
        var isBase64: Bool
    }

    /// A shorter secret is left: taking out every `a` would help nobody.
    package static let secretBytesMin = 4

    private var needles: [Needle] = []
    /// Bytes that a needle may begin with.
    private var starts = [Bool](repeating: false, count: 256)

    package init() {}

    package var isEmpty: Bool { needles.isEmpty }

    /// From now on this text is replaced by `label`.
    package mutating func add(_ secret: String, label: String) {
        let plain = Array(secret.utf8)
        guard plain.count >= SecretFinder.secretBytesMin else { return }
        var forms = [Needle(bytes: plain, label: Array(label.utf8), isBase64: false)]
        for core in SecretFinder.cores(plain) { forms.append(Needle(bytes: core, label: Array(label.utf8), isBase64: true)) }
        for form in forms where !needles.contains(where: { $0.bytes == form.bytes }) {
            needles.append(form)
            for byte in [form.bytes[0], UInt8(ascii: "%"), UInt8(ascii: "\\"), UInt8(ascii: "&")] { starts[Int(byte)] = true }
            if form.bytes[0] == 0x20 { starts[Int(UInt8(ascii: "+"))] = true }
        }
        // The longest first: one may be a part of another.
        needles.sort { $0.bytes.count > $1.bytes.count }
    }

    /// What the secret becomes within Base64, at each of the three places where it may begin, without what its neighbours share.
    private static func cores(_ secret: [UInt8]) -> [[UInt8]] {
        var cores: [[UInt8]] = []
        for offset in 0..<3 {
            let text = Array(Base64.encode([UInt8](repeating: 0, count: offset) + secret).utf8)
            let core = Array(text[((offset * 8 + 5) / 6)..<((offset + secret.count) * 8 / 6)])
            cores.append(core)
            cores.append(core.map { $0 == UInt8(ascii: "+") ? UInt8(ascii: "-") : $0 == UInt8(ascii: "/") ? UInt8(ascii: "_") : $0 })
        }
        return cores
    }

    package func replaced(_ bytes: [UInt8]) -> [UInt8] {
        if needles.isEmpty { return bytes }
        var result: [UInt8] = []
        result.reserveCapacity(bytes.count)
        var index = 0
        while index < bytes.count {
            guard starts[Int(bytes[index])], let (needle, end) = find(in: bytes, at: index) else {
                result.append(bytes[index])
                index += 1
                continue
            }
            index = end
            if needle.isBase64 {
                SecretFinder.dropNeighbour(&result)
                index = SecretFinder.neighbourEnd(bytes, index)
            }
            result += needle.label
        }
        return result
    }

    private func find(in bytes: [UInt8], at start: Int) -> (needle: Needle, end: Int)? {
        for needle in needles { if let end = SecretFinder.end(of: needle.bytes, in: bytes, at: start) { return (needle, end) } }
        return nil
    }

    // MARK: One way of writing or another

    /// Where the secret ends that begins at `start`, each of its bytes written in any of the ways; nil if it does not stand there.
    private static func end(of secret: [UInt8], in bytes: [UInt8], at start: Int) -> Int? {
        var (index, matched) = (start, 0)
        while matched < secret.count {
            guard index < bytes.count else { return nil }
            let rest = secret[matched...]
            let byte = bytes[index]
            if let (text, length) = escaped(bytes, index), rest.starts(with: text) {
                (index, matched) = (index + length, matched + text.count)
            } else if byte == secret[matched] || byte == UInt8(ascii: "+") && secret[matched] == 0x20 {
                (index, matched) = (index + 1, matched + 1)
            } else {
                return nil
            }
        }
        return index
    }

    /// What an escape at this place stands for, and how many bytes it takes.
    private static func escaped(_ bytes: [UInt8], _ index: Int) -> (text: [UInt8], length: Int)? {
        switch bytes[index] {
        case UInt8(ascii: "%"):
            guard let byte = hex(bytes, index + 1, 2) else { return nil }
            // Encoded once more: the digits may be encoded as well, or not.
            if byte == 0x25, let (high, next) = hexDigit(bytes, index + 3), let (low, end) = hexDigit(bytes, next) {
                return ([high << 4 | low], end - index)
            }
            return ([UInt8(byte)], 3)
        case UInt8(ascii: "\\"): return jsonEscape(bytes, index)
        case UInt8(ascii: "&"): return entity(bytes, index)
        default: return nil
        }
    }

    /// A hexadecimal digit, as it is or percent-encoded, and where it ends.
    private static func hexDigit(_ bytes: [UInt8], _ index: Int) -> (value: UInt8, end: Int)? {
        guard index < bytes.count else { return nil }
        if bytes[index] == UInt8(ascii: "%") {
            guard let byte = hex(bytes, index + 1, 2), let digit = hex([UInt8(byte)], 0, 1) else { return nil }
            return (UInt8(digit), index + 3)
        }
        return hex(bytes, index, 1).map { (UInt8($0), index + 1) }
    }

    private static func jsonEscape(_ bytes: [UInt8], _ index: Int) -> (text: [UInt8], length: Int)? {
        guard index + 1 < bytes.count else { return nil }
        switch bytes[index + 1] {
        case UInt8(ascii: "\""), UInt8(ascii: "\\"), UInt8(ascii: "/"): return ([bytes[index + 1]], 2)
        case UInt8(ascii: "b"): return ([0x08], 2)
        case UInt8(ascii: "f"): return ([0x0C], 2)
        case UInt8(ascii: "n"): return ([0x0A], 2)
        case UInt8(ascii: "r"): return ([0x0D], 2)
        case UInt8(ascii: "t"): return ([0x09], 2)
        case UInt8(ascii: "u"):
            guard let unit = hex(bytes, index + 2, 4) else { return nil }
            if (0xD800..<0xDC00).contains(unit), index + 7 < bytes.count, bytes[index + 6] == UInt8(ascii: "\\"),
                bytes[index + 7] == UInt8(ascii: "u"), let low = hex(bytes, index + 8, 4), (0xDC00..<0xE000).contains(low)
            {
                return scalar(0x10000 + (unit - 0xD800) << 10 + (low - 0xDC00)).map { ($0, 12) }
            }
            return scalar(unit).map { ($0, 6) }
        default: return nil
        }
    }

    private static let entities: [(name: [UInt8], byte: UInt8)] = [
        ("amp;", UInt8(ascii: "&")), ("lt;", UInt8(ascii: "<")), ("gt;", UInt8(ascii: ">")), ("quot;", UInt8(ascii: "\"")),
        ("apos;", UInt8(ascii: "'")),
    ].map { (Array($0.0.utf8), $0.1) }

    private static func entity(_ bytes: [UInt8], _ index: Int) -> (text: [UInt8], length: Int)? {
        let rest = bytes[(index + 1)...].prefix(10)
        if let found = entities.first(where: { rest.starts(with: $0.name) }) { return ([found.byte], found.name.count + 1) }
        guard rest.first == UInt8(ascii: "#"), let end = rest.firstIndex(of: UInt8(ascii: ";")) else { return nil }
        let digits = String(decoding: rest[(index + 2)..<end], as: UTF8.self)
        let number = digits.first == "x" || digits.first == "X" ? UInt32(digits.dropFirst(), radix: 16) : UInt32(digits)
        return number.flatMap(scalar).map { ($0, end + 1 - index) }
    }

    private static func scalar(_ number: UInt32) -> [UInt8]? { Unicode.Scalar(number).map { Array(String(Character($0)).utf8) } }

    private static func hex(_ bytes: [UInt8], _ start: Int, _ count: Int) -> UInt32? {
        guard start + count <= bytes.count else { return nil }
        var value: UInt32 = 0
        for byte in bytes[start..<start + count] {
            guard let digit = Character(Unicode.Scalar(byte)).hexDigitValue else { return nil }
            value = value << 4 | UInt32(digit)
        }
        return value
    }

    // MARK: Base64

    private static func isBase64(_ byte: UInt8) -> Bool {
        byte &- 0x30 < 10 || (byte | 0x20) &- 0x61 < 26
            || [UInt8(ascii: "+"), UInt8(ascii: "/"), UInt8(ascii: "-"), UInt8(ascii: "_")].contains(byte)
    }

    private static func dropNeighbour(_ result: inout [UInt8]) {
        if result.count >= 3, result[result.count - 3] == UInt8(ascii: "%"), hex(result, result.count - 2, 2) != nil {
            result.removeLast(3)
        } else if let last = result.last, isBase64(last) {
            result.removeLast()
        }
    }

    private static func neighbourEnd(_ bytes: [UInt8], _ index: Int) -> Int {
        guard index < bytes.count else { return index }
        if bytes[index] == UInt8(ascii: "%"), hex(bytes, index + 1, 2) != nil { return index + 3 }
        return isBase64(bytes[index]) ? index + 1 : index
    }
}
