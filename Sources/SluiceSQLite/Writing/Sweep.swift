import SluiceCore
import SluiceStore

/// Retention, a bounded batch at a time. A sweep goes through its phases and, within each, through the rows in their
/// order; it remembers where it stands between two calls, in memory only: a sweep that begins afresh does no harm.
///
/// Phases take turns, a batch each: millions of live dedup keys, each looked at, hold up no webhooks. While others last, one that is
/// done is looked at again now and then. The sweep is over once all of them are done.
///
/// Touched by the writer's thread only.
final class Sweep: @unchecked Sendable {
    private enum Phase: Int, CaseIterable {
        case deliveries, consumers, jobs, callbacks, keys, webhooks, garbage

        /// After how many batches it is looked at again while others last. Each look at the keys is one at all of them.
        var batchesApart: Int { self == .keys ? 2000 : 20 }
        /// Goes on where it stood: what it passed over waits for the next sweep. The others begin afresh, which costs them little.
        var goesOn: Bool { self == .deliveries || self == .jobs }
    }

    private struct Place {
        /// The last row looked at in this phase.
        var after: Int64 = 0
        var afterKey: [UInt8] = []
        /// In which batch it came to its end.
        var doneIn: Int?
    }

    /// One sweep, as far as it has come.
    private struct Round {
        var places = [Place](repeating: Place(), count: Phase.allCases.count)
        var batches = 0
        var turn = 0

        /// Whose turn it is; nil: all are done.
        mutating func next() -> Phase? {
            for offset in places.indices {
                let index = (turn + offset) % places.count
                guard places[index].doneIn == nil, let phase = Phase(rawValue: index) else { continue }
                turn = (index + 1) % places.count
                return phase
            }
            return nil
        }

        mutating func begin() {
            batches += 1
            guard places.contains(where: { $0.doneIn == nil }) else { return }
            for phase in Phase.allCases {
                guard let done = places[phase.rawValue].doneIn, batches - done >= phase.batchesApart else { continue }
                places[phase.rawValue].doneIn = nil
                if !phase.goesOn { places[phase.rawValue] = Place() }
            }
        }
    }

    /// How many triggers are asked at once whether they have dedup keys.
    private static let triggersPerLook: Int64 = 500

    private var round = Round()
    /// The place of the phase whose turn it is.
    private var after: Int64 = 0
    private var afterKey: [UInt8] = []

    /// Looks at `rowsPerBatchMax` rows or so and removes those that nothing protects.
    func run(_ transaction: Transaction, _ retention: RetentionPolicy, at time: Timestamp) throws -> PruneReport {
        let before = round
        do {
            return try sweep(transaction, retention, at: time)
        } catch {
            round = before
            throw error
        }
    }

    private func sweep(_ transaction: Transaction, _ retention: RetentionPolicy, at time: Timestamp) throws -> PruneReport {
        var report = PruneReport()
        var budget = max(1, retention.rowsPerBatchMax)
        round.begin()
        while budget > 0, let phase = round.next() {
            (after, afterKey) = (round.places[phase.rawValue].after, round.places[phase.rawValue].afterKey)
            var isDone = false
            while budget > 0, !isDone { isDone = try goOn(phase, transaction, retention, at: time, &budget, &report) }
            round.places[phase.rawValue] = Place(after: after, afterKey: afterKey, doneIn: isDone ? round.batches : nil)
        }
        report.isPartial = round.places.contains { $0.doneIn == nil }
        if !report.isPartial { round = Round() }
        return report
    }

