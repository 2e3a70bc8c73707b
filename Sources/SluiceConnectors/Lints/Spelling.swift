import SluiceCore

/// Whether one key was meant where another stands.
enum Spelling {
    private static let bytesMax = 64

    /// The same but for capitals and what stands between words, or few letters left out, added, changed or exchanged.
    static func isNear(_ typed: String, _ meant: String) -> Bool {
        let (left, right) = (plain(typed), plain(meant))
        guard left.count <= bytesMax, right.count <= bytesMax else { return false }
        return distance(left, right) <= max(1, min(left.count, right.count) / 3)
    }

    private static func plain(_ text: String) -> [UInt8] { text.utf8.map(ASCII.lowercased).filter { $0 &- 0x61 < 26 || $0 &- 0x30 < 10 } }

    /// Levenshtein's, with neighbours exchanged counted once.
    private static func distance(_ left: [UInt8], _ right: [UInt8]) -> Int {
        var rows = [Array(0...right.count)]
        for (i, a) in left.enumerated() {
            var row = [i + 1]
            for (j, b) in right.enumerated() {
                var least = min(rows[i][j + 1] + 1, row[j] + 1, rows[i][j] + (a == b ? 0 : 1))
                if i > 0, j > 0, a == right[j - 1], left[i - 1] == b { least = min(least, rows[i - 1][j - 1] + 1) }
                row.append(least)
            }
            rows.append(row)
        }
        return rows[left.count][right.count]
    }
}
