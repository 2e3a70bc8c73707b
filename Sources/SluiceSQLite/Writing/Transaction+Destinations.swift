import SluiceCore
import SluiceStore

/// Destinations and what is attached to them.
extension Transaction {
    func putDestination(
        _ namespace: NamespaceID, _ name: String, _ kind: String, _ settings: [UInt8], _ sealedSecrets: [UInt8]
    ) throws {
        try refuseChangeOfKind(namespace, name, kind)
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

    func setState(
        _ namespace: NamespaceID, destination name: String, _ state: DestinationState, _ reason: String?, ifSettings settings: [UInt8]?,
        _ time: Timestamp
    ) throws {
        let update = try prepare(
            """
            UPDATE destination SET state_since = CASE WHEN state = ?1 THEN state_since ELSE ?3 END, state = ?1, state_reason = ?2
            WHERE id = ?4 AND (?5 IS NULL OR settings = ?5)
            """)
        update.bind(1, state.rawValue)
        update.bind(2, reason)
        update.bind(3, time)
        update.bind(4, try id(of: .destination, name, namespace))
        update.bind(5, settings)
        try update.run()
        if state == .active { effects.hasDeliveries = true }
    }

    /// With its deliveries, which are removed piece by piece.
    func removeDestination(_ namespace: NamespaceID, _ name: String, discardsUndelivered: Bool) throws {
        let destination = try id(of: .destination, name, namespace)
        if !discardsUndelivered { try refuseUndelivered(ofDestination: destination, name, namespace) }
        try forgetConsumer(destination)
        for table in ["attachment", "catch_up"] {
            try run("DELETE FROM \(table) WHERE ns = ? AND destination_id = ?", namespace.rawValue, destination)
        }
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
        if try isConsumer(destination) {
            return try attachConsumer(
                namespace, trigger: TriggerID(trigger), destination: DestinationID(destination), from: from, at: time)
        }
        if let after { try intendKept(namespace, trigger: trigger, destination: destination, after: after, time) }
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
        try detachKept(namespace, trigger: trigger, destination: destination)
        if try isConsumer(destination) {
            return try detachConsumer(namespace, trigger: TriggerID(trigger), destination: DestinationID(destination), at: time)
        }
        try detachPending(namespace, trigger: trigger, destination: destination, time)
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

    enum Garbage: String { case inbox, jobs, keys, deliveries, backfills }

    /// Notes what `prune` is to remove in bounded batches; nobody can see it any more.
    func discard(_ namespace: NamespaceID, _ kind: Garbage, _ target: Int64) throws {
        let insert = try prepare("INSERT INTO garbage (ns, kind, target) VALUES (?, ?, ?)")
        insert.bind(1, namespace)
        insert.bind(2, kind.rawValue)
        insert.bind(3, target)
        try insert.run()
    }
}
