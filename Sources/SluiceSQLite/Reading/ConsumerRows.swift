import GRDB
import SluiceCore
import SluiceStore

/// Consumers as they are stored.
enum ConsumerRows {
    static let leases =
        "SELECT number, nonce, worker, taken_at, expires_at, visibility, jobs, state FROM consumer_lease"

    static func lease(_ row: Prepared) throws -> ConsumerLease {
        var bytes = row.bytes(6)[...]
        guard let jobs = SequenceSet(decoding: &bytes), let state = LeaseColumn.decode(row.bytes(7)) else {
            throw SluiceError(.storage, "the database is damaged: lease \(row.int(0)) of a consumer cannot be read")
        }
        return ConsumerLease(
            number: row.int(0), nonce: row.int(1), worker: row.optionalText(2), takenAt: row.time(3), expiresAt: row.time(4),
            visibility: Span(milliseconds: row.int(5)), jobs: jobs, held: state.held, nacked: state.nacked, lost: state.lost)
    }

    /// `newPosition`: where a consumer begins that has no row yet.
    static func entry(
        _ db: Database, _ id: DestinationID, _ namespace: NamespaceID, newPosition: () throws -> Int64, at time: Timestamp
    ) throws -> ConsumerCache.Entry {
        let header = try Prepared(db, "SELECT position, high_water, last_lease, moved_at FROM consumer WHERE destination_id = ?")
        header.bind(1, id)
        let stored = try header.first { (position: $0.int(0), highWater: $0.int(1), lastLease: $0.int(2), movedAt: $0.time(3)) }
        let open = try Prepared(db, leases + " WHERE destination_id = ? AND is_open = 1")
        open.bind(1, id)
        let back = try Prepared(db, "SELECT id, attempts, due_at, reason, jobs FROM consumer_returned WHERE destination_id = ?")
        back.bind(1, id)
        let pending = try Prepared(db, "SELECT job_seq FROM delivery WHERE state = 0 AND ns = ? AND destination_id = ?")
        pending.bind(1, namespace)
        pending.bind(2, id)
        let begins = try Prepared(db, "SELECT trigger_id, after_seq FROM consumer_trigger WHERE destination_id = ?")
        begins.bind(1, id)
        let position = try stored?.position ?? newPosition()
        let machine = ConsumerMachine(
            position: position, highWater: stored?.highWater ?? position, lastLease: stored?.lastLease ?? 0,
            leases: try open.all(lease), returned: try back.all(returned), replayed: SequenceSet(try pending.all { $0.int(0) }), at: time)
        return ConsumerCache.Entry(
            namespace: namespace,
            triggers: Dictionary(try begins.all { ($0.id(0) as TriggerID, $0.int(1)) }) { first, _ in first },
            movedAt: stored?.movedAt ?? time, machine: machine, isNew: stored == nil)
    }

    private static func returned(_ row: Prepared) throws -> ReturnedJobs {
        var bytes = row.bytes(4)[...]
        guard let jobs = SequenceSet(decoding: &bytes) else {
            throw SluiceError(.storage, "the database is damaged: jobs that come again cannot be read")
        }
        return ReturnedJobs(id: row.int(0), jobs: jobs, attempts: Int(row.int(1)), dueAt: row.time(2), reason: row.optionalText(3))
    }

    // MARK: Jobs

    static func jobs(_ db: Database, _ namespace: NamespaceID, _ jobs: SequenceSet, includesRecords: Bool = true) throws -> [StoredJob] {
        let removals = try JobRows.removals(db)
        let query = try Prepared(
            db,
            """
            SELECT seq, trigger_id, position, dedup_key, is_derived, cause, created_at, \(includesRecords ? "record" : "NULL")
            FROM job WHERE seq BETWEEN ? AND ? AND +ns = ? ORDER BY seq
            """)
        var found: [StoredJob] = []
        found.reserveCapacity(jobs.count)
        for run in jobs.runs {
            query.bind(1, run.first)
            query.bind(2, run.last)
            query.bind(3, namespace)
            found += try query.all { JobRows.read($0, namespace, removals: removals, includesRecord: includesRecords) }
        }
        return found
    }

    /// Of a fetch: each with how often it was handed out.
    static func batch(
        _ db: Database, _ selection: Transaction.Selection, _ lease: ConsumerLease, of consumer: DestinationID
    ) throws -> ConsumerBatch {
        let owner = try Prepared(db, "SELECT ns FROM destination WHERE id = ?")
        owner.bind(1, consumer)
        let namespace: NamespaceID = try owner.first { $0.id(0) } ?? .default
        var batch = selection.empty
        batch.lease = LeaseID(number: lease.number, nonce: lease.nonce)
        batch.expiresAt = lease.expiresAt
        for share in lease.held {
            batch.jobs += try jobs(db, namespace, share.jobs).map { ConsumerBatch.Job(job: $0, attempt: share.attempt) }
        }
        return batch
    }

    static func jobs(_ db: Database, of consumer: DestinationID, _ id: LeaseID) throws -> [StoredJob] {
        let query = try Prepared(db, leases + " WHERE destination_id = ? AND number = ? AND nonce = ?")
        query.bind(1, consumer)
        query.bind(2, id.number)
        query.bind(3, id.nonce)
        let owner = try Prepared(db, "SELECT ns FROM destination WHERE id = ?")
        owner.bind(1, consumer)
        guard let lease = try query.first(lease), let namespace: NamespaceID = try owner.first({ $0.id(0) }) else {
            throw ConsumerMachine.unknown
        }
        return try jobs(db, namespace, lease.jobs, includesRecords: false)
    }

