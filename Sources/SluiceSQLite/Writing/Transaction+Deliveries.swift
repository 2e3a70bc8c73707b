import SluiceCore
import SluiceStore

/// Deliveries: taking them, and what becomes of them.
extension Transaction {
    /// At most so many bytes of records are taken at once, whatever the limit.
    private static let claimBytesMax = 8 * 1024 * 1024

    /// Hiding is a later due time, so that a claim runs out by itself, and a mark that it is a claim (`releaseClaims`).
    func claim(_ destination: DestinationID, limit: Int, at time: Timestamp, hiddenUntil: Timestamp) throws -> [ClaimedDelivery] {
        // More than once only where all that was found belongs to a trigger that was detached or removed.
        for _ in 0..<10 {
            let (claimed, others) = try claimOnce(destination, limit: limit, at: time, hiddenUntil: hiddenUntil)
            if others == 0 || !claimed.isEmpty { return claimed }
        }
        effects.hasDeliveries = true
        return []
    }

    private func claimOnce(
        _ destination: DestinationID, limit: Int, at time: Timestamp, hiddenUntil: Timestamp
    ) throws -> (claimed: [ClaimedDelivery], others: Int) {
        let owner = try prepare("SELECT ns FROM destination WHERE id = ? AND kind <> 'pull'")
        owner.bind(1, destination)
        guard let namespace: NamespaceID = try owner.first({ $0.id(0) }) else { return ([], 0) }
        let due = try prepare(
            """
            SELECT j.seq, j.trigger_id, j.position, j.dedup_key, j.is_derived, j.cause, j.created_at, j.record,
                d.id, d.attempts, d.pending_since, d.is_ordered, (
                    SELECT a.settings FROM attachment a
                    WHERE a.ns = d.ns AND a.trigger_id = d.trigger_id AND a.destination_id = d.destination_id), EXISTS (
                    SELECT 1 FROM catch_up c WHERE c.ns = d.ns AND c.trigger_id = d.trigger_id AND c.destination_id = d.destination_id
                        AND c.dead_reason = '\(Transaction.detachedPending)' AND d.position > c.after_position
                        AND d.position <= c.through_position), EXISTS (SELECT 1 FROM "trigger" t WHERE t.id = d.trigger_id)
            FROM delivery d JOIN job j ON j.seq = d.job_seq
            WHERE d.state = 0 AND d.ns = ? AND d.destination_id = ? AND d.next_attempt_at <= ?
            ORDER BY d.next_attempt_at, d.is_claimed, d.id LIMIT ?
            """)
        due.bind(1, namespace)
        due.bind(2, destination)
        due.bind(3, time)
        due.bind(4, limit)
        var claimed: [ClaimedDelivery] = []
        var bytes = 0
        var left: [Int64] = []
        var removed = 0
        while bytes < Transaction.claimBytesMax, try due.step() {
            if due.int(14) == 0 {
                removed += 1
                continue
            }
            if due.int(13) == 1 {
                left.append(due.int(8))
                continue
            }
            let job = JobRows.read(due, namespace)
            bytes += job.record.count
            claimed.append(
                ClaimedDelivery(
                    id: due.int(8), destination: destination, job: job, attempts: Int(due.int(9)), createdAt: due.time(10),
                    isOrdered: due.int(11) == 1, attachmentSettings: due.bytes(12)))
        }
        due.reset()
        for delivery in left { try detached(delivery, at: time) }
        if removed > 0 { try discardRemoved(destination, namespace, at: time) }
        let hide = try prepare("UPDATE delivery SET next_attempt_at = ?, is_claimed = 1 WHERE id = ?")
        for delivery in claimed {
            hide.bind(1, hiddenUntil)
            hide.bind(2, delivery.id)
            try hide.run()
        }
        return (claimed, left.count + removed)
    }

    /// What is due of triggers that were removed is looked at once, and not at each claim until the garbage is gone.
    private func discardRemoved(_ destination: DestinationID, _ namespace: NamespaceID, at time: Timestamp) throws {
        let discard = try prepare(
            """
            UPDATE delivery SET state = 4, reason = 'removed', settled_at = ?1, discarded_at = ?1, is_ordered = 0 WHERE id IN (
                SELECT d.id FROM (
                    SELECT id, trigger_id FROM delivery
                    WHERE state = 0 AND ns = ?2 AND destination_id = ?3 AND next_attempt_at <= ?1
                    ORDER BY next_attempt_at, is_claimed, id LIMIT 5000) d
                WHERE NOT EXISTS (SELECT 1 FROM "trigger" t WHERE t.id = d.trigger_id))
            """)
        discard.bind(1, time)
        discard.bind(2, namespace)
        discard.bind(3, destination)
        try discard.run()
    }

