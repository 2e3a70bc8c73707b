import SluiceCore
import SluiceStore

extension StoreConformance {
    static let definitions: [ConformanceCase] = [
        ConformanceCase("applyMakesAllChangesOrNone", allOrNothing),
        ConformanceCase("applyingTheSameChangesNothing", sameChangesNothing),
        ConformanceCase("statesAreSetWithTheDefinitionsOrNotAtAll", statesWithDefinitions),
        ConformanceCase("anotherTypeOrConnectionNeedsAReset", needsReset),
        ConformanceCase("definitionsComeBackAsTheyWere", roundTrip),
        ConformanceCase("P1_aRotatedAddressWorksUntilItExpires", endpoints),
        ConformanceCase("aRemovedTriggerLeavesNothing", removedTrigger),
        ConformanceCase("whatIsUsedIsNotRemoved", usedIsNotRemoved),
        ConformanceCase("P7_aWebhookIsMarkedForAPausedTrigger", pausedIsMarked),
    ]

    private static func allOrNothing(_ bench: inout StoreBench) async throws {
        let here = bench
        try await expectError(.notFound, "a trigger of no connection") {
            try await here.apply([StoreBench.connection(), StoreBench.destination("hook"), StoreBench.trigger("t", connection: "nobody")])
        }
        let nothing = try await bench.store.definitions(.default)
        try expectEqual(
            [nothing.connections.count, nothing.destinations.count, nothing.topics.count], [0, 0, 0], "kept of a refused apply")
        try await bench.apply([
            StoreBench.connection(), StoreBench.trigger("t"), StoreBench.destination("hook"),
            .attach(trigger: "t", destination: "hook", from: nil),
        ])
        let all = try await bench.store.definitions(.default)
        try expectEqual(
            [all.connections.count, all.triggers.count, all.destinations.count, all.attachments.count], [1, 1, 1, 1], "applied")
        try expectEqual(try await bench.store.definitions(NamespaceID(2)).connections.count, 0, "seen in another namespace")
        for change in [
            DefinitionChange.removeConnection(name: "x"), .removeTrigger(name: "x"), .removeDestination(name: "x"),
            .attach(trigger: "x", destination: "hook", from: nil), .attach(trigger: "t", destination: "x", from: nil),
            .setConnectionProblem(name: "x", problem: "p"), .addEndpoint(connection: "x", token: "t", othersExpireAt: nil),
        ] {
            try await expectError(.notFound, "\(change)") { try await here.apply([change]) }
        }
    }

    private static func sameChangesNothing(_ bench: inout StoreBench) async throws {
        let trigger = try await bench.makeTrigger(topicKeys: ["a", "b"])
        try await bench.cycle(trigger, try await bench.lease(), 1, keys: ["x"])
        try await bench.apply([StoreBench.connection(), StoreBench.trigger("orders", topicKeys: ["b", "a"])])
        var now = try await bench.trigger()
        try expectEqual(now.generation, trigger.generation, "the generation after the same definition")
        try await bench.apply([StoreBench.trigger("orders", topicKeys: ["b", "c"])])
        now = try await bench.trigger()
        try expectEqual(now.generation, trigger.generation.next, "after other topics")
        try expectEqual(Set(now.topics), [try await bench.topic("b").id, try await bench.topic("c").id], "topics")
        try await bench.apply([StoreBench.trigger("orders", input: "{\"a\":1}", topicKeys: ["b", "c"])])
        now = try await bench.trigger()
        try expectEqual(now.generation, trigger.generation.next.next, "after another input")
        try expectEqual(now.progress.cursor, StoreBench.bytes("{\"at\":1}"), "another input keeps the cursor")
        try expectEqual(now.state, .running, "state")
        try expectEqual(now.id, trigger.id, "id")
    }

