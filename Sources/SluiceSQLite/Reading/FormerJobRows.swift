import GRDB
import SluiceCore
import SluiceStore

/// What became of records under the dedup keys that they had before.
enum FormerJobRows {
    static func fetch(_ db: Database, _ trigger: TriggerID, _ records: [FormerLookup], jobsMax: Int) throws -> [[UInt8]: FormerJob] {
        let progress = try Prepared(db, "SELECT ns, dedup_space FROM progress WHERE trigger_id = ?")
        progress.bind(1, trigger)
        guard let (namespace, space) = try progress.first({ ($0.int(0), $0.int(1)) }) else { return [:] }
        let query = try Prepared(db, "SELECT mark FROM dedup WHERE ns = ? AND space = ? AND key = ?")
        query.bind(1, namespace)
        query.bind(2, space)
        func known(_ key: [UInt8]) throws -> FormerJob? {
            query.bind(3, key)
            return try query.first { FormerJob(mark: $0.optionalInt(0), record: nil) }
        }
        var result: [[UInt8]: FormerJob] = [:]
        for record in records where try known(record.key) == nil {
            for former in record.formers where former != record.key && result[former] == nil {
                result[former] = try known(former)
            }
        }
        if !result.isEmpty { try addRecords(to: &result, db, namespace, trigger, jobsMax) }
        return result
    }

    /// No index leads from a key to its job: it is looked for once, after a connector changed.
    private static func addRecords(
        to result: inout [[UInt8]: FormerJob], _ db: Database, _ namespace: Int64, _ trigger: TriggerID, _ jobsMax: Int
    ) throws {
        let jobs = try Prepared(
            db, "SELECT dedup_key, record, is_derived FROM job WHERE ns = ? AND trigger_id = ? ORDER BY position DESC LIMIT ?")
        jobs.bind(1, namespace)
        jobs.bind(2, trigger)
        jobs.bind(3, jobsMax)
        defer { jobs.reset() }
        var missing = result.count
        while missing > 0, try jobs.step() {
            let key = RecordState.dedupKey(ofJob: jobs.bytes(0))
            guard var known = result[key], known.record == nil else { continue }
            known.record = Record(bytes: jobs.bytes(1)[...], isDerived: jobs.int(2) & 1 != 0, isDeletion: jobs.int(2) & 2 != 0)
            result[key] = known
            missing -= 1
        }
    }
}
