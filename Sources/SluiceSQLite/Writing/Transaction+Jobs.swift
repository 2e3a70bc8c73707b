import GRDBSQLite
import SluiceCore
import SluiceStore

/// What makes a page's records into jobs: the loop that decides how fast a backfill is.
extension Transaction {
    /// What makes jobs of one trigger, at one time and for one cause.
    struct JobMaking {
        fileprivate let job: Prepared
        fileprivate let delivery: Prepared
        fileprivate var destinations: [Carried]
        fileprivate let isOrdered: Bool
        fileprivate let trigger: TriggerID
        fileprivate let cause: PollCause
        fileprivate let at: Timestamp
    }

    /// Dedup key, job and deliveries of each new record; `standing.position` advances by the jobs made.
    func insertJobs(_ commit: PageCommit, _ standing: inout Standing) throws {
        guard !commit.records.isEmpty else { return }
        var making = try jobMaking(standing.namespace, commit.trigger, commit.cause, at: commit.at)
        let cycle = standing.cyclesCompleted + 1
        // While all are new, many a statement; from the first that is known on, one by one.
        var rest = commit.records[...]
        while rest.count >= PageRows.rows, try insertNew(rest.prefix(PageRows.rows), cycle: cycle, &standing, &making) {
            rest = rest.dropFirst(PageRows.rows)
        }
        let insertKey = try prepare("INSERT INTO dedup (ns, space, key, mark, last_cycle) VALUES (?, ?, ?, ?, ?) ON CONFLICT DO NOTHING")
        insertKey.bind(1, standing.namespace)
        insertKey.bind(2, standing.space)
        insertKey.bind(5, cycle)
        for keyed in rest {
            try keyed.dedupKey.withUnsafeBytes { key in
                insertKey.bindInPlace(3, key)
                insertKey.bind(4, keyed.mark)
                try insertKey.run()
                guard insertKey.changes > 0 else {
                    try refreshKey(standing, keyed.dedupKey, mark: keyed.mark, cycle: cycle)
                    guard let later = try laterState(of: keyed, standing, cycle: cycle) else { return }
                    standing.position += 1
                    return try later.withUnsafeBytes { try makeJob(of: keyed.record, key: $0, at: standing.position, &making) }
                }
                try noteOpen(keyed, standing, cycle: cycle)
                // From now on it is known by its new key as well.
                if !keyed.formerKeys.isEmpty, let former = try jobKey(keyed.formerKeys, but: keyed.dedupKey, standing) {
                    return try noteJobKey(former, of: keyed.dedupKey, standing)
                }
                standing.position += 1
                try makeJob(of: keyed.record, key: key, at: standing.position, &making)
            }
        }
    }

    /// The records' dedup keys, jobs and deliveries, if none of the records is known. False: nothing was written, take them one by one.
    private func insertNew(
        _ records: ArraySlice<KeyedRecord>, cycle: Int64, _ standing: inout Standing, _ making: inout JobMaking
    ) throws -> Bool {
        guard records.allSatisfy({ $0.formerKeys.isEmpty && $0.state?.isOpen != true }) else { return false }
        let keys = try prepare(PageRows.insertKeys)
        keys.bind(1, standing.namespace)
        keys.bind(2, standing.space)
        keys.bind(3, cycle)
        guard try PageRows.insert(records, keys: keys) else { return false }
        let jobs = try prepare(PageRows.insertJobs)
        jobs.bind(1, standing.namespace)
        jobs.bind(2, making.trigger)
        jobs.bind(3, making.cause.rawValue)
        jobs.bind(4, making.at)
        let first = try allocate(.job, records.count)
        try PageRows.insert(records, jobs: jobs, from: first, at: standing.position + 1)
        for offset in 0..<Int64(records.count) {
            try insertDeliveries(of: first + offset, at: standing.position + 1 + offset, &making)
        }
        standing.position += Int64(records.count)
        return true
    }

