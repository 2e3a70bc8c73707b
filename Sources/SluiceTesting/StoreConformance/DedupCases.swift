import SluiceCore
import SluiceStore

extension StoreConformance {
    static let dedup: [ConformanceCase] = [
        ConformanceCase("P4_aKeyGivesOneJobInATrigger", oneJob),
        ConformanceCase("P4_aKeyGivesOneJobInLargePagesToo", oneJobInLargePages),
        ConformanceCase("P4_keysAreForgottenBelowTheFloorOnly", belowTheFloor),
        ConformanceCase("P4_aKeyThatCameAgainCountsByItsHigherMark", higherMark),
        ConformanceCase("P4_keysWithoutMarkAreForgottenByCycles", withoutMark),
        ConformanceCase("P4_aLongPauseForgetsNothing", longPause),
        ConformanceCase("P4_aCursorSetBackProtectsItsKeys", cursorSetBack),
        ConformanceCase("P4_aResetForgetsKeysAndKeepsPositions", reset),
        ConformanceCase("P4_aRecordKnownUnderAFormerKeyIsNoJob", formerKeys),
        ConformanceCase("P2_whatAFormerKeyBecameIsFound", formerJobs),
        ConformanceCase("P4_theHighestMarkOfAnyKeyIsKnown", highestMark),
        ConformanceCase("P4_whatComesFromBelowTheFloorKeepsItsKeys", lowerPart),
        ConformanceCase("P4_statesThatShareAVersionAreJobsWhileItRuns", states),
        ConformanceCase("P4_statesAreToldApartInLargePagesToo", statesInLargePages),
        ConformanceCase("P4_connectorTextsAreKeptWhileKeysNeedThem", connectorTexts),
    ]

    private static func formerJobs(_ bench: inout StoreBench) async throws {
        let trigger = try await bench.makeTrigger()
        let fence = try await bench.lease()
        try await bench.cycle(trigger, fence, 1, keys: ["a", "b"], mark: 7)
        try await bench.cycle(trigger, fence, 2, keys: ["b@2"], mark: 8)
        func found(_ lookups: [(String, [String])], jobsMax: Int = 100) async throws -> [String: FormerJob] {
            let jobs = try await bench.store.formerJobs(
                trigger.id, lookups.map { FormerLookup(key: StoreBench.bytes($0.0), formers: $0.1.map(StoreBench.bytes)) }, jobsMax: jobsMax
            )
            return Dictionary(uniqueKeysWithValues: jobs.map { (String(decoding: $0.key, as: UTF8.self), $0.value) })
        }
        let jobs = try await found([("a@1", ["older/a", "a"]), ("b@2", ["b"]), ("c@1", ["c"]), ("b", ["b"])])
        try expectEqual(jobs.keys.sorted(), ["a"], "the former keys of what is not known by its own")
        try expectEqual(jobs["a"]?.mark, 7, "its mark")
        try expectEqual(jobs["a"]?.record.map { Array($0.bytes) }, Array(StoreBench.record("a").record.bytes), "what its job holds")
        let near = try await found([("a@1", ["a"])], jobsMax: 1)
        try expect(near["a"] != nil && near["a"]?.record == nil, "known, and too far back")
        try expectEqual(try await found([]).count, 0, "of nothing")
        // Known by a former key, and by what it is keyed by then: its job is the one that it had.
        var renamed = bench.page(trigger, fence, cycle: 3, keys: ["a/new"], completion: bench.end())
        renamed.records[0].formerKeys = [StoreBench.bytes("a")]
        try expectEqual(try await bench.store.commitPage(renamed), .committed(jobs: 0, lastPosition: JobPosition(3)), "known")
        var again = bench.page(trigger, fence, cycle: 4, keys: ["a/newer"], completion: bench.end())
        again.records[0].formerKeys = [StoreBench.bytes("a/new")]
        try expectEqual(try await bench.store.commitPage(again), .committed(jobs: 0, lastPosition: JobPosition(3)), "known still")
        let through = try await found([("x", ["a/newer"]), ("y", ["a/new"])])
        for key in ["a/newer", "a/new"] {
            try expectEqual(through[key]?.record.map { Array($0.bytes) }, Array(StoreBench.record("a").record.bytes), "by \(key)")
        }
    }

