import GRDB
import SluiceCore
import SluiceStore

/// Jobs in the order of their commits.
enum JobRows {
    static func page(_ db: Database, _ query: JobQuery) throws -> JobPage {
        let after = try query.after.map { try JobToken($0, namespace: query.namespace) }
        let limit = max(1, query.limit)
        let statement = try prepare(db, query, after: after)
        statement.bind(5, limit + 1)
        var jobs: [StoredJob] = []
        var bytes = 0
        var more = false
        defer { statement.reset() }
        while try statement.step() {
            let job = read(statement, query.namespace, includesRecord: query.includesRecords)
            if jobs.count == limit || (!jobs.isEmpty && bytes + job.record.count > query.bytesMax) {
                more = true
                break
            }
            bytes += job.record.count
            jobs.append(job)
        }
        return JobPage(jobs: jobs, next: jobs.last?.token ?? query.after ?? JobToken.start(query.namespace).text, more: more)
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
    static func read(_ row: Prepared, _ namespace: NamespaceID, includesRecord: Bool = true) -> StoredJob {
        let trigger: TriggerID = row.id(1)
        let position: JobPosition = row.id(2)
        return StoredJob(
            trigger: trigger, position: position,
            token: JobToken(namespace: namespace, sequence: row.int(0), trigger: trigger, position: position).text,
            dedupKey: row.bytes(3), record: includesRecord ? row.bytes(7) : [], isDerived: row.int(4) & 1 != 0,
            isDeletion: row.int(4) & 2 != 0, cause: PollCause(rawValue: row.text(5)) ?? .manual, createdAt: row.time(6))
    }

    static func quarantine(_ db: Database, _ namespace: NamespaceID, _ trigger: TriggerID, limit: Int) throws -> [QuarantinedRecord] {
        let query = try Prepared(
            db, "SELECT bytes, reason, digest FROM quarantine WHERE ns = ? AND trigger_id = ? ORDER BY id DESC LIMIT ?")
        query.bind(1, namespace)
        query.bind(2, trigger)
        query.bind(3, limit)
        return try query.all { QuarantinedRecord(bytes: $0.bytes(0), reason: $0.text(1), digest: $0.bytes(2)) }
    }
}
