import SluiceConnectors
import SluiceCore
import SluiceLua
import SluicePolling
import SluiceStore
import SluiceTesting
import Synchronization
import Testing

/// Of records that count once for ever each change comes again.
@Suite struct KeptLongerTests {
    private static func feed(_ dedup: String) throws -> LuaConnector {
        let source = """
            return { name = "feed", title = "Feed", version = "1",
            connection = { fields = { { name = "url" }, { name = "api_key", secret = true } } },
            triggers = { item = { incremental = { base_url = "{connection.url}", records = "items",
              cursor = { field = "n", parameter = "from", type = "unix_seconds" }, dedup = { id = "id", \(dedup) } } } } }
            """
        return try LuaConnector.load(source: Array(source.utf8), name: "feed", path: "feed/connector.lua")
    }

    /// A feed that says what `items` holds, read by a trigger with this `dedup`.
    private static func with(_ dedup: String, _ body: (Bench, _ items: @Sendable (String) -> Void) async throws -> Void) async throws {
        let time = ManualTime()
        let server = FeedServer(clock: time)
        let items = Mutex("{\"id\":\"a\",\"n\":1700000000,\"made\":1699999999}")
        server.setFault { _ in .whole("200 OK", "{\"items\":[\(items.withLock { $0 })]}") }
        try await server.with {
            try await Bench.with([BenchConnection(connector: try feed(dedup), url: server.url)], time: time) { bench in
                try await waitUntil("the first job") { try await bench.trigger().progress.dedupFloor != nil }
                try await body(bench) { text in items.withLock { $0 = text } }
            }
        }
    }

    @Test(arguments: [("created = \"made\"", Int64(365 * 86_400)), ("version = \"n\"", 0)])
    func P4_theKeysOfNewRecordsAreKeptForAYear(dedup: String, longer: Int64) async throws {
        try await Self.with(dedup) { bench, _ in
            let progress = try await bench.trigger().progress
            let (mark, floor) = (try #require(progress.cursorMark), try #require(progress.dedupFloor))
            #expect(mark == 1_700_000_000 && progress.markedThrough == mark)
            #expect((longer...longer + 10).contains(mark - floor), "\(mark - floor)")
        }
    }

    /// Changes are to be jobs from now on: that their records were known for a year keeps none of them away.
    @Test func P2_whatChangesAfterNewRecordsAloneCountedIsAJob() async throws {
        try await Self.with("created = \"made\"") { bench, show in
            let before = try await bench.keys()
            #expect(before.count == 1)
            let changed = try Self.feed("version = \"n\"")
            bench.catalogue.change("shop") { $0.connector = changed }
            show("{\"id\":\"a\",\"n\":1700000005,\"made\":1699999999},{\"id\":\"b\",\"n\":1700000006,\"made\":1700000006}")
            try await bench.pollNow()
            try await waitUntil("both") { try await bench.keys() == before + ["a@1700000005", "b@1700000006"] }
        }
    }
}