    private func goOn(
        _ phase: Phase, _ transaction: Transaction, _ retention: RetentionPolicy, at time: Timestamp, _ budget: inout Int,
        _ report: inout PruneReport
    ) throws -> Bool {
        switch phase {
        case .deliveries: try expireDeliveries(transaction, before: time - retention.pendingDeliveries, time, &budget, &report)
        case .consumers: try expireConsumers(transaction, before: time - retention.pendingDeliveries, time, &budget, &report)
        case .jobs: try removeJobs(transaction, before: time - retention.jobs, time, &budget, &report)
        case .callbacks: try removeCallbacks(transaction, before: time - retention.jobs, &budget)
        case .keys: try removeKeys(transaction, &budget, &report)
        case .webhooks: try removeWebhooks(transaction, before: time - retention.inbox, time, &budget, &report)
        case .garbage: try removeGarbage(transaction, &budget)
        }
    }

    // MARK: Phases. Each returns whether it is done.

    /// Deliveries are numbered in the order they were intended; one that was replayed counts from then.
    private func expireDeliveries(
        _ transaction: Transaction, before horizon: Timestamp, _ time: Timestamp, _ budget: inout Int, _ report: inout PruneReport
    ) throws -> Bool {
        let query = try transaction.prepare(
            """
            SELECT id, state, pending_since, created_at, EXISTS (SELECT 1 FROM destination d WHERE d.id = destination_id AND d.kind = 'pull')
            FROM delivery WHERE id > ? ORDER BY id LIMIT ?
            """)
        query.bind(1, after)
        query.bind(2, budget)
        let rows = try query.all { (id: $0.int(0), isPending: $0.int(1) == 0 && $0.int(4) == 0, since: $0.time(2), createdAt: $0.time(3)) }
        let asked = budget
        for row in rows {
            budget -= 1
            if row.createdAt >= horizon, row.createdAt <= time { return true }
            after = row.id
            guard row.createdAt < horizon, row.isPending, row.since < horizon else { continue }
            try transaction.run(
                "UPDATE delivery SET state = 2, reason = 'expired', settled_at = ? WHERE id = ?", time.milliseconds, row.id)
            report.expiredDeliveries += 1
        }
        return rows.count < asked
    }

    /// Consumer by consumer.
    private func expireConsumers(
        _ transaction: Transaction, before horizon: Timestamp, _ time: Timestamp, _ budget: inout Int, _ report: inout PruneReport
    ) throws -> Bool {
        let looked = try transaction.expireConsumer(after: after, before: horizon, at: time, &budget, &report)
        guard let looked else { return true }
        if looked.isDone { after = looked.consumer }
        return false
    }

    /// A job goes with its deliveries, once each of them was delivered, or has been a dead letter, or a discarded one, for as
    /// long, no consumer has it to come or in hand, and every destination that is to have it has caught up with it (P9).
    private func removeJobs(
        _ transaction: Transaction, before horizon: Timestamp, _ time: Timestamp, _ budget: inout Int, _ report: inout PruneReport
    ) throws -> Bool {
        let query = try transaction.prepare(
            """
            SELECT j.seq, j.created_at, j.ns, EXISTS (
                SELECT 1 FROM delivery d WHERE d.ns = j.ns AND d.job_seq = j.seq AND (d.state = 0 OR (d.state = 2 AND d.settled_at >= ?1)
                    OR (d.state = 4 AND d.discarded_at >= ?1)))
                OR EXISTS (
                    SELECT 1 FROM catch_up c WHERE c.ns = j.ns AND c.trigger_id = j.trigger_id AND c.after_position < j.position
                        AND (c.through_position IS NULL OR c.through_position >= j.position)),
                j.trigger_id, j.position
            FROM job j WHERE j.seq > ?2 ORDER BY j.seq LIMIT ?3
            """)
        query.bind(1, horizon)
        query.bind(2, after)
        query.bind(3, budget)
        let rows = try query.all { row in
            (
                seq: row.int(0), createdAt: row.time(1), namespace: row.int(2), isHeld: row.int(3) != 0, trigger: row.id(4) as TriggerID,
                position: row.int(5)
            )
        }
        let asked = budget
        let holds = rows.contains { $0.createdAt < horizon } ? try transaction.consumerHolds(at: time) : nil
        var removed = RemovedJobs()
        var isDone = rows.count < asked
        var behind = Span.zero
        for row in rows {
            budget -= 1
            // Dated ahead: a clock was wrong, and those behind it are not to wait for that date.
            if row.createdAt >= horizon, row.createdAt <= time {
                isDone = true
                break
            }
            after = row.seq
            guard row.createdAt < horizon, !row.isHeld, holds?.holds(row.seq, of: row.trigger) != true else { continue }
            try transaction.removeJob(row.namespace, row.seq)
            removed.note(row.trigger.rawValue, namespace: row.namespace, row.seq, row.position, row.createdAt)
            report.jobs += 1
            behind = horizon - row.createdAt
        }
        report.behind = max(report.behind, behind)
        try removed.save(transaction)
        // A dead letter that went no longer blocks those behind it.
        for (trigger, namespace) in removed.triggers { try transaction.moveAllUp(NamespaceID(namespace), trigger: trigger, at: time) }
        return isDone
    }

