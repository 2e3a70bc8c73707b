import SluiceCore
import SluiceStore

/// Replaying and discarding dead letters, a bounded batch at a time.
extension Transaction {
    func replayDeadLetters(_ selection: DeadLetterSelection, _ after: DeadLetterMark?, limit: Int, at time: Timestamp) throws
        -> DeadLetterBatch
    {
        let replay = try prepare(
            """
            UPDATE delivery SET state = 0, attempts = 0, reason = NULL, settled_at = NULL, discarded_at = NULL, discarded_by = NULL,
                discard_note = NULL, next_attempt_at = ?1, is_claimed = 0, pending_since = ?1
            WHERE id = ?2
            """)
        var pulled: [(destination: DestinationID, job: Int64)] = []
        let batch = try change(selection, after, limit: limit, states: "2, 4", mustBeAttached: true) { letter in
            replay.bind(1, time)
            replay.bind(2, letter.delivery)
            try replay.run()
            if letter.isPulled { pulled.append((letter.destination, letter.job)) } else { effects.hasDeliveries = true }
        }
        if !pulled.isEmpty { try returnToConsumers(pulled, at: time) }
        if batch.changed > 0 { try settleOrder(selection.namespace, trigger: nil, at: time) }
        return batch
    }

    func discardDeadLetters(
        _ selection: DeadLetterSelection, _ who: String, _ note: String, _ after: DeadLetterMark?, limit: Int, at time: Timestamp
    ) throws -> DeadLetterBatch {
        let discard = try prepare(
            "UPDATE delivery SET state = 4, discarded_at = ?, discarded_by = ?, discard_note = ? WHERE id = ?")
        let batch = try change(selection, after, limit: limit, states: "2") { letter in
            discard.bind(1, time)
            discard.bind(2, who)
            discard.bind(3, note)
            discard.bind(4, letter.delivery)
            try discard.run()
        }
        // What waited behind them in an ordered trigger waits no longer.
        if batch.changed > 0 { try moveAllUp(selection.namespace, trigger: nil, at: time) }
        return batch
    }

    private struct Letter {
        var delivery: Int64
        var diedAt: Timestamp
        var trigger: TriggerID
        var reason: String?
        var destination: DestinationID
        var job: Int64
        var isPulled: Bool
        var isAttached: Bool
    }

    private static let columns = """
        d.id, d.settled_at, d.trigger_id, d.reason, d.destination_id, d.job_seq,
        (SELECT kind FROM destination o WHERE o.id = d.destination_id), \(isAttached)
        """

    /// What a trigger no longer delivers has neither filter nor projection any more, so nobody knows what of it may go out. Callbacks
    /// go to the destination that they name, which needs no attachment.
    private static let isAttached = """
        EXISTS (
            SELECT 1 FROM attachment a
            WHERE a.ns = d.ns AND a.trigger_id = d.trigger_id AND a.destination_id = d.destination_id)
        OR EXISTS (
            SELECT 1 FROM "trigger" t WHERE t.id = d.trigger_id AND t.type = '\(StoredTrigger.callbackType)'
                AND t.name GLOB '\(StoredTrigger.callbackPrefix)*')
        """

    private static func letter(_ row: Prepared) -> Letter {
        Letter(
            delivery: row.int(0), diedAt: row.time(1), trigger: row.id(2), reason: row.optionalText(3), destination: row.id(4),
            job: row.int(5), isPulled: row.text(6) == "pull", isAttached: row.int(7) == 1)
    }

    /// Trigger and destination must be there still: what they left behind is removed piece by piece, and nobody sees it.
    private static let isVisible = """
        EXISTS (SELECT 1 FROM destination o WHERE o.id = d.destination_id) AND EXISTS (SELECT 1 FROM "trigger" t WHERE t.id = d.trigger_id)
        """

    /// `states`: of those that may be named by number.
    private func change(
        _ selection: DeadLetterSelection, _ after: DeadLetterMark?, limit: Int, states: String, mustBeAttached: Bool = false,
        _ body: (Letter) throws -> Void
    ) throws -> DeadLetterBatch {
        var batch = DeadLetterBatch()
        if let numbers = selection.deliveries {
            for number in numbers {
                guard let letter = try letter(selection.namespace, number, states) else {
                    batch.refused.append(number)
                    continue
                }
                guard letter.isAttached || !mustBeAttached else {
                    batch.refused.append(number)
                    batch.detached += 1
                    continue
                }
                try body(letter)
                batch.changed += 1
            }
            return batch
        }
        let letters = try letters(selection, after, limit: limit)
        for letter in letters where selection.trigger.map({ $0 == letter.trigger }) ?? true {
            guard selection.reason == nil || selection.reason == letter.reason else { continue }
            guard letter.isAttached || !mustBeAttached else {
                batch.detached += 1
                continue
            }
            try body(letter)
            batch.changed += 1
        }
        if letters.count == limit { batch.next = letters.last.map { DeadLetterMark(diedAt: $0.diedAt, delivery: $0.delivery) } }
        return batch
    }

    private func letter(_ namespace: NamespaceID, _ number: Int64, _ states: String) throws -> Letter? {
        let query = try prepare(
            "SELECT \(Transaction.columns) FROM delivery d WHERE d.id = ? AND d.ns = ? AND d.state IN (\(states)) AND \(Transaction.isVisible)"
        )
        query.bind(1, number)
        query.bind(2, namespace)
        return try query.first(Transaction.letter)
    }

    /// The next ones by when they died. Trigger and reason have no index: they are looked at afterwards, so that a batch is bounded
    /// by what it reads, not by what it finds.
    private func letters(_ selection: DeadLetterSelection, _ after: DeadLetterMark?, limit: Int) throws -> [Letter] {
        let query = try prepare(
            """
            SELECT \(Transaction.columns) FROM delivery d INDEXED BY \(selection.destination == nil ? "delivery_died" : "delivery_died_of")
            WHERE d.state = 2 AND d.ns = ?1 \(selection.destination == nil ? "" : "AND d.destination_id = ?2") AND d.settled_at >= ?3
                AND d.settled_at < ?4 AND (d.settled_at, d.id) > (?5, ?6) AND \(Transaction.isVisible)
            ORDER BY d.settled_at, d.id LIMIT ?7
            """)
        query.bind(1, selection.namespace)
        if let destination = selection.destination { query.bind(2, destination) }
        query.bind(3, max(selection.since ?? .distantPast, after?.diedAt ?? .distantPast))
        query.bind(4, selection.until ?? .distantFuture)
        query.bind(5, after?.diedAt ?? Timestamp(milliseconds: -1))
        query.bind(6, after?.delivery ?? 0)
        query.bind(7, limit)
        return try query.all(Transaction.letter)
    }
}
