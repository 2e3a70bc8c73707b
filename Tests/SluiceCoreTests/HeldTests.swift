import SluiceCore
import Testing

/// What long polling and webhook-only triggers need of the schedule.
@Suite struct HeldTests {
    static let start = Timestamp(seconds: 1_800_000_000)
    static let held = TriggerSchedule.Timing(upstream: .held)

    /// A schedule with triggers that poll, and when each was last started.
    static func schedule(_ count: Int = 1, heldMax: Int = 10_000, upstream: TriggerSchedule.Upstream = .held) -> Schedule {
        var schedule = Schedule()
        schedule.setConnection(ConnectionID(1), runningMax: 4, heldMax: heldMax)
        for number in 1...count {
            schedule.put(
                TriggerID(Int64(number)), connection: ConnectionID(1), topics: upstream == .inbox ? [TopicID(1)] : [],
                stored: TriggerSchedule.Stored(safetyDueAt: start + .hours(12), lastCycle: 1), mode: .polls,
                timing: TriggerSchedule.Timing(upstream: upstream), at: start)
        }
        return schedule
    }

    @Test func aPollConnectsAndFromThenOnRequestsAreHeldOneAfterTheOther() throws {
        var schedule = HeldTests.schedule()
        var now = HeldTests.start
        let first = try #require(schedule.takeReady(limit: 10, at: now).first)
        #expect(first.cause == .catchUp && first.lane == .polls, "whoever is not connected polls")
        schedule.finish(first.trigger, .succeeded, at: now)
        for _ in 0..<3 {
            let hold = try #require(schedule.takeReady(limit: 10, at: now).first)
            #expect(hold.cause == .hold && hold.lane == .held && hold.cycle.cause == .hold)
            #expect(schedule.waiting(hold.trigger, at: now) == .holding)
            #expect(schedule.takeReady(limit: 10, at: now).isEmpty, "one at a time")
            now = now + .seconds(60)
            schedule.finish(hold.trigger, .quiet, at: now)
        }
        let news = try #require(schedule.takeReady(limit: 10, at: now).first)
        schedule.finish(news.trigger, .succeeded, at: now + .milliseconds(1))
        let next = schedule.takeReady(limit: 10, at: now + .milliseconds(1))
        #expect(next.map(\.cause) == [.hold], "after news at once")
        #expect(next.first?.cycle.number ?? 0 > news.cycle.number, "with a number of its own")
    }

    @Test func P6_afterAFailureAPollConnectsAgainAndBacksOff() throws {
        var schedule = HeldTests.schedule()
        let now = HeldTests.start
        let first = try #require(schedule.takeReady(limit: 10, at: now).first)
        schedule.finish(first.trigger, .succeeded, at: now)
        let hold = try #require(schedule.takeReady(limit: 10, at: now).first)
        schedule.finish(hold.trigger, .failed(openCycle: nil, delay: .seconds(2)), at: now + .seconds(5))
        #expect(schedule.takeReady(limit: 10, at: now + .seconds(6)).isEmpty, "it waits")
        let retry = try #require(schedule.takeReady(limit: 10, at: now + .seconds(7)).first)
        #expect(retry.cause == .retry && retry.lane == .polls, "what came while nobody listened is for a poll to find")
        schedule.finish(retry.trigger, .succeeded, at: now + .seconds(8))
        #expect(schedule.takeReady(limit: 10, at: now + .seconds(8)).map(\.cause) == [.hold])
    }

    @Test func P6_aPollComesAtTheSafetyIntervalHoweverMuchNewsThereIs() throws {
        var schedule = TriggerSchedule(
            stored: .init(safetyDueAt: HeldTests.start + .hours(12), lastCycle: 1), mode: .polls, timing: HeldTests.held,
            at: HeldTests.start)
        let signals = SignalLog()
        var now = HeldTests.start
        _ = schedule.begin(cause: .catchUp, signals: signals, at: now)
        schedule.finish(.succeeded, at: now)
        var polls = 0
        while now < HeldTests.start + .hours(25) {
            let due = try #require(schedule.nextDue(signals: signals, at: now))
            if due.cause == .safety { polls += 1 }
            _ = schedule.begin(cause: due.cause, signals: signals, at: now)
            now = now + .minutes(10)
            schedule.finish(.succeeded, at: now)
        }
        #expect(polls == 2)
    }

    @Test func answersThatWereNotHeldAreSpacedOut() throws {
        var schedule = TriggerSchedule(
            stored: .init(safetyDueAt: HeldTests.start + .hours(12), lastCycle: 1), mode: .polls, timing: HeldTests.held,
            at: HeldTests.start)
        let signals = SignalLog()
        var now = HeldTests.start
        _ = schedule.begin(cause: .catchUp, signals: signals, at: now)
        schedule.finish(.succeeded, at: now)
        var gaps: [Int64] = []
        for _ in 0..<8 {
            let due = try #require(schedule.nextDue(signals: signals, at: now))
            gaps.append((due.at - now).milliseconds / 1000)
            now = due.at
            _ = schedule.begin(cause: due.cause, signals: signals, at: now)
            schedule.finish(.quiet, at: now + .milliseconds(5))
            now = now + .milliseconds(5)
        }
        #expect(gaps == [0, 1, 2, 4, 8, 16, 30, 30])
        let due = try #require(schedule.nextDue(signals: signals, at: now))
        _ = schedule.begin(cause: due.cause, signals: signals, at: due.at)
        schedule.finish(.quiet, at: due.at + .seconds(60))
        #expect(schedule.nextDue(signals: signals, at: due.at + .seconds(60))?.at == due.at + .seconds(60), "one that was held ends it")
    }

