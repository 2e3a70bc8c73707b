import SluiceCore
import SluiceStore

/// Triggers whose jobs are delivered in their order, and destinations that are stopped.
extension StoreConformance {
    static let order: [ConformanceCase] = [
        ConformanceCase("P9_anOrderedTriggerDeliversOneAfterTheOther", oneAfterTheOther),
        ConformanceCase("P9_aFailureBlocksThoseBehindItAndIsShown", failureBlocks),
        ConformanceCase("P9_aDeadLetterBlocksUntilItIsReplayed", deadBlocks),
        ConformanceCase("P9_orderIsPerDestinationAndTrigger", independent),
        ConformanceCase("P9_orderIsTurnedOnAndOffWithoutLoss", turned),
        ConformanceCase("P9_olderJobsThatAreAttachedLaterComeFirst", olderFirst),
        ConformanceCase("P9_aDeadLetterThatRetentionRemovesNoLongerBlocks", retention),
        ConformanceCase("P9_whatABackfillDeliversAgainKeepsItsOrder", replayedInOrder),
        ConformanceCase("P9_aStoppedDestinationStaysStopped", stopped),
        ConformanceCase("P9_backlogIsCounted", backlog),
    ]

    private struct Scene {
        var trigger: StoredTrigger
        var destination: DestinationID
        var fence: Fence
    }

    private static func make(_ bench: StoreBench) async throws -> Scene {
        let trigger = try await bench.makeTrigger()
        try await bench.apply([
            StoreBench.destination("hook"), .setOrdered(trigger: "orders", true),
            .attach(trigger: "orders", destination: "hook", from: nil),
        ])
        return Scene(trigger: trigger, destination: try await bench.destination("hook"), fence: try await bench.lease())
    }

    private static func claim(_ bench: StoreBench, _ destination: DestinationID, at time: Timestamp? = nil) async throws
        -> [ClaimedDelivery]
    {
        let time = time ?? bench.start
        return try await bench.store.claimDeliveries(destination, limit: 100, at: time, hiddenUntil: time + .minutes(1))
    }

    private static func record(_ bench: StoreBench, _ delivery: Int64, _ outcome: DeliveryAttempt.Outcome, at time: Timestamp? = nil)
        async throws
    {
        let error = outcome == .delivered ? nil : "the destination answered 503"
        try await bench.store.recordAttempts([
            DeliveryAttempt(
                delivery: delivery, outcome: outcome, status: outcome == .delivered ? 200 : 503, error: error, response: [],
                at: time ?? bench.start, durationMilliseconds: 1)
        ])
    }

    private static func keys(_ claimed: [ClaimedDelivery]) -> [String] { claimed.map { String(decoding: $0.job.dedupKey, as: UTF8.self) } }

    private static func oneAfterTheOther(_ bench: inout StoreBench) async throws {
        let scene = try await make(bench)
        try await bench.cycle(scene.trigger, scene.fence, 1, keys: ["a", "b", "c"])
        try await bench.cycle(scene.trigger, scene.fence, 2, keys: ["d"])
        let observer = RecordingObserver()
        bench.store.observe(observer)
        for (index, outcome) in [DeliveryAttempt.Outcome.delivered, .filtered, .delivered, .delivered].enumerated() {
            let claimed = try await claim(bench, scene.destination)
            try expectEqual(keys(claimed), [["a"], ["b"], ["c"], ["d"]][index], "only the first is claimed")
            try expect(claimed[0].isOrdered, "it says that others wait behind it")
            try expectEqual(try await claim(bench, scene.destination).count, 0, "claimed while the first is under way")
            try await record(bench, claimed[0].id, outcome)
            if index < 3 { _ = try await observer.wait("the next one") { $0.deliveries > index } }
            if index == 1 { try await bench.reopen() }
            if index == 1 { bench.store.observe(observer) }
        }
        try expectEqual(try await bench.store.pendingDestinations(.default).count, 0, "nothing is left")
        try await bench.cycle(scene.trigger, scene.fence, 3, keys: ["e"])
        try expectEqual(keys(try await claim(bench, scene.destination)), ["e"], "a new one behind nothing is due at once")
    }

