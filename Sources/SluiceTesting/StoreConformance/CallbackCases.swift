import SluiceCore
import SluiceStore

extension StoreConformance {
    static let callbacks: [ConformanceCase] = [
        ConformanceCase("aCallbackIsKeptAsItIs", keptCallback),
        ConformanceCase("P9_aCallbacksResultIsAJobWithItsDeliveries", settledCallback),
        ConformanceCase("P3_aCallbackEndsOnce", endedOnce),
        ConformanceCase("anIdempotencyKeyGivesTheSameCallback", sameCallback),
        ConformanceCase("P10_pendingCallbacksAreBoundedAndFoundByTime", dueCallbacks),
        ConformanceCase("P10_endedCallbacksAreForgottenWithTheirJobs", forgottenCallbacks),
        ConformanceCase("aConnectionWithPendingCallbacksStays", waitedForConnection),
    ]

    private static func connection(_ bench: StoreBench, _ name: String = "shop") async throws -> ConnectionID {
        try await bench.apply([StoreBench.connection(name)])
        return try require(try await bench.store.definitions(.default).connections.first { $0.name == name }, "the connection").id
    }

    private static func new(
        _ bench: StoreBench, _ connection: ConnectionID, _ id: String, asks: Bool = true, nextIn seconds: Int64 = 5, key: String? = nil,
        digest: [UInt8] = [1], destination: DestinationID? = nil
    ) -> NewCallback {
        var state = Callback(
            asks: asks, createdAt: bench.start, expiresAt: bench.start + .hours(1), nextAt: bench.start + .seconds(seconds))
        state.state = .pending
        return NewCallback(
            id: id, connection: connection, type: "payment", input: StoreBench.bytes("{\"n\":1.10}"), destination: destination,
            tokenHash: StoreBench.bytes("hash of \(id)"), sealedToken: [1, 0, 255], idempotencyKey: key, requestDigest: digest,
            isUnsafe: !asks, state: state, pauses: [.seconds(7), .milliseconds(1500)], sourceUID: "source-\(connection)")
    }

    private static func ended(_ stored: StoredCallback, _ state: CallbackState, _ result: String?, at time: Timestamp) -> CallbackChange {
        var callback = stored.state
        callback.state = state
        callback.endedAt = time
        callback.nextAt = .distantFuture
        let record = result.map { StoreBench.bytes("{\"callback\":\"\(stored.id)\",\"result\":\($0)}") }
        return CallbackChange(
            id: stored.id, generation: stored.generation, state: callback,
            ending: CallbackEnding(cause: .status, result: result.map(StoreBench.bytes), record: record), at: time)
    }

    private static func keptCallback(_ bench: inout StoreBench) async throws {
        let shop = try await connection(bench)
        let made = try await bench.store.addCallback(new(bench, shop, "cb_1"), pendingMax: 10, at: bench.start)
        try expect(made.isNew, "it is new")
        var state = made.callback.state
        (state.polls, state.step, state.failures, state.signals, state.covered) = (3, 2, 1, 9, 8)
        (state.lastError, state.lastStartAt, state.nextAt) = ("why", bench.start + .seconds(1), bench.start + .seconds(2))
        let change = CallbackChange(
            id: "cb_1", generation: made.callback.generation, state: state, ending: nil, at: bench.start + .seconds(1))
        _ = try await bench.store.recordCallback(change)
        try await bench.reopen()
        let kept = try require(try await bench.store.callback(.default, id: "cb_1"), "the callback")
        try expectEqual(kept.state, state, "the state")
        try expectEqual(kept.input, StoreBench.bytes("{\"n\":1.10}"), "the input, byte for byte")
        try expectEqual(kept.pauses, [.seconds(7), .milliseconds(1500)], "the pauses")
        try expectEqual([kept.type, kept.idempotencyKey, kept.sourceUID], ["payment", nil, "source-\(shop)"], "type, key, source")
        try expectEqual(kept.sealedToken, [1, 0, 255], "the sealed token")
        try expect(!kept.isUnsafe && kept.endedBy == nil && kept.position == nil && kept.result == nil, "nothing has ended")
        let found = try await bench.store.callback(tokenHash: StoreBench.bytes("hash of cb_1"))
        try expectEqual(found?.id, "cb_1", "by the hash of its token")
        let unknown = try await bench.store.callback(tokenHash: StoreBench.bytes("another"))
        try expect(unknown == nil, "an unknown token")
        let source = try require(try await bench.store.trigger(.default, named: "callbacks:shop"), "the source")
        try expect(source.isCallbackSource && source.connection == shop && source.id == kept.source, "the source is the connection's")
        let here = bench
        try await expectError(.notFound, "of no connection") {
            _ = try await here.store.addCallback(new(here, ConnectionID(999), "cb_2"), pendingMax: 10, at: here.start)
        }
    }

