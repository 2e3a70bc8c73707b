import GRDB
import SluiceCore
import SluiceStore

/// Dead letters, as people look at them.
enum DeadLetterRows {
    private static let columns = """
        d.id, d.destination_id, d.trigger_id, d.position, d.state, d.attempts, d.next_attempt_at, d.reason, d.last_status, d.created_at,
        d.settled_at, d.discarded_at, d.discarded_by, d.discard_note
        """

    static func page(_ db: Database, _ query: DeadLetterQuery) throws -> DeadLetterPage {
        let selection = query.selection
        var conditions = "d.state = \(query.isDiscarded ? 4 : 2) AND d.ns = ?1 AND d.settled_at >= ?2 AND d.settled_at < ?3"
        conditions += " AND d.settled_at <= ?4 AND (d.settled_at, d.id) < (?4, ?5)"
        if selection.destination != nil { conditions += " AND d.destination_id = ?6" }
        if selection.trigger != nil { conditions += " AND d.trigger_id = ?7" }
        if selection.reason != nil { conditions += " AND d.reason = ?8" }
        let index = query.isDiscarded ? "delivery_discarded" : selection.destination == nil ? "delivery_died" : "delivery_died_of"
        let statement = try Prepared(
            db,
            """
            SELECT \(columns), j.dedup_key,
                (SELECT a.error FROM attempt a WHERE a.ns = d.ns AND a.delivery_id = d.id ORDER BY a.id DESC LIMIT 1)
            FROM delivery d INDEXED BY \(index) CROSS JOIN job j ON j.seq = d.job_seq
            WHERE \(conditions) AND EXISTS (SELECT 1 FROM destination o WHERE o.id = d.destination_id)
                AND EXISTS (SELECT 1 FROM "trigger" t WHERE t.id = d.trigger_id)
            ORDER BY d.settled_at DESC, d.id DESC LIMIT ?9
            """)
        statement.bind(1, selection.namespace)
        statement.bind(2, selection.since ?? .distantPast)
        statement.bind(3, selection.until ?? .distantFuture)
        statement.bind(4, query.before?.diedAt ?? .distantFuture)
        statement.bind(5, query.before?.delivery ?? Int64.max)
        if let destination = selection.destination { statement.bind(6, destination) }
        if let trigger = selection.trigger { statement.bind(7, trigger) }
        if let reason = selection.reason { statement.bind(8, reason) }
        statement.bind(9, query.limit + 1)
        var letters = try statement.all { row in
            DeadLetter(
                delivery: try DeliveryRows.read(row), diedAt: row.time(10), dedupKey: row.bytes(14), lastError: row.optionalText(15),
                discard: discard(row))
        }
        guard letters.count > query.limit else { return DeadLetterPage(letters: letters, next: nil) }
        letters.removeLast()
        return DeadLetterPage(
            letters: letters, next: letters.last.map { DeadLetterMark(diedAt: $0.diedAt, delivery: $0.delivery.id) })
    }

    private static func discard(_ row: Prepared) -> DeadLetter.Discard? {
        guard let at = row.optionalTime(11) else { return nil }
        return DeadLetter.Discard(at: at, by: row.text(12), note: row.text(13))
    }

    static func detail(_ db: Database, _ namespace: NamespaceID, _ delivery: Int64, attemptsMax: Int) throws -> DeliveryDetail? {
        let query = try Prepared(
            db,
            """
            SELECT \(columns), d.job_seq FROM delivery d
            WHERE d.id = ? AND d.ns = ? AND EXISTS (SELECT 1 FROM destination o WHERE o.id = d.destination_id)
                AND EXISTS (SELECT 1 FROM "trigger" t WHERE t.id = d.trigger_id)
            """)
        query.bind(1, delivery)
        query.bind(2, namespace)
        let found = try query.first { row in
            (stored: try DeliveryRows.read(row), settledAt: row.optionalTime(10), discard: discard(row), job: row.int(14))
        }
        guard let found, let job = try job(db, namespace, found.job) else { return nil }
        let attempts = try attempts(db, namespace, delivery, max: attemptsMax)
        return DeliveryDetail(
            delivery: found.stored, settledAt: found.settledAt, discard: found.discard, job: job, attempts: attempts.last,
            attemptsInAll: attempts.count)
    }

    private static func job(_ db: Database, _ namespace: NamespaceID, _ sequence: Int64) throws -> StoredJob? {
        let query = try Prepared(
            db, "SELECT seq, trigger_id, position, dedup_key, is_derived, cause, created_at, record FROM job WHERE seq = ?")
        query.bind(1, sequence)
        return try query.first { JobRows.read($0, namespace) }
    }

    private static func attempts(
        _ db: Database, _ namespace: NamespaceID, _ delivery: Int64, max: Int
    ) throws -> (last: [StoredAttempt], count: Int) {
        let count = try Prepared(db, "SELECT count(*) FROM attempt WHERE ns = ? AND delivery_id = ?")
        count.bind(1, namespace)
        count.bind(2, delivery)
        let all = Int(try count.first { $0.int(0) } ?? 0)
        let query = try Prepared(
            db,
            """
            SELECT at, status, error, response, duration_milliseconds FROM attempt WHERE ns = ? AND delivery_id = ?
            ORDER BY id DESC LIMIT ?
            """)
        query.bind(1, namespace)
        query.bind(2, delivery)
        query.bind(3, max)
        let last = try query.all {
            StoredAttempt(
                at: $0.time(0), status: $0.optionalInt(1).map { Int($0) }, error: $0.optionalText(2), response: $0.bytes(3),
                durationMilliseconds: $0.int(4))
        }
        return (last.reversed(), all)
    }
}
