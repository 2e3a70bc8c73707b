import SluiceCore
import Testing

/// P6 and P7: polls without a signal, and states that rest.
@Suite struct SafetyTests {
    typealias Stored = TriggerSchedule.Stored

    @Test func P6_pollsWheneverTheSafetyIntervalHasPassed() {
        var fixture = ScheduleFixture.idle(safetyInterval: .hours(12))
        fixture.run(for: .hours(49))
        #expect(fixture.starts.count == 4)
        #expect(fixture.starts.allSatisfy { $0.start.cause == .safety })
    }

    @Test func P6_neverPolledIsDueAtOnce() {
        var fixture = ScheduleFixture()
        fixture.put(stored: Stored())
        fixture.run(for: .seconds(1))
        #expect(fixture.starts.count == 1)
    }

    @Test(arguments: [PollCause.start, .resume, .manual]) func P6_anAskedPollStartsAtOnceInsideTheThrottle(cause: PollCause) {
        var fixture = ScheduleFixture.idle()
        fixture.signal()
        fixture.run(for: .seconds(1))
        fixture.schedule.pollNow(ScheduleFixture.trigger, cause: cause, at: fixture.now)
        fixture.take()
        #expect(fixture.starts.map(\.start.cause) == [.webhook, cause])
    }

    /// A clock that was wrong stored times far ahead: nothing is postponed beyond the interval.
    @Test func P6_storedTimesAreClamped() {
        var fixture = ScheduleFixture()
        let far = fixture.now + .days(4000)
        fixture.put(stored: Stored(lastStartAt: far, safetyDueAt: far, retryAt: far, lastCycle: 9))
        let schedule = fixture.schedule.schedule(of: ScheduleFixture.trigger)
        #expect(schedule?.lastStartAt == fixture.now)
        #expect(schedule?.safetyDueAt == fixture.now + .hours(12))
        #expect(schedule?.retryAt == fixture.now + Backoff.delayMax)
        fixture.run(for: .minutes(16))
        #expect(fixture.starts.count == 1)
    }

    /// Every trigger polls once after a time in which webhooks were missed, within the window, whatever the hash says.
    @Test(arguments: [0.251, 617.9003, -3.51]) func P6_catchUpStaysWithinTheWindow(phase: Double) {
        var fixture = ScheduleFixture()
        for id in 1...50 as ClosedRange<Int64> { fixture.put(TriggerID(id)) }
        let begin = fixture.now
        fixture.schedule.setConnection(ScheduleFixture.connection, runningMax: 100)
        fixture.schedule.missedWebhooks(connection: nil, until: begin, window: .minutes(10), at: begin) { phase * Double($0.rawValue) }
        fixture.run(for: .minutes(11))
        #expect(Set(fixture.starts.map(\.start.trigger)).count == 50)
        #expect(fixture.starts.allSatisfy { $0.at - begin <= .minutes(10) && $0.start.cause == .catchUp })
        fixture.run(for: .hours(1))
        #expect(fixture.starts.count == 50)
    }

    /// A cycle that read before the end of the gap, plus the lag, does not make up for it.
    @Test func P6_catchUpGoesOnUntilACycleCouldSeeEverything() {
        var fixture = ScheduleFixture.idle(lag: .seconds(10))
        let begin = fixture.now
        fixture.schedule.missedWebhooks(connection: nil, until: begin, window: .zero, at: begin) { _ in 0 }
        fixture.run(for: .minutes(5))
        #expect(fixture.starts.map { $0.at - begin } == [.zero, .seconds(20)])
    }

    @Test func P7_aPausedTriggerRestsAndIsPolledOnResume() {
        var fixture = ScheduleFixture.idle()
        let stored = Stored(safetyDueAt: fixture.now + .hours(1), lastCycle: 1)
        fixture.put(stored: stored, mode: .rests)
        for _ in 0..<10 {
            fixture.signal()
            fixture.run(for: .hours(1))
        }
        #expect(fixture.starts.isEmpty)
        #expect(fixture.schedule.waiting(ScheduleFixture.trigger, at: fixture.now) == .resting)
        fixture.put(stored: stored)
        fixture.schedule.pollNow(ScheduleFixture.trigger, cause: .resume, at: fixture.now)
        fixture.take()
        #expect(fixture.starts.map(\.start.cause) == [.resume])
        #expect(fixture.starts[0].start.cycle.notedSequence == InboxSequence(10))
    }

    /// A probe whose pages brought nothing for long rests as any cycle does.
    @Test func P5_aProbeThatRestsGoesOnWhenItsRestIsOver() {
        var fixture = ScheduleFixture()
        fixture.put(safetyInterval: .hours(1), stored: Stored(safetyDueAt: fixture.now, lastCycle: 1), mode: .probes)
        fixture.take()
        var cycle = fixture.starts[0].start.cycle
        cycle.nextPage = 600
        fixture.finish(.yielded(cycle, notBefore: fixture.now + .minutes(5)))
        fixture.run(for: .minutes(4))
        #expect(fixture.starts.count == 1, "it rests")
        fixture.run(for: .minutes(2))
        #expect(fixture.starts.count == 2 && fixture.starts[1].start.cycle.nextPage == 600)
    }

    @Test func aFailedTriggerProbesOnceASafetyInterval() {
        var fixture = ScheduleFixture()
        fixture.put(safetyInterval: .hours(1), stored: Stored(safetyDueAt: fixture.now, lastCycle: 1), mode: .probes)
        for _ in 0..<3 {
            fixture.take()
            fixture.finish(.failed(openCycle: nil, delay: .seconds(2)))
            fixture.signal()
            fixture.run(for: .minutes(59))
            fixture.now = fixture.now + .minutes(1)
        }
        #expect(fixture.starts.map(\.start.cause) == [.probe, .probe, .probe])
    }

    /// After a restart one try comes at once, and the next after the interval; whoever has not failed keeps its time.
    @Test(arguments: [TriggerSchedule.Mode.probes, .polls, .rests]) func aProbeThatIsAskedForComesOnce(mode: TriggerSchedule.Mode) {
        var fixture = ScheduleFixture()
        let due = fixture.now + .minutes(50)
        fixture.put(safetyInterval: .hours(1), stored: Stored(safetyDueAt: due, lastCycle: 1), mode: mode)
        fixture.schedule.probe(ScheduleFixture.trigger, at: fixture.now + .minutes(10))
        fixture.schedule.probe(ScheduleFixture.trigger, at: fixture.now + .minutes(20))
        fixture.run(for: .minutes(11))
        #expect(fixture.starts.map(\.start.cause) == (mode == .probes ? [.probe] : []))
        guard mode == .probes else { return }
        fixture.finish(.failed(openCycle: nil, delay: .seconds(2)))
        fixture.run(for: .minutes(58))
        #expect(fixture.starts.count == 1)
    }
}
