import Logging
import SluiceConnectors
import SluiceCore
import SluiceStore

/// Runs one slice of one cycle: fetch a page, commit it, go on. The next page is fetched while this one is committed.
struct CycleRunner {
    let service: PollingService
    let start: Schedule.Start

    /// Whose slice it is, and the right to commit it. Behind a reference, as all that is large here: ten thousand may be held at
    /// once, and each copy in a function that waits takes its room in each of them.
    private final class Standing: Sendable {
        let fence: Fence
        let trigger: StoredTrigger
        let timing: TriggerSchedule.Timing

        init(_ fence: Fence, _ trigger: StoredTrigger, _ timing: TriggerSchedule.Timing) {
            (self.fence, self.trigger, self.timing) = (fence, trigger, timing)
        }
    }

    private final class Planned: Sendable {
        let plan: PollPlan

        init(_ plan: PollPlan) { self.plan = plan }
    }

    /// What the slice needs and does not change.
    private final class Context: Sendable {
        let standing: Standing
        let planned: Planned
        let http: any HTTPSending
        /// What the trigger holds at its provider; nil where nothing is to be held.
        let slot: HeldSlot?
        let keys: SliceKeys

        init(_ standing: Standing, _ planned: Planned, _ keys: SliceKeys, _ http: any HTTPSending, _ slot: HeldSlot?) {
            (self.standing, self.planned, self.keys, self.http, self.slot) = (standing, planned, keys, http, slot)
        }

        var plan: PollPlan { planned.plan }

        var fence: Fence { standing.fence }
        var trigger: StoredTrigger { standing.trigger }
        var timing: TriggerSchedule.Timing { standing.timing }
    }

    /// What a slice goes on with.
    private final class Work {
        let context: Context
        var slice: CycleSlice
        var cursor: [UInt8]?

        init(_ context: Context, _ slice: CycleSlice) {
            (self.context, self.slice, cursor) = (context, slice, context.trigger.progress.cursor)
        }
    }

    private enum Beginning {
        case over(TriggerSchedule.Outcome)
        case ready(Work)
    }

    /// In steps that are functions of their own: what waits for a provider holds little.
    @inline(never)
    func run() async -> TriggerSchedule.Outcome {
        switch await begin() {
        case .over(let outcome): return outcome
        case .ready(let work): return await goOn(work)
        }
    }

    @inline(never)
    private func begin() async -> Beginning {
        let standing: Standing
        do {
            guard let found = try await stand() else { return .over(.fenced) }
            standing = found
        } catch {
            return .over(unknown(error, openCycle: openBefore))
        }
        do {
            return .ready(work(try await context(standing)))
        } catch {
            // Mended here, by loading a connector or a key, and not at the provider: tried again, never given up.
            let failure = PollFailure(.transient, PollFailure.classify(error).error)
            return .over(await failed(failure, standing, connectionName: nil, openCycle: openBefore))
        }
    }

    private var openBefore: OpenCycle? { start.cycle.nextPage > 0 ? start.cycle : nil }

    @inline(never)
    private func context(_ standing: Standing) async throws -> Context {
        let planned = try planned(standing)
        if hasUsualKeys(standing, planned) { return context(standing, planned, SliceKeys()) }
        return context(standing, planned, try await changedKeys(standing, planned))
    }

    @inline(never)
    private func planned(_ standing: Standing) throws -> Planned { Planned(try service.catalogue.plan(for: standing.trigger)) }

    @inline(never)
    private func hasUsualKeys(_ standing: Standing, _ planned: Planned) -> Bool {
        let origin = PollingService.keyOrigin(standing.trigger.progress, planned.plan.connector.definition)
        return origin == standing.trigger.progress.keyOrigin && origin.formers.isEmpty
    }

    @inline(never)
    private func changedKeys(_ standing: Standing, _ planned: Planned) async throws -> SliceKeys {
        try await service.sliceKeys(standing.trigger, planned.plan.connector)
    }

    @inline(never)
    private func work(_ context: Context) -> Work {
        var cycle = start.cycle
        if cycle.nextPage == 0 { watchForGap(context) }
        // A changed connector may not understand the other's page state: it begins again from the cursor, in the same cycle.
        let connector = identity(context.plan.connector)
        if cycle.nextPage > 0, cycle.connector != connector { cycle.pageState = nil }
        cycle.connector = connector
        let barren = service.state.withLock { $0.barrenPages[start.trigger] ?? 0 }
        let slice = CycleSlice(cycle: cycle, barrenPages: barren, limits: service.limits.slice, at: service.time.now())
        return Work(context, slice)
    }

