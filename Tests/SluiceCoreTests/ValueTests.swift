import SluiceCore
import Testing

@Suite struct ValueTests {
    @Test(
        arguments: [
            (0, "1970-01-01T00:00:00.000Z"), (1, "1970-01-01T00:00:00.001Z"), (-1, "1969-12-31T23:59:59.999Z"),
            (951_782_400_000, "2000-02-29T00:00:00.000Z"), (1_709_164_799_999, "2024-02-28T23:59:59.999Z"),
            (1_709_164_800_000, "2024-02-29T00:00:00.000Z"), (4_107_542_399_000, "2100-02-28T23:59:59.000Z"),
            (4_107_542_400_000, "2100-03-01T00:00:00.000Z"), (253_402_300_799_999, "9999-12-31T23:59:59.999Z"),
            (-62_135_596_800_000, "0001-01-01T00:00:00.000Z"),
        ] as [(Int64, String)]) func timestampsAreWrittenInUTC(_ milliseconds: Int64, _ expected: String)
    {
        #expect(Timestamp(milliseconds: milliseconds).description == expected)
    }

    @Test func civilDatesGoThereAndBack() {
        for days in stride(from: Int64(-800_000), through: 3_000_000, by: 97) {
            let date = Timestamp.civil(days: days)
            #expect(Timestamp.days(year: date.year, month: date.month, day: date.day) == days)
        }
    }

    @Test func secondsAreRoundedDown() {
        #expect(Timestamp(milliseconds: 1999).seconds == 1)
        #expect(Timestamp(milliseconds: -1).seconds == -1)
        #expect(Timestamp(milliseconds: -1000).seconds == -1)
    }

    @Test(
        arguments: [
            ("Sun, 06 Nov 1994 08:49:37 GMT", 784_111_777), ("Thu, 01 Jan 1970 00:00:00 GMT", 0),
            ("Tue, 29 Feb 2000 23:59:60 GMT", 951_868_800),
            ("Sunday, 06-Nov-94 08:49:37 GMT", nil), ("Sun Nov  6 08:49:37 1994", nil), ("Sun, 06 Nov 1994 08:49:37 CET", nil),
            ("Sun, 06 Nov 1994 24:49:37 GMT", nil), ("Sun, 32 Nov 1994 08:49:37 GMT", nil), ("Sun, 06 nov 1994 08:49:37 GMT", nil),
            ("Sun, 06 Nov 1994 08:49 GMT", nil), ("Sun, 06 Nov 1 08:49:37 GMT", nil), ("", nil), ("1700000000", nil),
        ] as [(String, Int64?)]) func httpDates(_ text: String, _ seconds: Int64?)
    {
        #expect(HTTPDate.parse(text) == seconds.map { Timestamp(seconds: $0) })
    }

    @Test func onlyASCIILettersHaveACase() {
        #expect(ASCII.equalIgnoringCase("Retry-After", "retry-AFTER"))
        #expect(!ASCII.equalIgnoringCase("é", "É"))
        #expect(!ASCII.equalIgnoringCase("[", "{"))
        #expect(!ASCII.equalIgnoringCase("a", "ab"))
    }

    @Test func errorsNameTheirContextInOrder() {
        let error = SluiceError(.badCursor, "wrong").with("page", "3").with("a", "b")
        #expect(error.description == "bad_cursor: wrong (a=b page=3)")
    }
}
