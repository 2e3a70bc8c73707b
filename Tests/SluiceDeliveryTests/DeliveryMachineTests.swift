import SluiceCore
import Testing

@testable import SluiceDelivery

@Suite struct DeliveryMachineTests {
    let machine = DeliveryMachine()
    let now = Timestamp(seconds: 1_800_000_000)

    private func decide(
        _ result: DeliveryMachine.Result, retryAfter: Span? = nil, before: Int = 0, age: Span = .zero, random: Double = 0.5
    ) -> DeliveryMachine.Decision {
        machine.decide(
            .init(result: result, retryAfter: retryAfter, attemptsBefore: before, createdAt: now - age), at: now, random: random)
    }

    @Test func delivered() {
        #expect(decide(.delivered) == .delivered)
        #expect(decide(.delivered, before: 99, age: .days(99)) == .delivered)
    }

    @Test func goneAndRefusedAreDeadAtOnce() {
        #expect(decide(.gone) == .dead(.gone))
        #expect(decide(.refused(reason: "rejected")) == .dead(.init(rawValue: "rejected")))
    }

    @Test(arguments: [200, 201, 204, 299]) func twoHundredsAreDelivered(_ status: Int) {
        #expect(PushSender.result(status) == .delivered)
    }

    @Test func onlyFourHundredTenIsGone() { #expect((100..<600).filter { PushSender.result($0) == .gone } == [410]) }

    @Test(arguments: [101, 300, 301, 302, 307, 308, 400, 401, 404, 409, 411, 422, 429, 500, 502, 503, 504, 599])
    func othersAreTriedAgain(_ status: Int) {
        #expect(PushSender.result(status) == .failed)
        #expect(decide(PushSender.result(status)) == .retry(at: now + .seconds(5)))
    }

    @Test func P9_scheduleEndsInADeadLetter() {
        let waits: [Span] = [.seconds(5), .minutes(5), .minutes(30), .hours(2), .hours(5), .hours(10), .hours(10)]
        for (before, wait) in waits.enumerated() { #expect(decide(.failed, before: before) == .retry(at: now + wait)) }
        #expect(decide(.failed, before: 7) == .dead(.exhausted))
        #expect(decide(.failed, before: 700) == .dead(.exhausted))
    }

    @Test func jitterIsATwentieth() throws {
        #expect(decide(.failed, random: 0) == .retry(at: now + .milliseconds(4000)))
        #expect(decide(.failed, random: 1) == .retry(at: now + .milliseconds(6000)))
        #expect(decide(.failed, before: 6, random: 0) == .retry(at: now + .hours(8)))
        #expect(decide(.failed, random: 17) == .retry(at: now + .milliseconds(6000)))
    }

    @Test func retryAfterIsKeptAndBounded() {
        #expect(decide(.failed, retryAfter: .seconds(60)) == .retry(at: now + .seconds(60)))
        #expect(decide(.failed, retryAfter: .hours(3)) == .retry(at: now + .hours(3)))
        #expect(decide(.failed, retryAfter: .days(900)) == .retry(at: now + .hours(24)))
        // No sooner than the schedule, so that a polite receiver does not use the schedule up in a minute.
        #expect(decide(.failed, retryAfter: .zero) == .retry(at: now + .seconds(5)))
    }

    @Test func tooOldExpires() {
        #expect(decide(.failed, age: .days(30)) == .dead(.expired))
        #expect(decide(.failed, age: .days(30) - .seconds(5)) == .retry(at: now + .seconds(5)))
    }

    @Test func schedulesAreChecked() throws {
        #expect(throws: SluiceError.self) { try RetrySchedule(delays: [.seconds(-1)]) }
        #expect(throws: SluiceError.self) { try RetrySchedule(delays: [.days(8)]) }
        #expect(throws: SluiceError.self) { try RetrySchedule(delays: Array(repeating: .zero, count: 51)) }
        #expect(try RetrySchedule(delays: []).delay(afterAttempts: 1, random: 0) == nil)
    }

    @Test(
        arguments: [
            ("120", 120_000), (" 0 ", 0), ("99999999999999999999", 99_999_999_999_000), ("Fri, 15 Jan 2027 08:01:00 GMT", 60_000),
            ("Sun, 06 Nov 1994 08:49:37 GMT", 0),
        ] as [(String, Int64)]) func readsRetryAfter(_ text: String, _ milliseconds: Int64)
    {
        #expect(RetryAfter.parse(text, now: now) == .milliseconds(milliseconds))
    }

    @Test(arguments: [
        "", "soon", "-5", "1.5", "Fri, 15 Foo 2027 08:01:00 GMT", "Fri, 15 Jan 2027 08:01 GMT", "Fri, 15 Jan 2027 28:01:00 GMT",
    ])
    func ignoresOtherRetryAfter(_ text: String) { #expect(RetryAfter.parse(text, now: now) == nil) }

    @Test func P12_failingLaneCallsOneAtATime() {
        var lane = DeliveryLane()
        for _ in 0..<3 {
            #expect(lane.callsAtOnce(max: 8) == 8)
            lane.start()
            lane.note(.failed, at: now)
            lane.end()
        }
        #expect(lane.callsAtOnce(max: 8) == 1)
        #expect(lane.claimLimit(callsAtOnceMax: 8, at: now) == 1)
        lane.start()
        #expect(!lane.mayStart(callsAtOnceMax: 8, at: now))
        #expect(lane.mayGoOn(callsAtOnceMax: 8, at: now))
        lane.note(.delivered, at: now)
        lane.end()
        #expect(lane.claimLimit(callsAtOnceMax: 8, at: now) == 40)
        #expect(lane.claimLimit(callsAtOnceMax: 8, perCall: 10, at: now) == 400)
        for _ in 0..<1000 { lane.note(.delivered, at: now) }
        #expect(lane.claimLimit(callsAtOnceMax: 256, perCall: 100, at: now) == 1000)
        lane.note(.failed, at: now)
        #expect(lane.claimLimit(callsAtOnceMax: 8, at: now) == 32)
        #expect(lane.beginClaim(callsAtOnceMax: 8, perCall: 1, at: now) == 32)
        #expect(lane.claimLimit(callsAtOnceMax: 8, at: now) == 0)
        lane.noteDue()
        lane.rest(until: now + .seconds(1))
        #expect(lane.claimLimit(callsAtOnceMax: 8, at: now) == 0)
        #expect(lane.claimLimit(callsAtOnceMax: 8, at: now + .seconds(1)) == 32)
    }

    @Test func P12_eachDestinationHasASlotOfItsOwn() {
        var slots = DeliverySlots(sharedMax: 2)
        let (a, b) = (DestinationID(1), DestinationID(2))
        #expect([slots.take(a), slots.take(a), slots.take(a), slots.take(a)] == [true, true, true, false])
        #expect([slots.take(b), slots.take(b)] == [true, false])
        #expect(slots.total == 4)
        #expect(slots.release(a) == a, "who was refused is told that there is one")
        #expect([slots.take(b), slots.take(a)] == [true, false])
        #expect([a, b, a, b].map { slots.release($0) } == [a, nil, nil, nil], "once each, and only those that still want one")
        #expect(slots.total == 0)
        #expect(slots.sharedUsed == 0)
    }
}