    private static func statesWithDefinitions(_ bench: inout StoreBench) async throws {
        try await bench.apply([
            StoreBench.connection(), StoreBench.trigger("orders"), .setTriggerState(name: "orders", from: .created, to: .starting),
        ])
        let started = try await bench.trigger()
        try expectEqual(started.state, .starting, "state of a trigger that was made and started")
        try expectEqual(started.generation, Generation.first.next, "its generation")
        let here = bench
        try await expectError(.conflict, "a state that is another by now") {
            try await here.apply([
                StoreBench.connection("other"), StoreBench.trigger("orders", input: "{\"a\":1}"),
                .setTriggerState(name: "orders", from: .running, to: .paused),
            ])
        }
        try await expectError(.notFound, "the state of nobody") {
            try await here.apply([.setTriggerState(name: "x", from: .created, to: .starting)])
        }
        let after = try await bench.trigger()
        try expectEqual(after.state, .starting, "state after a refused apply")
        try expectEqual(after.input, StoreBench.bytes("{}"), "input after a refused apply")
        try expectEqual(after.generation, started.generation, "generation after a refused apply")
        try expectEqual(try await bench.store.definitions(.default).connections.map(\.name), ["shop"], "connections")
        let failed = try await bench.store.setState(
            StateChange(trigger: after.id, generation: after.generation, state: .failed, reason: "why", at: bench.start))
        try await bench.apply([.setTriggerState(name: "orders", from: .failed, to: .running)])
        let resumed = try await bench.trigger()
        try expectEqual(resumed.stateReason, nil, "the reason of a trigger that is no longer failed")
        try expectEqual(resumed.generation, failed.generation.next, "generation after a resume")
    }

    private static func needsReset(_ bench: inout StoreBench) async throws {
        let trigger = try await bench.makeTrigger()
        try await bench.cycle(trigger, try await bench.lease(), 1, keys: ["a"])
        try await bench.apply([StoreBench.connection("other")])
        let here = bench
        try await expectError(.conflict, "another type") { try await here.apply([StoreBench.trigger("orders", type: "x")]) }
        try await expectError(.conflict, "another connection") { try await here.apply([StoreBench.trigger("orders", connection: "other")]) }
        try expectEqual(try await bench.trigger().type, "new_event", "type")
        try await bench.apply([StoreBench.trigger("orders", connection: "other", resets: true)])
        let other = try require(try await bench.store.definitions(.default).connections.first { $0.name == "other" }, "other").id
        let reset = try await bench.trigger()
        try expectEqual(reset.connection, other, "connection after a reset")
        try expectEqual(reset.progress.cursor, nil, "cursor after a reset")
        try expectEqual(reset.progress.safetyDueAt, nil, "a poll is due after a reset")
    }

    private static func roundTrip(_ bench: inout StoreBench) async throws {
        try await bench.apply([
            StoreBench.connection("b"), StoreBench.connection("a"), StoreBench.trigger("z", connection: "b", topicKeys: []),
            StoreBench.trigger("y", connection: "a"),
            .putDestination(name: "d", kind: "push", settings: StoreBench.bytes("{\"url\":1}"), sealedSecrets: [9, 0]),
            .setConnectionProblem(name: "a", problem: "401"),
        ])
        try await bench.reopen()
        let all = try await bench.store.definitions(.default)
        try expectEqual(all.connections.map(\.name), ["a", "b"], "connections by name")
        try expectEqual(all.connections.map(\.problem), ["401", nil], "problems")
        try expectEqual(all.connections[0].sealedSecrets, [1, 0, 255], "sealed bytes")
        try expectEqual(all.connections[0].createdAt, bench.start, "created")
        try expectEqual(all.triggers.map(\.name), ["y", "z"], "triggers by name")
        try expectEqual(all.triggers.map(\.uid), ["uid-y", "uid-z"], "uids")
        try expectEqual(all.triggers.map(\.state), [.created, .created], "states")
        try expectEqual(all.triggers.map(\.generation), [.first, .first], "generations")
        try expectEqual(all.triggers[1].topics, [], "topics of none")
        try expectEqual(all.destinations[0].settings, StoreBench.bytes("{\"url\":1}"), "settings")
        try expectEqual(all.destinations[0].sealedSecrets, [9, 0], "sealed bytes of a destination")
        try expectEqual(all.topics.filter { $0.key == "a" }.map(\.signalSequence), [.zero], "a topic before any webhook")
        try await bench.apply([
            .putConnection(name: "a", connector: "new", fields: [], sealedSecrets: [], settings: StoreBench.bytes("{}")),
            .setConnectionProblem(name: "a", problem: nil),
        ])
        let again = try await bench.store.definitions(.default).connections[0]
        try expectEqual(again.id, all.connections[0].id, "id")
        try expectEqual(again.connector, "new", "connector")
        try expectEqual(again.problem, nil, "a problem that was cleared")
        try expectEqual(again.fields, [], "empty bytes")
    }

