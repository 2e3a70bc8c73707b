import SluiceConnectors
import SluiceCore
import SluiceStore

/// Watches a run from outside: it sees what the provider did, what the store committed and when polls started, and knows
/// from that alone what should have happened.
struct Monitor {
    private(set) var watches: [Watch]
    private(set) var faults = FaultSet()
    var violation: Violation?
    var stepsAtThisMoment = 0
    private var crashes: [Timestamp] = []
    /// Resources whose records are to be a job once, whatever becomes of them.
    private var ignoring: Set<Int> = []
    private var calmAt: Timestamp?
    /// Signals within a second share an entry of the schedule's log, and take a moment from the store to the schedule.
    private let slack: Span

    /// Webhooks may be under way for two minutes.
    private static let webhookSpanMax = Span.minutes(3)
    /// A failure is recorded a moment before the schedule hears of it.
    private static let finishSpan = Span.milliseconds(50)

    init(scenario: Scenario, signalDelay: Span) {
        slack = SignalLogRules.entrySpan + signalDelay + .milliseconds(100)
        watches = scenario.triggers.map {
            Watch(
                resource: $0.resource, listens: $0.listens, visibilityLag: scenario.feeds[$0.resource].feed.visibilityLag,
                safetyInterval: $0.safetyInterval)
        }
    }

    var jobCount: Int { watches.reduce(0) { $0 + $1.jobs.count } }

    mutating func occurred(_ fault: Fault) { faults.insert(fault) }

    mutating func violate(_ invariant: Invariant, _ message: String, at now: Timestamp) {
        guard violation == nil else { return }
        violation = Violation(seed: 0, step: 0, at: now, invariant: invariant, message: message)
    }

    // MARK: The provider and its webhooks

    mutating func changed(_ change: Change, provider: ProviderModel, at now: Timestamp) {
        let feed = provider.resources[change.resource].feed
        for index in watches.indices where watches[index].resource == change.resource {
            if !change.isFirst, ignoring.contains(change.resource) {
                occurred(.changeIgnored)
            } else {
                watches[index].outstanding.append(change.number)
            }
            if let bound = watches[index].bounds[Watch.all] ?? watches[index].bounds[change.partition],
                !feed.lists(change.updatedAt, above: bound)
            {
                violate(
                    .P3_cursorNotAheadOfJobs,
                    "trigger \(index): change \(change.number) was made below the committed cursor, which ran ahead of the clock",
                    at: now)
            }
        }
    }

    /// A connector says by now what is one job. While changes are ignored they may become jobs or not.
    mutating func described(_ resource: Int, ignoresChanges: Bool, provider: ProviderModel) {
        guard ignoresChanges else {
            ignoring.remove(resource)
            return
        }
        ignoring.insert(resource)
        for index in watches.indices where watches[index].resource == resource {
            watches[index].outstanding.removeAll { !provider.changes[$0].isFirst }
        }
    }

    mutating func accepted(_ topic: TopicID, _ sequence: InboxSequence, store: StoreModel, at now: Timestamp) {
        for index in watches.indices where store.triggers[index].topics.contains(topic) {
            let isIdle = watches[index].pending.isEmpty && watches[index].excuseEnd <= now
            watches[index].pending.append((sequence, now))
            watches[index].lastAcceptedAt = now
            let throttleEnd = watches[index].lastSignalStartAt.map { $0 + TriggerSchedule.throttle } ?? .distantPast
            if isIdle, throttleEnd <= now {
                watches[index].obligations.append(
                    Obligation(invariant: .P5_idleStartsAtOnce, from: now, deadline: now, isThrottled: false, needsSuccess: false))
            }
        }
    }

    // MARK: Processes and people

    mutating func crashed(at now: Timestamp) { crashes.append(now) }

    mutating func booted(store: StoreModel, at now: Timestamp) {
        crashes.append(now)
        for index in watches.indices {
            watches[index].isAsked = false
            watches[index].lastSignalStartAt = watches[index].lastStartAt
            watches[index].notBefore = store.triggers[index].progress.retryAt
            watches[index].obligations.removeAll { $0.invariant == .P5_idleStartsAtOnce }
            // What was asked of a process that is gone is made up for by the catch-up poll, or by the next one of the interval.
            for place in watches[index].obligations.indices where watches[index].obligations[place].invariant == .P6_pollsAtOnce {
                watches[index].obligations[place].deadline = now + watches[index].safetyInterval
                watches[index].obligations[place].isThrottled = true
            }
        }
    }