    @inline(never)
    private func goOn(_ work: Work) async -> TriggerSchedule.Outcome {
        do {
            let outcome = try await pages(work)
            dropStream(after: outcome, work)
            return outcome
        } catch let failure as PollFailure where failure.isHeldBack {
            let outcome = await heldBack(failure, work.slice)
            dropStream(after: outcome, work)
            return outcome
        } catch {
            return await broken(error, work)
        }
    }

    /// What was taken from a stream and not committed has to be asked for again, from the cursor: the next slice must not go on behind it.
    private func dropStream(after outcome: TriggerSchedule.Outcome, _ work: Work) {
        switch outcome {
        case .yielded, .fenced: work.context.slot?.dropStream()
        case .succeeded, .quiet, .failed: break
        }
    }

    @inline(never)
    private func broken(_ error: any Error, _ work: Work) async -> TriggerSchedule.Outcome {
        let context = work.context
        context.slot?.dropStream()
        if context.slot?.isReleased == true { return .quiet }
        // What was committed is the open cycle to go on with; a first page that failed leaves none.
        let committed = work.slice.cycle.nextPage > 0 ? try? await service.store.trigger(start.trigger)?.progress.openCycle : nil
        return await failed(error, context.standing, connectionName: context.plan.connectionName, openCycle: committed ?? nil)
    }

    /// The connection's budget is used up: the cycle goes on once there is some again.
    @inline(never)
    private func heldBack(_ failure: PollFailure, _ slice: CycleSlice) async -> TriggerSchedule.Outcome {
        let until = service.time.now() + (failure.retryAfter ?? .seconds(5))
        service.blocked(start.connection, until: until)
        guard slice.cycle.nextPage > 0 else { return .yielded(start.cycle, notBefore: until) }
        guard let committed = try? await service.store.trigger(start.trigger)?.progress.openCycle else { return .fenced }
        return .yielded(committed, notBefore: until)
    }

    /// The trigger as it is now. Nil if it is gone, or was changed after the schedule decided: what the slice would go on with
    /// is no longer true then, and the generation read now would let its commits pass.
    @inline(never)
    private func stand() async throws -> Standing? {
        guard let fence = service.state.withLock({ $0.fence }) else { return nil }
        return standing(fence, try await service.store.trigger(start.trigger))
    }

    @inline(never)
    private func standing(_ fence: Fence, _ found: StoredTrigger?) -> Standing? {
        guard let found, found.state.polls || found.state == .failed, isAsDecided(found.progress) else { return nil }
        return Standing(fence, found, service.catalogue.timing(of: found))
    }

    private func isAsDecided(_ progress: TriggerProgress) -> Bool {
        guard start.cycle.nextPage > 0 else { return start.cycle.number > progress.lastCycle }
        guard let open = progress.openCycle else { return false }
        return (open.number, open.nextPage) == (start.cycle.number, start.cycle.nextPage) && open.pageState == start.cycle.pageState
    }

    @inline(never)
    private func context(_ standing: Standing, _ planned: Planned, _ keys: SliceKeys) -> Context {
        let lane = service.lane(standing.trigger.connection)
        guard start.cycle.cause == .hold, let slot = service.state.withLock({ $0.held[start.trigger] }) else {
            return Context(standing, planned, keys, lane, nil)
        }
        return Context(standing, planned, keys, HeldHTTP(polls: lane, slot: slot), slot)
    }

    /// The source may have dropped what changed since the last success, for example while the trigger was paused (P7).
    private func watchForGap(_ context: Context) {
        let (name, progress) = (context.trigger.name, context.trigger.progress)
        guard progress.cursor != nil else { return service.alarms.clear(.gap, subject: "trigger \(name)") }
        guard let kept = context.plan.triggerType.retention, let last = progress.lastSuccessAt, start.cycle.startedAt - last > kept else {
            return
        }
        warn(
            .gap, context,
            "its last success was at \(last), and the source keeps what it lists for \(kept) only: changes before \(start.cycle.startedAt - kept) "
                + "may be missing. `sluice trigger cursor reset \(name)` reads everything that is left")
    }

    private func identity(_ connector: any Connector) -> String {
        let definition = connector.definition
        return "\(definition.name)@\(definition.version)#\(definition.hash.prefix(12))"
    }

    // MARK: Pages

