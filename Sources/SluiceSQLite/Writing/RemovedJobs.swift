import SluiceCore

/// How far retention came in each trigger: collected over a batch, written down with it.
struct RemovedJobs {
    private var last: [Int64: (position: Int64, madeAt: Timestamp)] = [:]

    mutating func note(_ trigger: Int64, _ position: Int64, _ madeAt: Timestamp) {
        if let known = last[trigger], known.position >= position { return }
        last[trigger] = (position, madeAt)
    }

    func save(_ transaction: Transaction) throws {
        for (trigger, removed) in last {
            try transaction.run(
                """
                INSERT INTO removed_jobs (trigger_id, position, made_at) SELECT ?1, ?2, ?3 FROM progress WHERE trigger_id = ?1
                ON CONFLICT (trigger_id) DO UPDATE SET position = max(position, excluded.position), made_at = max(made_at, excluded.made_at)
                """, trigger, removed.position, removed.madeAt.milliseconds)
        }
    }
}
