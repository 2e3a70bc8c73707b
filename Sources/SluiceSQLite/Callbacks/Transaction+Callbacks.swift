import SluiceCore
import SluiceStore

/// Callbacks, and the jobs that they end in.
extension Transaction {
    func addCallback(
        _ new: NewCallback, pendingMax: Int, at time: Timestamp
    ) throws -> (callback: StoredCallback, isNew: Bool) {
        let known = try prepare("SELECT name FROM connection WHERE id = ? AND ns = ?")
        known.bind(1, new.connection)
        known.bind(2, new.namespace)
        guard let connection = try known.first({ $0.text(0) }) else {
            throw SluiceError(.notFound, "the connection of this callback was removed")
        }
        if let key = new.idempotencyKey, let first = try firstCallback(new, key) { return (first, false) }
        if let destination = new.destination { try checkCarried(destination, new.namespace) }
        try raiseTally(new, connection, pendingMax: pendingMax)
        let source = try callbackSource(new, connection, time)
        try insert(new, source: source)
        guard let stored = try callback(new.namespace, new.id) else { throw SluiceError(.storage, "the callback was not written") }
        return (stored, true)
    }

    private func callback(_ namespace: NamespaceID, _ id: String) throws -> StoredCallback? {
        try CallbackRows.one(db, where: "c.ns = ? AND c.uid = ?") {
            $0.bind(1, namespace)
            $0.bind(2, id)
        }
    }

    private func firstCallback(_ new: NewCallback, _ key: String) throws -> StoredCallback? {
        let query = try prepare(
            "SELECT uid, request_digest FROM callback WHERE ns = ? AND connection_id = ? AND idempotency_key = ?")
        query.bind(1, new.namespace)
        query.bind(2, new.connection)
        query.bind(3, key)
        guard let found = try query.first({ (id: $0.text(0), digest: $0.bytes(1)) }) else { return nil }
        guard found.digest == new.requestDigest else {
            throw SluiceError(
                .conflict, "this idempotency key stands for another request, callback \(found.id): use a new key for each operation",
                context: ["callback": found.id])
        }
        return try callback(new.namespace, found.id)
    }

    private func checkCarried(_ destination: DestinationID, _ namespace: NamespaceID) throws {
        let query = try prepare("SELECT kind, name FROM destination WHERE id = ? AND ns = ?")
        query.bind(1, destination)
        query.bind(2, namespace)
        guard let found = try query.first({ (kind: $0.text(0), name: $0.text(1)) }) else {
            throw SluiceError(.notFound, "the destination of this callback was removed")
        }
        if found.kind == "pull" {
            throw SluiceError(
                .conflict,
                "nothing is carried to the pull destination \(found.name): name one of another kind, or attach it to the connection's callbacks "
                    + "in sluice.yaml: `triggers: {\"callbacks:CONNECTION\": {destinations: [\(found.name)]}}`")
        }
    }

    private func raiseTally(_ new: NewCallback, _ connection: String, pendingMax: Int) throws {
        let count = try prepare("SELECT pending FROM callback_tally WHERE ns = ? AND connection_id = ?")
        count.bind(1, new.namespace)
        count.bind(2, new.connection)
        guard try count.first({ $0.int(0) }) ?? 0 < pendingMax else {
            throw SluiceError(
                .overloaded, "connection \(connection) has \(pendingMax) pending callbacks, as many as may be: wait until some have ended",
                context: ["connection": connection])
        }
        try run(
            """
            INSERT INTO callback_tally (ns, connection_id, pending) VALUES (?, ?, 1)
            ON CONFLICT (ns, connection_id) DO UPDATE SET pending = pending + 1
            """, new.namespace.rawValue, new.connection.rawValue)
    }

