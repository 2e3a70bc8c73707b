import SluiceCore
import SluiceStore

/// Consumers: `ConsumerMachine` decides, and here is what it knows and changes.
extension Transaction {
    /// Rows of jobs that one fetch looks through for its own.
    private static let scannedMax = 20_000
    /// Closed leases that are remembered, so that an ack that is repeated is answered truly.
    private static let leasesKept: Int64 = 10_000

    /// What a fetch was given, before its jobs are read.
    struct Selection: Sendable {
        var lease: ConsumerLease?
        var settings: [TriggerID: [UInt8]] = [:]
        var more = false
        var isAtBound = false
        var nextDueAt: Timestamp?
        var dead = 0
    }

    // MARK: Fetch

    func fetch(_ fetch: ConsumerFetch) throws -> Selection {
        var entry = try consumer(fetch.consumer, at: fetch.at)
        var selection = Selection()
        var handOut = ConsumerMachine.HandOut()
        entry.machine.release(at: fetch.at, fetch.rules)
        let find = try prepare(
            """
            SELECT length(record), trigger_id FROM job
            WHERE seq = ? AND EXISTS (SELECT 1 FROM "trigger" t WHERE t.id = job.trigger_id)
            """)
        let attached = entry.triggers
        var triggers: Set<TriggerID> = []
        selection.more = try entry.machine.takeReady(
            into: &handOut, limit: fetch.limit, bytesMax: fetch.bytesMax, at: fetch.at
        ) { job in
            find.bind(1, job)
            guard let found = try find.first({ (bytes: Int($0.int(0)), trigger: $0.id(1) as TriggerID) }) else { return .gone }
            guard attached[found.trigger] != nil else { return .detached }
            triggers.insert(found.trigger)
            return .there(bytes: found.bytes)
        }
        if !selection.more {
            let room = entry.machine.roomForNew(fetch.rules, limit: fetch.limit, handOut)
            selection.isAtBound = room == 0 && handOut.count < fetch.limit
            if room > 0 {
                selection.more = try takeNew(fetch, &entry, into: &handOut, room, &triggers)
            } else {
                selection.more = handOut.count > 0
            }
        }
        selection.settings = try settings(of: fetch.consumer, entry.namespace, triggers)
        selection.lease = entry.machine.lease(
            handOut, nonce: fetch.nonce, worker: fetch.worker, visibility: fetch.visibility, at: fetch.at)
        selection.nextDueAt = entry.machine.nextDueAt
        selection.dead = try save(fetch.consumer, &entry, at: fetch.at)
        return selection
    }

    /// Of attachments that say something.
    private func settings(
        of consumer: DestinationID, _ namespace: NamespaceID, _ triggers: Set<TriggerID>
    ) throws -> [TriggerID: [UInt8]] {
        var found: [TriggerID: [UInt8]] = [:]
        let query = try prepare(
            "SELECT settings FROM attachment WHERE ns = ? AND trigger_id = ? AND destination_id = ? AND length(settings) > 0")
        for trigger in triggers {
            query.bind(1, namespace)
            query.bind(2, trigger)
            query.bind(3, consumer)
            found[trigger] = try query.first { $0.bytes(0) }
        }
        return found
    }

    /// New jobs in the order of their commits. True: more may be there.
    private func takeNew(
        _ fetch: ConsumerFetch, _ entry: inout ConsumerCache.Entry, into handOut: inout ConsumerMachine.HandOut, _ room: Int,
        _ triggers: inout Set<TriggerID>
    ) throws -> Bool {
        guard !entry.triggers.isEmpty else { return false }
        if let newest = try newestFarAhead(of: entry) { return try takeNew(fetch, &entry, newest, into: &handOut, room, &triggers) }
        let isRewound = entry.machine.position < entry.machine.highWater
        let query = try prepare("SELECT seq, trigger_id, length(record) FROM job WHERE seq > ? ORDER BY seq LIMIT ?")
        query.bind(1, entry.machine.position)
        query.bind(2, Transaction.scannedMax)
        defer { query.reset() }
        var jobs = SequenceSet()
        var (scanned, through) = (0, entry.machine.position)
        var more = false
        while try query.step() {
            let (job, trigger, bytes) = (query.int(0), query.id(1) as TriggerID, Int(query.int(2)))
            scanned += 1
            if let after = entry.triggers[trigger], job > after, !(isRewound && entry.machine.awaits(job)) {
                if jobs.count >= room || (handOut.count + jobs.count > 0 && handOut.bytes + bytes > fetch.bytesMax) {
                    more = true
                    break
                }
                handOut.bytes += bytes
                jobs.insert(job)
                triggers.insert(trigger)
            }
            through = job
        }
        entry.machine.takeNew(jobs, through: through, into: &handOut)
        return more || scanned >= Transaction.scannedMax
    }

