import SluiceConnectors
import SluiceCore
import SluiceStore

/// The steps of a cycle from a page that was read to the next one, or to its end.
extension World {
    func commit(_ chunk: Int, _ cycle: inout RunningCycle, _ node: Node) -> Timestamp? {
        guard let page = cycle.page else { return nil }
        if node === holder { reachesCommit(chunk, cycle.start.trigger) }
        let first = cycle.committedRecords
        // What a store takes at once may change from one chunk to the next.
        let size = scenario.changesRecordsPerCommit ? random.int(1...scenario.recordsPerCommitMax) : scenario.recordsPerCommitMax
        let range = first..<min(cycle.keyed.count, first + size)
        let isLast = range.upperBound == cycle.keyed.count
        let commit = PageCommit(
            fence: node.fence, trigger: cycle.start.trigger, generation: cycle.generation, cycle: cycle.before.number,
            page: cycle.before.nextPage, chunk: chunk, cause: cycle.before.cause, records: Array(cycle.keyed[range]),
            completion: isLast ? completion(page, cycle) : nil, at: now, keyOrigin: cycle.keyOrigin)
        if isStoreFailing {
            monitor.occurred(.storeFailed)
            if chunk > 0 { monitor.occurred(.storeFailedBetweenChunks) }
            return fail(PollFailure(.transient, SluiceError(.diskFull, "the disk is full")), &cycle, node)
        }
        if mutant == .cursorBeforeJobs, isLast, !cycle.hasCursorCommitted {
            cycle.hasCursorCommitted = true
            store.commitCursorAlone(commit)
            monitor.cursorMayHaveMoved(commit.trigger, world: self)
            return soon()
        }
        cycle.hasCursorCommitted = false
        let changes = Array(cycle.changes[range])
        let outcome = commitOnce(commit, changes, cycle, node)
        if repeatsNextCommit, case .committed = outcome {
            repeatsNextCommit = false
            monitor.occurred(.commitRepeated)
            let before = store.triggers[Int(commit.trigger.rawValue)]
            let again = store.commitPage(commit, changes: changes)
            monitor.repeated(again.outcome, jobs: again.jobs, before: before, after: store.triggers[Int(commit.trigger.rawValue)], at: now)
        }
        switch outcome {
        case .committed(let jobs, _): cycle.jobsInPage += jobs
        case .repeated: break
        case .fenced(let reason):
            note("a commit of process \(node.number) is fenced: \(reason.rawValue)")
            if reason == .leaseLost { monitor.occurred(.leaseLostInCycle) }
            return end(&cycle, .fenced)
        }
        if !isLast {
            cycle.phase = .commit(chunk: chunk + 1)
            cycle.committedRecords = range.upperBound
            if reaches(.crashBetweenChunks, .crashBetweenChunks) { return nil }
            return soon()
        }
        return committed(page, &cycle, node)
    }

    private func commitOnce(_ commit: PageCommit, _ changes: [Int], _ cycle: RunningCycle, _ node: Node) -> PageOutcome {
        let generation = store.triggers[Int(commit.trigger.rawValue)].generation
        let (outcome, jobs) = store.commitPage(commit, changes: changes)
        note(
            "commit of cycle \(commit.cycle) page \(commit.page) chunk \(commit.chunk) by process \(node.number): \(outcome), new jobs \(jobs)"
        )
        guard case .committed = outcome else { return outcome }
        monitor.committed(
            commit, jobs: jobs, changes: changes, description: cycle.described.description, warnings: cycle.page?.warnings ?? [],
            readBound: cycle.before.readBound, isByHolder: node === holder && commit.generation == generation,
            world: self)
        return outcome
    }

    private func completion(_ page: PollPage, _ cycle: RunningCycle) -> PageCompletion {
        let after = cycle.slice.cycle
        guard !page.more else { return PageCompletion(cursor: page.cursor, cursorMark: page.cursorMark, openCycle: after) }
        let floor = DedupRetention.floor(
            committedMark: page.cursorMark ?? cycle.storedMark,
            lookback: max(cycle.described.rules.lookback, cycle.described.rules.keysKeptLonger))
        let end = CycleEnd(
            cause: after.cause, startedAt: after.startedAt, coveredSequence: after.notedSequence,
            safetyDueAt: after.startedAt + timing(Int(cycle.start.trigger.rawValue)).safetyInterval, dedupFloor: floor)
        return PageCompletion(cursor: page.cursor, cursorMark: page.cursorMark, end: end)
    }

    private func committed(_ page: PollPage, _ cycle: inout RunningCycle, _ node: Node) -> Timestamp? {
        let trigger = cycle.start.trigger
        let step = cycle.slice.committed(jobs: cycle.jobsInPage, movedCursor: cycle.movedCursor, more: page.more, at: now)
        node.barrenPages[trigger] = page.more && cycle.slice.barrenPages > 0 ? cycle.slice.barrenPages : nil
        switch step {
        case .nextPage:
            cycle.phase = .nextPage
            return soon()
        case .yield(let notBefore), .rest(let notBefore):
            monitor.occurred(.cycleYielded)
            return end(&cycle, .yielded(cycle.slice.cycle, notBefore: notBefore))
        case .end:
            if reaches(.crashBeforeFinish, .crashBeforeFinish) { return nil }
            succeeded(cycle, node)
            return end(&cycle, .succeeded)
        }
    }

    func nextPage(_ cycle: inout RunningCycle, _ node: Node) -> Timestamp? {
        if let ahead = cycle.ahead {
            cycle.ahead = nil
            cycle.phase = .receive(ahead)
            return ahead == nil ? now + World.requestSpanMax : now
        }
        cycle.phase = .request
        return now
    }
}
