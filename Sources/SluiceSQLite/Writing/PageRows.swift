import SluiceCore

/// Many dedup keys, or many jobs, by one statement: beginning and ending a statement costs SQLite as much as the row it writes.
enum PageRows {
    /// Rows a statement. What a page has beyond a multiple of it goes row by row.
    static let rows = 50

    /// ?1 namespace, ?2 space, ?3 cycle, then key and mark of each row. Without ON CONFLICT: a key that is known, or comes twice,
    /// fails the statement, and none of its rows is written.
    static let insertKeys =
        "INSERT INTO dedup (ns, space, last_cycle, key, mark) VALUES " + values(shared: 3, each: 2)

    /// ?1 namespace, ?2 trigger, ?3 cause, ?4 time, then sequence, position, marks, key and record of each row.
    static let insertJobs =
        "INSERT INTO job (ns, trigger_id, cause, created_at, seq, position, is_derived, dedup_key, record) VALUES "
        + values(shared: 4, each: 5)

    private static func values(shared: Int, each: Int) -> String {
        let row = { (row: Int) in
            let places = Array(1...shared) + (1...each).map { shared + row * each + $0 }
            return "(" + places.map { "?\($0)" }.joined(separator: ",") + ")"
        }
        return (0..<rows).map(row).joined(separator: ",")
    }

    /// What `is_derived` holds: bits, since deletions were told apart.
    @inline(__always) static func marks(_ record: Record) -> Int { (record.isDerived ? 1 : 0) | (record.isDeletion ? 2 : 0) }

    /// False: one of them is known.
    static func insert(_ records: ArraySlice<KeyedRecord>, keys statement: Prepared) throws -> Bool {
        guard let keyed = records.first else { return try statement.runUnlessRefused() }
        let place = 4 + Int32(rows - records.count) * 2
        return try keyed.dedupKey.withUnsafeBytes { key in
            statement.bindInPlace(place, key)
            statement.bind(place + 1, keyed.mark)
            return try insert(records.dropFirst(), keys: statement)
        }
    }

    /// - Parameters:
    ///   - sequence: of the first of `records`; they rise by one.
    ///   - position: likewise.
    static func insert(_ records: ArraySlice<KeyedRecord>, jobs statement: Prepared, from sequence: Int64, at position: Int64) throws {
        guard let keyed = records.first else { return try statement.run() }
        let place = 5 + Int32(rows - records.count) * 5
        statement.bind(place, sequence)
        statement.bind(place + 1, position)
        statement.bind(place + 2, marks(keyed.record))
        try keyed.dedupKey.withUnsafeBytes { key in
            try keyed.record.bytes.withUnsafeBytes { bytes in
                statement.bindInPlace(place + 3, key)
                statement.bindInPlace(place + 4, bytes)
                try insert(records.dropFirst(), jobs: statement, from: sequence + 1, at: position + 1)
            }
        }
    }
}
