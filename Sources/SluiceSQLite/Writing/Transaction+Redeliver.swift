import SluiceCore
import SluiceStore

/// Delivering jobs again: new attempts of the same jobs.
extension Transaction {
    /// Delivers a job again to every destination of its trigger; a delivery that is still pending stays as it is, and one that was
    /// discarded is so no more. Returns to how many it goes; none where the job is gone. Where the trigger is ordered, `settleOrder`
    /// must follow in the same transaction: until then each of them is due.
    func redeliver(_ namespace: NamespaceID, _ trigger: TriggerID, _ position: JobPosition, at time: Timestamp) throws -> Int {
        let find = try prepare("SELECT seq FROM job WHERE ns = ? AND trigger_id = ? AND position = ?")
        find.bind(1, namespace)
        find.bind(2, trigger)
        find.bind(3, position)
        guard let sequence = try find.first({ $0.int(0) }) else { return 0 }
        let destinations = try prepare(
            """
            SELECT a.destination_id FROM attachment a JOIN destination d ON d.id = a.destination_id
            WHERE a.ns = ? AND a.trigger_id = ? AND d.kind <> 'pull' ORDER BY a.destination_id
            """)
        destinations.bind(1, namespace)
        destinations.bind(2, trigger)
        var count = 0
        for destination in try destinations.all({ $0.id(0) as DestinationID }) {
            try intendAgain(namespace, trigger, position, sequence, destination, at: time)
            count += 1
        }
        if count > 0 { effects.hasDeliveries = true }
        return count
    }

    private func intendAgain(
        _ namespace: NamespaceID, _ trigger: TriggerID, _ position: JobPosition, _ sequence: Int64, _ destination: DestinationID,
        at time: Timestamp
    ) throws {
        let put = try prepare(
            """
            INSERT INTO delivery (
                id, ns, destination_id, trigger_id, position, job_seq, next_attempt_at, created_at, pending_since, is_ordered)
            VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?7, ?7, (SELECT is_ordered FROM "trigger" WHERE id = ?4))
            ON CONFLICT (ns, job_seq, destination_id) DO UPDATE SET is_ordered = excluded.is_ordered, discarded_at = NULL,
                discarded_by = NULL, discard_note = NULL, state = 0, attempts = 0, reason = NULL, settled_at = NULL,
                next_attempt_at = excluded.next_attempt_at, pending_since = excluded.pending_since
            WHERE state <> 0
            """)
        put.bind(1, try allocate(.delivery))
        put.bind(2, namespace)
        put.bind(3, destination)
        put.bind(4, trigger)
        put.bind(5, position)
        put.bind(6, sequence)
        put.bind(7, time)
        try put.run()
    }
}
