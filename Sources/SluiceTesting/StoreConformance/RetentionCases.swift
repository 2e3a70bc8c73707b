import SluiceCore
import SluiceStore

extension StoreConformance {
    static let retention: [ConformanceCase] = [
        ConformanceCase("P9_whatWasHeldBackGoesWithoutDisturbingReadersPastIt", heldBackGoesLater),
        ConformanceCase("P9_aCallbacksJobKeepsTheOrderOfItsSource", orderedCallbacks),
        ConformanceCase("P10_liveKeysHoldUpNoWebhooks", liveKeysHoldUpNothing),
        ConformanceCase("P10_whatIsDatedAheadHoldsUpNothing", datedAhead),
    ]

    /// Thousands of keys that stay are looked at; what expires meanwhile goes within a few batches.
    private static func liveKeysHoldUpNothing(_ bench: inout StoreBench) async throws {
        let trigger = try await bench.makeTrigger()
        let (connection, fence) = (try await bench.connection(), try await bench.lease())
        for cycle in 1...5 {
            try await bench.cycle(trigger, fence, Int64(cycle), keys: (0..<1000).map { "\(cycle)-\($0)" }, mark: 1000, floor: 1)
        }
        func append(_ count: Int, cycle: Int64) async throws {
            var last = InboxSequence.zero
            for _ in 0..<count { last = try await bench.store.append(bench.webhook(connection, trigger.topics)).sequence }
            try await bench.cycle(trigger, fence, cycle, keys: [], covered: last)
        }
        let (policy, later) = (RetentionPolicy(inbox: .days(7), rowsPerBatchMax: 100), bench.start + .days(8))
        func batches(_ count: Int) async throws -> PruneReport {
            var sum = PruneReport()
            for _ in 0..<count {
                let report = try await bench.store.prune(policy, at: later)
                try expect(report.isPartial, "the keys are not through yet")
                sum.webhooks += report.webhooks
                sum.dedupKeys += report.dedupKeys
                sum.behind = max(sum.behind, report.behind)
            }
            return sum
        }
        try await append(200, cycle: 6)
        let first = try await batches(8)
        try expectEqual(first.webhooks, 200, "expired webhooks")
        try expectEqual(first.behind, .days(1), "how far it was behind")
        // They come while the same sweep goes on.
        try await append(50, cycle: 7)
        try expectEqual(try await batches(25).webhooks, 50, "webhooks that expired since")
        let rest = try await bench.prune(policy, at: later)
        try expectEqual(rest.dedupKeys + first.dedupKeys, 0, "live keys that went")
        try expectEqual(try await bench.cycle(trigger, fence, 8, keys: ["1-0", "5-999"], mark: 1000), 0, "jobs of live keys")
    }

    /// The clock was years ahead for a while: what came then stays until that date, and what is behind it goes in its time.
    private static func datedAhead(_ bench: inout StoreBench) async throws {
        let trigger = try await bench.makeTrigger()
        try await bench.apply([StoreBench.destination("hook"), .attach(trigger: "orders", destination: "hook", from: nil)])
        let (hook, connection, fence) = (try await bench.destination("hook"), try await bench.connection(), try await bench.lease())
        let ahead = bench.start + .days(800)
        for _ in 0..<150 { _ = try await bench.store.append(bench.webhook(connection, trigger.topics, at: ahead)) }
        try await bench.cycle(trigger, fence, 1, keys: (0..<150).map { "ahead-\($0)" }, at: ahead)
        var last = InboxSequence.zero
        for _ in 0..<20 { last = try await bench.store.append(bench.webhook(connection, trigger.topics)).sequence }
        try await bench.cycle(trigger, fence, 2, keys: (0..<20).map { "now-\($0)" }, covered: last)
        let claimed = try await bench.store.claimDeliveries(hook, limit: 20, at: ahead, hiddenUntil: ahead + .days(9))
        try await bench.store.recordAttempts(claimed.prefix(10).map { delivered($0.id, bench) })
        let policy = RetentionPolicy(inbox: .days(7), jobs: .days(7), pendingDeliveries: .days(30), rowsPerBatchMax: 40)
        try expectEqual(try await bench.prune(policy, at: bench.start + .days(8)).webhooks, 20, "webhooks that expired")
        let report = try await bench.prune(policy, at: bench.start + .days(40))
        try expectEqual(report.expiredDeliveries, 10, "deliveries that expired")
        try expectEqual(report.webhooks, 0, "webhooks dated ahead that went")
        try expectEqual(try await bench.prune(policy, at: bench.start + .days(60)).jobs, 10, "jobs that expired since")
        try expectEqual(try await bench.allJobs(limit: 500).count, 150, "jobs dated ahead")
    }