    private static func failureBlocks(_ bench: inout StoreBench) async throws {
        let scene = try await make(bench)
        try await bench.cycle(scene.trigger, scene.fence, 1, keys: ["a", "b", "c"])
        try expectEqual(try await bench.store.blockedDeliveries(.default), [], "nothing failed yet")
        let first = try await claim(bench, scene.destination)[0]
        let retryAt = bench.start + .minutes(5)
        try await record(bench, first.id, .retry(at: retryAt))
        try await bench.reopen()
        try expectEqual(try await claim(bench, scene.destination, at: retryAt - .milliseconds(1)).count, 0, "those behind it wait")
        try expectEqual(try await bench.store.pendingDestinations(.default).map(\.dueAt), [retryAt], "when something is due")
        let head = try require(try await bench.store.blockedDeliveries(.default).first, "what blocks")
        try expectEqual(
            [head.position.rawValue, Int64(head.attempts), Int64(head.waiting)], [1, 1, 2], "position, attempts, those behind")
        try expectEqual(String(decoding: head.dedupKey, as: UTF8.self), "a", "which job")
        try expectEqual(head.since, bench.start, "since when")
        try expectEqual(head.lastError, "the destination answered 503", "why")
        try expectEqual(head.lastStatus, 503, "its status")
        try expectEqual(head.nextAttemptAt, retryAt, "when it is tried again")
        try expectEqual(try await bench.store.deliveries(DeliveryQuery()).map(\.nextAttemptAt), [nil, nil, retryAt], "as they are listed")
        let again = try await claim(bench, scene.destination, at: retryAt)
        try expectEqual(again.map(\.id), [first.id], "the same again")
        // Put back because the server stops: still the first.
        try await record(bench, first.id, .putBack(at: retryAt))
        try expectEqual(try await claim(bench, scene.destination, at: retryAt).map(\.id), [first.id], "the same once more")
        try await record(bench, first.id, .delivered, at: retryAt)
        try expectEqual(keys(try await claim(bench, scene.destination, at: retryAt)), ["b"], "then the next")
        try expectEqual(try await bench.store.blockedDeliveries(.default), [], "nothing blocks any more")
    }

    private static func deadBlocks(_ bench: inout StoreBench) async throws {
        let scene = try await make(bench)
        try await bench.cycle(scene.trigger, scene.fence, 1, keys: ["a", "b"])
        let first = try await claim(bench, scene.destination)[0]
        try await record(bench, first.id, .dead(reason: "exhausted"))
        try expectEqual(try await claim(bench, scene.destination, at: bench.start + .days(3)).count, 0, "it blocks as a dead letter, too")
        let head = try require(try await bench.store.blockedDeliveries(.default).first, "what blocks")
        try expectEqual(head.state, .dead, "its state")
        try expectEqual(head.nextAttemptAt, nil, "no attempt is to come")
        let later = bench.start + .hours(1)
        try expectEqual(
            try await bench.replay(DeadLetterSelection(deliveries: [first.id]), at: later), 1, "replayed")
        try expectEqual(try await claim(bench, scene.destination, at: later).map(\.id), [first.id], "then it comes first")
        try await record(bench, first.id, .delivered, at: later)
        try expectEqual(keys(try await claim(bench, scene.destination, at: later)), ["b"], "and then the next")
    }

    private static func independent(_ bench: inout StoreBench) async throws {
        let scene = try await make(bench)
        let other = try await bench.makeTrigger("others")
        try await bench.apply([
            StoreBench.destination("second"), .attach(trigger: "orders", destination: "second", from: nil),
            .attach(trigger: "others", destination: "hook", from: nil),
        ])
        try await bench.cycle(scene.trigger, scene.fence, 1, keys: ["a", "b"])
        try await bench.cycle(other, scene.fence, 1, keys: ["x", "y"])
        let claimed = try await claim(bench, scene.destination)
        try expectEqual(Set(keys(claimed)), ["a", "x", "y"], "the first of the ordered one, all of the other")
        try await record(bench, try require(claimed.first { keys([$0]) == ["a"] }, "a").id, .retry(at: bench.start + .hours(1)))
        let second = try await bench.destination("second")
        let there = try await claim(bench, second)
        try expectEqual(keys(there), ["a"], "the other destination is not held up")
        try await record(bench, there[0].id, .delivered)
        try expectEqual(keys(try await claim(bench, second)), ["b"], "and goes on")
    }

