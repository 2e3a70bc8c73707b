import SluiceCore
import Testing

@Suite struct SubscriptionTests {
    static let start = Timestamp(seconds: 1_700_000_000)
    static let full = SubscriptionAbilities(canRefresh: true, canCheck: true)

    /// A machine whose first subscription is active.
    static func active(
        _ abilities: SubscriptionAbilities = full, expiresAt: Timestamp? = nil
    ) -> SubscriptionMachine {
        var machine = SubscriptionMachine(abilities: abilities, at: start)
        machine.want("a")
        #expect(machine.next(at: start) == .create)
        machine.created(Subscription(id: SubscriptionID(1), phase: .subscribing, key: "a", at: start))
        #expect(machine.next(at: start) == .call(.subscribe, SubscriptionID(1)))
        let consequence = machine.finish(.subscribed(expiresAt: expiresAt), at: start, random: 0)
        #expect(consequence.polls && consequence.isSettled, "changes between the first poll and the subscription are polled for")
        _ = machine.takeChanges()
        return machine
    }

    @Test func P11_theIntentionIsRecordedAndUncertainBeforeTheProviderIsAsked() {
        var machine = SubscriptionMachine(abilities: Self.full, at: Self.start)
        machine.want("a")
        #expect(machine.next(at: Self.start) == .create)
        #expect(machine.next(at: Self.start) == nil, "one thing at a time")
        machine.created(Subscription(id: SubscriptionID(1), phase: .subscribing, key: "a", at: Self.start))
        #expect(machine.next(at: Self.start) == .call(.subscribe, SubscriptionID(1)))
        let recorded = machine.takeChanges().changed
        #expect(recorded.map(\.isUncertain) == [true])
        // The process dies here; the next one asks what the provider has before it asks for another one.
        var next = SubscriptionMachine(entries: recorded, abilities: Self.full, at: Self.start + .seconds(5))
        next.want("a")
        #expect(next.next(at: Self.start + .seconds(5)) == .call(.check, SubscriptionID(1)))
        _ = next.finish(.checked(.init(.active)), at: Self.start + .seconds(6), random: 0)
        #expect(next.entries.map(\.phase) == [.active], "it is adopted")
    }

    @Test func P11_oneWhoseSecretWasInTheLostAnswerIsReplaced() {
        var entry = Subscription(id: SubscriptionID(1), phase: .subscribing, key: "a", at: Self.start)
        entry.isUncertain = true
        var machine = SubscriptionMachine(entries: [entry], abilities: Self.full, at: Self.start)
        machine.want("a")
        #expect(machine.next(at: Self.start) == .call(.check, SubscriptionID(1)))
        _ = machine.finish(.checked(.init(.active, lacksSecret: true)), at: Self.start, random: 0)
        let later = Self.start + .seconds(1)
        #expect(machine.isSubscribed(at: later) && machine.next(at: later) == .create, "nobody can verify its webhooks")
        machine.created(Subscription(id: SubscriptionID(2), phase: .subscribing, key: "a", at: later))
        #expect(machine.next(at: later) == .call(.subscribe, SubscriptionID(2)))
        _ = machine.finish(.subscribed(expiresAt: nil), at: later, random: 0)
        #expect(machine.next(at: later) == .call(.unsubscribe, SubscriptionID(1)))
        // One that was active before says nothing of its secret in a check, and stays.
        var known = Self.active()
        known.checkNow(at: later)
        #expect(known.next(at: later) == .call(.check, SubscriptionID(1)))
        _ = known.finish(.checked(.init(.active, lacksSecret: true)), at: later, random: 0)
        #expect(known.next(at: later) == nil, "a connection's own secret may verify it; it is not replaced for ever")
    }

