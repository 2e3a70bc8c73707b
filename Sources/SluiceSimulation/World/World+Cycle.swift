import SluiceConnectors
import SluiceCore
import SluiceStore

/// What a cycle runner does, one step an event, so that a process can crash between any two.
extension World {
    static let requestSpanMax = Span.seconds(30)

    func advance(_ node: Node, _ number: Int) {
        guard var cycle = node.cycles.removeValue(forKey: number) else { return }
        var next: Timestamp?
        switch cycle.phase {
        case .open: next = open(&cycle, node)
        case .request: next = request(&cycle, node)
        case .serve:
            let reply = serve(cycle)
            cycle.phase = .receive(reply)
            next = reply == nil ? now + World.requestSpanMax : now + .milliseconds(random.milliseconds(5...200))
        case .receive(let reply): next = received(reply, &cycle, node)
        case .commit(let chunk): next = commit(chunk, &cycle, node)
        case .nextPage: next = nextPage(&cycle, node)
        case .finish(let outcome): next = finish(outcome, &cycle, node)
        case .reload:
            note("process \(node.number) reloads trigger \(cycle.start.trigger)")
            let index = Int(cycle.start.trigger.rawValue)
            put(node, index, stored: stored(index))
            if node === holder { monitor.reloaded(index, isRunning: node.isRunning(cycle.start.trigger), store: store) }
            pump(node)
        }
        guard let next, node.isAlive else { return }
        node.cycles[number] = cycle
        queue.schedule(.cycle(node: node.number, cycle: number), at: next)
    }

    private func soon() -> Timestamp { now + .milliseconds(random.milliseconds(0...20)) }

    private func open(_ cycle: inout RunningCycle, _ node: Node) -> Timestamp? {
        let index = Int(cycle.start.trigger.rawValue)
        if !isStoreReadable {
            let open = cycle.start.isContinuation ? cycle.start.cycle : nil
            return end(&cycle, .failed(openCycle: open, delay: .seconds(30)))
        }
        let trigger = store.triggers[index]
        cycle.generation = trigger.generation
        cycle.cursor = trigger.progress.cursor
        cycle.storedMark = trigger.progress.cursorMark
        cycle.slice = CycleSlice(
            cycle: cycle.start.cycle, barrenPages: node.barrenPages[cycle.start.trigger] ?? 0, limits: scenario.slice, at: now)
        cycle.phase = .request
        return soon()
    }

    private func pollRequest(_ cycle: RunningCycle) -> PollRequest {
        PollRequest(
            triggerType: "list", connection: connectionFields, input: input, cursor: cycle.cursor, pageState: cycle.slice.cycle.pageState,
            readBound: cycle.slice.cycle.readBound)
    }

    private func request(_ cycle: inout RunningCycle, _ node: Node) -> Timestamp? {
        if let wait = node.budgets[cycle.connection].take(at: now) {
            monitor.occurred(.budgetWaited)
            cycle.budgetWaits += 1
            if wait > .seconds(5) || cycle.budgetWaits > 1000 {
                let error = SluiceError(.rateLimited, "the provider asked this connection to wait")
                return fail(PollFailure(.rateLimited, error, retryAfter: wait), &cycle, node)
            }
            return now + wait
        }
        cycle.phase = .serve
        return now + .milliseconds(random.milliseconds(5...200))
    }

    /// The provider answers; nil if it never does.
    private func serve(_ cycle: RunningCycle) -> HTTPReply? {
        if refusedCredentials.contains(cycle.connection) {
            monitor.occurred(.credentialsRefused)
            return provider.reply(401, "{}", at: now)
        }
        if brokenFeeds.contains(cycle.resource) {
            monitor.occurred(.feedBroken)
            return provider.reply(random.chance(0.5) ? 400 : 422, "{}", at: now)
        }
        if !isCalm, random.chance(scenario.requestFaultShare) {
            switch random.int(0...3) {
            case 0:
                monitor.occurred(.serverError)
                return provider.reply(500, "{}", at: now)
            case 1:
                monitor.occurred(.rateLimited)
                return provider.reply(429, "{}", retryAfterSeconds: random.chance(0.8) ? random.int(1...40) : nil, at: now)
            case 2:
                monitor.occurred(.timeout)
                return nil
            default:
                if cycle.slice.cycle.pageState != nil {
                    monitor.occurred(.pageTokenExpired)
                    return provider.reply(400, "{}", at: now)
                }
            }
        }
        do {
            let plan = try polls[cycle.resource].nextRequest(pollRequest(cycle))
            return provider.answer(plan.url, resource: cycle.resource, at: now)
        } catch {
            monitor.violate(.final_converged, "a request could not be made: \(error)", at: now)
            return nil
        }
    }