    private static func settledCallback(_ bench: inout StoreBench) async throws {
        let shop = try await connection(bench)
        let push = DefinitionChange.putDestination(name: "own", kind: "push", settings: StoreBench.bytes("{}"), sealedSecrets: [])
        let pull = DefinitionChange.putDestination(name: "worker", kind: "pull", settings: StoreBench.bytes("{}"), sealedSecrets: [])
        try await bench.apply([push, pull])
        let destinations = try await bench.store.definitions(.default).destinations
        let own = try require(destinations.first { $0.name == "own" }, "own").id
        let worker = try require(destinations.first { $0.name == "worker" }, "worker").id
        let here = bench
        try await expectError(.conflict, "nothing is carried to a pull destination") {
            _ = try await here.store.addCallback(new(here, shop, "cb_0", destination: worker), pendingMax: 10, at: here.start)
        }
        let first = try await bench.store.addCallback(new(bench, shop, "cb_1", destination: own), pendingMax: 10, at: bench.start).callback
        let second = try await bench.store.addCallback(new(bench, shop, "cb_2"), pendingMax: 10, at: bench.start).callback
        let third = try await bench.store.addCallback(new(bench, shop, "cb_3"), pendingMax: 10, at: bench.start).callback
        let settled = try await bench.store.recordCallback(ended(first, .settled, "{\"z\":1.50, \"a\":1e3}", at: bench.start))
        try expectEqual(settled.position, JobPosition(1), "its position")
        try expectEqual(settled.result, StoreBench.bytes("{\"z\":1.50, \"a\":1e3}"), "the result, byte for byte")
        _ = try await bench.store.recordCallback(ended(second, .cancelled, nil, at: bench.start))
        try await bench.apply([.attach(trigger: "callbacks:shop", destination: "own", from: nil)])
        _ = try await bench.store.recordCallback(ended(third, .failed, "null", at: bench.start))
        try await bench.reopen()
        let jobs = try await bench.store.jobs(JobQuery(trigger: settled.source)).jobs
        try expectEqual(
            jobs.map { String(decoding: $0.dedupKey, as: UTF8.self) }, ["cb_1", "cb_3"], "a job each, none for a cancelled one")
        try expectEqual(jobs.map(\.position.rawValue), [1, 2], "positions without gaps")
        try expectEqual(jobs[0].record, StoreBench.bytes("{\"callback\":\"cb_1\",\"result\":{\"z\":1.50, \"a\":1e3}}"), "the record")
        let claimed = try await bench.store.claimDeliveries(own, limit: 10, at: bench.start, hiddenUntil: bench.start + .minutes(1))
        try expectEqual(
            claimed.map { String(decoding: $0.job.dedupKey, as: UTF8.self) }, ["cb_1", "cb_3"],
            "to the destination that was named, and to the one that is attached")
        // A consumer attaches to what they end in as to any trigger.
        try await bench.apply([.attach(trigger: "callbacks:shop", destination: "worker", from: JobPosition(1))])
        let fetched = try await bench.store.fetchJobs(ConsumerFetch(consumer: worker, limit: 10, nonce: 1, at: bench.start))
        try expectEqual(fetched.jobs.map { String(decoding: $0.job.dedupKey, as: UTF8.self) }, ["cb_1", "cb_3"], "a consumer's")
        let fourth = try await bench.store.addCallback(new(bench, shop, "cb_4"), pendingMax: 10, at: bench.start).callback
        _ = try await bench.store.recordCallback(ended(fourth, .settled, "1", at: bench.start))
        let next = try await bench.store.fetchJobs(ConsumerFetch(consumer: worker, limit: 10, nonce: 2, at: bench.start))
        try expectEqual(next.jobs.map { String(decoding: $0.job.dedupKey, as: UTF8.self) }, ["cb_4"], "and the next")
        // Attached or not: the callback named it.
        try await bench.apply([.detach(trigger: "callbacks:shop", destination: "own")])
        try expectEqual(try await bench.replay(DeadLetterSelection(destination: own), at: bench.start), 3, "replayed without an attachment")
    }