    /// The committed cursor may lie below what is keyed: what an open cycle has read counts as well.
    private static func highestMark(_ bench: inout StoreBench) async throws {
        let trigger = try await bench.makeTrigger()
        let fence = try await bench.lease()
        try await bench.cycle(trigger, fence, 1, keys: ["a", "b"], mark: 7)
        try expectEqual(try await bench.trigger().progress.markedThrough, 7, "of a page")
        var open = bench.page(trigger, fence, cycle: 2, keys: ["c", "d", "e"], completion: nil)
        for (index, mark) in ([5, 90, nil] as [Int64?]).enumerated() { open.records[index].mark = mark }
        _ = try await bench.store.commitPage(open)
        try await bench.reopen()
        try expectEqual(try await bench.trigger().progress.markedThrough, 90, "of a page that was only begun")
        try await bench.cycle(trigger, fence, 3, keys: ["f"], mark: 20)
        try expectEqual(try await bench.trigger().progress.markedThrough, 90, "it never falls")
        let reset = try await bench.store.setCursor(
            trigger.id, generation: try await bench.trigger().generation, cursor: nil, at: bench.start)
        try expectEqual(reset.progress.markedThrough, 90, "another cursor forgets no key")
    }

    /// A part of the feed that is added while a cycle runs may lie below what is forgotten: its keys stay until that cycle has ended.
    private static func lowerPart(_ bench: inout StoreBench) async throws {
        let trigger = try await bench.makeTrigger()
        let fence = try await bench.lease()
        try await bench.cycle(trigger, fence, 1, keys: ["old"], mark: 100)
        try await bench.cycle(trigger, fence, 2, keys: ["new"], mark: 1000, floor: 900)
        try expectEqual(try await bench.prune(at: bench.start).dedupKeys, 1, "below the floor")
        try expectEqual(try await bench.trigger().progress.prunedBelow, 900, "what was forgotten")
        func page(_ chunk: Int, _ completion: PageCompletion? = nil) -> PageCommit {
            bench.page(trigger, fence, cycle: 3, page: 0, chunk: chunk, keys: ["x", "y"], mark: 50, completion: completion)
        }
        _ = try await bench.store.commitPage(page(0))
        try expectEqual(try await bench.prune(at: bench.start).dedupKeys, 0, "in the middle of the cycle")
        try expectEqual(
            try await bench.store.commitPage(page(0)), .committed(jobs: 0, lastPosition: JobPosition(4)), "the page, read again")
        _ = try await bench.store.commitPage(page(1, bench.end(floor: Int64.min)))
        try expectEqual(try await bench.prune(at: bench.start).dedupKeys, 0, "while everything may come again")
        try await bench.cycle(trigger, fence, 4, keys: [], floor: 800)
        try expectEqual(try await bench.prune(at: bench.start).dedupKeys, 2, "once it may not")
        try expectEqual(try await bench.trigger().progress.prunedBelow, 900, "the highest floor")
        let changed = try await bench.store.setCursor(
            trigger.id, generation: trigger.generation, cursor: StoreBench.bytes("1"), at: bench.start)
        try expectEqual(changed.progress.prunedBelow, nil, "whoever sets the cursor reads again from there")
    }

