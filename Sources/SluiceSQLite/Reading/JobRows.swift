import GRDB
import SluiceCore
import SluiceStore

/// Jobs in the order of their commits.
enum JobRows {
    static func page(_ db: Database, _ query: JobQuery) throws -> JobPage {
        let after = try query.after.map { try JobToken($0, namespace: query.namespace) }
        let removals = try removals(db)
        if let after, !query.newestFirst, try hasRemoved(db, query.namespace, query.trigger, behind: after) {
            throw try gone(db, query, after, removals)
        }
        if let after, !query.newestFirst, try after.sequence > last(db) { throw ahead(query.namespace, removals) }
        let limit = max(1, query.limit)
        let statement = try prepare(db, query, after: after)
        statement.bind(5, limit + 1)
        var jobs: [StoredJob] = []
        var bytes = 0
        var more = false
        defer { statement.reset() }
        while try statement.step() {
            let job = read(statement, query.namespace, removals: removals, includesRecord: query.includesRecords)
            if jobs.count == limit || (!jobs.isEmpty && bytes + job.record.count > query.bytesMax) {
                more = true
                break
            }
            bytes += job.record.count
            jobs.append(job)
        }
        return JobPage(
            jobs: jobs, next: jobs.last?.token ?? query.after ?? JobToken.start(query.namespace, removals: removals).text, more: more)
    }

    /// Of all: by `seq`; the plus keeps SQLite from going through the index of positions and sorting all there is.
    /// Of one trigger: by position, which is the order of its commits. A token of another trigger's job tells only the
    /// place in the order of all.
    private static func prepare(_ db: Database, _ query: JobQuery, after: JobToken?) throws -> Prepared {
        let record = query.includesRecords ? "record" : "NULL"
        let columns = "SELECT seq, trigger_id, position, dedup_key, is_derived, cause, created_at, \(record) FROM job"
        let compare = query.newestFirst ? "<" : ">"
        let order = query.newestFirst ? "DESC" : "ASC"
        let everything = query.newestFirst ? Int64.max : 0
        guard let trigger = query.trigger else {
            let statement = try Prepared(
                db,
                """
                \(columns) WHERE +ns = ?1 AND seq \(compare) ?2 AND EXISTS (SELECT 1 FROM "trigger" t WHERE t.id = job.trigger_id)
                ORDER BY seq \(order) LIMIT ?5
                """)
            statement.bind(1, query.namespace)
            statement.bind(2, after?.sequence ?? everything)
            return statement
        }
        let ownsToken = after.map { $0.trigger == trigger } ?? true
        let statement = try Prepared(
            db,
            """
            \(columns) WHERE ns = ?1 AND trigger_id = ?2 AND position \(compare) ?3 AND position >= ?4
                \(ownsToken ? "" : "AND seq \(compare) ?6") AND EXISTS (SELECT 1 FROM "trigger" t WHERE t.id = job.trigger_id)
            ORDER BY position \(order) LIMIT ?5
            """)
        statement.bind(1, query.namespace)
        statement.bind(2, trigger)
        statement.bind(3, ownsToken ? after?.position.rawValue ?? everything : everything)
        statement.bind(4, query.fromPosition?.rawValue ?? 0)
        if !ownsToken { statement.bind(6, after?.sequence ?? everything) }
        return statement
    }

    /// Columns: seq, trigger_id, position, dedup_key, is_derived (bit 0: derived, bit 1: a deletion), cause, created_at, record.
    static func read(_ row: Prepared, _ namespace: NamespaceID, removals: Int64 = 0, includesRecord: Bool = true) -> StoredJob {
        let trigger: TriggerID = row.id(1)
        let position: JobPosition = row.id(2)
        return StoredJob(
            trigger: trigger, position: position,
            token: JobToken(namespace: namespace, sequence: row.int(0), trigger: trigger, position: position, removals: removals).text,
            dedupKey: row.bytes(3), record: includesRecord ? row.bytes(7) : [], isDerived: row.int(4) & 1 != 0,
            isDeletion: row.int(4) & 2 != 0, cause: PollCause(rawValue: row.text(5)) ?? .manual, createdAt: row.time(6))
    }

    // MARK: What retention removed

    /// The last removal of jobs.
    static func removals(_ db: Database) throws -> Int64 {
        try Prepared(db, "SELECT max(id) FROM removal").first { $0.optionalInt(0) }.flatMap { $0 } ?? 0
    }

    /// Whether jobs behind a token were removed since it was given, of one trigger or of any: its reader would miss them unseen.
    static func hasRemoved(_ db: Database, _ namespace: NamespaceID, _ trigger: TriggerID?, behind after: JobToken) throws -> Bool {
        let removed = try Prepared(
            db,
            """
            SELECT 1 FROM removal WHERE ns = ? AND max_seq > ? AND +id > ?\(trigger == nil ? "" : " AND trigger_id = ?") LIMIT 1
            """)
        removed.bind(1, namespace)
        removed.bind(2, after.sequence)
        removed.bind(3, after.removals)
        if let trigger { removed.bind(4, trigger) }
        return try removed.first { _ in true } ?? false
    }

