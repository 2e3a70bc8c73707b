import SluiceCore
import SluiceStore

extension StoreConformance {
    static let upkeep: [ConformanceCase] = [
        ConformanceCase("apiTokensAreKeptAndRevoked", apiTokens),
        ConformanceCase("factsAreKept", facts),
        ConformanceCase("P1_closingFinishesWhatWaits", closing),
        ConformanceCase("P10_pruningIsDoneInBatches", pruningInBatches),
    ]

    private static func apiTokens(_ bench: inout StoreBench) async throws {
        try await bench.store.createToken(name: "ci", hash: [1, 0, 2], at: bench.start)
        try await bench.store.createToken(name: "app", hash: [3], at: bench.start)
        let store = bench.store
        try await expectError(.conflict, "a name that is taken") { try await store.createToken(name: "ci", hash: [9], at: .distantPast) }
        try await store.revokeToken(name: "app")
        try await expectError(.notFound, "revoking twice") { try await store.revokeToken(name: "app") }
        try await bench.reopen()
        let tokens = try await bench.store.tokens()
        try expectEqual(tokens.map(\.name), ["ci"], "names")
        try expectEqual(tokens.map(\.hash), [[1, 0, 2]], "hashes")
        try expectEqual(tokens.map(\.createdAt), [bench.start], "times")
    }

    private static func facts(_ bench: inout StoreBench) async throws {
        try expectEqual(try await bench.store.fact("key"), nil, "a fact nobody set")
        try await bench.store.setFact("key", [1, 0])
        try await bench.store.setFact("key", [2, 0])
        try await bench.store.setFact("empty", [])
        try await bench.reopen()
        try expectEqual(try await bench.store.fact("key"), [2, 0], "the fact set last")
        try expectEqual(try await bench.store.fact("empty"), [], "an empty fact")
    }

    private static func closing(_ bench: inout StoreBench) async throws {
        let trigger = try await bench.makeTrigger()
        let connection = try await bench.connection()
        let here = bench
        let receipts = try await withThrowingTaskGroup(of: InboxReceipt?.self) { group in
            for _ in 0..<200 { group.addTask { try? await here.store.append(here.webhook(connection, trigger.topics)) } }
            group.addTask {
                await here.store.close()
                return nil
            }
            return try await group.reduce(into: [InboxReceipt]()) { if let receipt = $1 { $0.append(receipt) } }
        }
        let store = bench.store
        try await expectError(.storage, "an append after closing") { _ = try await store.append(here.webhook(connection, [])) }
        try await expectError(.storage, "a read after closing") { _ = try await store.jobs(JobQuery()) }
        try await bench.reopen()
        try expectEqual(
            Set(try await bench.store.inbox(InboxQuery(limit: 1000)).map(\.sequence)), Set(receipts.map(\.sequence)),
            "what was acknowledged is there, and nothing else")
    }

    private static func pruningInBatches(_ bench: inout StoreBench) async throws {
        let trigger = try await bench.makeTrigger()
        try await bench.cycle(trigger, try await bench.lease(), 1, keys: (0..<50).map { "k\($0)" })
        let policy = RetentionPolicy(rowsPerBatchMax: 20)
        let first = try await bench.store.prune(policy, at: bench.start + .days(60))
        try expect(first.isPartial && first.jobs <= 20 && first.jobs > 0, "the first batch: \(first)")
        let rest = try await bench.prune(policy, at: bench.start + .days(60))
        try expectEqual(first.jobs + rest.jobs, 50, "jobs removed in all")
    }
}