    @inline(never)
    private func pages(_ work: Work) async throws -> TriggerSchedule.Outcome {
        let first = try await fetch(work.slice.cycle, cursor: work.cursor, work.context)
        return isQuiet(first, work.cursor, work.context) ? .quiet : try await pages(from: first, work)
    }

    @inline(never)
    private func pages(from first: PollPage, _ work: Work) async throws -> TriggerSchedule.Outcome {
        let context = work.context
        var fetched = first
        var hasMoved = false
        while true {
            let page = fetched
            let before = work.slice.cycle
            try work.slice.read(pageState: page.pageState, more: page.more)
            let movedCursor = page.cursor != nil && page.cursor != work.cursor
            hasMoved = hasMoved || movedCursor
            if let next = page.cursor { work.cursor = next }
            let after = work.slice.cycle
            let nextCursor = work.cursor
            // Fetching and parsing the next page overlaps with committing this one.
            async let ahead: PollPage? = page.more ? await fetch(after, cursor: nextCursor, context) : nil
            let committed = try await commit(page, of: before, after: after, context)
            guard case .committed(let jobs) = committed else { return .fenced }
            let step = work.slice.committed(jobs: jobs, movedCursor: movedCursor, more: page.more, at: service.time.now())
            let barren = work.slice.barrenPages
            service.state.withLock { $0.barrenPages[start.trigger] = page.more && barren > 0 ? barren : nil }
            switch step {
            case .nextPage:
                guard let next = try await ahead else { return .succeeded }
                fetched = next
            case .yield(let notBefore): return .yielded(work.slice.cycle, notBefore: notBefore)
            case .rest(let until):
                warn(
                    .triggerResting, context,
                    "it read \(service.limits.slice.barrenPagesMax) pages in a row without a job and rests until \(until)")
                return .yielded(work.slice.cycle, notBefore: until)
            case .end:
                await succeeded(context)
                return context.slot != nil && work.slice.cycle.jobs == 0 && !hasMoved ? .quiet : .succeeded
            }
        }
    }

    /// A held request that brought nothing is not worth a commit, but that all is well is, now and then.
    private func isQuiet(_ page: PollPage, _ cursor: [UInt8]?, _ context: Context) -> Bool {
        guard context.slot != nil, start.cycle.nextPage == 0, page.records.isEmpty, page.warnings.isEmpty, !page.more,
            page.cursor == nil || page.cursor == cursor, let last = context.trigger.progress.lastSuccessAt
        else { return false }
        return service.time.now() - last < service.limits.quietSpanMax
    }

    @inline(never)
    private func fetch(_ cycle: OpenCycle, cursor: [UInt8]?, _ context: Context) async throws -> PollPage {
        let request = request(cycle, cursor: cursor, context)
        let page = try await answer(to: request, cursor: cursor, context)
        try PageKeys.check(page, recordsMax: request.recordsMax)
        return page
    }

    @inline(never)
    private func request(_ cycle: OpenCycle, cursor: [UInt8]?, _ context: Context) -> PollRequest {
        var request = PollRequest(
            triggerType: context.trigger.type, connection: context.plan.connection, input: context.plan.input, cursor: cursor,
            pageState: cycle.pageState, readBound: cycle.readBound, now: service.time.now())
        request.formerRules = context.keys.rules(context.trigger.type)
        request.forgottenBelow = context.trigger.progress.forgottenBelow
        request.dedupFloor = context.trigger.progress.dedupFloor
        if context.slot != nil { request.recordsMax = PollLimits.recordsPerHeldAnswerMax }
        return request
    }

    @inline(never)
    private func answer(to request: PollRequest, cursor: [UInt8]?, _ context: Context) async throws -> PollPage {
        if context.slot != nil { return try await context.plan.connector.longPoll(request, http: context.http) }
        guard context.plan.triggerType.kind == .webhook else { return try await context.plan.connector.poll(request, http: context.http) }
        return try await InboxPoll(store: service.store, trigger: context.trigger, plan: context.plan).page(cursor: cursor)
    }

    private enum Committed {
        case committed(jobs: Int)
        case fenced
    }

