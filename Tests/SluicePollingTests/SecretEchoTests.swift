import SluiceConnectors
import SluiceCore
import SluiceLua
import SluicePolling
import SluiceStore
import SluiceTesting
import Testing

/// Providers that repeat the credentials that they were shown: nothing of them is logged, stored, or said in an alarm.
@Suite struct SecretEchoTests {
    struct Echo: Sendable, CustomTestStringConvertible {
        let testDescription: String
        /// What must stand in the error, so that it is known to be this one.
        let words: String
        let answer: @Sendable (FeedServer.Request) -> FeedServer.Answer?

        init(_ name: String, _ words: String, _ answer: @escaping @Sendable (FeedServer.Request) -> FeedServer.Answer?) {
            (testDescription, self.words, self.answer) = (name, words, answer)
        }

        /// The value of a header of the request.
        static func header(_ name: String, _ request: FeedServer.Request) -> String {
            let line = request.head.split(separator: "\r\n").first { $0.lowercased().hasPrefix(name + ":") }
            return line.map { String($0.dropFirst(name.count + 1).drop { $0 == " " }) } ?? ""
        }

        static func token(_ request: FeedServer.Request) -> String { header("authorization", request) }
        static func key(_ request: FeedServer.Request) -> String { header("x-api-key", request) }