    // MARK: Settling

    /// A refusal is an answer, not an error: it changes nothing, so nothing must be rolled back and read anew.
    func settle(_ settlement: LeaseSettlement) throws -> Result<LeaseAnswer, SluiceError> {
        var entry = try consumer(settlement.consumer, at: settlement.at)
        let number = settlement.lease.number
        if entry.machine.leases[number] == nil, let closed = try closedLease(settlement.consumer, number) { entry.machine.recall(closed) }
        var answer: LeaseAnswer
        do {
            answer = try perform(settlement, entry.namespace, &entry.machine)
        } catch {
            entry.machine.dismiss(number)
            consumers.entries[settlement.consumer] = entry
            return .failure(error)
        }
        entry.machine.dismiss(number)
        answer.nextDueAt = entry.machine.nextDueAt
        answer.dead = try save(settlement.consumer, &entry, at: settlement.at)
        if case .sift = settlement.action, answer.settled.jobs > 0 {
            try countFiltered(settlement.consumer.rawValue, answer.settled.jobs)
        }
        if case .giveBack = settlement.action { effects.consumers.insert(settlement.consumer) }
        return .success(answer)
    }

    private func perform(
        _ settlement: LeaseSettlement, _ namespace: NamespaceID, _ machine: inout ConsumerMachine
    ) throws(SluiceError) -> LeaseAnswer {
        let (number, nonce) = (settlement.lease.number, settlement.lease.nonce)
        let jobs = try settlement.jobs.map { (tokens) throws(SluiceError) in try Transaction.sequences(tokens, namespace) }
        switch settlement.action {
        case .ack: return LeaseAnswer(settled: try machine.ack(number, nonce: nonce, jobs: jobs))
        case .nack(let delay, let reason):
            let settled = try machine.nack(
                number, nonce: nonce, jobs: jobs, delay: delay, reason: reason, at: settlement.at, settlement.rules)
            return LeaseAnswer(settled: settled)
        case .extend(let span):
            let extended = try machine.extend(number, nonce: nonce, by: span, at: settlement.at)
            return LeaseAnswer(settled: extended.settled, expiresAt: extended.expiresAt)
        case .giveBack:
            try machine.giveBack(number, nonce: nonce, at: settlement.at)
            return LeaseAnswer(settled: .init(jobs: 0, repeated: 0, inHand: 0))
        case .sift(let refused):
            var failed: [(job: Int64, detail: String)] = []
            for entry in refused { failed.append((try JobToken(entry.token, namespace: namespace).sequence, entry.detail)) }
            try machine.sift(number, nonce: nonce, skipped: jobs ?? SequenceSet(), refused: failed)
            return LeaseAnswer(settled: .init(jobs: jobs?.count ?? 0, repeated: 0, inHand: machine.leases[number]?.heldCount ?? 0))
        }
    }

    private static func sequences(_ tokens: [String], _ namespace: NamespaceID) throws(SluiceError) -> SequenceSet {
        var jobs = SequenceSet()
        for token in tokens { jobs.insert(try JobToken(token, namespace: namespace).sequence) }
        return jobs
    }

    // MARK: Seek

    /// Where a consumer went, from where, and what was unacked behind it.
    struct Seeking: Sendable {
        var namespace: NamespaceID
        var triggers: [TriggerID: Int64]
        var from: Int64
        var to: Int64
        var unackedBefore: Int
    }

