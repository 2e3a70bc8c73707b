import SluiceCore
import SluiceStore

extension StoreConformance {
    static let backfills: [ConformanceCase] = [
        ConformanceCase("P4_aBackfillKnowsARecordByItsJobWhereTheKeyIsForgotten", knownByJob),
        ConformanceCase("P4_noKeyIsForgottenWhileABackfillLasts", keysAreHeld),
        ConformanceCase("P3_aLaterStateThatNoPollSawIsMissing", laterState),
        ConformanceCase("P3_aBackfillTouchesNothingOfTheCycle", untouched),
        ConformanceCase("P3_aBackfillsPieceIsCommittedOnce", once),
        ConformanceCase("P3_aBackfillIsFencedAsACycleIs", fenced),
        ConformanceCase("aTriggerHasOneBackfillAtATime", oneAtATime),
        ConformanceCase("aDryRunWritesItsDifferenceOnly", dryRun),
        ConformanceCase("P9_replayAllDeliversAgainWithTheSameJob", replayAll),
        ConformanceCase("P9_replayAllGivesConsumersTheirJobsAgain", replayAllToConsumers),
        ConformanceCase("bothSidesAreCompared", compared),
        ConformanceCase("P4_retentionTellsHowFarItCame", removed),
        ConformanceCase("aBackfillGoesWithItsTrigger", gone),
        ConformanceCase("aBackfillObeys", commands),
    ]

    private static func knownByJob(_ bench: inout StoreBench) async throws {
        let trigger = try await bench.makeTrigger()
        let fence = try await bench.lease()
        for mark in 1...4 { try await bench.cycle(trigger, fence, Int64(mark), keys: ["k\(mark)"], mark: Int64(mark * 10)) }
        try await bench.cycle(trigger, fence, 5, keys: [], floor: 100)
        try expectEqual(try await bench.prune(at: bench.start).dedupKeys, 4, "keys below the floor")
        var run = try await bench.backfill(trigger, fence)
        try await run.gather(["k1", "k2", "k3", "k4"])
        try await run.read(["k1", "new", "k3"], isLast: true)
        try expectEqual(run.stored.counts[.known], 2, "records known by their jobs")
        try expectEqual(run.stored.counts[.repaired], 1, "jobs made")
        try expectEqual(try await bench.keys(trigger.id), ["k1", "k2", "k3", "k4", "new"], "jobs")
        let made = try require(try await bench.allJobs(trigger.id).last, "the job that was made")
        try expectEqual(made.cause, .backfill, "its cause")
        try expectEqual(made.position, JobPosition(5), "its position")
    }

    /// A record became a job while its version was open, changed within it, and no poll saw that.
    private static func laterState(_ bench: inout StoreBench) async throws {
        let trigger = try await bench.makeTrigger()
        let fence = try await bench.lease()
        func record(_ key: String, _ state: String, open isOpen: Bool) -> KeyedRecord {
            var record = StoreBench.record(key, mark: 10)
            record.state = RecordState(digest: StoreBench.bytes(state), isOpen: isOpen)
            return record
        }
        func commit(_ cycle: Int64, _ records: [KeyedRecord]) async throws -> Int {
            var commit = bench.page(trigger, fence, cycle: cycle, keys: [], completion: bench.end())
            commit.records = records
            guard case .committed(let made, _) = try await bench.store.commitPage(commit) else {
                throw ConformanceFailure(description: "cycle \(cycle) was not committed")
            }
            return made
        }
        let polled = [record("lost", "x", open: true), record("same", "x", open: true), record("over", "x", open: false)]
        try expectEqual(try await commit(1, polled), 3, "jobs of the poll")
        let listed = [record("lost", "y", open: false), record("same", "x", open: false), record("over", "y", open: false)]
        for (mode, repaired) in [(BackfillMode.dryRun, 0), (.missingOnly, 1)] as [(BackfillMode, Int64)] {
            var run = try await bench.backfill(trigger, fence, mode: mode)
            try await run.gather(["lost", "same", "over"])
            try await run.read(records: listed, isLast: false)
            try await run.read(records: listed, isLast: true)
            try expectEqual(run.stored.counts[.provider], 3, "records, each once")
            try expectEqual(run.stored.counts[.missing], 1, "missing: what changed while its version was open")
            try expectEqual(run.stored.counts[.repaired], repaired, "repaired")
            try await run.gatherNew(repaired > 0 ? ["lost@state:y"] : [])
            try await run.finish()
            try expectEqual(try await run.differences(.missing), ["lost@state:y"], "what is missing")
        }
        try expectEqual(try await bench.keys(trigger.id), ["lost", "same", "over", "lost@state:y"], "jobs")
        try expectEqual(try await commit(2, listed), 0, "jobs of a poll that finds the same")
    }

