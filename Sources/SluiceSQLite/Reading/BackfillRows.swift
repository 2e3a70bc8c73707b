import GRDB
import SluiceCore
import SluiceStore

enum BackfillRows {
    static let columns = """
        id, ns, trigger_id, connection_id, mode, is_audit, from_time, to_time, definition, notes, state, phase, step, gathered, gather_to,
        cursor, page_state, connector, counts, failures, retry_at, last_error, created_at, progress_at, ended_at
        """

    static func list(_ db: Database, _ query: BackfillQuery) throws -> [StoredBackfill] {
        let statement = try Prepared(
            db,
            """
            SELECT \(columns) FROM backfill WHERE ns = ?1 AND id < ?2 AND (?3 IS NULL OR trigger_id = ?3)
                AND (?4 = 0 OR ended_at IS NULL) ORDER BY id DESC LIMIT ?5
            """)
        statement.bind(1, query.namespace)
        statement.bind(2, query.before?.rawValue ?? Int64.max)
        statement.bind(3, query.trigger?.rawValue)
        statement.bind(4, query.unfinishedOnly ? 1 : 0)
        statement.bind(5, max(1, query.limit))
        return try statement.all(decode)
    }

    static func one(_ db: Database, _ namespace: NamespaceID, _ id: BackfillID) throws -> StoredBackfill? {
        let statement = try Prepared(db, "SELECT \(columns) FROM backfill WHERE ns = ? AND id = ?")
        statement.bind(1, namespace)
        statement.bind(2, id)
        return try statement.first(decode)
    }

    private static func decode(_ row: Prepared) throws -> StoredBackfill {
        guard let mode = BackfillMode(rawValue: row.text(4)), let state = BackfillState(rawValue: row.text(10)),
            let phase = BackfillPhase(rawValue: row.text(11)), let notes = try? JSONDocument(row.bytes(9)).root.elements,
            let counts = try? JSONDocument(row.bytes(18)).root
        else { throw SluiceError(.storage, "the database is damaged: the backfill \(row.int(0)) cannot be read") }
        return StoredBackfill(
            id: row.id(0), namespace: row.id(1), trigger: row.id(2), connection: row.id(3), mode: mode, isAudit: row.int(5) != 0,
            window: BackfillWindow(from: row.time(6), to: row.time(7)), definition: row.bytes(8), notes: notes.compactMap(\.string),
            state: state, phase: phase, step: row.int(12), gathered: row.id(13), gatherTo: row.id(14), cursor: row.bytes(15),
            pageState: row.optionalBytes(16), connector: row.text(17), counts: BackfillCounts(counts), failures: Int(row.int(19)),
            retryAt: row.optionalTime(20), lastError: row.optionalText(21), createdAt: row.time(22), progressAt: row.time(23),
            endedAt: row.optionalTime(24))
    }

    static func differences(_ db: Database, _ query: BackfillDifferenceQuery) throws -> [BackfillDifference] {
        let statement = try Prepared(
            db,
            """
            SELECT d.key, d.position FROM backfill_difference d
            WHERE d.backfill_id = ?1 AND d.kind = ?2 AND d.key > ?3
                AND EXISTS (SELECT 1 FROM backfill b WHERE b.id = ?1 AND b.ns = ?4)
            ORDER BY d.key LIMIT ?5
            """)
        statement.bind(1, query.backfill)
        statement.bind(2, query.kind.number)
        statement.bind(3, query.after ?? [])
        statement.bind(4, query.namespace)
        statement.bind(5, max(1, query.limit))
        return try statement.all {
            BackfillDifference(kind: query.kind, key: $0.bytes(0), position: $0.optionalInt(1).map { JobPosition($0) })
        }
    }

    static func removedJobs(_ db: Database, _ trigger: TriggerID) throws -> (through: JobPosition, madeAt: Timestamp)? {
        let statement = try Prepared(db, "SELECT position, made_at FROM removal WHERE trigger_id = ? ORDER BY id DESC LIMIT 1")
        statement.bind(1, trigger)
        return try statement.first { (through: $0.id(0), madeAt: $0.time(1)) }
    }
}

extension BackfillDifference.Kind {
    var number: Int64 {
        switch self {
        case .missing: 1
        case .extra: 2
        case .keyOnly: 3
        }
    }
}
