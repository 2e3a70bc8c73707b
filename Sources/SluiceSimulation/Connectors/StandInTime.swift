import SluiceCore

/// Times as they stand in requests, read to the microsecond.
enum StandInTime {
    /// Microseconds since 1970 of an RFC 3339 time; without a zone it counts as UTC. Nil for anything else.
    static func rfc3339(_ text: String) -> Int64? {
        let bytes = Array(text.utf8)
        guard bytes.count >= 10, let year = number(bytes, 0, 4), let month = number(bytes, 5, 2), let day = number(bytes, 8, 2),
            bytes[4] == UInt8(ascii: "-"), bytes[7] == UInt8(ascii: "-")
        else { return nil }
        let days = Timestamp.days(year: year, month: month, day: day)
        if bytes.count == 10 { return days * 86_400_000_000 }
        guard let hour = number(bytes, 11, 2), let minute = number(bytes, 14, 2), let second = number(bytes, 17, 2) else { return nil }
        var micros = (days * 86_400 + hour * 3600 + minute * 60 + second) * 1_000_000
        var index = 19
        if index < bytes.count, bytes[index] == UInt8(ascii: ".") {
            index += 1
            var scale: Int64 = 100_000
            while index < bytes.count, bytes[index] &- 0x30 < 10 {
                micros += Int64(bytes[index] - 0x30) * scale
                scale /= 10
                index += 1
            }
        }
        guard index < bytes.count, bytes[index] | 0x20 != UInt8(ascii: "z") else { return micros }
        let isEast = bytes[index] == UInt8(ascii: "+")
        guard isEast || bytes[index] == UInt8(ascii: "-"), let hours = number(bytes, index + 1, 2) else { return nil }
        let colon = index + 3 < bytes.count && bytes[index + 3] == UInt8(ascii: ":") ? 1 : 0
        let minutes = number(bytes, index + 3 + colon, 2) ?? 0
        let offset = (hours * 60 + minutes) * 60_000_000
        return isEast ? micros - offset : micros + offset
    }

    private static func number(_ bytes: [UInt8], _ start: Int, _ count: Int) -> Int64? {
        guard start + count <= bytes.count else { return nil }
        return Int64(String(decoding: bytes[start..<start + count], as: UTF8.self))
    }

    /// A decimal number in millionths, cut.
    static func decimal(_ text: String) -> Int64? {
        let halves = text.split(separator: ".", maxSplits: 1, omittingEmptySubsequences: false)
        guard let whole = Int64(halves[0]), abs(whole) < 9_000_000_000_000 else { return nil }
        guard halves.count == 2 else { return whole * 1_000_000 }
        let digits = halves[1].prefix(6)
        guard !digits.isEmpty, let fraction = Int64(digits), fraction >= 0 else { return nil }
        let scaled = (0..<6 - digits.count).reduce(fraction) { value, _ in value * 10 }
        return whole * 1_000_000 + (text.hasPrefix("-") ? -scaled : scaled)
    }
}