    /// Commits a page, a large one in chunks; the last chunk moves the cursor.
    private func commit(_ page: PollPage, of cycle: OpenCycle, after: OpenCycle, _ context: Context) async throws -> Committed {
        var (records, quarantined) = try PageKeys.keyed(
            page, triggerType: context.trigger.type, context.plan.connector, formers: context.keys.formerKeys(page, context.trigger.type))
        records = try await withoutStale(records, of: page, context)
        var (chunk, first, jobs) = (0, 0, 0)
        repeat {
            let size = max(1, min(service.limits.recordsPerCommitMax, service.store.recordsPerCommit))
            let end = min(records.count, first + size)
            let isLast = end == records.count
            let commit = PageCommit(
                fence: context.fence, trigger: start.trigger, generation: context.trigger.generation, cycle: cycle.number,
                page: cycle.nextPage, chunk: chunk, cause: cycle.cause,
                records: Array(records[first..<end]),
                quarantined: isLast ? quarantined : [], completion: isLast ? completion(page, after: after, context) : nil,
                at: service.time.now(), keyOrigin: context.keys.changed)
            switch try await service.store.commitPage(commit) {
            case .committed(let new, _): jobs += new
            case .repeated: break
            case .fenced(let reason):
                service.logger.info(
                    "a commit was fenced", metadata: ["trigger": "\(context.trigger.name)", "reason": "\(reason.rawValue)"])
                service.fenced(reason)
                return .fenced
            }
            (chunk, first) = (chunk + 1, end)
        } while first < records.count
        if !quarantined.isEmpty { await service.tellOfQuarantine(context.trigger) }
        let scrubber = page.warnings.isEmpty ? nil : service.scrubber(of: start.connection)
        for (index, warning) in page.warnings.lazy.map({ scrubber?.scrubbed($0) ?? $0 }).enumerated() {
            if index < 5 { service.logger.warning("\(warning)", metadata: ["trigger": "\(context.trigger.name)"]) }
            // It stands until somebody has read everything again: no later poll can find what is gone.
            if warning.hasPrefix("gap:") { warn(.gap, context, warning) }
            if warning.hasPrefix(PollPage.leftOutPrefix) { warn(.partitionsLeftOut, context, warning) }
        }
        if !page.more, !page.warnings.contains(where: { $0.hasPrefix(PollPage.leftOutPrefix) }) {
            service.alarms.clear(.partitionsLeftOut, subject: "trigger \(context.trigger.name)")
        }
        return .committed(jobs: jobs)
    }

    /// The records without the former keys under which another state of them became a job: that they changed since is news.
    private func withoutStale(_ records: [KeyedRecord], of page: PollPage, _ context: Context) async throws -> [KeyedRecord] {
        let asked = records.filter { !$0.formerKeys.isEmpty }
        guard !asked.isEmpty else { return records }
        let jobs = try await service.store.formerJobs(
            context.trigger.id, asked.map { FormerLookup(key: $0.dedupKey, formers: $0.formerKeys) },
            jobsMax: FormerKeys.jobsLookedThroughMax)
        let prefix = (page.epoch.map { Array("\($0)/".utf8) } ?? []) + (page.keyPrefix ?? [])
        return FormerKeys.withoutStale(records, jobs) { held in
            guard page.keys == nil || page.keyPrefix != nil,
                let keys = try? context.plan.connector.dedupKeys(triggerType: context.trigger.type, records: held)
            else { return [] }
            return Incremental.telling(keys).map { $0.map { prefix + $0 } }
        }
    }

    private func completion(_ page: PollPage, after: OpenCycle, _ context: Context) -> PageCompletion {
        guard !page.more else { return PageCompletion(cursor: page.cursor, cursorMark: page.cursorMark, openCycle: after) }
        let type = context.plan.triggerType
        let lookback = type.kind == .webhook ? max(type.lookback, WebhookKeys.kept.milliseconds) : type.lookback
        let keptLonger = context.plan.connector.incremental(triggerType: type.name)?.keysKeptLonger ?? 0
        let floor = DedupRetention.floor(
            committedMark: page.cursorMark ?? context.trigger.progress.cursorMark, lookback: max(lookback, keptLonger))
        let nextSafety = after.startedAt + context.timing.safetyInterval
        let end = CycleEnd(
            cause: after.cause, startedAt: after.startedAt, coveredSequence: after.notedSequence,
            safetyDueAt: context.slot == nil ? nextSafety : context.trigger.progress.safetyDueAt ?? nextSafety, dedupFloor: floor,
            agesKeys: agesKeys(context))
        return PageCompletion(cursor: page.cursor, cursorMark: page.cursorMark, end: end)
    }

    /// Keys without a mark are kept for a number of cycles. Held answers may come by the hundred: one a minute counts. And what comes
    /// again only once a position has expired, as it does after weeks, is to be known then: two hundred times six hours.
    private func agesKeys(_ context: Context) -> Bool {
        let whenReadOnce: Span? = context.plan.triggerType.readsOnce ? .hours(6) : nil
        guard let spacing = context.slot != nil ? .minutes(1) : whenReadOnce else { return true }
        let now = service.time.now()
        return service.state.withLock { state in
            if let last = state.agedKeysAt[start.trigger], now - last < spacing { return false }
            state.agedKeysAt[start.trigger] = now
            return true
        }
    }