    private func received(_ reply: HTTPReply?, _ cycle: inout RunningCycle, _ node: Node) -> Timestamp? {
        do throws(PollFailure) {
            guard let reply else { throw PollFailure(.transient, SluiceError(.providerUnreachable, "no whole answer from the provider")) }
            try check(reply, cycle, node)
            let request = pollRequest(cycle)
            let page = try polls[cycle.resource].page(from: reply, for: request)
            let (keyed, changes) = try key(page, rules[cycle.resource])
            cycle.before = cycle.slice.cycle
            do {
                try cycle.slice.read(pageState: page.pageState, more: page.more)
            } catch {
                throw PollFailure(.permanent, error)
            }
            cycle.movedCursor = page.cursor != nil && page.cursor != cycle.cursor
            if let cursor = page.cursor { cycle.cursor = cursor }
            (cycle.page, cycle.keyed, cycle.changes, cycle.jobsInPage) = (page, keyed, changes, 0)
            note("trigger \(cycle.start.trigger) read page \(cycle.before.nextPage): changes \(changes)\(page.more ? ", more" : ", the last")")
            // The next page may be asked for before this one is committed.
            if page.more, random.chance(0.5), node.budgets[cycle.connection].take(at: now) == nil { cycle.ahead = serve(cycle) }
            cycle.phase = .commit(chunk: 0)
            if reaches(.crashBeforeCommit, .crashBeforeCommit) { return nil }
            return soon()
        } catch {
            return fail(error, &cycle, node)
        }
    }

    /// Statuses that mean the same everywhere.
    private func check(_ reply: HTTPReply, _ cycle: RunningCycle, _ node: Node) throws(PollFailure) {
        let wait = reply.headers.first("Retry-After").flatMap { Int64($0) }.map { Span.seconds($0) }
        if let wait { node.budgets[cycle.connection].block(until: now + wait) }
        switch reply.status {
        case 429: throw PollFailure(.rateLimited, SluiceError(.rateLimited, "the provider limits our requests"), retryAfter: wait)
        case 401, 403: throw PollFailure(.unauthorized, SluiceError(.providerAuth, "the provider refuses the credentials"))
        case 500...599: throw PollFailure(.transient, SluiceError(.providerStatus, "the provider fails"), retryAfter: wait)
        default: break
        }
    }

    private func key(_ page: PollPage, _ rules: Incremental) throws(PollFailure) -> ([KeyedRecord], [Int]) {
        var keyed: [KeyedRecord] = []
        var changes: [Int] = []
        for (index, key) in rules.dedupKeys(records: page.records).enumerated() {
            guard case .success(let bytes) = key, let at = bytes.lastIndex(of: UInt8(ascii: "@")),
                let change = Int(String(decoding: bytes[(at + 1)...], as: UTF8.self))
            else { throw PollFailure(.permanent, SluiceError(.connector, "a record has no key")) }
            keyed.append(KeyedRecord(record: page.records[index], dedupKey: bytes, mark: index < page.marks.count ? page.marks[index] : nil))
            changes.append(change)
        }
        return (keyed, changes)
    }

    // MARK: Commits

