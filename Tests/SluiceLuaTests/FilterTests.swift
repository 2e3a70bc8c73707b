import SluiceConnectors
import SluiceCore
import Testing

@testable import SluiceLua

@Suite struct FilterTests {
    static let job = FilteredJob(
        id: { "job_u_x" }, trigger: "orders", position: 7, cause: "webhook", createdAt: Timestamp(milliseconds: 1_767_225_600_000),
        isDerived: false, isDeletion: true)

    static let record =
        #"{"id":9007199254740993,"amount":100.5,"total":18446744073709551616,"status":"paid","vip":true,"gone":null,"customer":{"email":"a@b.c"},"lines":[{"n":1},{"n":2}]}"#

    private func passes(_ source: String, _ record: String = FilterTests.record) throws -> Bool {
        try LuaFilter(source).passes(Array(record.utf8), FilterTests.job)
    }

    @Test(arguments: [
        ("record.amount > 100", true), ("record.amount > 100.5", false), ("record.status == 'paid' and record.vip", true),
        // Integers are whole, and numbers beyond them keep their digits.
        ("record.id == 9007199254740993", true), ("record.id == 9007199254740992", false),
        ("tostring(record.total) == '18446744073709551616'", true), ("math.type(record.id) == 'integer'", true),
        // nil is no.
        ("record.nothing", false), ("record.gone", false), ("record.customer and record.customer.phone", false), ("nil", false),
        ("not record.nothing", true), ("#record.lines == 2", true), ("record.lines[2].n == 2", true),
        ("record.customer.email:match('@b%.c$') ~= nil", true),
        ("job.trigger == 'orders' and job.position == 7 and job.cause == 'webhook' and job.id == 'job_u_x'", true),
        ("job.deleted and not job.derived and job.created_at >= '2026-01-01'", true),
        // Bodies.
        ("return record.vip", true), ("local n = 0\nfor _, line in ipairs(record.lines) do n = n + line.n end\nreturn n > 3", false),
        ("if record.vip then return true end\nreturn false", true), ("-- only the paid ones\nrecord.status == 'paid' -- yes", true),
        ("(function() return true end)()", true), ("({ ok = true, 1 }).ok", true),
        ("local function f(a, b) return a end local t <const> = f(true) return t", true),
        ("pcall(error, 'x') == false", true),
    ])
    func itSaysWhatPasses(_ source: String, _ wanted: Bool) throws {
        #expect(try passes(source) == wanted)
    }

    @Test func recordsMayBeAnyJSON() throws {
        #expect(try passes("#record == 2", "[1,2]") && passes("record == 'x'", "\"x\"") && passes("record == 5", " 5\n"))
        #expect(try passes("record == nil", "null"))
    }

    /// Each is refused when it is compiled, with its line and what is wrong.
    @Test(arguments: [
        ("record.amount >", "filter:1:"), ("record.amount > 100)", "filter:1:"), ("return record.a\nx", "filter:2:"),
        ("\n\nrecord.a ==== 1", "filter:3:"), ("", "empty"), ("  -- nothing\n", "empty"), ("recrod.amount > 100", "`recrod`"),
        ("os.exit()", "`os`"), ("io.open('/etc/passwd')", "`io`"), ("require('x')", "`require`"), ("load('return 1')()", "`load`"),
        ("\nget('http://127.0.0.1')", "filter:2: `get`"), ("setmetatable({}, {})", "`setmetatable`"), ("_G.x", "`_G`"),
        ("_ENV.x", "`_ENV`"), ("true, true end, function() return", "filter:1:"), ("\u{1B}Lua", "filter:1:"),
        ("collectgarbage('count') > 1", "`collectgarbage`"),
    ])
    func itIsRefusedWithItsLine(_ source: String, _ part: String) throws {
        let error = try #require(throws: SluiceError.self) { try LuaFilter(source) }
        #expect(error.code == .filter && error.message.contains(part), "\(error.message)")
    }

    @Test func P10_aLongFilterIsRefused() throws {
        let error = try #require(throws: SluiceError.self) { try LuaFilter("true or '" + String(repeating: "x", count: 1 << 20) + "'") }
        #expect(error.message.contains("8192"))
        // Nested beyond what Lua's compiler takes.
        #expect(throws: SluiceError.self) {
            try LuaFilter(String(repeating: "(", count: 4000) + "true" + String(repeating: ")", count: 4000))
        }
    }

    /// Each fails on the job, and says where.
    @Test(arguments: [
        ("record.customer.address.zip == '1'", "filter:1:"), ("record.missing > 100", "filter:1:"),
        ("\nreturn record.status > 5", "filter:2:"), ("{}", "returned a table"), ("1", "returned a number"),
        ("'true'", "returned a string"), ("record", "returned a"), ("json_null", "returned a userdata"),
        ("return", "ended without a result"), ("local x = 1", "ended without a result"), ("return true, false", "2 values"),
        ("error('no such thing')", "no such thing"), ("error({})", "filter:1:"), ("job.color == 'red'", "it has id, trigger"),
        ("record.x = 1\nreturn true", "cannot be changed"), ("string.rep = nil return true", "filter:1:"),
        ("x = 1 return true", "`x`"),
    ])
    func itFailsWithItsLine(_ source: String, _ part: String) throws {
        let error = try #require(throws: SluiceError.self) { try passes(source) }
        #expect(error.code == .filter && error.message.contains(part) && error.message.contains("filter:"), "\(error.message)")
    }

    /// P10: each would run for ever or take all memory, and the next job is asked all the same.
    @Test(arguments: [
        "while true do end", "local t = {} while true do t[#t + 1] = ('x'):rep(1 << 20) .. #t end",
        "local s = 'x' while true do s = s .. s end",
        "repeat local ok = pcall(error) until false", "local function f() return 1 + f() end f()",
        "(('a'):rep(5000)):find(('.-'):rep(20) .. 'b')", "table.sort({1,2,3}, function() while true do end end)",
        "while true do pcall(string.rep, 'x', 1 << 24) end",
    ])
    func P10_limitsEndAFilter(_ code: String) throws {
        let statement = code.hasPrefix("(") ? "local _ = \(code)" : code
        let filter = try LuaFilter("if record.id == 1 then \(statement) end\nreturn true")
        for _ in 0..<3 {
            let error = try #require(throws: SluiceError.self) { try filter.passes(Array(#"{"id":1}"#.utf8), FilterTests.job) }
            #expect(error.message.hasPrefix("filter:1:"), "\(error.message)")
            #expect(try filter.passes(Array(#"{"id":2}"#.utf8), FilterTests.job))
        }
    }

    /// Nothing is kept between jobs, whatever a filter tries.
    @Test func aJobKnowsNothingOfTheOneBefore() throws {
        let filter = try LuaFilter("local t = string\nlocal ok = pcall(function() t.seen = true end)\nreturn not ok and string.seen == nil")
        for _ in 0..<3 { #expect(try filter.passes(Array("{}".utf8), FilterTests.job)) }
    }

    /// Many at a time: each has a state of its own.
    @Test func filtersAreAskedAtTheSameTime() async throws {
        let filter = try LuaFilter("record.n % 2 == 0")
        try await withThrowingTaskGroup(of: Void.self) { group in
            for start in 0..<16 {
                group.addTask {
                    for number in start..<start + 200 {
                        let passes = try filter.passes(Array("{\"n\":\(number)}".utf8), FilterTests.job)
                        #expect(passes == (number % 2 == 0))
                    }
                }
            }
            try await group.waitForAll()
        }
    }
}
