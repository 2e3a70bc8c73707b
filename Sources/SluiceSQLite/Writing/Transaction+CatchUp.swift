import SluiceCore
import SluiceStore

/// Deliveries of kept jobs, for destinations that were attached from an earlier position; and what detaching leaves.
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
        // What the same attachment left before goes first: it must not take what is intended now.
        if try hasDetached(note) { return }
        _ = try intend(note, limit: Transaction.firstBatch, time)
    }

    private func hasDetached(_ note: CatchUpNote) throws -> Bool {
        let query = try prepare(
            """
            SELECT 1 FROM catch_up WHERE ns = ? AND trigger_id = ? AND destination_id = ? AND dead_reason IS NOT NULL AND id < ?
            """)
        query.bind(1, note.namespace)
        query.bind(2, note.trigger)
        query.bind(3, note.destination)
        query.bind(4, note.id)
        return try query.first { _ in true } != nil
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

    /// Of a note whose deliveries are there already, and are to become dead letters with the reason `detached`.
    static let detachedPending = "detached, pending"
    /// Jobs that a batch of such a note looks at: most of them were delivered long ago.
    private static let lookedAtMax = 5000

    /// What is pending at a detached destination becomes dead letters: the first of it now, the rest behind a note. Until then a claim
    /// that meets some of it does the same (`claim`), so that nothing is carried there any more.
    func detachPending(_ namespace: NamespaceID, trigger: Int64, destination: Int64, _ time: Timestamp) throws {
        let last = try prepare("SELECT last_position FROM progress WHERE trigger_id = ?")
        last.bind(1, trigger)
        let first = try prepare("SELECT min(position) FROM job WHERE ns = ? AND trigger_id = ?")
        first.bind(1, namespace)
        first.bind(2, trigger)
        guard let through = try last.first({ $0.int(0) }), let kept = try first.first({ $0.optionalInt(0) }) ?? nil else { return }
        let insert = try prepare(
            """
            INSERT INTO catch_up (ns, trigger_id, destination_id, after_position, through_position, dead_reason) VALUES (?, ?, ?, ?, ?, ?)
            """)
        insert.bind(1, namespace)
        insert.bind(2, trigger)
        insert.bind(3, destination)
        insert.bind(4, kept - 1)
        insert.bind(5, through)
        insert.bind(6, Transaction.detachedPending)
        try insert.run()
        let note = CatchUpNote(
            id: db.lastInsertedRowID, namespace: namespace, trigger: trigger, destination: destination, after: kept - 1, through: through,
            deadReason: Transaction.detachedPending)
        _ = try bury(note, limit: Transaction.firstBatch, time)
    }

    /// Up to `limit` of what a note finds pending.
    private func bury(_ note: CatchUpNote, limit: Int, _ time: Timestamp) throws -> (intended: Int, isDone: Bool) {
        let jobs = try prepare(
            """
            SELECT j.position, (
                SELECT d.id FROM delivery d WHERE d.ns = j.ns AND d.job_seq = j.seq AND d.destination_id = ?5 AND d.state = 0)
            FROM job j WHERE j.ns = ?1 AND j.trigger_id = ?2 AND j.position > ?3 AND j.position <= ?4 ORDER BY j.position LIMIT ?6
            """)
        jobs.bind(1, note.namespace)
        jobs.bind(2, note.trigger)
        jobs.bind(3, note.after)
        jobs.bind(4, note.through ?? Int64.max)
        jobs.bind(5, note.destination)
        jobs.bind(6, Transaction.lookedAtMax)
        var (pending, looked, through) = ([Int64](), 0, note.after)
        while pending.count < limit, try jobs.step() {
            (looked, through) = (looked + 1, jobs.int(0))
            if let delivery = jobs.optionalInt(1) { pending.append(delivery) }
        }
        jobs.reset()
        for delivery in pending { try detached(delivery, at: time) }
        guard looked == Transaction.lookedAtMax || pending.count == limit else {
            try run("DELETE FROM catch_up WHERE id = ?", note.id)
            if try isOrdered(trigger: note.trigger) { try settleOrder(note.namespace, trigger: note.trigger, at: time) }
            return (pending.count, true)
        }
        try run("UPDATE catch_up SET after_position = ? WHERE id = ?", through, note.id)
        return (pending.count, false)
    }

    func detached(_ delivery: Int64, at time: Timestamp) throws {
        try run(
            "UPDATE delivery SET state = 2, reason = 'detached', settled_at = ?, is_ordered = 0 WHERE id = ? AND state = 0",
            time.milliseconds,
            delivery)
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
            if note.deadReason == nil, try hasDetached(note) {
                report.isPartial = true
                continue
            }
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
        if note.deadReason == Transaction.detachedPending { return try bury(note, limit: limit, time) }
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
            if try isOrdered(trigger: note.trigger) { try settleOrder(note.namespace, trigger: note.trigger, at: time) }
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
