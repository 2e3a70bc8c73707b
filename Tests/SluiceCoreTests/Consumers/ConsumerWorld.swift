@testable import SluiceCore

/// A consumer with its workers, as one seed makes it: jobs are committed, workers fetch, ack, nack, extend, come late, come
/// twice, or never again; the store crashes before or after a call; people seek and replay. What the machine says is held
/// against a plain account of each job.
struct ConsumerWorld {
    struct Failure: Error, CustomStringConvertible {
        var description: String
    }
    struct Random {
        var state: UInt64
        mutating func next(_ bound: Int) -> Int {
            state &+= 0x9E37_79B9_7F4A_7C15
            var z = state
            z = (z ^ (z >> 30)) &* 0xBF58_476D_1CE4_E5B9
            z = (z ^ (z >> 27)) &* 0x94D0_49BB_1331_11EB
            return Int((z ^ (z >> 31)) % UInt64(bound))
        }
        mutating func chance(_ percent: Int) -> Bool { next(100) < percent }
    }
    /// A lease as a worker remembers it.
    struct Memory {
        var number: Int64
        var nonce: Int64
        var jobs: [Int64]
    }
    /// What happened to a job by the account.
    enum Fate: Equatable { case new, handedOut, acked, dead }

    var random: Random
    var machine: ConsumerMachine
    var now = Timestamp(seconds: 1000)
    var rules: ConsumerMachine.Rules
    /// Own jobs, by number; others' numbers are missing.
    var fates: [Int64: Fate] = [:]
    /// Which lease a job was handed out with last, and until when it was that worker's alone.
    var holder: [Int64: (lease: Int64, until: Timestamp)] = [:]
    var attempts: [Int64: Int] = [:]
    var lastJob: Int64 = 0
    var memories: [Memory] = []
    /// What is stored.
    var rows: (position: Int64, highWater: Int64, lastLease: Int64) = (0, 0, 0)
    var leaseRows: [Int64: ConsumerLease] = [:]
    var returnedRows: [Int64: ReturnedJobs] = [:]
    var replayedRows: Set<Int64> = []
    /// Dead letters that were being replayed when somebody went back behind them: they come by both ways.
    var twice: Set<Int64> = []
    /// What was acked or filtered out, by lease.
    var said: [Int64: Set<Int64>] = [:]
    /// Jobs whose trigger is this consumer's no longer.
    var detached: Set<Int64> = []
    let timersSpare: Int
    var handOuts = 0

    init(seed: UInt64) {
        random = Random(state: seed &* 7919)
        timersSpare = random.chance(50) ? 0 : 64
        rules = ConsumerMachine.Rules(attemptsMax: 1 + random.next(4), unackedMax: 3 + random.next(20))
        machine = ConsumerMachine(at: now)
        machine.timersSpare = timersSpare
    }

    // MARK: Steps

    mutating func run(steps: Int) throws {
        for _ in 0..<steps {
            try step()
            try check()
        }
        try drain()
    }

    private mutating func step() throws {
        switch random.next(20) {
        case 0..<4: commit()
        case 4..<9: try fetch()
        case 9..<13: try ack()
        case 13..<15: try nack()
        case 15: try extend()
        case 16: try giveBackOrSift()
        case 17: now = now + .seconds(Int64(1 + random.next(40)))
        case 18: crash()
        default: try meddle()
        }
    }

    private mutating func commit() {
        for _ in 0...random.next(6) {
            lastJob += 1
            if !random.chance(20) { fates[lastJob] = .new }
        }
    }