    /// Whether jobs of a trigger were removed that were made then or later.
    static func hasRemoved(_ db: Database, _ trigger: TriggerID, madeFrom time: Timestamp) throws -> Bool {
        let removed = try Prepared(db, "SELECT 1 FROM removal WHERE trigger_id = ? AND made_at >= ? LIMIT 1")
        removed.bind(1, trigger)
        removed.bind(2, time)
        return try removed.first { _ in true } ?? false
    }

    /// What a consumer is told that is to go back to a place behind which jobs of its were removed.
    static func gone(_ db: Database, _ consumer: ConsumerCache.Entry, after place: Int64) throws -> SluiceError {
        var oldest: (job: Int64, position: Int64, createdAt: Timestamp)?
        let query = try Prepared(
            db, "SELECT seq, position, created_at FROM job WHERE ns = ? AND trigger_id = ? AND seq > ? ORDER BY position LIMIT 1")
        for trigger in consumer.triggers.keys {
            query.bind(1, consumer.namespace)
            query.bind(2, trigger)
            query.bind(3, place)
            guard let found = try query.first({ (job: $0.int(0), position: $0.int(1), createdAt: $0.time(2)) }) else { continue }
            if found.job < oldest?.job ?? .max { oldest = found }
        }
        let next = JobToken.place(consumer.namespace, place, removals: try removals(db)).text
        let left = oldest.map { "begins with the job of \($0.createdAt)" } ?? "are no jobs"
        var error = SluiceError(
            .pastRetention,
            "jobs behind this place were removed after their time. What is left \(left): go to `oldest`, "
                + "or go on with the token `next`; a backfill brings back the others"
        ).with("next", next)
        if let oldest { error = error.with("oldest_position", String(oldest.position)).with("oldest_at", oldest.createdAt.description) }
        return error
    }

    private static func gone(_ db: Database, _ query: JobQuery, _ after: JobToken, _ removals: Int64) throws -> SluiceError {
        var known = after
        known.removals = removals
        var rest = query
        (rest.after, rest.limit, rest.includesRecords) = (known.text, 1, false)
        let oldest = try page(db, rest).jobs.first
        var error = SluiceError(
            .pastRetention,
            "jobs behind this `after` token were removed after their time. What is left \(oldest.map { "begins with the job of \($0.createdAt)" } ?? "are no jobs"): "
                + "go on with the token `next`; the trigger's `cursor` or a backfill brings back the others"
        ).with("next", known.text)
        if let oldest { error = error.with("oldest_position", oldest.position.description).with("oldest_at", oldest.createdAt.description) }
        return error
    }

    /// No job had this number yet: the token was given by a store that had more, before a backup was restored. What came since would be
    /// passed over until the numbers are as high again.
    private static func ahead(_ namespace: NamespaceID, _ removals: Int64) -> SluiceError {
        SluiceError(
            .pastRetention,
            "this `after` token is ahead of the store, as after a backup was restored: jobs that came since may lie before it. "
                + "Go on with a token from before the backup, or with `next`, the beginning; ids tell what you have"
        ).with("next", JobToken.start(namespace, removals: removals).text)
    }

    /// The newest job's number.
    static func last(_ db: Database) throws -> Int64 {
        try Prepared(db, "SELECT value FROM counter WHERE name = 'job'").first { $0.int(0) } ?? 0
    }

    /// The last job that was made before a time, by halving: jobs are made in the order of their numbers, as far as the clock
    /// never goes back.
    static func lastSequence(_ db: Database, before time: Timestamp, _ last: Int64) throws -> Int64 {
        let query = try Prepared(db, "SELECT seq, created_at FROM job WHERE seq > ? AND seq <= ? ORDER BY seq LIMIT 1")
        var (low, high) = (Int64(0), last)
        while low < high {
            let middle = low + (high - low) / 2
            query.bind(1, middle)
            query.bind(2, high)
            let found = try query.first { (job: $0.int(0), createdAt: $0.time(1)) }
            if let found, found.createdAt < time { low = found.job } else { high = middle }
        }
        return low
    }

    static func quarantine(_ db: Database, _ namespace: NamespaceID, _ trigger: TriggerID, limit: Int) throws -> [QuarantinedRecord] {
        let query = try Prepared(
            db,
            """
            SELECT bytes, reason, digest FROM quarantine WHERE ns = ? AND trigger_id = ? AND is_discarded = 0 ORDER BY id DESC LIMIT ?
            """)
        query.bind(1, namespace)
        query.bind(2, trigger)
        query.bind(3, limit)
        return try query.all { QuarantinedRecord(bytes: $0.bytes(0), reason: $0.text(1), digest: $0.bytes(2)) }
    }
}
