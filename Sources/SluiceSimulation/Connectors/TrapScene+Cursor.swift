import SluiceConnectors
import SluiceCore

/// Traps of timestamps and clocks.
extension TrapScene {
    mutating func spring(_ trap: ConnectorTrap) async -> TrapOutcome {
        switch trap {
        case .equalTimestamps: await equalTimestamps()
        case .pageEdgeTie: await ties(from: pageSize - 1, count: random.int(2...3))
        case .pageWideTie: await ties(from: random.int(0...2), count: 2 * pageSize + 1)
        case .lateVisibility: await lateVisibility()
        case .roundedPrecision: await roundedPrecision()
        case .clockSkew: await clockSkew()
        case .futureDated: await futureDated()
        case .noZone: if await isZoneRefused() { return outcome }
        case .zoneChange: await zoneChange()
        case .unordered: await unordered()
        case .changedAgain: await changedAgain()
        case .changedAtOnce: await changedAtOnce()
        case .shiftingPages: await shiftingPages()
        case .crash: await crash()
        case .expiringToken: await expiringToken()
        case .deletedAnchor: await deletedAnchor()
        case .retentionGap: await retentionGap()
        case .poisonRecord: await poisonRecord()
        case .keptStart: await keptStart()
        case .idleFeed: await idleFeed()
        case .laterPartition: await laterPartition()
        case .lyingValidator: await lyingValidator()
        case .idReset: await idReset()
        }
        return await settled()
    }

    private mutating func equalTimestamps() async {
        guard await begin() else { return }
        for _ in 0..<3 {
            await pass(seconds: 5)
            let place = await feed { feed in
                feed.add()
                return feed.placeNow - feed.placeNow % feed.granule
            }
            guard await read() else { return }
            // The same moment to the source, and not there a moment ago.
            await feed { feed in
                feed.add(place: place)
                feed.add(place: place + feed.granule)
            }
            await pass(seconds: random.chance(0.5) ? 0.2 : 3)
            guard await read() else { return }
        }
    }

    private mutating func ties(from first: Int, count: Int) async {
        guard await begin() else { return }
        await add(first)
        await pass(seconds: 1)
        let place = await feed { $0.placeNow }
        for _ in 0..<count { await feed { $0.add(place: place) } }
        await add(random.int(1...3))
        await pass(seconds: 1)
        await read()
    }

    private mutating func lateVisibility() async {
        guard await begin() else { return }
        let hidden = subject.toleranceSeconds * 0.8
        await pass(seconds: 1)
        await feed { $0.add(visibleAt: $0.now + Int64(hidden * 1000)) }
        for _ in 0..<4 {
            await pass(seconds: hidden / 4)
            await feed { $0.add() }
            guard await read() else { return }
        }
    }

    private mutating func roundedPrecision() async {
        await feed { $0.mischief.isFine = true }
        guard await begin() else { return }
        for _ in 0..<4 {
            for _ in 0..<random.int(2...4) {
                let step = random.unit() * 0.3
                await pass(seconds: step)
                await feed { feed in
                    let extra = Int64(feed.random.int(0...999))
                    feed.add(place: feed.placeNow + (feed.placesPerMark == 1000 ? extra : 0))
                }
            }
            // Microseconds of what was added last have passed.
            await pass(seconds: 0.01)
            guard await read() else { return }
        }
    }

    private mutating func clockSkew() async {
        run.skew = [-10_800_000, 10_800_000, 40_000, -3000][random.int(0...3)]
        await add(3)
        guard await begin() else { return }
        for _ in 0..<3 {
            await add(2)
            await pass(seconds: 1)
            guard await read() else { return }
        }
    }

    private mutating func futureDated() async {
        guard await begin() else { return }
        let days = Int64(random.int(1...400))
        await feed { $0.add(place: $0.placeNow + days * 86_400 * $0.placesPerSecond) }
        for _ in 0..<3 {
            await add(2)
            await pass(seconds: 1)
            guard await read() else { return }
        }
    }

    /// To refuse such times loudly is right; to lose what has them is not.
    private mutating func isZoneRefused() async -> Bool {
        await feed { $0.mischief.isZoneless = true }
        await add(3)
        await pass(seconds: 1)
        if case .failed = await run.cycle() { return true }
        // Whoever guesses goes on from a time that has not come yet, or from one long ago.
        for _ in 0..<2 {
            await pass(seconds: 600)
            await add(2)
            await pass(seconds: 1)
            guard await read() else { return false }
        }
        return false
    }

