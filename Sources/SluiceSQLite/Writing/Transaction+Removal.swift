import SluiceCore
import SluiceStore

/// What a removal would lose unseen: jobs that were not delivered, among them those of dead letters, which could be replayed.
///
/// Looks at what waits for the destinations, so it takes as long as that is long: an index that only removals need would cost
/// every job something.
extension Transaction {
    /// Throws `.conflict` if jobs of a trigger are still to be delivered or acked.
    func refuseUndelivered(ofTrigger trigger: Int64, _ name: String, _ namespace: NamespaceID, at time: Timestamp) throws {
        guard let destination = try undelivered(ofTrigger: trigger, namespace) ?? unacked(ofTrigger: trigger, namespace, at: time) else {
            return
        }
        throw SluiceError(
            .conflict,
            "the trigger \(name) has jobs that \(destination) has not got: wait for them, replay or discard its dead letters, "
                + "or remove it with `discard_undelivered`", context: ["trigger": name, "destination": destination])
    }

    private func undelivered(ofTrigger trigger: Int64, _ namespace: NamespaceID) throws -> String? {
        let query = try prepare(
            """
            SELECT o.name FROM destination o WHERE o.ns = ?1 AND (
                EXISTS (SELECT 1 FROM delivery d WHERE d.ns = ?1 AND d.destination_id = o.id AND d.state = 0 AND d.trigger_id = ?2)
                OR EXISTS (SELECT 1 FROM delivery d WHERE d.ns = ?1 AND d.destination_id = o.id AND d.state = 2 AND d.trigger_id = ?2)
                OR EXISTS (SELECT 1 FROM catch_up c WHERE c.ns = ?1 AND c.trigger_id = ?2 AND c.destination_id = o.id))
            ORDER BY o.name LIMIT 1
            """)
        query.bind(1, namespace)
        query.bind(2, trigger)
        return try query.first { $0.text(0) }
    }

    /// A consumer that has jobs of a trigger to come or in hand. What it has had in hand for so many jobs is not looked for.
    private func unacked(ofTrigger trigger: Int64, _ namespace: NamespaceID, at time: Timestamp) throws -> String? {
        let holds = try consumerHolds(at: time)
        let jobs = try prepare("SELECT seq FROM job WHERE ns = ? AND trigger_id = ? ORDER BY position DESC LIMIT 100000")
        jobs.bind(1, namespace)
        jobs.bind(2, trigger)
        defer { jobs.reset() }
        var isHeld = false
        while !isHeld, try jobs.step() { isHeld = holds.holds(jobs.int(0), of: TriggerID(trigger)) }
        guard isHeld else { return nil }
        let consumer = try prepare(
            """
            SELECT o.name FROM destination o JOIN consumer_trigger c ON c.destination_id = o.id WHERE c.trigger_id = ? ORDER BY o.name LIMIT 1
            """)
        consumer.bind(1, trigger)
        return try consumer.first { $0.text(0) } ?? "a consumer"
    }

    /// Throws `.conflict` if a destination still gets jobs, or has not got all it was to get.
    func refuseUndelivered(ofDestination destination: Int64, _ name: String, _ namespace: NamespaceID) throws {
        let attached = try prepare(
            """
            SELECT t.name FROM attachment a JOIN "trigger" t ON t.id = a.trigger_id WHERE a.ns = ? AND a.destination_id = ?
            ORDER BY t.name LIMIT 1
            """)
        attached.bind(1, namespace)
        attached.bind(2, destination)
        if let trigger = try attached.first({ $0.text(0) }) {
            throw SluiceError(
                .conflict,
                "the destination \(name) gets the jobs of the trigger \(trigger): take it out of that trigger's destinations and apply, "
                    + "or remove it with `discard_undelivered`", context: ["destination": name, "trigger": trigger])
        }
        let waiting = try prepare(
            """
            SELECT CASE
                WHEN EXISTS (SELECT 1 FROM delivery WHERE ns = ?1 AND destination_id = ?2 AND state = 0)
                    OR EXISTS (SELECT 1 FROM consumer_lease WHERE destination_id = ?2 AND is_open = 1)
                    OR EXISTS (SELECT 1 FROM consumer_returned WHERE destination_id = ?2)
                    OR EXISTS (SELECT 1 FROM consumer_left WHERE destination_id = ?2)
                    OR EXISTS (SELECT 1 FROM catch_up WHERE ns = ?1 AND destination_id = ?2) THEN 'jobs to come'
                WHEN EXISTS (SELECT 1 FROM delivery WHERE ns = ?1 AND destination_id = ?2 AND state = 2) THEN 'dead letters'
                WHEN EXISTS (SELECT 1 FROM callback WHERE ns = ?1 AND state = 'pending' AND destination_id = ?2)
                    THEN 'the results of pending callbacks to come' END
            """)
        waiting.bind(1, namespace)
        waiting.bind(2, destination)
        guard let what = try waiting.first({ $0.optionalText(0) }).flatMap({ $0 }) else { return }
        throw SluiceError(
            .conflict,
            "the destination \(name) has \(what): wait for them, replay or discard them, or remove it with `discard_undelivered`",
            context: ["destination": name])
    }
}