    /// Where the provider makes the secret, the subscription that is used is one whose secret was recorded.
    @Test func P11_onceQuietItsWebhooksCanBeVerified() {
        var given = 0
        for seed in 0..<900 {
            let abilities = SubscriptionAbilities(canRefresh: seed % 2 == 0, canCheck: true)
            let lifetime: Span? = [nil, .hours(1), .days(3)][seed % 3]
            var world = SubscriptionWorld(seed: UInt64(seed) &* 6151 &+ 7, abilities: abilities, lifetime: lifetime, givesSecret: true)
            world.trouble = [0.05, 0.3, 0.7][seed / 3 % 3]
            for _ in 0..<150 { world.step() }
            world.trouble = 0
            if world.key == nil { world.key = "c" }
            let quietUntil = world.now + .days(2)
            var calm = 0
            while world.now < quietUntil, calm < 4000 {
                world.step()
                calm += 1
            }
            #expect(calm < 4000, "seed \(seed): it comes to rest")
            let used = world.machine.newest.flatMap { world.stored[$0.id] }
            let there = used?.output.flatMap { world.held[$0] }
            #expect(there?.secret != nil && used?.secret == there?.secret, "seed \(seed): \(world.held) \(world.machine.entries)")
            given += world.numbersGiven
        }
        #expect(given > 2000)
    }

    @Test func P11_whereNobodyCanCheckASecondOneIsShown() {
        let abilities = SubscriptionAbilities()
        var machine = SubscriptionMachine(abilities: abilities, at: Self.start)
        machine.want("a")
        _ = machine.next(at: Self.start)
        machine.created(Subscription(id: SubscriptionID(1), phase: .subscribing, key: "a", at: Self.start))
        _ = machine.next(at: Self.start)
        _ = machine.finish(.failed(.init("timed out", mayHaveActed: true)), at: Self.start, random: 0)
        let later = Self.start + .minutes(1)
        #expect(machine.next(at: later) == .call(.subscribe, SubscriptionID(1)))
        _ = machine.finish(.subscribed(expiresAt: nil), at: later, random: 0)
        #expect(machine.problems(at: later).map(\.kind) == [.subscriptionLeftBehind])
        machine.want(nil)
        #expect(machine.next(at: later) == .call(.unsubscribe, SubscriptionID(1)))
        _ = machine.finish(.unsubscribed, at: later, random: 0)
        #expect(machine.isOver && machine.problems(at: later).map(\.kind) == [.subscriptionLeftBehind], "shown until somebody has looked")
        let isRemoved = machine.removeLeftBehind(SubscriptionID(1), at: later)
        #expect(isRemoved)
        #expect(machine.entries.isEmpty && machine.problems(at: later).isEmpty)
    }

    @Test func P11_itIsRefreshedBeforeItEndsAndTheAlarmComesBeforeTheEnd() {
        let end = Self.start + .hours(10)
        var machine = Self.active(SubscriptionAbilities(canRefresh: true), expiresAt: end)
        #expect(machine.wake() == Self.start + .hours(8))
        var now = Self.start + .hours(8)
        #expect(machine.next(at: now) == .call(.refresh, SubscriptionID(1)))
        _ = machine.finish(.refreshed(expiresAt: now + .hours(10)), at: now, random: 0)
        #expect(machine.problems(at: now).isEmpty && machine.wake() == now + .hours(8))
        now = now + .hours(8)
        var alarms: [Alarm.Kind] = []
        while now < Self.start + .hours(18) {
            #expect(machine.next(at: now) == .call(.refresh, SubscriptionID(1)))
            _ = machine.finish(.failed(.init("down", mayHaveActed: false)), at: now, random: 0.5)
            alarms += machine.problems(at: now).map(\.kind)
            now = machine.wake() ?? now
        }
        #expect(alarms.count > 5 && Set(alarms) == [.subscriptionLapsing])
        #expect(machine.problems(at: now).map(\.kind) == [.subscriptionLapsed])
        #expect(!machine.isSubscribed(at: now))
        #expect(machine.next(at: now) == .create, "it subscribes anew")
        machine.created(Subscription(id: SubscriptionID(2), phase: .subscribing, key: "a", at: now))
        #expect(machine.next(at: now) == .call(.subscribe, SubscriptionID(2)))
        #expect(machine.finish(.subscribed(expiresAt: nil), at: now, random: 0).polls, "webhooks were missed")
        #expect(machine.next(at: now) == .call(.unsubscribe, SubscriptionID(1)), "the old one goes after the new one is there")
    }