    private static func endpoints(_ bench: inout StoreBench) async throws {
        let expiry = bench.start + .days(2)
        try await bench.apply([
            StoreBench.connection(), StoreBench.connection("other"), .addEndpoint(connection: "shop", token: "one", othersExpireAt: nil),
            .addEndpoint(connection: "other", token: "else", othersExpireAt: nil),
            .addEndpoint(connection: "shop", token: "two", othersExpireAt: expiry),
            .addEndpoint(connection: "shop", token: "three", othersExpireAt: expiry + .days(9)),
        ])
        let here = bench
        try await expectError(.conflict, "a token that is taken") {
            try await here.apply([.addEndpoint(connection: "other", token: "one", othersExpireAt: nil)])
        }
        let all = try await bench.store.definitions(.default).endpoints
        let expiries = Dictionary(uniqueKeysWithValues: all.map { ($0.token, $0.expiresAt) })
        try expectEqual(expiries, ["one": expiry, "two": expiry + .days(9), "three": nil, "else": nil], "expiries")
    }

    private static func removedTrigger(_ bench: inout StoreBench) async throws {
        let trigger = try await bench.makeTrigger()
        try await bench.apply([StoreBench.destination("hook"), .attach(trigger: "orders", destination: "hook", from: nil)])
        try await bench.cycle(trigger, try await bench.lease(), 1, keys: (0..<20).map { "k\($0)" })
        let here = bench
        try await expectError(.conflict, "removing a running trigger") { try await here.apply([.removeTrigger(name: "orders")]) }
        _ = try await bench.set(trigger, .stopped)
        try await bench.apply([.removeTrigger(name: "orders", discardsUndelivered: true)])
        let destination = try await bench.destination("hook")
        let seen: @Sendable (StoreBench) async throws -> [Int] = { bench in
            [
                try await bench.allJobs().count, try await bench.store.definitions(.default).attachments.count,
                try await bench.store.claimDeliveries(destination, limit: 9, at: bench.start, hiddenUntil: bench.start).count,
            ]
        }
        try expectEqual(try await seen(bench), [0, 0, 0], "jobs, attachments and deliveries of a removed trigger")
        try await bench.apply([StoreBench.trigger("orders")])
        let anew = try await bench.trigger()
        try expect(anew.id > trigger.id, "a trigger's number was used again")
        _ = try await bench.prune(RetentionPolicy(rowsPerBatchMax: 3), at: bench.start)
        try expectEqual(try await bench.store.deliveries(DeliveryQuery()).count, 0, "deliveries after pruning")
        let running = try await bench.set(anew, .running)
        try expectEqual(try await bench.cycle(running, try await bench.lease(), 1, keys: ["k1"]), 1, "jobs of the new trigger")
    }

    private static func usedIsNotRemoved(_ bench: inout StoreBench) async throws {
        let trigger = try await bench.makeTrigger()
        try await bench.apply([.addEndpoint(connection: "shop", token: "one", othersExpireAt: nil)])
        let here = bench
        try await expectError(.conflict, "removing a connection in use") { try await here.apply([.removeConnection(name: "shop")]) }
        _ = try await bench.set(trigger, .stopped)
        try await bench.apply([.removeTrigger(name: "orders"), .removeConnection(name: "shop")])
        let all = try await bench.store.definitions(.default)
        try expectEqual([all.connections.count, all.endpoints.count, all.topics.count], [0, 0, 0], "left of the connection")
    }

    private static func pausedIsMarked(_ bench: inout StoreBench) async throws {
        let paused = try await bench.set(try await bench.makeTrigger(), .paused)
        let receipt = try await bench.store.append(bench.webhook(try await bench.connection(), paused.topics))
        _ = try await bench.prune(at: bench.start + .days(100))
        try await bench.reopen()
        try expectEqual(try await bench.topic("a").signalSequence, receipt.sequence, "the mark outlives the webhook")
        try expect(try await bench.trigger().progress.coveredSequence < receipt.sequence, "nothing covered it")
    }
}