    @Test func P12_heldRequestsTakeNoPollsPlaceAndTakeTurnsAmongThemselves() throws {
        var schedule = HeldTests.schedule(20, heldMax: 5)
        var now = HeldTests.start
        while true {
            let polls = schedule.takeReady(limit: 64, held: 0, at: now)
            if polls.isEmpty { break }
            #expect(polls.count == 4, "the polls that connect keep to the connection's bound")
            for poll in polls { schedule.finish(poll.trigger, .succeeded, at: now) }
        }
        var held: [TriggerID: Int] = [:]
        for _ in 0..<8 {
            let starts = schedule.takeReady(limit: 0, at: now)
            #expect(starts.count == 5 && starts.allSatisfy { $0.lane == .held })
            now = now + .seconds(60)
            for start in starts {
                held[start.trigger, default: 0] += 1
                schedule.finish(start.trigger, .quiet, at: now)
            }
        }
        #expect(held.count == 20 && held.values.allSatisfy { $0 == 2 }, "in turn")
    }

    @Test func aBlockedProviderHoldsNothingAndARefusingOneIsProbed() throws {
        var schedule = HeldTests.schedule()
        let now = HeldTests.start
        let first = try #require(schedule.takeReady(limit: 10, at: now).first)
        schedule.finish(first.trigger, .succeeded, at: now)
        schedule.block(ConnectionID(1), until: now + .seconds(30))
        #expect(schedule.takeReady(limit: 10, at: now + .seconds(29)).isEmpty)
        #expect(schedule.nextWake(at: now + .seconds(29)) == now + .seconds(30))
        schedule.setRefused(ConnectionID(1), probeAt: now + .hours(1))
        #expect(schedule.takeReady(limit: 10, at: now + .minutes(59)).isEmpty)
        #expect(schedule.takeReady(limit: 10, at: now + .hours(1)).map(\.cause) == [.probe])
    }

    @Test func P7_aHeldRequestThatIsLetGoForAPauseStartsNothingAndOneForAPollMakesWay() throws {
        var schedule = TriggerSchedule(
            stored: .init(safetyDueAt: HeldTests.start + .hours(12), lastCycle: 1), mode: .polls, timing: HeldTests.held,
            at: HeldTests.start)
        let signals = SignalLog()
        let now = HeldTests.start
        _ = schedule.begin(cause: .catchUp, signals: signals, at: now)
        schedule.finish(.succeeded, at: now)
        _ = schedule.begin(cause: .hold, signals: signals, at: now)
        schedule.pollNow(.manual)
        schedule.finish(.quiet, at: now + .seconds(3))
        let due = schedule.nextDue(signals: signals, at: now + .seconds(3))
        #expect(due?.at == now + .seconds(3) && due?.cause == .manual)
        schedule.change(mode: .rests, timing: HeldTests.held, stored: .init(lastCycle: 2), at: now)
        #expect(schedule.nextDue(signals: signals, at: now + .seconds(3)) == nil)
    }

    // MARK: Webhook-only triggers

    @Test func eachSignalOfAWebhookOnlyTriggerStartsACycleAtOnce() throws {
        var schedule = HeldTests.schedule(upstream: .inbox)
        var now = HeldTests.start + .seconds(1)
        for number in 1...10 {
            schedule.signal(TopicID(1), sequence: InboxSequence(Int64(number)), receivedAt: now, at: now)
            let start = try #require(schedule.takeReady(limit: 0, at: now).first)
            #expect(start.cause == .webhook && start.lane == .inbox && start.cycle.notedSequence == InboxSequence(Int64(number)))
            now = now + .milliseconds(3)
            schedule.finish(start.trigger, .succeeded, at: now)
        }
    }

    @Test func webhooksThatComeWhileOneIsReadAreReadTogether() throws {
        var schedule = HeldTests.schedule(upstream: .inbox)
        let now = HeldTests.start + .seconds(1)
        schedule.signal(TopicID(1), sequence: InboxSequence(1), receivedAt: now, at: now)
        let first = try #require(schedule.takeReady(limit: 0, at: now).first)
        for number in 2...50 { schedule.signal(TopicID(1), sequence: InboxSequence(Int64(number)), receivedAt: now, at: now) }
        #expect(schedule.takeReady(limit: 0, at: now).isEmpty)
        schedule.finish(first.trigger, .succeeded, at: now + .milliseconds(5))
        let second = try #require(schedule.takeReady(limit: 0, at: now + .milliseconds(5)).first)
        #expect(second.cycle.notedSequence == InboxSequence(50))
    }

    @Test func P12_noProviderHoldsUpWhatReadsTheInbox() throws {
        var schedule = HeldTests.schedule(upstream: .inbox)
        let now = HeldTests.start + .seconds(1)
        schedule.setRefused(ConnectionID(1), probeAt: now + .hours(1))
        schedule.signal(TopicID(1), sequence: InboxSequence(1), receivedAt: now, at: now)
        #expect(schedule.takeReady(limit: 0, at: now).map(\.cause) == [.webhook])
    }

    @Test func P10_aLostLeaseDoesNotGoRound() throws {
        var schedule = HeldTests.schedule(upstream: .inbox)
        let now = HeldTests.start + .seconds(1)
        schedule.signal(TopicID(1), sequence: InboxSequence(1), receivedAt: now, at: now)
        let start = try #require(schedule.takeReady(limit: 0, at: now).first)
        schedule.finish(start.trigger, .fenced, at: now)
        #expect(schedule.takeReady(limit: 0, at: now).isEmpty)
        #expect(schedule.takeReady(limit: 0, at: now + .seconds(1)).count == 1)
    }
}
