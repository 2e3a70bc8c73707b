import SluiceCore
import SluiceStore

/// Polls: the lease, the pages, the failures.
extension Transaction {
    func acquireLease(shard: Int, holder: String, at time: Timestamp) throws -> Fence {
        let take = try prepare(
            """
            INSERT INTO lease (shard, epoch, holder, acquired_at) VALUES (?, 1, ?, ?)
            ON CONFLICT (shard) DO UPDATE SET epoch = epoch + 1, holder = excluded.holder, acquired_at = excluded.acquired_at
            RETURNING epoch
            """)
        take.bind(1, shard)
        take.bind(2, holder)
        take.bind(3, time)
        // Stepped to its end: only then is the row written.
        guard let epoch: LeaseEpoch = try take.all({ $0.id(0) as LeaseEpoch }).first else {
            throw SluiceError(.storage, "the lease was not written")
        }
        return Fence(shard: shard, epoch: epoch)
    }

    /// What a commit needs of its trigger.
    struct Standing {
        var namespace: NamespaceID
        var space: Int64
        var position: Int64
        var cyclesCompleted: Int64
        var cycle: Int64
        var page: Int64
        var isComplete: Bool
        var cycleJobs: Int
        /// Below it dedup keys are forgotten.
        var floor: Int64?
        /// The highest mark that any dedup key had.
        var markedThrough: Int64?

        mutating func noteMarks(_ records: [KeyedRecord]) {
            for case let mark? in records.lazy.map(\.mark) where mark > markedThrough ?? Int64.min { markedThrough = mark }
        }

        /// Whether this page was committed whole before. One that was only begun is read anew after a crash, a failure or a
        /// change of its trigger, and what its chunks hold may differ then: a chunk of it never counts as repeated, and the
        /// dedup keys drop what does not.
        func hasCommitted(_ commit: PageCommit) -> Bool {
            if (commit.cycle, Int64(commit.page)) != (cycle, page) { return (commit.cycle, Int64(commit.page)) < (cycle, page) }
            return isComplete
        }
    }

    /// Why a commit must not be made, or where its trigger stands. The fence is checked in the transaction it protects.
    func check(_ fence: Fence, _ trigger: TriggerID, _ generation: Generation) throws -> Result<Standing, FenceRefusal> {
        let lease = try prepare("SELECT epoch FROM lease WHERE shard = ?")
        lease.bind(1, fence.shard)
        let epoch: LeaseEpoch? = try lease.first { $0.id(0) }
        guard epoch == fence.epoch else { return .failure(FenceRefusal(reason: .leaseLost)) }
        let query = try prepare(
            """
            SELECT t.generation, p.ns, p.dedup_space, p.last_position, p.cycles_completed, p.at_cycle, p.at_page, p.at_complete,
                p.cycle_jobs, p.dedup_floor, p.marked_through
            FROM "trigger" t JOIN progress p ON p.trigger_id = t.id WHERE t.id = ?
            """)
        query.bind(1, trigger)
        let found = try query.first { row in
            (
                generation: row.id(0) as Generation,
                standing: Standing(
                    namespace: row.id(1), space: row.int(2), position: row.int(3), cyclesCompleted: row.int(4), cycle: row.int(5),
                    page: row.int(6), isComplete: row.int(7) != 0, cycleJobs: Int(row.int(8)),
                    floor: row.optionalInt(9), markedThrough: row.optionalInt(10))
            )
        }
        guard let found else { return .failure(FenceRefusal(reason: .triggerGone)) }
        guard found.generation == generation else { return .failure(FenceRefusal(reason: .triggerChanged)) }
        return .success(found.standing)
    }

    struct FenceRefusal: Error { var reason: FenceReason }

    func commitPage(_ commit: PageCommit) throws -> PageOutcome {
        var standing: Standing
        switch try check(commit.fence, commit.trigger, commit.generation) {
        case .failure(let refusal): return .fenced(refusal.reason)
        case .success(let found): standing = found
        }
        if standing.hasCommitted(commit) { return .repeated }
        let before = standing.position
        standing.noteMarks(commit.records)
        try insertJobs(commit, &standing)
        let jobs = Int(standing.position - before)
        let quarantined = try insertQuarantine(commit, standing.namespace)
        standing.cycleJobs = (commit.cycle == standing.cycle ? standing.cycleJobs : 0) + jobs
        try saveStanding(commit, standing, quarantined: quarantined)
        try lowerFloor(commit, standing)
        if let origin = commit.keyOrigin { try setKeyOrigin(origin, commit.trigger) }
        if let completion = commit.completion { try complete(commit, completion, cycleJobs: standing.cycleJobs) }
        if jobs > 0 { effects.committed(commit.trigger, at: commit.at) }
        return .committed(jobs: jobs, lastPosition: JobPosition(standing.position))
    }