    private static func keysAreHeld(_ bench: inout StoreBench) async throws {
        let trigger = try await bench.makeTrigger()
        let other = try await bench.makeTrigger("other", topicKeys: ["b"])
        let fence = try await bench.lease()
        var run = try await bench.backfill(trigger, fence)
        // Made while it lasts, and below the floor before its page is read.
        try await bench.cycle(trigger, fence, 1, keys: ["k"], mark: 10, floor: 100)
        try await bench.cycle(other, fence, 1, keys: ["k"], mark: 10, floor: 100)
        try expectEqual(try await bench.prune(at: bench.start).dedupKeys, 1, "keys forgotten: the other trigger's")
        try await run.gather([])
        try await run.read(["k"], isLast: true)
        try expectEqual(run.stored.counts[.known], 1, "known by its key")
        try await run.gatherNew(["k"])
        try await run.finish()
        try expectEqual(run.stored.counts[.kept], 1, "its job was found at the end")
        try expectEqual(try await bench.prune(at: bench.start).dedupKeys, 1, "keys forgotten after its end")
        try expectEqual(try await bench.keys(trigger.id), ["k"], "jobs")
    }

    private static func untouched(_ bench: inout StoreBench) async throws {
        let trigger = try await bench.makeTrigger()
        let fence = try await bench.lease()
        try await bench.cycle(trigger, fence, 1, keys: ["a"], mark: 10)
        let open = OpenCycle(
            number: 2, cause: .webhook, startedAt: bench.start, readBound: bench.start, notedSequence: .zero, nextPage: 1,
            pageState: StoreBench.bytes("{\"page\":1}"))
        _ = try await bench.store.commitPage(
            bench.page(trigger, fence, cycle: 2, keys: ["b"], completion: PageCompletion(cursor: StoreBench.bytes("7"), openCycle: open)))
        let before = try await bench.trigger().progress
        var run = try await bench.backfill(trigger, fence)
        try await run.gather(["a", "b"])
        try await run.read(["a", "x", "y"], isLast: true)
        let after = try await bench.trigger().progress
        try expectEqual(after.cursor, before.cursor, "the live cursor")
        try expectEqual(after.openCycle, before.openCycle, "the open cycle")
        try expectEqual(after.pollsByCause, before.pollsByCause, "polls by cause")
        try expectEqual(after.dedupFloor, before.dedupFloor, "the floor")
        try expectEqual(after.lastPosition, JobPosition(4), "the last position")
        // The live cycle goes on as if nothing had been.
        let next = try await bench.store.commitPage(
            bench.page(trigger, fence, cycle: 2, page: 1, keys: ["x", "c"], completion: bench.end()))
        try expectEqual(next, .committed(jobs: 1, lastPosition: JobPosition(5)), "the cycle's next page")
        try expectEqual(try await bench.keys(trigger.id), ["a", "b", "x", "y", "c"], "jobs")
    }

    private static func once(_ bench: inout StoreBench) async throws {
        let trigger = try await bench.makeTrigger()
        let fence = try await bench.lease()
        var run = try await bench.backfill(trigger, fence)
        try await run.gather([])
        let before = run.stored
        try await run.read(["x", "y"], isLast: false)
        guard case .stopped = try await run.commit(.page(BackfillBench.records(["x", "y"]), quarantined: [], end: nil), step: before.step)
        else { throw ConformanceFailure(description: "a piece was committed twice") }
        try await bench.reopen()
        run.store = bench.store
        // As after a crash between two chunks: the page is read again from its beginning.
        try await run.read(["x", "y", "z"], isLast: true)
        try expectEqual(run.stored.counts[.provider], 3, "records")
        try expectEqual(run.stored.counts[.repaired], 3, "jobs made")
        try expectEqual(try await bench.keys(trigger.id), ["x", "y", "z"], "jobs")
    }