    @Test func anotherInputMakesTheNewOneBeforeTheOldOneGoes() {
        var machine = Self.active()
        machine.want("b")
        let now = Self.start + .minutes(1)
        #expect(machine.next(at: now) == .create)
        machine.created(Subscription(id: SubscriptionID(2), phase: .subscribing, key: "b", at: now))
        #expect(machine.next(at: now) == .call(.subscribe, SubscriptionID(2)))
        _ = machine.finish(.failed(.init("no", isPermanent: true, mayHaveActed: false)), at: now, random: 0)
        #expect(machine.isSubscribed(at: now), "the old one stays while the new one fails")
        let later = machine.wake() ?? now
        #expect(machine.next(at: later) == .call(.subscribe, SubscriptionID(2)))
        _ = machine.finish(.subscribed(expiresAt: nil), at: later, random: 0)
        #expect(machine.next(at: later) == .call(.unsubscribe, SubscriptionID(1)))
    }

    @Test func P11_unsubscribingGoesOnUntilItWorksOrIsGivenUpVisibly() {
        var machine = Self.active()
        machine.want(nil)
        var now = Self.start
        var tries = 0
        while let step = machine.next(at: now) {
            #expect(step == .call(.unsubscribe, SubscriptionID(1)) && !machine.isOver)
            _ = machine.finish(.failed(.init("down", mayHaveActed: true)), at: now, random: 0)
            tries += 1
            now = machine.wake() ?? now
        }
        #expect(tries > 600 && now - Self.start >= .days(7) - .minutes(15))
        #expect(machine.isOver && machine.problems(at: now).map(\.kind) == [.subscriptionLeftBehind])
        let isTakenUp = machine.removeLeftBehind(SubscriptionID(1), at: now)
        #expect(isTakenUp)
        #expect(machine.next(at: now) == .call(.unsubscribe, SubscriptionID(1)), "the command tries again")
        _ = machine.finish(.unsubscribed, at: now, random: 0)
        #expect(machine.next(at: now) == .call(.check, SubscriptionID(1)), "one last look")
        _ = machine.finish(.checked(.init(.missing)), at: now, random: 0)
        #expect(machine.next(at: now) == nil && machine.entries.isEmpty)
    }

    /// Made for another input it may stand in a list that is not looked at any more: it is not gone because this one lacks it.
    @Test func P11_whatWasLeftBehindUnderAnotherInputIsNotForgotten() {
        var machine = Self.active()
        let now = machine.wake() ?? Self.start
        for (id, key) in [(2, "former"), (3, "a")] as [(Int64, String)] {
            machine.created(
                Subscription(id: SubscriptionID(id), phase: .leftBehind, key: key, foundID: "f\(id)", hasOutput: true, at: now))
        }
        #expect(machine.next(at: now) == .call(.check, SubscriptionID(1)))
        _ = machine.finish(.checked(.init(.active, others: [])), at: now, random: 0)
        #expect(machine.entries.map(\.id) == [SubscriptionID(1), SubscriptionID(2)])
        #expect(machine.problems(at: now).map(\.kind) == [.subscriptionLeftBehind])
    }

