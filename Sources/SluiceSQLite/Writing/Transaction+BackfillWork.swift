import GRDBSQLite
import SluiceCore
import SluiceStore

/// What is known of a dedup key while a backfill lasts.
private struct BackfillFlags: OptionSet {
    let rawValue: Int64
    /// There is a job of it; it lies in the window.
    static let job = BackfillFlags(rawValue: 1)
    static let jobInWindow = BackfillFlags(rawValue: 2)
    /// The provider lists it in the window.
    static let provider = BackfillFlags(rawValue: 4)
    /// It was neither a job nor known when it was read; and a job was made of it.
    static let missing = BackfillFlags(rawValue: 8)
    static let made = BackfillFlags(rawValue: 16)
    static let quarantined = BackfillFlags(rawValue: 32)
}

/// Pieces of work of a backfill. Each is one transaction, and each key counts once: a piece that is done again, since a crash came
/// between two chunks of a page, finds its keys marked.
extension Transaction {
    func commitBackfill(_ commit: BackfillCommit) throws -> BackfillOutcome {
        let standing: Standing
        switch try check(commit.fence, commit.trigger, commit.generation) {
        case .failure(let refusal): return .fenced(refusal.reason)
        case .success(let found): standing = found
        }
        guard var backfill = try BackfillRows.one(db, commit.namespace, commit.backfill), backfill.trigger == commit.trigger,
            backfill.state == .running, backfill.step == commit.step
        else { return .stopped }
        switch commit.work {
        case .gathered(let jobs, let through, let isLast):
            try gather(jobs, &backfill)
            backfill.gathered = max(backfill.gathered, through)
            if isLast || backfill.gathered >= backfill.gatherTo { try passOn(&backfill, standing) }
        case .page(let records, let quarantined, let end):
            let redelivered = backfill.counts[.redelivered]
            try take(records, quarantined, commit, standing, &backfill)
            if backfill.counts[.redelivered] > redelivered, try isOrdered(trigger: commit.trigger.rawValue) {
                try settleOrder(standing.namespace, trigger: commit.trigger.rawValue, at: commit.at)
            }
            if let end {
                backfill.counts[.pages] += 1
                if let cursor = end.cursor { backfill.cursor = cursor }
                backfill.pageState = end.pageState
                backfill.connector = end.connector
                if end.isLast { try passOn(&backfill, standing) }
            }
        case .compared(let limit):
            if try compare(&backfill, limit: limit) == 0 {
                backfill.state = .done
                backfill.endedAt = commit.at
            }
        }
        backfill.step += 1
        try save(backfill, at: commit.at)
        return .committed(try self.backfill(commit.namespace, commit.backfill))
    }

    /// To the next phase. Jobs made since the beginning are gathered before both sides are compared.
    private func passOn(_ backfill: inout StoredBackfill, _ standing: Standing) throws {
        guard let next = backfill.phase.next else { return }
        backfill.phase = next
        if next == .gatheringNew {
            let query = try prepare("SELECT last_position FROM progress WHERE trigger_id = ?")
            query.bind(1, backfill.trigger)
            backfill.gatherTo = JobPosition(try query.first { $0.int(0) } ?? standing.position)
        }
        // Nothing is to be gathered: on at once.
        if next == .gatheringNew, backfill.gathered >= backfill.gatherTo { try passOn(&backfill, standing) }
    }

    private func save(_ backfill: StoredBackfill, at time: Timestamp) throws {
        var counts = JSONWriter()
        backfill.counts.write(to: &counts)
        let update = try prepare(
            """
            UPDATE backfill SET state = ?, phase = ?, step = ?, gathered = ?, gather_to = ?, cursor = ?, page_state = ?, connector = ?,
                counts = ?, failures = 0, retry_at = NULL, last_error = NULL, progress_at = ?, ended_at = ? WHERE id = ?
            """)
        update.bind(1, backfill.state.rawValue)
        update.bind(2, backfill.phase.rawValue)
        update.bind(3, backfill.step)
        update.bind(4, backfill.gathered)
        update.bind(5, backfill.gatherTo)
        update.bind(6, backfill.cursor)
        update.bind(7, backfill.pageState)
        update.bind(8, backfill.connector)
        update.bind(9, String(decoding: counts.bytes, as: UTF8.self))
        update.bind(10, time)
        update.bind(11, backfill.endedAt)
        update.bind(12, backfill.id)
        try update.run()
    }

    // MARK: Jobs there are

