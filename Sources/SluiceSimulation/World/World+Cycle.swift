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
            let reply = serve(&cycle)
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

    func soon() -> Timestamp { now + .milliseconds(random.milliseconds(0...20)) }

    private func open(_ cycle: inout RunningCycle, _ node: Node) -> Timestamp? {
        let index = Int(cycle.start.trigger.rawValue)
        if !isStoreReadable {
            let failures = (node.schedule.schedule(of: cycle.start.trigger)?.failures ?? 0) + 1
            let delay = max(.seconds(30), Backoff.delay(failures: failures, random: random.unit()))
            return end(&cycle, .failed(openCycle: cycle.start.cycle.nextPage > 0 ? cycle.start.cycle : nil, delay: delay))
        }
        let trigger = store.triggers[index]
        guard mayGoOn(cycle.start.cycle, trigger) else { return end(&cycle, .fenced) }
        cycle.generation = trigger.generation
        cycle.cursor = trigger.progress.cursor
        cycle.storedMark = trigger.progress.cursorMark
        readDescription(&cycle, trigger.progress)
        cycle.slice = CycleSlice(
            cycle: cycle.start.cycle, barrenPages: node.barrenPages[cycle.start.trigger] ?? 0, limits: scenario.slice, at: now)
        cycle.phase = .request
        return soon()
    }

    /// The connector as it is now, and those that made keys before it.
    private func readDescription(_ cycle: inout RunningCycle, _ progress: TriggerProgress) {
        cycle.described = described[cycle.resource]
        let origin = KeyOrigin.next(
            after: progress.keyOrigin, connector: cycle.described.description.hash, marked: progress.markedThrough,
            floor: progress.dedupFloor,
            cyclesCompleted: progress.cyclesCompleted)
        cycle.keyOrigin = origin == progress.keyOrigin ? nil : origin
        let formers = origin.formers.compactMap { descriptions[cycle.resource][$0.connector]?.rules }
        cycle.formers = mutant == .forgetFormerKeys ? [] : formers
        cycle.forgottenBelow = mutant == .reachBelowForgotten ? nil : progress.forgottenBelow
        cycle.dedupFloor = progress.dedupFloor
    }

    /// Whether the trigger is still as it was when the schedule decided.
    private func mayGoOn(_ cycle: OpenCycle, _ trigger: StoreModel.Trigger) -> Bool {
        guard trigger.state.polls || trigger.state == .failed else { return false }
        guard cycle.nextPage > 0 else { return cycle.number > trigger.progress.lastCycle }
        guard let open = trigger.progress.openCycle else { return false }
        return (open.number, open.nextPage) == (cycle.number, cycle.nextPage) && open.pageState == cycle.pageState
    }

    private func pollRequest(_ cycle: RunningCycle) -> PollRequest {
        var request = PollRequest(
            triggerType: "list", connection: connectionFields, input: input, cursor: cycle.cursor, pageState: cycle.slice.cycle.pageState,
            readBound: cycle.slice.cycle.readBound)
        if mutant == .laterPartitionFromNow { request.cursor = World.laterFromNow(cycle.cursor) }
        (request.forgottenBelow, request.dedupFloor) = (cycle.forgottenBelow, cycle.dedupFloor)
        request.formerRules = cycle.formers
        return request
    }

    private func request(_ cycle: inout RunningCycle, _ node: Node) -> Timestamp? {
        do throws(PollFailure) {
            guard try ask(&cycle) else { return try read(cycle.polling?.take(nil) ?? PollPage(records: [], more: false), &cycle, node) }
        } catch {
            return fail(error, &cycle, node)
        }
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

    /// Decides on the next request of the page; whether there is one.
    private func ask(_ cycle: inout RunningCycle) throws(PollFailure) -> Bool {
        if cycle.plan != nil { return true }
        if cycle.polling == nil { cycle.polling = try PagePoll(cycle.described.rules, pollRequest(cycle)) }
        cycle.plan = try cycle.polling?.nextRequest()
        return cycle.plan != nil
    }

    /// The provider answers; nil if it never does.
    private func serve(_ cycle: inout RunningCycle) -> HTTPReply? {
        guard let url = cycle.plan?.url else { return nil }
        if refusedCredentials.contains(cycle.connection) {
            monitor.occurred(.credentialsRefused)
            return provider.reply(401, "{}", at: now)
        }
        if brokenFeeds.contains(cycle.resource) {
            monitor.occurred(.feedBroken)
            let reply = provider.reply(random.chance(0.5) ? 400 : 422, "{}", at: now)
            noteRefusal(reply, of: url, cycle)
            return reply
        }
        if !isCalm, random.chance(scenario.requestFaultShare) {
            switch random.int(0...4) {
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
                if isFurther(url, cycle) {
                    monitor.occurred(.pageTokenExpired)
                    return provider.reply(400, "{}", at: now)
                }
            }
        }
        let reply = provider.answer(url, resource: cycle.resource, at: now)
        if ProviderModel.partition(url) != nil, reply.status >= 400 {
            monitor.occurred(reply.status < 500 ? .partitionRefused : .partitionFailing)
            noteRefusal(reply, of: url, cycle)
            if mutant == .leaveOutFailing { return provider.reply(404, "{}", at: now) }
        }
        return reply
    }

    /// What the provider refuses to show is not read in this cycle; a place that it knows no more is one to begin again from.
    private func noteRefusal(_ reply: HTTPReply, of url: String, _ cycle: RunningCycle) {
        guard let number = ProviderModel.partition(url), (400..<500).contains(reply.status) else { return }
        if [400, 404, 410].contains(reply.status), isFurther(url, cycle) { return }
        monitor.refused(Int(cycle.start.trigger.rawValue), partition: number, provider: provider, at: now)
    }

    /// Whether a request names a place that the provider may know no more. A partition's first page does not.
    private func isFurther(_ url: String, _ cycle: RunningCycle) -> Bool {
        guard cycle.described.rules.partitions != nil else { return cycle.slice.cycle.pageState != nil }
        return ["offset", "after_id"].contains { ProviderModel.query(url)[$0] != nil }
    }

    private func received(_ reply: HTTPReply?, _ cycle: inout RunningCycle, _ node: Node) -> Timestamp? {
        let answer: Result<HTTPReply, PollFailure>
        do throws(PollFailure) {
            guard let reply else { throw PollFailure(.transient, SluiceError(.providerUnreachable, "no whole answer from the provider")) }
            try check(reply, cycle, node)
            answer = .success(reply)
        } catch {
            answer = .failure(error)
        }
        cycle.plan = nil
        do throws(PollFailure) {
            guard let page = try cycle.polling?.take(answer) else {
                cycle.phase = .request
                return soon()
            }
            return try read(page, &cycle, node)
        } catch {
            return fail(error, &cycle, node)
        }
    }

    /// A page is whole.
    private func read(_ page: PollPage, _ cycle: inout RunningCycle, _ node: Node) throws(PollFailure) -> Timestamp? {
        cycle.polling = nil
        let (keyed, changes) = try key(page, cycle)
        cycle.before = cycle.slice.cycle
        do {
            try cycle.slice.read(pageState: page.pageState, more: page.more)
        } catch {
            throw PollFailure(.permanent, error)
        }
        cycle.movedCursor = page.cursor != nil && page.cursor != cycle.cursor
        if let cursor = page.cursor { cycle.cursor = cursor }
        (cycle.page, cycle.keyed, cycle.changes) = (page, keyed, changes)
        (cycle.jobsInPage, cycle.committedRecords) = (0, 0)
        note(
            "trigger \(cycle.start.trigger) read page \(cycle.before.nextPage): changes \(changes)\(page.more ? ", more" : ", the last")\(page.warnings.map { "; \($0)" }.joined())"
        )
        // The next page may be asked for before this one is committed.
        if page.more, random.chance(0.5), try ask(&cycle), node.budgets[cycle.connection].take(at: now) == nil {
            cycle.ahead = serve(&cycle)
        }
        cycle.phase = .commit(chunk: 0)
        if reaches(.crashBeforeCommit, .crashBeforeCommit) { return nil }
        return soon()
    }

    /// A mutant's doing: the beginning of the partitions that are found later.
    private static func laterFromNow(_ cursor: [UInt8]?) -> [UInt8]? {
        guard let cursor, let root = try? JSONDocument(cursor).root, let positions = root["partitions"]?.members else { return cursor }
        guard let furthest = positions.map(\.1).max(by: { ($0["mark"]?.int64 ?? 0) < ($1["mark"]?.int64 ?? 0) }) else { return cursor }
        var writer = JSONWriter()
        writer.object { writer in
            for (key, value) in root.members ?? [] {
                writer.key(key)
                writer.raw(Array((key == "origin" ? furthest : value).bytes))
            }
        }
        return writer.bytes
    }

    /// Statuses that mean the same everywhere.
    private func check(_ reply: HTTPReply, _ cycle: RunningCycle, _ node: Node) throws(PollFailure) {
        let wait = reply.headers.first("Retry-After").flatMap { Int64($0) }.map { Span.seconds($0) }
        if let wait { node.budgets[cycle.connection].block(until: now + wait) }
        switch reply.status {
        case 429: throw PollFailure(.rateLimited, SluiceError(.rateLimited, "the provider limits our requests"), retryAfter: wait)
        case 401, 403:
            throw PollFailure(
                .unauthorized, SluiceError(.providerAuth, "the provider refuses the credentials").with("status", String(reply.status)))
        case 500...599: throw PollFailure(.transient, SluiceError(.providerStatus, "the provider fails"), retryAfter: wait)
        default: break
        }
    }

    /// The records with their keys and those that they had before, and the number of the change that each shows.
    private func key(_ page: PollPage, _ cycle: RunningCycle) throws(PollFailure) -> ([KeyedRecord], [Int]) {
        var keyed: [KeyedRecord] = []
        var changes: [Int] = []
        let formers = cycle.formers.map { $0.dedupKeys(records: page.records) }
        for (index, key) in (page.keys ?? cycle.described.rules.dedupKeys(records: page.records)).enumerated() {
            guard case .success(let bytes) = key, let change = World.change(of: page.records[index]) else {
                throw PollFailure(.permanent, SluiceError(.connector, "a record has no key"))
            }
            let mark = index < page.marks.count ? page.marks[index] : nil
            let before = page.keys == nil || formers.isEmpty ? formers.compactMap { try? $0[index].get() } : page.formerKeys[index]
            keyed.append(KeyedRecord(record: page.records[index], dedupKey: bytes, mark: mark, formerKeys: before.filter { $0 != bytes }))
            changes.append(change)
        }
        if cycle.formers.isEmpty || mutant == .keepStaleFormerKeys { return (keyed, changes) }
        let jobs = store.formerJobs(Int(cycle.start.trigger.rawValue), keyed)
        let kept = FormerKeys.withoutStale(keyed, jobs) { held in
            Incremental.telling(cycle.described.rules.dedupKeys(records: held)).map { $0.map { (page.keyPrefix ?? []) + $0 } }
        }
        return (kept, changes)
    }

    /// The provider shows it as the record's version.
    private static func change(of record: Record) -> Int? {
        let text = String(decoding: record.bytes, as: UTF8.self)
        return text.split(separator: "\"version\":").last.flatMap { Int($0.prefix { $0.isNumber }) }
    }

    // MARK: Ends

    func end(_ cycle: inout RunningCycle, _ outcome: TriggerSchedule.Outcome) -> Timestamp {
        cycle.phase = .finish(outcome)
        return soon()
    }

    func succeeded(_ cycle: RunningCycle, _ node: Node) {
        let connection = ConnectionID(Int64(cycle.connection))
        if node.schedule.isRefused(connection) {
            node.schedule.setRefused(connection, probeAt: nil)
            node.blockedUntil[cycle.connection] = nil
            store.refusedConnections.remove(cycle.connection)
        }
        let index = Int(cycle.start.trigger.rawValue)
        if store.triggers[index].state == .failed, node === holder { report(index, .recovered) }
    }

    func fail(_ failure: PollFailure, _ cycle: inout RunningCycle, _ node: Node) -> Timestamp? {
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
        // It may be about what one trigger reads.
        case .unauthorized where failure.error.context["status"] == "403" && !node.schedule.isRefused(connection):
            guard failures >= 3, node === holder else { return }
            report(index, .failedForGood(reason: failure.error.description))
        case .unauthorized where failures >= 2 || node.schedule.isRefused(connection):
            let probeAt = now + timing(index).safetyInterval
            node.schedule.setRefused(connection, probeAt: probeAt)
            node.blockedUntil[cycle.connection] = probeAt
            store.refusedConnections.insert(cycle.connection)
        case .badCursor, .permanent:
            guard failures >= 3, node === holder else { return }
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
