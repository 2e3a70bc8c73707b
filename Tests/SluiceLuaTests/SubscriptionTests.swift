import SluiceConnectors
import SluiceCore
import Testing

@testable import SluiceLua

@Suite struct LuaSubscriptionTests {
    static func load(_ parts: String, webhook: String = "webhook = { scheme = \"github\" },") throws -> LuaConnector {
        let source = """
            return { name = "test", \(webhook)
            connection = { fields = { { name = "api_key", secret = true } } },
            triggers = { new_event = {
              dedup = function(record) return record.id end,
              poll = function() return { events = {} } end,
              \(parts)
            } } }
            """
        return try LuaConnector.load(source: Array(source.utf8), name: "test", path: "test/connector.lua")
    }

    static let lambdas = """
        subscription_input = { "topic" },
        webhook_subscribe = function(webhook_url, connection, input, secret)
          local answer = post("https://p.example.com/hooks", { json = { url = webhook_url, key = connection.api_key, topic = input.topic, secret = secret } })
          return { output = { id = answer.json.id }, expires_in = 60, secret = answer.json.secret }
        end,
        webhook_refresh = function(webhook_url, connection, input, output)
          local answer = put("https://p.example.com/hooks/" .. output.id, { json = {} })
          if answer.status == 404 then return { status = "missing" } end
          return { expires_at = "2023-11-14T23:13:20Z" }
        end,
        webhook_check = function(webhook_url, connection, input, output)
          if not output then return { status = "unknown" } end
          return { status = "active", found = { { id = 5, url = webhook_url } } }
        end,
        webhook_unsubscribe = function(webhook_url, connection, input, output)
          delete("https://p.example.com/hooks/" .. output.id, { any_status = true })
        end,
        """

    static func request(output: String? = nil) -> SubscriptionRequest {
        SubscriptionRequest(
            triggerType: "new_event", connection: json(#"{"api_key":"secret-key-1"}"#), input: json(#"{"topic":"t"}"#),
            webhookURL: "https://hooks.example.com/hooks/abc", secret: "offered", output: output.map { Array($0.utf8) },
            now: Timestamp(seconds: 1_700_000_000))
    }

    @Test func functionsSubscribeRefreshCheckAndUnsubscribe() async throws {
        let connector = try Self.load(Self.lambdas)
        let type = try #require(connector.definition.triggers.first)
        #expect(type.kind == .hybrid && type.subscription?.inputFields == ["topic"])
        #expect(type.subscription?.abilities == SubscriptionAbilities(canRefresh: true, canCheck: true))
        let http = FakeHTTP { plan in
            let body = String(decoding: plan.body, as: UTF8.self)
            #expect(plan.method != "POST" || body.contains(#""topic":"t""#) && body.contains(#""secret":"offered""#), "\(body)")
            return plan.method == "POST"
                ? reply(#"{"id":12,"secret":"theirs"}"#, status: 201) : reply("{}", status: plan.method == "PUT" ? 200 : 204)
        }
        let made = try await connector.subscribe(Self.request(), http: http)
        #expect(text(made.output ?? []) == #"{"id":12}"# && made.secret == "theirs" && made.expiresAt == Timestamp(seconds: 1_700_000_060))
        let kept = Self.request(output: #"{"id":12}"#)
        #expect(try await connector.refreshSubscription(kept, http: http).expiresAt == Timestamp(seconds: 1_700_003_600))
        #expect(try await connector.refreshSubscription(kept, http: FakeHTTP { _ in reply("{}", status: 404) }).status == .missing)
        let checked = try await connector.checkSubscription(kept, http: noHTTP)
        #expect(
            checked.status == .active && checked.others?.map(\.id) == ["5"] && text(checked.others?.first?.output ?? []) == #"{"id":5}"#)
        #expect(try await connector.checkSubscription(Self.request(), http: noHTTP).status == .unknown)
        try await connector.unsubscribe(kept, http: http)
    }

    @Test func whatTheyReturnIsChecked() async throws {
        for (result, words) in [
            ("nil", "returned nothing"), ("{ outptu = 1 }", "unknown key 'outptu'"), ("{ expires_at = \"soon\" }", "neither seconds"),
            ("7", "must return a table"),
        ] {
            let connector = try Self.load(
                "webhook_subscribe = function() return \(result) end, webhook_unsubscribe = function() end,")
            let said = await message { _ = try await connector.subscribe(Self.request(), http: noHTTP) }
            #expect(said?.contains(words) == true, "\(result): \(said ?? "")")
        }
        let leaking = try Self.load(
            "webhook_subscribe = function(url, connection) error(connection.api_key) end, webhook_unsubscribe = function() end,")
        let said = await message { _ = try await leaking.subscribe(Self.request(), http: noHTTP) }
        #expect(said?.contains("secret-key-1") == false && said?.contains("[api_key]") == true)
    }

    @Test(arguments: [
        ("webhook_subscribe = function() end,", "webhook_unsubscribe is missing"),
        ("webhook_refresh = function() end, webhook_unsubscribe = function() end,", "webhook_subscribe is missing"),
        ("webhook_key = function() end, webhook_subscribe = function() end,", "a URL of its own"),
        (#"subscription = { base_url = "https://x.example.com" },"#, "subscription.create is missing"),
    ])
    func mistakesAreNamed(parts: String, words: String) {
        var said = ""
        do { _ = try Self.load(parts) } catch { said = (error as? SluiceError)?.message ?? "\(error)" }
        #expect(said.contains(words) || said.contains("webhook_keys") && parts.hasPrefix("webhook_key "), "\(said)")
    }

    @Test func dynamicWebhooksNeedAWayToVerifyThem() {
        let error = #expect(throws: SluiceError.self) { try Self.load(Self.lambdas, webhook: "") }
        #expect(error?.message.contains("scheme") == true)
    }
}