    /// How a callback ended is kept for as long as its job.
    private func removeCallbacks(_ transaction: Transaction, before horizon: Timestamp, _ budget: inout Int) throws -> Bool {
        let asked = budget
        let removed = try transaction.removeCallbacks(endedBefore: horizon, limit: asked)
        budget -= max(1, removed)
        return removed < asked
    }

    /// Keys by the rule of `DedupRetention`, trigger by trigger (P4).
    private func removeKeys(_ transaction: Transaction, _ budget: inout Int, _ report: inout PruneReport) throws -> Bool {
        let next = try transaction.prepare(
            """
            SELECT p.trigger_id, p.ns, p.dedup_space, p.dedup_floor, p.cycles_completed FROM progress p
            WHERE p.trigger_id >= ?1 AND p.trigger_id < ?1 + ?2 AND (p.dedup_floor IS NOT NULL OR p.cycles_completed > ?3)
                AND NOT EXISTS (SELECT 1 FROM backfill b WHERE b.trigger_id = p.trigger_id AND b.ended_at IS NULL)
                AND EXISTS (SELECT 1 FROM dedup d WHERE d.ns = p.ns AND d.space = p.dedup_space)
            ORDER BY p.trigger_id LIMIT 1
            """)
        next.bind(1, after)
        next.bind(2, Sweep.triggersPerLook)
        next.bind(3, DedupRetention.cyclesKept)
        let found = try next.first {
            (trigger: $0.int(0), namespace: $0.int(1), space: $0.int(2), floor: $0.optionalInt(3), completed: $0.int(4))
        }
        guard let found else {
            // Most triggers of many have no keys at all: they are passed over by the hundred.
            let beyond = try transaction.prepare("SELECT min(trigger_id) FROM progress WHERE trigger_id >= ?")
            beyond.bind(1, after + Sweep.triggersPerLook)
            guard let trigger = try beyond.first({ $0.optionalInt(0) }).flatMap({ $0 }) else { return true }
            (after, afterKey) = (trigger, [])
            budget -= Int(Sweep.triggersPerLook) / 4
            return false
        }
        if found.trigger != after { (after, afterKey) = (found.trigger, []) }
        let asked = budget
        let seen = try removeKeys(transaction, found.namespace, found.space, found.floor, found.completed, asked, &report)
        budget -= max(1, seen)
        if seen < asked { (after, afterKey) = (found.trigger + 1, []) }
        return false
    }

