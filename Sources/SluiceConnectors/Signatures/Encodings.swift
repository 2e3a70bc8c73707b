/// Lowercase hexadecimal of 32 bytes.
enum Hex {
    /// The code that 64 lowercase digits stand for. Capitals are refused: one text stands for one code.
    static func code(_ digits: some BidirectionalCollection<UInt8>) -> HMACSHA256.Code? {
        digits.withContiguousStorageIfAvailable { code(UnsafeRawBufferPointer($0)) } ?? Array(digits).withUnsafeBytes { code($0) }
    }

    static func code(_ digits: UnsafeRawBufferPointer) -> HMACSHA256.Code? {
        guard digits.count == 64 else { return nil }
        var code = HMACSHA256.Code(repeating: 0)
        var isHex = true
        withUnsafeMutableBytes(of: &code) { bytes in
            for index in 0..<32 {
                guard let high = value(digits[2 * index]), let low = value(digits[2 * index + 1]) else {
                    isHex = false
                    return
                }
                bytes[index] = high << 4 | low
            }
        }
        return isHex ? code : nil
    }

    /// The bytes that digits stand for; nil for an odd number of them or anything else.
    static func bytes(_ digits: some BidirectionalCollection<UInt8>, allowsCapitals: Bool = false) -> [UInt8]? {
        let count = digits.count
        guard count % 2 == 0 else { return nil }
        var bytes: [UInt8] = []
        bytes.reserveCapacity(count / 2)
        var high: UInt8?
        for byte in digits {
            guard let value = value(allowsCapitals && byte &- 0x41 < 6 ? byte | 0x20 : byte) else { return nil }
            if let first = high {
                bytes.append(first << 4 | value)
                high = nil
            } else {
                high = value
            }
        }
        return bytes
    }

    /// The same of a text, with digits in any case.
    static func bytes(_ text: String) -> [UInt8]? { bytes(text.utf8, allowsCapitals: true) }

    static func text(bytes: some Sequence<UInt8>) -> String {
        let digits = Array("0123456789abcdef".utf8)
        return String(decoding: bytes.flatMap { [digits[Int($0 >> 4)], digits[Int($0 & 15)]] }, as: UTF8.self)
    }

    static func text(_ code: HMACSHA256.Code) -> String {
        let digits = Array("0123456789abcdef".utf8)
        var bytes: [UInt8] = []
        for index in 0..<32 { bytes += [digits[Int(code[index] >> 4)], digits[Int(code[index] & 15)]] }
        return String(decoding: bytes, as: UTF8.self)
    }

    private static func value(_ byte: UInt8) -> UInt8? {
        switch byte {
        case 0x30...0x39: byte - 0x30
        case 0x61...0x66: byte - 0x61 + 10
        default: nil
        }
    }
}

/// Base64 with the standard alphabet (RFC 4648, 4), without Foundation.
enum Base64 {
    private static let alphabet = Array("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/".utf8)

    static func encode(_ bytes: some Sequence<UInt8>) -> String {
        var output: [UInt8] = []
        var pending: UInt32 = 0
        var count = 0
        for byte in bytes {
            pending = pending << 8 | UInt32(byte)
            count += 1
            if count == 3 {
                append(pending, digits: 4, to: &output)
                (pending, count) = (0, 0)
            }
        }
        if count > 0 {
            append(pending << (count == 1 ? 16 : 8), digits: count + 1, to: &output)
            output.append(contentsOf: repeatElement(UInt8(ascii: "="), count: 3 - count))
        }
        return String(decoding: output, as: UTF8.self)
    }

    /// The alphabet of URLs (RFC 4648, 5), without padding, as JWT has it.
    static func decodeURL(_ text: some BidirectionalCollection<UInt8>) -> [UInt8]? {
        var standard: [UInt8] = []
        standard.reserveCapacity(text.count)
        for byte in text {
            switch byte {
            case UInt8(ascii: "-"): standard.append(UInt8(ascii: "+"))
            case UInt8(ascii: "_"): standard.append(UInt8(ascii: "/"))
            case UInt8(ascii: "+"), UInt8(ascii: "/"), UInt8(ascii: "="): return nil
            default: standard.append(byte)
            }
        }
        return decode(standard)
    }

    private static func append(_ group: UInt32, digits: Int, to output: inout [UInt8]) {
        for index in 0..<digits { output.append(alphabet[Int(group >> UInt32(18 - 6 * index)) & 63]) }
    }

    /// The bytes that a text stands for. Padding may be left out, but where it stands it must be whole; unused bits must
    /// be zero, so that one text stands for one value. Nil for anything else.
    static func decode(_ text: some BidirectionalCollection<UInt8>) -> [UInt8]? {
        let padding = text.reversed().prefix { $0 == UInt8(ascii: "=") }.count
        guard padding == 0 || (padding <= 2 && text.count % 4 == 0) else { return nil }
        var output: [UInt8] = []
        output.reserveCapacity(text.count / 4 * 3 + 3)
        var pending: UInt32 = 0
        var bits = 0
        for byte in text.dropLast(padding) {
            guard let value = value(byte) else { return nil }
            pending = (pending << 6 | value) & 0xFFFF
            bits += 6
            if bits >= 8 {
                bits -= 8
                output.append(UInt8(truncatingIfNeeded: pending >> UInt32(bits)))
            }
        }
        guard bits < 6, pending & (1 << UInt32(bits) - 1) == 0 else { return nil }
        return output
    }

    private static func value(_ byte: UInt8) -> UInt32? {
        switch byte {
        case 0x41...0x5A: UInt32(byte) - 0x41
        case 0x61...0x7A: UInt32(byte) - 0x61 + 26
        case 0x30...0x39: UInt32(byte) - 0x30 + 52
        case UInt8(ascii: "+"): 62
        case UInt8(ascii: "/"): 63
        default: nil
        }
    }
}
