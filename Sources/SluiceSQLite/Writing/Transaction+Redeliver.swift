import SluiceCore
import SluiceStore

/// Delivering jobs again: new attempts of the same jobs.
extension Transaction {
    /// Delivers jobs again to every destination of their trigger, consumers included. What is still to be delivered somewhere stays as it
    /// is there, and so does a dead letter that was discarded. Returns how many jobs go to one destination at least. Where the trigger is
    /// ordered, `settleOrder` must follow in the same transaction: until then each of them is due.
    func redeliver(_ namespace: NamespaceID, _ trigger: TriggerID, _ positions: [JobPosition], at time: Timestamp) throws -> Int64 {
        guard !positions.isEmpty else { return 0 }
        let find = try prepare("SELECT seq FROM job WHERE ns = ? AND trigger_id = ? AND position = ?")
        var jobs: [(sequence: Int64, position: JobPosition)] = []
        for position in positions {
            find.bind(1, namespace)
            find.bind(2, trigger)
            find.bind(3, position)
            // Gone by now: retention took it.
            if let sequence = try find.first({ $0.int(0) }) { jobs.append((sequence, position)) }
        }
        let destinations = try prepare(
            """
            SELECT a.destination_id, d.kind = 'pull' FROM attachment a JOIN destination d ON d.id = a.destination_id
            WHERE a.ns = ? AND a.trigger_id = ? ORDER BY a.destination_id
            """)
        destinations.bind(1, namespace)
        destinations.bind(2, trigger)
        var again: Set<Int64> = []
        for (destination, isPulled) in try destinations.all({ ($0.id(0) as DestinationID, $0.int(1) == 1) }) {
            if isPulled {
                again.formUnion(try handOutAgain(namespace, trigger, jobs, destination, at: time))
                continue
            }
            for job in jobs where try intendAgain(namespace, trigger, job.position, job.sequence, destination, isPulled: false, at: time) {
                again.insert(job.sequence)
                effects.hasDeliveries = true
            }
        }
        return Int64(again.count)
    }

    /// As dead letters of a consumer are replayed. What it has in hand stays there, and what it has yet to come to comes without this.
    private func handOutAgain(
        _ namespace: NamespaceID, _ trigger: TriggerID, _ jobs: [(sequence: Int64, position: JobPosition)], _ consumer: DestinationID,
        at time: Timestamp
    ) throws -> Set<Int64> {
        var entry = try self.consumer(consumer, at: time)
        let begins = entry.triggers[trigger] ?? Int64.max
        let behind = jobs.filter { $0.sequence <= entry.machine.position || $0.sequence <= begins }
        let free = Set(entry.machine.withoutAwaited(SequenceSet(behind.map(\.sequence).sorted())).numbers)
        var again: Set<Int64> = []
        for job in behind where free.contains(job.sequence) {
            guard try intendAgain(namespace, trigger, job.position, job.sequence, consumer, isPulled: true, at: time) else { continue }
            again.insert(job.sequence)
        }
        if !again.isEmpty {
            entry.machine.replay(SequenceSet(again.sorted()), at: time)
            effects.consumers.insert(consumer)
        }
        try save(consumer, &entry, at: time)
        return again
    }

    /// Whether it is pending now, and was not before.
    private func intendAgain(
        _ namespace: NamespaceID, _ trigger: TriggerID, _ position: JobPosition, _ sequence: Int64, _ destination: DestinationID,
        isPulled: Bool, at time: Timestamp
    ) throws -> Bool {
        let put = try prepare(
            """
            INSERT INTO delivery (
                id, ns, destination_id, trigger_id, position, job_seq, next_attempt_at, created_at, pending_since, is_ordered)
            VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?7, ?7, CASE WHEN ?8 = 1 THEN 0 ELSE (SELECT is_ordered FROM "trigger" WHERE id = ?4) END)
            ON CONFLICT (ns, job_seq, destination_id) DO UPDATE SET is_ordered = excluded.is_ordered, state = 0, attempts = 0, reason = NULL,
                settled_at = NULL, next_attempt_at = excluded.next_attempt_at, is_claimed = 0, pending_since = excluded.pending_since
            WHERE state NOT IN (0, 4)
            """)
        put.bind(1, try allocate(.delivery))
        put.bind(2, namespace)
        put.bind(3, destination)
        put.bind(4, trigger)
        put.bind(5, position)
        put.bind(6, sequence)
        put.bind(7, time)
        put.bind(8, isPulled ? 1 : 0)
        try put.run()
        return put.changes > 0
    }
}
