import Logging
import SluiceConnectors
import SluiceCore
import SluiceStore

/// Goes on with one backfill, a piece of work after the other, until it ends, waits or is stopped.
struct BackfillRunner {
    let service: BackfillService
    let id: BackfillID

    /// What the pieces need and do not change.
    private struct Context {
        var fence: Fence
        var trigger: StoredTrigger
        var plan: PollPlan
        var source: BackfillSource
        let lane: PollHTTP
        var http: BackfillHTTP
        var keys: SliceKeys
    }

    private enum Ended: Error {
        /// It was stopped, or is no longer ours: what is true is in the store.
        case stopped
        /// Another process holds the lease.
        case lost
        case failed(String)
    }

    func run(_ stored: StoredBackfill) async {
        var backfill = stored
        do {
            var context = try await context(backfill)
            while !Task.isCancelled, backfill.state == .running {
                try await service.yieldToLive(backfill.connection)
                if try !isCurrent(context) { context = try await self.context(backfill) }
                let before = (counts: backfill.counts, at: service.time.now())
                switch try await work(backfill, context) {
                case .committed(let next): backfill = next
                case .stopped: throw Ended.stopped
                case .fenced(.triggerChanged):
                    // Chunks of a page may have been committed before.
                    guard let stored = try await service.store.backfill(.default, id) else { throw Ended.stopped }
                    (backfill, context) = (stored, try await self.context(stored))
                case .fenced(.triggerGone): throw Ended.stopped
                case .fenced(.leaseLost): throw Ended.lost
                }
                let again = backfill.counts[.redelivered] - before.counts[.redelivered]
                let rest = service.limits.pace.rest(after: service.time.now() - before.at, redelivered: again)
                if rest > .zero, backfill.state == .running { try await Task.sleep(for: .milliseconds(rest.milliseconds)) }
            }
            if backfill.state == .done {
                ended(backfill)
                await service.lookAtEnd(of: backfill.trigger)
            }
        } catch Ended.stopped {
            return
        } catch Ended.lost {
            // Not round and round: each try would ask the provider.
            service.logger.warning("another process holds the lease", metadata: ["backfill": "\(id)"])
            try? await Task.sleep(for: .seconds(60))
        } catch Ended.failed(let why) {
            await service.fail(backfill, why)
        } catch {
            await failed(backfill, error)
        }
    }

    private func ended(_ backfill: StoredBackfill) {
        let statement = BackfillStatement.text(backfill.window, backfill.mode, backfill.counts, notes: backfill.notes)
        service.logger.info("a backfill is done", metadata: ["backfill": "\(id)", "statement": "\(statement)"])
    }

    /// As things are now. A trigger that became another one ends its backfill.
    private func context(_ backfill: StoredBackfill) async throws -> Context {
        guard let fence = service.polling.state.withLock({ $0.fence }), let trigger = try await service.store.trigger(backfill.trigger)
        else {
            throw Ended.stopped
        }
        guard BackfillService.definition(of: trigger) == backfill.definition else {
            throw Ended.failed(
                "its trigger \(trigger.name) reads something else now (type, connection or input were changed); start another one")
        }
        switch trigger.state {
        case .created, .stopping, .stopped:
            throw Ended.failed("its trigger \(trigger.name) is \(trigger.state.rawValue); start the trigger, and then another backfill")
        default: break
        }
        let plan = try service.polling.catalogue.plan(for: trigger)
        let lane = service.polling.lane(trigger.connection)
        return Context(
            fence: fence, trigger: trigger, plan: plan, source: try BackfillSource(plan, trigger), lane: lane,
            http: BackfillHTTP(lane, pace: service.limits.pace, time: service.time),
            keys: try await service.polling.sliceKeys(trigger, plan.connector))
    }

    /// Whether the connector and the connection are what they were. Neither fences a commit when it changes: a record that the live
    /// polls have keyed by the new connector would become another job under its former key.
    private func isCurrent(_ context: Context) throws -> Bool {
        let plan = try service.polling.catalogue.plan(for: context.trigger)
        return plan.connector.definition.hash == context.plan.connector.definition.hash
            && service.polling.lane(context.trigger.connection) === context.lane
    }

    // MARK: Pieces of work

    private func work(_ backfill: StoredBackfill, _ context: Context) async throws -> BackfillOutcome {
        switch backfill.phase {
        case .gathering, .gatheringNew: try await gather(backfill, context)
        case .reading: try await read(backfill, context)
        case .comparing: try await commit(.compared(limit: service.limits.keysPerComparisonMax), backfill, context)
        }
    }

    private func commit(_ work: BackfillCommit.Work, _ backfill: StoredBackfill, _ context: Context) async throws -> BackfillOutcome {
        guard try isCurrent(context) else { return .fenced(.triggerChanged) }
        return try await service.store.commitBackfill(
            BackfillCommit(
                fence: context.fence, backfill: id, trigger: backfill.trigger, generation: context.trigger.generation, step: backfill.step,
                work: work, hasOwnMarks: context.source.hasOwnMarks, at: service.time.now()))
    }