    private static func fenced(_ bench: inout StoreBench) async throws {
        let trigger = try await bench.makeTrigger()
        let fence = try await bench.lease()
        var run = try await bench.backfill(trigger, fence)
        let taken = try await bench.lease()
        try await run.expectFenced(.leaseLost)
        run.fence = taken
        let paused = try await bench.set(trigger, .paused)
        try await run.expectFenced(.triggerChanged)
        run.generation = paused.generation
        try await run.gather([])
        try await run.read(["x"], isLast: true)
        try expectEqual(try await bench.keys(trigger.id), ["x"], "jobs of a paused trigger")
    }

    private static func oneAtATime(_ bench: inout StoreBench) async throws {
        let trigger = try await bench.makeTrigger()
        let fence = try await bench.lease()
        var run = try await bench.backfill(trigger, fence)
        let store = bench.store
        let new = BackfillBench.new(trigger)
        try await expectError(.conflict, "a second one") { _ = try await store.startBackfill(new, at: Timestamp(seconds: 1)) }
        try await run.gather([])
        try await run.read([], isLast: true)
        try await run.finish()
        try expectEqual(run.stored.state, .done, "its state")
        let second = try await bench.store.startBackfill(new, at: bench.start)
        try expectEqual(
            try await bench.store.backfills(BackfillQuery(trigger: trigger.id)).map(\.id), [second.id, run.stored.id], "newest first")
        try expectEqual(try await bench.store.backfills(BackfillQuery(unfinishedOnly: true)).map(\.id), [second.id], "unfinished")
    }

    private static func dryRun(_ bench: inout StoreBench) async throws {
        let trigger = try await bench.makeTrigger()
        let fence = try await bench.lease()
        try await bench.cycle(trigger, fence, 1, keys: ["a", "gone"])
        var run = try await bench.backfill(trigger, fence, mode: .dryRun)
        try await run.gather(["a", "gone"])
        try await run.read(["a", "x", "y"], isLast: true)
        try await run.finish()
        try expectEqual(try await bench.keys(trigger.id), ["a", "gone"], "jobs")
        try expectEqual(run.stored.counts[.missing], 2, "missing")
        try expectEqual(run.stored.counts[.repaired], 0, "repaired")
        try expectEqual(try await run.differences(.missing), ["x", "y"], "missing keys")
        try expectEqual(try await run.differences(.extra), ["gone"], "keys that the provider no longer lists")
        try expectEqual(try await bench.cycle(trigger, fence, 2, keys: ["x"]), 1, "a missing one becomes a job by a poll all the same")
    }

    private static func replayAll(_ bench: inout StoreBench) async throws {
        try await bench.apply([StoreBench.connection(), StoreBench.trigger("orders"), StoreBench.destination("sink")])
        try await bench.apply([.attach(trigger: "orders", destination: "sink", from: nil)])
        let trigger = try await bench.set(try await bench.trigger(), .running)
        let sink = try await bench.destination("sink")
        let fence = try await bench.lease()
        try await bench.cycle(trigger, fence, 1, keys: ["a", "b"])
        for delivery in try await bench.store.claimDeliveries(sink, limit: 10, at: bench.start, hiddenUntil: bench.start + .hours(1)) {
            try await bench.store.recordAttempts([BackfillBench.delivered(delivery.id, bench.start)])
        }
        var run = try await bench.backfill(trigger, fence, mode: .replayAll)
        try await run.gather(["a", "b"])
        try await run.read(["a", "x"], isLast: false)
        try await run.read(["a", "x"], isLast: true)
        try expectEqual(run.stored.counts[.redelivered], 1, "delivered again, once however often its page is read")
        let claimed = try await bench.store.claimDeliveries(sink, limit: 10, at: bench.start, hiddenUntil: bench.start + .hours(1))
        try expectEqual(
            Set(claimed.map { String(decoding: $0.job.dedupKey, as: UTF8.self) }), ["a", "x"], "what is delivered now")
        try expectEqual(claimed.first { $0.job.dedupKey == [UInt8(ascii: "a")] }?.job.position, JobPosition(1), "the same job")
    }

