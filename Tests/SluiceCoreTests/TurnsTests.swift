import SluiceCore
import Testing

/// P12: connections take turns, and each has its bounds. Also how much a signal costs.
@Suite struct TurnsTests {
    @Test func P12_aConnectionWithTenThousandDueTriggersStarvesNobody() throws {
        var fixture = ScheduleFixture()
        let noisy = ConnectionID(1)
        let quiet = ConnectionID(2)
        for id in 1...10_000 as ClosedRange<Int64> { fixture.put(TriggerID(id), connection: noisy, stored: TriggerSchedule.Stored()) }
        fixture.put(TriggerID(20_000), connection: quiet, stored: TriggerSchedule.Stored())
        let starts = fixture.schedule.takeReady(limit: 64, at: fixture.now)
        #expect(starts.contains { $0.connection == quiet })
        #expect(starts.filter { $0.connection == noisy }.count == 4)
        // With all of its own places taken, the noisy one does not keep the others from theirs.
        #expect(fixture.schedule.takeReady(limit: 64, at: fixture.now).isEmpty)
        fixture.schedule.finish(TriggerID(20_000), .failed(openCycle: nil, delay: .seconds(1)), at: fixture.now)
        #expect(fixture.schedule.takeReady(limit: 64, at: fixture.now + .seconds(1)).map(\.trigger) == [TriggerID(20_000)])
    }

    /// Sixteen providers that hang with four cycles each have taken every place; a seventeenth still gets its first cycle.
    @Test func P12_whoHasNothingRunningGetsAPlaceBeyondTheLimit() {
        var fixture = ScheduleFixture()
        for id in 1...64 as ClosedRange<Int64> {
            fixture.put(TriggerID(id), connection: ConnectionID(id % 16), stored: TriggerSchedule.Stored())
        }
        #expect(fixture.schedule.takeReady(limit: 64, at: fixture.now).count == 64)
        for id in 101...103 as ClosedRange<Int64> {
            fixture.put(TriggerID(id), connection: ConnectionID(100), stored: TriggerSchedule.Stored())
        }
        #expect(fixture.schedule.takeReady(limit: 0, at: fixture.now).isEmpty)
        #expect(fixture.schedule.takeReady(limit: 0, firsts: 8, at: fixture.now).map(\.connection) == [ConnectionID(100)])
        #expect(fixture.schedule.takeReady(limit: 0, firsts: 7, at: fixture.now).isEmpty, "one, not more")
        #expect(fixture.schedule.takeReady(limit: 2, at: fixture.now).count == 2, "the others within the limit")
    }

    @Test func P12_withOnePlaceConnectionsAlternate() {
        var fixture = ScheduleFixture()
        for id in 1...30 as ClosedRange<Int64> {
            fixture.put(TriggerID(id), connection: ConnectionID(id % 3), stored: TriggerSchedule.Stored())
        }
        var order: [Int64] = []
        for _ in 0..<9 {
            let starts = fixture.schedule.takeReady(limit: 1, at: fixture.now)
            order += starts.map(\.connection.rawValue)
            for start in starts { fixture.schedule.finish(start.trigger, .succeeded, at: fixture.now) }
        }
        #expect(Set(order.prefix(3)) == [0, 1, 2])
        #expect(Array(order.prefix(3)) == Array(order.dropFirst(3).prefix(3)))
        #expect(Array(order.prefix(3)) == Array(order.suffix(3)))
    }

    @Test func P12_aBlockedConnectionWaitsAndWakes() {
        var fixture = ScheduleFixture.idle()
        let until = fixture.now + .seconds(40)
        fixture.schedule.block(ScheduleFixture.connection, until: until)
        fixture.signal()
        #expect(fixture.starts.isEmpty)
        #expect(fixture.schedule.nextWake(at: fixture.now) == until)
        #expect(fixture.schedule.waiting(ScheduleFixture.trigger, at: fixture.now) == .connectionBlocked(until: until))
        fixture.run(for: .seconds(41))
        #expect(fixture.starts.first?.at == until)
    }

    @Test func aRefusedConnectionProbesWithOneCycle() {
        var fixture = ScheduleFixture()
        for id in 1...5 as ClosedRange<Int64> { fixture.put(TriggerID(id), stored: TriggerSchedule.Stored()) }
        let probeAt = fixture.now + .hours(1)
        fixture.schedule.setRefused(ScheduleFixture.connection, probeAt: probeAt)
        #expect(fixture.schedule.takeReady(limit: 10, at: fixture.now).isEmpty)
        #expect(fixture.schedule.nextWake(at: fixture.now) == probeAt)
        #expect(fixture.schedule.takeReady(limit: 10, at: probeAt).map(\.cause) == [.probe])
        fixture.schedule.setRefused(ScheduleFixture.connection, probeAt: nil)
        #expect(fixture.schedule.takeReady(limit: 10, at: probeAt).count == 3)
    }

    @Test func tenThousandTriggersOnOneTopicAreWokenOnceEach() {
        var fixture = ScheduleFixture()
        fixture.schedule.setConnection(ScheduleFixture.connection, runningMax: 20_000)
        for id in 1...10_000 as ClosedRange<Int64> { fixture.put(TriggerID(id)) }
        for _ in 0..<200 { fixture.signal() }
        #expect(fixture.starts.count == 10_000)
        #expect(Set(fixture.starts.map(\.start.trigger)).count == 10_000)
        fixture.run(for: .minutes(2))
        // One more each, for the signals after the first.
        #expect(fixture.starts.count == 20_000)
    }

    @Test func aTriggerThatIsGoneIsNotStarted() {
        var fixture = ScheduleFixture.idle()
        fixture.signal()
        fixture.schedule.remove(ScheduleFixture.trigger)
        #expect(fixture.schedule.runningCount == 0)
        fixture.schedule.finish(ScheduleFixture.trigger, .succeeded, at: fixture.now)
        fixture.signal()
        fixture.run(for: .hours(24))
        #expect(fixture.starts.count == 1)
        #expect(fixture.schedule.triggerCount == 0)
    }

    @Test func budgetRefillsByTheSecond() {
        var budget = RequestBudget(perSecond: 2)
        let start = Timestamp(seconds: 1000)
        #expect(budget.take(at: start) == nil)
        #expect(budget.take(at: start) == nil)
        #expect(budget.take(at: start) == .milliseconds(500))
        #expect(budget.take(at: start + .milliseconds(500)) == nil)
        // A long rest saves no more than a second's worth.
        #expect(budget.take(at: start + .hours(1)) == nil)
        #expect(budget.take(at: start + .hours(1)) == nil)
        #expect(budget.take(at: start + .hours(1)) != nil)
    }

    @Test func budgetKeepsToWhatTheProviderAsked() {
        var budget = RequestBudget(perSecond: nil)
        let start = Timestamp(seconds: 1000)
        budget.block(until: start + .seconds(30))
        budget.block(until: start + .seconds(10))
        #expect(budget.take(at: start) == .seconds(30))
        #expect(budget.take(at: start + .seconds(30)) == nil)
    }
}