    private static func endedOnce(_ bench: inout StoreBench) async throws {
        let shop = try await connection(bench)
        let made = try await bench.store.addCallback(new(bench, shop, "cb_1"), pendingMax: 1, at: bench.start).callback
        let here = bench
        let settles = (0..<8).map { ended(made, $0 % 2 == 0 ? .settled : .expired, "\($0)", at: here.start) }
        let winners = await withTaskGroup(of: Bool.self) { group in
            for change in settles { group.addTask { (try? await here.store.recordCallback(change)) != nil } }
            return await group.reduce(0) { $0 + ($1 ? 1 : 0) }
        }
        try expectEqual(winners, 1, "changes that were recorded")
        let over = try require(try await bench.store.callback(.default, id: "cb_1"), "the callback")
        try await expectError(.conflict, "a change of one that is over") {
            _ = try await here.store.recordCallback(ended(over, .settled, "9", at: here.start))
        }
        try expectEqual(try await bench.store.jobs(JobQuery(trigger: over.source)).jobs.count, 1, "jobs")
        _ = try await bench.store.addCallback(new(bench, shop, "cb_2"), pendingMax: 1, at: bench.start)
        try await expectError(.notFound, "a change of none") {
            var change = ended(over, .settled, "9", at: here.start)
            change.id = "cb_9"
            _ = try await here.store.recordCallback(change)
        }
    }

    private static func sameCallback(_ bench: inout StoreBench) async throws {
        let (shop, other) = (try await connection(bench), try await connection(bench, "other"))
        let first = try await bench.store.addCallback(new(bench, shop, "cb_1", key: "k"), pendingMax: 1, at: bench.start)
        let again = try await bench.store.addCallback(new(bench, shop, "cb_2", key: "k"), pendingMax: 1, at: bench.start)
        try expect(!again.isNew && again.callback.id == first.callback.id, "the same one, although no more may be pending")
        let here = bench
        try await expectError(.conflict, "the key of another request") {
            _ = try await here.store.addCallback(new(here, shop, "cb_3", key: "k", digest: [2]), pendingMax: 9, at: here.start)
        }
        let elsewhere = try await bench.store.addCallback(new(bench, other, "cb_4", key: "k"), pendingMax: 1, at: bench.start)
        try expect(elsewhere.isNew, "another connection's keys are others")
    }