    /// The trigger that the jobs of a connection's callbacks belong to.
    private func callbackSource(_ new: NewCallback, _ connection: String, _ time: Timestamp) throws -> TriggerID {
        let name = StoredTrigger.callbackSource(connection)
        if let source = try find(.trigger, name, new.namespace) { return TriggerID(source) }
        try putTrigger(
            TriggerDefinition(
                name: name, uid: new.sourceUID, connection: new.connection, type: StoredTrigger.callbackType, input: Array("{}".utf8),
                settings: Array("{}".utf8), topicKeys: [], resets: false), new.namespace, time)
        try setState(new.namespace, name, from: .created, to: .running)
        return TriggerID(try id(of: .trigger, name, new.namespace))
    }

    private func insert(_ new: NewCallback, source: TriggerID) throws {
        let insert = try prepare(
            """
            INSERT INTO callback (ns, uid, connection_id, trigger_id, type, input, destination_id, token_hash, sealed_token,
                idempotency_key, request_digest, is_unsafe, pauses, generation, state, asks, created_at, expires_at, next_at, polls, step,
                failures, signals, covered)
            VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, 0, 0, 0, 0, 0)
            """)
        insert.bind(1, new.namespace)
        insert.bind(2, new.id)
        insert.bind(3, new.connection)
        insert.bind(4, source)
        insert.bind(5, new.type)
        insert.bind(6, new.input)
        insert.bind(7, new.destination?.rawValue)
        insert.bind(8, new.tokenHash)
        insert.bind(9, new.sealedToken)
        insert.bind(10, new.idempotencyKey)
        insert.bind(11, new.requestDigest)
        insert.bind(12, new.isUnsafe ? 1 : 0)
        insert.bind(13, CallbackRows.Pauses.encode(new.pauses))
        insert.bind(14, Generation.first)
        insert.bind(15, new.state.state.rawValue)
        insert.bind(16, new.state.asks ? 1 : 0)
        insert.bind(17, new.state.createdAt)
        insert.bind(18, new.state.expiresAt)
        insert.bind(19, new.state.nextAt)
        try insert.run()
    }

    // MARK: Changes

    func recordCallback(_ change: CallbackChange) throws -> StoredCallback {
        guard let stored = try callback(change.namespace, change.id) else {
            throw SluiceError(.notFound, "there is no callback \(change.id): its time of keeping is over", context: ["callback": change.id])
        }
        guard stored.generation == change.generation, !stored.state.state.isOver else {
            throw SluiceError(
                .conflict, "callback \(change.id) was changed meanwhile: look again", context: ["callback": change.id])
        }
        guard change.state.state.isOver == (change.ending != nil) else {
            throw SluiceError(.invalid, "a callback's change has an ending exactly where it ends")
        }
        try update(change, stored)
        if let ending = change.ending { try end(stored, change, ending) }
        guard let changed = try callback(change.namespace, change.id) else { throw SluiceError(.storage, "the callback was not written") }
        return changed
    }

    private func update(_ change: CallbackChange, _ stored: StoredCallback) throws {
        let state = change.state
        let update = try prepare(
            """
            UPDATE callback SET generation = generation + 1, state = ?2, next_at = ?3, last_start_at = ?4, polls = ?5, step = ?6,
                failures = ?7, signals = ?8, covered = ?9, last_error = ?10, ended_at = ?11, reason = ?12 WHERE id = ?1
            """)
        update.bind(1, stored.number)
        update.bind(2, state.state.rawValue)
        update.bind(3, state.nextAt)
        update.bind(4, state.lastStartAt)
        update.bind(5, state.polls)
        update.bind(6, state.step)
        update.bind(7, state.failures)
        update.bind(8, state.signals)
        update.bind(9, state.covered)
        update.bind(10, state.lastError)
        update.bind(11, state.endedAt)
        update.bind(12, state.reason)
        try update.run()
    }

    private func end(_ stored: StoredCallback, _ change: CallbackChange, _ ending: CallbackEnding) throws {
        try run(
            "UPDATE callback_tally SET pending = pending - 1 WHERE ns = ? AND connection_id = ?", change.namespace.rawValue,
            stored.connection.rawValue)
        let position: Int64? = try ending.record.flatMap { try insertCallbackJob(stored, change, $0) }
        let update = try prepare("UPDATE callback SET ended_by = ?2, result = ?3, position = ?4 WHERE id = ?1")
        update.bind(1, stored.number)
        update.bind(2, ending.cause.rawValue)
        update.bind(3, ending.result)
        update.bind(4, position)
        try update.run()
    }