    /// The destinations are those that the trigger is attached to, and `own`, which the jobs go to in any case.
    func jobMaking(
        _ namespace: NamespaceID, _ trigger: TriggerID, _ cause: PollCause, and own: DestinationID? = nil, at time: Timestamp
    ) throws -> JobMaking {
        var destinations = try carriedDestinations(namespace, trigger)
        if let own { try add(own, to: &destinations, namespace) }
        let isOrdered = try isOrdered(trigger: trigger.rawValue)
        if isOrdered { try findBlocked(&destinations, namespace, trigger) }
        let job = try prepare(
            """
            INSERT INTO job (seq, ns, trigger_id, position, cause, created_at, is_derived, dedup_key, record)
            VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)
            """)
        job.bind(2, namespace)
        job.bind(3, trigger)
        job.bind(5, cause.rawValue)
        job.bind(6, time)
        let delivery = try prepare(
            """
            INSERT INTO delivery (
                id, ns, destination_id, trigger_id, position, job_seq, next_attempt_at, created_at, pending_since, is_ordered)
            VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?8, ?7, ?7, ?9)
            """)
        delivery.bind(2, namespace)
        delivery.bind(4, trigger)
        delivery.bind(7, time)
        delivery.bind(9, isOrdered ? 1 : 0)
        return JobMaking(
            job: job, delivery: delivery, destinations: destinations, isOrdered: isOrdered, trigger: trigger, cause: cause, at: time)
    }

    /// A job and its deliveries, in the order of their positions. `key` is not looked for: it must be new.
    @inline(__always)
    func makeJob(of record: Record, key: UnsafeRawBufferPointer, at position: Int64, _ making: inout JobMaking) throws {
        let sequence = try allocate(.job)
        making.job.bind(1, sequence)
        making.job.bind(4, position)
        making.job.bind(7, PageRows.marks(record))
        making.job.bindInPlace(8, key)
        try record.bytes.withUnsafeBytes { bytes in
            making.job.bindInPlace(9, bytes)
            try making.job.run()
        }
        try insertDeliveries(of: sequence, at: position, &making)
    }

    @inline(__always)
    private func insertDeliveries(of sequence: Int64, at position: Int64, _ making: inout JobMaking) throws {
        for index in making.destinations.indices where position > making.destinations[index].from {
            let dueAt = making.destinations[index].isBlocked ? Transaction.blocked : making.at
            try insertDelivery(making.delivery, making.destinations[index].id, sequence, position, dueAt)
            if making.isOrdered { making.destinations[index].isBlocked = true }
            effects.hasDeliveries = true
        }
    }

    private func insertDelivery(_ insert: Prepared, _ destination: DestinationID, _ sequence: Int64, _ position: Int64, _ dueAt: Timestamp)
        throws
    {
        insert.bind(1, try allocate(.delivery))
        insert.bind(3, destination)
        insert.bind(5, position)
        insert.bind(6, sequence)
        insert.bind(8, dueAt)
        try insert.run()
    }

    /// Under which key a record became a job that is known by a former one of its keys; nil where none is.
    private func jobKey(_ keys: [[UInt8]], but own: [UInt8], _ standing: Standing) throws -> [UInt8]? {
        let query = try prepare("SELECT job_key FROM dedup WHERE ns = ? AND space = ? AND key = ?")
        for key in keys where key != own {
            query.bind(1, standing.namespace)
            query.bind(2, standing.space)
            query.bind(3, key)
            if let known = try query.first({ $0.optionalBytes(0) }) { return known ?? key }
        }
        return nil
    }

    /// Should the record be keyed in yet another way: what became of it is found under this key.
    private func noteJobKey(_ jobKey: [UInt8], of key: [UInt8], _ standing: Standing) throws {
        let update = try prepare("UPDATE dedup SET job_key = ? WHERE ns = ? AND space = ? AND key = ?")
        update.bind(1, jobKey)
        update.bind(2, standing.namespace)
        update.bind(3, standing.space)
        update.bind(4, key)
        try update.run()
    }

