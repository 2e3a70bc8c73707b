import SluiceCore
import Testing

@Suite struct BackfillTests {
    private let now = Timestamp(seconds: 1_700_000_000)

    @Test func aWindowLiesInThePastAndIsNotEmpty() throws {
        let hour = try BackfillWindow(from: now - .hours(1), to: nil, now: now)
        #expect(hour == BackfillWindow(from: now - .hours(1), to: now))
        for (from, to) in [
            (now, nil), (now + .hours(1), nil), (now - .hours(1), now + .milliseconds(1)), (now - .hours(1), now - .hours(1)),
            (now - .hours(1), now - .hours(2)),
        ] as [(Timestamp, Timestamp?)] {
            #expect(throws: SluiceError.self) { try BackfillWindow(from: from, to: to, now: now) }
        }
    }

    @Test func commandsLeadOnlyWhereTheyMakeSense() throws {
        #expect(try BackfillState.running.after(.pause) == .paused)
        #expect(try BackfillState.paused.after(.resume) == .running)
        #expect(try BackfillState.paused.after(.cancel) == .cancelled)
        #expect(try BackfillState.running.after(.resume) == .running)
        #expect(try BackfillState.failed.after(.cancel) == .cancelled, "somebody has seen it")
        for state in BackfillState.allCases where state.hasEnded {
            for command in BackfillCommand.allCases where !(state != .done && command == .cancel) {
                #expect(throws: SluiceError.self) { try state.after(command) }
            }
        }
    }

    @Test func phasesFollowEachOtherToTheEnd() {
        var phases = [BackfillPhase.gathering]
        while let next = phases.last?.next { phases.append(next) }
        #expect(phases == BackfillPhase.allCases)
    }

    @Test func itRestsAsLongAsItWorks() {
        let pace = BackfillPace()
        #expect(pace.rest(after: .milliseconds(40), redelivered: 0) == .milliseconds(40))
        #expect(pace.rest(after: .zero, redelivered: 0) == .zero)
        #expect(BackfillPace(shareMax: 0.25).rest(after: .milliseconds(10), redelivered: 0) == .milliseconds(30))
        // A clock that went back, or a piece that took an hour, stops nothing.
        #expect(pace.rest(after: .milliseconds(-5), redelivered: 0) == .zero)
        #expect(pace.rest(after: .hours(1), redelivered: 0) == .seconds(60))
    }

    /// However pieces are cut and however long they take, no more than the rate is delivered again.
    @Test(arguments: 0..<50) func redeliveriesKeepTheirRate(_ seed: UInt64) {
        var random = seed &* 0x9E37_79B9_7F4A_7C15 | 1
        func draw(_ count: Int64) -> Int64 {
            random ^= random << 13
            random ^= random >> 7
            random ^= random << 17
            return Int64(random % UInt64(count))
        }
        let pace = BackfillPace(redeliveriesPerSecondMax: 100)
        var (milliseconds, delivered): (Int64, Int64) = (0, 0)
        for _ in 0..<200 {
            let (work, count) = (draw(300), draw(200))
            milliseconds += work + pace.rest(after: .milliseconds(work), redelivered: count).milliseconds
            delivered += count
            #expect(Double(delivered) <= Double(milliseconds) / 1000 * 100 + 0.001)
        }
    }

    @Test func livePollsGoFirstAndNotForEver() {
        let pace = BackfillPace()
        #expect(pace.waits(liveRunning: 1, waited: .zero))
        #expect(!pace.waits(liveRunning: 0, waited: .zero))
        #expect(!pace.waits(liveRunning: 3, waited: .seconds(5)))
        #expect(pace.requestsPerSecond(of: 4) == 2)
        #expect(pace.requestsPerSecond(of: nil) == nil)
    }

    @Test func whatNobodyEndsIsGivenUp() {
        let pace = BackfillPace()
        #expect(!pace.isGivenUp(.running, progressAt: now, now: now + .days(7)))
        #expect(pace.isGivenUp(.running, progressAt: now, now: now + .days(8)))
        #expect(!pace.isGivenUp(.paused, progressAt: now, now: now + .days(8)))
        #expect(pace.isGivenUp(.paused, progressAt: now, now: now + .days(31)))
        for state in BackfillState.allCases where state.hasEnded {
            #expect(!pace.isGivenUp(state, progressAt: now, now: now + .days(400)))
        }
    }

    @Test func aStatementSaysWhatWasThereAndWhatIsMissing() throws {
        let window = BackfillWindow(from: Timestamp(seconds: 0), to: Timestamp(seconds: 60))
        var counts = BackfillCounts()
        (counts[.provider], counts[.kept], counts[.missing], counts[.repaired]) = (1000, 1000, 10, 10)
        #expect(
            BackfillStatement.text(window, .missingOnly, counts)
                == "From 1970-01-01T00:00:00.000Z to 1970-01-01T00:01:00.000Z the provider had 1000 records, Sluice has 1000 of them, "
                + "10 repaired. Nothing is missing.")
        (counts[.kept], counts[.repaired], counts[.keyOnly], counts[.extra]) = (985, 0, 5, 3)
        let text = BackfillStatement.text(window, .dryRun, counts, notes: ["A note."])
        #expect(text.contains("Sluice has 990 of them, 0 repaired. 10 are missing"))
        #expect(text.contains("5 of them are known by their dedup key only"))
        #expect(text.contains("Sluice has 3 more jobs of this time"))
        #expect(text.hasSuffix("A note."))
        var writer = JSONWriter()
        counts.write(to: &writer)
        #expect(BackfillCounts(try JSONDocument(writer.bytes).root) == counts)
    }

    @Test func littleThatIsLeftIsNotForWhatCanWait() {
        var budget = RequestBudget(perSecond: nil)
        #expect(budget.shortage(at: now) == nil)
        budget.heed(RateReport(remaining: 5, limit: 100, resetAfter: .seconds(60)), at: now)
        #expect(budget.shortage(at: now)?.until == now + .seconds(60))
        #expect(budget.shortage(at: now + .seconds(61)) == nil)
    }
}