    private static func dueCallbacks(_ bench: inout StoreBench) async throws {
        let (shop, other) = (try await connection(bench), try await connection(bench, "other"))
        for (index, seconds) in [30, 10, 20].enumerated() {
            _ = try await bench.store.addCallback(
                new(bench, shop, "cb_\(index)", nextIn: Int64(seconds)), pendingMax: 3, at: bench.start)
        }
        let here = bench
        try await expectError(.overloaded, "as many are pending as may be") {
            _ = try await here.store.addCallback(new(here, shop, "cb_9"), pendingMax: 3, at: here.start)
        }
        _ = try await bench.store.addCallback(new(bench, other, "cb_8", asks: false, nextIn: 40), pendingMax: 3, at: bench.start)
        try await bench.reopen()
        try expectEqual(
            try await bench.store.pendingCallbacks(.default),
            [
                PendingCallbacks(connection: shop, pending: 3, dueAt: bench.start + .seconds(10)),
                PendingCallbacks(connection: other, pending: 1, dueAt: bench.start + .seconds(40)),
            ], "what is pending")
        let due = try await bench.store.dueCallbacks(.default, connection: shop, at: bench.start + .seconds(25), limit: 10)
        try expectEqual(due.map(\.id), ["cb_1", "cb_2"], "the longest due first")
        let one = try await bench.store.dueCallbacks(.default, connection: shop, at: bench.start + .hours(1), limit: 1)
        try expectEqual(one.map(\.id), ["cb_1"], "within the limit")
        var after: Int64? = 0
        while let from = after {
            after = try await bench.store.hastenCallbacks(.default, after: from, limit: 2, window: .seconds(1), at: bench.start)
        }
        let soon = try await bench.store.dueCallbacks(.default, connection: shop, at: bench.start + .seconds(1), limit: 10)
        try expectEqual(Set(soon.map(\.id)), ["cb_0", "cb_1", "cb_2"], "what was hastened")
        try expectEqual(
            try await bench.store.pendingCallbacks(.default).last?.dueAt, bench.start + .seconds(40), "what nobody can be asked about")
        for stored in soon { _ = try await bench.store.recordCallback(ended(stored, .settled, "1", at: bench.start)) }
        try expectEqual(try await bench.store.pendingCallbacks(.default).map(\.connection), [other], "what is over is not pending")
        let all = try await bench.store.callbacks(CallbackQuery(limit: 2))
        try expectEqual(all.map(\.id), ["cb_8", "cb_2"], "the newest first")
        let next = try await bench.store.callbacks(CallbackQuery(connection: shop, state: .settled, before: all[1].number))
        try expectEqual(next.map(\.id), ["cb_1", "cb_0"], "and on from there")
    }

    private static func forgottenCallbacks(_ bench: inout StoreBench) async throws {
        let shop = try await connection(bench)
        let policy = RetentionPolicy(inbox: .days(1), jobs: .days(1), pendingDeliveries: .days(1), rowsPerBatchMax: 10)
        for index in 0..<25 {
            let made = try await bench.store.addCallback(new(bench, shop, "cb_\(index)"), pendingMax: 100, at: bench.start).callback
            if index == 24 { continue }
            let end = index == 23 ? bench.start + .days(2) : bench.start
            _ = try await bench.store.recordCallback(ended(made, .settled, "1", at: end))
        }
        for _ in 0..<50 {
            guard try await bench.store.prune(policy, at: bench.start + .days(2)).isPartial else { break }
        }
        let left = try await bench.store.callbacks(CallbackQuery())
        try expectEqual(left.map(\.id), ["cb_24", "cb_23"], "what is pending, and what has just ended")
    }

    private static func waitedForConnection(_ bench: inout StoreBench) async throws {
        let shop = try await connection(bench)
        let made = try await bench.store.addCallback(new(bench, shop, "cb_1"), pendingMax: 10, at: bench.start).callback
        let here = bench
        try await expectError(.conflict, "removing its connection") { try await here.apply([.removeConnection(name: "shop")]) }
        _ = try await bench.store.recordCallback(ended(made, .settled, "1", at: bench.start))
        try await bench.apply([.removeConnection(name: "shop")])
        let definitions = try await bench.store.definitions(.default)
        try expect(definitions.triggers.isEmpty && definitions.connections.isEmpty, "the source goes with it")
        try expectEqual(try await bench.store.callbacks(CallbackQuery()).count, 0, "callbacks of no connection")
    }
}