    /// Jobs 1 to 4, of which the second is not delivered at first: it goes after those behind it.
    private static func heldBackGoesLater(_ bench: inout StoreBench) async throws {
        let trigger = try await bench.makeTrigger()
        try await bench.apply([StoreBench.destination("hook"), .attach(trigger: "orders", destination: "hook", from: nil)])
        let (hook, fence) = (try await bench.destination("hook"), try await bench.lease())
        try await bench.cycle(trigger, fence, 1, keys: ["a", "b", "c", "d"])
        let tokens = try await bench.allJobs().map(\.token)
        let claimed = try await bench.store.claimDeliveries(hook, limit: 9, at: bench.start, hiddenUntil: bench.start + .days(9))
        try await bench.store.recordAttempts(claimed.filter { $0.job.position != JobPosition(2) }.map { delivered($0.id, bench) })
        let policy = RetentionPolicy(jobs: .days(1), pendingDeliveries: .days(30), rowsPerBatchMax: 100)
        try expectEqual(try await bench.prune(policy, at: bench.start + .days(2)).jobs, 3, "all but the one that is held back")
        let read = try require(try await past(bench, tokens[0]), "a token to go on with")
        // It has read what was left, and knows what went.
        let reader = try await bench.store.jobs(JobQuery(after: read, limit: 9)).next
        try await bench.store.recordAttempts(claimed.filter { $0.job.position == JobPosition(2) }.map { delivered($0.id, bench) })
        try expectEqual(try await bench.prune(policy, at: bench.start + .days(3)).jobs, 1, "the one that was held back")
        try await bench.reopen()
        try expectEqual(try await bench.store.jobs(JobQuery(after: reader, limit: 9)).jobs.count, 0, "jobs for a reader past it")
        _ = try require(try await past(bench, read), "a reader before it is told")
        let removed = try require(try await bench.store.removedJobs(trigger.id), "what retention removed")
        try expectEqual(removed.through, JobPosition(4), "how far it has come")
        try expectEqual(removed.madeAt, bench.start, "when the last of it was made")
    }

    private static func delivered(_ delivery: Int64, _ bench: StoreBench) -> DeliveryAttempt {
        DeliveryAttempt(
            delivery: delivery, outcome: .delivered, status: 200, error: nil, response: [], at: bench.start, durationMilliseconds: 1)
    }

    /// The token that a reader is given which is past retention.
    private static func past(_ bench: StoreBench, _ token: String) async throws -> String? {
        do {
            _ = try await bench.store.jobs(JobQuery(after: token, limit: 9))
            return nil
        } catch let error as SluiceError where error.code == .pastRetention {
            return error.context["next"]
        }
    }

    private static func orderedCallbacks(_ bench: inout StoreBench) async throws {
        try await bench.apply([StoreBench.connection(), StoreBench.destination("hook")])
        let (shop, hook) = (try await bench.connection(), try await bench.destination("hook"))
        try await end(try await add(bench, shop, "cb_1", hook), bench)
        let before = try await bench.store.claimDeliveries(hook, limit: 9, at: bench.start, hiddenUntil: bench.start + .hours(1))
        try await bench.store.recordAttempts(before.map { delivered($0.id, bench) })
        try await bench.apply([.setOrdered(trigger: StoredTrigger.callbackSource("shop"), true)])
        for id in ["cb_2", "cb_3", "cb_4"] { try await end(try await add(bench, shop, id, hook), bench) }
        let hidden = bench.start + .hours(1)
        for position in [2, 3, 4] as [Int64] {
            let claimed = try await bench.store.claimDeliveries(hook, limit: 9, at: bench.start, hiddenUntil: hidden)
            try expectEqual(claimed.map(\.job.position.rawValue), [position], "one after the other")
            try await bench.store.recordAttempts(claimed.map { delivered($0.id, bench) })
        }
    }

    private static func add(
        _ bench: StoreBench, _ connection: ConnectionID, _ id: String, _ destination: DestinationID
    ) async throws -> StoredCallback {
        var state = Callback(asks: true, createdAt: bench.start, expiresAt: bench.start + .hours(1), nextAt: bench.start)
        state.state = .pending
        let new = NewCallback(
            id: id, connection: connection, type: "payment", input: StoreBench.bytes("{}"), destination: destination,
            tokenHash: StoreBench.bytes(id), sealedToken: [1], idempotencyKey: nil, requestDigest: [1], isUnsafe: false, state: state,
            pauses: [.seconds(7)], sourceUID: "source")
        return try await bench.store.addCallback(new, pendingMax: 10, at: bench.start).callback
    }

    private static func end(_ callback: StoredCallback, _ bench: StoreBench) async throws {
        var state = callback.state
        (state.state, state.endedAt, state.nextAt) = (.settled, bench.start, .distantFuture)
        _ = try await bench.store.recordCallback(
            CallbackChange(
                id: callback.id, generation: callback.generation, state: state,
                ending: CallbackEnding(cause: .status, result: [0x31], record: StoreBench.bytes("{\"result\":1}")), at: bench.start))
    }
}