    func seek(_ id: DestinationID, to target: SeekTarget, at time: Timestamp) throws -> Seeking {
        var entry = try consumer(id, at: time)
        let last = try lastNumber(.job)
        let place: Int64
        switch target {
        case .oldest: place = 0
        case .now: place = last
        case .after(let text):
            let token = try JobToken(text, namespace: entry.namespace)
            place = min(last, token.sequence)
            if try entry.triggers.keys.contains(where: { try JobRows.hasRemoved(db, entry.namespace, $0, behind: token) }) {
                throw try JobRows.gone(db, entry, after: place)
            }
        case .time(let time):
            place = try JobRows.lastSequence(db, before: time, last)
            if try entry.triggers.keys.contains(where: { try JobRows.hasRemoved(db, $0, madeFrom: time) }) {
                throw try JobRows.gone(db, entry, after: place)
            }
        }
        var unacked = SequenceSet()
        for lease in entry.machine.leases.values { unacked.insert(lease.heldJobs) }
        for group in entry.machine.returned.values { unacked.insert(group.jobs) }
        let before = place < 0 ? SequenceSet() : unacked.intersection(SequenceSet(SequenceSet.Run(0, place)))
        let seeking = Seeking(
            namespace: entry.namespace, triggers: entry.triggers, from: entry.machine.position, to: place, unackedBefore: before.count)
        entry.machine.seek(to: place, at: time)
        entry.movedAt = time
        for trigger in entry.triggers.keys { entry.triggers[trigger] = 0 }
        try run("UPDATE consumer_trigger SET after_seq = 0 WHERE destination_id = ?", id.rawValue)
        _ = try save(id, &entry, at: time)
        try regain(id)
        effects.consumers.insert(id)
        return seeking
    }

    // MARK: Reading and writing

    /// As it is now, taken out of the cache, so that a change of it copies nothing: `save` puts it back. Throws `.notFound`
    /// where there is no such consumer.
    func consumer(_ id: DestinationID, at time: Timestamp) throws -> ConsumerCache.Entry {
        if let known = consumers.entries.removeValue(forKey: id) { return known }
        let owner = try prepare("SELECT ns FROM destination WHERE id = ? AND kind = 'pull'")
        owner.bind(1, id)
        guard let namespace: NamespaceID = try owner.first({ $0.id(0) }) else {
            throw SluiceError(.notFound, "there is no such consumer any more: see `sluice consumer list`")
        }
        return try ConsumerRows.entry(db, id, namespace, newPosition: { try self.lastNumber(.job) }, at: time)
    }

    /// Stores what the machine changed; returns how many jobs became dead letters.
    @discardableResult
    func save(_ id: DestinationID, _ entry: inout ConsumerCache.Entry, at time: Timestamp) throws -> Int {
        let changes = entry.machine.unstored
        for number in changes.leases { if let lease = entry.machine.leases[number] { try put(id, lease) } }
        if changes.isHeaderChanged, entry.machine.lastLease > Transaction.leasesKept {
            try run(
                "DELETE FROM consumer_lease WHERE destination_id = ? AND number <= ? AND is_open = 0", id.rawValue,
                entry.machine.lastLease - Transaction.leasesKept)
        }
        for group in changes.returned { try put(id, group, entry.machine.returned[group]) }
        var dead = 0
        for letters in changes.dead { dead += try bury(id, entry.namespace, letters, at: time) }
        for run in changes.delivered.runs {
            try self.run(
                """
                UPDATE delivery SET state = 1, reason = NULL, settled_at = ?1, attempts = attempts + 1
                WHERE ns = ?2 AND destination_id = ?3 AND job_seq BETWEEN ?4 AND ?5 AND state = 0
                """, time.milliseconds, entry.namespace.rawValue, id.rawValue, run.first, run.last)
        }
        if changes.isHeaderChanged || entry.isNew {
            try run(
                """
                INSERT INTO consumer (destination_id, ns, position, high_water, last_lease, moved_at) VALUES (?, ?, ?, ?, ?, ?)
                ON CONFLICT DO UPDATE SET position = excluded.position, high_water = excluded.high_water,
                    last_lease = excluded.last_lease, moved_at = excluded.moved_at
                """, id.rawValue, entry.namespace.rawValue, entry.machine.position, entry.machine.highWater,
                entry.machine.lastLease, entry.movedAt.milliseconds)
            entry.isNew = false
        }
        entry.machine.stored()
        consumers.entries[id] = entry
        return dead
    }

    private func put(_ id: DestinationID, _ lease: ConsumerLease) throws {
        let put = try prepare(
            """
            INSERT INTO consumer_lease (destination_id, number, nonce, worker, taken_at, expires_at, visibility, is_open, jobs, state)
            VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
            ON CONFLICT DO UPDATE SET expires_at = excluded.expires_at, visibility = excluded.visibility, is_open = excluded.is_open,
                jobs = excluded.jobs, state = excluded.state
            """)
        put.bind(1, id)
        put.bind(2, lease.number)
        put.bind(3, lease.nonce)
        put.bind(4, lease.worker)
        put.bind(5, lease.takenAt)
        put.bind(6, lease.expiresAt)
        put.bind(7, lease.visibility.milliseconds)
        put.bind(8, lease.isOpen ? 1 : 0)
        var jobs: [UInt8] = []
        lease.jobs.encode(into: &jobs)
        put.bind(9, jobs)
        put.bind(10, LeaseColumn.encode(lease))
        try put.run()
    }