    private mutating func fetch() throws {
        let before = machine
        let limit = 1 + random.next(6)
        let highest = machine.highWater
        var handOut = ConsumerMachine.HandOut()
        machine.release(at: now, rules)
        let oldest = waiting.filter { !detached.contains($0) }.min()
        let theirs = detached
        let more = machine.takeReady(into: &handOut, limit: limit, bytesMax: 50, at: now) {
            theirs.contains($0) ? .detached : .there(bytes: 10)
        }
        if !more {
            let room = machine.roomForNew(rules, limit: limit, handOut)
            var (jobs, through) = (SequenceSet(), machine.position)
            while room > 0, through < lastJob {
                let job = through + 1
                if fates[job] != nil, !machine.awaits(job) {
                    if jobs.count >= room || handOut.bytes + (jobs.count + 1) * 10 > 50 { break }
                    jobs.insert(job)
                }
                through = job
            }
            machine.takeNew(jobs, through: through, into: &handOut)
        }
        let lease = machine.lease(
            handOut, nonce: Int64(random.next(1_000_000)), worker: nil, visibility: .seconds(Int64(5 + random.next(30))), at: now)
        // The call never happened, as far as anybody can tell.
        if random.chance(5) { return machine = before }
        try account(lease, oldest: oldest, highest: highest)
        store()
        // The answer is lost, and with it what the worker would have known.
        if let lease, !random.chance(10) { memories.append(Memory(number: lease.number, nonce: lease.nonce, jobs: lease.jobs.numbers)) }
    }

    /// Jobs that may be handed out again now, by the account of leases and what was nacked.
    private var waiting: [Int64] {
        machine.returned.values.filter { $0.dueAt <= now }.flatMap(\.jobs.numbers)
            + machine.leases.values.filter { $0.expiresAt <= now }.flatMap(\.heldJobs.numbers)
    }

    private mutating func account(_ lease: ConsumerLease?, oldest: Int64?, highest: Int64) throws {
        try noteDead()
        guard let lease else {
            if let oldest { throw Failure(description: "job \(oldest) may come again, and nothing was handed out") }
            return
        }
        handOuts += 1
        let jobs = lease.jobs.numbers
        if let oldest, jobs.min() != oldest, !jobs.contains(oldest) {
            throw Failure(description: "job \(oldest) waits to come again, and \(jobs) were handed out before it")
        }
        for share in lease.held {
            for job in share.jobs.numbers {
                if fates[job] == nil { throw Failure(description: "job \(job) is another's") }
                if fates[job] == .acked, !twice.contains(job) { throw Failure(description: "job \(job) was acked and is handed out again") }
                if fates[job] == .dead, !replayedRows.contains(job), !machine.replayed.contains(job), !twice.contains(job) {
                    throw Failure(description: "job \(job) is dead and is handed out again")
                }
                if detached.contains(job) { throw Failure(description: "job \(job) is detached and comes again") }
                if let held = holder[job], held.until > now { throw Failure(description: "job \(job) is in two valid leases") }
                if share.attempt > rules.attemptsMax { throw Failure(description: "job \(job) is handed out for time \(share.attempt)") }
                fates[job] = .handedOut
                holder[job] = (lease.number, lease.expiresAt)
                attempts[job] = share.attempt
            }
        }
    }

    private mutating func noteDead() throws {
        for dead in machine.unstored.dead {
            for job in dead.jobs.numbers {
                guard twice.contains(job) || fates[job] != .acked && (fates[job] != .dead || replayedRows.contains(job)) else {
                    throw Failure(description: "job \(job) is settled and becomes a dead letter")
                }
                if dead.reason == "exhausted", dead.attempts < rules.attemptsMax {
                    throw Failure(description: "job \(job) is exhausted after \(dead.attempts) attempts")
                }
                fates[job] = .dead
                holder[job] = nil
                replayedRows.remove(job)
            }
        }
    }

    /// A worker's lease, often an old one; sometimes one that was made up.
    private mutating func anyMemory() -> Memory? {
        guard !memories.isEmpty else { return nil }
        var memory = memories[random.chance(60) ? memories.count - 1 : random.next(memories.count)]
        if random.chance(3) { memory.nonce += 1 }
        return memory
    }

