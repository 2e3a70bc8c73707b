import SluiceCore
import Testing

@Suite struct CallbackTests {
    static let start = Timestamp(seconds: 1_700_000_000)

    static func machine(asks: Bool = true, lifetime: Span = .hours(2)) -> CallbackMachine {
        CallbackMachine(asks: asks, at: start, expiresAt: start + lifetime)
    }

    /// Polls whenever one is due and hears `pending` each time; returns when the polls began, in seconds from the start.
    static func polls(_ machine: inout CallbackMachine, until end: Span, calls: [Int64] = []) -> [Int64] {
        var begun: [Int64] = []
        var calls = calls[...]
        while !machine.callback.state.isOver {
            let call = calls.first.map { start + .seconds($0) } ?? .distantFuture
            let next = min(machine.callback.nextAt, call)
            if next > start + end { break }
            if call <= machine.callback.nextAt {
                _ = machine.called(covering: nil, at: call)
                calls = calls.dropFirst()
            } else if case .poll(let covers) = machine.due(at: next) {
                begun.append((next - start).milliseconds / 1000)
                _ = machine.answered(.pending(), covers: covers, startedAt: next, at: next)
            }
        }
        return begun
    }

    @Test func thePausesGrowAndTheLastOneRepeats() {
        var machine = Self.machine(lifetime: .hours(4))
        #expect(Self.polls(&machine, until: .hours(3)) == [5, 20, 80, 380, 1280, 4880, 8480])
    }

    @Test func P5_aFloodOfCallsMakesAtMostTwoAndOnePollInTwentySeconds() {
        var (quiet, flooded) = (Self.machine(), Self.machine())
        let scheduled = Self.polls(&quiet, until: .seconds(600))
        let begun = Self.polls(&flooded, until: .seconds(600), calls: (0..<6000).map { $0 / 10 })
        #expect(begun.count - scheduled.count <= 2 + 600 / 20, "\(begun)")
        #expect(begun.first == 0 && zip(begun, begun.dropFirst()).allSatisfy { $1 - $0 <= 20 }, "and no call waits longer: \(begun)")
    }

    @Test func aCallIsAnsweredByAPollThatBeganLater() {
        var machine = Self.machine()
        let isNews = machine.called(covering: nil, at: Self.start)
        #expect(isNews && machine.due(at: Self.start) == .poll(covers: 1), "an idle one is asked at once")
        // One comes while the poll is under way: that may not see it.
        let during = Self.start + .seconds(1)
        let (second, third) = (machine.called(covering: 1, at: during), machine.called(covering: 1, at: during))
        #expect(second && !third, "another one waits already")
        _ = machine.answered(.pending(), covers: 1, startedAt: Self.start, at: Self.start + .seconds(2))
        #expect(machine.callback.nextAt <= Self.start + .seconds(20))
        #expect(machine.due(at: Self.start + .seconds(20)) == .poll(covers: 2))
    }

    @Test func whatIsOverStaysAsItIs() {
        for asks in [true, false] {
            var machine = Self.machine(asks: asks)
            if asks {
                let isBelieved = machine.brought(at: Self.start)
                #expect(!isBelieved, "a call settles nothing where the provider can be asked")
                _ = machine.answered(.over(failed: true), covers: 0, startedAt: Self.start, at: Self.start)
                #expect(machine.callback.state == .failed)
            } else {
                let (asks, settles) = (machine.called(covering: nil, at: Self.start), machine.brought(at: Self.start))
                #expect(!asks && settles && machine.callback.state == .settled)
            }
            let over = machine.callback
            #expect(over.nextAt == .distantFuture)
            let changes = [
                machine.called(covering: nil, at: Self.start), machine.brought(at: Self.start),
                machine.answered(.over(failed: false), covers: 9, startedAt: Self.start, at: Self.start),
                machine.cancel(reason: nil, at: Self.start), machine.expire(at: Self.start + .days(1)),
            ]
            #expect(!changes.contains(true) && machine.callback == over)
        }
    }

    @Test func itDoesNotExpireBeforeALastStatusPoll() {
        var machine = Self.machine(lifetime: .seconds(60))
        let end = machine.callback.expiresAt
        // A poll that began before the end is not the last one.
        _ = machine.answered(.pending(), covers: 0, startedAt: end - .seconds(1), at: end + .seconds(5))
        #expect(machine.callback.state == .pending && machine.due(at: end + .seconds(5)) == .poll(covers: 0))
        // One without an answer is tried again, within the time of grace.
        _ = machine.answered(.none(reason: "down"), covers: 0, startedAt: end, at: end + .seconds(5))
        #expect(machine.callback.state == .pending)
        var late = machine
        _ = machine.answered(.over(failed: false), covers: 0, startedAt: end + .minutes(1), at: end + .minutes(1))
        #expect(machine.callback.state == .settled, "what the last poll says counts")
        let over = end + late.policy.grace
        #expect(late.callback.nextAt <= over)
        _ = late.answered(.none(reason: "still down"), covers: 0, startedAt: over, at: over)
        #expect(late.callback.state == .expired && late.callback.reason?.contains("still down") == true)
    }

