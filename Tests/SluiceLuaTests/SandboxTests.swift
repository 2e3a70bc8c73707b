import SluiceConnectors
import SluiceCore
import Testing

@testable import SluiceLua

@Suite struct SandboxTests {
    /// Each expression must be nil, or fail, in a connector.
    @Test(arguments: [
        "os", "io", "debug", "package", "coroutine", "require", "load", "loadfile", "loadstring", "dofile", "collectgarbage", "print",
        "warn", "_G", "string.dump", "math.random", "math.randomseed", "now", "getmetatable('') or nil",
    ])
    func nothingReachesOutside(expression: String) async throws {
        let lua = try keysConnector("local x = \(expression); if x == nil or x == false then return {'closed'} end return {type(x)}")
        #expect(try lua.webhookKeys(webhook()) == ["closed"])
    }

    @Test(arguments: [
        ("x = 1", "'x' is not a local variable"), ("string.rep = nil", "not a local variable"),
        ("getmetatable('').__index = {}", "index a boolean"), ("setmetatable({}, { __gc = function() end })", "__gc is not available"),
        ("setmetatable(string, {})", "protected metatable"), ("request.body = 'x'", "cannot be changed"),
        ("get('https://example.com')", "requests work in poll"), ("poll_failure('transient', 'x')", "in poll only"),
        ("table.concat(setmetatable({}, { __len = function() return 1 << 60 end }))", "without __len only"),
        ("table.move({}, 1, 1 << 60, 1, {})", "more than 1000000"), ("local n = request.nothing", "no field 'nothing'"),
    ])
    func misuseIsRefusedWithItsLine(code: String, expected: String) async throws {
        let lua = try keysConnector("local y = 1\n\(code)\nreturn {}")
        let message = await message { _ = try lua.webhookKeys(webhook()) }
        #expect(message?.hasPrefix("connector.lua:2: ") == true, "\(message ?? "no error")")
        #expect(message?.contains(expected) == true, "\(message ?? "no error")")
    }

    @Test func bytecodeIsRefused() {
        let bytes: [UInt8] = [0x1B, 0x4C, 0x75, 0x61, 0x54, 0, 0x19, 0x93]
        #expect(throws: SluiceError.self) { try LuaConnector.load(source: bytes, name: "x", path: "x") }
    }

    @Test func stringMethodsWork() throws {
        let lua = try keysConnector(
            """
            local found, last, capture = ("key=value"):find("(%w+)=")
            local words = {}
            for word in ("a b  c"):gmatch("%S+") do words[#words + 1] = word end
            return { capture .. found .. last, table.concat(words, "-"), (("x.y"):gsub("%.", "/")), ("abc"):gsub("%w", "%0%0"),
              ("%d"):rep(2, ","), (("hello world"):gsub("o", { o = "0" })), ("THE (quick) fox"):match("%((%a+)%)"),
              tostring(("a.b"):find(".", 1, true)), (("abc"):gsub("", "-")), ("f(a(b)c)d"):match("%b()"),
              (("THE quick"):gsub("%f[%a]%a+", string.lower)), table.unpack({ "u" }) }
            """)
        #expect(
            try lua.webhookKeys(webhook()) == [
                "key14", "a-b-c", "x/y", "aabbcc", "%d,%d", "hell0 w0rld", "quick", "2", "-a-b-c-", "(a(b)c)", "the quick", "u",
            ])
    }

    @Test func pcallAndXpcallCatchOrdinaryErrors() throws {
        let lua = try keysConnector(
            """
            local ok, message = pcall(error, "plain")
            local ok2, message2 = xpcall(function(a, b) error(a .. b, 0) end, function(e) return "handled " .. e end, "x", "y")
            local ok3, a, b = pcall(function() return "1", "2" end)
            local ok4, c = xpcall(function() return "3" end, error)
            return { tostring(ok) .. message, tostring(ok2) .. message2, a .. b .. c, tostring(ok3 and ok4) }
            """)
        #expect(try lua.webhookKeys(webhook()) == ["falseplain", "falsehandled xy", "123", "true"])
    }
}
