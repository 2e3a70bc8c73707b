import SluiceConnectors
import SluiceCore
import Synchronization
import Testing

@testable import SluiceLua

/// Webhook-only triggers and long polling in Lua.
@Suite struct KindTests {
    static func load(_ trigger: String, top: String = "") throws -> LuaConnector {
        let source = """
            return { name = "a", webhook = { scheme = "none" }, webhook_keys = function(request) return {} end, \(top)
            triggers = { t = { \(trigger) } } }
            """
        return try LuaConnector.load(source: Array(source.utf8), name: "a", path: "a/connector.lua")
    }

    static let data = """
        incremental = { base_url = "https://a.example", path = "/x", dedup = { id = "id" },
          cursor = { field = "id", parameter = "since", type = "integer", exclusive = true, order = "asc" } }
        """
    static let poll = "poll = function() return { events = {} } end, dedup = function(r) return r.id end"

    @Test(arguments: [
        ("webhook_key = function(input) return 'k' end", TriggerKind.webhook),
        ("webhook_notification = function(request) return request.json end", .webhook),
        ("\(poll), long_poll = function(connection, input, closure) return { events = {} } end", .longPolling),
        ("\(data), long_poll = { parameter = 'timeout', seconds = 60 }", .longPolling),
        ("\(poll), webhook_key = function(input) return 'k' end", .hybrid), (poll, .polling),
    ])
    func kindsFollowFromWhatIsDefined(trigger: String, kind: TriggerKind) throws {
        #expect(try KindTests.load(trigger).definition.triggers.first?.kind == kind)
    }

    @Test(arguments: [
        ("\(poll), webhook_notification = function() return {} end", "has no effect beside a poll"),
        ("long_poll = function() return {} end", "needs a poll"),
        ("\(data), long_poll = function() return {} end", "must be data"),
        ("\(poll), long_poll = { seconds = 60 }", "needs incremental"),
        ("\(data), long_poll = { seconds = 60 }, webhook_key = function() return 'k' end", "exclude each other"),
        ("\(data), long_poll = { seconds = 6000 }", "from 1 to 900"),
        (
            "incremental = { base_url = 'https://a', path = '/x', dedup = { id = 'id' } }, long_poll = { seconds = 60 }",
            "cursor with a parameter"
        ),
        ("title = 'nothing'", "poll is missing"),
    ])
    func mistakesAreNamed(trigger: String, problem: String) {
        #expect {
            _ = try KindTests.load(trigger)
        } throws: { error in
            (error as? SluiceError)?.message.contains(problem) == true
        }
    }

    @Test func webhooksNeedAScheme() {
        let source = "return { name = 'a', triggers = { t = { webhook_notification = function() return {} end } } }"
        #expect {
            _ = try LuaConnector.load(source: Array(source.utf8), name: "a", path: "a/connector.lua")
        } throws: { error in
            (error as? SluiceError)?.message.contains("scheme") == true
        }
    }

    @Test(arguments: [
        ("return request.json.list", ["{\"a\": 1.0}", "{\"b\":2}"], [false, false]),
        ("return request.json", ["{\"list\":[{\"a\": 1.0},{\"b\":2}],\"n\":9007199254740993}"], [false]),
        ("return { request.json.list[2], { c = 3 } }", ["{\"b\":2}", "{\"c\":3}"], [false, true]),
        ("return { kind = input.kind, n = request.json.n }", ["{\"kind\":\"x\",\"n\":9007199254740993}"], [true]),
        ("return nil", [], []), ("return {}", [], []), ("return output == nil and {} or error('output')", [], []),
    ])
    func webhookNotificationGivesRecords(body: String, records: [String], derived: [Bool]) throws {
        let lua = try KindTests.load("webhook_notification = function(request, input, output) \(body) end")
        let request = webhook("{\"list\":[{\"a\": 1.0},{\"b\":2}],\"n\":9007199254740993}")
        let found = try lua.webhookNotification(request, triggerType: "t", input: json("{\"kind\":\"x\"}"), output: nil)
        #expect(found.map { text($0.bytes) } == records)
        #expect(found.map(\.isDerived) == derived)
    }

    @Test func webhookNotificationsErrorsNameTheLine() throws {
        let lua = try KindTests.load("webhook_notification = function(request) return request.json.missing.field end")
        #expect {
            _ = try lua.webhookNotification(webhook(), triggerType: "t", input: json("{}"), output: nil)
        } throws: { error in
            (error as? SluiceError)?.message.hasPrefix("connector.lua:2:") == true
        }
        let other = try KindTests.load("webhook_notification = function(request) return 7 end")
        #expect(throws: SluiceError.self) { _ = try other.webhookNotification(webhook(), triggerType: "t", input: json("{}"), output: nil) }
    }

    @Test func aLongPollSaysHowLongItMayBeHeld() async throws {
        let lua = try KindTests.load(
            """
            \(KindTests.poll), long_poll = function(connection, input, closure)
              local answer = get("https://a.example/x", { params = { since = closure.at }, timeout_seconds = 60 })
              local lines = post("https://a.example/w", { json = {}, stream = true, timeout_seconds = 1.5 }).json
              return { events = lines, next_poll = { at = closure.at + #lines } }
            end
            """)
        let seen = Mutex<[HTTPRequestPlan]>([])
        let page = try await lua.longPoll(
            pollRequest(cursor: "{\"at\":5}", type: "t"),
            http: FakeHTTP { plan in
                seen.withLock { $0.append(plan) }
                return reply("[{\"id\": 1.0},{\"id\":2}]")
            })
        #expect(page.records.map { text($0.bytes) } == ["{\"id\": 1.0}", "{\"id\":2}"] && page.cursor.map { text($0) } == "{\"at\":7}")
        let plans = seen.withLock { $0 }
        #expect(plans.map(\.holdSpan) == [.seconds(60), .milliseconds(1500)] && plans.map(\.isStream) == [false, true])
    }

    @Test(arguments: ["stream = true", "timeout_seconds = 0", "timeout_seconds = 10000", "timeout_seconds = 'x'"])
    func holdsThatMeanNothingAreRefused(option: String) async throws {
        let lua = try KindTests.load(
            "\(KindTests.poll), long_poll = function() get('https://a.example', { \(option) }) return { events = {} } end")
        let message = await message { _ = try await lua.longPoll(pollRequest(cursor: "{}", type: "t"), http: noHTTP) }
        #expect(message?.contains("timeout_seconds") == true, "\(message ?? "nothing")")
    }
}