    private static func formerKeys(_ bench: inout StoreBench) async throws {
        let trigger = try await bench.makeTrigger()
        let fence = try await bench.lease()
        try expectEqual(try await bench.trigger().progress.keyOrigin, nil, "the origin before any")
        try await bench.cycle(trigger, fence, 1, keys: ["a", "b"])
        let origin = KeyOrigin(
            connector: "new",
            formers: [.init(connector: "old", mark: 7, cyclesCompleted: 1), .init(connector: "older", mark: nil, cyclesCompleted: 0)])
        func keyed(_ key: String, _ formers: [String]) -> KeyedRecord {
            var record = StoreBench.record(key)
            record.formerKeys = formers.map(StoreBench.bytes)
            return record
        }
        var commit = bench.page(trigger, fence, cycle: 2, keys: [], completion: bench.end())
        commit.records = [keyed("a@1", ["older/a", "a"]), keyed("c@1", ["c"]), keyed("b", ["b"]), keyed("d@1", [])]
        commit.keyOrigin = origin
        try expectEqual(
            try await bench.store.commitPage(commit), .committed(jobs: 2, lastPosition: JobPosition(4)), "a page keyed in two ways")
        try expectEqual(try await bench.keys(trigger.id), ["a", "b", "c@1", "d@1"], "jobs")
        try expectEqual(try await bench.trigger().progress.keyOrigin, origin, "the origin")
        // What was met under its former key is known by the new one from then on.
        try expectEqual(try await bench.cycle(trigger, fence, 3, keys: ["a@1", "c@1", "c"]), 1, "jobs by the new keys alone")
        try expectEqual(try await bench.trigger().progress.keyOrigin, origin, "the origin, which a page leaves as it is")
    }

    private static func state(_ key: String, _ state: String, open isOpen: Bool, mark: Int64? = nil) -> KeyedRecord {
        KeyedRecord(
            record: Record(bytes: bytes("{\"id\":\"\(key)\",\"state\":\"\(state)\"}")[...]), dedupKey: bytes(key), mark: mark,
            state: RecordState(digest: bytes(state), isOpen: isOpen))
    }

    private static func bytes(_ text: String) -> [UInt8] { StoreBench.bytes(text) }

    /// A version that is a time of whole seconds stays while a record changes again within one.
    private static func states(_ bench: inout StoreBench) async throws {
        let trigger = try await bench.makeTrigger()
        let fence = try await bench.lease()
        var cycle: Int64 = 0
        func commit(_ records: [KeyedRecord], _ jobs: Int, _ what: String) async throws {
            cycle += 1
            var commit = bench.page(trigger, fence, cycle: cycle, keys: [], completion: bench.end())
            commit.records = records
            guard case .committed(let made, _) = try await bench.store.commitPage(commit) else {
                throw ConformanceFailure(description: "\(what) was not committed")
            }
            try expectEqual(made, jobs, "jobs of \(what)")
        }
        try await commit([state("a@1", "x", open: true), state("b@1", "x", open: false)], 2, "new records")
        try await commit([state("a@1", "x", open: true), state("b@1", "x", open: true)], 0, "the same again")
        try await commit([state("a@1", "y", open: true), state("a@1", "y", open: true)], 1, "another state, twice in a page")
        try await commit([state("a@1", "x", open: true), state("a@1", "y", open: true)], 0, "both states again")
        try await commit([state("b@1", "y", open: true)], 0, "another state of what was over when it was read")
        try await commit([state("a@1", "z", open: false)], 1, "the last state, once the version is over")
        try await commit([state("a@1", "w", open: false), state("a@1", "v", open: true)], 0, "what changes without its version")
        try await commit([state("c@1", "x", open: true)], 1, "one more")
        try await commit(
            [state("c@1", "x", open: false), state("c@1", "y", open: false)], 0, "it as it was, then changed without its version")
        let keys = ["a@1", "b@1", "a@1@state:y", "a@1@state:z", "c@1"]
        try expectEqual(try await bench.keys(trigger.id), keys, "the keys of the jobs")
        // Keys of another trigger and of another version say nothing.
        try await commit([state("a@2", "x", open: true)], 1, "another version")
        // A record that is known under a former key may change again as well.
        var former = state("d@1", "x", open: true)
        former.formerKeys = [bytes("a@1")]
        try await commit([former], 0, "what is known under a former key")
        former = state("d@1", "y", open: true)
        former.formerKeys = [bytes("a@1")]
        try await commit([former], 1, "another state of it")
    }

