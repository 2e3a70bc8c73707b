import SluiceCore
import SluiceStore

extension StoreConformance {
    static let subscriptions: [ConformanceCase] = [
        ConformanceCase("P11_anIntentionToSubscribeIsKept", keptIntention),
        ConformanceCase("P11_subscriptionsAreFencedByTheirGeneration", fencedSubscriptions),
        ConformanceCase("P11_aConnectionWithSubscriptionsStays", subscribedConnectionStays),
    ]

    private static func new(_ bench: StoreBench, _ trigger: StoredTrigger, token: String?) -> NewSubscription {
        NewSubscription(
            trigger: trigger.id, connection: trigger.connection, triggerType: trigger.type, input: StoreBench.bytes("{\"repo\":\"a\"}"),
            token: token, url: "https://hooks.example.com/hooks/\(token ?? "other")", sealed: [1, 0, 255], key: "k")
    }

    private static func keptIntention(_ bench: inout StoreBench) async throws {
        let trigger = try await bench.makeTrigger()
        let made = try await bench.store.addSubscription(new(bench, trigger, token: "t1"), at: bench.start)
        _ = try await bench.store.addSubscription(new(bench, trigger, token: nil), at: bench.start)
        _ = try await bench.store.addSubscription(new(bench, trigger, token: nil), at: bench.start)
        let here = bench
        try await expectError(.conflict, "a token that is taken") {
            _ = try await here.store.addSubscription(new(here, trigger, token: "t1"), at: here.start)
        }
        try await bench.apply([.addEndpoint(connection: "shop", token: "t2", othersExpireAt: nil)])
        try await expectError(.conflict, "a token of a connection") {
            _ = try await here.store.addSubscription(new(here, trigger, token: "t2"), at: here.start)
        }
        var state = made.state
        state.phase = .active
        (state.hasOutput, state.isUncertain, state.mustReplace, state.mayBeDoubled) = (true, true, true, true)
        (state.attempts, state.lastCheck, state.lastError, state.key) = (3, "drifted", "why", "k2")
        state.phaseSince = bench.start + .seconds(1)
        state.nextAt = bench.start + .seconds(2)
        state.doubtUntil = bench.start + .seconds(3)
        state.expiresAt = bench.start + .seconds(4)
        state.refreshAt = bench.start + .seconds(5)
        state.checkAt = bench.start + .seconds(6)
        state.checkedAt = bench.start + .seconds(7)
        try await bench.store.recordSubscriptions([.update(made.id, made.generation, state: state, sealed: [9])])
        try await bench.reopen()
        let all = try await bench.store.subscriptions(.default)
        try expectEqual(all.count, 3, "subscriptions")
        let kept = all[0]
        try expectEqual(kept.state, state, "the state")
        try expectEqual(kept.sealed, [9], "the sealed bytes")
        try expectEqual(kept.input, StoreBench.bytes("{\"repo\":\"a\"}"), "the input")
        try expectEqual(
            [kept.token, kept.url, kept.triggerType, all[1].token], ["t1", made.url, trigger.type, nil], "token, URL, type, no token")
        try expectEqual(kept.generation, made.generation.next, "the generation")
        try expectEqual([kept.createdAt], [bench.start], "when it was made")
        try expectEqual(try await bench.store.subscriptions(NamespaceID(2)).count, 0, "seen in another namespace")
    }

    private static func fencedSubscriptions(_ bench: inout StoreBench) async throws {
        let trigger = try await bench.makeTrigger()
        let first = try await bench.store.addSubscription(new(bench, trigger, token: "t1"), at: bench.start)
        let second = try await bench.store.addSubscription(new(bench, trigger, token: "t2"), at: bench.start)
        var state = first.state
        state.attempts = 1
        let changed = state
        try await bench.store.recordSubscriptions([.update(first.id, first.generation, state: changed, sealed: [])])
        let store = bench.store
        try await expectError(.conflict, "a change of what was changed") {
            try await store.recordSubscriptions([
                .remove(second.id, second.generation), .update(first.id, first.generation, state: changed, sealed: []),
            ])
        }
        try expectEqual(try await store.subscriptions(.default).map(\.id), [first.id, second.id], "all or none")
        try await store.recordSubscriptions([.remove(first.id, first.generation.next)])
        try await expectError(.conflict, "a removal of what is gone") {
            try await store.recordSubscriptions([.remove(first.id, first.generation.next)])
        }
        let third = try await store.addSubscription(new(bench, trigger, token: "t1"), at: bench.start)
        try expect(third.id > second.id, "numbers are never used again")
    }

    private static func subscribedConnectionStays(_ bench: inout StoreBench) async throws {
        let trigger = try await bench.makeTrigger()
        let made = try await bench.store.addSubscription(new(bench, trigger, token: "t1"), at: bench.start)
        _ = try await bench.set(trigger, .stopped)
        try await bench.apply([.removeTrigger(name: "orders")])
        try expectEqual(try await bench.store.subscriptions(.default).map(\.id), [made.id], "what is left when the trigger is gone")
        let here = bench
        try await expectError(.conflict, "removing the connection") { try await here.apply([.removeConnection(name: "shop")]) }
        try await bench.store.recordSubscriptions([.remove(made.id, made.generation)])
        try await bench.apply([.removeConnection(name: "shop")])
        try await expectError(.notFound, "a subscription of no connection") {
            _ = try await here.store.addSubscription(new(here, trigger, token: "t3"), at: here.start)
        }
    }
}
