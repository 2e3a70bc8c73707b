import SluiceCore
import SluiceStore

extension StoreConformance {
    static let pages: [ConformanceCase] = [
        ConformanceCase("P3_keysJobsAndCursorAreCommittedTogether", committedTogether),
        ConformanceCase("P3_committingAgainChangesNothing", committingAgain),
        ConformanceCase("P3_whoLostTheLeaseCannotCommit", lostLease),
        ConformanceCase("P3_aTriggerThatChangedIsNotCommittedTo", changedTrigger),
        ConformanceCase("P3_onlyTheLastChunkMovesTheCursor", chunks),
        ConformanceCase("P3_aPageReadAnewIsTakenAnew", pageReadAnew),
        ConformanceCase("P3_oneFailingCommitHarmsNoOther", oneFailing),
        ConformanceCase("P3_recordsKeepTheirBytes", recordBytes),
        ConformanceCase("P3_aQuarantinedRecordIsKeptOnce", quarantineOnce),
    ]

    private static func committedTogether(_ bench: inout StoreBench) async throws {
        let trigger = try await bench.makeTrigger()
        let fence = try await bench.lease()
        let observer = RecordingObserver()
        bench.store.observe(observer)
        var completion = bench.end()
        completion.cursor = StoreBench.bytes("\"c1\"")
        completion.cursorMark = 41
        let outcome = try await bench.store.commitPage(bench.page(trigger, fence, cycle: 1, keys: ["x", "y"], completion: completion))
        try expectEqual(outcome, .committed(jobs: 2, lastPosition: JobPosition(2)), "outcome")
        _ = try await observer.wait("the jobs") { $0.triggers.contains([trigger.id]) }
        try await bench.reopen()
        let progress = try await bench.trigger().progress
        try expectEqual(progress.cursor, StoreBench.bytes("\"c1\""), "cursor")
        try expectEqual(progress.cursorMark, 41, "mark")
        try expectEqual(progress.lastPosition, JobPosition(2), "position")
        try expectEqual(try await bench.keys(trigger.id), ["x", "y"], "jobs")
        let again = try await bench.lease()
        try expectEqual(try await bench.cycle(trigger, again, 2, keys: ["x", "y"]), 0, "jobs of keys that were committed")
    }

    private static func committingAgain(_ bench: inout StoreBench) async throws {
        let trigger = try await bench.makeTrigger()
        let fence = try await bench.lease()
        let first = bench.page(trigger, fence, cycle: 1, keys: ["x"], completion: bench.end())
        _ = try await bench.store.commitPage(first)
        try expectEqual(try await bench.store.commitPage(first), .repeated, "the same page")
        _ = try await bench.cycle(trigger, fence, 2, keys: ["y"])
        try expectEqual(try await bench.store.commitPage(first), .repeated, "an older page")
        let progress = try await bench.trigger().progress
        try expectEqual(progress.cyclesCompleted, 2, "cycles completed")
        try expectEqual(progress.pollsByCause, [.webhook: 2], "polls")
        try expectEqual(progress.lastCycle, 2, "last cycle")
        try expectEqual(try await bench.keys(), ["x", "y"], "jobs")
    }

    private static func lostLease(_ bench: inout StoreBench) async throws {
        let trigger = try await bench.makeTrigger()
        let old = try await bench.lease()
        try await bench.reopen()
        let new = try await bench.lease()
        try expect(new.epoch > old.epoch, "the epoch did not rise: \(old.epoch), then \(new.epoch)")
        let late = bench.page(trigger, old, cycle: 1, keys: ["x"], completion: bench.end())
        try expectEqual(try await bench.store.commitPage(late), .fenced(.leaseLost), "a commit under the old epoch")
        let failure = CycleFailure(
            fence: old, trigger: trigger.id, generation: trigger.generation, cause: .webhook, startedAt: bench.start,
            error: SluiceError(.providerStatus, "x"), failures: 1, retryAt: bench.start, dropsOpenCycle: false, at: bench.start)
        try expectEqual(try await bench.store.recordFailure(failure), .fenced(.leaseLost), "a failure under the old epoch")
        let other = Fence(shard: 7, epoch: new.epoch)
        try expectEqual(
            try await bench.store.commitPage(bench.page(trigger, other, cycle: 1, keys: ["x"])), .fenced(.leaseLost),
            "of a shard never leased")
        try expectEqual(try await bench.keys(), [], "jobs")
        try expectEqual(try await bench.trigger().progress.failures, 0, "failures")
        try expectEqual(try await bench.cycle(trigger, new, 1, keys: ["x"]), 1, "jobs of the new holder")
    }

