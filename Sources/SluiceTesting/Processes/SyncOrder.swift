/// Checks a log of Tests/Shims/syncwatch.c for promise P1: no 2xx to a request whose bytes were not written to a
/// database file and synced before. Pure; the formats stand at the head of syncwatch.c.
public enum SyncOrder {
    /// One sentence for each 2xx that came too early, and one for each line that cannot be read.
    public static func violations(_ log: String) -> [String] {
        var checker = Checker()
        for line in log.split(separator: "\n") { checker.take(line) }
        return checker.violations
    }

    /// The answers of status 2xx in a log; a log without any proves nothing.
    public static func successCount(_ log: String) -> Int {
        log.split(separator: "\n").count { line in
            let fields = line.split(separator: " ")
            return fields.count == 4 && fields[1] == "A" && fields[3].hasPrefix("2")
        }
    }

    private struct Checker {
        var violations: [String] = []
        /// Markers that came in on a socket and are not answered yet, oldest first: a client may pipeline.
        private var waiting: [Int: [Substring]] = [:]
        /// Where and when a marker was last written and not yet synced.
        private var unsynced: [Substring: [(path: String, number: Int)]] = [:]
        private var durable: Set<Substring> = []
        private var lastNumber = 0

        mutating func take(_ line: Substring) {
            let fields = line.split(separator: " ")
            guard fields.count >= 3, let number = Int(fields[0]), number == lastNumber + 1 else {
                violations.append("unreadable or out of order: \(line)")
                return
            }
            lastNumber = number
            // A path may contain spaces; it always stands between the kind and the last field.
            let path = fields.dropFirst(2).dropLast().joined(separator: " ")
            switch (fields[1], Int(fields[2])) {
            case ("R", let socket?) where fields.count == 4: read(fields[3], from: socket)
            case ("W", _) where fields.count >= 4: unsynced[fields[fields.count - 1], default: []].append((path, number))
            case ("S", _) where fields.count >= 4: synced(path, upTo: Int(fields[fields.count - 1]) ?? 0)
            case ("A", let socket?) where fields.count == 4: answered(socket, status: fields[3], line)
            case ("C", let socket?): waiting[socket] = nil
            default: violations.append("unreadable: \(line)")
            }
        }

        private mutating func read(_ marker: Substring, from socket: Int) {
            // A request may carry its marker more than once.
            if waiting[socket]?.last != marker { waiting[socket, default: []].append(marker) }
        }

        private mutating func synced(_ path: String, upTo begin: Int) {
            for (marker, writes) in unsynced {
                let left = writes.filter { $0.path != path || $0.number > begin }
                if left.count < writes.count { durable.insert(marker) }
                unsynced[marker] = left.isEmpty ? nil : left
            }
        }

        private mutating func answered(_ socket: Int, status: Substring, _ line: Substring) {
            guard var markers = waiting[socket], !markers.isEmpty else { return }
            let marker = markers.removeFirst()
            waiting[socket] = markers
            guard status.hasPrefix("2"), !durable.contains(marker) else { return }
            let what = unsynced[marker] == nil ? "was never written" : "was written but not synced"
            violations.append("\(line): answered \(status), but \(marker) \(what)")
        }
    }
}