    mutating func reloaded(_ index: Int, isRunning: Bool, store: StoreModel) {
        guard !watches[index].isAsked, !isRunning else { return }
        // What failed later than the store knows counts.
        watches[index].notBefore = watches[index].notBefore ?? store.triggers[index].progress.retryAt
    }

    mutating func missedWebhooks(until time: Timestamp, window: Span, store: StoreModel) {
        for index in watches.indices where watches[index].listens && store.triggers[index].state.listens {
            let bound = time + watches[index].visibilityLag + .milliseconds(1)
            watches[index].obligations.removeAll { $0.invariant == .P6_catchUp }
            watches[index].obligations.append(
                Obligation(invariant: .P6_catchUp, from: bound, deadline: max(time + window, bound), isThrottled: true, needsSuccess: true))
        }
    }

    mutating func commanded(_ index: Int, state: TriggerState, poll cause: PollCause?, store: StoreModel, at now: Timestamp) {
        if state == .paused { watches[index].wasPaused = true }
        guard cause != nil else { return }
        watches[index].isAsked = true
        watches[index].notBefore = nil
        watches[index].obligations.append(
            Obligation(invariant: .P6_pollsAtOnce, from: now, deadline: now, isThrottled: false, needsSuccess: true))
    }

    // MARK: Polls

    mutating func started(_ start: Schedule.Start, on node: Node, connectionMax: Int, store: StoreModel, at now: Timestamp) {
        let index = Int(start.trigger.rawValue)
        let connection = Int(start.connection.rawValue)
        let state = store.triggers[index].state
        if !state.polls, state != .failed { violate(.P7_restsWhilePaused, "trigger \(index) polls while it is \(state.rawValue)", at: now) }
        if node.isRunning(start.trigger) { violate(.P12_connectionBounds, "trigger \(index) runs two cycles at once", at: now) }
        let most = node.schedule.isRefused(start.connection) ? 1 : connectionMax
        if node.runningByConnection[connection] >= most {
            violate(.P12_connectionBounds, "connection \(connection) runs more than \(most) cycles at once", at: now)
        }
        if let until = node.blockedUntil[connection], until > now {
            violate(.P12_connectionBounds, "connection \(connection) was asked to wait until \(until)", at: now)
        }
        if let notBefore = watches[index].notBefore, notBefore > now + Monitor.finishSpan, state.polls {
            violate(.P5_backoffIsKept, "trigger \(index) failed and was to wait until \(notBefore)", at: now)
        }
        watches[index].isAnswering = watches[index].isAsked || start.isContinuation && watches[index].isAnswering
        watches[index].isAsked = false
        watches[index].notBefore = nil
        guard start.cycle.startedAt == now, !start.isContinuation else { return }
        watches[index].lastStartAt = now
        if start.cause == .webhook || start.cause == .catchUp { watches[index].lastSignalStartAt = now }
        watches[index].obligations.removeAll { !$0.needsSuccess && $0.from <= now }
        if start.cause == .webhook { startedForWebhook(index, at: now) }
    }

    private mutating func startedForWebhook(_ index: Int, at now: Timestamp) {
        watches[index].webhookStarts.append(now)
        let starts = watches[index].webhookStarts
        for (place, first) in starts.enumerated() {
            let count = starts.count - place
            let hidden = crashes.count { $0 >= first }
            let most = 2 + Int((now - first).milliseconds / TriggerSchedule.throttle.milliseconds) + hidden
            if count > most {
                violate(
                    .P5_startsPerWindow, "trigger \(index): \(count) polls for webhooks within \(now - first), at most \(most)", at: now)
            }
        }
    }

    mutating func finished(_ trigger: TriggerID, _ outcome: TriggerSchedule.Outcome, store: StoreModel, at now: Timestamp) {
        let index = Int(trigger.rawValue)
        if case .fenced = outcome, watches[index].isAnswering {
            // Whoever asked still waits.
            watches[index].isAsked = true
            watches[index].notBefore = nil
        }
        guard case .failed(_, let delay) = outcome, store.triggers[index].state.polls, !watches[index].isAsked else { return }
        watches[index].notBefore = now + delay
    }

