import SluiceCore
import SluiceStore

extension StoreConformance {
    static let removals: [ConformanceCase] = [
        ConformanceCase("P9_aTriggerWithUndeliveredJobsIsRemovedOnlyIfToldTo", triggerWithUndelivered),
        ConformanceCase("P12_whatIsDueOfARemovedTriggerIsLookedAtOnce", dueOfRemoved),
        ConformanceCase("P9_aTriggerWithUnackedJobsIsRemovedOnlyIfToldTo", triggerWithUnacked),
        ConformanceCase("P9_aDestinationInUseIsRemovedOnlyIfToldTo", destinationInUse),
        ConformanceCase("P9_aConsumerWithJobsInHandIsRemovedOnlyIfToldTo", consumerInUse),
        ConformanceCase("P9_whatCallbacksAreToDeliverIsNotRemovedUnseen", callbacksInUse),
    ]

    private static func settle(_ bench: StoreBench, _ destination: DestinationID, _ outcome: DeliveryAttempt.Outcome) async throws {
        let claimed = try await bench.store.claimDeliveries(
            destination, limit: 100, at: bench.start, hiddenUntil: bench.start + .minutes(1))
        try await bench.store.recordAttempts(
            claimed.map {
                DeliveryAttempt(
                    delivery: $0.id, outcome: outcome, status: nil, error: nil, response: [], at: bench.start, durationMilliseconds: 1)
            })
    }

    private static func refuses(_ bench: StoreBench, _ change: DefinitionChange, _ what: String) async throws {
        // With it goes what was to be done before it.
        try await expectError(.conflict, what) { try await bench.apply([StoreBench.destination("never"), change]) }
        let names = try await bench.store.definitions(.default).destinations.map(\.name)
        try expect(!names.contains("never"), "\(what): a part was applied")
    }

    private static func triggerWithUndelivered(_ bench: inout StoreBench) async throws {
        let trigger = try await bench.makeTrigger()
        try await bench.apply([StoreBench.destination("hook"), .attach(trigger: "orders", destination: "hook", from: nil)])
        let (destination, fence) = (try await bench.destination("hook"), try await bench.lease())
        try await bench.cycle(trigger, fence, 1, keys: ["a"])
        var running = try await bench.set(trigger, .stopped)
        try await refuses(bench, .removeTrigger(name: "orders"), "a pending delivery")
        try await settle(bench, destination, .dead(reason: "exhausted"))
        try await refuses(bench, .removeTrigger(name: "orders"), "a dead letter")
        _ = try await bench.replay(DeadLetterSelection(), at: bench.start)
        try await settle(bench, destination, .delivered)
        try await bench.apply([.removeTrigger(name: "orders")])
        try expectEqual(try await bench.store.definitions(.default).triggers.count, 0, "triggers")
        try await bench.apply([StoreBench.trigger("orders"), .attach(trigger: "orders", destination: "hook", from: nil)])
        running = try await bench.set(try await bench.trigger(), .running)
        try await bench.cycle(running, fence, 1, keys: ["a"])
        _ = try await bench.set(running, .stopped)
        try await bench.apply([.removeTrigger(name: "orders", discardsUndelivered: true)])
        try expectEqual(try await bench.allJobs().count, 0, "jobs")
    }

    private static func dueOfRemoved(_ bench: inout StoreBench) async throws {
        let trigger = try await bench.makeTrigger()
        let other = try await bench.makeTrigger("other", topicKeys: ["b"])
        try await bench.apply([
            StoreBench.destination("hook"), .attach(trigger: "orders", destination: "hook", from: nil),
            .attach(trigger: "other", destination: "hook", from: nil),
        ])
        let (destination, fence) = (try await bench.destination("hook"), try await bench.lease())
        try await bench.cycle(trigger, fence, 1, keys: (0..<7000).map { "k\($0)" })
        try await bench.cycle(other, fence, 1, keys: ["x", "y"], at: bench.start + .seconds(1))
        _ = try await bench.set(trigger, .stopped)
        try await bench.apply([.removeTrigger(name: "orders", discardsUndelivered: true)])
        let later = bench.start + .seconds(1)
        var keys: [String] = []
        for _ in 0..<5 where keys.count < 2 {
            let claimed = try await bench.store.claimDeliveries(destination, limit: 10, at: later, hiddenUntil: later + .minutes(1))
            keys += claimed.map { String(decoding: $0.job.dedupKey, as: UTF8.self) }
        }
        try expectEqual(keys, ["x", "y"], "what the other trigger is to deliver, after a few claims")
        let pending = try await bench.store.pendingDestinations(.default)
        try expectEqual(pending.filter { $0.dueAt <= later }.count, 0, "destinations with something due")
        _ = try await bench.prune(at: bench.start + .days(100))
        try expectEqual(
            try await bench.store.deliveries(DeliveryQuery(namespace: .default)).count, 2, "deliveries once the garbage is gone")
    }

