import SluiceCore
import Testing

/// Failures, fences and changes of a trigger while its cycle runs. The seeds are those of the simulations that found the fault.
@Suite struct RetryTests {
    typealias Stored = TriggerSchedule.Stored

    private func openCycle(_ number: Int64, at time: Timestamp) -> OpenCycle {
        OpenCycle(number: number, cause: .webhook, startedAt: time, readBound: time, notedSequence: .zero, nextPage: 3)
    }

    @Test func aFailureIsTriedAgainAfterItsDelay() {
        var fixture = ScheduleFixture.idle()
        fixture.signal()
        fixture.finish(.failed(openCycle: nil, delay: .seconds(30)))
        fixture.signal()
        fixture.run(for: .seconds(29))
        #expect(fixture.starts.count == 1)
        fixture.run(for: .seconds(1))
        #expect(fixture.starts.map(\.start.cause) == [.webhook, .retry])
        #expect(fixture.starts[1].start.cycle.number > fixture.starts[0].start.cycle.number)
    }

    @Test func backoffDoublesUpToFifteenMinutes() {
        #expect(Backoff.delay(failures: 1, random: 0) == .seconds(2))
        #expect(Backoff.delay(failures: 4, random: 0) == .seconds(16))
        #expect(Backoff.delay(failures: 1000, random: 0) == .minutes(15))
        #expect(Backoff.delay(failures: 1000, random: 0.999) > .minutes(11))
    }

    /// Seed 34: a resume with an open cycle kept overriding the delay, and the provider was asked without a pause.
    @Test(arguments: [TriggerSchedule.Mode.polls, .probes]) func P5_anAskedPollOverridesOneDelayOnly(mode: TriggerSchedule.Mode) {
        var fixture = ScheduleFixture()
        let cycle = openCycle(4, at: fixture.now)
        fixture.put(stored: Stored(safetyDueAt: fixture.now + .hours(1), openCycle: cycle, lastCycle: 4), mode: mode)
        fixture.schedule.pollNow(ScheduleFixture.trigger, cause: .resume, at: fixture.now)
        fixture.take()
        #expect(fixture.starts.count == 1)
        fixture.finish(.failed(openCycle: cycle, delay: .seconds(60)))
        fixture.run(for: .seconds(59))
        #expect(fixture.starts.count == 1)
    }

    /// What was asked for is a poll of its own, after the open cycle.
    @Test func P6_anAskedPollFollowsTheOpenCycle() {
        var fixture = ScheduleFixture()
        let cycle = openCycle(4, at: fixture.now - .seconds(5))
        fixture.put(stored: Stored(lastStartAt: cycle.startedAt, safetyDueAt: fixture.now + .hours(1), openCycle: cycle, lastCycle: 4))
        fixture.schedule.pollNow(ScheduleFixture.trigger, cause: .resume, at: fixture.now)
        fixture.take()
        fixture.finish(.succeeded)
        #expect(fixture.starts.map(\.start.isContinuation) == [true, false])
        #expect(fixture.starts[1].start.cause == .resume)
        #expect(fixture.starts[1].start.cycle.number == 5)
    }

    /// Seed 13: subscribing succeeded while the first poll ran and fenced it; the start's poll must not be forgotten.
    @Test func P6_aFencedStartPollsAgainAtOnce() {
        var fixture = ScheduleFixture.idle()
        fixture.schedule.pollNow(ScheduleFixture.trigger, cause: .start, at: fixture.now)
        fixture.take()
        fixture.put(stored: Stored(safetyDueAt: fixture.now + .hours(12), lastCycle: 1))
        fixture.finish(.fenced)
        #expect(fixture.starts.map(\.start.cause) == [.start, .start])
    }

    /// A lost lease fences every cycle: the answer to that must not go round without a pause.
    @Test func P5_aLostLeaseDoesNotSpin() {
        var fixture = ScheduleFixture.idle()
        fixture.schedule.pollNow(ScheduleFixture.trigger, cause: .start, at: fixture.now)
        fixture.take()
        for _ in 0..<100 {
            fixture.finish(.fenced)
            fixture.put(stored: Stored(safetyDueAt: fixture.now + .hours(12), lastCycle: 1))
            fixture.take()
        }
        #expect(fixture.starts.count <= 5)
    }