    // MARK: Commits

    mutating func committed(
        _ commit: PageCommit, jobs: [Int], changes: [Int], description: Description, warnings: [String], readBound: Timestamp,
        isByHolder: Bool, world: World
    ) {
        let index = Int(commit.trigger.rawValue)
        let now = world.now
        for number in jobs { watches[index].records.insert(world.provider.changes[number].id) }
        noteUnfinished(index, jobs, of: changes, isWhole: commit.completion != nil, world)
        for warning in warnings where commit.chunk == 0 { noteWarning(index, warning, description, world.provider) }
        if description.dedup.ignoresChanges { noteIgnored(index, changes, world.provider) }
        if !isByHolder { violate(.P3_onlyTheHolderCommits, "trigger \(index): a process without the lease committed a page", at: now) }
        for job in jobs where !watches[index].jobs.insert(job).inserted {
            if watches[index].mayRepeat.remove(job) != nil {
                watches[index].repeatedJobs += 1
                continue
            }
            violate(.P4_noJobTwice, "trigger \(index): change \(job) became a job for the second time", at: now)
        }
        if !jobs.isEmpty { watches[index].outstanding.removeAll { jobs.contains($0) } }
        let position = world.store.triggers[index].progress.lastPosition.rawValue
        let count = watches[index].jobs.count + watches[index].repeatedJobs
        if position != Int64(count) {
            violate(
                .P3_positionsGapFree, "trigger \(index): \(count) jobs, but the last position is \(position)", at: now)
        }
        if let end = commit.completion?.end { succeeded(index, startedAt: end.startedAt, readBound, description, world: world) }
        checkCovered(commit.trigger, world.store.triggers[index].progress.coveredSequence, at: now)
        if commit.completion?.cursor != nil { cursorMayHaveMoved(commit.trigger, world: world) }
    }

    /// Read by a description that ignores changes, a record is known up to its mark; what changes within the same one later is not told
    /// apart.
    private mutating func noteIgnored(_ index: Int, _ changes: [Int], _ provider: ProviderModel) {
        let kind = provider.resources[watches[index].resource].feed.kind
        guard kind.hasCursor else { return }
        for number in changes {
            let change = provider.changes[number]
            watches[index].ignoredUpTo[change.id] = max(watches[index].ignoredUpTo[change.id] ?? .min, kind.granule(change.updatedAt))
        }
    }

    // MARK: Partitions

    mutating func refused(_ index: Int, partition: Int, provider: ProviderModel, at now: Timestamp) {
        watches[index].refusedAt[partition] = now
        mayRepeatUnfinished(index, partition, provider)
    }

    /// Where a partition was read for the first time, and its page broke off, no cursor holds on to the keys of what was committed of it.
    private mutating func noteUnfinished(_ index: Int, _ jobs: [Int], of changes: [Int], isWhole: Bool, _ world: World) {
        guard let partition = changes.first.map({ world.provider.changes[$0].partition }) else { return }
        if !isWhole, !world.hasPosition(index, partition) {
            watches[index].unfinished.formUnion(jobs)
        } else {
            watches[index].unfinished = watches[index].unfinished.filter { world.provider.changes[$0].partition != partition }
        }
    }

    /// The list of partitions names one no longer. While it does not, the keys of a page that broke off may be forgotten.
    mutating func unlisted(_ resource: Int, _ partition: Int, provider: ProviderModel) {
        for index in watches.indices where watches[index].resource == resource { mayRepeatUnfinished(index, partition, provider) }
    }

    private mutating func mayRepeatUnfinished(_ index: Int, _ partition: Int, _ provider: ProviderModel) {
        watches[index].mayRepeat.formUnion(watches[index].unfinished.filter { provider.changes[$0].partition == partition })
    }