    /// What was acked comes again as a dead letter that is replayed does; what is in hand, what is to come, and what somebody discarded
    /// stays as it is.
    private static func replayAllToConsumers(_ bench: inout StoreBench) async throws {
        try await bench.apply([StoreBench.connection(), StoreBench.trigger("orders"), StoreBench.destination("queue", kind: "pull")])
        try await bench.apply([.attach(trigger: "orders", destination: "queue", from: nil)])
        let trigger = try await bench.set(try await bench.trigger(), .running)
        let queue = try await bench.destination("queue")
        let fence = try await bench.lease()
        try await bench.cycle(trigger, fence, 1, keys: ["acked1", "acked2", "dead", "held", "waits"])
        let (store, start) = (bench.store, bench.start)
        func fetch(_ limit: Int, at time: Timestamp) async throws -> ConsumerBatch {
            try await store.fetchJobs(ConsumerFetch(consumer: queue, limit: limit, visibility: .hours(1), nonce: 1, at: time))
        }
        func say(_ lease: LeaseID?, _ action: LeaseSettlement.Action, _ jobs: [String]? = nil) async throws {
            let rules = ConsumerMachine.Rules(attemptsMax: 1)
            _ = try await store.settleJobs(
                LeaseSettlement(consumer: queue, lease: try require(lease, "a lease"), action: action, jobs: jobs, rules: rules, at: start))
        }
        func keys(_ batch: ConsumerBatch) -> [String] { batch.jobs.map { String(decoding: $0.job.dedupKey, as: UTF8.self) } }
        let done = try await fetch(3, at: start)
        try await say(done.lease, .ack, done.jobs.prefix(2).map(\.job.token))
        try await say(done.lease, .nack(delay: { _ in .zero }, reason: "no"))
        let held = try await fetch(1, at: start)
        try expectEqual(keys(held), ["held"], "in hand")
        var run = try await bench.backfill(trigger, fence, mode: .replayAll)
        try await run.gather(["acked1", "acked2", "dead", "held", "waits"])
        try await run.read(["acked1", "dead", "held", "waits"], isLast: false)
        try await run.read(["acked1", "acked2", "dead", "held", "waits"], isLast: true)
        try expectEqual(run.stored.counts[.redelivered], 3, "jobs that come again, once however often their page is read")
        try await bench.reopen()
        let reopened = bench.store
        func after(_ limit: Int) async throws -> ConsumerBatch {
            try await reopened.fetchJobs(ConsumerFetch(consumer: queue, limit: limit, visibility: .hours(1), nonce: 2, at: start))
        }
        let again = try await after(10)
        try expectEqual(keys(again), ["acked1", "acked2", "dead", "waits"], "what comes: again first, the oldest first, then what is new")
        _ = try await reopened.settleJobs(
            LeaseSettlement(consumer: queue, lease: try require(again.lease, "the lease"), action: .ack, at: start))
        try expectEqual(try await after(10).jobs.count, 0, "nothing comes a third time")
        let delivered = try await reopened.deliveries(DeliveryQuery(destination: queue, state: .delivered))
        try expectEqual(Set(delivered.map(\.position.rawValue)), [1, 2, 3], "replayed ones are seen to be delivered")
        // Discarded: nobody is to have it.
        _ = try await reopened.settleJobs(
            LeaseSettlement(
                consumer: queue, lease: try require(held.lease, "the lease"), action: .nack(delay: { _ in .zero }, reason: "no"),
                rules: ConsumerMachine.Rules(attemptsMax: 1), at: start))
        _ = try await reopened.discardDeadLetters(
            DeadLetterSelection(destination: queue), by: "suite", because: "a test", after: nil, limit: 10, at: start + .seconds(1))
        _ = try await bench.store.commandBackfill(.default, run.stored.id, .cancel, at: start)
        var last = try await bench.backfill(trigger, fence, mode: .replayAll)
        try await last.gather(["acked1", "acked2", "dead", "held", "waits"])
        try await last.read(["held"], isLast: true)
        try expectEqual(last.stored.counts[.redelivered], 0, "a discarded one")
        try expectEqual(try await after(10).jobs.count, 0, "and it does not come")
    }

