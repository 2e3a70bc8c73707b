import SluiceConnectors
import SluiceCore
import SluiceLua
import SluiceStore
import SluiceTesting
import Synchronization
import Testing

@testable import SluicePolling

/// A connector's `dedup` changes under a trigger that reads the same records again.
@Suite struct FormerKeyTests {
    private static let whole = "return { events = get(connection.url).json.items }"
    private static let byID = "return record.id"
    private static let byVersion = "return record.id .. '@' .. record.n"

    /// Every poll reads all items.
    private static func together(
        _ connector: LuaConnector, _ body: (Bench, _ add: @Sendable (ClosedRange<Int>) -> Void) async throws -> Void
    ) async throws {
        let time = ManualTime()
        let server = FeedServer(clock: time)
        let items = Mutex<[String]>([])
        server.setFault { _ in .whole("200 OK", "{\"items\":[\(items.withLock { $0.joined(separator: ",") })]}") }
        let add: @Sendable (ClosedRange<Int>) -> Void = { range in
            items.withLock { $0 += range.map { "{\"id\":\"i\($0)\",\"n\":\($0)}" } }
        }
        add(1...2)
        try await server.with {
            try await Bench.with([BenchConnection(connector: connector, url: server.url)], time: time) { bench in
                try await waitUntil("2 jobs") { try await bench.keys().count == 2 }
                try await body(bench, add)
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

    @Test func P4_aChangedDedupMakesNoJobsOfWhatIsKnown() async throws {
        try await Self.together(try feed(poll: Self.whole, dedup: Self.byID)) { bench, add in
            #expect(try await bench.keys() == ["i1", "i2"])
            let changed = try feed(poll: Self.whole, dedup: Self.byVersion)
            bench.catalogue.change("shop") { $0.connector = changed }
            add(3...3)
            try await Self.cycle(bench)
            #expect(try await bench.keys().map { $0.prefix { $0 != "@" } } == ["i1", "i2", "i3"])
            #expect(try await bench.trigger().progress.keyOrigin?.connector == changed.definition.hash)
            // And back again.
            let back = try feed(poll: Self.whole, dedup: Self.byID)
            bench.catalogue.change("shop") { $0.connector = back }
            add(4...4)
            try await Self.cycle(bench)
            // A cycle that was under way may have keyed the newest record as it did before; none comes twice.
            let keys = try await bench.keys()
            #expect(keys.map { $0.prefix { $0 != "@" } } == ["i1", "i2", "i3", "i4"], "\(keys)")
            #expect(try await bench.trigger().progress.keyOrigin?.formers.map(\.connector) == [changed.definition.hash])
        }
    }

    /// What changes after the connector did is news, though its former key, which shows no version, is known. What the provider says in
    /// another way, or the same in another order, is none.
    @Test func P2_whatChangesAfterItsDedupDidIsAJob() async throws {
        let time = ManualTime()
        let server = FeedServer(clock: time)
        let items = Mutex(["{\"id\":\"a\",\"n\":1}", "{\"id\":\"b\",\"n\":1}"])
        server.setFault { _ in .whole("200 OK", "{\"items\":[\(items.withLock { $0.joined(separator: ",") })]}") }
        try await server.with {
            try await Bench.with([BenchConnection(connector: try feed(poll: Self.whole, dedup: Self.byID), url: server.url)], time: time) {
                bench in
                try await waitUntil("2 jobs") { try await bench.keys() == ["a", "b"] }
                let changed = try feed(poll: Self.whole, dedup: Self.byVersion)
                bench.catalogue.change("shop") { $0.connector = changed }
                for version in 2...4 {
                    items.withLock { $0 = ["{\"id\":\"a\",\"n\":\(version)}", "{\"n\":1,\"more\":true,\"id\":\"b\"}"] }
                    try await Self.cycle(bench)
                }
                #expect(try await bench.keys() == ["a", "b", "a@2", "a@3", "a@4"])
            }
        }
    }

    /// The version was not asked for before: what the jobs hold shows none, and says nothing.
    @Test func P4_aVersionThatIsAskedForFromNowOnMakesNoJobsOfWhatIsKnown() async throws {
        let time = ManualTime()
        let server = FeedServer(clock: time)
        let items = Mutex("{\"id\":\"a\"},{\"id\":\"b\"}")
        server.setFault { _ in .whole("200 OK", "{\"items\":[\(items.withLock { $0 })]}") }
        func described(_ dedup: String) throws -> LuaConnector {
            let source = """
                return { name = "feed", title = "Feed", version = "1",
                connection = { fields = { { name = "url" }, { name = "api_key", secret = true } } },
                triggers = { item = { incremental = { base_url = "{connection.url}", records = "items",
                  dedup = { \(dedup) } } } } }
                """
            return try LuaConnector.load(source: Array(source.utf8), name: "feed", path: "feed/connector.lua")
        }
        try await server.with {
            try await Bench.with([BenchConnection(connector: try described("id = \"id\""), url: server.url)], time: time) { bench in
                try await waitUntil("2 jobs") { try await bench.keys() == ["a", "b"] }
                let changed = try described("id = \"id\", version = \"n\"")
                bench.catalogue.change("shop") { $0.connector = changed }
                items.withLock { $0 = "{\"id\":\"a\",\"n\":1},{\"id\":\"b\",\"n\":1},{\"id\":\"c\",\"n\":1}" }
                try await Self.cycle(bench)
                #expect(try await bench.keys() == ["a", "b", "c@1"])
            }
        }
    }

    /// A comment was edited: nothing is looked for twice.
    @Test func aFormerKeyThatIsTheSameIsNone() throws {
        let record = Record(bytes: Array("{\"id\":\"a\",\"n\":1}".utf8)[...])
        let page = PollPage(records: [record, record], more: false, epoch: "7")
        let connector = try feed(poll: Self.whole, dedup: Self.byVersion)
        let keys = try connector.dedupKeys(triggerType: "item", records: [record]).map { try $0.get() }
        let formers = [[keys[0], Array("a".utf8)], [keys[0]]]
        let keyed = try PageKeys.keyed(page, triggerType: "item", connector, formers: formers).0
        #expect(keyed.map(\.formerKeys) == [[Array("7/a".utf8)], []])
    }

    /// Where keys are made from what the provider sent, a higher mark tells another state from the one that became a job.
    @Test func P2_aHigherMarkIsNewsWhereNoJobHoldsWhatTheKeyIsMadeFrom() throws {
        let old = FormerJob(mark: 10, record: Record(bytes: Array("{}".utf8)[...]))
        func kept(_ mark: Int64?, _ before: FormerJob?) -> Int {
            let record = KeyedRecord(
                record: Record(bytes: Array("{}".utf8)[...]), dedupKey: Array("a@2".utf8), mark: mark, formerKeys: [Array("a".utf8)])
            let jobs = before.map { [Array("a".utf8): $0] } ?? [Array("z".utf8): old]
            return FormerKeys.withoutStale([record], jobs, keysNow: { _ in [] })[0].formerKeys.count
        }
        #expect(kept(11, old) == 0 && kept(10, old) == 1 && kept(9, old) == 1)
        #expect(kept(nil, old) == 1 && kept(11, FormerJob(mark: nil, record: nil)) == 1 && kept(11, nil) == 1)
    }

    /// The file was exchanged while no server ran: the one that starts has never seen the former.
    @Test func P4_aDedupThatChangedOverARestartMakesNoJobsOfWhatIsKnown() async throws {
        try await Self.together(try feed(poll: Self.whole, dedup: Self.byID)) { bench, add in
            let changed = try feed(poll: Self.whole, dedup: Self.byVersion)
            bench.catalogue.change("shop") { $0.connector = changed }
            add(3...3)
            try await bench.restarted { next in
                try await Self.cycle(next)
                #expect(try await next.keys() == ["i1", "i2", "i3@3"])
            }
            // A third one, in the middle of the overlap.
            add(4...4)
            try await bench.restarted { next in
                try await Self.cycle(next)
                #expect(try await next.keys() == ["i1", "i2", "i3@3", "i4@4"])
            }
        }
    }

    /// Descriptions, with a window that is read again, and records that are others than the elements of the list.
    @Test(arguments: ["", "map = { ident = \"id\" },"])
    func P4_aChangedDescriptionMakesNoJobsOfWhatIsKnown(shape: String) async throws {
        func described(_ dedup: String) throws -> LuaConnector {
            let source = """
                return { name = "feed", title = "Feed", version = "1",
                connection = { fields = { { name = "url" }, { name = "api_key", secret = true } } },
                triggers = { item = { incremental = { base_url = "{connection.url}", records = "items", \(shape)
                  cursor = { field = "n", parameter = "from", type = "integer", order = "asc", lookback = 10 },
                  dedup = { \(dedup) } } } } }
                """
            return try LuaConnector.load(source: Array(source.utf8), name: "feed", path: "feed/connector.lua")
        }
        try await Self.together(try described("id = \"id\"")) { bench, add in
            #expect(try await bench.keys() == ["i1", "i2"])
            let changed = try described("id = \"id\", version = \"n\"")
            bench.catalogue.change("shop") { $0.connector = changed }
            add(3...3)
            try await Self.cycle(bench)
            #expect(try await bench.keys() == ["i1", "i2", "i3@3"])
            #expect(try await bench.trigger().progress.keyOrigin?.formers.count == 1)
            // Beyond the window that was open when it changed, only the new keys count.
            add(40...40)
            try await Self.cycle(bench)
            try await Self.cycle(bench)
            #expect(try await bench.keys() == ["i1", "i2", "i3@3", "i40@40"])
            #expect(try await bench.trigger().progress.keyOrigin == KeyOrigin(connector: changed.definition.hash))
        }
    }
}