    /// A partition is read from where keys are forgotten: what may be told twice is announced, and lies within what is always read again.
    private mutating func noteWarning(_ index: Int, _ warning: String, _ description: Description, _ provider: ProviderModel) {
        if warning.contains("is listed again after its dedup keys were forgotten") { occurred(.partitionBackLate) }
        if warning.hasPrefix(PollPage.leftOutPrefix) { occurred(.partitionLeftOut) }
        guard warning.hasPrefix("partition p"), warning.contains("may come again"),
            let number = Int(warning.dropFirst("partition p".count).prefix { $0.isNumber })
        else { return }
        let mark = watches[index].restingMarks[number] ?? watches[index].restingMarks[Watch.all] ?? .max
        let granule = provider.resources[watches[index].resource].feed.kind.granuleMilliseconds
        let lowest = mark == .max ? mark : mark - description.lookbackSeconds * 1000 - 2 * granule
        watches[index].mayRepeat.formUnion(
            watches[index].jobs.filter { provider.changes[$0].partition == number && provider.changes[$0].updatedAt >= lowest })
    }

    /// A cycle has succeeded: what it read is known from here on.
    private mutating func forgetRepeats(_ index: Int, _ readBound: Timestamp, _ provider: ProviderModel) {
        let watch = watches[index]
        watches[index].mayRepeat = watch.mayRepeat.filter { !wasRead(provider.changes[$0], by: watch, readBound, provider) }
    }

    /// Whether a cycle over partitions read that of a change: it was listed, and nothing of it was refused.
    private func wasRead(_ change: Change, by watch: Watch, _ readBound: Timestamp, _ provider: ProviderModel) -> Bool {
        guard let partition = provider.partition(of: change) else { return true }
        return partition.isListed(since: readBound) && watch.refusedAt[change.partition] ?? .distantPast < readBound
    }

    private mutating func succeeded(_ index: Int, startedAt: Timestamp, _ readBound: Timestamp, _ description: Description, world: World) {
        let lag = watches[index].visibilityLag
        watches[index].pending.removeAll { $0.arrivedAt + lag <= readBound }
        watches[index].obligations.removeAll { $0.from <= readBound }
        watches[index].lastSuccessAt = startedAt
        watches[index].notBefore = nil
        dropSuperseded(index, provider: world.provider, at: world.now)
        forgetRepeats(index, readBound, world.provider)
        for number in watches[index].outstanding where world.provider.changes[number].visibleAt <= readBound {
            let change = world.provider.changes[number]
            if description.isPartitioned, !wasRead(change, by: watches[index], readBound, world.provider) { continue }
            let message =
                "trigger \(index): change \(number) was visible at the read bound \(readBound) of a cycle that succeeded, and is no job"
            violate(.P2_cycleSeesWhatWasVisible, message, at: world.now)
        }
    }

    private mutating func dropSuperseded(_ index: Int, provider: ProviderModel, at now: Timestamp) {
        let watch = watches[index]
        let kind = provider.resources[watch.resource].feed.kind
        watches[index].outstanding.removeAll { number in
            let change = provider.changes[number]
            if change.supersededAt <= now { return true }
            return !change.isFirst && watch.ignoredUpTo[change.id].map { kind.granule(change.updatedAt) <= $0 } ?? false
        }
    }

    /// From the committed cursor on, a poll must return everything that is no job yet.
    mutating func cursorMayHaveMoved(_ trigger: TriggerID, world: World) {
        let index = Int(trigger.rawValue)
        let feed = world.provider.resources[watches[index].resource].feed
        guard feed.kind.hasCursor else { return }
        watches[index].bounds = world.lowerBounds(index)
        watches[index].restingMarks = world.restingMarks(index)
        dropSuperseded(index, provider: world.provider, at: world.now)
        for number in watches[index].outstanding {
            let change = world.provider.changes[number]
            guard let bound = watches[index].bounds[Watch.all] ?? watches[index].bounds[change.partition] else { continue }
            if feed.lists(change.updatedAt, above: bound) { continue }
            let message = "trigger \(index): change \(number) is no job, and no poll from the committed cursor returns it"
            violate(.P3_cursorNotAheadOfJobs, message, at: world.now)
        }
    }

    mutating func checkCovered(_ trigger: TriggerID, _ covered: InboxSequence, at now: Timestamp) {
        let index = Int(trigger.rawValue)
        guard let first = watches[index].pending.first, first.sequence <= covered else { return }
        let message =
            "trigger \(index): covered is \(covered), but no cycle could see what webhook \(first.sequence) of \(first.arrivedAt) told"
        violate(.P2_coveredNeverAhead, message, at: now)
    }

