import SluiceConnectors
import SluiceCore
import Testing

@testable import SluiceLua

/// `cursor_at` and `record_time`: what a poll in Lua says of times, for backfills.
@Suite struct WindowTests {
    private static let poll = KindTests.poll

    @Test(
        arguments: [
            ("return { mark = time }", "{}", #"{"mark":1700000000}"#), ("return time - 10", "{}", "1699999990"),
            ("return input.resource .. time", #"{"resource":"order"}"#, #""order1700000000""#), ("return {}", "{}", nil),
        ] as [(String, String, String?)])
    func aCursorIsMadeOfATime(_ body: String, _ input: String, _ cursor: String?) throws {
        let lua = try KindTests.load("\(Self.poll), cursor_at = function(time, input) \(body) end")
        #expect(lua.definition.triggers[0].hasCursorAt && !lua.definition.triggers[0].hasRecordTime)
        // Rounded down: nothing of that second is passed over.
        let made = try #require(try lua.cursorAt(Timestamp(milliseconds: 1_700_000_000_999), triggerType: "t", input: json(input)))
        if let cursor { #expect(text(made) == cursor) }
        #expect(try lua.recordTimes(triggerType: "t", records: []) == nil)
    }

    @Test(arguments: [
        ("return nil", "returned nothing"), ("return get('https://a.example/x')", "cannot send requests"),
        ("return time.seconds.x", "attempt to index"), ("while true do end", "does a loop end?"),
        ("return string.rep('x', 100000)", "65536 bytes"),
    ])
    func aCursorThatCannotBeMadeSaysWhy(_ body: String, _ problem: String) throws {
        let lua = try KindTests.load("\(Self.poll), cursor_at = function(time, input) \(body) end")
        let error = #expect(throws: SluiceError.self) { try lua.cursorAt(Timestamp(seconds: 1), triggerType: "t", input: json("{}")) }
        #expect(error?.message.contains(problem) == true, "\(error?.message ?? "")")
        #expect(error?.message.hasPrefix("connector.lua:") == true)
    }

    @Test func timesOfRecordsAreReadOneByOne() throws {
        let lua = try KindTests.load(
            """
            \(Self.poll), cursor_at = function(time) return time end,
            record_time = function(record) if record.bad then error("no") end return record.at end
            """)
        let records = [
            #"{"at":1700000000}"#, #"{"at":"2023-11-14T22:13:20.500Z"}"#, #"{"at":"2023-11-15T00:13:20+02:00"}"#, #"{"at":null}"#, "{}",
            #"{"at":"yesterday"}"#, #"{"at":"2023-11-14T22:13:20"}"#, #"{"bad":true}"#, #"{"at":-5}"#, "7",
        ].map { Record(bytes: Array($0.utf8)[...], isDerived: false) }
        let times = try #require(try lua.recordTimes(triggerType: "t", records: records))
        #expect(
            times.map { $0?.milliseconds } == [
                1_700_000_000_000, 1_700_000_000_500, 1_700_000_000_000, nil, nil, nil, nil, nil, -5000, nil,
            ])
    }

    @Test(
        arguments: [
            (#""1700000000.123456""#, 1_700_000_000_123), (#""1700000000.5""#, 1_700_000_000_500), (#""1700000000.05""#, 1_700_000_000_050),
            (#""-1.25""#, -1250), (#""-0.5""#, -500), (#""1.""#, nil), (#""1.2.3""#, nil), (#""1.x""#, nil), (#"".5""#, nil),
            (#""9223372036854775807""#, nil), (#""9223372036854775.999""#, nil),
        ] as [(String, Int64?)]) func secondsMayHaveAFraction(_ at: String, _ milliseconds: Int64?) throws
    {
        let lua = try KindTests.load(
            "\(Self.poll), cursor_at = function(time) return time end, record_time = function(record) return record.at end")
        let records = [Record(bytes: Array("{\"at\":\(at)}".utf8)[...], isDerived: false)]
        #expect(try lua.recordTimes(triggerType: "t", records: records)?.map { $0?.milliseconds } == [milliseconds])
    }

    /// One that loops on each record is ended, not borne for a whole page.
    @Test func timesThatTakeForEverAreEnded() throws {
        var limits = LuaLimits()
        limits.dedupPageMillisecondsMax = 200
        let source = """
            return { name = "a", triggers = { t = { \(Self.poll), cursor_at = function(time) return time end,
            record_time = function(record) while true do end end } } }
            """
        let lua = try LuaConnector.load(source: Array(source.utf8), name: "a", path: "a/connector.lua", limits: limits)
        let records = [Record](repeating: Record(bytes: Array("{}".utf8)[...], isDerived: false), count: 10_000)
        let error = #expect(throws: SluiceError.self) { try lua.recordTimes(triggerType: "t", records: records) }
        #expect(error?.message.contains("used up the time of a whole page") == true)
    }

    @Test(arguments: [
        ("\(KindTests.data), cursor_at = function(time) return time end", "incremental says by itself"),
        ("webhook_key = function() return 'k' end, cursor_at = function(time) return time end", "needs a poll"),
        ("\(KindTests.poll), record_time = function(record) return 1 end", "needs cursor_at"),
        ("\(KindTests.poll), cursor_at = { mark = 1 }", "must be a function"),
        ("\(KindTests.poll), version_seconds = 1", "needs record_time"),
        ("\(KindTests.data), version_seconds = 1", "incremental sees by itself"),
        ("\(KindTests.poll), cursor_at = function(t) end, record_time = function(r) end, version_seconds = 0", "from 1 to 86400"),
        ("\(KindTests.poll), cursor_at = function(t) end, record_time = function(r) end, version_seconds = 86401", "from 1 to 86400"),
    ])
    func mistakesAreNamed(_ trigger: String, _ problem: String) {
        let error = #expect(throws: SluiceError.self) { try KindTests.load(trigger) }
        #expect(error?.message.contains(problem) == true, "\(error?.message ?? "")")
    }
}
