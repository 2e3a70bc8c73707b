import GRDB
import SluiceCore
import SluiceStore

/// How destinations stand.
enum BacklogRows {
    static func backlog(_ db: Database, _ destination: DestinationID) throws -> DeliveryBacklog {
        let pending = try count(db, "state = 0", destination)
        let dead = try count(db, "state = 2", destination)
        let next = try Prepared(
            db,
            """
            SELECT d.next_attempt_at FROM destination o JOIN delivery d ON d.ns = o.ns AND d.destination_id = o.id
            WHERE o.id = ? AND d.state = 0 ORDER BY d.next_attempt_at LIMIT 1
            """)
        next.bind(1, destination)
        let due = try next.first { $0.time(0) }
        let filtered = try Prepared(db, "SELECT filtered FROM destination WHERE id = ?")
        filtered.bind(1, destination)
        return DeliveryBacklog(
            pending: pending, dead: dead, nextAttemptAt: due.flatMap { $0 < Transaction.blocked ? $0 : nil },
            filtered: try filtered.first { Int($0.int(0)) } ?? 0)
    }

    private static func count(_ db: Database, _ condition: String, _ destination: DestinationID) throws -> Int {
        let query = try Prepared(
            db,
            """
            SELECT count(*) FROM (
                SELECT 1 FROM destination o JOIN delivery d ON d.ns = o.ns AND d.destination_id = o.id
                WHERE o.id = ? AND d.\(condition) LIMIT \(DeliveryBacklog.countMax))
            """)
        query.bind(1, destination)
        return try query.first { Int($0.int(0)) } ?? 0
    }

    static func blocked(_ db: Database, _ namespace: NamespaceID) throws -> [BlockedDelivery] {
        let pairs = try Prepared(
            db,
            """
            SELECT a.destination_id, a.trigger_id FROM attachment a JOIN "trigger" t ON t.id = a.trigger_id
            WHERE a.ns = ? AND t.is_ordered = 1 ORDER BY a.destination_id, a.trigger_id
            """)
        pairs.bind(1, namespace)
        return try pairs.all { ($0.id(0) as DestinationID, $0.id(1) as TriggerID) }.compactMap { try head(db, namespace, $0, $1) }
    }

    private static func head(
        _ db: Database, _ namespace: NamespaceID, _ destination: DestinationID, _ trigger: TriggerID
    ) throws -> BlockedDelivery? {
        let query = try Prepared(
            db,
            """
            SELECT d.id, d.position, d.state, d.attempts, d.next_attempt_at, d.reason, d.last_status,
                (SELECT j.dedup_key FROM job j WHERE j.seq = d.job_seq),
                (SELECT min(a.at) FROM attempt a WHERE a.ns = d.ns AND a.delivery_id = d.id),
                (SELECT a.error FROM attempt a WHERE a.ns = d.ns AND a.delivery_id = d.id ORDER BY a.id DESC LIMIT 1)
            FROM delivery d WHERE d.ns = ? AND d.destination_id = ? AND d.trigger_id = ?
                AND d.is_ordered = 1 AND d.state IN (0, 2) ORDER BY d.position LIMIT 1
            """)
        query.bind(1, namespace)
        query.bind(2, destination)
        query.bind(3, trigger)
        let found = try query.first { row in
            let isPending = row.int(2) == 0
            return BlockedDelivery(
                destination: destination, trigger: trigger, delivery: row.int(0), position: row.id(1), dedupKey: row.bytes(7),
                state: isPending ? .pending : .dead, attempts: Int(row.int(3)), since: row.optionalTime(8),
                lastError: row.optionalText(9) ?? row.optionalText(5), lastStatus: row.optionalInt(6).map { Int($0) },
                nextAttemptAt: isPending && row.time(4) < Transaction.blocked ? row.time(4) : nil, waiting: 0)
        }
        guard var head = found, head.state == .dead || head.attempts > 0 else { return nil }
        let behind = try Prepared(
            db,
            """
            SELECT count(*) FROM (
                SELECT 1 FROM delivery WHERE ns = ? AND destination_id = ? AND trigger_id = ? AND position > ?
                    AND is_ordered = 1 AND state IN (0, 2) LIMIT \(DeliveryBacklog.countMax))
            """)
        behind.bind(1, namespace)
        behind.bind(2, destination)
        behind.bind(3, trigger)
        behind.bind(4, head.position)
        head.waiting = try behind.first { Int($0.int(0)) } ?? 0
        return head
    }
}
