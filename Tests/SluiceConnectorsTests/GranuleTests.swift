import SluiceCore
import Testing

@testable import SluiceConnectors

/// Versions that are times too coarse to tell two changes apart.
@Suite struct GranuleTests {
    /// 2027-01-15T08:00:07Z.
    private static let second: Int64 = 1_800_000_007

    private func rules(_ cursor: String, version: String = "\"updated\"", more: String = "") throws -> Incremental {
        let start = cursor.isEmpty ? "" : cursor + "\"default_since_seconds_ago\":3600,"
        return try Incremental(
            json: JSONDocument(
                Array(
                    """
                    {"base_url":"https://api.example.com","path":"/items",\(start)
                     \(more)"dedup":{"id":"id","version":\(version)}}
                    """.utf8)))
    }

    private func seconds(_ more: String = "") -> String {
        "\"cursor\":{\"field\":\"updated\",\"parameter\":\"since\",\"type\":\"unix_seconds\",\"order\":\"asc\"\(more)},"
    }
    private let texts = "\"cursor\":{\"field\":\"updated\",\"parameter\":\"since\",\"type\":\"rfc3339\",\"order\":\"asc\"},"

    private func isOpen(_ rules: Incremental, _ record: String, after milliseconds: Int64) -> Bool? {
        rules.isOpen(
            Record(bytes: Array(record.utf8)[...]), readAt: Timestamp(milliseconds: GranuleTests.second * 1000 + milliseconds))
    }

    /// Ten seconds at least behind its own one, up to a minute of the lookback, all of a declared lag.
    @Test(
        arguments: [
            ("", 11_000), (",\"lookback_seconds\":30", 31_000), (",\"lookback_seconds\":86400", 61_000),
            (",\"visibility_lag_seconds\":120", 121_000),
        ] as [(String, Int64)]) func aSecondIsOpenUntilItIsOver(_ more: String, _ end: Int64) throws
    {
        let rules = try rules(seconds(more))
        let record = "{\"id\":1,\"updated\":\(GranuleTests.second)}"
        #expect(isOpen(rules, record, after: -5000) == true && isOpen(rules, record, after: 0) == true)
        #expect(isOpen(rules, record, after: end - 1) == true && isOpen(rules, record, after: end) == false)
    }

    @Test func howFinelyATimeIsShownTellsItself() throws {
        let rules = try rules(texts)
        for (time, end) in [
            ("2027-01-15T08:00:07Z", 11_000), ("2027-01-15T09:00:07+01:00", 11_000), ("2027-01-15T08:00:07.000Z", 11_000),
            ("2027-01-15T08:00:07.500Z", 10_600), ("2027-01-15T08:00:07.510Z", 10_520),
        ] as [(String, Int64)] {
            let record = "{\"id\":1,\"updated\":\"\(time)\"}"
            #expect(isOpen(rules, record, after: end - 1) == true && isOpen(rules, record, after: end) == false, "\(time)")
        }
        for value in ["\"2027-01-15T08:00:07.123Z\"", "\"2027-01-15T08:00:07\"", "\"soon\"", "null", "7"] {
            #expect(isOpen(rules, "{\"id\":1,\"updated\":\(value)}", after: 0) == nil, "\(value)")
        }
        #expect(isOpen(rules, "{\"id\":1}", after: 0) == nil, "it counts by its content")
    }

    /// What is shown in whole minutes or days is told apart for as long: Notion's `last_edited_time` ends with `:00.000Z`.
    @Test(
        arguments: [
            ("2027-01-15T08:00:00.000Z", 53_000 + 10_000), ("2027-01-15T09:00:00+01:00", 53_000 + 10_000), ("2027-01-15T08:00:01Z", 5_000),
            ("2027-01-15T00:00:00Z", 16 * 3_600_000 - 7_000 + 10_000), ("2027-01-15T00:00:01Z", -8 * 3_600_000 + 5_000),
        ] as [(String, Int64)])
    func minutesAndDaysAreOpenUntilTheyAreOver(_ time: String, _ end: Int64) throws {
        for rules in [try rules(texts), try rules("")] {
            let record = "{\"id\":1,\"updated\":\"\(time)\"}"
            #expect(isOpen(rules, record, after: end - 1) == true && isOpen(rules, record, after: end) == false, "\(time)")
        }
    }

