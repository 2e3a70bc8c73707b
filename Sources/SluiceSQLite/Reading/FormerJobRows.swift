import GRDB
import SluiceCore
import SluiceStore

/// What became of records under the dedup keys that they had before.
enum FormerJobRows {
    static func fetch(_ db: Database, _ trigger: TriggerID, _ records: [FormerLookup], jobsMax: Int) throws -> [[UInt8]: FormerJob] {
        let progress = try Prepared(db, "SELECT ns, dedup_space FROM progress WHERE trigger_id = ?")
        progress.bind(1, trigger)
        guard let (namespace, space) = try progress.first({ ($0.int(0), $0.int(1)) }) else { return [:] }
        let query = try Prepared(db, "SELECT mark, job_key FROM dedup WHERE ns = ? AND space = ? AND key = ?")
        query.bind(1, namespace)
        query.bind(2, space)
        func known(_ key: [UInt8]) throws -> (mark: Int64?, jobKey: [UInt8])? {
            query.bind(3, key)
            return try query.first { (mark: $0.optionalInt(0), jobKey: $0.optionalBytes(1) ?? key) }
        }
        var result: [[UInt8]: FormerJob] = [:]
        var formers: [[UInt8]: [[UInt8]]] = [:]
        for record in records where try known(record.key) == nil {
            for former in record.formers where former != record.key && result[former] == nil {
                guard let found = try known(former) else { continue }
                result[former] = FormerJob(mark: found.mark, record: nil)
                formers[found.jobKey, default: []].append(former)
            }
        }
        if !result.isEmpty { try addRecords(to: &result, of: formers, db, namespace, trigger, jobsMax) }
        return result
    }

    /// No index leads from a key to its job: it is looked for once, after a connector changed. `formers`: by the key of the job.
    private static func addRecords(
        to result: inout [[UInt8]: FormerJob], of formers: [[UInt8]: [[UInt8]]], _ db: Database, _ namespace: Int64, _ trigger: TriggerID,
        _ jobsMax: Int
    ) throws {
        let jobs = try Prepared(
            db, "SELECT dedup_key, record, is_derived FROM job WHERE ns = ? AND trigger_id = ? ORDER BY position DESC LIMIT ?")
        jobs.bind(1, namespace)
        jobs.bind(2, trigger)
        jobs.bind(3, jobsMax)
        defer { jobs.reset() }
        var missing = formers
        while !missing.isEmpty, try jobs.step() {
            guard let known = missing.removeValue(forKey: RecordState.dedupKey(ofJob: jobs.bytes(0))) else { continue }
            let record = Record(bytes: jobs.bytes(1)[...], isDerived: jobs.int(2) & 1 != 0, isDeletion: jobs.int(2) & 2 != 0)
            for former in known { result[former]?.record = record }
        }
    }
}