    private static func statesInLargePages(_ bench: inout StoreBench) async throws {
        let trigger = try await bench.makeTrigger()
        let fence = try await bench.lease()
        for (cycle, (isOpen, text, jobs)) in [(true, "x", 230), (true, "y", 230), (false, "y", 0), (false, "z", 0)].enumerated() {
            var commit = bench.page(trigger, fence, cycle: Int64(cycle) + 1, keys: [], completion: bench.end())
            commit.records = (0..<230).map { state("k\($0)", text, open: isOpen, mark: 5) }
            guard case .committed(let made, _) = try await bench.store.commitPage(commit) else {
                throw ConformanceFailure(description: "page \(cycle) was not committed")
            }
            try expectEqual(made, jobs, "jobs of page \(cycle)")
        }
    }

    private static func connectorTexts(_ bench: inout StoreBench) async throws {
        let trigger = try await bench.makeTrigger()
        let fence = try await bench.lease()
        let (store, start) = (bench.store, bench.start)
        func keep(_ hash: String, _ days: Int64) async throws {
            try await store.keepConnectorText(StoreBench.bytes("text of \(hash)"), hash: hash, at: start + .days(days))
        }
        for hash in ["now", "former", "nobody's"] { try await keep(hash, 0) }
        try await store.keepConnectorText(StoreBench.bytes("another"), hash: "now", at: start)
        var commit = bench.page(trigger, fence, cycle: 1, keys: ["a"], completion: bench.end())
        commit.keyOrigin = KeyOrigin(connector: "now", formers: [.init(connector: "former", mark: 1, cyclesCompleted: 0)])
        _ = try await store.commitPage(commit)
        try expectEqual(try await bench.trigger().progress.prunedBelow, nil, "nothing is forgotten yet")
        try await keep("young", 2)
        for (hash, expected) in [("now", "text of now"), ("former", "text of former"), ("nobody's", nil), ("young", "text of young")] {
            let text = try await store.connectorText(hash: hash)
            try expectEqual(text.map { String(decoding: $0, as: UTF8.self) }, expected, "the text \(hash)")
        }
        // What the former one keyed is told by nobody once it is let go of below the floor, but not where it was pushed out.
        func keyed(_ cycle: Int64, _ formers: [(String, Int64)], floor: Int64?) async throws -> Int64? {
            var without = bench.page(trigger, fence, cycle: cycle, keys: ["b"], completion: bench.end(floor: floor))
            without.keyOrigin = KeyOrigin(connector: "now", formers: formers.map { .init(connector: $0, mark: $1, cyclesCompleted: 0) })
            _ = try await store.commitPage(without)
            return try await bench.trigger().progress.prunedBelow
        }
        try expectEqual(try await keyed(2, [("later", 9)], floor: 5), nil, "pushed out while there was no floor")
        try expectEqual(try await keyed(3, [("old", 1)], floor: 5), nil, "pushed out above the floor")
        try expectEqual(try await keyed(4, [], floor: 5), 2, "let go of below the floor")
        try expectEqual(try await keyed(5, [], floor: 4), 2, "for good")
    }

    private static func oneJob(_ bench: inout StoreBench) async throws {
        let trigger = try await bench.makeTrigger()
        let other = try await bench.makeTrigger("other", topicKeys: ["b"])
        let fence = try await bench.lease()
        try expectEqual(try await bench.cycle(trigger, fence, 1, keys: ["x", "y", "x", "y", "x"]), 2, "jobs of keys twice in a page")
        try expectEqual(try await bench.cycle(trigger, fence, 2, keys: ["y", "z", "x"]), 1, "jobs of keys in a later page")
        try expectEqual(try await bench.cycle(other, fence, 1, keys: ["x", "y"]), 2, "jobs of the keys in another trigger")
        try expectEqual(try await bench.keys(trigger.id), ["x", "y", "z"], "jobs of the trigger")
        try expectEqual(try await bench.keys(other.id), ["x", "y"], "jobs of the other")
    }