    /// What the API compares by says it, too, for times that lie on it.
    @Test func aDeclaredGranularityIsWhatATimeShows() throws {
        let tens = "\"cursor\":{\"field\":\"updated\",\"parameter\":\"since\",\"type\":\"rfc3339\",\"granularity\":600000},"
        let rules = try rules(tens)
        let onIt = "{\"id\":1,\"updated\":\"2027-01-15T08:00:00Z\"}"
        #expect(isOpen(rules, onIt, after: 602_000) == true && isOpen(rules, onIt, after: 603_000) == false)
        #expect(isOpen(rules, "{\"id\":1,\"updated\":\"2027-01-15T08:00:07Z\"}", after: 11_000) == false)
        #expect(isOpen(rules, "{\"id\":1,\"updated\":\"2027-01-15T08:00:07.123Z\"}", after: 0) == nil)
    }

    @Test func dateVersionsAreOpenAllDay() throws {
        let day = "\"cursor\":{\"field\":\"updated\",\"parameter\":\"since\",\"type\":\"date\",\"order\":\"asc\",\"zone\":\"utc\"},"
        let record = "{\"id\":1,\"updated\":\"2027-01-15\"}"
        let end: Int64 = 16 * 3_600_000 - 7_000 + 10_000
        let rules = try rules(day)
        #expect(isOpen(rules, record, after: end - 1) == true && isOpen(rules, record, after: end) == false)
    }

    /// One version that is no time, or a finer one, tells the states apart. Without a cursor the value itself tells what it is.
    @Test func aVersionOfItsOwnTellsStatesApart() throws {
        let both = try rules(texts, version: "[\"updated\",\"revision\"]")
        #expect(isOpen(both, "{\"id\":1,\"updated\":\"2027-01-15T08:00:00Z\",\"revision\":7}", after: 0) == nil)
        #expect(isOpen(both, "{\"id\":1,\"updated\":\"2027-01-15T08:00:00Z\",\"revision\":\"2027-01-15T07:59:00Z\"}", after: 0) == true)
        let plain = try rules("")
        for (value, isTime) in [
            ("1800000000", true), ("1800000000000", true), ("1800000000123", false), ("\"2027-01-15T08:00:00Z\"", true), ("42", false),
            ("1800000000.5", false), ("\"1800000000\"", true), ("\"1800000000123\"", false), ("\"2027-01-15\"", true),
            ("\"2027-13-45\"", false),
        ] {
            #expect((isOpen(plain, "{\"id\":1,\"updated\":\(value)}", after: 0) != nil) == isTime, "\(value)")
        }
    }

    /// A date alone lasts until it is over everywhere.
    @Test func aDateThatIsAVersionIsOpenUntilItIsOverEverywhere() throws {
        let rules = try rules("")
        let record = "{\"id\":1,\"updated\":\"2027-01-15\"}"
        let end: Int64 = 28 * 3_600_000 - 7_000 + 10_000
        #expect(isOpen(rules, record, after: end - 1) == true && isOpen(rules, record, after: end) == false)
    }

    /// What was read on an earlier page may change again within the second that it shows, and keeps its place there.
    @Test func P3_theMarkDoesNotPassASecondThatMayShowAnotherState() throws {
        let rules = try rules(
            seconds(), more: "\"records\":\"items\",\"pagination\":{\"token\":{\"from\":\"next\",\"parameter\":\"after\"}},")
        let document = try JSONDocument(Array("{}".utf8))
        var request = PollRequest(
            triggerType: "updated", connection: document, input: document,
            cursor: Array("{\"mark\":\(GranuleTests.second - 9),\"value\":\"\(GranuleTests.second - 9)\"}".utf8), pageState: nil,
            readBound: Timestamp(seconds: GranuleTests.second + 86_400))
        func page(_ body: String, date: String) throws -> PollPage {
            try IncrementalPoll(rules).page(
                from: HTTPReply(status: 200, headers: [HTTPField("Date", date)], body: Array(body.utf8)), for: request)
        }
        let first = try page(
            "{\"items\":[{\"id\":1,\"updated\":\(GranuleTests.second)}],\"next\":\"2\"}", date: "Fri, 15 Jan 2027 08:00:07 GMT")
        request.pageState = first.pageState
        let second = try page("{\"items\":[{\"id\":2,\"updated\":\(GranuleTests.second + 1)}]}", date: "Fri, 15 Jan 2027 08:00:08 GMT")
        #expect(!second.more && second.cursorMark == GranuleTests.second)
    }

