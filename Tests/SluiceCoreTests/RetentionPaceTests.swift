import SluiceCore
import Testing

@Suite struct RetentionPaceTests {
    private let pace = RetentionPace()

    @Test func P10_aSmallShareIsTakenAndMoreOnceItIsBehind() {
        for behind in [Span.zero, .minutes(5), .minutes(10), .seconds(-9)] { #expect(pace.share(behind: behind) == 0.1) }
        #expect(pace.share(behind: .minutes(65)) > 0.29 && pace.share(behind: .minutes(65)) < 0.31)
        for behind in [Span.hours(2), .days(400)] { #expect(pace.share(behind: behind) == 0.5) }
        #expect(pace.rest(afterMicroseconds: 10_000, behind: .zero) == .milliseconds(90))
        #expect(pace.rest(afterMicroseconds: 10_000, behind: .days(1)) == .milliseconds(10))
        #expect(pace.rest(afterMicroseconds: 0, behind: .zero) == .milliseconds(1), "others come in between in any case")
        #expect(pace.rest(afterMicroseconds: .max, behind: .zero) == RetentionPace.restMax)
    }

    @Test func batchesAreAsLargeAsTheirTimeAllows() {
        #expect(pace.rows(after: 2000, microseconds: 25_000, max: 2000) == 1000)
        #expect(pace.rows(after: 1000, microseconds: 10_000, max: 2000) == 1000)
        #expect(pace.rows(after: 1000, microseconds: 1000, max: 2000) == 2000)
        #expect(pace.rows(after: 2000, microseconds: 1000, max: 2000) == 2000)
        #expect(pace.rows(after: 60, microseconds: 90_000, max: 2000) == RetentionPace.rowsPerBatchMin)
        #expect(pace.rows(after: 20, microseconds: 90_000, max: 20) == 20)
    }

    /// Events come at a steady rate, and each is a few rows some of which are only looked at. A store of this speed keeps up, with little
    /// of its time; one that was not swept for hours catches up.
    @Test(arguments: [(2000.0, 0.0), (2000.0, 10_800.0), (4000.0, 600.0), (50.0, 86_400.0)])
    func P10_retentionKeepsUp(_ eventsPerSecond: Double, _ behindAtFirst: Double) {
        // An event costs 60 µs to remove, as measured on a slow machine.
        let microsecondsPerEvent = 60.0
        var (now, removedTo, rows) = (0.0, -behindAtFirst, 2000)
        var (worked, settled) = (0.0, 0)
        for _ in 0..<2_000_000 where now < 12 * 3600 {
            let events = min(Double(rows), (now - removedTo) * eventsPerSecond)
            if events < Double(rows) {
                (settled, now) = (settled + 1, now + 60)
                removedTo += events / eventsPerSecond
                continue
            }
            let work = events * microsecondsPerEvent
            removedTo += events / eventsPerSecond
            let behind = Span(milliseconds: Int64((now - removedTo) * 1000))
            rows = pace.rows(after: rows, microseconds: Int64(work), max: 2000)
            let rest = pace.rest(afterMicroseconds: Int64(work), behind: behind)
            worked += work / 1e6
            now += work / 1e6 + Double(rest.milliseconds) / 1000
        }
        #expect(now - removedTo < 3600, "\(now - removedTo) s behind after \(now) s")
        #expect(worked / now < 0.5)
        if eventsPerSecond * microsecondsPerEvent < 90_000 { #expect(settled > 0) }
    }
}