    /// A key that came again stays as long as it may come once more: by its highest mark, or by when it was last returned.
    func refreshKey(_ standing: Standing, _ key: [UInt8], mark: Int64?, cycle: Int64) throws {
        let query = try prepare("SELECT mark, last_cycle FROM dedup WHERE ns = ? AND space = ? AND key = ?")
        query.bind(1, standing.namespace)
        query.bind(2, standing.space)
        query.bind(3, key)
        let stored = try query.first { (mark: $0.optionalInt(0), lastCycle: $0.int(1)) }
        guard let stored else { return }
        if let mark {
            if let before = stored.mark, before >= mark { return }
        } else if stored.mark == nil, stored.lastCycle == cycle {
            return
        }
        let update = try prepare("UPDATE dedup SET mark = ?, last_cycle = ? WHERE ns = ? AND space = ? AND key = ?")
        update.bind(1, mark)
        update.bind(2, cycle)
        update.bind(3, standing.namespace)
        update.bind(4, standing.space)
        update.bind(5, key)
        try update.run()
    }

    fileprivate struct Carried {
        var id: DestinationID
        var from: Int64
        /// Something unsettled comes before: only where the trigger is ordered.
        var isBlocked = false
    }

    private func add(_ own: DestinationID, to destinations: inout [Carried], _ namespace: NamespaceID) throws {
        if let index = destinations.firstIndex(where: { $0.id == own }) { return destinations[index].from = 0 }
        let query = try prepare("SELECT 1 FROM destination WHERE id = ? AND ns = ? AND kind <> 'pull'")
        query.bind(1, own)
        query.bind(2, namespace)
        if try query.first({ _ in true }) != nil { destinations.append(Carried(id: own, from: 0)) }
    }

    private func findBlocked(_ destinations: inout [Carried], _ namespace: NamespaceID, _ trigger: TriggerID) throws {
        for index in destinations.indices {
            destinations[index].isBlocked = try isBlocked(
                OrderedPair(namespace: namespace, destination: destinations[index].id.rawValue, trigger: trigger.rawValue))
        }
    }

    /// Without those that have yet to catch up: their note covers what is committed now.
    private func carriedDestinations(_ namespace: NamespaceID, _ trigger: TriggerID) throws -> [Carried] {
        let query = try prepare(
            """
            SELECT a.destination_id, a.from_position FROM attachment a JOIN destination d ON d.id = a.destination_id
            WHERE a.ns = ? AND a.trigger_id = ? AND d.kind <> 'pull' AND NOT EXISTS (
                SELECT 1 FROM catch_up c WHERE c.ns = a.ns AND c.trigger_id = a.trigger_id AND c.destination_id = a.destination_id
                    AND c.through_position IS NULL)
            ORDER BY a.destination_id
            """)
        query.bind(1, namespace)
        query.bind(2, trigger)
        return try query.all { Carried(id: $0.id(0), from: $0.int(1)) }
    }

    /// How many of the records were new. Throws `.quarantineFull` where there would be too many.
    func insertQuarantine(_ commit: PageCommit, _ namespace: NamespaceID) throws -> Int {
        guard !commit.quarantined.isEmpty else { return 0 }
        let insert = try prepare(
            """
            INSERT INTO quarantine (ns, trigger_id, digest, reason, bytes, created_at) VALUES (?, ?, ?, ?, ?, ?)
            ON CONFLICT DO NOTHING
            """)
        var count = 0
        for record in commit.quarantined {
            insert.bind(1, namespace)
            insert.bind(2, commit.trigger)
            insert.bind(3, record.digest)
            insert.bind(4, record.reason)
            insert.bind(5, record.bytes)
            insert.bind(6, commit.at)
            try insert.run()
            count += insert.changes
        }
        if count > 0 { try checkQuarantine(commit.trigger, namespace, new: count) }
        return count
    }

    private func checkQuarantine(_ trigger: TriggerID, _ namespace: NamespaceID, new: Int) throws {
        let before = try prepare("SELECT quarantined FROM progress WHERE trigger_id = ?")
        before.bind(1, trigger)
        let known = Int(try before.first { $0.int(0) } ?? 0)
        // However much one page holds: with nothing to give up for it, nobody could make room.
        guard known > 0 else { return }
        guard known + new <= QuarantineLimits.recordsMax else { throw QuarantineLimits.full }
        let size = try prepare(
            "SELECT coalesce(sum(length(bytes)), 0) FROM quarantine WHERE ns = ? AND trigger_id = ? AND is_discarded = 0")
        size.bind(1, namespace)
        size.bind(2, trigger)
        guard try size.first({ $0.int(0) }) ?? 0 <= QuarantineLimits.bytesMax else { throw QuarantineLimits.full }
    }
}
