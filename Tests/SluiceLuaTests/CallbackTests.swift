import SluiceConnectors
import SluiceCore
import Testing

@testable import SluiceLua

@Suite struct LuaCallbackTests {
    static func load(_ callback: String) throws -> LuaConnector {
        let source = """
            return { name = "test",
            connection = { base_url = "https://p.example.com", fields = { { name = "api_key", secret = true } } },
            callbacks = { payment = { input_fields = { { name = "id" } }, \(callback) } } }
            """
        return try LuaConnector.load(source: Array(source.utf8), name: "test", path: "test/connector.lua")
    }

    static func request(_ input: String = #"{"id":"a/b"}"#) -> CallbackRequest {
        CallbackRequest(
            type: "payment", connection: json(#"{"api_key":"secret-key-1"}"#), input: json(input), now: Timestamp(seconds: 1_700_000_000))
    }

    static let data = """
        status = { path = "/payments/{input.id}", settled = { path = "state.name", is = { "paid", "done" } },
          failed = { path = "state.final", is = true }, result = "payment", retry_after = "wait" }
        """

    @Test func aDescriptionSaysWhatIsOver() async throws {
        let connector = try Self.load(Self.data)
        let type = try #require(connector.definition.callback("payment"))
        #expect(type.asks && type.pauses == CallbackPolicy.pausesStandard && connector.definition.triggers.isEmpty)
        for (body, answer) in [
            (#"{"state":{"name":"open"},"wait":90}"#, CallbackAnswer.pending(retryAfter: .seconds(90))),
            (#"{"state":{"name":"open"},"wait":"soon"}"#, .pending()),
            (#"{"state":{"name":"done"},"payment":{"b":1.10,"a":2e0}}"#, .over(result: Array(#"{"b":1.10,"a":2e0}"#.utf8))),
            (#"{"state":{"final":true},"payment":null}"#, .over(result: Array("null".utf8), failed: true)),
        ] {
            let http = FakeHTTP { plan in
                #expect(plan.method == "GET" && plan.url == "https://p.example.com/payments/a%2Fb")
                return reply(body)
            }
            #expect(try await connector.callbackStatus(Self.request(), http: http) == answer, "\(body)")
        }
    }

    @Test(arguments: [
        ("{}", 200, "has no status at state.name"), ("oops", 200, "is not JSON"),
        (#"{"state":{"name":"paid"}}"#, 200, "no result at payment"),
        ("{}", 410, "permanent: the provider answers the status poll with 410"),
        ("{}", 400, "permanent: the provider answers the status poll with 400"),
    ])
    func garbageSettlesNothing(_ body: String, _ status: Int, _ words: String) async throws {
        let connector = try Self.load(Self.data)
        let found = await message {
            _ = try await connector.callbackStatus(Self.request(), http: FakeHTTP { _ in reply(body, status: status) })
        }
        #expect(found?.contains(words) == true, "\(found ?? "nothing")")
    }

    static let function = """
        pauses = { 1, 2.5 },
        status = function(connection, input)
          local answer = get("https://p.example.com/" .. input.id, { headers = { Authorization = connection.api_key } })
          local state = answer.json.state
          if state == "open" then return { settled = false, retry_after = 7 } end
          if state == "odd" then return { settled = "yes" } end
          if state == "empty" then return { settled = true } end
          if state == "more" then return { settled = true, result = 1, extra = 2 } end
          if state == "leak" then error("refused " .. connection.api_key) end
          return { settled = true, failed = state == "bad", result = answer.json.payment }
        end
        """

    @Test func aFunctionSaysWhatIsOver() async throws {
        let connector = try Self.load(Self.function)
        #expect(connector.definition.callback("payment")?.pauses == [.seconds(1), .milliseconds(2500)])
        for (body, answer) in [
            (#"{"state":"open"}"#, CallbackAnswer.pending(retryAfter: .seconds(7))),
            (
                #"{"state":"ok","payment":{"z":12345678901234567890.10,"a":1}}"#,
                .over(result: Array(#"{"z":12345678901234567890.10,"a":1}"#.utf8))
            ),
            (#"{"state":"bad","payment":[1.0]}"#, .over(result: Array("[1.0]".utf8), failed: true)),
        ] {
            #expect(try await connector.callbackStatus(Self.request(), http: FakeHTTP(json: body)) == answer, "\(body)")
        }
        for (state, words) in [
            ("odd", "must return settled"), ("empty", "without a result"), ("more", "unknown key 'extra'"), ("leak", "refused [api_key]"),
        ] {
            let found = await message {
                _ = try await connector.callbackStatus(Self.request(), http: FakeHTTP(json: "{\"state\":\"\(state)\"}"))
            }
            #expect(found?.contains(words) == true && found?.contains("secret-key-1") == false, "\(found ?? "nothing")")
        }
    }

    @Test(arguments: [
        ("status = { path = \"/x\" }", "status.settled is missing"),
        ("status = { path = \"/x\", settled = { path = \"a\", is = {} } }", "must be a value, or a list of values"),
        ("status = { path = \"/x\", settled = { path = \"a\", is = 1 }, setled = 1 }", "means nothing here"),
        ("status = { path = \"/{webhook.url}\", settled = { path = \"a\", is = 1 } }", "must be one of"),
        ("pauses = {}", "must be a list of 1 to 32"), ("pauses = { 0 }", "each from 1 to 86400"), ("poll = 1", "unknown key 'poll'"),
    ])
    func mistakesAreNamed(_ callback: String, _ words: String) async {
        let found = await message { _ = try Self.load(callback) }
        #expect(found?.contains(words) == true, "\(found ?? "nothing")")
    }

    @Test func withoutStatusACallIsTheResult() async throws {
        let connector = try Self.load("title = \"Payment\"")
        #expect(connector.definition.callback("payment")?.asks == false)
        #expect(await message { _ = try await connector.callbackStatus(Self.request(), http: noHTTP) }?.contains("has no status") == true)
    }
}
