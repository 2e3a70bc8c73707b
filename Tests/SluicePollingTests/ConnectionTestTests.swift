import SluiceConnectors
import SluiceCore
import SluiceLua
import SluicePolling
import SluiceTesting
import Synchronization
import Testing

/// `connection.test`: as a function of the connector, and what the provider says in words.
@Suite struct ConnectionTestTests {
    private static func connector(_ test: String) throws -> LuaConnector {
        let source = """
            return { name = "feed", title = "Feed", version = "1",
            connection = { fields = { { name = "url" }, { name = "api_key", secret = true } }, base_url = "{connection.url}", test = \(test) },
            triggers = { item = { dedup = function(record) return record.id end,
              poll = function(connection) return { events = {}, next_poll = { n = 1 } } end } } }
            """
        return try LuaConnector.load(source: Array(source.utf8), name: "feed", path: "feed/connector.lua")
    }

    private static func outcome(_ test: String, _ answer: FeedServer.Answer) async throws -> ConnectionTestResult {
        let time = ManualTime()
        let server = FeedServer(clock: time)
        server.setFault { _ in answer }
        let found = Mutex<ConnectionTestResult?>(nil)
        try await server.with {
            try await Bench.with([BenchConnection(connector: try connector(test), url: server.url)], time: time) { bench in
                let result = try await bench.service.testConnection(try await bench.trigger().connection)
                found.withLock { $0 = result }
            }
        }
        return try #require(found.withLock { $0 })
    }

    private static let lambda = """
        function(connection)
          local answer = get(connection.url .. "/me", { headers = { ["X-Key"] = connection.api_key } })
          if answer.json.plan == "free" then return "the plan has no API; the key was " .. connection.api_key end
          if answer.json.nothing then return nil end
          return true
        end
        """

    @Test func aFunctionSaysWhetherTheConnectionWorks() async throws {
        let works = try await Self.outcome(Self.lambda, .whole("200 OK", "{}"))
        #expect(works.outcome == .ok && works.message.contains("own test"), "\(works)")
        let failed = try await Self.outcome(Self.lambda, .whole("200 OK", #"{"plan":"free"}"#))
        #expect(failed.outcome == .failed && failed.message == "the plan has no API; the key was [secret]", "\(failed)")
        let refused = try await Self.outcome(Self.lambda, .whole("401 Unauthorized", "{}"))
        #expect(refused.outcome == .credentialsRefused, "\(refused)")
        let wrong = try await Self.outcome(Self.lambda, .whole("200 OK", #"{"nothing":1}"#))
        #expect(wrong.outcome == .misconfigured && wrong.message.contains("must return true, or a text"), "\(wrong)")
        let raised = try await Self.outcome(#"function(connection) error("no " .. connection.api_key) end"#, .whole("200 OK", "{}"))
        #expect(raised.outcome != .ok && !raised.message.contains(BenchConnection.key), "\(raised)")
    }

    /// Most connectors name no request: then a page is read, and left alone.
    @Test func withoutARequestToTryAPageIsRead() async throws {
        let time = ManualTime()
        let server = FeedServer(clock: time)
        server.add(3)
        try await server.with {
            try await Bench.with([BenchConnection(connector: try feed(), url: server.url)], time: time) { bench in
                try await waitUntil("its jobs") { try await bench.keys().count == 3 }
                let id = try await bench.trigger().connection
                let before = try await bench.trigger().progress
                server.add(2)
                let works = try await bench.service.testConnection(id)
                #expect(works.outcome == .ok && works.message.contains("trigger items works: 2 records"), "\(works)")
                let after = try await bench.trigger().progress
                let isSame = after.cursor == before.cursor && after.cyclesCompleted == before.cyclesCompleted
                let count = try await bench.keys().count
                #expect(isSame && count == 3, "nothing was kept")
                server.setFault { _ in .whole("401 Unauthorized", "{}") }
                let refused = try await bench.service.testConnection(id)
                #expect(refused.outcome == .credentialsRefused, "\(refused)")
                server.setFault { _ in .whole("502 Bad Gateway", "{}") }
                #expect(try await bench.service.testConnection(id).outcome == .providerFault)
                server.setFault(nil)
                try await bench.pollNow()
                try await waitUntil("all jobs") { try await bench.keys().count == 5 }
            }
        }
    }

    @Test(arguments: [
        #"{"message":"key polling-key-canary is no good"}"#, #"{"error":{"message":"key polling-key-canary is no good"}}"#,
        #"{"errors":[{"detail":"key polling-key-canary is no good"}]}"#, #"{"error_description":"key polling-key-canary is no good"}"#,
    ]) func whatTheProviderSaysIsReportedWithoutSecrets(body: String) async throws {
        let data = "{ path = \"/me\" }"
        let result = try await Self.outcome(data, .whole("403 Forbidden", body))
        #expect(result.outcome == .credentialsRefused && result.status == 403)
        #expect(result.message.hasSuffix("it says: key [secret] is no good"), "\(result.message)")
        let silent = try await Self.outcome(data, .whole("404 Not Found", "<html>polling-key-canary</html>", type: "text/html"))
        #expect(silent.outcome == .wrongURL && !silent.message.contains("it says") && !silent.message.contains("canary"))
    }
}
