import SluiceCore

/// Helps with words that people type: near misses, durations.
public enum Words {
    /// The known words that a typed one may stand for, nearest first: near in spelling, or with one in the other. At most five.
    public static func nearestAll(_ typed: String, among known: [String]) -> [String] {
        let lower = typed.lowercased()
        let scored = known.compactMap { word -> (word: String, distance: Int)? in
            let distance = distance(Array(lower.utf8), Array(word.lowercased().utf8))
            if distance <= max(2, min(typed.utf8.count, word.utf8.count) / 3) { return (word, distance) }
            return lower.utf8.count >= 3 && (word.contains(lower) || word.utf8.count >= 3 && lower.contains(word)) ? (word, 100) : nil
        }
        return scored.sorted { ($0.distance, $0.word) < ($1.distance, $1.word) }.prefix(5).map(\.word)
    }

    /// The known word that is nearest to a typed one, if it is near enough to be meant.
    static func nearest(_ typed: String, among known: [String]) -> String? {
        let scored = known.map { (word: $0, distance: distance(Array(typed.lowercased().utf8), Array($0.lowercased().utf8))) }
        guard let best = scored.min(by: { ($0.distance, $0.word) < ($1.distance, $1.word) }) else { return nil }
        return best.distance <= max(1, min(typed.utf8.count, best.word.utf8.count) / 3) ? best.word : nil
    }

    /// `did you mean X?`, or the words that are known.
    static func hint(_ typed: String, among known: [String]) -> String {
        if let near = nearest(typed, among: known) { return "did you mean `\(near)`?" }
        return known.isEmpty ? "there are none" : "known: \(known.sorted().joined(separator: ", "))"
    }

    /// Levenshtein distance with transpositions counted once, bounded by the words' lengths.
    private static func distance(_ left: [UInt8], _ right: [UInt8]) -> Int {
        if left.count > 64 || right.count > 64 { return .max }
        var rows = [Array(0...right.count)]
        for i in 0..<left.count {
            var row = [i + 1]
            for j in 0..<right.count {
                var best = min(rows[i][j] + (left[i] == right[j] ? 0 : 1), rows[i][j + 1] + 1, row[j] + 1)
                if i > 0, j > 0, left[i] == right[j - 1], left[i - 1] == right[j] { best = min(best, rows[i - 1][j - 1] + 1) }
                row.append(best)
            }
            rows.append(row)
        }
        return rows[left.count][right.count]
    }

    /// A length of time with its unit: `500ms`, `15s`, `5m`, `12h`, `7d`; nil for anything else.
    static func span(_ text: String) -> Span? {
        let units: [(String, Int64)] = [("ms", 1), ("s", 1000), ("m", 60_000), ("h", 3_600_000), ("d", 86_400_000)]
        let digits = text.prefix { $0.isASCII && $0.isNumber }
        guard let number = Int64(digits), let unit = units.first(where: { $0.0 == text[digits.endIndex...] }) else { return nil }
        let (value, overflow) = number.multipliedReportingOverflow(by: unit.1)
        return overflow || value > 366 * 86_400_000 ? nil : Span(milliseconds: value)
    }

    /// A span as people write it: the largest unit that leaves no rest.
    static func text(_ span: Span) -> String {
        let value = span.milliseconds
        for (unit, size) in [("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1000)] as [(String, Int64)]
        where value != 0 && value % size == 0 {
            return "\(value / size)\(unit)"
        }
        return "\(value)ms"
    }

    /// Names of connections, triggers and destinations: they stand in URLs and on command lines.
    static func isName(_ text: String) -> Bool {
        let bytes = text.utf8
        guard (1...64).contains(bytes.count), let first = bytes.first, first != UInt8(ascii: "-"), first != UInt8(ascii: ".") else {
            return false
        }
        return bytes.allSatisfy { byte in
            (0x30...0x39).contains(byte) || (0x61...0x7A).contains(ASCII.lowercased(byte)) || byte == UInt8(ascii: "-")
                || byte == UInt8(ascii: "_")
                || byte == UInt8(ascii: ".")
        }
    }
}