    /// A bound between two minutes would leave out what changes again in the first of them.
    @Test func P3_theMarkDoesNotPassAMinuteThatMayShowAnotherState() throws {
        let rules = try rules(texts, more: "\"records\":\"items\",\"pagination\":{\"token\":{\"from\":\"next\",\"parameter\":\"p\"}},")
        let document = try JSONDocument(Array("{}".utf8))
        var request = PollRequest(
            triggerType: "updated", connection: document, input: document,
            cursor: Array("{\"mark\":1799999999000,\"value\":\"2027-01-15T07:59:59Z\"}".utf8), pageState: nil,
            readBound: Timestamp(seconds: GranuleTests.second + 86_400))
        func page(_ body: String, date: String) throws -> PollPage {
            try IncrementalPoll(rules).page(
                from: HTTPReply(status: 200, headers: [HTTPField("Date", date)], body: Array(body.utf8)), for: request)
        }
        let first = try page(
            "{\"items\":[{\"id\":1,\"updated\":\"2027-01-15T08:00:00.000Z\"}],\"next\":\"2\"}", date: "Fri, 15 Jan 2027 08:00:30 GMT")
        request.pageState = first.pageState
        let second = try page(
            "{\"items\":[{\"id\":2,\"updated\":\"2027-01-15T08:01:00.000Z\"}]}", date: "Fri, 15 Jan 2027 08:01:05 GMT")
        #expect(second.cursorMark == 1_800_000_000_000, "not 08:00:30, which 08:00:00 lies before")
    }

    /// What a page says of its records, by the Date of its answer; records are compared as they were sent.
    @Test func P4_aSecondChangeWithinASecondIsAJob() async throws {
        func page(_ rules: Incremental, _ body: String, date: String) throws -> PollPage {
            let document = try JSONDocument(Array("{}".utf8))
            let request = PollRequest(
                triggerType: "updated", connection: document, input: document,
                cursor: Array("{\"mark\":1799999999000,\"value\":\"2027-01-15T07:59:59Z\"}".utf8), pageState: nil,
                readBound: Timestamp(seconds: GranuleTests.second + 86_400))
            let reply = HTTPReply(status: 200, headers: [HTTPField("Date", date)], body: Array(body.utf8))
            return try IncrementalPoll(rules).page(from: reply, for: request)
        }
        let rules = try rules(texts)
        let (old, new) = ("2027-01-15T07:59:03Z", "2027-01-15T08:00:07Z")
        func body(_ label: String) -> String {
            "[{\"id\":1,\"updated\":\"\(old)\"},{\"id\":2,\"updated\":\"\(new)\",\"label\":\"\(label)\"}]"
        }
        let first = try page(rules, body("a"), date: "Fri, 15 Jan 2027 08:00:07 GMT")
        let second = try page(rules, body("b"), date: "Fri, 15 Jan 2027 08:00:08 GMT")
        let again = try page(rules, body("b"), date: "Fri, 15 Jan 2027 08:00:18 GMT")
        #expect(first.states.map { $0?.isOpen } == [false, true] && second.states.map { $0?.isOpen } == [false, true])
        #expect(again.states.map { $0?.isOpen } == [false, false])
        #expect(first.states[0] == second.states[0] && first.states[1] != second.states[1], "another label is another state")
        #expect(second.states[1]?.digest == again.states[1]?.digest && second.states[1]?.digest.count == 32)
        let fine = try page(rules, "[{\"id\":1,\"updated\":\"2027-01-15T08:00:07.123Z\"}]", date: "Fri, 15 Jan 2027 08:00:07 GMT")
        #expect(fine.states.isEmpty)
    }
}
