import SluiceConnectors
import SluiceCore
import Testing

@testable import SluiceLua

/// P10: everything has a bound. Each piece would run for ever or take all memory.
@Suite struct LimitTests {
    /// One line each, and what the error says. Time may strike before the count does on a busy machine.
    static let endless: [(String, [String])] = [
        ("while true do end", ["instructions", "longer"]),
        ("local function f() return 1 + f() end f()", ["instructions", "longer", "memory", "overflow"]),
        ("while true do pcall(function() while true do end end) end", ["instructions", "longer"]),
        ("repeat local ok = pcall(error) until false", ["instructions", "longer"]),
        ("xpcall(function() while true do end end, function() while true do end end)", ["instructions", "longer"]),
        (
            "local t <close> = setmetatable({}, { __close = function() while true do end end }) while true do end",
            ["instructions", "longer"]
        ),
        ("local f f = function() pcall(f) return f() end f()", ["instructions", "longer", "overflow"]),
        (
            "setmetatable({}, { __index = function() while true do end end }).x = nil; local x = setmetatable({}, { __index = function() while true do end end }).x",
            ["instructions", "longer"]
        ),
        ("tostring(setmetatable({}, { __tostring = function() while true do end end }))", ["instructions", "longer"]),
        ("(('a'):rep(5000)):find(('.-'):rep(20) .. 'b')", ["instructions", "longer"]),
        ("for _ in (('a'):rep(5000)):gmatch(('.-'):rep(20) .. 'b') do end", ["instructions", "longer"]),
        ("(('a'):rep(5000)):gsub(('a-'):rep(20) .. 'b', '')", ["instructions", "longer"]),
        ("(''):rep(1 << 60) while true do end", ["instructions", "longer"]),
        ("table.sort({1,2,3}, function() while true do end end)", ["instructions", "longer"]),
        ("local t = {} for i = 1, 1e9 do t[i] = { i } end", ["memory", "instructions", "longer"]),
        ("local s = 'x' while true do s = s .. s end", ["memory", "longer"]),
        ("local s = 'x' while true do pcall(function() s = s .. s end) end", ["memory", "longer"]),
        ("while true do pcall(string.rep, 'x', 1 << 25) end", ["instructions", "longer", "memory"]),
        ("local t = {} while true do t[#t + 1] = ('x'):rep(1 << 20) .. #t end", ["memory", "longer", "instructions"]),
        (
            "local t = {} while true do t[#t + 1] = json_decode('[' .. ('1,'):rep(100000) .. '1]') end",
            ["memory", "longer", "instructions"]
        ),
        ("local s = ('x'):rep(1 << 22) while true do utf8.len(s) end", ["instructions", "longer", "memory"]),
        ("local s = ('x'):rep(1 << 22) while true do utf8.offset(s, #s) end", ["instructions", "longer", "memory"]),
        ("local s = (' '):rep(1 << 22) .. 'x' while true do tonumber(s) end", ["instructions", "longer", "memory"]),
        ("local s = ('x'):rep(1 << 22) local t = (s .. 'y'):sub(1, -2) while s == t do end", ["instructions", "longer", "memory"]),
        ("local b = {} for i = 1, 60 do b = { b, b } end json_encode(b)", ["instructions", "longer", "bytes of JSON"]),
    ]

    @Test(arguments: endless)
    func P10_limitEndsTheCallWithItsLine(code: String, expected: [String]) async throws {
        let lua = try keysConnector("if request.body == 'fine' then return {'fine'} end\n\(code)\nreturn {}")
        let message = await message { _ = try lua.webhookKeys(webhook()) }
        #expect(message?.hasPrefix("connector.lua:2: ") == true, "\(message ?? "no error")")
        #expect(expected.contains { message?.contains($0) == true }, "\(message ?? "no error")")
        #expect(try lua.webhookKeys(webhook("fine")) == ["fine"])
    }

