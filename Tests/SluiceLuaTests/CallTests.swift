import SluiceConnectors
import SluiceCore
import Synchronization
import Testing

@testable import SluiceLua

final class Recorder<Value: Sendable>: Sendable {
    private let list = Mutex<[Value]>([])
    var values: [Value] { list.withLock { $0 } }
    func add(_ value: Value) { list.withLock { $0.append(value) } }
}

@Suite struct CallTests {
    @Test func manyPollsAreSuspendedAtOnce() async throws {
        let slots = LuaLimits().concurrentPollsMax
        let lua = try connector(poll: "local r = get('https://e.com/' .. input.n) return { events = { r.json }, next_poll = input.n }")
        let gate = Gate()
        let http = FakeHTTP { plan in
            await gate.pass()
            return reply("{\"url\":\"\(plan.url)\"}")
        }
        try await withThrowingTaskGroup(of: (Int, PollPage).self) { group in
            for number in 0..<slots + 90 {
                group.addTask { (number, try await lua.poll(pollRequest(input: "{\"n\":\(number)}"), http: http)) }
            }
            // All slots are taken by suspended polls; no thread is blocked, or this line would not be reached.
            await gate.arrivals(slots)
            #expect(lua.slots.freeCount == 0)
            #expect(try lua.webhookKey(triggerType: "new_event", input: json(#"{"resource":"r"}"#)) == "r")
            gate.open()
            for try await (number, page) in group {
                #expect(page.records.map { text($0.bytes) } == ["{\"url\":\"https://e.com/\(number)\"}"])
                #expect(page.cursor.map(text) == "\(number)")
            }
        }
        #expect(lua.slots.freeCount == slots)
        #expect(lua.pool.idleCount <= 8)
    }

    @Test func aCancelledPollFreesItsState() async throws {
        var limits = LuaLimits()
        limits.concurrentPollsMax = 1
        let top = "local function keys() return {} end"
        let poll =
            "local x <close> = setmetatable({}, { __close = function() while true do end end }) get('https://e.com') return { events = {} }"
        let lua = try connector(poll: poll, top: top, limits: limits)
        let (arrived, arrival) = AsyncStream.makeStream(of: Void.self, bufferingPolicy: .bufferingNewest(1))
        let hanging = FakeHTTP { _ in
            arrival.yield()
            while true { try await Task.sleep(for: .seconds(60)) }
        }
        for _ in 0..<3 {
            await withTaskGroup(of: Bool.self) { group in
                group.addTask { await message { _ = try await lua.poll(pollRequest(), http: hanging) } != nil }
                for await _ in arrived { break }
                // A second one waits for the slot and is cancelled while it waits.
                group.addTask { await message { _ = try await lua.poll(pollRequest(), http: hanging) } != nil }
                group.cancelAll()
                for await failed in group { #expect(failed) }
            }
            #expect(lua.slots.freeCount == 1)
            #expect(lua.pool.idleCount == 1)
        }
        #expect(try lua.webhookKeys(webhook()) == [])
    }

    @Test func aPollWaitsForAFreeSlot() async throws {
        var limits = LuaLimits()
        limits.concurrentPollsMax = 1
        let lua = try connector(poll: "get('https://e.com') return { events = {} }", limits: limits)
        let gate = Gate()
        let http = FakeHTTP { _ in
            await gate.pass()
            return reply("{}")
        }
        try await withThrowingTaskGroup(of: Void.self) { group in
            for _ in 0..<20 { group.addTask { _ = try await lua.poll(pollRequest(), http: http) } }
            await gate.arrivals(1)
            gate.open()
            try await group.waitForAll()
        }
        #expect(lua.slots.freeCount == 1)
    }

    @Test(arguments: [
        ("return {}", "[]"), ("return { 'a', 'b' }", #"["a", "b"]"#), ("return request.json.keys", "expected a table of strings"),
        ("return nil", "returned a nil"), ("return 'a'", "returned a string"), ("return { 1 }", "element 1 is a number"),
        ("return { 'a', x = 'b' }", "not a sequence"), ("return { request.json.nope.x }", "index a nil"),
        ("error('no')", "no"), ("return { request.json.type:match('^%a+') }", #"["invoice"]"#),
    ])
    func webhookKeysAnswersOrSaysWhy(code: String, expected: String) async throws {
        let lua = try keysConnector(code)
        var keys: [String] = []
        let message = await message { keys = try lua.webhookKeys(webhook(#"{"keys":["x"],"type":"invoice_paid"}"#)) }
        if let message { #expect(message.hasPrefix("connector.lua:")) }
        #expect((message ?? "\(keys)").contains(expected), "\(message ?? "\(keys)")")
    }

    @Test(arguments: ["", "{", "<html>", "\u{0}", #"{"a":1}x"#])
    func aWebhookThatIsNotJSONIsAClearError(body: String) async throws {
        let lua = try keysConnector("return { request.json.event_type }")
        let message = await message { _ = try lua.webhookKeys(webhook(body)) }
        #expect(message?.hasPrefix("connector.lua:1: request.json: the body is not JSON") == true, "\(message ?? "no error")")
    }

    @Test func dedupFailsRecordByRecord() throws {
        let dedup = """
            if record.id == 3 then while true do end end
            if record.id == 4 then error({}) end
            if record.id == 5 then return ("x"):rep(2000) end
            if record.id == 6 then return 1.5 end
            if record.id == 7 then return "" end
            return record.id
            """
        // The count of instructions is to end the endless one, not the time of the page.
        var limits = LuaLimits()
        limits.callMillisecondsMax = 600_000
        limits.dedupPageMillisecondsMax = 600_000
        let lua = try connector(dedup: dedup, limits: limits)
        let texts = [
            "{\"id\":1}", "{\"id\":\"a\"}", "{}", "7", "{\"id\":3}", "{\"id\":4}", "{\"id\":5}", "{\"id\":6}", "{\"id\":7}",
            "{\"id\":18446744073709551615}", "{\"id\":8}",
        ]
        let records = texts.map { Record(bytes: Array($0.utf8)[...]) }
        let keys = try lua.dedupKeys(triggerType: "new_event", records: records)
        let shown = keys.map { result -> String in
            switch result {
            case .success(let key): return text(key)
            case .failure(let error): return error.message.hasPrefix("connector.lua:") ? "failed" : error.message
            }
        }
        #expect(shown == ["1", "a", "failed", "failed", "failed", "failed", "failed", "failed", "failed", "18446744073709551615", "8"])
    }

    @Test func dedupThatNeverEndsStopsThePage() async throws {
        var limits = LuaLimits()
        limits.dedupPageMillisecondsMax = 50
        let lua = try connector(dedup: "while true do end", limits: limits)
        let records = (0..<10_000).map { Record(bytes: Array("{\"id\":\($0)}".utf8)[...]) }
        let message = await message { _ = try lua.dedupKeys(triggerType: "new_event", records: records) }
        #expect(message?.contains("used up the time of a whole page") == true, "\(message ?? "no error")")
    }

    @Test func unknownTriggersAreNamed() async throws {
        let lua = try connector()
        let message = await message { _ = try lua.webhookKey(triggerType: "nope", input: json("{}")) }
        #expect(message == "The connector test has no trigger type 'nope'; it has new_event.")
    }
}
