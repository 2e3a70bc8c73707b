import SluiceCore

/// What retention removed of each trigger: collected over a batch, written down with it.
///
/// A row of `removal` tells readers that are behind `max_seq` and know of no later row that they would miss jobs, and backfills
/// how far retention has come: `position` and `made_at` are the highest so far. Jobs that were held back go after later ones, so
/// a trigger has several rows, each reaching less far than the one before.
struct RemovedJobs {
    private struct Last {
        var namespace: Int64
        var sequence: Int64
        var position: Int64
        var madeAt: Timestamp
    }

    private var last: [Int64: Last] = [:]

    /// With their namespaces.
    var triggers: [(trigger: Int64, namespace: Int64)] { last.map { ($0.key, $0.value.namespace) } }

    /// In the order of their sequences.
    mutating func note(_ trigger: Int64, namespace: Int64, _ sequence: Int64, _ position: Int64, _ madeAt: Timestamp) {
        let before = last[trigger]
        last[trigger] = Last(
            namespace: namespace, sequence: sequence, position: max(position, before?.position ?? 0),
            madeAt: max(madeAt, before?.madeAt ?? madeAt))
    }

    /// Of a trigger that was removed nothing is noted: nobody can read its jobs.
    func save(_ transaction: Transaction) throws {
        for (trigger, removed) in last {
            try transaction.run(
                """
                INSERT INTO removal (ns, trigger_id, max_seq, position, made_at)
                SELECT ?1, ?2, ?3, max(?4, coalesce(max(r.position), 0)), max(?5, coalesce(max(r.made_at), 0))
                FROM progress p LEFT JOIN removal r ON r.trigger_id = p.trigger_id WHERE p.trigger_id = ?2 GROUP BY p.trigger_id
                """, removed.namespace, trigger, removed.sequence, removed.position, removed.madeAt.milliseconds)
            try transaction.run(
                """
                DELETE FROM removal WHERE trigger_id = ?1 AND max_seq <= ?2
                    AND id < (SELECT max(id) FROM removal WHERE trigger_id = ?1)
                """, trigger, removed.sequence)
        }
    }
}
