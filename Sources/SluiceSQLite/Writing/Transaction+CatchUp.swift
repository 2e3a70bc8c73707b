import SluiceCore
import SluiceStore

/// Deliveries of kept jobs, for destinations that were attached from an earlier position.
extension Transaction {
    /// So many at once are intended with the attachment itself.
    private static let firstBatch = 500
    /// Notes that take part in one batch.
    private static let notesMax = 50

    /// Notes that all jobs after a position are to be delivered, and intends the first of them.
    func intendKept(_ namespace: NamespaceID, trigger: Int64, destination: Int64, after: Int64, _ time: Timestamp) throws {
        let known = try prepare(
            "SELECT id FROM catch_up WHERE ns = ? AND trigger_id = ? AND destination_id = ? AND through_position IS NULL")
        known.bind(1, namespace)
        known.bind(2, trigger)
        known.bind(3, destination)
        if let id = try known.first({ $0.int(0) }) {
            return try run("UPDATE catch_up SET after_position = min(after_position, ?) WHERE id = ?", after, id)
        }
        try run(
            "INSERT INTO catch_up (ns, trigger_id, destination_id, after_position) VALUES (?, ?, ?, ?)", namespace.rawValue, trigger,
            destination, after)
        let note = CatchUpNote(
            id: db.lastInsertedRowID, namespace: namespace, trigger: trigger, destination: destination, after: after, through: nil,
            deadReason: nil)
        _ = try intend(note, limit: Transaction.firstBatch, time)
    }

    /// What was still to be intended when a destination is detached becomes dead letters as well (P9).
    func detachKept(_ namespace: NamespaceID, trigger: Int64, destination: Int64) throws {
        try run(
            """
            UPDATE catch_up SET dead_reason = 'detached',
                through_position = (SELECT last_position FROM progress p WHERE p.trigger_id = catch_up.trigger_id)
            WHERE ns = ? AND trigger_id = ? AND destination_id = ? AND dead_reason IS NULL
            """, namespace.rawValue, trigger, destination)
    }

    func catchUp(limit: Int, at time: Timestamp) throws -> CatchUpReport {
        let notes = try prepare(
            """
            SELECT id, ns, trigger_id, destination_id, after_position, through_position, dead_reason FROM catch_up
            ORDER BY id LIMIT ?
            """)
        notes.bind(1, Transaction.notesMax)
        let found = try notes.all {
            CatchUpNote(
                id: $0.int(0), namespace: $0.id(1), trigger: $0.int(2), destination: $0.int(3), after: $0.int(4),
                through: $0.optionalInt(5), deadReason: $0.optionalText(6))
        }
        var report = CatchUpReport()
        // Each gets its part: a long one keeps no other waiting.
        for note in found {
            let (intended, isDone) = try intend(note, limit: max(1, limit / found.count), time)
            report.intended += intended
            if !isDone { report.isPartial = true }
        }
        if found.count == Transaction.notesMax { report.isPartial = true }
        return report
    }

    private struct CatchUpNote {
        var id: Int64
        var namespace: NamespaceID
        var trigger: Int64
        var destination: Int64
        var after: Int64
        /// Nil: to the end, whatever is committed meanwhile.
        var through: Int64?
        var deadReason: String?
    }

    /// Up to `limit` of a note; the note goes with the last of them, in the transaction after which commits intend for themselves.
    private func intend(_ note: CatchUpNote, limit: Int, _ time: Timestamp) throws -> (intended: Int, isDone: Bool) {
        guard try isCarried(note.destination) else {
            try run("DELETE FROM catch_up WHERE id = ?", note.id)
            return (0, true)
        }
        let jobs = try prepare(
            "SELECT seq, position FROM job WHERE ns = ? AND trigger_id = ? AND position > ? AND position <= ? ORDER BY position LIMIT ?")
        jobs.bind(1, note.namespace)
        jobs.bind(2, note.trigger)
        jobs.bind(3, note.after)
        jobs.bind(4, note.through ?? Int64.max)
        jobs.bind(5, limit)
        let kept = try jobs.all { (sequence: $0.int(0), position: $0.int(1)) }
        var intended = 0
        for job in kept { intended += try insert(note, job.sequence, job.position, time) }
        if intended > 0, note.deadReason == nil {
            effects.hasDeliveries = true
            if try isOrdered(trigger: note.trigger) { try settleOrder(note.namespace, at: time) }
        }
        guard kept.count == limit, let last = kept.last else {
            try run("DELETE FROM catch_up WHERE id = ?", note.id)
            return (intended, true)
        }
        try run("UPDATE catch_up SET after_position = ? WHERE id = ?", last.position, note.id)
        return (intended, false)
    }

    private func isCarried(_ destination: Int64) throws -> Bool {
        let kind = try prepare("SELECT kind FROM destination WHERE id = ?")
        kind.bind(1, destination)
        return try kind.first { $0.text(0) }.map { $0 != "pull" } ?? false
    }

    /// 1, or 0 where the job has a delivery there already.
    private func insert(_ note: CatchUpNote, _ sequence: Int64, _ position: Int64, _ time: Timestamp) throws -> Int {
        let insert = try prepare(
            """
            INSERT INTO delivery (
                id, ns, destination_id, trigger_id, position, job_seq, next_attempt_at, created_at, pending_since, state, reason, settled_at,
                is_ordered)
            VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?7, ?7, ?8, ?9, ?10,
                CASE WHEN ?8 = 0 THEN (SELECT is_ordered FROM "trigger" WHERE id = ?4) ELSE 0 END)
            ON CONFLICT (ns, job_seq, destination_id) DO NOTHING
            """)
        insert.bind(1, try allocate(.delivery))
        insert.bind(2, note.namespace)
        insert.bind(3, note.destination)
        insert.bind(4, note.trigger)
        insert.bind(5, position)
        insert.bind(6, sequence)
        insert.bind(7, time)
        insert.bind(8, note.deadReason == nil ? 0 : 2)
        insert.bind(9, note.deadReason)
        insert.bind(10, note.deadReason == nil ? nil : time)
        try insert.run()
        return insert.changes
    }
}