    mutating func repeated(_ outcome: PageOutcome, jobs: [Int], before: StoreModel.Trigger, after: StoreModel.Trigger, at now: Timestamp) {
        let isSame =
            before.progress.lastPosition == after.progress.lastPosition && before.progress.cursor == after.progress.cursor
            && before.keys.count == after.keys.count && before.progress.cyclesCompleted == after.progress.cyclesCompleted
        let isRepetition = if case .committed(0, _) = outcome { !after.isPageComplete } else { outcome == .repeated }
        if !isRepetition || !jobs.isEmpty || !isSame {
            violate(.P3_repeatChangesNothing, "committing the same chunk again gave \(outcome)", at: now)
        }
    }

    // MARK: Time

    /// Nothing has happened since the last event; is something overdue?
    mutating func timePasses(to time: Timestamp) {
        for index in watches.indices {
            watches[index].excusedUntil = max(watches[index].excusedUntil, min(time, watches[index].excuseEnd))
            guard let (invariant, deadline) = watches[index].overdue(at: time, slack: slack) else { continue }
            let held = watches[index].excusedUntil
            violate(invariant, "trigger \(index): a poll was due by \(deadline) and has not started (held back until \(held))", at: time)
        }
    }

    /// Notes what holds each trigger back from now on.
    mutating func look(at world: World) {
        if world.isCalm, calmAt == nil { calmAt = world.now }
        let node = world.holder
        for index in watches.indices { watches[index].excuseEnd = excuseEnd(index, world, node) }
    }

    private func excuseEnd(_ index: Int, _ world: World, _ node: Node?) -> Timestamp {
        let trigger = world.store.triggers[index]
        guard let node, trigger.state.polls, trigger.progress.openCycle == nil, !node.isRunning(TriggerID(Int64(index))),
            !node.schedule.isRefused(ConnectionID(Int64(trigger.connection)))
        else { return .distantFuture }
        if node.runningByConnection[trigger.connection] >= world.scenario.connections[trigger.connection].runningMax {
            return .distantFuture
        }
        if node.runningCount >= world.scenario.cyclesAtOnceMax { return .distantFuture }
        return max(world.now, node.blockedUntil[trigger.connection] ?? world.now, watches[index].notBefore ?? world.now)
    }

    // MARK: The end

    mutating func hasSettled(provider: ProviderModel, store: StoreModel, at now: Timestamp) -> Bool {
        guard let calmAt, now > calmAt + Monitor.webhookSpanMax else { return false }
        for index in watches.indices {
            dropSuperseded(index, provider: provider, at: now)
            let watch = watches[index]
            guard watch.outstanding.isEmpty, watch.pending.isEmpty, watch.obligations.isEmpty, store.triggers[index].state.polls,
                Monitor.missingRecords(watch, provider) == 0
            else { return false }
        }
        return true
    }

    /// Each record is a job in one state at least, also where its changes are ignored.
    private static func missingRecords(_ watch: Watch, _ provider: ProviderModel) -> Int {
        provider.resources[watch.resource].latest.count - watch.records.count
    }

    mutating func violateUnsettled(provider: ProviderModel, store: StoreModel, deadline: Timestamp) {
        for index in watches.indices {
            let watch = watches[index]
            let state = store.triggers[index].state
            let missing = Monitor.missingRecords(watch, provider)
            if watch.outstanding.isEmpty, watch.pending.isEmpty, watch.obligations.isEmpty, state.polls, missing == 0 { continue }
            let message =
                "trigger \(index) (\(state.rawValue)) has not converged: changes \(watch.outstanding.prefix(5)) are no jobs, "
                + "no state of \(missing) records is, \(watch.pending.count) webhooks are not covered, \(watch.obligations.map(\.invariant.rawValue)) is owed"
            violate(watch.wasPaused && !watch.outstanding.isEmpty ? .P7_pauseLosesNothing : .final_converged, message, at: deadline)
        }
    }

    mutating func checkEnd(store: StoreModel, at now: Timestamp) {
        for (index, watch) in watches.enumerated() where watch.listens {
            guard let accepted = watch.lastAcceptedAt, watch.lastStartAt ?? .distantPast < accepted else { continue }
            violate(.P5_lastStartAfterLastWebhook, "trigger \(index): the last webhook came at \(accepted), after the last start", at: now)
        }
    }
}

/// What the monitor needs to know of the schedule's signal log: webhooks within a second share an entry.
enum SignalLogRules {
    static let entrySpan = Span.seconds(1)
}