        private static let bodies: [Echo] = [
            Echo("the token in a 400", "[secret]") { .whole("400 No", #"{"error":"no such token: \#(token($0))"}"#) },
            Echo("the token in a 404", "[secret]") { .whole("404 No", #"{"error":"no such token: \#(token($0))"}"#) },
            Echo("the key in a 422", "[secret]") { .whole("422 No", "bad key \(key($0))") },
            // 120 bytes are quoted: the end comes in the middle of the key.
            Echo("the key where the quotation ends", "[secret]") { .whole("400 No", "\(String(repeating: "-", count: 110))\(key($0))") },
            Echo("the token with its slashes escaped", "[secret]") { request in
                .whole("422 No", token(request).split(separator: "/").joined(separator: "\\/"))
            },
            Echo("a page that is not JSON", "") { .whole("200 OK", "<p>\(token($0)) \(key($0))</p>") },
        ]
        private static let heads: [Echo] = [
            Echo("a redirect to the key", "redirects to another host ([secret]") {
                .whole("302 Found", "", headers: ["Location: http://\(key($0)).example.com/"])
            },
            Echo("a redirect with both", "redirects to another host (127.0.0.2)") {
                .whole("307 Found", token($0), headers: ["Location: http://127.0.0.2/\(key($0))"])
            },
            Echo("a status line", "") { .raw("HTTP/1.1 \(token($0))\r\n\r\n", closes: true) },
        ]
        static let all = bodies + heads
    }

    static let token = "t0k3n/Zw+8=Mqx9"
    static let clientSecret = "cl13nt-zq/Canary77"

    static func connector(_ poll: String) throws -> LuaConnector {
        let source = """
            return { name = "feed", title = "Feed", version = "1",
            connection = {
              fields = { { name = "url" }, { name = "api_key", secret = true }, { name = "client_secret", secret = true } },
              base_url = "{connection.url}",
              authorization = { oauth2_client_credentials = { token_url = "{connection.url}/token", client_id = "client",
                client_secret = "{connection.client_secret}" } } },
            triggers = { item = { \(poll) } } }
            """
        return try LuaConnector.load(source: Array(source.utf8), name: "feed", path: "feed/connector.lua")
    }

    static let described = """
        incremental = { base_url = "{connection.url}", path = "/list", headers = { ["X-API-Key"] = "{connection.api_key}" },
          records = "items", cursor = { field = "n", type = "integer", parameter = "after", order = "asc", exclusive = true, unique = true },
          dedup = { id = "id" } }
        """

    static let lambda = """
        dedup = function(record) return record.id end,
        poll = function(connection, input, closure)
          local answer = get(connection.url .. "/list", { headers = { ["X-API-Key"] = connection.api_key } })
          if answer.status ~= 200 then error("the list answered " .. answer.status .. ": " .. answer.body) end
          return { events = answer.json.items, next_poll = { after = answer.json.next }, can_poll_more = answer.json.more }
        end
        """

    /// Neither a secret nor eight of its characters in a row.
    static func expectNone(of secrets: [String], in text: String, _ place: String) {
        for secret in secrets {
            let letters = Array(secret)
            for start in 0...(letters.count - 8) {
                let part = String(letters[start..<start + 8])
                #expect(!text.contains(part), "\(place) tells `\(part)`: \(text.prefix(2000))")
            }
        }
    }

    @Test(arguments: Echo.all)
    func whatAProviderRepeatsIsToldNowhere(echo: Echo) async throws {
        try await check(echo, try Self.connector(Self.described), words: echo.words)
    }

    @Test(arguments: Echo.all)
    func whatALambdaQuotesIsToldNowhere(echo: Echo) async throws {
        try await check(echo, try Self.connector(Self.lambda), words: "")
    }

    private func check(_ echo: Echo, _ connector: LuaConnector, words: String) async throws {
        let time = ManualTime()
        let server = FeedServer(clock: time)
        server.setFault { request in
            guard request.target == "/token" else { return echo.answer(request) }
            return .whole("200 OK", "{\"access_token\":\"\(Self.token)\",\"expires_in\":3600}")
        }
        let log = LogLines()
        try await server.with {
            var connection = BenchConnection(connector: connector, url: "http://127.0.0.1:\(server.port)")
            connection.values = ["client_secret": Self.clientSecret]
            try await Bench.with([connection], time: time, log: log) { bench in
                try await waitUntil("a failure") { try await bench.trigger().progress.failures > 0 }
                try await waitUntil("the alarm") { bench.alarms.message(.triggerFailing, "trigger items") != nil }
                // Until a trigger fails for good, or the connection is marked.
                for _ in 0..<8 { bench.advance(by: .minutes(30)) }
                let trigger = try await bench.trigger()
                let error = try #require(trigger.progress.lastError)
                #expect(words.isEmpty || error.contains(words), "\(error)")
                #expect(server.requests.contains { $0.head.contains(Self.token) && $0.head.contains(BenchConnection.key) })
                let secrets = [Self.token, BenchConnection.key, Self.clientSecret]
                Self.expectNone(of: secrets, in: error, "the last error")
                Self.expectNone(of: secrets, in: trigger.stateReason ?? "", "the trigger's reason")
                let problem = try await bench.store.definitions(.default).connections.first?.problem
                Self.expectNone(of: secrets, in: problem ?? "", "the connection's problem")
                for (kind, subject) in [(Alarm.Kind.triggerFailing, "trigger items"), (.connectionRefused, "connection shop")] {
                    Self.expectNone(of: secrets, in: bench.alarms.message(kind, subject) ?? "", "the alarm")
                }
            }
        }
        #expect(log.text.contains("a poll failed"), "\(log.text)")
        Self.expectNone(of: [Self.token, BenchConnection.key, Self.clientSecret], in: log.text, "the log")
    }

    /// A provider that repeats the client's secret where the token is asked for.
    @Test func whatATokenEndpointRepeatsIsToldNowhere() async throws {
        let time = ManualTime()
        let server = FeedServer(clock: time)
        server.setFault { request in
            let shown = Echo.header("authorization", request)
            return .whole("401 Unauthorized", "{\"error\":\"invalid_client\",\"error_description\":\"wrong: \(shown)\"}")
        }
        let log = LogLines()
        try await server.with {
            var connection = BenchConnection(connector: try Self.connector(Self.described), url: "http://127.0.0.1:\(server.port)")
            connection.values = ["client_secret": Self.clientSecret]
            try await Bench.with([connection], time: time, log: log) { bench in
                try await waitUntil("a failure") { try await bench.trigger().progress.failures > 0 }
                let error = try #require(try await bench.trigger().progress.lastError)
                #expect(error.contains("invalid_client (wrong: Basic [secret])"), "\(error)")
                let shown = try #require(server.requests.first.map { Echo.header("authorization", $0) })
                let encoded = try #require(shown.split(separator: " ").last)
                Self.expectNone(of: [String(encoded), Self.clientSecret], in: error + log.text, "the error")
                let id = try await bench.trigger().connection
                Self.expectNone(of: [String(encoded)], in: "\(bench.service.connectionStatus(id))", "the connection's status")
            }
        }
    }
}