    private func gather(_ jobs: [BackfillCommit.GatheredJob], _ backfill: inout StoredBackfill) throws {
        let put = try prepare(
            """
            INSERT INTO backfill_key (backfill_id, key, flags, position) VALUES (?1, ?2, ?3, ?4)
            ON CONFLICT (backfill_id, key) DO UPDATE SET flags = flags | excluded.flags, position = excluded.position
            """)
        let isBeforePages = backfill.phase == .gathering
        for job in jobs {
            guard job.position > backfill.gathered else { continue }
            // What became a job while the pages were read is not looked for among them.
            let isInWindow = isBeforePages && job.isInWindow == true
            put.bind(1, backfill.id)
            put.bind(2, job.key)
            put.bind(3, (isInWindow ? [.job, .jobInWindow] as BackfillFlags : [.job]).rawValue)
            put.bind(4, job.position)
            try put.run()
            backfill.counts[.jobs] += 1
            if isInWindow { backfill.counts[.jobsInWindow] += 1 }
            if isBeforePages, job.isInWindow == nil { backfill.counts[.jobsUnplaced] += 1 }
        }
    }

    // MARK: Records of the provider

    private func take(
        _ records: [KeyedRecord], _ quarantined: [QuarantinedRecord], _ commit: BackfillCommit, _ standing: Standing,
        _ backfill: inout StoredBackfill
    ) throws {
        var missing: [(record: KeyedRecord, name: [UInt8])] = []
        var again: [JobPosition] = []
        for keyed in records {
            let known = try knownName(backfill.id, keyed)
            let (flags, position) = (known.flags, known.position)
            // Read before: on a page that overlaps, or before a crash.
            if flags.contains(.provider) { continue }
            backfill.counts[.provider] += 1
            if keyed.mark == BackfillCommit.unplacedMark { backfill.counts[.unplaced] += 1 }
            let isLaterState = try isUnnotedState(keyed, standing)
            if try !isLaterState && (flags.contains(.job) || isKnown([keyed.dedupKey] + keyed.formerKeys, standing)) {
                backfill.counts[.known] += 1
                try put(backfill.id, known.key, flags.union(.provider), position)
                if backfill.mode == .replayAll, flags.contains(.job), let position { again.append(position) }
            } else {
                backfill.counts[.missing] += 1
                let made: BackfillFlags = backfill.mode.repairs ? [.made] : []
                let name = isLaterState ? keyed.stateKey ?? keyed.dedupKey : keyed.dedupKey
                try put(backfill.id, name, (isLaterState ? [] : flags).union([.provider, .missing]).union(made), nil)
                missing.append((keyed, name))
            }
        }
        backfill.counts[.redelivered] += try redeliver(standing.namespace, commit.trigger, again, at: commit.at)
        try note(missing, standing, backfill)
        if backfill.mode.repairs { backfill.counts[.repaired] += try repair(missing.map(\.record), commit, standing) }
        for record in quarantined {
            // No key is shorter than a digest with a zero before it, but none begins with the same bytes.
            let key = [0] + record.digest
            let flags = try flags(backfill.id, key).flags
            if flags.contains(.quarantined) { continue }
            backfill.counts[.quarantined] += 1
            try put(backfill.id, key, .quarantined, nil)
        }
        try quarantine(quarantined, commit, standing, backfill)
    }

    /// Whether it is a later state of what became a job while its version was open, and no poll has seen this state: its job is missing,
    /// though the version's key is known.
    private func isUnnotedState(_ keyed: KeyedRecord, _ standing: Standing) throws -> Bool {
        guard let stateKey = keyed.stateKey, try isKnown([keyed.openKey], standing) else { return false }
        return try !isKnown([stateKey], standing)
    }

    /// The key under which a record is known here: that of its state, its own, or a former one under which it became a job.
    private func knownName(
        _ backfill: BackfillID, _ keyed: KeyedRecord
    ) throws -> (key: [UInt8], flags: BackfillFlags, position: JobPosition?) {
        if let stateKey = keyed.stateKey {
            let state = try flags(backfill, stateKey)
            if !state.flags.isEmpty { return (stateKey, state.flags, state.position) }
        }
        let own = try flags(backfill, keyed.dedupKey)
        guard own.flags.isEmpty else { return (keyed.dedupKey, own.flags, own.position) }
        for key in keyed.formerKeys {
            let former = try flags(backfill, key)
            if former.flags.contains(.job) { return (key, former.flags, former.position) }
        }
        return (keyed.dedupKey, own.flags, own.position)
    }

    private func flags(_ backfill: BackfillID, _ key: [UInt8]) throws -> (flags: BackfillFlags, position: JobPosition?) {
        let query = try prepare("SELECT flags, position FROM backfill_key WHERE backfill_id = ? AND key = ?")
        query.bind(1, backfill)
        query.bind(2, key)
        return try query.first { (BackfillFlags(rawValue: $0.int(0)), $0.optionalInt(1).map { JobPosition($0) }) } ?? ([], nil)
    }