    private func removeKeys(
        _ transaction: Transaction, _ namespace: Int64, _ space: Int64, _ floor: Int64?, _ completed: Int64, _ limit: Int,
        _ report: inout PruneReport
    ) throws -> Int {
        let query = try transaction.prepare(
            "SELECT key, mark, last_cycle FROM dedup WHERE ns = ? AND space = ? AND key > ? ORDER BY key LIMIT ?")
        query.bind(1, namespace)
        query.bind(2, space)
        query.bind(3, afterKey)
        query.bind(4, limit)
        let rows = try query.all { (key: $0.bytes(0), mark: $0.optionalInt(1), lastCycle: $0.int(2)) }
        let delete = try transaction.prepare("DELETE FROM dedup WHERE ns = ? AND space = ? AND key = ?")
        let gone = rows.filter {
            DedupRetention.forgets(mark: $0.mark, lastCycle: $0.lastCycle, floor: floor, cyclesCompleted: completed)
        }
        if let floor, gone.contains(where: { $0.mark != nil }) {
            try transaction.run(
                "UPDATE progress SET pruned_below = max(coalesce(pruned_below, ?1), ?1) WHERE ns = ?2 AND dedup_space = ?3", floor,
                namespace,
                space)
        }
        for row in gone {
            delete.bind(1, namespace)
            delete.bind(2, space)
            delete.bind(3, row.key)
            try delete.run()
            report.dedupKeys += 1
        }
        if let last = rows.last { afterKey = last.key }
        return rows.count
    }

    /// Connection by connection: rows older than the retention that no polling trigger of it has still to cover.
    private func removeWebhooks(
        _ transaction: Transaction, before horizon: Timestamp, _ time: Timestamp, _ budget: inout Int, _ report: inout PruneReport
    ) throws -> Bool {
        let next = try transaction.prepare("SELECT id, ns FROM connection WHERE id > ? ORDER BY id LIMIT 1")
        next.bind(1, after)
        guard let found = try next.first({ (connection: $0.int(0), namespace: $0.int(1)) }) else { return true }
        // Asking what its triggers have covered costs a look at each of them: only where something is old enough. What is dated ahead,
        // by a clock that was wrong, is passed over.
        let first = try transaction.prepare(
            "SELECT received_at FROM inbox WHERE ns = ? AND connection_id = ? AND received_at <= ? ORDER BY seq LIMIT 1")
        first.bind(1, found.namespace)
        first.bind(2, found.connection)
        first.bind(3, time)
        guard let oldest = try first.first({ $0.time(0) }), oldest < horizon else {
            (after, budget) = (found.connection, budget - 1)
            return false
        }
        let rows = try transaction.prepare(
            "SELECT seq, received_at FROM inbox WHERE ns = ? AND connection_id = ? AND seq <= ? AND received_at <= ? ORDER BY seq LIMIT ?")
        rows.bind(1, found.namespace)
        rows.bind(2, found.connection)
        rows.bind(3, try covered(transaction, found.namespace, found.connection))
        rows.bind(4, time)
        rows.bind(5, budget)
        let asked = budget
        let candidates = try rows.all { (seq: $0.int(0), receivedAt: $0.time(1)) }
        var removed = 0
        var behind = Span.zero
        for row in candidates where row.receivedAt < horizon {
            try transaction.removeWebhook(row.seq)
            removed += 1
            behind = horizon - row.receivedAt
        }
        report.behind = max(report.behind, behind)
        report.webhooks += removed
        budget -= max(1, candidates.count)
        // Fewer than asked for, or some that are too young: nothing more is to be had here.
        if removed < asked { after = found.connection }
        return false
    }

    /// The last webhook that every trigger of a connection has covered which needs it: those that poll, and those that read the
    /// inbox. Another paused or failed trigger needs only its topic's mark, which stays.
    private func covered(_ transaction: Transaction, _ namespace: Int64, _ connection: Int64) throws -> Int64 {
        let query = try transaction.prepare(
            """
            SELECT min(\(InboxRows.needed)) FROM "trigger" t CROSS JOIN progress p ON p.trigger_id = t.id
                CROSS JOIN trigger_topic l ON l.ns = t.ns AND l.trigger_id = t.id CROSS JOIN topic o ON o.id = l.topic_id
            WHERE t.ns = ? AND t.connection_id = ? AND \(InboxRows.needed) IS NOT NULL
                AND (t.state IN ('starting', 'running') OR t.reads_inbox = 1 AND t.state NOT IN ('created', 'stopped'))
            """)
        query.bind(1, namespace)
        query.bind(2, connection)
        return try query.first { $0.optionalInt(0) }.flatMap { $0 } ?? Int64.max
    }