    /// Nobody was there when its time was up: what counts is since when the provider was asked.
    @Test func theGraceBeginsWithTheFirstPollThatIsSent() {
        let end = Self.start + .hours(2)
        let restart = end + .hours(3)
        var machine = CallbackMachine(Self.machine().callback, servedSince: restart)
        func fail(_ at: Timestamp, isHeldBack: Bool = false, isUnasked: Bool = false) {
            _ = machine.answered(
                .none(reason: "down", isHeldBack: isHeldBack, isUnasked: isUnasked), covers: 0, startedAt: at, at: at + .seconds(1))
        }
        fail(restart, isHeldBack: true)
        fail(restart + .minutes(20), isUnasked: true)
        #expect(machine.callback.state == .pending, "nothing was sent")
        let first = restart + .minutes(30)
        fail(first)
        fail(first + .minutes(14))
        #expect(machine.callback.state == .pending && machine.callback.nextAt <= first + .minutes(15))
        fail(first + .minutes(16), isHeldBack: true)
        #expect(machine.callback.state == .pending, "what was not sent ends nothing")
        // Another process tries as long as the first one.
        let again = first + .minutes(17)
        machine = CallbackMachine(machine.callback, servedSince: again)
        fail(again)
        #expect(machine.callback.state == .pending)
        fail(again + .minutes(15))
        #expect(machine.callback.state == .expired && machine.callback.reason?.contains("no answer: down") == true)
    }

    @Test func whatCannotBeAskedAtAllExpiresAfterADay() {
        var machine = Self.machine()
        let end = machine.callback.expiresAt
        var now = end
        while machine.callback.state == .pending, now < end + .days(2) {
            _ = machine.answered(.none(reason: "not loaded", isUnasked: true), covers: 0, startedAt: now, at: now)
            #expect(machine.callback.state == .expired || machine.callback.nextAt > now)
            if machine.callback.state == .pending { now = machine.callback.nextAt }
        }
        #expect(now == end + .days(1))
        #expect(machine.callback.reason == "its time was up, and the provider could not be asked: not loaded")
    }

    @Test func whatWasMadeBeforeARestartStillWaitsForItsCall() {
        let restart = Self.start + .days(1)
        var machine = CallbackMachine(Self.machine(asks: false).callback, servedSince: restart)
        let isPutOff = machine.expire(at: restart)
        #expect(isPutOff && machine.callback.state == .pending && machine.due(at: restart + .minutes(59)) == .nothing)
        var called = machine
        let isSettled = called.brought(at: restart + .minutes(59))
        #expect(isSettled && called.callback.state == .settled)
        let isExpired = machine.expire(at: restart + .hours(1))
        #expect(isExpired && machine.callback.state == .expired)
    }

    @Test func whatCannotBeAskedExpiresByTime() {
        var machine = Self.machine(asks: false, lifetime: .seconds(60))
        #expect(machine.callback.nextAt == Self.start + .seconds(60))
        #expect(machine.due(at: Self.start + .seconds(59)) == .nothing)
        #expect(machine.due(at: Self.start + .seconds(60)) == .expire)
        let isExpired = machine.expire(at: Self.start + .seconds(60))
        #expect(isExpired && machine.callback.state == .expired)
    }

    @Test func whatTheProviderWishesIsKeptWithinBounds() {
        var machine = Self.machine(lifetime: .days(30))
        _ = machine.answered(.pending(retryAfter: .days(9)), covers: 0, startedAt: Self.start, at: Self.start)
        #expect(machine.callback.nextAt == Self.start + .days(1))
        _ = machine.answered(.pending(retryAfter: .milliseconds(1)), covers: 0, startedAt: Self.start, at: Self.start)
        #expect(machine.callback.nextAt == Self.start + .seconds(1))
        // A connection that waits is no failure of the provider's.
        _ = machine.answered(
            .none(reason: "waits", retryAfter: .minutes(5), isHeldBack: true), covers: 0, startedAt: Self.start, at: Self.start)
        #expect(machine.callback.failures == 0 && machine.callback.nextAt == Self.start + .minutes(5))
    }

    /// 4,000 histories: crashes at every step, calls doubled, late and forged, providers that never call or do not answer,
    /// cancellations in between.
    @Test func P3_itEndsOnceWithTheProvidersTruth() {
        var ends: [CallbackState: Int] = [:]
        for seed in 0..<4000 {
            var world = CallbackWorld(seed: UInt64(seed))
            world.run()
            for problem in world.problems { Issue.record("seed \(seed): \(problem)") }
            ends[world.stored.state, default: 0] += 1
        }
        // The histories must reach every end, or they show nothing.
        for state in CallbackState.allCases where state.isOver { #expect(ends[state, default: 0] > 50, "\(ends)") }
    }

    /// The same world notices each of these mistakes.
    @Test(arguments: CallbackWorld.Mistake.allCases)
    func aMistakeIsNoticed(_ mistake: CallbackWorld.Mistake) {
        let isNoticed = (0..<2000).contains { seed in
            var world = CallbackWorld(seed: UInt64(seed), mistake: mistake)
            world.run()
            return !world.problems.isEmpty
        }
        #expect(isNoticed, "\(mistake)")
    }
}
