import SluiceCore
import SluiceStore

/// Records that were set aside become jobs after all.
extension Transaction {
    func retryQuarantine(_ retry: QuarantineRetry) throws -> QuarantineRetryReport {
        var standing = try standing(of: retry)
        let which = "WHERE ns = ? AND trigger_id = ? AND digest = ? AND is_discarded = 0"
        let remove = try prepare("DELETE FROM quarantine \(which)")
        let discard = try prepare("UPDATE quarantine SET is_discarded = 1, bytes = x'' \(which)")
        func isDone(_ statement: Prepared, _ digest: [UInt8]) throws -> Bool {
            statement.bind(1, standing.namespace)
            statement.bind(2, retry.trigger)
            statement.bind(3, digest)
            try statement.run()
            return statement.changes > 0
        }
        var removed = 0
        var records: [KeyedRecord] = []
        for part in retry.records {
            guard try isDone(remove, part.digest) else { continue }
            removed += 1
            records += part.keyed
        }
        for digest in retry.discarded where try isDone(discard, digest) { removed += 1 }
        let before = standing.position
        // Only the records and the time of a commit count here: nothing of a cycle is touched.
        let commit = PageCommit(
            fence: Fence(shard: 0, epoch: LeaseEpoch(0)), trigger: retry.trigger, generation: retry.generation, cycle: standing.cycle,
            page: 0, chunk: 0, cause: .manual, records: records, completion: nil, at: retry.at)
        try insertJobs(commit, &standing)
        let jobs = Int(standing.position - before)
        try run(
            "UPDATE progress SET last_position = ?, quarantined = max(0, quarantined - ?) WHERE trigger_id = ?", standing.position,
            Int64(removed), retry.trigger.rawValue)
        if jobs > 0 { effects.committed(retry.trigger, at: retry.at) }
        return QuarantineRetryReport(jobs: jobs, removed: removed)
    }

    private func standing(of retry: QuarantineRetry) throws -> Standing {
        let query = try prepare(
            """
            SELECT t.generation, p.ns, p.dedup_space, p.last_position, p.cycles_completed, p.at_cycle
            FROM "trigger" t JOIN progress p ON p.trigger_id = t.id WHERE t.id = ?
            """)
        query.bind(1, retry.trigger)
        let found = try query.first { row in
            (
                generation: row.id(0) as Generation,
                standing: Standing(
                    namespace: row.id(1), space: row.int(2), position: row.int(3), cyclesCompleted: row.int(4), cycle: row.int(5), page: 0,
                    isComplete: false, cycleJobs: 0)
            )
        }
        guard let found else { throw SluiceError(.notFound, "the trigger is gone") }
        guard found.generation == retry.generation else {
            throw SluiceError(.conflict, "the trigger was changed meanwhile: look again")
        }
        return found.standing
    }
}