    // MARK: Ends

    private func succeeded(_ context: Context) async {
        let subject = "trigger \(context.trigger.name)"
        service.alarms.clear(.triggerFailing, subject: subject)
        service.alarms.clear(.triggerResting, subject: subject)
        service.state.withLock { state in
            state.streaks[start.trigger] = nil
            if start.lane != .inbox { state.doubts[start.connection, default: CredentialDoubt()].succeeded() }
        }
        // The inbox says nothing about the provider.
        if start.lane != .inbox, service.state.withLock({ $0.schedule.isRefused(start.connection) }) {
            service.state.withLock { $0.schedule.setRefused(start.connection, probeAt: nil) }
            service.alarms.clear(.connectionRefused, subject: "connection \(context.plan.connectionName)")
            await setConnectionProblem(context.plan.connectionName, nil)
        }
        if context.trigger.state == .failed { await setState(context.trigger, .recovered) }
    }

    /// The store could not be read, so nothing can be recorded in it either.
    private func unknown(_ error: any Error, openCycle: OpenCycle?) -> TriggerSchedule.Outcome {
        if error is CancellationError || Task.isCancelled { return .fenced }
        service.logger.error(
            "a poll could not begin", metadata: ["trigger": "\(start.trigger)", "error": "\(told(error).error)"])
        return .failed(openCycle: openCycle, delay: .seconds(30))
    }

    private func failed(
        _ error: any Error, _ standing: Standing, connectionName: String?, openCycle: OpenCycle?
    ) async -> TriggerSchedule.Outcome {
        if error is CancellationError || Task.isCancelled { return .fenced }
        let failure = told(error)
        let now = service.time.now()
        let (failures, streak) = count(failure)
        // While each try gets further, or finds something before its place in the list expires, there is no reason to wait longer.
        let madeHeadway =
            openCycle?.nextPage ?? 0 > start.cycle.nextPage || failure.kind == .pageStateExpired && openCycle?.jobs ?? 0 > 0
        let backoff = Backoff.delay(failures: madeHeadway ? 1 : failures, random: service.random())
        let delay = max(failure.retryAfter ?? .zero, backoff)
        // A page token that died may be refused in words that nobody foresaw: it must not be asked with for ever.
        let isStuck = failure.kind == .permanent && streak >= service.limits.stuckFailuresMax
        let kept = failure.kind == .pageStateExpired || isStuck ? nil : openCycle
        service.logger.warning(
            "a poll failed", metadata: ["trigger": "\(standing.trigger.name)", "failures": "\(failures)", "error": "\(failure.error)"])
        let record = CycleFailure(
            fence: standing.fence, trigger: start.trigger, generation: standing.trigger.generation, cause: start.cycle.cause,
            startedAt: start.cycle.startedAt, error: failure.error, failures: failures, retryAt: now + delay,
            dropsOpenCycle: kept == nil, at: now)
        do {
            if case .fenced(let reason) = try await service.store.recordFailure(record) {
                service.fenced(reason)
                return .fenced
            }
        } catch {
            service.logger.error("a failed poll could not be recorded", metadata: ["error": "\(error)"])
        }
        if failure.kind == .rateLimited, let wait = failure.retryAfter {
            service.state.withLock { $0.schedule.block(start.connection, until: now + wait) }
        }
        // One that has failed is not tried again before its next probe.
        let isProbe = standing.trigger.state == .failed
        service.alarms.raise(
            isProbe
                ? TriggerAlarms.failed(standing.trigger, reason: failure.error.message)
                : TriggerAlarms.failing(standing.trigger, failures: failures, retryAt: now + delay, failure.error))
        await consequences(of: failure, streak: streak, standing, connectionName: connectionName, at: now)
        return .failed(openCycle: kept, delay: delay)
    }

    /// What may be told of an error: providers repeat the credentials that they were shown.
    private func told(_ error: any Error) -> PollFailure {
        PollFailure.classify(error).scrubbed(by: service.scrubber(of: start.connection))
    }

