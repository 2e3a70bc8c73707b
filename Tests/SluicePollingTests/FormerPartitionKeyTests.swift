import SluiceCore
import SluiceLua
import SluiceTesting
import Synchronization
import Testing

/// A `dedup` that changes under a trigger with partitions: each has a cursor and an overlap of its own.
@Suite struct FormerPartitionKeyTests {
    /// Items of each partition, by the second since `start`. The lists are read from their cursors on, whole.
    private final class Lists: Sendable {
        static let start: Int64 = 1_699_990_000
        private let items = Mutex<[String: [(id: String, at: Int64)]]>([:])

        func add(_ partition: String, _ id: String, at seconds: Int64) {
            items.withLock { $0[partition, default: []].append((id, Lists.start + seconds)) }
        }

        func change(_ partition: String, _ id: String, to seconds: Int64) {
            items.withLock { items in items[partition]?.removeAll { $0.id == id } }
            add(partition, id, at: seconds)
        }

        func answer(_ target: String) -> FeedServer.Answer {
            func value(_ name: String) -> String {
                target.split(separator: "\(name)=").dropFirst().first.map { String($0.prefix { $0 != "&" }) } ?? ""
            }
            let from = Int64(value("from")) ?? 0
            let listed = items.withLock { items in
                // Without a partition the one list there is.
                items.filter { value("list").isEmpty ? $0.key == "a" : $0.key == value("list") }.flatMap(\.value)
            }
            let bodies = listed.filter { $0.at >= from }.sorted { $0.at < $1.at }.map { "{\"id\":\"\($0.id)\",\"at\":\($0.at)}" }
            return .whole("200 OK", "{\"items\":[\(bodies.joined(separator: ","))]}")
        }
    }

    private static let lookback: Int64 = 600

    private static func described(
        _ dedup: String, partitions: String? = "a,b", cursor: String = "unix_seconds", lookback: String = "lookback_seconds"
    ) throws -> LuaConnector {
        let split = partitions.map { values in
            let list = values.split(separator: ",").map { "\"\($0)\"" }.joined(separator: ", ")
            return "partitions = { values = { \(list) } }, query = { list = \"{partition}\" },"
        }
        let source = """
            return { name = "feed", title = "Feed", version = "1",
            connection = { fields = { { name = "url" }, { name = "api_key", secret = true } } },
            triggers = { item = { incremental = { base_url = "{connection.url}", records = "items", \(split ?? "")
              cursor = { field = "at", parameter = "from", type = "\(cursor)", order = "asc", \(lookback) = \(Self.lookback) },
              dedup = { \(dedup) } } } } }
            """
        return try LuaConnector.load(source: Array(source.utf8), name: "feed", path: "feed/connector.lua")
    }

    private static func together(_ connector: LuaConnector, _ body: (Bench, Lists) async throws -> Void) async throws {
        let time = ManualTime()
        let server = FeedServer(clock: time)
        let lists = Lists()
        server.setFault { lists.answer($0.target) }
        for partition in ["a", "b"] { lists.add(partition, "i1", at: 0) }
        lists.add("a", "i2", at: 10)
        try await server.with {
            try await Bench.with([BenchConnection(connector: connector, url: server.url)], time: time) { bench in
                try await waitUntil("a cycle") { try await bench.trigger().progress.cyclesCompleted > 0 }
                try await body(bench, lists)
            }
        }
    }

    /// Two more cycles: the first may have been under way before.
    private static func cycle(_ bench: Bench) async throws {
        for _ in 0..<2 {
            let before = try await bench.trigger().progress.cyclesCompleted
            try await bench.pollNow()
            try await bench.advanceUntil("another cycle") { try await bench.trigger().progress.cyclesCompleted > before }
        }
    }

    private static func keys(_ bench: Bench) async throws -> [String] { try await bench.keys().sorted() }

