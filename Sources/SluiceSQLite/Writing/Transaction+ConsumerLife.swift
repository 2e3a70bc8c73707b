import SluiceCore
import SluiceStore

/// Consumers as their definitions change, and as time passes.
extension Transaction {
    // MARK: Attaching

    func isConsumer(_ destination: Int64) throws -> Bool {
        let kind = try prepare("SELECT 1 FROM destination WHERE id = ? AND kind = 'pull'")
        kind.bind(1, destination)
        return try kind.first { _ in true } ?? false
    }

    /// What a consumer has in hand cannot be carried, nor can deliveries be fetched.
    func refuseChangeOfKind(_ namespace: NamespaceID, _ name: String, _ kind: String) throws {
        guard let id = try find(.destination, name, namespace) else { return }
        let query = try prepare("SELECT kind FROM destination WHERE id = ?")
        query.bind(1, id)
        guard let before = try query.first({ $0.text(0) }), before != kind, before == "pull" || kind == "pull" else { return }
        throw SluiceError(
            .conflict, "the destination \(name) is of the kind \(before), which cannot become \(kind): give the new one another name",
            context: ["destination": name])
    }

    /// `from` nil: from now on; attaching again without it changes nothing.
    func attachConsumer(
        _ namespace: NamespaceID, trigger: TriggerID, destination: DestinationID, from: JobPosition?, at time: Timestamp
    ) throws {
        var entry = try consumer(destination, at: time)
        let last = try lastNumber(.job)
        let known = entry.triggers[trigger]
        if from == nil, known != nil {
            consumers.entries[destination] = entry
            return
        }
        // Nothing before was this consumer's: it need not look through it.
        if entry.triggers.isEmpty, entry.machine.position < last { entry.machine.takeNew(through: last) }
        var after = last
        if let from {
            let first = try prepare(
                "SELECT seq FROM job WHERE ns = ? AND trigger_id = ? AND position >= ? ORDER BY position LIMIT 1")
            first.bind(1, namespace)
            first.bind(2, trigger)
            first.bind(3, from.rawValue)
            after = try first.first { $0.int(0) - 1 } ?? last
        }
        if after < entry.machine.position {
            // The others' jobs up to here were handed out already.
            for (other, begins) in entry.triggers where other != trigger {
                try begin(destination, other, max(begins, entry.machine.position), &entry)
            }
            entry.machine.rewind(to: after)
        }
        try begin(destination, trigger, min(known ?? .max, after), &entry)
        entry.movedAt = time
        entry.machine.touch()
        try save(destination, &entry, at: time)
        if from != nil { try regain(destination) }
        effects.consumers.insert(destination)
    }

    /// What will be handed out after all is not left any more: it would be acked and become a dead letter, too (P9). For after the
    /// consumer was stored.
    func regain(_ destination: DestinationID) throws {
        try run(
            """
            UPDATE consumer_left AS l SET through_seq = min(l.through_seq, max(c.position, t.after_seq))
            FROM consumer c, consumer_trigger t
            WHERE l.destination_id = ?1 AND c.destination_id = ?1 AND t.destination_id = ?1 AND t.trigger_id = l.trigger_id
            """, destination.rawValue)
        try run("DELETE FROM consumer_left WHERE destination_id = ? AND through_seq <= after_seq", destination.rawValue)
    }

    private func begin(_ destination: DestinationID, _ trigger: TriggerID, _ after: Int64, _ entry: inout ConsumerCache.Entry) throws {
        entry.triggers[trigger] = after
        try run(
            """
            INSERT INTO consumer_trigger (destination_id, trigger_id, after_seq) VALUES (?, ?, ?)
            ON CONFLICT DO UPDATE SET after_seq = excluded.after_seq
            """, destination.rawValue, trigger.rawValue, after)
    }

    /// What was not handed out becomes dead letters, `detached`, bit by bit; what was handed out stays until it is settled.
    func detachConsumer(_ namespace: NamespaceID, trigger: TriggerID, destination: DestinationID, at time: Timestamp) throws {
        var entry = try consumer(destination, at: time)
        guard let begins = entry.triggers.removeValue(forKey: trigger) else {
            consumers.entries[destination] = entry
            return
        }
        try run("DELETE FROM consumer_trigger WHERE destination_id = ? AND trigger_id = ?", destination.rawValue, trigger.rawValue)
        let (after, last) = (max(begins, entry.machine.position), try lastNumber(.job))
        if after < last {
            try run(
                "INSERT INTO consumer_left (ns, destination_id, trigger_id, after_seq, through_seq) VALUES (?, ?, ?, ?, ?)",
                namespace.rawValue, destination.rawValue, trigger.rawValue, after, last)
        }
        try save(destination, &entry, at: time)
        effects.consumers.insert(destination)
    }

    /// With its jobs, which nobody can read any more.
    func forgetTrigger(_ trigger: Int64) throws {
        for table in ["consumer_trigger", "consumer_left", "removal"] { try run("DELETE FROM \(table) WHERE trigger_id = ?", trigger) }
        consumers.forget()
    }

    func forgetConsumer(_ destination: Int64) throws {
        for table in ["consumer", "consumer_trigger", "consumer_lease", "consumer_returned", "consumer_left"] {
            try run("DELETE FROM \(table) WHERE destination_id = ?", destination)
        }
        consumers.forget()
    }

    // MARK: Retention

    /// The jobs that consumers still need, as a sweep asks for each.
    struct ConsumerHolds {
        fileprivate struct Hold {
            var triggers: [TriggerID: Int64]
            var machine: ConsumerMachine
            var floor: Int64
        }
        fileprivate var holds: [Hold] = []
        fileprivate var left: [(trigger: TriggerID, after: Int64, through: Int64)] = []