    private func put(_ backfill: BackfillID, _ key: [UInt8], _ flags: BackfillFlags, _ position: JobPosition?) throws {
        let put = try prepare("INSERT OR REPLACE INTO backfill_key (backfill_id, key, flags, position) VALUES (?, ?, ?, ?)")
        put.bind(1, backfill)
        put.bind(2, key)
        put.bind(3, flags.rawValue)
        put.bind(4, position?.rawValue)
        try put.run()
    }

    private func isKnown(_ keys: [[UInt8]], _ standing: Standing) throws -> Bool {
        let query = try prepare("SELECT 1 FROM dedup WHERE ns = ? AND space = ? AND key = ?")
        for key in keys {
            query.bind(1, standing.namespace)
            query.bind(2, standing.space)
            query.bind(3, key)
            if try query.first({ $0.int(0) }) != nil { return true }
        }
        return false
    }

    private func note(
        _ missing: [(record: KeyedRecord, name: [UInt8])], _ standing: Standing, _ backfill: StoredBackfill
    ) throws {
        for (index, one) in missing.enumerated() {
            let position = backfill.mode.repairs ? standing.position + Int64(index) + 1 : nil
            try difference(backfill.id, .missing, one.name, position)
        }
    }

    private func difference(_ backfill: BackfillID, _ kind: BackfillDifference.Kind, _ key: [UInt8], _ position: Int64?) throws {
        let put = try prepare("INSERT OR REPLACE INTO backfill_difference (backfill_id, kind, key, position) VALUES (?, ?, ?, ?)")
        put.bind(1, backfill)
        put.bind(2, kind.number)
        put.bind(3, key)
        put.bind(4, position)
        try put.run()
    }

    /// Jobs as a cycle makes them, with their keys and deliveries; the cycle's own standing stays as it is.
    private func repair(_ missing: [KeyedRecord], _ commit: BackfillCommit, _ standing: Standing) throws -> Int64 {
        guard !missing.isEmpty else { return 0 }
        var after = standing
        var records = missing
        if commit.hasOwnMarks { for index in records.indices { records[index].mark = nil } }
        after.noteMarks(records)
        try insertJobs(page(commit, records), &after)
        let made = after.position - standing.position
        guard made == Int64(missing.count) else {
            throw SluiceError(.storage, "the database is damaged: \(missing.count) dedup keys were absent, and \(made) could be made")
        }
        let save = try prepare("UPDATE progress SET last_position = ?, marked_through = ? WHERE trigger_id = ?")
        save.bind(1, after.position)
        save.bind(2, after.markedThrough)
        save.bind(3, commit.trigger)
        try save.run()
        effects.committed(commit.trigger, at: commit.at)
        return made
    }

    private func quarantine(
        _ records: [QuarantinedRecord], _ commit: BackfillCommit, _ standing: Standing, _ backfill: StoredBackfill
    ) throws {
        guard !records.isEmpty, backfill.mode.repairs else { return }
        let new = try insertQuarantine(page(commit, [], records), standing.namespace)
        try run("UPDATE progress SET quarantined = quarantined + ? WHERE trigger_id = ?", Int64(new), commit.trigger.rawValue)
    }

    private func page(_ commit: BackfillCommit, _ records: [KeyedRecord], _ quarantined: [QuarantinedRecord] = []) -> PageCommit {
        PageCommit(
            fence: commit.fence, trigger: commit.trigger, generation: commit.generation, cycle: 0, page: 0, chunk: 0, cause: .backfill,
            records: records, quarantined: quarantined, completion: nil, at: commit.at)
    }

    // MARK: Both sides

    /// Takes the next keys out and counts them. Returns how many there were.
    private func compare(_ backfill: inout StoredBackfill, limit: Int) throws -> Int {
        let query = try prepare("SELECT key, flags, position FROM backfill_key WHERE backfill_id = ? ORDER BY key LIMIT ?")
        query.bind(1, backfill.id)
        query.bind(2, max(1, limit))
        let rows = try query.all { (key: $0.bytes(0), flags: BackfillFlags(rawValue: $0.int(1)), position: $0.optionalInt(2)) }
        guard let last = rows.last else { return 0 }
        for row in rows where !row.flags.contains(.quarantined) {
            switch (row.flags.contains(.provider), row.flags.contains(.job)) {
            case (true, true): backfill.counts[.kept] += 1
            case (true, false) where row.flags.contains(.missing) && !row.flags.contains(.made): break
            case (true, false):
                backfill.counts[.keyOnly] += 1
                try difference(backfill.id, .keyOnly, row.key, nil)
            case (false, _) where row.flags.contains(.jobInWindow):
                backfill.counts[.extra] += 1
                try difference(backfill.id, .extra, row.key, row.position)
            case (false, _): break
            }
        }
        let delete = try prepare("DELETE FROM backfill_key WHERE backfill_id = ? AND key <= ?")
        delete.bind(1, backfill.id)
        delete.bind(2, last.key)
        try delete.run()
        return rows.count
    }
}
