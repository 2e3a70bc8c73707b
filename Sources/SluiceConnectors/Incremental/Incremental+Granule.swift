import SluiceCore

/// A version that is a time, and shows no more than seconds, is the same before and after a second change within one. So the states of
/// such a record are told apart by their bytes for as long as its second may still run.
extension Incremental {
    /// The state of each record as of an answer; empty where their versions tell states apart.
    func states(of records: [Record], readAt: Timestamp?) -> [RecordState?] {
        guard let readAt, !dedup.versions.isEmpty else { return [] }
        let states = records.map { record in
            isOpen(record, readAt: readAt).map { RecordState(digest: Incremental.digest(record), isOpen: $0) }
        }
        return states.contains { $0 != nil } ? states : []
    }

    static func digest(_ record: Record) -> [UInt8] { Array(Hex.text(HMACSHA256.sha256(Array(record.bytes))).utf8.prefix(32)) }

    /// Whether a later change of this record may still show the same version; nil where each change shows another one.
    func isOpen(_ record: Record, readAt: Timestamp) -> Bool? {
        guard let end = record.bytes.withUnsafeBufferPointer({ granuleEnd($0) }) else { return nil }
        let (settled, overflow) = end.addingReportingOverflow(settleMilliseconds)
        return overflow || readAt.milliseconds < settled
    }

    private var settleMilliseconds: Int64 {
        guard let cursor else { return CoarseVersions.settleMin.milliseconds }
        let perSecond = cursor.unitsPerSecond ?? 1
        let lookback = cursor.unitsPerSecond == nil ? 0 : min(cursor.lookback / perSecond, 86_400) * 1000
        return max(
            CoarseVersions.settleMin.milliseconds, cursor.visibilityLag.milliseconds,
            min(lookback, CoarseVersions.lookbackSecondsMax * 1000))
    }

    /// When the time that a record's version shows is over, in milliseconds. Nil where a version is no time, or a finer one.
    private func granuleEnd(_ record: UnsafeBufferPointer<UInt8>) -> Int64? {
        var latest: Int64?
        for path in dedup.versions {
            guard let range = path.find(in: record),
                let end = granuleEnd(UnsafeBufferPointer(rebasing: record[range]), isCursor: path == cursor?.field)
            else { return nil }
            latest = max(latest ?? end, end)
        }
        return latest
    }

    private func granuleEnd(_ value: UnsafeBufferPointer<UInt8>, isCursor: Bool) -> Int64? {
        if isCursor, let cursor, let perSecond = cursor.unitsPerSecond {
            guard case .mark(let mark) = cursor.read(value), let start = cursor.time(of: mark)?.milliseconds else { return nil }
            // A fraction that `unix_seconds` rounds down is shown all the same.
            if cursor.kind == .unixSeconds, value.contains(UInt8(ascii: ".")) { return nil }
            let shown = Incremental.granule(mark, perSecond)
            let granule = max(shown, cursor.pattern?.granuleMilliseconds ?? 1, Incremental.declared(cursor.granularity, mark, perSecond))
            guard granule > 1 else { return nil }
            // Of two offsets the one that makes the time earlier was taken.
            return Incremental.sum(start, granule + (cursor.zone?.spreadSeconds ?? 0) * 1000)
        }
        let start: Int64
        if value.count >= 2, value[0] == UInt8(ascii: "\"") {
            let inner = UnsafeBufferPointer(rebasing: value[1..<value.count - 1])
            if let day = Incremental.dayEnd(inner) { return day }
            if let number = Incremental.plainTime(inner) { return Incremental.granuleEnd(of: number) }
            switch Times.rfc3339(inner) {
            case .milliseconds(let milliseconds): start = milliseconds
            case .zoneless(let local):
                guard let zone = cursor?.zone else { return nil }
                start = local - zone.offsetSeconds * 1000
            case .unreadable: return nil
            }
        } else if let number = Incremental.plainTime(value) {
            start = number
        } else {
            return nil
        }
        return Incremental.granuleEnd(of: start)
    }

    private static func granuleEnd(of start: Int64) -> Int64? {
        let granule = granule(start, 1000)
        return granule > 1 ? sum(start, granule) : nil
    }

    /// Seconds or milliseconds since 1970, as far as one can tell, in milliseconds.
    private static func plainTime(_ digits: UnsafeBufferPointer<UInt8>) -> Int64? {
        guard digits.count == 10 || digits.count == 13, digits.allSatisfy({ $0 &- 0x30 < 10 }),
            let number = Decimals.floor(digits, scale: 0)
        else { return nil }
        return digits.count == 10 ? number * 1000 : number
    }

    /// When a day such as 2026-11-22 is over, wherever on earth: its zone is not known.
    private static func dayEnd(_ text: UnsafeBufferPointer<UInt8>) -> Int64? {
        guard text.count == 10 else { return nil }
        let midnight = Array(text) + Array("T00:00:00Z".utf8)
        guard case .milliseconds(let start) = midnight.withUnsafeBufferPointer({ Times.rfc3339($0) }) else { return nil }
        return sum(start, 36 * 3_600_000)
    }

    /// How finely a time is shown, in milliseconds: by the zeros that it ends with. A time of whole seconds that happens to lie on a minute
    /// or at midnight is taken for one of minutes or days: its states are told apart for longer, which loses nothing.
    private static func granule(_ units: Int64, _ perSecond: Int64) -> Int64 {
        for seconds in [86_400, 60] as [Int64] where units % (perSecond * seconds) == 0 { return seconds * 1000 }
        for (parts, milliseconds) in [(1, 1000), (10, 100), (100, 10)] as [(Int64, Int64)] {
            guard perSecond >= parts else { break }
            if units % (perSecond / parts) == 0 { return milliseconds }
        }
        return 1
    }

    /// A bound between records that show whole minutes or days begins with theirs: what changes again in a minute shows its beginning.
    static func floor(_ bound: Int64, asShownBy mark: Int64, _ rule: CursorRule) -> Int64 {
        guard let perSecond = rule.unitsPerSecond else { return bound }
        let units = granule(mark, perSecond) / 1000 * perSecond
        guard units > perSecond else { return bound }
        let rest = bound % units
        return bound - (rest < 0 ? rest + units : rest)
    }

    /// What the API compares by, in milliseconds, if this time lies on it.
    private static func declared(_ granularity: Int64?, _ mark: Int64, _ perSecond: Int64) -> Int64 {
        guard let granularity, granularity > 1, mark % granularity == 0 else { return 1 }
        let (milliseconds, overflow) = granularity.multipliedReportingOverflow(by: 1000)
        return overflow ? 1 : max(1, milliseconds / perSecond)
    }

    private static func sum(_ left: Int64, _ right: Int64) -> Int64 {
        let (sum, overflow) = left.addingReportingOverflow(right)
        return overflow ? Int64.max : sum
    }
}