        /// Whether a job was not handed out yet to a consumer of its, or not acked.
        func holds(_ job: Int64, of trigger: TriggerID) -> Bool {
            for hold in holds {
                if let after = hold.triggers[trigger], job > after, job > hold.machine.position { return true }
                if job > hold.floor, job <= hold.machine.highWater, hold.machine.awaits(job) { return true }
            }
            return left.contains { $0.trigger == trigger && job > $0.after && job <= $0.through }
        }
    }

    func consumerHolds(at time: Timestamp) throws -> ConsumerHolds {
        var holds = ConsumerHolds()
        let all = try prepare("SELECT id FROM destination WHERE kind = 'pull' ORDER BY id")
        for id in try all.all({ $0.id(0) as DestinationID }) {
            let entry = try consumer(id, at: time)
            consumers.entries[id] = entry
            holds.holds.append(.init(triggers: entry.triggers, machine: entry.machine, floor: entry.machine.floor))
        }
        holds.left = try prepare("SELECT trigger_id, after_seq, through_seq FROM consumer_left").all { ($0.id(0), $0.int(1), $0.int(2)) }
        return holds
    }

    /// Makes dead letters of what a consumer was detached from, and of what waits for longer than `horizon`: of the first
    /// consumer after `after`. Returns which that was, and whether it is done; nil: there is none.
    func expireConsumer(
        after: Int64, before horizon: Timestamp, at time: Timestamp, _ budget: inout Int, _ report: inout PruneReport
    ) throws -> (consumer: Int64, isDone: Bool)? {
        let next = try prepare("SELECT id FROM destination WHERE kind = 'pull' AND id > ? ORDER BY id LIMIT 1")
        next.bind(1, after)
        guard let id: DestinationID = try next.first({ $0.id(0) }) else { return nil }
        budget -= 1
        var entry = try consumer(id, at: time)
        let hasLeft = try !buryLeft(id, entry.namespace, at: time, &budget, &report)
        guard !hasLeft, entry.movedAt < horizon else {
            consumers.entries[id] = entry
            return (id.rawValue, !hasLeft)
        }
        let old = try JobRows.lastSequence(db, before: horizon, try lastNumber(.job))
        entry.machine.expire(through: old, and: try replayedBefore(horizon, id, entry.namespace, limit: max(1, budget)), at: time)
        var isDone = true
        if entry.machine.position < old, !entry.triggers.isEmpty {
            let asked = max(1, budget)
            let query = try prepare("SELECT seq, trigger_id FROM job WHERE seq > ? AND seq <= ? ORDER BY seq LIMIT ?")
            query.bind(1, entry.machine.position)
            query.bind(2, old)
            query.bind(3, asked)
            let rows = try query.all { (job: $0.int(0), trigger: $0.id(1) as TriggerID) }
            budget -= rows.count
            isDone = rows.count < asked
            let isRewound = entry.machine.position < entry.machine.highWater
            var jobs = SequenceSet()
            for row in rows {
                guard let begins = entry.triggers[row.trigger], row.job > begins else { continue }
                if !isRewound || !entry.machine.awaits(row.job) { jobs.insert(row.job) }
            }
            if let last = rows.last { entry.machine.expireNew(jobs, through: last.job) }
        }
        let count = try save(id, &entry, at: time)
        report.expiredDeliveries += count
        budget -= count
        return (id.rawValue, isDone)
    }

    private func replayedBefore(
        _ horizon: Timestamp, _ id: DestinationID, _ namespace: NamespaceID, limit: Int
    ) throws -> SequenceSet {
        let query = try prepare(
            "SELECT job_seq FROM delivery WHERE state = 0 AND ns = ? AND destination_id = ? AND pending_since < ? LIMIT ?")
        query.bind(1, namespace)
        query.bind(2, id)
        query.bind(3, horizon)
        query.bind(4, limit)
        return SequenceSet(try query.all { $0.int(0) })
    }

    private func buryLeft(
        _ id: DestinationID, _ namespace: NamespaceID, at time: Timestamp, _ budget: inout Int, _ report: inout PruneReport
    ) throws -> Bool {
        let next = try prepare(
            "SELECT id, trigger_id, after_seq, through_seq FROM consumer_left WHERE destination_id = ? ORDER BY id LIMIT 1")
        next.bind(1, id)
        guard let left = try next.first({ (row: $0.int(0), trigger: $0.int(1), after: $0.int(2), through: $0.int(3)) }) else { return true }
        let asked = max(1, budget)
        let query = try prepare(
            """
            SELECT seq, position FROM job WHERE ns = ? AND trigger_id = ? AND seq > ? AND seq <= ?
                AND NOT EXISTS (SELECT 1 FROM delivery d WHERE d.ns = job.ns AND d.job_seq = job.seq AND d.destination_id = ?)
            ORDER BY position LIMIT ?
            """)
        query.bind(1, namespace)
        query.bind(2, left.trigger)
        query.bind(3, left.after)
        query.bind(4, left.through)
        query.bind(5, id)
        query.bind(6, asked)
        let rows = try query.all { (job: $0.int(0), position: $0.int(1)) }
        for row in rows {
            let letter = ConsumerMachine.Dead(jobs: SequenceSet(), attempts: 0, reason: "detached", detail: nil)
            try bury(id, namespace, row.job, left.trigger, row.position, letter, at: time)
        }
        budget -= max(1, rows.count)
        report.expiredDeliveries += rows.count
        if rows.count < asked { try run("DELETE FROM consumer_left WHERE id = ?", left.row) }
        return false
    }
}
