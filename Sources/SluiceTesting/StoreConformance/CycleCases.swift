import SluiceCore
import SluiceStore

extension StoreConformance {
    static let cycles: [ConformanceCase] = [
        ConformanceCase("P3_anOpenCycleComesBackAsItWas", openCycle),
        ConformanceCase("P2_theEndOfACycleIsNoted", cycleEnd),
        ConformanceCase("P2_coveredNeverFalls", coveredNeverFalls),
        ConformanceCase("P3_aFailureKeepsTheCursorAndTheCycle", failureKeeps),
        ConformanceCase("P7_onlySetStateChangesTheState", stateStays),
        ConformanceCase("P7_aStateIsChangedOnceAGeneration", stateConflicts),
        ConformanceCase("P3_settingTheCursorClosesTheCycle", setCursor),
        ConformanceCase("P3_aPageBegunBeforeAPauseIsReadAnew", begunPage),
        ConformanceCase("P3_anotherInputClosesTheCycle", otherInput),
    ]

    /// Read again, the page holds other records: those that took the place of committed ones must not pass for committed.
    private static func begunPage(_ bench: inout StoreBench) async throws {
        let trigger = try await bench.makeTrigger()
        let fence = try await bench.lease()
        _ = try await bench.store.commitPage(bench.page(trigger, fence, cycle: 1, page: 0, chunk: 0, keys: ["a", "b"]))
        let resumed = try await bench.set(try await bench.set(trigger, .paused), .running)
        let again = bench.page(resumed, fence, cycle: 1, page: 0, chunk: 0, keys: ["b", "c"])
        let outcome = try await bench.store.commitPage(again)
        try expectEqual(outcome, .committed(jobs: 1, lastPosition: JobPosition(3)), "the first chunk, read again")
        _ = try await bench.store.commitPage(bench.page(resumed, fence, cycle: 1, page: 0, chunk: 1, keys: ["d"], completion: bench.end()))
        try expectEqual(try await bench.keys(), ["a", "b", "c", "d"], "jobs")
    }

    private static func otherInput(_ bench: inout StoreBench) async throws {
        let trigger = try await bench.makeTrigger()
        let fence = try await bench.lease()
        let cycle = open(bench, 1, nextPage: 1, pageState: "\"t\"")
        let completion = PageCompletion(cursor: StoreBench.bytes("7"), openCycle: cycle)
        _ = try await bench.store.commitPage(bench.page(trigger, fence, cycle: 1, keys: ["a"], completion: completion))
        try await bench.apply([StoreBench.trigger("orders", input: "{\"status\":\"paid\"}")])
        let progress = try await bench.trigger().progress
        try expectEqual(progress.openCycle, nil, "the cycle of the former input")
        try expectEqual(progress.cursor, StoreBench.bytes("7"), "the cursor")
    }

    private static func open(_ bench: StoreBench, _ number: Int64, nextPage: Int, pageState: String?) -> OpenCycle {
        OpenCycle(
            number: number, cause: .catchUp, startedAt: bench.start + .seconds(1), readBound: bench.start + .seconds(2),
            notedSequence: InboxSequence(5), nextPage: nextPage, pageState: pageState.map(StoreBench.bytes), jobs: 999,
            connector: "demo 1.0 \"é\"")
    }