    // MARK: For people

    static func list(_ db: Database, _ namespace: NamespaceID, only: DestinationID?, at time: Timestamp) throws -> [StoredConsumer] {
        let all = try Prepared(db, "SELECT id FROM destination WHERE kind = 'pull' AND ns = ? ORDER BY id")
        all.bind(1, namespace)
        return try all.all { $0.id(0) as DestinationID }.filter { only == nil || $0 == only }.map { id in
            let entry = try entry(db, id, namespace, newPosition: { try JobRows.last(db) }, at: time)
            return try stored(db, id, entry, at: time)
        }
    }

    private static func stored(
        _ db: Database, _ id: DestinationID, _ entry: ConsumerCache.Entry, at time: Timestamp
    ) throws -> StoredConsumer {
        let machine = entry.machine
        let removals = try JobRows.removals(db)
        func token(_ job: Int64) -> String { JobToken.place(entry.namespace, job, removals: removals).text }
        let leases = machine.leases.values.sorted { $0.number < $1.number }.prefix(100)
        let new = try next(db, entry, limit: StoredConsumer.backlogMax + 1)
        var oldest = new.first
        if machine.floor < machine.position { oldest = min(machine.floor + 1, oldest ?? .max) }
        return StoredConsumer(
            id: id, triggers: entry.triggers.keys.sorted(), position: token(machine.position), floor: token(machine.floor),
            unacked: machine.unacked, inHand: machine.inHand(at: time), backlog: min(new.count, StoredConsumer.backlogMax),
            oldest: try oldest.flatMap {
                try jobs(db, entry.namespace, SequenceSet(SequenceSet.Run($0, $0)), includesRecords: false).first
            },
            leases: leases.map {
                StoredConsumer.Lease(
                    id: LeaseID(number: $0.number, nonce: $0.nonce), worker: $0.worker, jobs: $0.heldCount, takenAt: $0.takenAt,
                    expiresAt: $0.expiresAt)
            })
    }

    /// The next jobs that are to be handed out, among so many of all triggers.
    private static func next(_ db: Database, _ entry: ConsumerCache.Entry, limit: Int) throws -> [Int64] {
        var found: [Int64] = []
        for (trigger, begins) in entry.triggers {
            let query = try Prepared(
                db, "SELECT seq FROM job WHERE ns = ? AND trigger_id = ? AND seq > ? ORDER BY position LIMIT ?")
            query.bind(1, entry.namespace)
            query.bind(2, trigger)
            query.bind(3, max(begins, entry.machine.position))
            query.bind(4, limit - found.count)
            found += try query.all { $0.int(0) }
            if found.count >= limit { break }
        }
        return found.sorted()
    }

    /// Of these triggers, jobs after one place and up to another.
    static func count(_ db: Database, _ seeking: Transaction.Seeking, after: Int64, through: Int64) throws -> Int {
        guard after < through else { return 0 }
        var count = 0
        for trigger in seeking.triggers.keys where count < SeekOutcome.countMax {
            let query = try Prepared(
                db,
                """
                SELECT count(*) FROM (SELECT 1 FROM job WHERE ns = ? AND trigger_id = ? AND seq > ? AND seq <= ? LIMIT ?)
                """)
            query.bind(1, seeking.namespace)
            query.bind(2, trigger)
            query.bind(3, after)
            query.bind(4, through)
            query.bind(5, SeekOutcome.countMax - count)
            count += Int(try query.first { $0.int(0) } ?? 0)
        }
        return count
    }

    static func outcome(_ db: Database, _ seeking: Transaction.Seeking) throws -> SeekOutcome {
        let new = try count(db, seeking, after: max(seeking.from, 0), through: seeking.to)
        return SeekOutcome(
            position: JobToken.place(seeking.namespace, seeking.to, removals: try JobRows.removals(db)).text,
            skipped: min(SeekOutcome.countMax, seeking.unackedBefore + new),
            again: try count(db, seeking, after: seeking.to, through: seeking.from))
    }
}

extension Transaction.Selection {
    /// Without jobs.
    var empty: ConsumerBatch {
        ConsumerBatch(
            lease: nil, expiresAt: .distantPast, jobs: [], settings: settings, more: more, isAtBound: isAtBound, nextDueAt: nextDueAt,
            dead: dead)
    }
}

/// What became of a lease's jobs: shares held, nacked, lost.
enum LeaseColumn {
    static func encode(_ lease: ConsumerLease) -> [UInt8] {
        var bytes: [UInt8] = []
        LEB128.append(Int64(lease.held.count), to: &bytes)
        for share in lease.held {
            LEB128.append(Int64(share.attempt), to: &bytes)
            share.jobs.encode(into: &bytes)
        }
        lease.nacked.encode(into: &bytes)
        lease.lost.encode(into: &bytes)
        return bytes
    }

    static func decode(_ bytes: [UInt8]) -> (held: [ConsumerLease.Share], nacked: SequenceSet, lost: SequenceSet)? {
        var rest = bytes[...]
        guard let shares = LEB128.read(&rest), shares <= Int64(bytes.count) else { return nil }
        var held: [ConsumerLease.Share] = []
        for _ in 0..<shares {
            guard let attempt = LEB128.read(&rest), let jobs = SequenceSet(decoding: &rest) else { return nil }
            held.append(ConsumerLease.Share(attempt: Int(attempt), jobs: jobs))
        }
        guard let nacked = SequenceSet(decoding: &rest), let lost = SequenceSet(decoding: &rest), rest.isEmpty else { return nil }
        return (held, nacked, lost)
    }
}