    /// What lies below the floor came all the same, as from a part of the feed that was added: until the cycle has ended it may come
    /// again, so that its keys stay. The end sets the floor anew.
    private func lowerFloor(_ commit: PageCommit, _ standing: Standing) throws {
        guard let floor = standing.floor, let lowest = commit.records.lazy.compactMap(\.mark).min(), lowest < floor else { return }
        try set("dedup_floor = ?", commit.trigger) { $0.bind(1, lowest) }
    }

    private func saveStanding(_ commit: PageCommit, _ standing: Standing, quarantined: Int) throws {
        let save = try prepare(
            """
            UPDATE progress SET last_position = ?, at_cycle = ?, at_page = ?, at_complete = ?, cycle_jobs = ?,
                quarantined = quarantined + ?, marked_through = ? WHERE trigger_id = ?
            """)
        save.bind(1, standing.position)
        save.bind(2, commit.cycle)
        save.bind(3, commit.page)
        save.bind(4, commit.completion == nil ? 0 : 1)
        save.bind(5, standing.cycleJobs)
        save.bind(6, quarantined)
        save.bind(7, standing.markedThrough)
        save.bind(8, commit.trigger)
        try save.run()
    }

    /// The cursor, and the cycle's next state or its end: only ever with or after the records it passes.
    private func complete(_ commit: PageCommit, _ completion: PageCompletion, cycleJobs: Int) throws {
        guard (completion.openCycle == nil) != (completion.end == nil) else {
            throw SluiceError(.invalid, "a page's completion has either an open cycle or an end")
        }
        if let cursor = completion.cursor {
            try set("cursor = ?", commit.trigger) { $0.bind(1, cursor) }
        }
        if let mark = completion.cursorMark {
            try set("cursor_mark = ?", commit.trigger) { $0.bind(1, mark) }
        }
        if var open = completion.openCycle {
            open.jobs = cycleJobs
            let stored = OpenCycleColumn(open)
            try set("open_cycle = ?, open_page_state = ?, last_start_at = ?", commit.trigger) {
                $0.bind(1, stored.json)
                $0.bind(2, stored.pageState)
                $0.bind(3, open.startedAt)
            }
        }
        if let end = completion.end { try finish(commit, end) }
    }

    private func finish(_ commit: PageCommit, _ end: CycleEnd) throws {
        try set(
            """
            open_cycle = NULL, open_page_state = NULL, covered_sequence = max(covered_sequence, ?), cycles_completed = cycles_completed + ?,
            failures = 0, retry_at = NULL, last_error = NULL, last_start_at = ?, last_success_at = ?, safety_due_at = ?,
            dedup_floor = coalesce(?, dedup_floor), polls_by_cause = ?
            """, commit.trigger
        ) {
            $0.bind(1, end.coveredSequence)
            $0.bind(2, end.agesKeys ? 1 : 0)
            $0.bind(3, end.startedAt)
            $0.bind(4, commit.at)
            $0.bind(5, end.safetyDueAt)
            $0.bind(6, end.dedupFloor)
            $0.bind(7, try pollsByCause(commit.trigger, adding: end.cause))
        }
    }

    func recordFailure(_ failure: CycleFailure) throws -> PageOutcome {
        let standing: Standing
        switch try check(failure.fence, failure.trigger, failure.generation) {
        case .failure(let refusal): return .fenced(refusal.reason)
        case .success(let found): standing = found
        }
        try set("failures = ?, retry_at = ?, last_error = ?, last_start_at = ?, polls_by_cause = ?", failure.trigger) {
            $0.bind(1, failure.failures)
            $0.bind(2, failure.retryAt)
            $0.bind(3, failure.error.description)
            $0.bind(4, failure.startedAt)
            $0.bind(5, try pollsByCause(failure.trigger, adding: failure.cause))
        }
        if failure.dropsOpenCycle { try set("open_cycle = NULL, open_page_state = NULL", failure.trigger) { _ in } }
        return .committed(jobs: 0, lastPosition: JobPosition(standing.position))
    }

    private func set(_ columns: String, _ trigger: TriggerID, _ bind: (Prepared) throws -> Void) throws {
        let update = try prepare("UPDATE progress SET \(columns) WHERE trigger_id = ?")
        try bind(update)
        update.bind(Int32(columns.utf8.count(where: { $0 == UInt8(ascii: "?") })) + 1, trigger)
        try update.run()
    }

    private func pollsByCause(_ trigger: TriggerID, adding cause: PollCause) throws -> String {
        let query = try prepare("SELECT polls_by_cause FROM progress WHERE trigger_id = ?")
        query.bind(1, trigger)
        var polls = PollCounts.decode(try query.first { $0.bytes(0) } ?? [])
        polls[cause, default: 0] += 1
        return PollCounts.encode(polls)
    }
}
