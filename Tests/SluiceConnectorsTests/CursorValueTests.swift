import SluiceCore
import Testing

@testable import SluiceConnectors

/// Times and numbers keep what they say.
@Suite struct CursorValueTests {
    private func rule(_ kind: CursorRule.Kind, _ change: (inout CursorRule) -> Void = { _ in }) -> CursorRule {
        var rule = CursorRule(field: JSONPath(["at"]), parameter: "since", kind: kind)
        change(&rule)
        return rule
    }

    private func read(_ json: String, _ rule: CursorRule) -> CursorRule.Reading {
        Array(json.utf8).withUnsafeBufferPointer { rule.read($0) }
    }

    @Test func numbersAreRoundedDownAndNeverThroughADouble() {
        let integer = rule(.integer)
        for (text, value) in [
            ("0", 0), ("9007199254740993", 9_007_199_254_740_993), ("\"17\"", 17), ("1.7e9", 1_700_000_000), ("1.9999", 1), ("-1.5", -2),
            ("-7", -7), ("9223372036854775807", Int64.max), ("1e2", 100), ("12345e-2", 123), ("1700000000.000100", 1_700_000_000),
        ] as [(String, Int64)] { #expect(read(text, integer) == .mark(value), "\(text)") }
        for text in [
            "9223372036854775808", "1e99", "\"\"", "\"x\"", "null", "{}", "\"1e\"", "\"-\"", "\"1.2.3\"", "1e-999999999999999999999",
            "1e-9223372036854775808", "\"1e-9223372036854775808\"", "1e9223372036854775807", "-1e-9223372036854775808",
        ] {
            #expect(read(text, integer) == .unreadable, "\(text)")
        }
    }

    @Test func timesAreReadWithTheirZone() {
        let time = rule(.rfc3339)
        for (text, milliseconds) in [
            ("2023-11-14T22:13:20Z", 1_700_000_000_000), ("2023-11-14T23:13:20.5+01:00", 1_700_000_000_500),
            ("2023-11-14 17:13:20.123999-0500", 1_700_000_000_123), ("1970-01-01t00:00:00z", 0),
            ("2024-02-29T00:00:00Z", 1_709_164_800_000),
        ] as [(String, Int64)] { #expect(read("\"\(text)\"", time) == .mark(milliseconds), "\(text)") }
        for text in [
            "2023-02-29T00:00:00Z", "2023-13-01T00:00:00Z", "2023-11-14T24:00:00Z", "2023-11-14", "2023-11-14T22:13:20.Z",
            "2023-11-14T22:13:20ZZ", "x", "",
        ] {
            #expect(read("\"\(text)\"", time) == .unreadable, "\(text)")
        }
        #expect(read("\"2023-11-14T22:13:20\"", time) == .zoneless)
        #expect(read("\"2023-11-14T22:13:20\"", rule(.rfc3339) { $0.assumesUTC = true }) == .mark(1_700_000_000_000))
        #expect(HTTPDate.parse("Sun, 06 Nov 1994 08:49:37 GMT") == Timestamp(seconds: 784_111_777))
        for text in ["", "Sun, 06 Nov 1994 08:49:37 CET", "Sun, 31 Feb 1994 08:49:37 GMT", "Sun, 06 Nov 1994 08:49 GMT"] {
            #expect(HTTPDate.parse(text) == nil)
        }
    }

    @Test func theBoundIsTheSourcesOwnTextOrRoundedDown() {
        let literal = CursorValue(mark: 1_700_000_000_123, text: "2023-11-14T22:13:20.123456Z")
        #expect(rule(.rfc3339).lowerBound(from: literal) == literal)
        #expect(rule(.rfc3339) { $0.isExclusive = true }.lowerBound(from: literal).text == "2023-11-14T22:13:19Z")
        #expect(rule(.rfc3339) { $0.lookback = 1123 }.lowerBound(from: literal).text == "2023-11-14T22:13:19Z")
        #expect(rule(.rfc3339) { $0.granularity = 1000 }.lowerBound(from: literal).text == "2023-11-14T22:13:20Z")
        #expect(rule(.rfc3339) { ($0.assumesUTC, $0.lookback) = (true, 1) }.lowerBound(from: literal).text == "2023-11-14T22:13:20.122")
        #expect(rule(.unixSeconds) { $0.isExclusive = true }.lowerBound(from: CursorValue(mark: 10, text: "10.5")).text == "9")
        #expect(rule(.unixSeconds).lowerBound(from: CursorValue(mark: 10, text: "10.5")).text == "10.5")
        #expect(rule(.unixSeconds) { $0.lookback = 60 }.lowerBound(from: CursorValue(mark: 5, text: "5")).text == "0")
        #expect(rule(.integer) { $0.isExclusive = true }.lowerBound(from: CursorValue(mark: 0, text: "0")).text == "-1")
    }

    /// P4: the keys that are kept must cover all that a poll can return again.
    @Test func P4_rereadCoversTheBound() {
        for granularity in [nil, 1, 7, 1000] as [Int64?] {
            for isExclusive in [false, true] {
                let rule = rule(.unixMilliseconds) { ($0.granularity, $0.isExclusive, $0.lookback) = (granularity, isExclusive, 42) }
                for mark in 1_700_000_000_000...1_700_000_000_020 as ClosedRange<Int64> {
                    let bound = rule.lowerBound(from: CursorValue(mark: mark, text: String(mark))).mark
                    #expect(mark - bound <= rule.rereadUnits)
                    #expect(bound <= mark - 42 - (isExclusive ? 1 : 0))
                }
            }
        }
    }

    @Test func storedCursorsAndPageStatesSurviveTheirJSON() throws {
        let value = CursorValue(mark: -5, text: "a \"quoted\" é")
        var state = PageState()
        state.position = .token("24e0\n")
        (state.pages, state.lower, state.seen, state.firstID) = (3, value, value, "x")
        (state.firstNow, state.isUnordered, state.remembered, state.steps, state.stepsMax) = (Timestamp(seconds: 9), true, "k", 4, 8)
        #expect(try PageState(json: state.json) == state)
        let stored = CursorValue(mark: 5, text: "5")
        for json in [#"{"mark":5,"value":"5"}"#, "5", "\"5\""] {
            #expect(try CursorValue(json: Array(json.utf8), rule: rule(.unixSeconds)) == stored)
        }
        for json in ["", "{}", "[]", "null", "\"x\"", "{"] {
            #expect(throws: PollFailure.self, "\(json)") { try CursorValue(json: Array(json.utf8), rule: rule(.unixSeconds)) }
        }
    }

    @Test(arguments: [
        (#""type":"unix_seconds""#, #""type":"unix""#, "incremental.cursor.type"),
        (#""records""#, #""record""#, "incremental.record means nothing"),
        (#""exclusive":true"#, #""exclusive":"yes""#, "incremental.cursor.exclusive must be true or false"),
        (#""base_url":"{connection.site_url}","#, "", "incremental.base_url is missing"),
        (#""{input.resource}""#, #""{input.resource""#, "incremental.unwrap is malformed"),
        (#""{input.since}""#, #""{env.HOME}""#, "{env.HOME}"),
        (#""value":100"#, #""value":0"#, "incremental.page_size.value must be a whole number"),
        (#""order":"asc","#, "", "restart_from_mark"),
        (#""lookback_seconds":60"#, #""lookback_seconds":60,"lookback":1"#, "exclude each other"),
        (#""field":"updated_at""#, #""field":"a..b""#, "incremental.cursor.field"), (#""bearer"#, #""bearer"#, ""),
        (#"{"id":"id""#, #"{"identity":"id""#, "incremental.dedup.id is missing"),
        (#""token":{"#, #""link":true,"token":{"#, "exactly one of"),
    ]) func rulesNameWhatIsWrong(_ old: String, _ new: String, _ words: String) throws {
        let range = Rules.chargebee.firstRange(of: old)
        guard let range else { return #expect(words.isEmpty) }
        let json = Rules.chargebee.replacingCharacters(in: range, with: new)
        let error = #expect(throws: SluiceError.self) { try Rules.incremental(json) }
        #expect(error?.message.contains(words) == true, "\(error?.message ?? "")")
    }
}

extension String {
    fileprivate func replacingCharacters(in range: Range<Index>, with text: String) -> String {
        String(self[..<range.lowerBound]) + text + self[range.upperBound...]
    }
}