    private static func changedTrigger(_ bench: inout StoreBench) async throws {
        let trigger = try await bench.makeTrigger()
        let fence = try await bench.lease()
        let paused = try await bench.set(trigger, .paused)
        try expectEqual(paused.generation, trigger.generation.next, "a pause raises the generation")
        let late = bench.page(trigger, fence, cycle: 1, keys: ["x"], completion: bench.end())
        try expectEqual(try await bench.store.commitPage(late), .fenced(.triggerChanged), "a commit begun before the pause")
        let stopped = try await bench.set(paused, .stopped)
        try await bench.apply([.removeTrigger(name: "orders")])
        try expectEqual(
            try await bench.store.commitPage(bench.page(stopped, fence, cycle: 1, keys: ["x"])), .fenced(.triggerGone), "after its removal")
        try expectEqual(try await bench.keys(), [], "jobs")
    }

    private static func chunks(_ bench: inout StoreBench) async throws {
        let trigger = try await bench.makeTrigger()
        let fence = try await bench.lease()
        let first = bench.page(trigger, fence, cycle: 1, page: 0, chunk: 0, keys: ["x", "y"])
        try expectEqual(try await bench.store.commitPage(first), .committed(jobs: 2, lastPosition: JobPosition(2)), "first chunk")
        try expectEqual(try await bench.trigger().progress.cursor, nil, "the cursor after a chunk")
        try expectEqual(
            try await bench.store.commitPage(first), .committed(jobs: 0, lastPosition: JobPosition(2)), "the chunk again")
        let last = bench.page(trigger, fence, cycle: 1, page: 0, chunk: 1, keys: ["y", "z"], completion: bench.end())
        try expectEqual(try await bench.store.commitPage(last), .committed(jobs: 1, lastPosition: JobPosition(3)), "last chunk")
        try expectEqual(try await bench.store.commitPage(first), .repeated, "the first chunk after the last")
        try expect(try await bench.trigger().progress.cursor != nil, "the last chunk did not move the cursor")
        try expectEqual(try await bench.keys(), ["x", "y", "z"], "jobs")
    }

    /// A page that was begun and not completed is asked for again, and the answer may differ: nothing of it may be taken
    /// for committed because of its place alone.
    private static func pageReadAnew(_ bench: inout StoreBench) async throws {
        let trigger = try await bench.makeTrigger()
        let fence = try await bench.lease()
        _ = try await bench.store.commitPage(bench.page(trigger, fence, cycle: 1, page: 0, chunk: 0, keys: ["x"]))
        try await bench.reopen()
        let new = try await bench.lease()
        let afterCrash = bench.page(trigger, new, cycle: 1, page: 0, chunk: 0, keys: ["w", "x"])
        try expectEqual(
            try await bench.store.commitPage(afterCrash), .committed(jobs: 1, lastPosition: JobPosition(2)), "under a new lease")
        _ = try await bench.store.recordFailure(
            CycleFailure(
                fence: new, trigger: trigger.id, generation: trigger.generation, cause: .webhook, startedAt: bench.start,
                error: SluiceError(.diskFull, "x"), failures: 1, retryAt: bench.start, dropsOpenCycle: false, at: bench.start))
        let afterFailure = bench.page(trigger, new, cycle: 1, page: 0, chunk: 0, keys: ["v", "w"])
        try expectEqual(
            try await bench.store.commitPage(afterFailure), .committed(jobs: 1, lastPosition: JobPosition(3)), "after a failure")
        let afterAnother = bench.page(trigger, new, cycle: 1, page: 0, chunk: 0, keys: ["u", "v", "w"])
        try expectEqual(
            try await bench.store.commitPage(afterAnother), .committed(jobs: 1, lastPosition: JobPosition(4)),
            "after a failure that could not be recorded")
        try expectEqual(try await bench.keys(), ["x", "w", "v", "u"], "jobs")
    }