    private mutating func some(_ jobs: [Int64]) -> SequenceSet? {
        if random.chance(50) { return nil }
        var chosen = jobs.filter { _ in random.chance(50) }
        if random.chance(5) { chosen.append(Int64(1 + random.next(Int(lastJob)))) }
        return SequenceSet(chosen.isEmpty ? [jobs[0]] : chosen.sorted())
    }

    private mutating func ack() throws {
        guard let memory = anyMemory() else { return }
        let jobs = some(memory.jobs)
        let before = machine
        recall(memory.number)
        let known = machine.leases[memory.number]
        do {
            _ = try machine.ack(memory.number, nonce: memory.nonce, jobs: jobs)
        } catch {
            try refused(before)
            if error.code == .fenced, known?.nonce == memory.nonce,
                let theirs = jobs ?? known?.jobs, !theirs.numbers.contains(where: { holder[$0]?.lease != memory.number })
            {
                throw Failure(description: "an ack of lease \(memory.number) is refused, and nobody else has its jobs")
            }
            return
        }
        if known?.nonce != memory.nonce { throw Failure(description: "an ack with a lease that was made up is taken") }
        if random.chance(5) { return machine = before }
        let held = known?.heldJobs.numbers ?? []
        for job in (jobs ?? known?.jobs ?? SequenceSet()).numbers {
            guard memory.jobs.contains(job) else {
                throw Failure(description: "job \(job) is acked with a lease it was not handed out with")
            }
            guard held.contains(job) else {
                // Said before: nothing changes. Of a whole lease, what was nacked is not meant.
                let wasSaid = said[memory.number]?.contains(job) == true || jobs == nil && known?.nacked.contains(job) == true
                if wasSaid { continue }
                throw Failure(description: "an ack of job \(job) is taken, which lease \(memory.number) lost")
            }
            said[memory.number, default: []].insert(job)
            guard holder[job]?.lease == memory.number else { throw Failure(description: "job \(job) is acked by whom it was taken from") }
            fates[job] = .acked
            holder[job] = nil
            replayedRows.remove(job)
        }
        machine.dismiss(memory.number)
        store()
    }

    private mutating func nack() throws {
        guard let memory = anyMemory() else { return }
        let jobs = some(memory.jobs)
        let before = machine
        recall(memory.number)
        let seconds = Int64(random.next(3) * random.next(20))
        let known = machine.leases[memory.number]
        let held = known?.heldJobs.numbers ?? []
        do {
            _ = try machine.nack(
                memory.number, nonce: memory.nonce, jobs: jobs, delay: { _ in .seconds(seconds) }, reason: "no", at: now, rules)
        } catch {
            return try refused(before)
        }
        if let known, held.isEmpty, known.nacked.isEmpty, !known.jobs.isEmpty {
            throw Failure(description: "a nack of lease \(memory.number) is taken, of which nothing comes again")
        }
        if random.chance(5) { return machine = before }
        for job in jobs?.numbers ?? held where held.contains(job) { holder[job] = (-1, .distantPast) }
        machine.dismiss(memory.number)
        try noteDead()
        store()
    }

    private mutating func extend() throws {
        guard let memory = anyMemory() else { return }
        let before = machine
        recall(memory.number)
        do {
            let until = try machine.extend(memory.number, nonce: memory.nonce, by: .seconds(Int64(5 + random.next(30))), at: now).expiresAt
            for job in machine.leases[memory.number]?.heldJobs.numbers ?? [] { holder[job] = (memory.number, until) }
        } catch {
            return try refused(before)
        }
        machine.dismiss(memory.number)
        store()
    }