    private static func openCycle(_ bench: inout StoreBench) async throws {
        let trigger = try await bench.makeTrigger()
        let fence = try await bench.lease()
        _ = try await bench.store.commitPage(bench.page(trigger, fence, cycle: 3, page: 0, chunk: 0, keys: ["x"]))
        let first = open(bench, 3, nextPage: 1, pageState: "{\"token\":\"t\"}")
        _ = try await bench.store.commitPage(
            bench.page(trigger, fence, cycle: 3, page: 0, chunk: 1, keys: ["y"], completion: PageCompletion(openCycle: first)))
        try await bench.reopen()
        var wanted = first
        wanted.jobs = 2
        var progress = try await bench.trigger().progress
        try expectEqual(progress.openCycle, wanted, "the open cycle, with the jobs counted by the store")
        try expectEqual(progress.lastCycle, 3, "last cycle")
        try expectEqual(progress.cyclesCompleted, 0, "cycles completed")
        let second = open(bench, 3, nextPage: 2, pageState: nil)
        let new = try await bench.lease()
        _ = try await bench.store.commitPage(
            bench.page(trigger, new, cycle: 3, page: 1, keys: ["y", "z"], completion: PageCompletion(openCycle: second)))
        progress = try await bench.trigger().progress
        try expectEqual(progress.openCycle?.jobs, 3, "jobs so far")
        try expectEqual(progress.openCycle?.pageState, nil, "page state")
        _ = try await bench.store.commitPage(bench.page(trigger, new, cycle: 3, page: 2, keys: [], completion: bench.end()))
        try expectEqual(try await bench.trigger().progress.openCycle, nil, "the open cycle after its end")
    }

    private static func cycleEnd(_ bench: inout StoreBench) async throws {
        let trigger = try await bench.makeTrigger()
        let fence = try await bench.lease()
        let started = bench.start + .seconds(5)
        let end = CycleEnd(
            cause: .safety, startedAt: started, coveredSequence: InboxSequence(17), safetyDueAt: bench.start + .hours(3), dedupFloor: -4)
        _ = try await bench.store.commitPage(
            bench.page(trigger, fence, cycle: 1, keys: [], completion: PageCompletion(end: end), at: bench.start + .seconds(8)))
        let progress = try await bench.trigger().progress
        try expectEqual(progress.coveredSequence, InboxSequence(17), "covered")
        try expectEqual(progress.lastStartAt, started, "last start")
        try expectEqual(progress.lastSuccessAt, bench.start + .seconds(8), "last success")
        try expectEqual(progress.safetyDueAt, bench.start + .hours(3), "safety due")
        try expectEqual(progress.dedupFloor, -4, "floor")
        try expectEqual(progress.cyclesCompleted, 1, "cycles")
        try expectEqual(progress.pollsByCause, [.safety: 1], "polls")
        try expectEqual(progress.cursor, nil, "a cursor nobody gave")
    }

    private static func coveredNeverFalls(_ bench: inout StoreBench) async throws {
        let trigger = try await bench.makeTrigger()
        let fence = try await bench.lease()
        try await bench.cycle(trigger, fence, 1, keys: [], covered: InboxSequence(9))
        try await bench.cycle(trigger, fence, 2, keys: [], covered: InboxSequence(4))
        try expectEqual(try await bench.trigger().progress.coveredSequence, InboxSequence(9), "covered")
    }

    private static func failureKeeps(_ bench: inout StoreBench) async throws {
        let trigger = try await bench.makeTrigger()
        let fence = try await bench.lease()
        try await bench.cycle(trigger, fence, 1, keys: ["x"])
        let cycle = open(bench, 2, nextPage: 1, pageState: "1")
        _ = try await bench.store.commitPage(
            bench.page(trigger, fence, cycle: 2, keys: ["y"], completion: PageCompletion(openCycle: cycle)))
        var failure = CycleFailure(
            fence: fence, trigger: trigger.id, generation: trigger.generation, cause: .retry, startedAt: bench.start + .seconds(30),
            error: SluiceError(.providerStatus, "the provider answered 500", context: ["status": "500"]), failures: 3,
            retryAt: bench.start + .minutes(2), dropsOpenCycle: false, at: bench.start + .seconds(31))
        _ = try await bench.store.recordFailure(failure)
        try await bench.reopen()
        var progress = try await bench.trigger().progress
        try expectEqual(progress.failures, 3, "failures")
        try expectEqual(progress.retryAt, bench.start + .minutes(2), "retry")
        try expect(progress.lastError?.contains("answered 500") == true, "last error: \(progress.lastError ?? "none")")
        try expectEqual(progress.pollsByCause, [.webhook: 1, .retry: 1], "polls")
        try expectEqual(progress.lastStartAt, bench.start + .seconds(30), "last start")
        try expectEqual(progress.cursor, StoreBench.bytes("{\"at\":1}"), "cursor")
        try expectEqual(progress.openCycle?.number, 2, "open cycle")
        failure.dropsOpenCycle = true
        failure.fence = try await bench.lease()
        _ = try await bench.store.recordFailure(failure)
        try expectEqual(try await bench.trigger().progress.openCycle, nil, "an open cycle that was dropped")
        try await bench.cycle(trigger, failure.fence, 3, keys: [])
        progress = try await bench.trigger().progress
        try expectEqual(progress.failures, 0, "failures after a success")
        try expectEqual(progress.retryAt, nil, "retry after a success")
        try expectEqual(progress.lastError, nil, "last error after a success")
    }