    private func put(_ id: DestinationID, _ number: Int64, _ group: ReturnedJobs?) throws {
        guard let group else { return try run("DELETE FROM consumer_returned WHERE destination_id = ? AND id = ?", id.rawValue, number) }
        let put = try prepare(
            """
            INSERT INTO consumer_returned (destination_id, id, attempts, due_at, reason, jobs) VALUES (?, ?, ?, ?, ?, ?)
            ON CONFLICT DO UPDATE SET jobs = excluded.jobs
            """)
        var jobs: [UInt8] = []
        group.jobs.encode(into: &jobs)
        put.bind(1, id)
        put.bind(2, group.id)
        put.bind(3, group.attempts)
        put.bind(4, group.dueAt)
        put.bind(5, group.reason)
        put.bind(6, jobs)
        try put.run()
    }

    private func closedLease(_ id: DestinationID, _ number: Int64) throws -> ConsumerLease? {
        let query = try prepare(ConsumerRows.leases + " WHERE destination_id = ? AND number = ?")
        query.bind(1, id)
        query.bind(2, number)
        return try query.first(ConsumerRows.lease)
    }

    // MARK: Dead letters

    /// A dead letter is a delivery like any other's. Jobs that are gone leave none.
    private func bury(_ id: DestinationID, _ namespace: NamespaceID, _ letters: ConsumerMachine.Dead, at time: Timestamp) throws -> Int {
        let find = try prepare("SELECT trigger_id, position FROM job WHERE seq = ?")
        var count = 0
        for job in letters.jobs.numbers {
            find.bind(1, job)
            guard let found = try find.first({ (trigger: $0.int(0), position: $0.int(1)) }) else { continue }
            try bury(id, namespace, job, found.trigger, found.position, letters, at: time)
            count += 1
        }
        return count
    }

    func bury(
        _ id: DestinationID, _ namespace: NamespaceID, _ job: Int64, _ trigger: Int64, _ position: Int64,
        _ letters: ConsumerMachine.Dead, at time: Timestamp
    ) throws {
        let put = try prepare(
            """
            INSERT INTO delivery (
                id, ns, destination_id, trigger_id, position, job_seq, state, next_attempt_at, attempts, reason, created_at,
                pending_since, settled_at)
            VALUES (?1, ?2, ?3, ?4, ?5, ?6, 2, ?9, ?7, ?8, ?9, ?9, ?9)
            ON CONFLICT (ns, job_seq, destination_id) DO UPDATE SET state = 2, attempts = excluded.attempts, reason = excluded.reason,
                settled_at = excluded.settled_at
            RETURNING id
            """)
        put.bind(1, try allocate(.delivery))
        put.bind(2, namespace)
        put.bind(3, id)
        put.bind(4, trigger)
        put.bind(5, position)
        put.bind(6, job)
        put.bind(7, letters.attempts)
        put.bind(8, letters.reason)
        put.bind(9, time)
        guard let delivery = try put.all({ $0.int(0) }).first, let detail = letters.detail else { return }
        let note = try prepare(
            """
            INSERT INTO attempt (ns, delivery_id, at, status, error, response, duration_milliseconds)
            VALUES (?, ?, ?, NULL, ?, zeroblob(0), 0)
            """)
        note.bind(1, namespace)
        note.bind(2, delivery)
        note.bind(3, time)
        note.bind(4, detail)
        try note.run()
    }

    /// Gives replayed dead letters of consumers back to them; those of other destinations are left alone.
    func returnToConsumers(_ letters: [(destination: DestinationID, job: Int64)], at time: Timestamp) throws {
        let kind = try prepare("SELECT 1 FROM destination WHERE id = ? AND kind = 'pull'")
        for (destination, group) in Dictionary(grouping: letters, by: \.destination) {
            kind.bind(1, destination)
            guard try kind.first({ _ in true }) != nil else { continue }
            var entry = try consumer(destination, at: time)
            entry.machine.replay(SequenceSet(group.map(\.job).sorted()), at: time)
            try save(destination, &entry, at: time)
            effects.consumers.insert(destination)
        }
    }
}