    private static func compared(_ bench: inout StoreBench) async throws {
        let trigger = try await bench.makeTrigger()
        let fence = try await bench.lease()
        try await bench.cycle(trigger, fence, 1, keys: ["in1", "in2", "out", "unplaced"])
        var run = try await bench.backfill(trigger, fence)
        try await run.gather(["in1": true, "in2": true, "out": false, "unplaced": nil])
        try await run.read(["in1", "new"], isLast: true)
        try await run.gatherNew(["new"])
        try await run.finish()
        let counts = run.stored.counts
        try expectEqual(counts[.provider], 2, "records")
        try expectEqual(counts[.kept], 2, "kept")
        try expectEqual(counts[.extra], 1, "extra")
        try expectEqual(counts[.jobsInWindow], 2, "jobs in the window")
        try expectEqual(counts[.jobsUnplaced], 1, "jobs without a time")
        try expectEqual(counts[.keyOnly], 0, "known by key only")
        try expectEqual(try await run.differences(.extra), ["in2"], "extra keys")
    }

    private static func removed(_ bench: inout StoreBench) async throws {
        let trigger = try await bench.makeTrigger()
        let fence = try await bench.lease()
        try await bench.cycle(trigger, fence, 1, keys: ["a", "b"])
        try await bench.cycle(trigger, fence, 2, keys: ["c"], at: bench.start + .days(20))
        try expect(try await bench.store.removedJobs(trigger.id) == nil, "nothing was removed yet")
        let report = try await bench.prune(RetentionPolicy(jobs: .days(10), rowsPerBatchMax: 1), at: bench.start + .days(15))
        try expectEqual(report.jobs, 2, "jobs removed")
        let removed = try require(try await bench.store.removedJobs(trigger.id), "what was removed")
        try expectEqual(removed.through, JobPosition(2), "the last of them")
        try expectEqual(removed.madeAt, bench.start, "when it was made")
    }

    private static func gone(_ bench: inout StoreBench) async throws {
        let trigger = try await bench.makeTrigger()
        let fence = try await bench.lease()
        var run = try await bench.backfill(trigger, fence)
        try await run.gather([])
        try await run.read(["x"], isLast: false)
        _ = try await bench.set(trigger, .stopped)
        try await bench.apply([.removeTrigger(name: "orders")])
        try expect(try await bench.store.backfill(.default, run.stored.id) == nil, "the backfill is gone")
        _ = try await bench.prune(at: bench.start)
        try expectEqual(try await run.differences(.missing), [], "its differences")
    }

    private static func commands(_ bench: inout StoreBench) async throws {
        let trigger = try await bench.makeTrigger()
        let fence = try await bench.lease()
        var run = try await bench.backfill(trigger, fence)
        let (store, id) = (bench.store, run.stored.id)
        try expectEqual(try await store.commandBackfill(.default, id, .pause, at: bench.start).state, .paused, "paused")
        guard case .stopped = try await run.commit(.gathered([], through: .zero, isLast: true), step: run.stored.step) else {
            throw ConformanceFailure(description: "a paused backfill went on")
        }
        _ = try await store.commandBackfill(.default, id, .resume, at: bench.start)
        try await store.recordBackfillFailure(
            BackfillFailure(
                backfill: id, step: run.stored.step, failures: 2, retryAt: bench.start + .minutes(1), error: "down", at: bench.start))
        let waiting = try require(try await store.backfill(.default, id), "the backfill")
        try expectEqual(waiting.failures, 2, "failures")
        try expectEqual(waiting.retryAt, bench.start + .minutes(1), "when it tries again")
        try expectEqual(try await store.commandBackfill(.default, id, .resume, at: bench.start).retryAt, nil, "tried again at once")
        try await run.gather([])
        try expectEqual(run.stored.failures, 0, "a success ends the failures")
        try expectEqual(try await store.commandBackfill(.default, id, .cancel, at: bench.start).state, .cancelled, "cancelled")
        try await expectError(.conflict, "resuming what is cancelled") {
            _ = try await store.commandBackfill(.default, id, .resume, at: Timestamp(seconds: 1))
        }
        try await expectError(.notFound, "an unknown one") {
            _ = try await store.commandBackfill(.default, BackfillID(999), .pause, at: Timestamp(seconds: 1))
        }
    }
}

extension StoreBench {
    func backfill(_ trigger: StoredTrigger, _ fence: Fence, mode: BackfillMode = .missingOnly) async throws -> BackfillBench {
        var new = BackfillBench.new(trigger)
        new.mode = mode
        let stored = try await store.startBackfill(new, at: start)
        return BackfillBench(store: store, fence: fence, trigger: trigger.id, generation: trigger.generation, stored: stored)
    }
}

/// One backfill and short ways to go on with it.
struct BackfillBench {
    var store: any Store
    var fence: Fence
    var trigger: TriggerID
    var generation: Generation
    var stored: StoredBackfill