    private mutating func giveBackOrSift() throws {
        guard let memory = memories.last else { return }
        let before = machine
        recall(memory.number)
        let held = machine.leases[memory.number]?.heldJobs ?? SequenceSet()
        do {
            if random.chance(50) {
                try machine.giveBack(memory.number, nonce: memory.nonce, at: now)
                for job in held.numbers { holder[job] = (-1, .distantPast) }
            } else if let first = held.first, let last = held.last {
                let skipped = last > first ? SequenceSet(SequenceSet.Run(last, last)) : SequenceSet()
                try machine.sift(memory.number, nonce: memory.nonce, skipped: skipped, refused: [(first, "the filter failed")])
                for job in skipped.numbers {
                    said[memory.number, default: []].insert(job)
                    fates[job] = .acked
                    holder[job] = nil
                    replayedRows.remove(job)
                }
            }
        } catch {
            return try refused(before)
        }
        machine.dismiss(memory.number)
        try noteDead()
        store()
    }

    /// People: seek, replay, expire, detach.
    private mutating func meddle() throws {
        switch random.next(5) {
        case 0:
            let target = Int64(random.next(Int(lastJob) + 1))
            let replaying = machine.replayed
            machine.seek(to: target, at: now)
            for (job, fate) in fates where !replaying.contains(job) || fate == .acked {
                if job <= target { if fate == .new || fate == .handedOut { fates[job] = .acked } } else { fates[job] = .new }
                holder[job] = nil
            }
            for job in replaying.numbers {
                holder[job] = (-1, .distantPast)
                if job > target { twice.insert(job) }
            }
            // No longer this consumer's: nobody looks for them again.
            for job in detached where job > target && fates[job] == .new { fates[job] = nil }
        case 1:
            // Dead letters, and by a backfill what was acked as well; what is in hand or waits is left alone.
            let isAll = random.chance(50)
            let settled = fates.filter {
                $0.key <= machine.position && !detached.contains($0.key) && ($0.value == .dead || isAll && $0.value == .acked)
            }
            let chosen = SequenceSet(settled.map(\.key).sorted().filter { _ in random.chance(50) })
            let free = machine.withoutAwaited(chosen)
            guard free.numbers == chosen.numbers.filter({ !machine.awaits($0) }) else {
                throw Failure(description: "of \(chosen.numbers) these are said to be free: \(free.numbers)")
            }
            machine.replay(free, at: now)
            replayedRows.formUnion(free.numbers)
            for job in free.numbers { fates[job] = .handedOut }
        case 2:
            machine.expire(through: Int64(random.next(Int(lastJob) + 1)), and: SequenceSet(), at: now)
            try noteDead()
        case 3:
            let some = fates.filter { $0.value == .handedOut && !twice.contains($0.key) }.map(\.key).sorted()
            for job in some where random.chance(30) && !machine.replayed.contains(job) { detached.insert(job) }
        default:
            let through = machine.position + Int64(random.next(4))
            guard through <= lastJob, machine.position < through else { return }
            let jobs = fates.keys.filter { $0 > machine.position && $0 <= through && !machine.awaits($0) }
            machine.expireNew(SequenceSet(jobs.sorted()), through: through)
            try noteDead()
        }
        store()
    }

    // MARK: The store

    private mutating func recall(_ number: Int64) {
        if machine.leases[number] == nil, let row = leaseRows[number] { machine.recall(row) }
    }

    private mutating func store() {
        let changes = machine.unstored
        for number in changes.leases { leaseRows[number] = machine.leases[number] }
        for id in changes.returned { returnedRows[id] = machine.returned[id] }
        if changes.isHeaderChanged { rows = (machine.position, machine.highWater, machine.lastLease) }
        machine.stored()
    }

    /// The process dies: what is stored is read anew, through bytes.
    private mutating func crash() {
        let leases = leaseRows.values.filter(\.isOpen)
        machine = ConsumerMachine(
            position: rows.position, highWater: rows.highWater, lastLease: rows.lastLease, leases: leases.map(throughBytes),
            returned: Array(returnedRows.values), replayed: SequenceSet(replayedRows.sorted()), at: now)
        machine.timersSpare = timersSpare
    }