    private func commit(_ chunk: Int, _ cycle: inout RunningCycle, _ node: Node) -> Timestamp? {
        guard let page = cycle.page else { return nil }
        if node === holder { reachesCommit(chunk, cycle.start.trigger) }
        let size = scenario.recordsPerCommitMax
        let chunks = max(1, (cycle.keyed.count + size - 1) / size)
        let isLast = chunk == chunks - 1
        let range = chunk * size..<min(cycle.keyed.count, (chunk + 1) * size)
        let commit = PageCommit(
            fence: node.fence, trigger: cycle.start.trigger, generation: cycle.generation, cycle: cycle.before.number,
            page: cycle.before.nextPage, chunk: chunk, cause: cycle.before.cause, records: Array(cycle.keyed[range]),
            completion: isLast ? completion(page, cycle) : nil, at: now)
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
            if reaches(.crashBetweenChunks, .crashBetweenChunks) { return nil }
            return soon()
        }
        return committed(page, &cycle, node)
    }

    private func commitOnce(_ commit: PageCommit, _ changes: [Int], _ cycle: RunningCycle, _ node: Node) -> PageOutcome {
        let generation = store.triggers[Int(commit.trigger.rawValue)].generation
        let (outcome, jobs) = store.commitPage(commit, changes: changes)
        note("commit of cycle \(commit.cycle) page \(commit.page) chunk \(commit.chunk) by process \(node.number): \(outcome), new jobs \(jobs)")
        guard case .committed = outcome else { return outcome }
        monitor.committed(
            commit, jobs: jobs, readBound: cycle.before.readBound, isByHolder: node === holder && commit.generation == generation, world: self)
        return outcome
    }

    private func completion(_ page: PollPage, _ cycle: RunningCycle) -> PageCompletion {
        let after = cycle.slice.cycle
        guard !page.more else { return PageCompletion(cursor: page.cursor, cursorMark: page.cursorMark, openCycle: after) }
        let floor = DedupRetention.floor(committedMark: page.cursorMark ?? cycle.storedMark, lookback: rules[cycle.resource].lookback)
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

    private func nextPage(_ cycle: inout RunningCycle, _ node: Node) -> Timestamp? {
        if let ahead = cycle.ahead {
            cycle.ahead = nil
            cycle.phase = .receive(ahead)
            return ahead == nil ? now + World.requestSpanMax : now
        }
        cycle.phase = .request
        return now
    }

    // MARK: Ends

    private func end(_ cycle: inout RunningCycle, _ outcome: TriggerSchedule.Outcome) -> Timestamp {
        cycle.phase = .finish(outcome)
        return soon()
    }

    private func succeeded(_ cycle: RunningCycle, _ node: Node) {
        let connection = ConnectionID(Int64(cycle.connection))
        if node.schedule.isRefused(connection) {
            node.schedule.setRefused(connection, probeAt: nil)
            node.blockedUntil[cycle.connection] = nil
            store.refusedConnections.remove(cycle.connection)
        }
        let index = Int(cycle.start.trigger.rawValue)
        if store.triggers[index].state == .failed, node === holder { report(index, .recovered) }
    }

    private func fail(_ failure: PollFailure, _ cycle: inout RunningCycle, _ node: Node) -> Timestamp? {
        let trigger = cycle.start.trigger
        let index = Int(trigger.rawValue)
        let open = cycle.slice.cycle.nextPage > 0 && isStoreReadable ? store.triggers[index].progress.openCycle : nil
        let failures = (node.schedule.schedule(of: trigger)?.failures ?? 0) + 1
        let delay = max(failure.retryAfter ?? .zero, Backoff.delay(failures: failures, random: random.unit()))
        let kept = failure.kind == .pageStateExpired ? nil : open
        note("trigger \(index) fails for the \(failures). time: \(failure.error.message); again in \(delay)")
        if !isStoreFailing {
            let record = CycleFailure(
                fence: node.fence, trigger: trigger, generation: cycle.generation, cause: cycle.start.cycle.cause,
                startedAt: cycle.start.cycle.startedAt, error: failure.error, failures: failures, retryAt: now + delay,
                dropsOpenCycle: kept == nil, at: now)
            if let reason = store.recordFailure(record) {
                if reason == .leaseLost { monitor.occurred(.leaseLostInCycle) }
                return end(&cycle, .fenced)
            }
        }
        if failure.kind == .rateLimited, let wait = failure.retryAfter {
            node.schedule.block(ConnectionID(Int64(cycle.connection)), until: now + wait)
            node.blockedUntil[cycle.connection] = max(node.blockedUntil[cycle.connection] ?? now, now + wait)
        }
        consequences(of: failure, failures: failures, cycle, node)
        return end(&cycle, .failed(openCycle: kept, delay: delay))
    }

    private func consequences(of failure: PollFailure, failures: Int, _ cycle: RunningCycle, _ node: Node) {
        let connection = ConnectionID(Int64(cycle.connection))
        let index = Int(cycle.start.trigger.rawValue)
        switch failure.kind {
        case .unauthorized where failures >= 2 || node.schedule.isRefused(connection):
            let probeAt = now + timing(index).safetyInterval
            node.schedule.setRefused(connection, probeAt: probeAt)
            node.blockedUntil[cycle.connection] = probeAt
            store.refusedConnections.insert(cycle.connection)
        case .badCursor, .permanent:
            guard failure.kind == .badCursor || failures >= 3, node === holder else { return }
            report(index, .failedForGood(reason: failure.error.description))
        default: break
        }
    }

    private func finish(_ outcome: TriggerSchedule.Outcome, _ cycle: inout RunningCycle, _ node: Node) -> Timestamp? {
        let trigger = cycle.start.trigger
        node.ended(trigger, connection: cycle.connection)
        node.schedule.finish(trigger, outcome, at: now)
        if node === holder { monitor.finished(trigger, outcome, store: store, at: now) }
        if mutant == .clearDirtyAtEnd, case .succeeded = outcome { clearDirty(node, Int(trigger.rawValue)) }
        if node === holder { monitor.checkCovered(trigger, node.schedule.schedule(of: trigger)?.covered ?? .zero, at: now) }
        pump(node)
        guard case .fenced = outcome else { return nil }
        cycle.phase = .reload
        return soon()
    }

    /// A mutant's doing.
    private func clearDirty(_ node: Node, _ index: Int) {
        var stored = self.stored(index)
        stored.covered = node.schedule.lastSignal(TriggerID(Int64(index)))
        put(node, index, stored: stored)
    }
}
