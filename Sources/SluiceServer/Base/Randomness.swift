/// Unguessable and lasting names, from the system's generator.
public enum Randomness {
    private static let alphabet = Array("0123456789abcdefghjkmnpqrstvwxyz".utf8)

    /// Text of 5 random bits a character: 26 characters are 130 bits. Lower case without i, l, o and u (Crockford).
    public static func text(_ characters: Int) -> String {
        var generator = SystemRandomNumberGenerator()
        return String(decoding: (0..<characters).map { _ in alphabet[Int.random(in: 0..<32, using: &generator)] }, as: UTF8.self)
    }

    public static func bytes(_ count: Int) -> [UInt8] {
        var generator = SystemRandomNumberGenerator()
        return (0..<count).map { _ in UInt8.random(in: 0...255, using: &generator) }
    }

    /// The unguessable part of a webhook's address: 160 bits.
    public static func endpointToken() -> String { text(32) }
    /// A trigger's lasting identity.
    public static func triggerUID() -> String { text(26) }
    /// An API token: 200 bits, recognisable to scanners of leaked secrets.
    public static func apiToken() -> String { "sluice_" + text(40) }
}

/// Lower-case hexadecimal.
public enum Hex {
    public static func text(_ bytes: some Sequence<UInt8>) -> String {
        let digits = Array("0123456789abcdef".utf8)
        return String(decoding: bytes.flatMap { [digits[Int($0 >> 4)], digits[Int($0 & 15)]] }, as: UTF8.self)
    }

    /// Nil unless it is an even number of hexadecimal digits.
    public static func bytes(_ text: some StringProtocol) -> [UInt8]? {
        let digits = Array(text.utf8)
        guard digits.count % 2 == 0 else { return nil }
        var result: [UInt8] = []
        for index in stride(from: 0, to: digits.count, by: 2) {
            guard let high = value(digits[index]), let low = value(digits[index + 1]) else { return nil }
            result.append(high << 4 | low)
        }
        return result
    }

    private static func value(_ digit: UInt8) -> UInt8? {
        switch digit {
        case 0x30...0x39: digit - 0x30
        case 0x41...0x46: digit - 0x41 + 10
        case 0x61...0x66: digit - 0x61 + 10
        default: nil
        }
    }
}
