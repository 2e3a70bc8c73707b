import GRDBSQLite
import SluiceCore
import SluiceStore

/// The life of backfills. What they read is committed in `Transaction+BackfillWork`.
extension Transaction {
    /// Ended ones are kept for so long, and so many of a trigger.
    private static let endedKept = Span.days(30)
    private static let perTriggerKept: Int64 = 50

    func startBackfill(_ new: NewBackfill, at time: Timestamp) throws -> StoredBackfill {
        try forgetBackfills(new.namespace, of: new.trigger, at: time)
        let find = try prepare(
            """
            SELECT t.connection_id, p.last_position, (SELECT b.id FROM backfill b WHERE b.trigger_id = t.id AND b.ended_at IS NULL)
            FROM "trigger" t JOIN progress p ON p.trigger_id = t.id WHERE t.ns = ? AND t.id = ?
            """)
        find.bind(1, new.namespace)
        find.bind(2, new.trigger)
        guard let trigger = try find.first({ (connection: $0.int(0), position: $0.int(1), other: $0.optionalInt(2)) }) else {
            throw SluiceError(.notFound, "this trigger was removed")
        }
        if let other = trigger.other {
            throw SluiceError(
                .conflict,
                "the backfill \(other) of this trigger has not ended: wait for it, or `sluice backfill cancel \(other)`",
                context: ["backfill": String(other)])
        }
        let insert = try prepare(
            """
            INSERT INTO backfill (ns, trigger_id, connection_id, mode, is_audit, from_time, to_time, definition, notes, state, phase, step,
                gathered, gather_to, cursor, connector, counts, failures, created_at, progress_at)
            VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, 0, 0, ?, ?, '', '{}', 0, ?, ?)
            """)
        insert.bind(1, new.namespace)
        insert.bind(2, new.trigger)
        insert.bind(3, trigger.connection)
        insert.bind(4, new.mode.rawValue)
        insert.bind(5, new.isAudit ? 1 : 0)
        insert.bind(6, new.window.from)
        insert.bind(7, new.window.to)
        insert.bind(8, new.definition)
        insert.bind(9, Transaction.json(new.notes))
        insert.bind(10, BackfillState.running.rawValue)
        insert.bind(11, BackfillPhase.gathering.rawValue)
        insert.bind(12, trigger.position)
        insert.bind(13, new.cursor)
        insert.bind(14, time)
        insert.bind(15, time)
        try insert.run()
        return try backfill(new.namespace, BackfillID(insert.lastInsertedRow))
    }

    private static func json(_ notes: [String]) -> String {
        var writer = JSONWriter()
        writer.array { writer in for note in notes { writer.value(note) } }
        return String(decoding: writer.bytes, as: UTF8.self)
    }

    /// Throws `.notFound`.
    func backfill(_ namespace: NamespaceID, _ id: BackfillID) throws -> StoredBackfill {
        guard let found = try BackfillRows.one(db, namespace, id) else {
            throw SluiceError(.notFound, "there is no backfill \(id): see `sluice backfill list`", context: ["backfill": id.description])
        }
        return found
    }

    func command(_ namespace: NamespaceID, _ id: BackfillID, _ command: BackfillCommand, at time: Timestamp) throws -> StoredBackfill {
        let before = try backfill(namespace, id)
        let state = try before.state.after(command)
        if state == before.state {
            // Who resumes what waits wants it tried now.
            if command == .resume { try run("UPDATE backfill SET retry_at = NULL WHERE id = ?", id.rawValue) }
            return try backfill(namespace, id)
        }
        let update = try prepare("UPDATE backfill SET state = ?, progress_at = ?, retry_at = NULL WHERE id = ?")
        update.bind(1, state.rawValue)
        update.bind(2, time)
        update.bind(3, id)
        try update.run()
        if state.hasEnded, !before.state.hasEnded { try end(namespace, id, at: time) }
        return try backfill(namespace, id)
    }

    func record(_ failure: BackfillFailure) throws {
        guard let before = try BackfillRows.one(db, failure.namespace, failure.backfill), before.step == failure.step,
            !before.state.hasEnded, failure.isFinal || before.state == .running
        else { return }
        let update = try prepare("UPDATE backfill SET failures = ?, retry_at = ?, last_error = ?, state = ? WHERE id = ?")
        update.bind(1, failure.failures)
        update.bind(2, failure.retryAt)
        update.bind(3, failure.error)
        update.bind(4, failure.isFinal ? BackfillState.failed.rawValue : before.state.rawValue)
        update.bind(5, failure.backfill)
        try update.run()
        if failure.dropsPageState { try run("UPDATE backfill SET page_state = NULL WHERE id = ?", failure.backfill.rawValue) }
        if failure.isFinal { try end(failure.namespace, failure.backfill, at: failure.at) }
    }

    /// From now on dedup keys of its trigger may be forgotten again; the keys that were compared with are removed piece by piece.
    func end(_ namespace: NamespaceID, _ id: BackfillID, at time: Timestamp) throws {
        try run("UPDATE backfill SET ended_at = ?, page_state = NULL, retry_at = NULL WHERE id = ?", time.milliseconds, id.rawValue)
        // A negative number: the keys, and not the differences.
        try discard(namespace, .backfills, -id.rawValue)
    }

    // MARK: Removing

    private func forgetBackfills(_ namespace: NamespaceID, of trigger: TriggerID, at time: Timestamp) throws {
        let old = try prepare(
            """
            SELECT id FROM backfill WHERE ns = ?1 AND trigger_id = ?2 AND ended_at IS NOT NULL
                AND (ended_at < ?3 OR id NOT IN (SELECT id FROM backfill WHERE ns = ?1 AND trigger_id = ?2 ORDER BY id DESC LIMIT ?4))
            """)
        old.bind(1, namespace)
        old.bind(2, trigger)
        old.bind(3, time - Transaction.endedKept)
        old.bind(4, Transaction.perTriggerKept)
        for id in try old.all({ $0.int(0) }) { try removeBackfill(namespace, id) }
    }

    func removeBackfills(_ namespace: NamespaceID, of trigger: TriggerID) throws {
        let all = try prepare("SELECT id FROM backfill WHERE ns = ? AND trigger_id = ?")
        all.bind(1, namespace)
        all.bind(2, trigger)
        for id in try all.all({ $0.int(0) }) { try removeBackfill(namespace, id) }
    }

    private func removeBackfill(_ namespace: NamespaceID, _ id: Int64) throws {
        try run("DELETE FROM backfill WHERE id = ?", id)
        try discard(namespace, .backfills, id)
    }

    /// Returns how many rows went.
    func removeBackfillRows(_ target: Int64, limit: Int) throws -> Int {
        let keys = try prepare(
            """
            DELETE FROM backfill_key WHERE backfill_id = ?1 AND key IN (
                SELECT key FROM backfill_key WHERE backfill_id = ?1 ORDER BY key LIMIT ?2)
            """)
        keys.bind(1, abs(target))
        keys.bind(2, limit)
        try keys.run()
        let removed = keys.changes
        guard target > 0, removed < limit else { return removed }
        let differences = try prepare(
            """
            DELETE FROM backfill_difference WHERE backfill_id = ?1 AND (kind, key) IN (
                SELECT kind, key FROM backfill_difference WHERE backfill_id = ?1 ORDER BY kind, key LIMIT ?2)
            """)
        differences.bind(1, target)
        differences.bind(2, limit - removed)
        try differences.run()
        return removed + differences.changes
    }
}