    /// For an hour the clocks on the wall show what they have shown before: as text, later times sort below earlier ones.
    private mutating func zoneChange() async {
        await feed { $0.mischief.zoneChangesAt = $0.placeNow + 5400 * $0.placesPerSecond }
        guard await begin() else { return }
        for _ in 0..<9 {
            await pass(seconds: Double(random.int(500...1100)))
            await add(random.int(1...2))
            await pass(seconds: 1)
            guard await read() else { return }
        }
    }

    /// While it is read, records change on pages that were read already, and on those to come.
    private mutating func unordered() async {
        guard await begin() else { return }
        for _ in 0..<3 {
            await add(4 * pageSize + random.int(1...3))
            await pass(seconds: 1)
            await feed { $0.mischief = StandInFeed.Mischief(shifts: true, millisecondsPerPage: 2500) }
            guard await follow() else { return }
            await feed { $0.mischief = StandInFeed.Mischief() }
            await pass(seconds: 1)
            guard await read() else { return }
        }
    }

    private mutating func changedAgain() async {
        if subject.listsChanges { await addOld(2) }
        guard await begin() else { return }
        await add(3)
        guard await read() else { return }
        var id = 0
        for round in 0..<3 {
            if round == 2 {
                // What tells states of a record apart by their bytes is over, and the reader has seen that: the key alone counts.
                await pass(seconds: subject.statesSettledSeconds)
                guard await read() else { return }
            } else {
                id = old.count + random.int(1...3)
            }
            let changed = id
            await pass(seconds: 5)
            await feed { $0.touch(changed) }
            await pass(seconds: 2)
            guard await read() else { return }
        }
        guard subject.isAboutNew else { return }
        let jobs = run.jobs
        let again = await feed { feed in Dictionary(grouping: jobs.keys) { feed.items[$0].id }.filter { $0.value.count > 1 }.keys.sorted() }
        if let id = again.first {
            observe("new-by-updated")
            fail("record \(id) became a job again when it changed, and it is not new")
        }
        await touchOld()
    }

    /// A record from before the trigger began changes: that it was never a job does not make it new.
    private mutating func touchOld() async {
        for id in old.sorted() {
            let known = run.jobs
            guard await feed({ feed in !known.keys.contains { feed.items[$0].id == id } }) else { continue }
            await pass(seconds: 5)
            await feed { $0.touch(id) }
            await pass(seconds: 2)
            guard await read() else { return }
            let jobs = run.jobs
            guard await feed({ feed in jobs.keys.contains { feed.items[$0].id == id } }) else { continue }
            observe("new-by-updated")
            return fail("record \(id), older than the trigger, became a job when it changed, and it is not new")
        }
    }

    /// Read, changed and read again, all within what the version shows as one time; then left alone for long.
    private mutating func changedAtOnce() async {
        guard await begin() else { return }
        await add(3)
        guard await read() else { return }
        for _ in 0..<3 {
            await pass(seconds: Double(random.int(5...90)))
            // To the start of the next second.
            await feed { $0.now += 1000 - $0.now % 1000 }
            let id = random.int(1...3)
            let isRead = random.chance(0.8)
            for _ in 0..<random.int(2...3) {
                await feed { $0.touch(id) }
                await pass(seconds: 0.1)
                if isRead, await !read() { return }
                await pass(seconds: random.unit() * 0.2)
            }
            // What was read while it was new comes again once it is old.
            for _ in 0..<random.int(1...3) {
                await pass(seconds: [0.5, 8, 20, 45, 200][random.int(0...4)])
                guard await read() else { return }
            }
        }
    }

    /// The default start is taken once: what comes after the first poll is read, however late the second one is.
    private mutating func keptStart() async {
        guard await follow() else { return }
        await pass(seconds: 60)
        await add(2)
        await pass(seconds: Double(random.int(3...72)) * 3600)
        await read()
    }

    /// Nothing new: what is asked for must not follow the clock, nor hold what the last cycle's pages were found by.
    private mutating func idleFeed() async {
        await add(2 * pageSize + 1)
        guard await begin() else { return }
        for _ in 0..<3 {
            await pass(seconds: 1800)
            let number = run.cycles + 1
            guard await read() else { return }
            guard let first = await feed({ feed in feed.exchanges.first { $0.cycle == number } }) else { continue }
            if first.hasPosition {
                observe("page-token-kept")
                fail("a new cycle begins with the page token of the one before")
            }
            let isOrderless = subject.rules.cursor == nil
            let perSecond = await feed { $0.placesPerSecond }
            if let bound = first.bound, let newest = first.newest, !isOrderless, subject.rules.cursor?.marksPerSecond != nil,
                bound > newest + 60 * perSecond
            {
                observe("clock-as-cursor")
                fail("it asks from a clock, \((bound - newest) / perSecond) s above the newest record: what shows up late is lost")
            }
        }
        await add(2)
        await pass(seconds: 1)
        await read()
    }
}