    /// Seeds 14 and 32: a number that was given out twice made the store take the second cycle's pages for repetitions.
    @Test func P3_aReloadNeverGivesOutANumberTwice() {
        var fixture = ScheduleFixture.idle()
        fixture.signal()
        let first = fixture.starts[0].start.cycle.number
        // The store knows nothing of the running cycle yet.
        fixture.put(stored: Stored(safetyDueAt: fixture.now + .hours(12), lastCycle: 1))
        fixture.signal()
        fixture.finish(.succeeded)
        fixture.run(for: .minutes(1))
        #expect(fixture.starts.count == 2)
        #expect(fixture.starts[1].start.cycle.number == first + 1)
    }

    /// The start of a cycle that committed nothing yet counts for the throttle.
    @Test func P5_aChangeDoesNotLoosenTheThrottle() {
        var fixture = ScheduleFixture.idle()
        for _ in 0..<60 {
            fixture.signal()
            fixture.put(stored: Stored(safetyDueAt: fixture.now + .hours(12), lastCycle: 1))
            fixture.run(for: .seconds(1))
        }
        #expect((3...4).contains(fixture.starts.count))
    }

    /// Seed 3272: a delay from before came back from the store while the next cycle ran, and outlived its success.
    @Test func P2_aSuccessEndsEveryDelay() {
        var fixture = ScheduleFixture.idle()
        fixture.schedule.pollNow(ScheduleFixture.trigger, cause: .start, at: fixture.now)
        fixture.take()
        fixture.put(stored: Stored(safetyDueAt: fixture.now + .hours(12), failures: 8, retryAt: fixture.now + .minutes(4), lastCycle: 1))
        fixture.finish(.succeeded)
        fixture.run(for: .seconds(30))
        fixture.signal()
        #expect(fixture.starts.count == 2)
    }

    /// Seed 313: the store could not take the failure; a reload must not forget that the start is unanswered, nor its delay.
    @Test func P6_anUnrecordedFailureIsTriedAgain() {
        var fixture = ScheduleFixture.idle()
        fixture.schedule.pollNow(ScheduleFixture.trigger, cause: .start, at: fixture.now)
        fixture.take()
        fixture.finish(.failed(openCycle: nil, delay: .seconds(30)))
        fixture.put(stored: Stored(safetyDueAt: fixture.now + .hours(12), lastCycle: 1))
        fixture.run(for: .seconds(29))
        #expect(fixture.starts.count == 1)
        fixture.run(for: .seconds(2))
        #expect(fixture.starts.count == 2)
    }

    /// Seed 6124: pages of an older cycle would count as repeated once a later one has committed.
    @Test func P3_anOpenCycleThatWasOvertakenDoesNotGoOn() {
        var fixture = ScheduleFixture()
        fixture.put(stored: Stored(safetyDueAt: fixture.now, openCycle: openCycle(2, at: fixture.now), lastCycle: 3))
        fixture.take()
        #expect(fixture.starts.map(\.start.isContinuation) == [false])
        #expect(fixture.starts[0].start.cycle.number == 4)
        fixture.finish(.failed(openCycle: openCycle(2, at: fixture.now), delay: .seconds(1)))
        fixture.run(for: .seconds(2))
        #expect(fixture.starts[1].start.cycle.number > 4)
    }

    /// Seeds 33115 and 126801: a page was begun, the disk was full, and a reload brought the dropped cycle back. Read again,
    /// the page held other records, and the store took its first chunks for repetitions.
    @Test(arguments: [false, true]) func P3_aDroppedCycleDoesNotComeBackFromTheStore(nextHasBegun: Bool) {
        var fixture = ScheduleFixture()
        let stored = Stored(safetyDueAt: fixture.now, openCycle: openCycle(5, at: fixture.now), lastCycle: 5)
        fixture.put(stored: stored)
        fixture.take()
        #expect(fixture.starts.map(\.start.isContinuation) == [true])
        fixture.finish(.failed(openCycle: nil, delay: .seconds(1)))
        if nextHasBegun {
            fixture.run(for: .seconds(1))
            fixture.finish(.failed(openCycle: nil, delay: .seconds(1)))
        }
        fixture.put(stored: stored)
        fixture.run(for: .seconds(2))
        #expect(fixture.starts.last?.start.isContinuation == false)
        #expect(fixture.starts.last?.start.cycle.number ?? 0 > 5)
    }
}