    static func new(_ trigger: StoredTrigger) -> NewBackfill {
        NewBackfill(
            trigger: trigger.id, mode: .missingOnly, isAudit: false,
            window: BackfillWindow(from: Timestamp(seconds: 1), to: Timestamp(seconds: 100)), cursor: StoreBench.bytes("1"),
            definition: StoreBench.bytes("d"))
    }

    static func records(_ keys: [String]) -> [KeyedRecord] { keys.map { StoreBench.record($0, mark: 10) } }

    static func delivered(_ delivery: Int64, _ time: Timestamp) -> DeliveryAttempt {
        DeliveryAttempt(delivery: delivery, outcome: .delivered, status: 200, error: nil, response: [], at: time, durationMilliseconds: 1)
    }

    func commit(_ work: BackfillCommit.Work, step: Int64) async throws -> BackfillOutcome {
        try await store.commitBackfill(
            BackfillCommit(
                fence: fence, backfill: stored.id, trigger: trigger, generation: generation, step: step, work: work,
                at: Timestamp(seconds: 1_700_000_000)))
    }

    private mutating func commit(_ work: BackfillCommit.Work) async throws {
        guard case .committed(let next) = try await commit(work, step: stored.step) else {
            throw ConformanceFailure(description: "a piece of a backfill was not committed")
        }
        stored = next
    }

    /// The jobs of these keys, in the order of their positions; all of them lie in the window.
    mutating func gather(_ keys: [String]) async throws {
        let jobs = keys.enumerated().map {
            BackfillCommit.GatheredJob(key: StoreBench.bytes($1), position: JobPosition(Int64($0 + 1)), isInWindow: true)
        }
        try await commit(.gathered(jobs, through: JobPosition(Int64(jobs.count)), isLast: true))
    }

    mutating func gather(_ keys: KeyValuePairs<String, Bool?>) async throws {
        let jobs = keys.enumerated().map {
            BackfillCommit.GatheredJob(key: StoreBench.bytes($1.key), position: JobPosition(Int64($0 + 1)), isInWindow: $1.value)
        }
        try await commit(.gathered(jobs, through: JobPosition(Int64(jobs.count)), isLast: true))
    }

    mutating func gatherNew(_ keys: [String]) async throws {
        let first = stored.gathered.rawValue
        let jobs = keys.enumerated().map {
            BackfillCommit.GatheredJob(key: StoreBench.bytes($1), position: JobPosition(first + Int64($0 + 1)), isInWindow: true)
        }
        try await commit(.gathered(jobs, through: JobPosition(first + Int64(jobs.count)), isLast: true))
    }

    mutating func read(_ keys: [String], isLast: Bool) async throws { try await read(records: BackfillBench.records(keys), isLast: isLast) }

    mutating func read(records: [KeyedRecord], isLast: Bool) async throws {
        let end = BackfillCommit.PageEnd(
            cursor: StoreBench.bytes("2"), pageState: isLast ? nil : StoreBench.bytes("3"), isLast: isLast, connector: "c")
        try await commit(.page(records, quarantined: [], end: end))
    }

    /// Until it is done; jobs made meanwhile are gathered by whoever calls.
    mutating func finish() async throws {
        if stored.phase == .gatheringNew { try await gatherNew([]) }
        for _ in 0..<1000 where stored.state == .running { try await commit(.compared(limit: 2)) }
        try expectEqual(stored.state, .done, "its state")
    }

    func expectFenced(_ reason: FenceReason) async throws {
        guard case .fenced(let found) = try await commit(.gathered([], through: .zero, isLast: true), step: stored.step) else {
            throw ConformanceFailure(description: "a backfill that must be fenced was committed")
        }
        try expectEqual(found, reason, "why it was fenced")
    }

    func differences(_ kind: BackfillDifference.Kind) async throws -> [String] {
        var keys: [String] = []
        var after: [UInt8]?
        for _ in 0..<1000 {
            let page = try await store.backfillDifferences(
                BackfillDifferenceQuery(backfill: stored.id, kind: kind, after: after, limit: 1))
            guard let last = page.last else { return keys }
            keys.append(String(decoding: last.key, as: UTF8.self))
            after = last.key
        }
        throw ConformanceFailure(description: "the differences never came to an end")
    }
}