    private static func stateStays(_ bench: inout StoreBench) async throws {
        try await bench.apply([StoreBench.connection(), StoreBench.trigger("orders")])
        let starting = try await bench.set(try await bench.trigger(), .starting)
        let fence = try await bench.lease()
        try await bench.cycle(starting, fence, 1, keys: ["x"])
        try expectEqual(try await bench.trigger().state, .starting, "the state after a poll")
        try expectEqual(try await bench.trigger().generation, starting.generation, "the generation after a poll")
    }

    private static func stateConflicts(_ bench: inout StoreBench) async throws {
        let trigger = try await bench.makeTrigger()
        let failed = try await bench.store.setState(
            StateChange(trigger: trigger.id, generation: trigger.generation, state: .failed, reason: "bad cursor", at: bench.start))
        try expectEqual(failed.state, .failed, "state")
        try expectEqual(failed.stateReason, "bad cursor", "reason")
        try expectEqual(failed.generation, trigger.generation.next, "generation")
        let store = bench.store
        try await expectError(.conflict, "a state set on an old generation") {
            _ = try await store.setState(
                StateChange(trigger: trigger.id, generation: trigger.generation, state: .paused, reason: nil, at: .distantPast))
        }
        try await expectError(.conflict, "a cursor set on an old generation") {
            _ = try await store.setCursor(trigger.id, generation: trigger.generation, cursor: nil, at: .distantPast)
        }
        try await expectError(.notFound, "the state of no trigger") {
            _ = try await store.setState(
                StateChange(trigger: TriggerID(9999), generation: .first, state: .paused, reason: nil, at: .distantPast))
        }
        try await bench.reopen()
        try expectEqual(try await bench.trigger().state, .failed, "state after reopening")
    }

    private static func setCursor(_ bench: inout StoreBench) async throws {
        let trigger = try await bench.makeTrigger()
        let fence = try await bench.lease()
        try await bench.cycle(trigger, fence, 1, keys: ["x"], mark: 100, floor: 90)
        let cycle = open(bench, 2, nextPage: 1, pageState: "1")
        _ = try await bench.store.commitPage(
            bench.page(trigger, fence, cycle: 2, keys: [], completion: PageCompletion(cursorMark: 100, openCycle: cycle)))
        let changed = try await bench.store.setCursor(
            trigger.id, generation: trigger.generation, cursor: StoreBench.bytes("\"back\""), at: bench.start)
        try expectEqual(changed.generation, trigger.generation.next, "generation")
        try expectEqual(changed.progress.cursor, StoreBench.bytes("\"back\""), "cursor")
        try expectEqual(changed.progress.cursorMark, nil, "the mark of a cursor that was set")
        try expectEqual(changed.progress.openCycle, nil, "open cycle")
        try expectEqual(changed.progress.dedupFloor, nil, "the floor below which keys are forgotten")
        let cleared = try await bench.store.setCursor(changed.id, generation: changed.generation, cursor: nil, at: bench.start)
        try expectEqual(cleared.progress.cursor, nil, "cursor as before the first poll")
        try expectEqual(cleared.progress.lastPosition, JobPosition(1), "positions go on")
        try expectEqual(try await bench.cycle(cleared, fence, 3, keys: ["x", "y"]), 1, "jobs of what is read again")
    }
}