    private static func triggerWithUnacked(_ bench: inout StoreBench) async throws {
        let trigger = try await bench.makeTrigger()
        try await bench.apply([StoreBench.destination("queue", kind: "pull"), .attach(trigger: "orders", destination: "queue", from: nil)])
        let (queue, fence) = (try await bench.destination("queue"), try await bench.lease())
        try await bench.cycle(trigger, fence, 1, keys: ["a", "b"])
        _ = try await bench.set(trigger, .stopped)
        try await refuses(bench, .removeTrigger(name: "orders"), "jobs that no worker had")
        let lease = try await fetch(bench, queue)
        try await refuses(bench, .removeTrigger(name: "orders"), "jobs that a worker has in hand")
        try await bench.reopen()
        try await refuses(bench, .removeTrigger(name: "orders"), "the same after a restart")
        _ = try await bench.store.settleJobs(
            LeaseSettlement(consumer: queue, lease: lease, action: .ack, jobs: nil, rules: ConsumerMachine.Rules(), at: bench.start))
        try await bench.apply([.removeTrigger(name: "orders")])
    }

    private static func fetch(_ bench: StoreBench, _ queue: DestinationID) async throws -> LeaseID {
        let batch = try await bench.store.fetchJobs(
            ConsumerFetch(
                consumer: queue, limit: 10, bytesMax: 1 << 20, visibility: .seconds(60), rules: ConsumerMachine.Rules(), nonce: 5,
                worker: "suite", at: bench.start))
        return try require(batch.lease, "the lease")
    }

    private static func destinationInUse(_ bench: inout StoreBench) async throws {
        let trigger = try await bench.makeTrigger()
        try await bench.apply([StoreBench.destination("hook"), .attach(trigger: "orders", destination: "hook", from: nil)])
        try await refuses(bench, .removeDestination(name: "hook"), "an attached destination")
        try await bench.cycle(trigger, try await bench.lease(), 1, keys: ["a", "b"])
        try await bench.apply([.detach(trigger: "orders", destination: "hook")])
        try await refuses(bench, .removeDestination(name: "hook"), "what detaching left behind")
        try await bench.apply([.attach(trigger: "orders", destination: "hook", from: nil)])
        _ = try await bench.replay(DeadLetterSelection(), at: bench.start)
        try await settle(bench, try await bench.destination("hook"), .delivered)
        try await bench.apply([.detach(trigger: "orders", destination: "hook")])
        try await bench.apply([.removeDestination(name: "hook")])
        try await bench.apply([
            StoreBench.destination("hook"), .attach(trigger: "orders", destination: "hook", from: JobPosition(1)),
            .removeDestination(name: "hook", discardsUndelivered: true),
        ])
        _ = try await bench.prune(at: bench.start)
        try expectEqual(try await bench.store.deliveries(DeliveryQuery()).count, 0, "deliveries")
    }

    private static func consumerInUse(_ bench: inout StoreBench) async throws {
        let trigger = try await bench.makeTrigger()
        try await bench.apply([StoreBench.destination("queue", kind: "pull"), .attach(trigger: "orders", destination: "queue", from: nil)])
        let queue = try await bench.destination("queue")
        try await bench.cycle(trigger, try await bench.lease(), 1, keys: ["a"])
        let lease = try await fetch(bench, queue)
        try await bench.apply([.detach(trigger: "orders", destination: "queue")])
        try await refuses(bench, .removeDestination(name: "queue"), "a job in hand")
        _ = try await bench.store.settleJobs(
            LeaseSettlement(consumer: queue, lease: lease, action: .ack, jobs: nil, rules: ConsumerMachine.Rules(), at: bench.start))
        try await bench.apply([.removeDestination(name: "queue")])
        try expectEqual(try await bench.store.definitions(.default).destinations.count, 0, "destinations")
    }

    private static func callbacksInUse(_ bench: inout StoreBench) async throws {
        try await bench.apply([StoreBench.connection(), StoreBench.destination("hook")])
        let (shop, hook) = (try await bench.connection(), try await bench.destination("hook"))
        var state = Callback(asks: true, createdAt: bench.start, expiresAt: bench.start + .hours(1), nextAt: bench.start)
        state.state = .pending
        let new = NewCallback(
            id: "cb_1", connection: shop, type: "payment", input: StoreBench.bytes("{}"), destination: hook, tokenHash: [1],
            sealedToken: [1],
            idempotencyKey: nil, requestDigest: [1], isUnsafe: false, state: state, pauses: [.seconds(7)], sourceUID: "source")
        let made = try await bench.store.addCallback(new, pendingMax: 10, at: bench.start).callback
        try await refuses(bench, .removeDestination(name: "hook"), "a destination that a pending callback names")
        (state.state, state.endedAt, state.nextAt) = (.settled, bench.start, .distantFuture)
        _ = try await bench.store.recordCallback(
            CallbackChange(
                id: "cb_1", generation: made.generation, state: state,
                ending: CallbackEnding(cause: .status, result: [0x31], record: StoreBench.bytes("{\"result\":1}")), at: bench.start))
        try await refuses(bench, .removeConnection(name: "shop"), "a connection whose callbacks' jobs are not delivered")
        try await settle(bench, hook, .delivered)
        try await bench.apply([.removeDestination(name: "hook"), .removeConnection(name: "shop")])
        try expectEqual(try await bench.store.definitions(.default).connections.count, 0, "connections")
    }
}