    /// A store may write many rows at once where all are new: what is known may stand anywhere among them, and in its own page.
    private static func oneJobInLargePages(_ bench: inout StoreBench) async throws {
        let trigger = try await bench.makeTrigger()
        try await bench.apply([StoreBench.destination("hook"), .attach(trigger: "orders", destination: "hook", from: nil)])
        let fence = try await bench.lease()
        var expected: [String] = []
        func new(_ count: Int) -> [String] {
            let keys = (0..<count).map { "k\(expected.count + $0)" }
            expected += keys
            return keys
        }
        var cycle: Int64 = 0
        func commit(_ keys: [String], _ jobs: Int, _ what: String) async throws {
            cycle += 1
            try expectEqual(try await bench.cycle(trigger, fence, cycle, keys: keys, mark: cycle), jobs, "jobs of \(what)")
        }
        try await commit(new(1), 1, "one record")
        try await commit(new(230), 230, "many new records")
        for place in [0, 1, 49, 50, 51, 99, 100, 149, 199] {
            var keys = new(200)
            keys.insert("k\(place)", at: place)
            try await commit(keys, 200, "a page with one known record at \(place)")
            keys = new(200)
            keys.insert(keys[place], at: place)
            try await commit(keys, 200, "a page that has its record \(place) twice")
        }
        let known = Array(expected.prefix(300))
        try await commit(known, 0, "a page of known records")
        try await commit(known.flatMap { [$0] + new(1) }, 300, "known and new ones in turns")
        let all = try await bench.allJobs(trigger.id)
        try expectEqual(all.map { String(decoding: $0.dedupKey, as: UTF8.self) }, expected, "jobs, in the order of the feed")
        try expectEqual(all.map(\.position.rawValue), (1...Int64(expected.count)).map { $0 }, "positions")
        try expectEqual(all.map(\.record), expected.map { Array(StoreBench.record($0).record.bytes) }, "records")
        let hook = try await bench.destination("hook")
        let claimed = try await bench.store.claimDeliveries(hook, limit: 10_000, at: bench.start, hiddenUntil: bench.start + .minutes(1))
        try expectEqual(claimed.map(\.job.position), all.map(\.position), "deliveries")
    }

    private static func belowTheFloor(_ bench: inout StoreBench) async throws {
        let trigger = try await bench.makeTrigger()
        let other = try await bench.makeTrigger("other", topicKeys: ["b"])
        let fence = try await bench.lease()
        for mark in 1...6 { try await bench.cycle(trigger, fence, Int64(mark), keys: ["k\(mark)"], mark: Int64(mark * 10)) }
        try await bench.cycle(other, fence, 1, keys: ["k1"], mark: 10)
        let later = bench.start + .days(1000)
        try expectEqual(try await bench.prune(at: later).dedupKeys, 0, "keys forgotten without a floor, however old")
        try await bench.cycle(trigger, fence, 7, keys: [], floor: 30)
        try expectEqual(try await bench.prune(RetentionPolicy(rowsPerBatchMax: 1), at: later).dedupKeys, 2, "keys below the floor")
        try expectEqual(
            try await bench.cycle(trigger, fence, 8, keys: (3...6).map { "k\($0)" }, mark: 60), 0, "jobs of keys at or above the floor")
        try expectEqual(try await bench.cycle(trigger, fence, 9, keys: ["k1"], mark: 10), 1, "a key that was forgotten")
        try expectEqual(try await bench.cycle(other, fence, 2, keys: ["k1"], mark: 10), 0, "another trigger's floor")
    }

    /// The key names no version, so the same record comes again with a later mark.
    private static func higherMark(_ bench: inout StoreBench) async throws {
        let trigger = try await bench.makeTrigger()
        let fence = try await bench.lease()
        try await bench.cycle(trigger, fence, 1, keys: ["k"], mark: 10)
        try await bench.cycle(trigger, fence, 2, keys: ["k"], mark: 50)
        try await bench.cycle(trigger, fence, 3, keys: ["k"], mark: 20, floor: 40)
        try expectEqual(try await bench.prune(at: bench.start).dedupKeys, 0, "keys forgotten")
        try expectEqual(try await bench.cycle(trigger, fence, 4, keys: ["k"], mark: 50), 0, "jobs of the key")
    }

