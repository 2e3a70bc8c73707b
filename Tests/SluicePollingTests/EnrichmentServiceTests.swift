import SluiceCore
import SluiceLua
import SluicePolling
import SluiceStore
import SluiceTesting
import Synchronization
import Testing

/// A described poll with an enrichment, over the real service, a real store and real connections.
@Suite struct EnrichmentServiceTests {
    private static let source = """
        return { name = "feed", title = "Feed", version = "1",
        connection = { fields = { { name = "url" }, { name = "api_key", secret = true } } },
        sign = function(request, connection)
          return { ["X-Signature"] = hmac_sha256_hex(connection.api_key, request.method .. request.path .. "?" .. request.query) }
        end,
        triggers = { item = { incremental = {
          base_url = "{connection.url}", path = "/list", records = "items",
          cursor = { field = "n", parameter = "after", type = "integer", order = "asc" },
          pagination = { token = { from = "next", parameter = "page" } },
          dedup = { id = "id", version = "n" },
          enrich = { path = "/full/{record.id}", at = "item", concurrency = 2 },
        } } } }
        """

    /// Six items in pages of two; what a full one looks like is told by its number.
    private static func answer(_ request: FeedServer.Request, broken: Bool) -> FeedServer.Answer {
        if let id = request.target.split(separator: "/full/i").dropFirst().first.flatMap({ Int($0) }) {
            if id == 2 { return .whole("404 Not Found", "{}") }
            if id == 4, broken { return .whole("503 Service Unavailable", "{}") }
            return .whole("200 OK", "{\"item\": {\"id\":\"i\(id)\",  \"full\":1.50}}")
        }
        let page = request.target.split(separator: "page=").dropFirst().first.flatMap { Int($0.prefix { $0.isNumber }) } ?? 0
        let items = (page * 2 + 1...page * 2 + 2).map { "{\"id\":\"i\($0)\",\"n\":\($0)}" }.joined(separator: ",")
        return .whole("200 OK", "{\"items\":[\(items)],\"next\":\(page < 2 ? "\"\(page + 1)\"" : "null")}")
    }

    @Test func P3_recordsAreFetchedInFullAndTheCursorWaitsForThem() async throws {
        let time = ManualTime()
        let server = FeedServer(clock: time)
        let isBroken = Mutex(true)
        server.setFault { request in EnrichmentServiceTests.answer(request, broken: isBroken.withLock { $0 }) }
        let connector = try LuaConnector.load(source: Array(EnrichmentServiceTests.source.utf8), name: "feed", path: "feed/connector.lua")
        try await server.with {
            try await Bench.with([BenchConnection(connector: connector, url: server.url)], time: time) { bench in
                try await bench.advanceUntil("two failures") { try await bench.trigger().progress.failures >= 2 }
                let held = try await bench.trigger().progress
                #expect(held.lastError?.contains("503") == true, "\(held.lastError ?? "")")
                #expect(try await bench.keys() == ["i1@1", "i2@2"], "the page that lacks a record makes no job")
                #expect(held.cursorMark == 2, "and does not move the cursor")
                isBroken.withLock { $0 = false }
                try await bench.advanceUntil("6 jobs") { try await bench.keys().count >= 6 }
                #expect(try await bench.keys() == (1...6).map { "i\($0)@\($0)" })
                let jobs = try await bench.store.jobs(JobQuery(trigger: try await bench.trigger().id, limit: 100)).jobs
                #expect(
                    jobs.map { String(decoding: $0.record, as: UTF8.self) }
                        == (1...6).map { $0 == 2 ? "{\"id\":\"i2\",\"n\":2}" : "{\"id\":\"i\($0)\",  \"full\":1.50}" })
                #expect(jobs.map(\.isDerived) == [false, true, false, false, false, false])
                let asked = server.requests.map(\.target)
                // For a while: time moves in steps here, so that it may be asked for once more.
                let (kept, broken) = (asked.count { $0.hasSuffix("/full/i3") }, asked.count { $0.hasSuffix("/full/i4") })
                #expect(kept < broken && kept <= 2, "what was fetched is kept over a failed page: \(kept) of \(broken)")
                #expect(broken >= 3)
                #expect(server.requests.allSatisfy { $0.head.lowercased().contains("x-signature: ") }, "every request is signed")
            }
        }
    }
}