    private static func oneFailing(_ bench: inout StoreBench) async throws {
        let good = try await bench.makeTrigger("good")
        let changed = try await bench.makeTrigger("changed", topicKeys: ["b"])
        let fence = try await bench.lease()
        _ = try await bench.set(changed, .paused)
        let connection = try await bench.connection()
        let here = bench
        try await withThrowingTaskGroup(of: Void.self) { group in
            for number in 0..<30 {
                group.addTask { _ = try await here.store.append(here.webhook(connection, good.topics)) }
                group.addTask {
                    try? await here.store.apply(
                        [StoreBench.destination("d\(number)"), .removeTrigger(name: "nobody")], namespace: .default, at: here.start)
                }
                group.addTask { _ = try await here.store.commitPage(here.page(changed, fence, cycle: Int64(number), keys: ["c\(number)"])) }
            }
            for number in 1...30 { try await here.cycle(good, fence, Int64(number), keys: ["g\(number)"]) }
            try await group.waitForAll()
        }
        try expectEqual(try await bench.keys(good.id).count, 30, "jobs of the good trigger")
        try expectEqual(try await bench.keys(changed.id).count, 0, "jobs of the changed one")
        try expectEqual(try await bench.store.inbox(InboxQuery()).count, 30, "webhooks")
        try expectEqual(try await bench.store.definitions(.default).destinations.count, 0, "destinations of refused changes")
    }

    private static func recordBytes(_ bench: inout StoreBench) async throws {
        let trigger = try await bench.makeTrigger()
        let fence = try await bench.lease()
        let records = ["{ \"n\" : 9007199254740993 }", "{\"é\":\"\\u0000\"}", "\"\"", "[1e2]"].enumerated().map { index, text in
            KeyedRecord(
                record: Record(
                    bytes: StoreBench.bytes("  \(text)").dropFirst(2), isDerived: index == 1 || index == 3, isDeletion: index > 1),
                dedupKey: [UInt8(index), 0, 255])
        }
        var commit = bench.page(trigger, fence, cycle: 1, keys: [], completion: bench.end(), at: bench.start + .seconds(9))
        commit.records = records
        commit.cause = .safety
        _ = try await bench.store.commitPage(commit)
        let jobs = try await bench.allJobs()
        try expectEqual(jobs.map(\.record), records.map { Array($0.record.bytes) }, "records")
        try expectEqual(jobs.map(\.dedupKey), records.map(\.dedupKey), "keys")
        try expectEqual(jobs.map(\.isDerived), [false, true, false, true], "derived")
        try expectEqual(jobs.map(\.isDeletion), [false, false, true, true], "deletions")
        try expectEqual(Set(jobs.map(\.cause)), [.safety], "cause")
        try expectEqual(Set(jobs.map(\.createdAt)), [bench.start + .seconds(9)], "time")
        try expectEqual(Set(jobs.map(\.trigger)), [trigger.id], "trigger")
    }

    private static func quarantineOnce(_ bench: inout StoreBench) async throws {
        let trigger = try await bench.makeTrigger()
        let fence = try await bench.lease()
        for number in 1...2 {
            var commit = bench.page(trigger, fence, cycle: Int64(number), keys: [], completion: bench.end())
            commit.quarantined = [
                QuarantinedRecord(bytes: StoreBench.bytes("{}"), reason: "no id", digest: [1]),
                QuarantinedRecord(bytes: StoreBench.bytes("[\(number)]"), reason: "no id", digest: [UInt8(number), 2]),
            ]
            _ = try await bench.store.commitPage(commit)
        }
        let kept = try await bench.store.quarantine(.default, trigger: trigger.id, limit: 10)
        try expectEqual(kept.map(\.digest), [[2, 2], [1, 2], [1]], "quarantined, newest first")
        try expectEqual(try await bench.trigger().progress.quarantined, 3, "their number")
    }
}