    private func throughBytes(_ lease: ConsumerLease) -> ConsumerLease {
        var bytes: [UInt8] = []
        lease.jobs.encode(into: &bytes)
        var rest = bytes[...]
        return ConsumerLease(
            number: lease.number, nonce: lease.nonce, worker: lease.worker, takenAt: lease.takenAt, expiresAt: lease.expiresAt,
            visibility: lease.visibility, jobs: SequenceSet(decoding: &rest) ?? SequenceSet(), held: lease.held, nacked: lease.nacked,
            lost: lease.lost)
    }

    // MARK: What must hold

    private mutating func refused(_ before: ConsumerMachine) throws {
        guard machine.unstored.isEmpty, machine.unacked == before.unacked, machine.position == before.position else {
            throw Failure(description: "a refusal changed something")
        }
        machine = before
    }

    /// Each job of the consumer is not handed out, or in exactly one place.
    private func check() throws {
        var places: [Int64: Int] = [:]
        for lease in machine.leases.values { for job in lease.heldJobs.numbers { places[job, default: 0] += 1 } }
        for group in machine.returned.values { for job in group.jobs.numbers { places[job, default: 0] += 1 } }
        if let twice = places.first(where: { $0.value > 1 }) { throw Failure(description: "job \(twice.key) is in \(twice.value) places") }
        guard machine.unacked == places.count else {
            throw Failure(description: "\(places.count) jobs are unacked, and the machine counts \(machine.unacked)")
        }
        guard machine.awaited.numbers == places.keys.sorted() else {
            throw Failure(description: "jobs \(places.keys.sorted()) are unacked, and the machine knows \(machine.awaited.numbers)")
        }
        guard machine.timers.count <= 2 * (machine.leases.count + machine.returned.count) + timersSpare else {
            throw Failure(
                description:
                    "\(machine.timers.count) timers of \(machine.leases.count) leases, \(machine.returned.count) groups that come again")
        }
        for (job, fate) in fates {
            switch fate {
            case .new where job <= machine.position: throw Failure(description: "job \(job) is passed over")
            case .handedOut where places[job] == nil: throw Failure(description: "job \(job) is lost")
            case .acked where places[job] != nil, .dead where places[job] != nil:
                throw Failure(description: "job \(job) is \(fate) and still waits")
            default: break
            }
        }
        if let floor = places.keys.min(), machine.floor != min(machine.position, floor - 1) {
            throw Failure(description: "the floor is \(machine.floor), and job \(floor) is unacked")
        }
    }

    /// With one worker who acks everything, all comes to an end: nothing is stuck beyond its time.
    private mutating func drain() throws {
        random = Random(state: 1)
        for round in 0..<2000 {
            now = now + .seconds(round < 3 ? 60 : 1)
            var handOut = ConsumerMachine.HandOut()
            machine.release(at: now, rules)
            let theirs = detached
            let more = machine.takeReady(into: &handOut, limit: 5, bytesMax: .max, at: now) {
                theirs.contains($0) ? .detached : .there(bytes: 1)
            }
            if !more {
                let room = machine.roomForNew(rules, limit: 5, handOut)
                let last = room > 0 ? min(lastJob, machine.position + Int64(room)) : machine.position
                let new = fates.keys.filter { $0 > machine.position && $0 <= last && !machine.awaits($0) }.sorted()
                machine.takeNew(SequenceSet(new), through: last, into: &handOut)
            }
            let lease = machine.lease(handOut, nonce: 0, worker: nil, visibility: .seconds(60), at: now)
            try account(lease, oldest: nil, highest: 0)
            store()
            if let lease {
                _ = try machine.ack(lease.number, nonce: 0, jobs: nil)
                for job in lease.jobs.numbers {
                    fates[job] = .acked
                    holder[job] = nil
                }
                store()
            } else if machine.unacked == 0, machine.position >= lastJob {
                break
            }
        }
        try check()
        if let left = fates.first(where: { $0.value == .new || $0.value == .handedOut }) {
            throw Failure(description: "job \(left.key) never came to an end: \(left.value)")
        }
    }
}