    @Test(arguments: [
        ("error({})", "given a table"), ("error()", "given a nil"),
        ("error(setmetatable({}, { __tostring = function() error('again') end }))", "given a table"),
        ("local x = setmetatable({}, { __index = function() error('inside') end }).x", "inside"),
        ("tostring(setmetatable({}, { __tostring = function() error('shown') end }))", "shown"),
        ("error('plain', 0)", "plain"), ("local x = nil; x = x.y", "index a nil"),
        ("local x <close> = setmetatable({}, { __close = function() error('closing') end })", "closing"),
        ("json_encode({ 1, 2, x = 3 })", "neither a sequence"), ("local t = {} t[1] = t json_encode(t)", "contains itself"),
        ("json_encode(print or function() end)", "function"), ("json_encode(0/0)", "not finite"),
        ("json_encode('\\xff')", "UTF-8"), ("json_decode('{')", "ends too early"),
    ])
    func errorsNameFileAndLine(code: String, expected: String) async throws {
        var limits = LuaLimits()
        (limits.callInstructionsMax, limits.callMillisecondsMax) = (limits.pollInstructionsMax, 60_000)
        let lua = try keysConnector("if request.body == 'fine' then return {'fine'} end\n\(code)\nreturn {}", limits: limits)
        let message = await message { _ = try lua.webhookKeys(webhook()) }
        #expect(message?.hasPrefix("connector.lua:2: ") == true, "\(message ?? "no error")")
        #expect(message?.contains(expected) == true, "\(message ?? "no error")")
        #expect(try lua.webhookKeys(webhook("fine")) == ["fine"])
    }

    @Test func P10_timeLimitEndsWhatTheCountDoesNot() async throws {
        var limits = LuaLimits()
        limits.callInstructionsMax = .max / 2
        limits.callMillisecondsMax = 30
        let lua = try keysConnector("\nwhile true do end", limits: limits)
        let message = await message { _ = try lua.webhookKeys(webhook()) }
        #expect(message?.hasPrefix("connector.lua:2: stopped: it ran longer") == true, "\(message ?? "no error")")
    }

    @Test func P10_instructionLimitEndsBeforeTheTime() async throws {
        var limits = LuaLimits()
        limits.callMillisecondsMax = 600_000
        let lua = try keysConnector("\nwhile true do end", limits: limits)
        let message = await message { _ = try lua.webhookKeys(webhook()) }
        #expect(message?.hasPrefix("connector.lua:2: stopped after 1000000 instructions") == true, "\(message ?? "no error")")
    }

    @Test func P10_loadingIsLimitedToo() async throws {
        let message = await message {
            _ = try LuaConnector.load(source: Array("local x = 1\nwhile true do x = x + 1 end".utf8), name: "x", path: "x/connector.lua")
        }
        #expect(message?.hasPrefix("connector.lua:2: stopped") == true, "\(message ?? "no error")")
    }

    @Test func P10_pollLimitsHoldInCoroutines() async throws {
        for code in [
            "while true do end", "while true do pcall(function() while true do end end) end", "local s = 'x' while true do s = s .. s end",
        ] {
            let lua = try connector(poll: code)
            let message = await message { _ = try await lua.poll(pollRequest(), http: noHTTP) }
            #expect(message?.hasPrefix("connector.lua:9: stopped") == true, "\(message ?? "no error")")
            #expect(lua.slots.freeCount == LuaLimits().concurrentPollsMax)
        }
    }

    @Test func P10_requestsOfAPollAreBounded() async throws {
        let lua = try connector(poll: "while true do get('https://example.com') end")
        let message = await message { _ = try await lua.poll(pollRequest(), http: FakeHTTP(json: "{}")) }
        #expect(message?.contains("more than 200 requests") == true, "\(message ?? "no error")")
    }

    @Test func P10_statesAreBoundedAndReused() async throws {
        let lua = try keysConnector("return { request.body }")
        for number in 0..<200 { #expect(try lua.webhookKeys(webhook("k\(number)")) == ["k\(number)"]) }
        #expect(lua.pool.idleCount == 1)
        try await withThrowingTaskGroup(of: Void.self) { group in
            for number in 0..<50 {
                group.addTask {
                    for _ in 0..<50 {
                        let keys = try lua.webhookKeys(webhook("k\(number)"))
                        #expect(keys == ["k\(number)"])
                    }
                }
            }
            try await group.waitForAll()
        }
        #expect(lua.pool.idleCount <= 8)
    }

    @Test func aValueOfAnEarlierCallIsRefused() async throws {
        let lua = try connector(
            top: "local kept\nlocal function keys(request)\nif kept then return { kept.body } end\nkept = request\nreturn {}\nend")
        #expect(try lua.webhookKeys(webhook("1")) == [])
        let message = await message { _ = try lua.webhookKeys(webhook("2")) }
        #expect(message?.hasPrefix("connector.lua:3: this value belongs to an earlier call") == true, "\(message ?? "no error")")
    }
}