    @Test func P4_aChangedDedupMakesNoJobsOfWhatIsKnownInAnyPartition() async throws {
        try await Self.together(try Self.described("id = \"id\"")) { bench, lists in
            #expect(try await Self.keys(bench) == ["a/i1", "a/i2", "b/i1"], "one id in two partitions is two records")
            let changed = try Self.described("id = \"id\", version = \"at\"")
            bench.catalogue.change("shop") { $0.connector = changed }
            // New in one partition, under an id that the other one has known for long.
            lists.add("b", "i2", at: 20)
            try await Self.cycle(bench)
            #expect(try await Self.keys(bench) == ["a/i1", "a/i2", "b/i1", "b/i2@\(Lists.start + 20)"])
            try await bench.restarted { next in
                lists.add("a", "i3", at: 30)
                try await Self.cycle(next)
                #expect(
                    try await Self.keys(next)
                        == ["a/i1", "a/i2", "a/i3@\(Lists.start + 30)", "b/i1", "b/i2@\(Lists.start + 20)"])
            }
        }
    }

    /// Marks of different partitions that are no times do not compare: the job tells what was known.
    @Test func P3_aChangeBeforeTheDedupTellsItIsNewsWithoutMarksToo() async throws {
        func described(_ dedup: String) throws -> LuaConnector { try Self.described(dedup, cursor: "integer", lookback: "lookback") }
        try await Self.together(try described("id = \"id\"")) { bench, lists in
            #expect(try await Self.keys(bench) == ["a/i1", "a/i2", "b/i1"])
            let changed = try described("id = \"id\", version = \"at\"")
            bench.catalogue.change("shop") { $0.connector = changed }
            lists.change("a", "i1", to: 30)
            try await Self.cycle(bench)
            #expect(try await Self.keys(bench) == ["a/i1", "a/i1@\(Lists.start + 30)", "a/i2", "b/i1"])
        }
    }

    /// The overlap has passed in one partition, and in the other one it is read again and again.
    @Test func P4_aFormerKeyCountsForAsLongAsAnyPartitionReadsItsRecordAgain() async throws {
        try await Self.together(try Self.described("id = \"id\"")) { bench, lists in
            let changed = try Self.described("id = \"id\", version = \"at\"")
            bench.catalogue.change("shop") { $0.connector = changed }
            try await Self.cycle(bench)
            lists.add("a", "i9", at: 8 * Self.lookback)
            for _ in 0..<3 { try await Self.cycle(bench) }
            #expect(try await Self.keys(bench) == ["a/i1", "a/i2", "a/i9@\(Lists.start + 8 * Self.lookback)", "b/i1"])
            #expect(try await bench.trigger().progress.keyOrigin?.formers.count == 1, "b has not moved, so its old keys still count")
            // Now b has passed it, too.
            lists.add("b", "i9", at: 8 * Self.lookback)
            for _ in 0..<3 { try await Self.cycle(bench) }
            #expect(try await bench.trigger().progress.keyOrigin == KeyOrigin(connector: changed.definition.hash))
            #expect(try await Self.keys(bench).count == 5)
        }
    }

    /// A description that gets partitions: what the one list gave is known in the partition that holds it now.
    @Test func P4_partitionsThatAreAddedMakeNoJobsOfWhatIsKnown() async throws {
        try await Self.together(try Self.described("id = \"id\"", partitions: nil)) { bench, lists in
            #expect(try await Self.keys(bench) == ["i1", "i2"])
            let changed = try Self.described("id = \"id\"")
            bench.catalogue.change("shop") { $0.connector = changed }
            lists.add("b", "i7", at: 20)
            try await Self.cycle(bench)
            #expect(try await Self.keys(bench) == ["b/i7", "i1", "i2"])
        }
    }

    /// `dedup.global` that goes, and one that comes.
    @Test(arguments: [true, false]) func P4_globalKeysThatChangeMakeNoJobsOfWhatIsKnown(wasGlobal: Bool) async throws {
        func described(_ isGlobal: Bool) throws -> LuaConnector { try Self.described("id = \"id\", global = \(isGlobal)") }
        try await Self.together(try described(wasGlobal)) { bench, lists in
            let before = try await Self.keys(bench)
            #expect(before == (wasGlobal ? ["i1", "i2"] : ["a/i1", "a/i2", "b/i1"]))
            let changed = try described(!wasGlobal)
            bench.catalogue.change("shop") { $0.connector = changed }
            lists.add("b", "i8", at: 20)
            try await Self.cycle(bench)
            #expect(try await Self.keys(bench) == (before + [wasGlobal ? "b/i8" : "i8"]).sorted())
        }
    }
}