    /// What removed triggers, destinations and connections left behind.
    private func removeGarbage(_ transaction: Transaction, _ budget: inout Int) throws -> Bool {
        let next = try transaction.prepare("SELECT id, ns, kind, target FROM garbage ORDER BY id LIMIT 1")
        let found = try next.first { (id: $0.int(0), namespace: $0.int(1), kind: $0.text(2), target: $0.int(3)) }
        guard let found else { return true }
        let asked = budget
        let removed = try transaction.removeGarbage(found.kind, found.namespace, found.target, limit: asked)
        budget -= max(1, removed)
        if removed < asked { try transaction.run("DELETE FROM garbage WHERE id = ?", found.id) }
        return false
    }
}

extension Transaction {
    /// A webhook and its entry among the digests.
    func removeWebhook(_ sequence: Int64) throws {
        let query = try prepare("SELECT ns, digest_head FROM inbox WHERE seq = ?")
        query.bind(1, sequence)
        if let (namespace, head) = try query.first({ ($0.id(0) as NamespaceID, $0.optionalInt(1)) }), let head {
            try digests.remove(namespace, head, InboxSequence(sequence), self)
        }
        try run("DELETE FROM inbox WHERE seq = ?", sequence)
    }

    /// A job with its deliveries and their attempts.
    func removeJob(_ namespace: Int64, _ sequence: Int64) throws {
        try run(
            "DELETE FROM attempt WHERE ns = ?1 AND delivery_id IN (SELECT id FROM delivery WHERE ns = ?1 AND job_seq = ?2)", namespace,
            sequence)
        try run("DELETE FROM delivery WHERE ns = ? AND job_seq = ?", namespace, sequence)
        try run("DELETE FROM job WHERE seq = ?", sequence)
    }

    /// Returns how many rows went.
    func removeGarbage(_ kind: String, _ namespace: Int64, _ target: Int64, limit: Int) throws -> Int {
        switch Garbage(rawValue: kind) {
        case .jobs:
            let jobs = try numbers(
                "SELECT seq FROM job WHERE ns = ? AND trigger_id = ? ORDER BY position LIMIT ?", namespace, target, limit)
            for job in jobs { try removeJob(namespace, job) }
            return jobs.count
        case .deliveries:
            let deliveries = try numbers(
                "SELECT id FROM delivery WHERE ns = ? AND destination_id = ? ORDER BY id LIMIT ?", namespace, target, limit)
            for delivery in deliveries {
                try run("DELETE FROM attempt WHERE ns = ? AND delivery_id = ?", namespace, delivery)
                try run("DELETE FROM delivery WHERE id = ?", delivery)
            }
            return deliveries.count
        case .inbox:
            let webhooks = try numbers("SELECT seq FROM inbox WHERE ns = ? AND connection_id = ? LIMIT ?", namespace, target, limit)
            for webhook in webhooks { try removeWebhook(webhook) }
            return webhooks.count
        case .keys:
            let delete = try prepare(
                """
                DELETE FROM dedup WHERE ns = ?1 AND space = ?2 AND key IN (
                    SELECT key FROM dedup WHERE ns = ?1 AND space = ?2 ORDER BY key LIMIT ?3)
                """)
            delete.bind(1, namespace)
            delete.bind(2, target)
            delete.bind(3, limit)
            try delete.run()
            return delete.changes
        case .backfills: return try removeBackfillRows(target, limit: limit)
        case nil:
            throw SluiceError(.storage, "the database is damaged: there is garbage of the kind \(kind)")
        }
    }

    private func numbers(_ sql: String, _ namespace: Int64, _ target: Int64, _ limit: Int) throws -> [Int64] {
        let query = try prepare(sql)
        query.bind(1, namespace)
        query.bind(2, target)
        query.bind(3, limit)
        return try query.all { $0.int(0) }
    }
}
