import GRDB
import SluiceCore
import SluiceStore

/// Deliveries, as people and the delivery service look at them.
enum DeliveryRows {
    static func pending(_ db: Database, _ namespace: NamespaceID) throws -> [(destination: DestinationID, dueAt: Timestamp, pending: Int)] {
        let query = try Prepared(
            db,
            """
            SELECT o.id,
                (SELECT next_attempt_at FROM delivery d WHERE d.ns = o.ns AND d.destination_id = o.id AND d.state = 0
                    ORDER BY next_attempt_at LIMIT 1),
                (SELECT count(*) FROM (
                    SELECT 1 FROM delivery d WHERE d.ns = o.ns AND d.destination_id = o.id AND d.state = 0 LIMIT 1000))
            FROM destination o WHERE o.ns = ? AND o.kind <> 'pull' ORDER BY o.id
            """)
        query.bind(1, namespace)
        return try query.all { row in row.optionalTime(1).map { (destination: row.id(0), dueAt: $0, pending: Int(row.int(2))) } }
            .compactMap { $0 }
    }

    static func list(_ db: Database, _ query: DeliveryQuery) throws -> [StoredDelivery] {
        // Mostly few of all: by their partial indexes. The others are most of all: backwards by number.
        let hasIndex = query.state.map { [.pending, .dead, .discarded].contains($0) } ?? false
        var conditions = "\(hasIndex ? "" : "+")ns = ?1 AND EXISTS (SELECT 1 FROM destination d WHERE d.id = destination_id)"
        if query.destination != nil { conditions += " AND destination_id = ?2" }
        if query.before != nil { conditions += " AND id < ?4" }
        // Written out rather than bound, so that the partial indexes serve it.
        if let state = query.state { conditions += " AND state = \(number(state))" }
        let statement = try Prepared(
            db,
            """
            SELECT id, destination_id, trigger_id, position, state, attempts, next_attempt_at, reason, last_status, created_at
            FROM delivery WHERE \(conditions) ORDER BY id DESC LIMIT ?3
            """)
        statement.bind(1, query.namespace)
        if let destination = query.destination { statement.bind(2, destination) }
        statement.bind(3, query.limit)
        if let before = query.before { statement.bind(4, before) }
        return try statement.all(read)
    }

    /// Columns: id, destination_id, trigger_id, position, state, attempts, next_attempt_at, reason, last_status, created_at.
    static func read(_ row: Prepared) throws -> StoredDelivery {
        let state = try state(row.int(4))
        return StoredDelivery(
            id: row.int(0), destination: row.id(1), trigger: row.id(2), position: row.id(3), state: state, attempts: Int(row.int(5)),
            nextAttemptAt: state == .pending && row.time(6) < Transaction.blocked ? row.time(6) : nil, reason: row.optionalText(7),
            lastStatus: row.optionalInt(8).map { Int($0) }, createdAt: row.time(9))
    }

    private static func number(_ state: DeliveryState) -> Int {
        switch state {
        case .pending: 0
        case .delivered: 1
        case .dead: 2
        case .filtered: 3
        case .discarded: 4
        }
    }

    private static func state(_ number: Int64) throws -> DeliveryState {
        switch number {
        case 0: .pending
        case 1: .delivered
        case 2: .dead
        case 3: .filtered
        case 4: .discarded
        default: throw SluiceError(.storage, "the database is damaged: a delivery is in the state \(number)")
        }
    }
}
