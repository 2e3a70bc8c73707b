import SluiceCore
import Testing

/// P2 and P5 on made times: throttle with a trailing edge, never debounce.
@Suite struct ThrottleTests {
    @Test(arguments: [600, 100, 37, 60] as [Int64]) func P5_manualClock(gapMilliseconds: Int64) {
        var fixture = ScheduleFixture.idle()
        let begin = fixture.now
        var last = begin
        for _ in 0..<(60_000 / gapMilliseconds) {
            fixture.signal()
            last = fixture.now
            fixture.run(for: .milliseconds(gapMilliseconds))
        }
        fixture.run(for: .minutes(5))
        #expect((4...5).contains(fixture.starts.count), "\(fixture.starts.map { $0.at - begin })")
        #expect(fixture.starts[0].at == begin)
        #expect(fixture.starts[fixture.starts.count - 1].at >= last)
        #expect(fixture.starts.allSatisfy { $0.start.cause == .webhook && !$0.start.isContinuation })
        for (before, after) in zip(fixture.starts, fixture.starts.dropFirst()) {
            #expect(after.at - before.at >= .seconds(20))
            #expect(after.at - before.at <= .seconds(25))
        }
        #expect(fixture.schedule.schedule(of: ScheduleFixture.trigger)?.covered == fixture.schedule.lastSignal(ScheduleFixture.trigger))
    }

    /// A signal every second for ten minutes must not push the next poll further and further away.
    @Test func P5_aStreamOfSignalsNeverPostpones() {
        var fixture = ScheduleFixture.idle()
        for _ in 0..<600 {
            fixture.signal()
            fixture.run(for: .seconds(1))
        }
        #expect((29...32).contains(fixture.starts.count))
    }

    @Test func P5_idleStartsAtOnce() {
        var fixture = ScheduleFixture.idle()
        fixture.run(for: .minutes(10))
        #expect(fixture.starts.isEmpty)
        fixture.signal()
        #expect(fixture.starts.count == 1)
        #expect(fixture.starts[0].at == fixture.now)
    }

    /// The trigger is idle as soon as the throttle has passed, whatever its visibility lag.
    @Test func P5_idleStartsAtOnceRightAfterTheThrottle() {
        var fixture = ScheduleFixture.idle(lag: .seconds(2))
        fixture.signal()
        // The poll at 20 s covers it.
        fixture.run(for: .milliseconds(41_500))
        #expect(fixture.starts.count == 2)
        fixture.signal()
        #expect(fixture.starts.count == 3)
    }

    @Test(arguments: [0, 3, 12, 24, 60] as [Int64]) func P2_aPollCoversOnlyWhatItCouldSee(lagSeconds: Int64) throws {
        let lag = Span.seconds(lagSeconds)
        var fixture = ScheduleFixture.idle(lag: lag)
        let arrival = fixture.now
        fixture.signal()
        fixture.run(for: .minutes(5))
        // Starts go on until one lies at arrival + lag or later, and that one covers.
        let covering = try #require(fixture.starts.first { $0.at >= arrival + lag })
        #expect(fixture.starts.last?.at == covering.at)
        let before = fixture.starts.last { $0.at < covering.at }?.at
        let due = max(arrival + lag, before.map { $0 + .seconds(20) } ?? arrival)
        #expect(covering.at <= due)
        for early in fixture.starts where early.at < arrival + lag { #expect(early.start.cycle.notedSequence == .zero) }
        #expect(covering.start.cycle.notedSequence == InboxSequence(1))
    }

    /// What arrives while a cycle runs is not covered by it.
    @Test func P2_signalDuringACycleIsPolledForAgain() {
        var fixture = ScheduleFixture.idle()
        fixture.pollSpan = .seconds(5)
        fixture.signal()
        fixture.run(for: .seconds(2))
        fixture.signal()
        fixture.run(for: .minutes(1))
        #expect(fixture.starts.count == 2)
        #expect(fixture.starts[1].at - fixture.starts[0].at == .seconds(20))
    }

    /// A resumed cycle covers no more than its first page could see.
    @Test func P2_aResumedCycleKeepsItsNotedSequence() throws {
        var fixture = ScheduleFixture.idle()
        fixture.signal()
        let first = fixture.starts[0].start.cycle
        fixture.signal()
        fixture.finish(.yielded(first, notBefore: fixture.now))
        let second = try #require(fixture.starts.last).start
        #expect(second.isContinuation)
        #expect(second.cycle == first)
        fixture.finish(.succeeded)
        #expect(fixture.schedule.schedule(of: ScheduleFixture.trigger)?.covered == InboxSequence(1))
        fixture.run(for: .minutes(1))
        #expect(fixture.starts.count == 3)
    }

    /// A trigger may listen to several topics; the sequence runs over all of them.
    @Test func P2_coversOverSeveralTopicsOnlyWhatAllHadReceived() {
        var fixture = ScheduleFixture()
        let lag = Span.seconds(5)
        fixture.put(topics: [TopicID(1), TopicID(2)], lag: lag)
        fixture.signal(TopicID(1))
        fixture.run(for: .seconds(3))
        fixture.signal(TopicID(2))
        // At 20 s both are older than the lag.
        fixture.run(for: .minutes(2))
        #expect(fixture.starts.count == 2)
        #expect(fixture.starts[0].start.cycle.notedSequence == .zero)
        #expect(fixture.starts[1].start.cycle.notedSequence == InboxSequence(2))
    }

    /// After a restart the first arrival is not known; nobody waits for its lag (simulated seed 1081).
    @Test func P2_afterARestartAnOldSignalDoesNotWaitForTheLag() {
        var fixture = ScheduleFixture()
        let started = fixture.now - .seconds(19)
        fixture.schedule.restoreTopic(ScheduleFixture.topic, sequence: InboxSequence(7), at: fixture.now)
        fixture.put(
            lag: .seconds(5), stored: TriggerSchedule.Stored(lastStartAt: started, safetyDueAt: fixture.now + .hours(12), lastCycle: 1))
        fixture.run(for: .seconds(10))
        #expect(fixture.starts.first?.at == started + .seconds(20))
    }
}