    /// The job of a callback, with a delivery to its own destination and to those that its source is attached to. It ends once, in
    /// this transaction, so it needs no dedup key in the table of those.
    private func insertCallbackJob(_ stored: StoredCallback, _ change: CallbackChange, _ record: [UInt8]) throws -> Int64? {
        let last = try prepare("SELECT last_position FROM progress WHERE trigger_id = ?")
        last.bind(1, stored.source)
        guard let position = try last.first({ $0.int(0) + 1 }) else { return nil }
        var making = try jobMaking(change.namespace, stored.source, .callback, and: stored.destination, at: change.at)
        try Array(stored.id.utf8).withUnsafeBytes { key in
            try makeJob(of: Record(bytes: record[...], isDerived: true), key: key, at: position, &making)
        }
        try run("UPDATE progress SET last_position = ? WHERE trigger_id = ?", position, stored.source.rawValue)
        effects.committed(stored.source, at: change.at)
        return position
    }

    // MARK: Upkeep

    func hastenCallbacks(
        _ namespace: NamespaceID, after: Int64, limit: Int, window: Span, at time: Timestamp
    ) throws -> Int64? {
        let query = try prepare(
            "SELECT id, next_at, asks FROM callback WHERE ns = ? AND state = 'pending' AND id > ? ORDER BY id LIMIT ?")
        query.bind(1, namespace)
        query.bind(2, after)
        query.bind(3, max(1, limit))
        let rows = try query.all { (number: $0.int(0), nextAt: $0.time(1), asks: $0.int(2) != 0) }
        let spread = max(1, window.milliseconds)
        for row in rows where row.asks {
            // A multiplicative hash spreads neighbouring numbers evenly over the window.
            let place = Int64((UInt64(bitPattern: row.number) &* 0x9E37_79B9_7F4A_7C15) >> 1) % spread
            let due = time.milliseconds + place
            guard due < row.nextAt.milliseconds else { continue }
            try run("UPDATE callback SET next_at = ?, generation = generation + 1 WHERE id = ?", due, row.number)
        }
        return rows.count < limit ? nil : rows.last?.number
    }

    /// Those that ended before `horizon`. Returns how many went.
    func removeCallbacks(endedBefore horizon: Timestamp, limit: Int) throws -> Int {
        let delete = try prepare(
            """
            DELETE FROM callback WHERE id IN (
                SELECT id FROM callback WHERE state <> 'pending' AND ended_at < ? ORDER BY ended_at LIMIT ?)
            """)
        delete.bind(1, horizon)
        delete.bind(2, limit)
        try delete.run()
        return delete.changes
    }

    /// A connection without pending callbacks forgets the others with their source. Throws `.conflict` if some are pending.
    func removeCallbacks(
        ofConnection connection: Int64, _ name: String, _ namespace: NamespaceID, discardsUndelivered: Bool, at time: Timestamp
    ) throws {
        let pending = try prepare("SELECT pending FROM callback_tally WHERE ns = ? AND connection_id = ?")
        pending.bind(1, namespace)
        pending.bind(2, connection)
        if let count = try pending.first({ $0.int(0) }), count > 0 {
            throw SluiceError(
                .conflict, "the connection \(name) has \(count) pending callbacks: cancel them, or wait for them",
                context: ["connection": name])
        }
        try run("DELETE FROM callback WHERE ns = ? AND connection_id = ?", namespace.rawValue, connection)
        try run("DELETE FROM callback_tally WHERE ns = ? AND connection_id = ?", namespace.rawValue, connection)
        let source = StoredTrigger.callbackSource(name)
        guard try find(.trigger, source, namespace) != nil else { return }
        try setState(namespace, source, from: .running, to: .stopped)
        try removeTrigger(namespace, source, discardsUndelivered: discardsUndelivered, at: time)
    }
}
