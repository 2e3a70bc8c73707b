import SluiceConnectors
import SluiceCore

/// Traps of pages, tokens and crashes.
extension TrapScene {
    private mutating func backlog() async { await add(4 * pageSize + random.int(0...2)) }

    mutating func shiftingPages() async {
        guard await begin() else { return }
        for _ in 0..<2 {
            await backlog()
            await pass(seconds: 1)
            await feed { $0.mischief.shifts = true }
            guard await follow() else { return }
            await feed { $0.mischief.shifts = false }
            await pass(seconds: 1)
            guard await read() else { return }
        }
    }

    /// Dies at each step of a cycle, one after the other.
    mutating func crash() async {
        guard await begin() else { return }
        for step in 0..<10 {
            await backlog()
            await pass(seconds: 1)
            let crash = TrapRun.Crash(page: step / 2, isAfterCommit: step % 2 == 1)
            guard await read(dying: crash) else { return }
            run.restart(forgetsPage: random.chance(0.3))
            if random.chance(0.5) { await add(1) }
            await pass(seconds: Double(random.int(0...20)))
            guard await read() else { return }
        }
    }

    mutating func expiringToken() async {
        guard await begin() else { return }
        await backlog()
        await pass(seconds: 1)
        let further = random.int(2...4)
        await feed { $0.mischief.tokensExpireAtAnswer = $0.answers + further }
        await read()
    }

    mutating func deletedAnchor() async {
        guard await begin() else { return }
        await backlog()
        await pass(seconds: 1)
        // The last record of each page goes once it was shown: those that were are jobs, or never were.
        let further = random.int(1...2)
        await feed { $0.mischief.anchorsDeleted = further }
        guard await follow(dying: random.chance(0.5) ? TrapRun.Crash(page: further, isAfterCommit: true) : nil) else { return }
        await feed { $0.mischief.anchorsDeleted = 0 }
        guard await read() else { return }
        // Between two cycles, too.
        await feed { feed in
            if let newest = feed.latest.keys.max() { feed.delete(newest) }
        }
        await add(2)
        await pass(seconds: 1)
        await read()
    }

    /// While nobody looks a key changes twice and what was in between is forgotten: that cannot be had any more, and is said.
    private mutating func compaction() async {
        await add(2)
        guard await begin() else { return }
        await add(1)
        await feed { feed in
            feed.touch(1)
            feed.touch(1)
            feed.compact()
        }
        await add(random.int(0...5))
        await pass(seconds: 1)
        guard await read() else { return }
        if !run.warnings.contains(where: { $0.hasPrefix("gap:") }) {
            fail("the source forgot changes that were never read, and nothing says so")
        }
    }

    mutating func retentionGap() async {
        if subject.dialect == .etcd { return await compaction() }
        guard await begin(), let retention = subject.retention else { return }
        await feed { $0.mischief.retentionMilliseconds = retention.milliseconds }
        await add(2)
        await pass(seconds: Double(retention.milliseconds) / 1000 + 86_400)
        await add(2)
        guard await read() else { return }
        // The server itself sees the gap where the trigger type says how long the source keeps things.
        if subject.type.retention == nil, !run.warnings.contains(where: { $0.hasPrefix("gap:") }) {
            fail("the source dropped records that were never read, and nothing says so: declare retention_seconds")
        }
    }

    /// The source is started again between two polls: its ids count from 1.
    mutating func idReset() async {
        guard await begin() else { return }
        await add(random.int(2...5))
        guard await read() else { return }
        await feed { $0.beginAnew() }
        await add(random.int(1...7))
        await pass(seconds: 1)
        guard await read() else { return }
        await add(2)
        await pass(seconds: 1)
        await read()
    }

    mutating func poisonRecord() async {
        guard await begin() else { return }
        await add(1)
        let faults: [StandInFeed.Fault] = subject.rules.cursor == nil ? [.noID] : StandInFeed.Fault.allCases
        let fault = faults[random.int(0...faults.count - 1)]
        await feed { $0.add(fault: fault) }
        await add(2)
        await pass(seconds: 1)
        guard await read() else { return }
        await add(2)
        await pass(seconds: 1)
        await read()
    }

    /// It holds records from before it was found, and gets more.
    mutating func laterPartition() async {
        guard await begin() else { return }
        await add(2)
        await pass(seconds: 1)
        guard await read() else { return }
        for _ in 0..<random.int(1...3) {
            await pass(seconds: 20)
            await feed { $0.add(partition: 1) }
        }
        await pass(seconds: Double(random.int(60...1800)))
        await feed { $0.addPartition() }
        for _ in 0..<3 {
            await pass(seconds: 5)
            await feed { feed in
                feed.add()
                feed.add(partition: 1)
            }
            await pass(seconds: 1)
            guard await read() else { return }
        }
    }

    /// A day of it: by then whoever relies on such answers must have read the list whole.
    mutating func lyingValidator() async {
        let kinds = StandInFeed.Validator.allCases
        let kind = kinds[random.int(0...kinds.count - 1)]
        await feed { $0.mischief.validator = kind }
        guard await begin() else { return }
        await add(random.chance(0.5) ? 1 : 2 * pageSize)
        for _ in 0..<6 {
            await pass(seconds: 600)
            guard await follow() else { return }
            await feed { feed in
                feed.add()
                if feed.random.chance(0.5) { feed.add() }
            }
            await pass(seconds: random.chance(0.5) ? 0.4 : 61)
            guard await follow() else { return }
            await feed { $0.add() }
        }
        await pass(seconds: 86_500)
        await read()
    }
}
