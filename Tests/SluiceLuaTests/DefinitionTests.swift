import FoundationEssentials
import SluiceConnectors
import SluiceCore
import Testing

@testable import SluiceLua

@Suite struct DefinitionTests {
    static let minimal = "poll = function() return { events = {} } end, dedup = function(r) return r.id end"

    private func load(_ source: String) throws -> LuaConnector {
        try LuaConnector.load(source: Array(source.utf8), name: "a-b", path: "connectors/a-b/connector.lua")
    }

    @Test func aWholeDefinitionIsRead() throws {
        let lua = try load(
            """
            return { name = "a-b", title = "A", version = "2.0.0",
              connection = { fields = { { name = "api_key", label = "Key", secret = true, hint = "h" },
                { name = "page", type = "integer", optional = true, default = 100 } } },
              webhook = { scheme = "stripe", delivery_id = { header = "X-Id" } },
              webhook_keys = function() return {} end,
              help = function(url) return "use " .. url end,
              triggers = {
                polled = { \(DefinitionTests.minimal), visibility_lag_seconds = 1.5, lookback = 60, sample_output = { id = 1 } },
                both = { \(DefinitionTests.minimal), webhook_key = function() return nil end },
                data = { incremental = {
                  base_url = "https://a", path = "/x", records = "list", dedup = { id = "id", version = "at" },
                  cursor = { field = "at", parameter = "since", type = "unix_seconds", order = "asc", lookback_seconds = 30,
                    visibility_lag_seconds = 4 } } },
                woken = { webhook_key = function() return "a" end, incremental = {
                  base_url = "https://a", path = "/x", records = "list", dedup = { id = "id", version = "at" },
                  cursor = { field = "at", parameter = "since", type = "unix_seconds", order = "asc", lookback_seconds = 30 } } },
              } }
            """)
        let definition = lua.definition
        #expect(
            definition.title == "A" && definition.version == "2.0.0" && definition.language == "lua" && definition.hash.utf8.count == 64)
        #expect(
            definition.connectionFields == [
                Field("api_key", label: "Key", isSecret: true, hint: "h"),
                Field("page", type: .integer, isOptional: true, defaultJSON: "100"),
            ])
        #expect(definition.webhook?.deliveryID == .header("X-Id"))
        #expect(definition.trigger("polled")?.kind == .polling && definition.trigger("both")?.kind == .hybrid)
        #expect(definition.trigger("polled")?.visibilityLag == .milliseconds(1500) && definition.trigger("polled")?.lookback == 60)
        #expect(definition.trigger("polled")?.sampleOutput.map { text($0) } == #"{"id":1}"#)
        #expect(definition.trigger("data")?.visibilityLag == .seconds(4))
        #expect((definition.trigger("data")?.lookback ?? 0) >= 30)
        #expect(definition.trigger("woken")?.kind == .hybrid && definition.trigger("woken")?.visibilityLag == .seconds(10))
        let records = [Record(bytes: Array(#"{"id":"a","at":7}"#.utf8)[...]), Record(bytes: Array(#"{"at":7}"#.utf8)[...])]
        let keys = try lua.dedupKeys(triggerType: "data", records: records)
        #expect((try? keys[0].get()).map { text($0) } == "a@7")
        #expect((try? keys[1].get()) == nil)
        #expect(lua.help(webhookBaseURL: "https://w") == "use https://w")
        #expect(try lua.webhookKey(triggerType: "both", input: json("{}")) == nil)
    }

    @Test func aHandshakeIsANameOrAList() throws {
        func handshakes(_ text: String, fields: String = "") throws -> [String] {
            let source = """
                return { name = "a-b", experimental = true, connection = { fields = { \(fields) } },
                  webhook = { scheme = "none", handshake = \(text) }, triggers = { t = { \(DefinitionTests.minimal) } } }
                """
            let definition = try load(source).definition
            #expect(definition.isExperimental)
            return try #require(definition.webhook).handshakes
        }
        #expect(try handshakes(#""slack""#) == ["slack"])
        #expect(try handshakes(#"{ "monday", "okta" }"#) == ["monday", "okta"])
        #expect(try handshakes(#""meta""#, fields: #"{ name = "verify_token", secret = true }"#) == ["meta"])
        for (text, words) in [
            (#""slak""#, "'slak' is not known; known are asana"), ("{ 1 }", "must be the name of a handshake"), ("7", "must be the name"),
            (#""meta""#, "needs a field of the connection named verify_token"),
        ] {
            let error = #expect(throws: SluiceError.self) { try handshakes(text) }
            #expect(error?.message.contains(words) == true, "\(text): \(error?.message ?? "")")
        }
    }

    @Test(arguments: [
        ("return 1", "must return a table"), ("return {", "connector.lua:1:"), ("return {}", "name is missing"),
        ("return { name = 'A B', triggers = {} }", "kebab-case"), ("return { name = 'x' }", "triggers is missing"),
        ("return { name = 'x', triggrs = {} }", "unknown key 'triggrs'; known are"),
        ("return { name = 'other', triggers = { t = { \(minimal) } } }", "its folder is named 'a-b'"),
        ("return { name = 'a-b', triggers = { t = {} } }", "triggers.t.poll is missing"),
        ("return { name = 'a-b', triggers = { t = { poll = 1 } } }", "triggers.t.poll must be a function"),
        ("return { name = 'a-b', triggers = { t = { pol = 1 } } }", "triggers.t has an unknown key 'pol'"),
        ("return { name = 'a-b', triggers = { t = { poll = function() end } } }", "triggers.t.dedup is missing"),
        ("return { name = 'a-b', triggers = { t = { \(minimal), incremental = {} } } }", "both poll and incremental"),
        ("return { name = 'a-b', triggers = { t = { incremental = { f = function() end } } } }", "must be data"),
        ("return { name = 'a-b', triggers = { t = { \(minimal), webhook_key = function() end } } }", "needs webhook_keys"),
        ("return { name = 'a-b', webhook_keys = function() end, triggers = { t = { \(minimal) } } }", "needs webhook = "),
        (
            "return { name = 'a-b', triggers = { t = { \(minimal), input_fields = { { name = 'x', type = 'int' } } } } }",
            "triggers.t.input_fields[1].type 'int' is not a type"
        ),
        (
            "return { name = 'a-b', connection = { fields = { { label = 'x' } } }, triggers = { t = { \(minimal) } } }",
            "connection.fields[1].name is missing"
        ),
        (
            "return { name = 'a-b', connection = { fields = { { name = 'x', secret = 1 } } }, triggers = { t = { \(minimal) } } }",
            "secret must be true or false"
        ),
        (
            "return { name = 'a-b', webhook = { scheme = 'standard-webhook' }, triggers = { t = { \(minimal) } } }",
            "'standard-webhook' is no scheme: `sluice verify --list` lists them; names like it: standard-webhooks"
        ),
        (
            "return { name = 'a-b', webhook = { scheme = 'hmac-sha256', delivery_id = {} }, triggers = { t = { \(minimal) } } }",
            "delivery_id must be"
        ),
    ])
    func faultsSayWhereAndWhatToDo(source: String, expected: String) async throws {
        let message = await message { _ = try load(source) }
        #expect(message?.contains("connector.lua:") == true, "\(message ?? "no error")")
        #expect(message?.contains(expected) == true, "\(message ?? "no error")")
    }

    @Test func aDirectoryLoadsWhatItCan() throws {
        let manager = FileManager.default
        let directory = manager.temporaryDirectory.appending(path: "sluice-lua-\(UInt64.random(in: 0 ... .max))").path
        defer { try? manager.removeItem(atPath: directory) }
        let files = ["good": "return { name = 'good', triggers = { t = { \(DefinitionTests.minimal) } } }", "bad": "return {\n  x =\n}"]
        for (name, source) in files {
            try manager.createDirectory(atPath: "\(directory)/\(name)", withIntermediateDirectories: true)
            _ = manager.createFile(atPath: "\(directory)/\(name)/connector.lua", contents: Data(source.utf8))
        }
        try manager.createDirectory(atPath: "\(directory)/empty", withIntermediateDirectories: true)
        let loaded = try LuaConnectorLoader.load(directory: directory)
        #expect(loaded.connectors.map(\.definition.name) == ["good"])
        #expect(loaded.failures.map(\.path) == ["\(directory)/bad/connector.lua"])
        #expect(loaded.failures.first?.error.message.hasPrefix("connector.lua:3: ") == true)
        #expect(throws: SluiceError.self) { try LuaConnectorLoader.load(directory: directory + "/nowhere") }
    }
}
