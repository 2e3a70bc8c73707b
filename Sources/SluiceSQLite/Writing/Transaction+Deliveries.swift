import SluiceCore
import SluiceStore

/// Deliveries: taking them, and what becomes of them.
extension Transaction {
    /// At most so many bytes of records are taken at once, whatever the limit.
    private static let claimBytesMax = 8 * 1024 * 1024

    /// Hiding is nothing but a later due time, so that a crash gives everything back.
    func claim(_ destination: DestinationID, limit: Int, at time: Timestamp, hiddenUntil: Timestamp) throws -> [ClaimedDelivery] {
        let owner = try prepare("SELECT ns FROM destination WHERE id = ? AND kind <> 'pull'")
        owner.bind(1, destination)
        guard let namespace: NamespaceID = try owner.first({ $0.id(0) }) else { return [] }
        let due = try prepare(
            """
            SELECT j.seq, j.trigger_id, j.position, j.dedup_key, j.is_derived, j.cause, j.created_at, j.record,
                d.id, d.attempts, d.pending_since, (
                    SELECT a.settings FROM attachment a
                    WHERE a.ns = d.ns AND a.trigger_id = d.trigger_id AND a.destination_id = d.destination_id)
            FROM delivery d JOIN job j ON j.seq = d.job_seq
            WHERE d.state = 0 AND d.ns = ? AND d.destination_id = ? AND d.next_attempt_at <= ?
                AND EXISTS (SELECT 1 FROM "trigger" t WHERE t.id = d.trigger_id)
            ORDER BY d.next_attempt_at, d.id LIMIT ?
            """)
        due.bind(1, namespace)
        due.bind(2, destination)
        due.bind(3, time)
        due.bind(4, limit)
        var claimed: [ClaimedDelivery] = []
        var bytes = 0
        while bytes < Transaction.claimBytesMax, try due.step() {
            let job = JobRows.read(due, namespace)
            bytes += job.record.count
            claimed.append(
                ClaimedDelivery(
                    id: due.int(8), destination: destination, job: job, attempts: Int(due.int(9)), createdAt: due.time(10),
                    attachmentSettings: due.bytes(11)))
        }
        due.reset()
        let hide = try prepare("UPDATE delivery SET next_attempt_at = ? WHERE id = ?")
        for delivery in claimed {
            hide.bind(1, hiddenUntil)
            hide.bind(2, delivery.id)
            try hide.run()
        }
        return claimed
    }

    func record(_ attempts: [DeliveryAttempt]) throws {
        for attempt in attempts { try record(attempt) }
    }

    private func record(_ attempt: DeliveryAttempt) throws {
        let query = try prepare("SELECT ns, state FROM delivery WHERE id = ?")
        query.bind(1, attempt.delivery)
        // Gone: its trigger or destination was removed meanwhile.
        guard let found = try query.first({ (namespace: $0.id(0) as NamespaceID, state: $0.int(1)) }) else { return }
        switch attempt.outcome {
        case .filtered, .putBack: break
        default: try note(attempt, found.namespace)
        }
        switch attempt.outcome {
        case .filtered:
            if found.state == 0 { try settle(attempt, state: 3, reason: nil) }
        case .putBack(let time):
            guard found.state == 0 else { return }
            let update = try prepare("UPDATE delivery SET next_attempt_at = ? WHERE id = ?")
            update.bind(1, time)
            update.bind(2, attempt.delivery)
            try update.run()
            effects.hasDeliveries = true
        case .delivered:
            // The truth, even where the delivery expired while the attempt was under way.
            try count(attempt)
            try settle(attempt, state: 1, reason: nil)
        case .dead(let reason):
            try count(attempt)
            if found.state == 0 { try settle(attempt, state: 2, reason: reason) }
        case .retry(let time):
            try count(attempt)
            guard found.state == 0 else { return }
            let update = try prepare("UPDATE delivery SET next_attempt_at = ?, reason = ? WHERE id = ?")
            update.bind(1, time)
            update.bind(2, Transaction.words(attempt))
            update.bind(3, attempt.delivery)
            try update.run()
            effects.hasDeliveries = true
        }
    }

    private func settle(_ attempt: DeliveryAttempt, state: Int64, reason: String?) throws {
        let update = try prepare("UPDATE delivery SET state = ?, reason = ?, settled_at = ? WHERE id = ?")
        update.bind(1, state)
        update.bind(2, reason)
        update.bind(3, attempt.at)
        update.bind(4, attempt.delivery)
        try update.run()
    }

    private func count(_ attempt: DeliveryAttempt) throws {
        let update = try prepare("UPDATE delivery SET attempts = attempts + 1, last_status = ? WHERE id = ?")
        update.bind(1, attempt.status.map(Int64.init))
        update.bind(2, attempt.delivery)
        try update.run()
    }

    private func note(_ attempt: DeliveryAttempt, _ namespace: NamespaceID) throws {
        let insert = try prepare(
            "INSERT INTO attempt (ns, delivery_id, at, status, error, response, duration_milliseconds) VALUES (?, ?, ?, ?, ?, ?, ?)")
        insert.bind(1, namespace)
        insert.bind(2, attempt.delivery)
        insert.bind(3, attempt.at)
        insert.bind(4, attempt.status.map(Int64.init))
        insert.bind(5, attempt.error)
        insert.bind(6, Array(attempt.response.prefix(4096)))
        insert.bind(7, attempt.durationMilliseconds)
        try insert.run()
    }

    /// What the last attempt said, for people.
    private static func words(_ attempt: DeliveryAttempt) -> String? {
        attempt.error ?? attempt.status.map { "status \($0)" }
    }
}
