import SluiceCore
import SluiceStore

extension StoreConformance {
    static let retention: [ConformanceCase] = [
        ConformanceCase("P9_whatWasHeldBackGoesWithoutDisturbingReadersPastIt", heldBackGoesLater),
        ConformanceCase("P9_aCallbacksJobKeepsTheOrderOfItsSource", orderedCallbacks),
    ]

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
