import SluiceCore
import SluiceStore

extension StoreConformance {
    static let credentials: [ConformanceCase] = [
        ConformanceCase("credentialsAreReplacedByCompareAndSet", compareAndSet),
        ConformanceCase("ofManyWhoReplaceCredentialsOneWins", oneWins),
        ConformanceCase("credentialsGoWithTheirConnectionOnly", goWithTheirConnection),
    ]

    private static func compareAndSet(_ bench: inout StoreBench) async throws {
        try await bench.apply([StoreBench.connection(), StoreBench.connection("other")])
        let connection = try await bench.connection()
        try expectEqual(try await bench.store.credentials(connection), StoredCredentials(sealed: nil, version: 0), "before the first")
        let first = try await bench.store.replaceCredentials(connection, version: 0, sealed: [0, 255, 1], at: bench.start)
        try expectEqual(first, 1, "the first version")
        let late = try await bench.store.replaceCredentials(connection, version: 0, sealed: [9], at: bench.start)
        try expectEqual(late, nil, "a replacement of what is no longer there")
        try await bench.reopen()
        try expectEqual(
            try await bench.store.credentials(connection), StoredCredentials(sealed: [0, 255, 1], version: 1), "after a restart")
        // What `apply` writes is another matter.
        try await bench.apply([StoreBench.connection()])
        try expectEqual(try await bench.store.credentials(connection).version, 1, "after an apply")
        let second = try await bench.store.replaceCredentials(connection, version: 1, sealed: [2], at: bench.start)
        try expectEqual(second, 2, "the second version")
        let other = try require(try await bench.store.definitions(.default).connections.first { $0.name == "other" }, "other").id
        try expectEqual(try await bench.store.credentials(other).version, 0, "another connection's")
    }

    private static func oneWins(_ bench: inout StoreBench) async throws {
        try await bench.apply([StoreBench.connection()])
        let (store, connection, start) = (bench.store, try await bench.connection(), bench.start)
        let wins = try await withThrowingTaskGroup(of: Bool.self) { group in
            for number in 0..<20 {
                group.addTask {
                    try await store.replaceCredentials(connection, version: 0, sealed: [UInt8(number)], at: start) != nil
                }
            }
            return try await group.reduce(0) { $0 + ($1 ? 1 : 0) }
        }
        try expectEqual(wins, 1, "replacements of the same version")
        try expectEqual(try await store.credentials(connection).version, 1, "version")
    }

    private static func goWithTheirConnection(_ bench: inout StoreBench) async throws {
        try await bench.apply([StoreBench.connection()])
        let connection = try await bench.connection()
        _ = try await bench.store.replaceCredentials(connection, version: 0, sealed: [1], at: bench.start)
        try await bench.apply([.removeConnection(name: "shop")])
        let here = bench
        try await expectError(.notFound, "credentials of a removed connection") { _ = try await here.store.credentials(connection) }
        try await expectError(.notFound, "replacing them") {
            _ = try await here.store.replaceCredentials(connection, version: 1, sealed: [2], at: here.start)
        }
        try await bench.apply([StoreBench.connection()])
        try expectEqual(try await bench.store.credentials(try await bench.connection()).sealed, nil, "of a new one with that name")
    }
}
