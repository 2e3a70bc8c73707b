import GRDB
import SluiceCore
import SluiceStore

enum CallbackRows {
    static let columns = """
        c.id, c.uid, c.connection_id, c.type, c.input, c.destination_id, c.sealed_token, c.idempotency_key, c.is_unsafe, c.pauses,
        c.generation, c.trigger_id, coalesce(t.uid, ''), c.position, c.ended_by, c.state, c.asks, c.created_at, c.expires_at, c.next_at,
        c.last_start_at, c.polls, c.step, c.failures, c.signals, c.covered, c.last_error, c.ended_at, c.reason
        """
    static let table = "callback c LEFT JOIN \"trigger\" t ON t.id = c.trigger_id"

    static func one(_ db: Database, where condition: String, _ bind: (Prepared) -> Void) throws -> StoredCallback? {
        let query = try Prepared(db, "SELECT \(columns), c.result FROM \(table) WHERE \(condition)")
        bind(query)
        return try query.first { row in
            var stored = try decode(row)
            stored.result = row.optionalBytes(29)
            return stored
        }
    }

    static func list(_ db: Database, _ query: CallbackQuery) throws -> [StoredCallback] {
        // The plus keeps SQLite from going through an index of all and sorting them.
        var conditions = [query.state == nil && query.connection == nil ? "+c.ns = ?1" : "c.ns = ?1", "c.id < ?2"]
        if query.state != nil { conditions.append("c.state = ?4") }
        // The plus keeps SQLite on the index of the state, of which there are fewer.
        if query.connection != nil { conditions.append(query.state == nil ? "c.connection_id = ?5" : "+c.connection_id = ?5") }
        let statement = try Prepared(
            db, "SELECT \(columns) FROM \(table) WHERE \(conditions.joined(separator: " AND ")) ORDER BY c.id DESC LIMIT ?3")
        statement.bind(1, query.namespace)
        statement.bind(2, query.before ?? .max)
        statement.bind(3, max(1, query.limit))
        if let state = query.state { statement.bind(4, state.rawValue) }
        if let connection = query.connection { statement.bind(5, connection) }
        return try statement.all(decode)
    }

    static func pending(_ db: Database, _ namespace: NamespaceID) throws -> [PendingCallbacks] {
        let query = try Prepared(
            db,
            """
            SELECT l.connection_id, l.pending, (SELECT min(c.next_at) FROM callback c
                WHERE c.ns = l.ns AND c.connection_id = l.connection_id AND c.state = 'pending')
            FROM callback_tally l WHERE l.ns = ? AND l.pending > 0 ORDER BY l.connection_id
            """)
        query.bind(1, namespace)
        return try query.all {
            PendingCallbacks(connection: $0.id(0), pending: $0.int(1), dueAt: $0.optionalTime(2) ?? .distantFuture)
        }
    }

    static func due(
        _ db: Database, _ namespace: NamespaceID, _ connection: ConnectionID, at time: Timestamp, limit: Int
    ) throws -> [StoredCallback] {
        let query = try Prepared(
            db,
            """
            SELECT \(columns) FROM \(table)
            WHERE c.ns = ? AND c.connection_id = ? AND c.state = 'pending' AND c.next_at <= ? ORDER BY c.next_at LIMIT ?
            """)
        query.bind(1, namespace)
        query.bind(2, connection)
        query.bind(3, time)
        query.bind(4, max(1, limit))
        return try query.all(decode)
    }

    private static func decode(_ row: Prepared) throws -> StoredCallback {
        guard let phase = CallbackState(rawValue: row.text(15)) else {
            throw SluiceError(.storage, "the database is damaged: a callback is in the state \(row.text(15))")
        }
        var state = Callback(asks: row.int(16) != 0, createdAt: row.time(17), expiresAt: row.time(18), nextAt: row.time(19))
        state.state = phase
        state.lastStartAt = row.optionalTime(20)
        state.polls = Int(row.int(21))
        state.step = Int(row.int(22))
        state.failures = Int(row.int(23))
        state.signals = row.int(24)
        state.covered = row.int(25)
        state.lastError = row.optionalText(26)
        state.endedAt = row.optionalTime(27)
        state.reason = row.optionalText(28)
        return StoredCallback(
            number: row.int(0), id: row.text(1), connection: row.id(2), type: row.optionalText(3), input: row.bytes(4),
            destination: row.optionalInt(5).map { DestinationID($0) }, sealedToken: row.bytes(6), idempotencyKey: row.optionalText(7),
            isUnsafe: row.int(8) != 0, state: state, pauses: Pauses.decode(row.text(9)), generation: row.id(10), source: row.id(11),
            sourceUID: row.text(12), position: row.optionalInt(13).map { JobPosition($0) },
            endedBy: row.optionalText(14).flatMap { CallbackEnding.Cause(rawValue: $0) }, result: nil)
    }

    /// Milliseconds with commas between them.
    enum Pauses {
        static func encode(_ pauses: [Span]) -> String { pauses.map { String($0.milliseconds) }.joined(separator: ",") }
        static func decode(_ text: String) -> [Span] { text.split(separator: ",").compactMap { Int64($0).map(Span.init(milliseconds:)) } }
    }
}
