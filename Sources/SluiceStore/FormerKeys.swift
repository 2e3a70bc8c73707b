import SluiceCore

/// Which former keys of a record still say that it is known.
public enum FormerKeys {
    /// So many of a trigger's newest jobs are looked through for what became of a former key.
    public static let jobsLookedThroughMax = 100_000

    /// Drops the former keys whose job held another state of the record, by the keys as they are made now. Under a former key alone,
    /// such as an id without a version, a record that changes after its connector would be taken for known.
    ///
    /// - Parameters:
    ///   - jobs: what is known of each former key, for records that are not known by their own.
    ///   - keysNow: the keys that are made now of what the jobs hold; nil for one that cannot be made, or that tells no state. Gives none
    ///     where keys are made from what the provider sent, which no job holds: then a higher mark tells another state.
    public static func withoutStale(
        _ records: [KeyedRecord], _ jobs: [[UInt8]: FormerJob], keysNow: (_ records: [Record]) -> [[UInt8]?]
    ) -> [KeyedRecord] {
        guard !jobs.isEmpty else { return records }
        let held = jobs.compactMap { former, job in job.record.map { (former: former, record: $0) } }
        var keys: [[UInt8]: [UInt8]] = [:]
        if !held.isEmpty {
            for (held, key) in zip(held, keysNow(held.map(\.record))) { keys[held.former] = key }
        }
        return records.map { record in
            guard !record.formerKeys.isEmpty else { return record }
            var record = record
            record.formerKeys.removeAll { former in
                let key = keys[former]
                // What came with this mark already did not change since, however it is described now.
                if let mark = record.mark, let before = jobs[former]?.mark { return mark > before && key != record.dedupKey }
                return key.map { $0 != record.dedupKey } ?? false
            }
            return record
        }
    }
}
