import SluiceCore
import SluiceStore

/// Destinations and what is attached to them.
extension Transaction {
    func putDestination(
        _ namespace: NamespaceID, _ name: String, _ kind: String, _ settings: [UInt8], _ sealedSecrets: [UInt8]
    ) throws {
        let put = try prepare(
            """
            INSERT INTO destination (ns, name, kind, settings, sealed_secrets) VALUES (?, ?, ?, ?, ?)
            ON CONFLICT (ns, name) DO UPDATE SET kind = excluded.kind, settings = excluded.settings,
                sealed_secrets = excluded.sealed_secrets
            """)
        put.bind(1, namespace)
        put.bind(2, name)
        put.bind(3, kind)
        put.bind(4, settings)
        put.bind(5, sealedSecrets)
        try put.run()
    }

    /// With its deliveries, which are removed piece by piece.
    func removeDestination(_ namespace: NamespaceID, _ name: String) throws {
        let destination = try id(of: .destination, name, namespace)
        try run("DELETE FROM attachment WHERE ns = ? AND destination_id = ?", namespace.rawValue, destination)
        try run("DELETE FROM destination WHERE id = ?", destination)
        try discard(namespace, .deliveries, destination)
    }

    /// `from` nil starts after the present last position; attaching again without it changes nothing.
    func attach(
        _ namespace: NamespaceID, _ triggerName: String, _ destinationName: String, _ from: JobPosition?, _ time: Timestamp
    ) throws {
        let trigger = try id(of: .trigger, triggerName, namespace)
        let destination = try id(of: .destination, destinationName, namespace)
        let position = try prepare("SELECT last_position FROM progress WHERE trigger_id = ?")
        position.bind(1, trigger)
        let last = try position.first { $0.int(0) } ?? 0
        let after = from.map { max(0, $0.rawValue - 1) }
        let attach = try prepare(
            """
            INSERT INTO attachment (ns, trigger_id, destination_id, from_position) VALUES (?1, ?2, ?3, ?4)
            ON CONFLICT DO UPDATE SET from_position = min(from_position, coalesce(?5, from_position))
            """)
        attach.bind(1, namespace)
        attach.bind(2, trigger)
        attach.bind(3, destination)
        attach.bind(4, after ?? last)
        attach.bind(5, after)
        try attach.run()
        if let after { try intend(namespace, trigger: trigger, destination: destination, after: after, time) }
    }

    /// Deliveries of kept jobs to a destination that they are carried to, each at most once.
    private func intend(_ namespace: NamespaceID, trigger: Int64, destination: Int64, after: Int64, _ time: Timestamp) throws {
        let kind = try prepare("SELECT kind FROM destination WHERE id = ?")
        kind.bind(1, destination)
        guard try kind.first({ $0.text(0) }) != "pull" else { return }
        let jobs = try prepare(
            """
            SELECT seq, position FROM job WHERE ns = ? AND trigger_id = ? AND position > ?
                AND NOT EXISTS (SELECT 1 FROM delivery d WHERE d.ns = job.ns AND d.job_seq = job.seq AND d.destination_id = ?)
            ORDER BY position
            """)
        jobs.bind(1, namespace)
        jobs.bind(2, trigger)
        jobs.bind(3, after)
        jobs.bind(4, destination)
        let kept = try jobs.all { (sequence: $0.int(0), position: $0.int(1)) }
        for job in kept {
            try run(
                """
                INSERT INTO delivery (id, ns, destination_id, trigger_id, position, job_seq, next_attempt_at, created_at, pending_since)
                VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?7, ?7)
                """, try allocate(.delivery), namespace.rawValue, destination, trigger, job.position, job.sequence, time.milliseconds)
        }
        if !kept.isEmpty { effects.hasDeliveries = true }
    }

    /// What was not delivered yet becomes a dead letter, so that it stays visible and can be replayed (P9).
    func detach(_ namespace: NamespaceID, _ triggerName: String, _ destinationName: String, _ time: Timestamp) throws {
        let trigger = try id(of: .trigger, triggerName, namespace)
        let destination = try id(of: .destination, destinationName, namespace)
        let detach = try prepare("DELETE FROM attachment WHERE ns = ? AND trigger_id = ? AND destination_id = ?")
        detach.bind(1, namespace)
        detach.bind(2, trigger)
        detach.bind(3, destination)
        try detach.run()
        guard detach.changes > 0 else { throw Transaction.notAttached(triggerName, destinationName) }
        try run(
            """
            UPDATE delivery SET state = 2, reason = 'detached', settled_at = ?1
            WHERE state = 0 AND ns = ?2 AND destination_id = ?3 AND trigger_id = ?4
            """, time.milliseconds, namespace.rawValue, destination, trigger)
    }

    func setAttachment(_ namespace: NamespaceID, _ triggerName: String, _ destinationName: String, _ settings: [UInt8]) throws {
        let update = try prepare("UPDATE attachment SET settings = ? WHERE ns = ? AND trigger_id = ? AND destination_id = ?")
        update.bind(1, settings)
        update.bind(2, namespace)
        update.bind(3, try id(of: .trigger, triggerName, namespace))
        update.bind(4, try id(of: .destination, destinationName, namespace))
        try update.run()
        guard update.changes > 0 else { throw Transaction.notAttached(triggerName, destinationName) }
    }

    private static func notAttached(_ trigger: String, _ destination: String) -> SluiceError {
        SluiceError(
            .notFound, "the trigger \(trigger) is not attached to \(destination)",
            context: ["trigger": trigger, "destination": destination])
    }

    // MARK: What removals leave behind

    enum Garbage: String { case inbox, jobs, keys, deliveries }

    /// Notes what `prune` is to remove in bounded batches; nobody can see it any more.
    func discard(_ namespace: NamespaceID, _ kind: Garbage, _ target: Int64) throws {
        let insert = try prepare("INSERT INTO garbage (ns, kind, target) VALUES (?, ?, ?)")
        insert.bind(1, namespace)
        insert.bind(2, kind.rawValue)
        insert.bind(3, target)
        try insert.run()
    }
}
