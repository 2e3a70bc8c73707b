import Testing

@testable import SluiceCore

#if canImport(Glibc)
    import Glibc
#endif

@Suite struct ConsumerMachineTests {
    static let now = Timestamp(seconds: 1000)
    static let rules = ConsumerMachine.Rules(attemptsMax: 3, unackedMax: 100)

    /// Hands out new jobs, then what comes again.
    static func fetch(
        _ machine: inout ConsumerMachine, new: [Int64] = [], limit: Int = 10, at now: Timestamp = now, visibility: Span = .seconds(60)
    ) throws -> ConsumerLease {
        var handOut = ConsumerMachine.HandOut()
        machine.release(at: now, rules)
        _ = machine.takeReady(into: &handOut, limit: limit, bytesMax: .max, at: now) { _ in .there(bytes: 1) }
        if let last = new.last { machine.takeNew(SequenceSet(new), through: last, into: &handOut) }
        let lease = machine.lease(handOut, nonce: 7, worker: "w", visibility: visibility, at: now)
        return try #require(lease)
    }

    /// Every history of workers that crash, come late, come twice or meddle: each job is acked, in hand, waiting or dead,
    /// exactly one of these; no job is in two valid leases; nothing is stuck. SLUICE_SEEDS asks for more.
    @Test func P9_everyJobOfAConsumerIsInOnePlace() throws {
        let seeds = getenv("SLUICE_SEEDS").flatMap { UInt64(String(cString: $0)) } ?? 3000
        var handOuts = 0
        for seed in 1...seeds {
            var world = ConsumerWorld(seed: seed)
            do {
                try world.run(steps: 60)
            } catch {
                Issue.record("seed \(seed): \(error)")
                return
            }
            handOuts += world.handOuts
        }
        #expect(handOuts > Int(seeds) * 5)
    }

