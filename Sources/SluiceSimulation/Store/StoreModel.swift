import SluiceCore
import SluiceStore

/// What is durable: a store as `Store` promises it, in memory. Each call is one transaction.
struct StoreModel {
    struct Topic {
        var sequence = InboxSequence.zero
        var signalledAt = Timestamp.distantPast
    }

    struct Key {
        var mark: Int64?
        var lastCycle: Int64
        /// Under which key the record became a job, if under a former one.
        var jobKey: [UInt8]?
    }

    struct Trigger {
        var connection: Int
        var resource: Int
        var topics: [TopicID]
        var state = TriggerState.created
        var generation = Generation.first
        var progress = TriggerProgress()
        /// The page that was committed last, or begun: what makes repeating it change nothing.
        var atCycle: Int64 = 0
        var atPage = 0
        var isPageComplete = false
        /// By the dedup keys.
        var keys: [[UInt8]: Key] = [:]
        /// What each job holds, by the dedup key under which it was made.
        var jobs: [[UInt8]: Record] = [:]
    }

    private(set) var sequence = InboxSequence.zero
    private(set) var topics: [Topic]
    var triggers: [Trigger]
    private(set) var epoch = LeaseEpoch(0)
    var refusedConnections: Set<Int> = []
    /// A mutant's doing.
    var ignoresEpoch = false

    init(topics: Int, triggers: [Trigger]) {
        self.topics = Array(repeating: Topic(), count: topics)
        self.triggers = triggers
    }

    mutating func acquireLease() -> Fence {
        epoch = LeaseEpoch(epoch.rawValue + 1)
        return Fence(shard: 0, epoch: epoch)
    }

    /// A webhook and its signals, in one transaction.
    mutating func append(topics ids: [TopicID], at now: Timestamp) -> InboxSequence {
        sequence = InboxSequence(sequence.rawValue + 1)
        for id in ids { topics[Int(id.rawValue)] = Topic(sequence: sequence, signalledAt: now) }
        return sequence
    }

    mutating func setState(_ index: Int, _ state: TriggerState) {
        triggers[index].state = state
        triggers[index].generation = triggers[index].generation.next
    }

    // MARK: Pages

    private func refusal(_ fence: Fence, _ index: Int, _ generation: Generation) -> FenceReason? {
        if fence.epoch != epoch, !ignoresEpoch { return .leaseLost }
        return generation == triggers[index].generation ? nil : .triggerChanged
    }

    /// Whether its page was committed before. One that was only begun is read anew: what its chunks hold may differ then, and the
    /// dedup keys drop what does not.
    private func hasCommitted(_ commit: PageCommit, _ trigger: Trigger) -> Bool {
        if (commit.cycle, commit.page) != (trigger.atCycle, trigger.atPage) {
            return (commit.cycle, commit.page) < (trigger.atCycle, trigger.atPage)
        }
        return trigger.isPageComplete
    }

    /// `changes`: the number of each record's change, in the order of the records.
    mutating func commitPage(_ commit: PageCommit, changes: [Int]) -> (outcome: PageOutcome, jobs: [Int]) {
        let index = Int(commit.trigger.rawValue)
        if let reason = refusal(commit.fence, index, commit.generation) { return (.fenced(reason), []) }
        if hasCommitted(commit, triggers[index]) { return (.repeated, []) }
        var trigger = triggers[index]
        let cycle = trigger.progress.cyclesCompleted + 1
        var jobs: [Int] = []
        for (keyed, change) in zip(commit.records, changes) {
            if let known = trigger.keys[keyed.dedupKey] {
                let mark = if let before = known.mark, let mark = keyed.mark { max(before, mark) } else { keyed.mark ?? known.mark }
                trigger.keys[keyed.dedupKey] = Key(mark: mark, lastCycle: cycle, jobKey: known.jobKey)
                continue
            }
            let former = keyed.formerKeys.first { trigger.keys[$0] != nil }
            let jobKey = former.flatMap { trigger.keys[$0]?.jobKey } ?? former
            trigger.keys[keyed.dedupKey] = Key(mark: keyed.mark, lastCycle: cycle, jobKey: jobKey)
            guard former == nil else { continue }
            trigger.jobs[keyed.dedupKey] = keyed.record
            jobs.append(change)
        }
        trigger.progress.markedThrough = (commit.records.compactMap(\.mark) + [trigger.progress.markedThrough].compactMap(\.self)).max()
        if let origin = commit.keyOrigin {
            let gone = origin.forgottenBelow(since: trigger.progress.keyOrigin, floor: trigger.progress.dedupFloor)
            trigger.progress.prunedBelow = [trigger.progress.prunedBelow, gone].compactMap(\.self).max()
            trigger.progress.keyOrigin = origin
        }
        if let floor = trigger.progress.dedupFloor, let lowest = commit.records.lazy.compactMap(\.mark).min(), lowest < floor {
            trigger.progress.dedupFloor = lowest
        }
        trigger.progress.lastPosition = JobPosition(trigger.progress.lastPosition.rawValue + Int64(jobs.count))
        (trigger.atCycle, trigger.atPage, trigger.isPageComplete) = (commit.cycle, commit.page, commit.completion != nil)
        trigger.progress.lastCycle = max(trigger.progress.lastCycle, commit.cycle)
        if let completion = commit.completion { complete(&trigger.progress, completion, at: commit.at) }
        triggers[index] = trigger
        return (.committed(jobs: jobs.count, lastPosition: trigger.progress.lastPosition), jobs)
    }