    private static func turned(_ bench: inout StoreBench) async throws {
        let scene = try await make(bench)
        try await bench.cycle(scene.trigger, scene.fence, 1, keys: ["a", "b", "c"])
        let first = try await claim(bench, scene.destination)[0]
        try await bench.apply([.setOrdered(trigger: "orders", false)])
        try expectEqual(keys(try await claim(bench, scene.destination)), ["b", "c"], "without order all are due")
        let later = bench.start + .minutes(2)
        try await bench.apply([.setOrdered(trigger: "orders", true)])
        try expectEqual(keys(try await claim(bench, scene.destination, at: later)), ["a"], "in order the first again")
        try await record(bench, first.id, .delivered, at: later)
        try expectEqual(keys(try await claim(bench, scene.destination, at: later)), ["b"], "then the next")
    }

    private static func olderFirst(_ bench: inout StoreBench) async throws {
        let trigger = try await bench.makeTrigger()
        let fence = try await bench.lease()
        try await bench.apply([StoreBench.destination("hook"), .setOrdered(trigger: "orders", true)])
        try await bench.cycle(trigger, fence, 1, keys: ["old1", "old2"])
        try await bench.apply([.attach(trigger: "orders", destination: "hook", from: nil)])
        let hook = try await bench.destination("hook")
        try await bench.cycle(trigger, fence, 2, keys: ["new"])
        try await bench.apply([.attach(trigger: "orders", destination: "hook", from: JobPosition(1))])
        for key in ["old1", "old2", "new"] {
            let claimed = try await claim(bench, hook, at: bench.start + .minutes(5))
            try expectEqual(keys(claimed), [key], "in the order of positions")
            try await record(bench, claimed[0].id, .delivered)
        }
    }

    private static func replayedInOrder(_ bench: inout StoreBench) async throws {
        let scene = try await make(bench)
        // Made before the trigger was ordered, one of them discarded.
        try await bench.apply([.setOrdered(trigger: "orders", false)])
        try await bench.cycle(scene.trigger, scene.fence, 1, keys: ["a", "b", "c"])
        let made = try await claim(bench, scene.destination)
        for (index, outcome) in [DeliveryAttempt.Outcome.delivered, .dead(reason: "exhausted"), .delivered].enumerated() {
            try await record(bench, made[index].id, outcome)
        }
        _ = try await bench.store.discardDeadLetters(
            DeadLetterSelection(deliveries: [made[1].id]), by: "anna", because: "a test", after: nil, limit: 1, at: bench.start)
        try await bench.apply([.setOrdered(trigger: "orders", true)])
        try await bench.cycle(scene.trigger, scene.fence, 2, keys: ["d", "e"])
        try expectEqual(keys(try await claim(bench, scene.destination)), ["d"], "under way when it begins")
        var run = try await bench.backfill(scene.trigger, scene.fence, mode: .replayAll)
        try await run.gather(["a", "b", "c", "d", "e"])
        try await run.read(["b", "c"], isLast: false)
        try await run.read(["a", "d"], isLast: true)
        try expectEqual(run.stored.counts[.redelivered], 2, "delivered again")
        try await bench.reopen()
        var now = bench.start + .minutes(2)
        let first = try await claim(bench, scene.destination, at: now)
        try expectEqual(keys(first), ["a"], "only the first is due")
        try await record(bench, first[0].id, .dead(reason: "exhausted"), at: now)
        now = now + .days(1)
        try expectEqual(keys(try await claim(bench, scene.destination, at: now)), [], "a dead letter blocks those behind it")
        try await bench.reopen()
        _ = try await bench.replay(DeadLetterSelection(deliveries: [first[0].id]), at: now)
        for key in ["a", "c", "d", "e"] {
            let claimed = try await claim(bench, scene.destination, at: now)
            try expectEqual(keys(claimed), [key], "in the order of positions, but for the discarded one")
            try expect(claimed[0].isOrdered, "it says that others wait behind it")
            try await record(bench, claimed[0].id, .delivered, at: now)
        }
        try expectEqual(keys(try await claim(bench, scene.destination, at: now)), [], "after the last")
    }