    func record(_ attempts: [DeliveryAttempt]) throws {
        var filtered: [Int64: Int] = [:]
        for attempt in attempts { try record(attempt, &filtered) }
        for (destination, count) in filtered { try countFiltered(destination, count) }
    }

    /// For people: how many jobs filters left out.
    func countFiltered(_ destination: Int64, _ count: Int) throws {
        let update = try prepare("UPDATE destination SET filtered = filtered + ? WHERE id = ?")
        update.bind(1, count)
        update.bind(2, destination)
        try update.run()
    }

    private struct Stored {
        var namespace: NamespaceID
        var isPending: Bool
        var destination: Int64
        /// Nil unless its trigger is ordered.
        var order: (pair: OrderedPair, position: Int64)?
    }

    private func standing(_ delivery: Int64) throws -> Stored? {
        let query = try prepare("SELECT ns, state, is_ordered, destination_id, trigger_id, position FROM delivery WHERE id = ?")
        query.bind(1, delivery)
        return try query.first { row in
            let namespace: NamespaceID = row.id(0)
            let pair = OrderedPair(namespace: namespace, destination: row.int(3), trigger: row.int(4))
            return Stored(
                namespace: namespace, isPending: row.int(1) == 0, destination: row.int(3), order: row.int(2) == 1 ? (pair, row.int(5)) : nil
            )
        }
    }

    private func record(_ attempt: DeliveryAttempt, _ filtered: inout [Int64: Int]) throws {
        // Gone: its trigger or destination was removed meanwhile.
        guard let standing = try standing(attempt.delivery) else { return }
        switch attempt.outcome {
        case .filtered:
            if standing.isPending {
                try settle(attempt, state: 3, reason: nil, attempts: 0)
                filtered[standing.destination, default: 0] += 1
            }
            try follow(standing, attempt)
        case .putBack(let time):
            if standing.isPending { try wait(attempt, until: time, standing, attempts: 0) }
        case .delivered:
            // The truth, even where the delivery expired while the attempt was under way.
            try note(attempt, standing.namespace)
            try settle(attempt, state: 1, reason: nil, attempts: 1)
            try follow(standing, attempt)
        case .dead(let reason):
            try note(attempt, standing.namespace)
            if standing.isPending { try settle(attempt, state: 2, reason: reason, attempts: 1) } else { try count(attempt) }
        case .retry(let time):
            try note(attempt, standing.namespace)
            if standing.isPending { try wait(attempt, until: time, standing, attempts: 1) } else { try count(attempt) }
        }
    }

    /// What waited behind a delivery that is settled now is due.
    private func follow(_ standing: Stored, _ attempt: DeliveryAttempt) throws {
        if let order = standing.order { try moveUp(order.pair, at: attempt.at) }
    }

    private func settle(_ attempt: DeliveryAttempt, state: Int64, reason: String?, attempts: Int64) throws {
        let update = try prepare(
            """
            UPDATE delivery SET state = ?1, reason = ?2, settled_at = ?3, is_claimed = 0, attempts = attempts + ?4,
                last_status = CASE ?4 WHEN 0 THEN last_status ELSE ?5 END
            WHERE id = ?6
            """)
        update.bind(1, state)
        update.bind(2, reason)
        update.bind(3, attempt.at)
        update.bind(4, attempts)
        update.bind(5, attempt.status.map(Int64.init))
        update.bind(6, attempt.delivery)
        try update.run()
    }

    private func wait(_ attempt: DeliveryAttempt, until time: Timestamp, _ standing: Stored, attempts: Int64) throws {
        let isBehind = try standing.order.map { try isBlocked($0.pair, before: $0.position) } ?? false
        if attempts > 0 { try count(attempt) }
        let update = try prepare("UPDATE delivery SET next_attempt_at = ?, reason = coalesce(?, reason), is_claimed = 0 WHERE id = ?")
        update.bind(1, isBehind ? Transaction.blocked : time)
        update.bind(2, attempts > 0 ? Transaction.words(attempt) : nil)
        update.bind(3, attempt.delivery)
        try update.run()
        effects.hasDeliveries = true
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