    private func complete(_ progress: inout TriggerProgress, _ completion: PageCompletion, at now: Timestamp) {
        if let cursor = completion.cursor { progress.cursor = cursor }
        if let mark = completion.cursorMark { progress.cursorMark = mark }
        if let open = completion.openCycle {
            progress.openCycle = open
            progress.lastStartAt = open.startedAt
        }
        guard let end = completion.end else { return }
        progress.openCycle = nil
        progress.coveredSequence = max(progress.coveredSequence, end.coveredSequence)
        progress.cyclesCompleted += 1
        progress.failures = 0
        progress.retryAt = nil
        progress.lastStartAt = end.startedAt
        progress.lastSuccessAt = now
        progress.safetyDueAt = end.safetyDueAt
        progress.dedupFloor = end.dedupFloor ?? progress.dedupFloor
    }

    /// A mutant's doing: the cursor without the jobs.
    mutating func commitCursorAlone(_ commit: PageCommit) {
        let index = Int(commit.trigger.rawValue)
        guard refusal(commit.fence, index, commit.generation) == nil, let completion = commit.completion else { return }
        triggers[index].progress.cursor = completion.cursor ?? triggers[index].progress.cursor
        triggers[index].progress.cursorMark = completion.cursorMark ?? triggers[index].progress.cursorMark
    }

    mutating func recordFailure(_ failure: CycleFailure) -> FenceReason? {
        let index = Int(failure.trigger.rawValue)
        if let reason = refusal(failure.fence, index, failure.generation) { return reason }
        triggers[index].progress.failures = failure.failures
        triggers[index].progress.retryAt = failure.retryAt
        triggers[index].progress.lastStartAt = failure.startedAt
        if failure.dropsOpenCycle { triggers[index].progress.openCycle = nil }
        return nil
    }

    /// As `Store.formerJobs`.
    func formerJobs(_ index: Int, _ records: [KeyedRecord]) -> [[UInt8]: FormerJob] {
        let trigger = triggers[index]
        var result: [[UInt8]: FormerJob] = [:]
        for record in records where trigger.keys[record.dedupKey] == nil {
            for former in record.formerKeys where former != record.dedupKey {
                guard let key = trigger.keys[former] else { continue }
                result[former] = FormerJob(mark: key.mark, record: trigger.jobs[key.jobKey ?? former])
            }
        }
        return result
    }

    /// Forgets the dedup keys that may be forgotten; returns how many.
    mutating func prune() -> Int {
        var count = 0
        for index in triggers.indices {
            let progress = triggers[index].progress
            let gone = triggers[index].keys.filter { _, key in
                DedupRetention.forgets(
                    mark: key.mark, lastCycle: key.lastCycle, floor: progress.dedupFloor, cyclesCompleted: progress.cyclesCompleted)
            }
            for key in gone.keys { triggers[index].keys[key] = nil }
            if let floor = progress.dedupFloor, gone.values.contains(where: { $0.mark != nil }) {
                triggers[index].progress.prunedBelow = max(progress.prunedBelow ?? floor, floor)
            }
            count += gone.count
        }
        return count
    }
}