    @Test func P9_anAckAfterTheTimeRanOutIsGoodUntilSomebodyElseHasTheJobs() throws {
        var machine = ConsumerMachine(at: Self.now)
        let lease = try Self.fetch(&machine, new: [1, 2, 3])
        let late = Self.now + .seconds(61)
        machine.release(at: late, Self.rules)
        let first = try machine.ack(lease.number, nonce: 7, jobs: SequenceSet([1]))
        #expect(first == .init(jobs: 1, repeated: 0, inHand: 2))
        let second = try Self.fetch(&machine, at: late)
        #expect(second.jobs.numbers == [2, 3])
        #expect(second.held.map(\.attempt) == [2])
        for jobs in [nil, SequenceSet([2])] {
            do {
                _ = try machine.ack(lease.number, nonce: 7, jobs: jobs)
                Issue.record("a fenced ack was taken")
            } catch { #expect(error.code == .fenced) }
        }
        let again = try machine.ack(lease.number, nonce: 7, jobs: SequenceSet([1]))
        #expect(again.repeated == 1)
        #expect(machine.unacked == 2)
        let last = try machine.ack(second.number, nonce: 7, jobs: nil)
        #expect(last.jobs == 2)
        #expect(machine.unacked == 0 && machine.floor == 3)
    }

    @Test func P9_whatComesAgainComesBeforeWhatIsNew() throws {
        var machine = ConsumerMachine(at: Self.now)
        let first = try Self.fetch(&machine, new: [1, 2, 3])
        _ = try Self.fetch(&machine, new: [4, 5])
        _ = try machine.nack(first.number, nonce: 7, jobs: SequenceSet([3]), delay: { _ in .zero }, reason: nil, at: Self.now, Self.rules)
        _ = try machine.nack(
            first.number, nonce: 7, jobs: SequenceSet([1]), delay: { .seconds(Int64($0)) }, reason: nil, at: Self.now, Self.rules)
        let third = try Self.fetch(&machine, new: [6])
        #expect(third.jobs.numbers == [3, 6])
        #expect(third.held == [.init(attempt: 2, jobs: SequenceSet([3])), .init(attempt: 1, jobs: SequenceSet([6]))])
        let fourth = try Self.fetch(&machine, at: Self.now + .seconds(1))
        #expect(fourth.jobs.numbers == [1])
    }

    @Test func P9_aJobThatComesTooOftenIsADeadLetter() throws {
        var machine = ConsumerMachine(at: Self.now)
        var lease = try Self.fetch(&machine, new: [1, 2])
        for attempt in 2...3 {
            _ = try machine.nack(lease.number, nonce: 7, jobs: nil, delay: { _ in .zero }, reason: "no", at: Self.now, Self.rules)
            lease = try Self.fetch(&machine)
            #expect(lease.held.map(\.attempt) == [attempt])
        }
        machine.stored()
        _ = try machine.nack(
            lease.number, nonce: 7, jobs: SequenceSet([1]), delay: { _ in .zero }, reason: "no", at: Self.now, Self.rules)
        #expect(machine.unstored.dead == [.init(jobs: SequenceSet([1]), attempts: 3, reason: "exhausted", detail: "no")])
        machine.stored()
        machine.release(at: Self.now + .seconds(61), Self.rules)
        #expect(machine.unstored.dead.map(\.jobs) == [SequenceSet([2])])
        #expect(machine.unacked == 0)
    }

    @Test func P9_aHeartbeatKeepsTheJobs() throws {
        var machine = ConsumerMachine(at: Self.now)
        let lease = try Self.fetch(&machine, new: [1])
        let extended = try machine.extend(lease.number, nonce: 7, by: .seconds(60), at: Self.now + .seconds(50))
        #expect(extended.expiresAt == Self.now + .seconds(110))
        var handOut = ConsumerMachine.HandOut()
        machine.release(at: Self.now + .seconds(109), Self.rules)
        _ = machine.takeReady(into: &handOut, limit: 1, bytesMax: 1, at: Self.now + .seconds(109)) { _ in .there(bytes: 1) }
        #expect(handOut.count == 0)
        let second = try Self.fetch(&machine, at: Self.now + .seconds(110))
        #expect(second.jobs.numbers == [1])
        do {
            _ = try machine.extend(lease.number, nonce: 7, by: .seconds(1), at: Self.now + .seconds(111))
            Issue.record("a lease whose jobs went to another was extended")
        } catch { #expect(error.code == .fenced) }
    }

    @Test func P9_aClockThatJumpedBackHoldsNothingUp() throws {
        var machine = ConsumerMachine(at: Self.now)
        let lease = try Self.fetch(&machine, new: [1], visibility: .seconds(30))
        let earlier = Self.now - .days(3)
        var restarted = ConsumerMachine(position: 1, highWater: 1, lastLease: 1, leases: [lease], at: earlier)
        #expect(restarted.nextDueAt == earlier + .seconds(30))
        let again = try Self.fetch(&restarted, at: earlier + .seconds(30))
        #expect(again.jobs.numbers == [1])
    }

    /// A nack that is repeated is none the wiser; one that would have nothing come again is told so.
    @Test func P9_aWholeLeaseThatWasAckedCannotBeNacked() throws {
        var machine = ConsumerMachine(at: Self.now)
        func nack(_ machine: inout ConsumerMachine, _ lease: ConsumerLease) throws -> ConsumerMachine.Settled {
            machine.recall(lease)
            return try machine.nack(lease.number, nonce: 7, jobs: nil, delay: { _ in .zero }, reason: nil, at: Self.now, Self.rules)
        }
        let first = try Self.fetch(&machine, new: [1, 2, 3])
        _ = try machine.ack(first.number, nonce: 7, jobs: SequenceSet([1]))
        #expect(try nack(&machine, first) == .init(jobs: 2, repeated: 0, inHand: 0), "of a whole lease: what it still holds")
        #expect(try nack(&machine, first) == .init(jobs: 0, repeated: 2, inHand: 0), "and said again")
        let nothing = try machine.ack(first.number, nonce: 7, jobs: nil)
        #expect(nothing == .init(jobs: 0, repeated: 1, inHand: 0), "an ack of a whole lease leaves out what was nacked")
        let second = try Self.fetch(&machine)
        #expect(second.jobs.numbers == [2, 3])
        _ = try machine.ack(second.number, nonce: 7, jobs: nil)
        let error = try #require(throws: SluiceError.self) { _ = try nack(&machine, second) }
        #expect(error.code == .conflict && error.context["acked"] == "2")
        // Of what a filter kept back no worker knows: it changes nothing of this.
        let third = try Self.fetch(&machine, new: [4, 5, 6])
        try machine.sift(third.number, nonce: 7, skipped: SequenceSet([4]), refused: [(5, "no such field")])
        let acked = try machine.ack(third.number, nonce: 7, jobs: nil)
        #expect(acked == .init(jobs: 1, repeated: 0, inHand: 0))
        #expect(try #require(throws: SluiceError.self) { _ = try nack(&machine, third) }.code == .conflict)
    }

    @Test func P9_whatComesAgainOfADetachedTriggerIsADeadLetter() throws {
        var machine = ConsumerMachine(at: Self.now)
        let lease = try Self.fetch(&machine, new: [1, 2, 3])
        _ = try machine.nack(lease.number, nonce: 7, jobs: SequenceSet([1]), delay: { _ in .zero }, reason: nil, at: Self.now, Self.rules)
        machine.stored()
        let late = Self.now + .seconds(60)
        machine.release(at: late, Self.rules)
        var handOut = ConsumerMachine.HandOut()
        let more = machine.takeReady(into: &handOut, limit: 10, bytesMax: .max, at: late) { $0 == 3 ? .there(bytes: 1) : .detached }
        #expect(!more)
        #expect(handOut.shares.map(\.jobs) == [SequenceSet([3])])
        let dead = machine.unstored.dead
        #expect(dead.allSatisfy { $0.reason == "detached" && $0.attempts == 1 } && dead.map(\.jobs.count).reduce(0, +) == 2)
        #expect(machine.unacked == 1)
    }

    /// Leases may last for half a day: what was acked is to cost nothing for as long.
    @Test func P10_timersOfWhatIsSettledAreForgotten() throws {
        var machine = ConsumerMachine(at: Self.now)
        let held = try Self.fetch(&machine, new: [1], visibility: .hours(12))
        machine.stored()
        for job in 2...5000 as ClosedRange<Int64> {
            let lease = try Self.fetch(&machine, new: [job], visibility: .hours(12))
            machine.stored()
            _ = try machine.extend(held.number, nonce: 7, by: .hours(1), at: Self.now + .seconds(job))
            _ = try machine.ack(lease.number, nonce: 7, jobs: nil)
            machine.stored()
            try #require(machine.timers.count <= 2 + 64)
        }
        #expect(machine.unacked == 1)
        #expect(machine.nextDueAt.map { $0 <= Self.now + .seconds(5000) + .hours(1) } == true, "the one that is held has its timer")
        let again = try Self.fetch(&machine, at: Self.now + .seconds(5000) + .hours(1))
        #expect(again.jobs.numbers == [1])
    }

    /// A consumer that goes back behind many leases asks of each job whether one of these has it.
    @Test(.timeLimit(.minutes(1))) func P12_aRewindDoesNotLookThroughEveryLeaseForEachJob() throws {
        var machine = ConsumerMachine(at: Self.now)
        let count: Int64 = 50_000
        for job in 1...count {
            _ = try Self.fetch(&machine, new: [2 * job])
            machine.stored()
        }
        machine.rewind(to: 0)
        var new = 0
        for job in 1...2 * count where !machine.awaits(job) { new += 1 }
        #expect(new == Int(count))
        #expect(machine.unacked == Int(count) && machine.floor == 0)
    }

    @Test func P10_withTooManyUnackedNothingNewIsHandedOut() throws {
        var machine = ConsumerMachine(at: Self.now)
        let rules = ConsumerMachine.Rules(attemptsMax: 3, unackedMax: 3)
        #expect(machine.roomForNew(rules, limit: 10, ConsumerMachine.HandOut()) == 3)
        let lease = try Self.fetch(&machine, new: [1, 2, 3])
        #expect(machine.roomForNew(rules, limit: 10, ConsumerMachine.HandOut()) == 0)
        _ = try machine.ack(lease.number, nonce: 7, jobs: SequenceSet([2]))
        #expect(machine.roomForNew(rules, limit: 10, ConsumerMachine.HandOut()) == 1)
    }
}

@Suite struct SequenceSetTests {
    @Test func holdsTheLargestNumber() {
        var set = SequenceSet()
        for _ in 0..<3 { set.insert(Int64.max) }
        set.insert(Int64.max - 1)
        #expect(set.count == 2 && set.contains(Int64.max))
        set.remove(Int64.max)
        #expect(set.count == 1)
    }

    /// Against a plain set.
    @Test func actsLikeASet() throws {
        var random = ConsumerWorld.Random(state: 42)
        for _ in 0..<300 {
            var (set, plain) = (SequenceSet(), Set<Int64>())
            for _ in 0..<40 {
                let first = Int64(random.next(60))
                let run = SequenceSet.Run(first, first + Int64(random.next(5)))
                if random.chance(60) {
                    set.insert(run)
                    plain.formUnion(run.first...run.last)
                } else {
                    set.remove(run)
                    plain.subtract(run.first...run.last)
                }
                #expect(set.numbers == plain.sorted())
                #expect(set.count == plain.count)
                #expect(set.first == plain.min() && set.last == plain.max())
            }
            var (other, plainOther) = (SequenceSet(), Set<Int64>())
            for _ in 0..<10 {
                let number = Int64(random.next(60))
                other.insert(number)
                plainOther.insert(number)
            }
            #expect(set.intersection(other).numbers == plain.intersection(plainOther).sorted())
            #expect(set.subtracting(other).numbers == plain.subtracting(plainOther).sorted())
            for number in 0..<66 { #expect(set.contains(Int64(number)) == plain.contains(Int64(number))) }
            var bytes: [UInt8] = []
            set.encode(into: &bytes)
            other.encode(into: &bytes)
            var rest = bytes[...]
            let (first, second) = (SequenceSet(decoding: &rest), SequenceSet(decoding: &rest))
            #expect(first == set)
            #expect(second == other)
            #expect(rest.isEmpty)
        }
    }

    @Test func refusesWhatItDidNotWrite() {
        for bytes: [UInt8] in [
            [], [1], [1, 1], [2, 1, 0, 0, 0], [0xFF], [9, 1, 0], [1, 0x80], [1, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0],
        ] {
            var rest = bytes[...]
            let decoded = SequenceSet(decoding: &rest)
            #expect(decoded == nil, "\(bytes)")
        }
    }
}