    /// The next jobs that there are, and which of them lie in the window.
    private func gather(_ backfill: StoredBackfill, _ context: Context) async throws -> BackfillOutcome {
        let query = JobQuery(
            trigger: backfill.trigger, fromPosition: JobPosition(backfill.gathered.rawValue + 1), limit: service.limits.jobsPerCommitMax,
            bytesMax: 2 * 1024 * 1024)
        let page = try await service.store.jobs(query)
        let jobs = page.jobs.filter { $0.position <= backfill.gatherTo }
        let request = service.request(context.trigger, context.plan, cursor: nil, window: backfill.window)
        let records = jobs.map { Record(bytes: $0.record[...], isDerived: $0.isDerived) }
        let places = try context.source.places(backfill.window, request, records: records)
        let gathered = zip(jobs, places).map { BackfillCommit.GatheredJob(key: $0.dedupKey, position: $0.position, isInWindow: $1) }
        let isLast = jobs.count < page.jobs.count || !page.more
        return try await commit(
            .gathered(gathered, through: jobs.last?.position ?? backfill.gathered, isLast: isLast), backfill, context)
    }

    /// The next page, committed in chunks; the last one moves the place where it goes on.
    private func read(_ backfill: StoredBackfill, _ context: Context) async throws -> BackfillOutcome {
        let definition = context.plan.connector.definition
        let connector = "\(definition.name)@\(definition.version)#\(definition.hash.prefix(12))"
        var request = service.request(context.trigger, context.plan, cursor: backfill.cursor, window: backfill.window)
        request.formerRules = context.keys.rules(context.trigger.type)
        // A changed connector may not understand the other's page state.
        request.pageState = backfill.connector == connector ? backfill.pageState : nil
        guard backfill.counts[.pages] < service.limits.pagesMax else {
            throw Ended.failed("the end of the list did not come within \(service.limits.pagesMax) pages: ask for a later `from`")
        }
        let listed = try await context.plan.connector.poll(request, http: context.http)
        try PageKeys.check(listed, recordsMax: request.recordsMax)
        let page = try context.source.inWindow(listed, backfill.window, request)
        if page.more, let state = page.pageState, state == request.pageState {
            throw PollFailure(
                .permanent, SluiceError(.connector, "no progress: two pages end at the same place and say that there is more"))
        }
        let scrubber = page.warnings.isEmpty ? nil : service.polling.scrubber(of: backfill.connection)
        for warning in page.warnings.prefix(5) {
            service.logger.info("\(scrubber?.scrubbed(warning) ?? warning)", metadata: ["backfill": "\(id)"])
        }
        let (records, quarantined) = try PageKeys.keyed(
            page, triggerType: context.trigger.type, context.plan.connector,
            formers: context.keys.formerKeys(page, context.trigger.type))
        let end = BackfillCommit.PageEnd(
            cursor: page.cursor, pageState: page.more ? page.pageState : nil, isLast: !page.more, connector: connector)
        return try await commit(records, quarantined, end, backfill, context)
    }

    private func commit(
        _ records: [KeyedRecord], _ quarantined: [QuarantinedRecord], _ end: BackfillCommit.PageEnd, _ backfill: StoredBackfill,
        _ context: Context
    ) async throws -> BackfillOutcome {
        let size = max(1, service.limits.recordsPerCommitMax)
        let chunks = max(1, (records.count + size - 1) / size)
        var current = backfill
        for chunk in 0..<chunks {
            let isLast = chunk == chunks - 1
            let part = Array(records[chunk * size..<min(records.count, (chunk + 1) * size)])
            let outcome = try await commit(
                .page(part, quarantined: isLast ? quarantined : [], end: isLast ? end : nil), current, context)
            if isLast, !quarantined.isEmpty, case .committed = outcome { await service.polling.tellOfQuarantine(context.trigger) }
            guard case .committed(let next) = outcome, !isLast else { return outcome }
            current = next
        }
        return .stopped
    }

    // MARK: Failures

    private func failed(_ backfill: StoredBackfill, _ error: any Error) async {
        if error is CancellationError || Task.isCancelled { return }
        let failure = PollFailure.classify(error).scrubbed(by: service.polling.scrubber(of: backfill.connection))
        let now = service.time.now()
        // Chunks of a page were committed since: what is true is in the store.
        let stored = (try? await service.store.backfill(.default, id)) ?? backfill
        let failures = failure.isHeldBack ? stored.failures : stored.failures + 1
        // While it waits no dedup key of its trigger is forgotten, and room in the quarantine is made by people only.
        let needsPeople = failure.kind == .permanent || failure.error.code == .quarantineFull
        let isFinal = failure.kind == .badCursor || needsPeople && failures >= service.limits.permanentFailuresMax
        if isFinal { return await service.fail(stored, failure.error.message) }
        let backoff = min(Backoff.delay(failures: max(1, failures), random: service.polling.random()), service.limits.retrySpanMax)
        let wait = max(failure.retryAfter ?? .zero, failure.isHeldBack ? .zero : backoff)
        service.logger.warning(
            "a backfill waits", metadata: ["backfill": "\(id)", "error": "\(failure.error)", "until": "\(now + wait)"])
        do {
            try await service.store.recordBackfillFailure(
                BackfillFailure(
                    backfill: id, step: stored.step, failures: failures, retryAt: now + wait, error: failure.error.message,
                    dropsPageState: failure.kind == .pageStateExpired, at: now))
        } catch {
            // The store is in trouble itself: not at once again.
            service.logger.error("a backfill's failure could not be recorded", metadata: ["backfill": "\(id)", "error": "\(error)"])
            try? await Task.sleep(for: .seconds(5))
        }
    }
}