    /// Failures in a row with this one, and those of its kind.
    private func count(_ failure: PollFailure) -> (failures: Int, streak: Int) {
        service.state.withLock { state in
            let failures = (state.schedule.schedule(of: start.trigger)?.failures ?? 0) + 1
            state.streaks[start.trigger, default: FailureStreak()].failed(failure.kind)
            return (failures, state.streaks[start.trigger]?.count ?? 1)
        }
    }

    private func consequences(
        of failure: PollFailure, streak: Int, _ standing: Standing, connectionName: String?, at now: Timestamp
    ) async {
        switch failure.kind {
        case .unauthorized where streak >= 2 || failure.isFinal || service.state.withLock({ $0.schedule.isRefused(start.connection) }):
            guard speaksOfTheConnection(failure, standing.trigger) else {
                if streak < service.limits.permanentFailuresMax { return }
                let advice = "other triggers of the connection may read: check what its credentials may do with what this one reads"
                return await setState(standing.trigger, .failedForGood(reason: "\(failure.error.description); \(advice)"))
            }
            let probeAt = now + standing.timing.safetyInterval
            service.state.withLock { $0.schedule.setRefused(start.connection, probeAt: probeAt) }
            guard let connectionName else { return }
            let message = "\(failure.error.message); until then one poll is tried each safety interval, next at \(probeAt)"
            service.alarms.raise(Alarm(kind: .connectionRefused, subject: "connection \(connectionName)", message: message))
            await setConnectionProblem(connectionName, failure.error.message)
        case .badCursor where streak >= service.limits.badCursorsMax:
            await setState(standing.trigger, .failedForGood(reason: failure.error.description))
        case .permanent where streak >= service.limits.permanentFailuresMax:
            await setState(standing.trigger, .failedForGood(reason: failure.error.description))
        default: break
        }
    }

    /// A 403 may be about what one trigger reads: then the others go on (P12).
    private func speaksOfTheConnection(_ failure: PollFailure, _ trigger: StoredTrigger) -> Bool {
        guard failure.error.context["status"] == "403", !failure.isFinal else { return true }
        return service.state.withLock { state in
            if state.schedule.isRefused(start.connection) { return true }
            let isOnly = state.schedule.triggerCount(of: start.connection) <= 1
            return state.doubts[start.connection, default: CredentialDoubt()].isConnectionRefused(
                by: start.trigger, worked: trigger.progress.lastSuccessAt != nil, isOnly: isOnly)
        }
    }

    private func setConnectionProblem(_ name: String, _ problem: String?) async {
        do {
            try await service.store.apply(
                [.setConnectionProblem(name: name, problem: problem)], namespace: .default, at: service.time.now())
        } catch {
            service.logger.error("a connection's problem could not be recorded", metadata: ["connection": "\(name)", "error": "\(error)"])
        }
    }

    private func setState(_ trigger: StoredTrigger, _ event: TriggerEvent) async {
        let next = trigger.state.after(event)
        guard next != trigger.state else { return }
        var reason: String?
        if case .failedForGood(let text) = event { reason = text }
        do {
            let change = StateChange(
                trigger: trigger.id, generation: trigger.generation, state: next, reason: reason, at: service.time.now())
            let changed = try await service.store.setState(change)
            service.triggerChanged(changed)
            service.stateChanged(changed)
            guard let reason else { return }
            service.logger.error("a trigger has failed", metadata: ["trigger": "\(trigger.name)", "reason": "\(reason)"])
            service.alarms.raise(TriggerAlarms.failed(trigger, reason: reason))
        } catch {
            service.logger.error("a trigger's state could not be recorded", metadata: ["trigger": "\(trigger.name)", "error": "\(error)"])
        }
    }

    private func warn(_ kind: Alarm.Kind, _ context: Context, _ message: String) {
        service.alarms.raise(Alarm(kind: kind, subject: "trigger \(context.trigger.name)", message: message))
    }
}

extension PollFailure {
    /// What passes by itself, or once somebody has made room: the store's troubles, and a host that cannot be looked up.
    private static let passing: Set<SluiceError.Code> = [.storage, .diskFull, .overloaded, .quarantineFull, .providerUnreachable]

    /// Any error of a poll, in the kinds that call for different answers.
    package static func classify(_ error: any Error) -> PollFailure {
        switch error {
        case let failure as PollFailure: failure
        case let error as SluiceError where error.code == .badCursor: PollFailure(.badCursor, error)
        case let error as SluiceError where passing.contains(error.code): PollFailure(.transient, error)
        case let error as SluiceError: PollFailure(.permanent, error)
        default: PollFailure(.transient, SluiceError(.internalError, "\(error)"))
        }
    }
}