    @Test func P11_checksFindWhatIsMissingDriftedDoubledAndLeftBehind() {
        var machine = Self.active()
        let now = machine.wake() ?? Self.start
        #expect(now - Self.start == .hours(12))
        #expect(machine.next(at: now) == .call(.check, SubscriptionID(1)))
        let found = SubscriptionMachine.Check(
            .drifted,
            others: [.init(foundID: "x", url: .thisOne), .init(foundID: "y", url: .unknown), .init(foundID: "z", url: .anotherKnown)])
        let consequence = machine.finish(.checked(found), at: now, random: 0)
        #expect(consequence.additions == [.init(foundID: "x", phase: .unsubscribing), .init(foundID: "y", phase: .leftBehind)])
        for (index, addition) in consequence.additions.enumerated() {
            machine.created(
                Subscription(
                    id: SubscriptionID(Int64(index) + 2), phase: addition.phase, key: "a", foundID: addition.foundID, hasOutput: true,
                    at: now))
        }
        #expect(machine.problems(at: now).map(\.kind) == [.subscriptionLeftBehind])
        #expect(machine.next(at: now) == .create, "what drifted is replaced")
        machine.created(Subscription(id: SubscriptionID(4), phase: .subscribing, key: "a", at: now))
        _ = machine.next(at: now)
        _ = machine.finish(.subscribed(expiresAt: nil), at: now, random: 0)
        var removed: [Int64] = []
        while case .call(let operation, let id)? = machine.next(at: now) {
            if operation == .unsubscribe { removed.append(id.rawValue) }
            _ = machine.finish(operation == .unsubscribe ? .unsubscribed : .checked(.init(.missing)), at: now, random: 0)
        }
        #expect(removed.sorted() == [1, 2], "the one that drifted and the double go")
        machine.checkNow(at: now)
        #expect(machine.next(at: now) == .call(.check, SubscriptionID(4)))
        _ = machine.finish(.checked(.init(.missing, others: [])), at: now, random: 0)
        #expect(machine.entries.map(\.phase) == [.subscribing], "what was left behind is gone, what is missing is made again")
    }

    @Test func whatIsHeldIsRefreshedButNothingIsMade() {
        var machine = Self.active(expiresAt: Self.start + .hours(1))
        machine.want("b", held: true)
        let due = machine.wake() ?? Self.start
        #expect(machine.next(at: due) == .call(.refresh, SubscriptionID(1)))
        var empty = SubscriptionMachine(abilities: Self.full, at: Self.start)
        empty.want("a", held: true)
        #expect(empty.next(at: Self.start) == nil && empty.wake() == nil)
    }

    /// Failures, crashes at every step, requests that take effect late, and people who meddle at the provider; then quiet.
    @Test(arguments: [
        SubscriptionAbilities(canRefresh: true, canCheck: true), SubscriptionAbilities(canRefresh: false, canCheck: true),
        SubscriptionAbilities(canRefresh: true, canCheck: false), SubscriptionAbilities(canRefresh: false, canCheck: false),
        SubscriptionAbilities(canRefresh: true, canCheck: false, isIdempotent: true),
    ])
    func P11_onceQuietThereIsExactlyOneSubscriptionOrAnAlarm(abilities: SubscriptionAbilities) {
        var steps = 0
        for seed in 0..<1200 {
            let lifetime: Span? = [nil, .hours(1), .days(3)][seed % 3]
            var world = SubscriptionWorld(seed: UInt64(seed) &* 7919 &+ 13, abilities: abilities, lifetime: lifetime)
            world.trouble = [0.05, 0.3, 0.7][seed / 3 % 3]
            for _ in 0..<150 { world.step() }
            world.trouble = 0
            if seed % 2 == 0 { world.key = "c" } else if seed % 5 == 0 { world.key = nil }
            let quietUntil = world.now + .days(2)
            var calm = 0
            while world.now < quietUntil, calm < 4000 {
                world.step()
                calm += 1
            }
            #expect(calm < 4000, "seed \(seed): it comes to rest")
            steps += world.steps
            let alarms = world.machine.problems(at: world.now).map(\.kind)
            let wanted = world.key == nil ? 0 : 1
            let isExact = world.held.count == wanted
            #expect(isExact || alarms.contains(.subscriptionLeftBehind), "seed \(seed): \(world.held) \(world.machine.entries)")
            if abilities.canCheck {
                #expect(world.held.count <= wanted || alarms.contains(.subscriptionLeftBehind), "seed \(seed)")
                let used = world.machine.newest.flatMap { world.stored[$0.id]?.output }
                #expect(
                    wanted == 0 || used.flatMap { world.held[$0] }.map { !$0.isBroken } == true,
                    "seed \(seed): the one that is used is there")
            }
        }
        #expect(steps > 200_000)
    }
}