    private static func retention(_ bench: inout StoreBench) async throws {
        let scene = try await make(bench)
        try await bench.cycle(scene.trigger, scene.fence, 1, keys: ["a"])
        let first = try await claim(bench, scene.destination)[0]
        try await record(bench, first.id, .dead(reason: "exhausted"))
        let later = bench.start + .days(20)
        try await bench.cycle(scene.trigger, scene.fence, 2, keys: ["b"], at: later)
        let policy = RetentionPolicy(jobs: .days(30), pendingDeliveries: .days(60), rowsPerBatchMax: 100)
        let end = bench.start + .days(40)
        try expectEqual(try await claim(bench, scene.destination, at: end).count, 0, "blocked for as long as it is kept")
        try expectEqual(try await bench.prune(policy, at: end).jobs, 1, "the dead letter goes with its job")
        try expectEqual(keys(try await claim(bench, scene.destination, at: end)), ["b"], "and blocks no longer")
    }

    private static func stopped(_ bench: inout StoreBench) async throws {
        let scene = try await make(bench)
        let settings = try require(try await bench.store.definitions(.default).destinations.first, "the destination").settings
        func state() async throws -> StoredDestination {
            try require(try await bench.store.definitions(.default).destinations.first, "the destination")
        }
        try expectEqual(try await state().state, .active, "at first")
        try await bench.apply([.setDestinationState(name: "hook", state: .gone, reason: "it answered 410", ifSettings: [1, 2, 3])])
        try expectEqual(try await state().state, .active, "other settings: nothing changes")
        try await bench.apply([.setDestinationState(name: "hook", state: .gone, reason: "it answered 410", ifSettings: settings)])
        try await bench.reopen()
        var now = try await state()
        try expectEqual(now.state, .gone, "stopped, over a restart")
        try expectEqual(now.stateReason, "it answered 410", "why")
        try expectEqual(now.stateSince, bench.start, "since when")
        try await bench.cycle(scene.trigger, scene.fence, 1, keys: ["a"])
        try expectEqual(try await bench.store.backlog(scene.destination).pending, 1, "deliveries are intended all the same")
        try await bench.apply([.setDestinationState(name: "hook", state: .active, reason: nil, ifSettings: nil)])
        now = try await state()
        try expectEqual(now.state, .active, "active again")
        try expectEqual(now.stateReason, nil, "without a reason")
        try await expectError(.notFound, "a destination that is none") {
            try await bench.apply([.setDestinationState(name: "none", state: .paused, reason: nil, ifSettings: nil)])
        }
    }

    private static func backlog(_ bench: inout StoreBench) async throws {
        let scene = try await make(bench)
        try await bench.apply([.setOrdered(trigger: "orders", false)])
        try expectEqual(
            try await bench.store.backlog(scene.destination), DeliveryBacklog(pending: 0, dead: 0, nextAttemptAt: nil), "at first")
        try await bench.cycle(scene.trigger, scene.fence, 1, keys: ["a", "b", "c"])
        let claimed = try await claim(bench, scene.destination)
        try await record(bench, claimed[0].id, .dead(reason: "exhausted"))
        try await record(bench, claimed[1].id, .retry(at: bench.start + .seconds(5)))
        try await record(bench, claimed[2].id, .delivered)
        try expectEqual(
            try await bench.store.backlog(scene.destination),
            DeliveryBacklog(pending: 1, dead: 1, nextAttemptAt: bench.start + .seconds(5)), "after attempts")
    }
}