    private static func withoutMark(_ bench: inout StoreBench) async throws {
        let trigger = try await bench.makeTrigger()
        let fence = try await bench.lease()
        try await bench.cycle(trigger, fence, 1, keys: ["once", "again"])
        let kept = DedupRetention.cyclesKept
        for number in 2...kept { try await bench.cycle(trigger, fence, number, keys: number == 100 ? ["again"] : []) }
        try await bench.cycle(trigger, fence, kept + 1, keys: [])
        try expectEqual(try await bench.prune(at: bench.start).dedupKeys, 0, "keys after \(kept) more cycles")
        try await bench.cycle(trigger, fence, kept + 2, keys: [])
        try expectEqual(try await bench.prune(at: bench.start).dedupKeys, 1, "keys after one more")
        try expectEqual(try await bench.cycle(trigger, fence, kept + 3, keys: ["again"]), 0, "jobs of the key that was returned later")
        try expectEqual(try await bench.cycle(trigger, fence, kept + 4, keys: ["once"]), 1, "jobs of the key that was not")
    }

    private static func longPause(_ bench: inout StoreBench) async throws {
        let trigger = try await bench.makeTrigger()
        let fence = try await bench.lease()
        try await bench.cycle(trigger, fence, 1, keys: ["x"])
        try await bench.cycle(trigger, fence, 2, keys: ["y"], mark: 100, floor: 90)
        let paused = try await bench.set(trigger, .paused)
        let later = bench.start + .days(400)
        let report = try await bench.prune(at: later)
        try expectEqual(report.dedupKeys, 0, "keys forgotten in a pause")
        try expectEqual(report.jobs, 2, "jobs older than the retention")
        let resumed = try await bench.set(paused, .running)
        try expectEqual(try await bench.cycle(resumed, fence, 3, keys: ["x"], at: later), 0, "doubled after the pause")
        try expectEqual(try await bench.cycle(resumed, fence, 4, keys: ["y", "z"], mark: 100, at: later), 1, "jobs after the pause")
        try expectEqual(try await bench.allJobs().map(\.position), [JobPosition(3)], "positions go on")
    }

    private static func cursorSetBack(_ bench: inout StoreBench) async throws {
        let trigger = try await bench.makeTrigger()
        let fence = try await bench.lease()
        try await bench.cycle(trigger, fence, 1, keys: ["low"], mark: 10)
        try await bench.cycle(trigger, fence, 2, keys: ["high"], mark: 100, floor: 50)
        let changed = try await bench.store.setCursor(
            trigger.id, generation: trigger.generation, cursor: StoreBench.bytes("5"), at: bench.start)
        try expectEqual(try await bench.prune(at: bench.start).dedupKeys, 0, "keys forgotten while the cursor is back")
        try expectEqual(try await bench.cycle(changed, fence, 3, keys: ["low", "high"], mark: 100), 0, "jobs of what is read again")
    }

    private static func reset(_ bench: inout StoreBench) async throws {
        let trigger = try await bench.makeTrigger()
        let fence = try await bench.lease()
        try await bench.cycle(trigger, fence, 1, keys: ["x", "y"], mark: 9, floor: 3)
        try await bench.apply([StoreBench.trigger("orders", type: "other_type", resets: true)])
        let changed = try await bench.trigger()
        try expectEqual(changed.type, "other_type", "type")
        try expect(changed.generation > trigger.generation, "a reset did not raise the generation")
        try expectEqual(changed.uid, trigger.uid, "uid")
        try expectEqual(changed.progress.cursor, nil, "cursor")
        try expectEqual(changed.progress.dedupFloor, nil, "floor")
        try expectEqual(try await bench.cycle(changed, fence, 2, keys: ["x"]), 1, "jobs of a key that was forgotten")
        _ = try await bench.prune(at: bench.start)
        try expectEqual(try await bench.cycle(changed, fence, 3, keys: ["x"]), 0, "jobs of the key again")
        try expectEqual(try await bench.allJobs().map(\.position.rawValue), [1, 2, 3], "positions go on")
    }
}
