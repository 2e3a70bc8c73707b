import SluiceConnectors
import SluiceCore
import SluicePolling
import SluiceStore
import SluiceTesting
import Synchronization
import Testing

/// Backfills over a real store and a provider in memory, beside live polls, with crashes wherever a commit is made.
@Suite struct BackfillTests {
    private static let start: Int64 = 1_700_000_000

    /// What a history needs: a bench whose trigger has polled everything there was.
    private static func with(
        _ feed: WindowFeed, _ time: ManualTime, _ body: @Sendable (Bench) async throws -> Void
    ) async throws {
        try await Bench.with([BenchConnection(connector: feed, url: "http://feed.test")], time: time) { bench in
            try await waitUntil("the live poll", seconds: 180) { try await bench.trigger().progress.lastSuccessAt != nil }
            try await body(bench)
        }
    }

    private static func items(_ count: Int, every seconds: Int64 = 10) -> [WindowFeed.Item] {
        (0..<count).map { WindowFeed.Item(id: "r\($0)", at: start - Int64(count - $0) * seconds) }
    }

    private static func key(_ item: WindowFeed.Item) -> String { "\(item.id)@\(item.at)" }

    private static func limits() -> BackfillService.Limits {
        var limits = BackfillService.Limits(recordsPerCommitMax: 3, jobsPerCommitMax: 11, keysPerComparisonMax: 13)
        limits.pace = BackfillPace(shareMax: 1, redeliveriesPerSecondMax: 1_000_000)
        return limits
    }

    private static func wanted(
        _ trigger: StoredTrigger, _ from: Int64, _ to: Int64, _ mode: BackfillMode, keys: BackfillRequest.KeysKept = .all,
        beyond: Bool = false
    ) -> BackfillRequest {
        BackfillRequest(
            trigger: trigger, window: BackfillWindow(from: Timestamp(seconds: from), to: Timestamp(seconds: to)), mode: mode, isAudit: true,
            isBeyondRetention: beyond, keysKept: keys)
    }

    /// Runs services, one after the other where `lives` says so, until the backfill has ended.
    private static func run(
        _ bench: Bench, _ id: BackfillID, moving time: Bool = true, lives: @escaping @Sendable () -> Bool = { true }
    ) async throws -> StoredBackfill {
        for _ in 0..<500 {
            let service = BackfillService(polling: bench.service, limits: limits())
            try await withThrowingTaskGroup(of: Void.self) { group in
                group.addTask { await service.run() }
                try await waitUntil("the backfill \(id)", seconds: 180, everyMilliseconds: 2) {
                    let stored = try await bench.store.backfill(.default, id)
                    if stored?.state.hasEnded != false || !lives() { return true }
                    if stored?.retryAt != nil, time {
                        bench.time.advance(by: .seconds(30))
                        service.lookAgain()
                    }
                    return false
                }
                group.cancelAll()
            }
            if let stored = try await bench.store.backfill(.default, id), stored.state.hasEnded { return stored }
        }
        throw SluiceError(.internalError, "the backfill never ended")
    }

    private static func begin(_ bench: Bench, _ wanted: BackfillRequest) async throws -> BackfillID {
        try await BackfillService(polling: bench.service, limits: limits()).start(wanted).id
    }

    private static func keys(_ bench: Bench) async throws -> [String] {
        let trigger = try await bench.trigger().id
        var keys: [String] = []
        var after: String?
        for _ in 0..<1000 {
            let page = try await bench.store.jobs(JobQuery(trigger: trigger, after: after, limit: 500))
            keys += page.jobs.map { String(decoding: $0.dedupKey, as: UTF8.self) }
            after = page.next
            if !page.more { break }
        }
        return keys
    }

    // MARK: Histories

    /// Records that appeared behind the cursor, records that went, dedup keys that were forgotten, a provider that fails, processes
    /// that are killed before and after a commit: in the end everything of the window is a job, once, and the numbers are right.
    @Test(arguments: 1...24) func P4_whateverHappensABackfillDoublesAndLosesNothing(_ seed: UInt64) async throws {
        let time = ManualTime()
        let feed = try WindowFeed(time: time, pageSize: 5)
        let random = Random(seed)
        let all = Self.items(60 + random.below(60))
        // What the live polls never saw: it will appear behind their cursor.
        let hidden = Set(all.dropLast(3).filter { _ in random.below(10) == 0 })
        feed.put(all.filter { !hidden.contains($0) })
        try await Self.with(feed, time) { bench in
            let live = try await Self.keys(bench)
            #expect(live.count == all.count - hidden.count)
            feed.put(Array(hidden))
            // Of what is a job some are gone at the provider; most keys are forgotten.
            let gone = Set(all.filter { !hidden.contains($0) && random.below(12) == 0 })
            feed.remove { gone.contains($0) }
            _ = try await bench.store.prune(RetentionPolicy(), at: time.now())
            let from = Self.start - Int64(random.below(900)) - 100
            let to = from + Int64(random.below(Int(Self.start - from))) + 1
            let isIn = { (item: WindowFeed.Item) in item.at >= from && item.at < to }
            let mode: BackfillMode = seed % 3 == 0 ? .dryRun : seed % 3 == 1 ? .missingOnly : .replayAll
            let id = try await Self.begin(bench, Self.wanted(try await bench.trigger(), from, to, mode, keys: .unknown))
            let kills = Mutex(0)
            bench.store.faultBackfills { _ in
                switch random.below(12) {
                case 0: return .notMade
                case 1: return .notHeardOf
                case 2:
                    kills.withLock { $0 += 1 }
                    return nil
                default: return nil
                }
            }
            feed.setFault { request, _ in
                switch random.below(15) {
                case 0: return HTTPReply(status: 500, headers: [], body: [])
                case 1: return HTTPReply(status: 401, headers: [], body: [])
                case 2 where request.url.contains("page="): return HTTPReply(status: 400, headers: [], body: Array("expired".utf8))
                default: return nil
                }
            }
            let ended = try await Self.run(bench, id) {
                kills.withLock { kills in
                    defer { kills = 0 }
                    return kills == 0
                }
            }
            #expect(ended.state == .done, "\(ended.lastError ?? "")")
            let window = all.filter { isIn($0) && !gone.contains($0) }
            let missing = window.filter { hidden.contains($0) }
            let counts = ended.counts
            #expect(counts[.provider] == Int64(window.count))
            #expect(counts[.known] == Int64(window.count - missing.count))
            #expect(counts[.missing] == Int64(missing.count))
            #expect(counts[.repaired] == (mode == .dryRun ? 0 : Int64(missing.count)))
            #expect(counts[.extra] == Int64(all.filter { isIn($0) && gone.contains($0) }.count))
            #expect(counts[.kept] == Int64(window.count - (mode == .dryRun ? missing.count : 0)))
            #expect(counts[.keyOnly] == 0)
            let keys = try await Self.keys(bench)
            #expect(Set(keys).count == keys.count, "no job twice")
            #expect(Set(keys) == Set(live).union(mode == .dryRun ? [] : missing.map(Self.key)))
            let differences = try await bench.store.backfillDifferences(
                BackfillDifferenceQuery(backfill: id, kind: .missing, limit: 1000))
            #expect(Set(differences.map { String(decoding: $0.key, as: UTF8.self) }) == Set(missing.map(Self.key)))
        }
    }

    /// The live cursor, its cycle and its page state are the same bytes after a backfill as before.
    @Test func P3_theLiveCursorIsUntouched() async throws {
        let time = ManualTime()
        let feed = try WindowFeed(time: time)
        feed.put(Self.items(50))
        try await Self.with(feed, time) { bench in
            let before = try await bench.trigger().progress
            feed.put([WindowFeed.Item(id: "late", at: Self.start - 300)])
            let id = try await Self.begin(bench, Self.wanted(try await bench.trigger(), Self.start - 400, Self.start, .missingOnly))
            let ended = try await Self.run(bench, id, moving: false)
            #expect(ended.counts[.repaired] == 1)
            let after = try await bench.trigger().progress
            #expect(after.cursor == before.cursor && after.cursorMark == before.cursorMark && after.openCycle == before.openCycle)
            #expect(after.dedupFloor == before.dedupFloor && after.lastCycle == before.lastCycle)
            #expect(after.pollsByCause == before.pollsByCause)
            #expect(after.lastPosition.rawValue == before.lastPosition.rawValue + 1)
        }
    }

    /// Live changes become jobs while a backfill runs, and none of either is doubled.
    @Test func P4_liveChangesAndABackfillMakeEachJobOnce() async throws {
        let time = ManualTime()
        let feed = try WindowFeed(time: time, pageSize: 3)
        let old = Self.items(200, every: 2)
        feed.put(old.filter { $0.at % 3 != 0 || $0.at > Self.start - 20 })
        try await Self.with(feed, time) { bench in
            feed.put(old.filter { $0.at % 3 == 0 && $0.at <= Self.start - 20 })
            let id = try await Self.begin(bench, Self.wanted(try await bench.trigger(), Self.start - 1000, Self.start + 30, .missingOnly))
            let added = Mutex(0)
            let trigger = try await bench.trigger()
            bench.store.faultBackfills { commit in
                // With each piece a new record, and one in the window.
                let number = added.withLock { count in
                    count += 1
                    return count
                }
                feed.put([WindowFeed.Item(id: "new\(number)", at: Self.start - 1 + Int64(number))])
                bench.service.pollNow(trigger)
                return nil
            }
            let ended = try await Self.run(bench, id)
            bench.store.faultBackfills(nil)
            bench.service.pollNow(trigger)
            try await waitUntil("the live changes", seconds: 180) { try await Self.keys(bench).count >= feed.items.count }
            let keys = try await Self.keys(bench)
            #expect(keys.sorted() == feed.items.map(Self.key).sorted(), "each once")
            #expect(ended.counts[.provider] == ended.counts[.kept] + ended.counts[.keyOnly])
        }
    }

    /// A record that changes while an audit reads: before its page is read the provider no longer lists it in the window, afterwards it
    /// does not matter any more. Each is counted once, and what was there before is named.
    @Test func g_recordsThatChangeMeanwhileAreCountedOnce() async throws {
        let time = ManualTime()
        let feed = try WindowFeed(time: time, pageSize: 5)
        let all = Self.items(60)
        feed.put(all)
        try await Self.with(feed, time) { bench in
            let trigger = try await bench.trigger()
            let (read, unread) = (all[2], all[50])
            let id = try await Self.begin(bench, Self.wanted(trigger, Self.start - 1000, Self.start, .missingOnly))
            let pages = Mutex(0)
            bench.store.faultBackfills { commit in
                guard case .page = commit.work else { return nil }
                let page = pages.withLock { count in
                    count += 1
                    return count
                }
                if page == 5 {
                    feed.remove { $0.id == read.id || $0.id == unread.id }
                    feed.put([WindowFeed.Item(id: read.id, at: Self.start + 5), WindowFeed.Item(id: unread.id, at: Self.start + 6)])
                    bench.service.pollNow(trigger)
                }
                return nil
            }
            let ended = try await Self.run(bench, id)
            bench.store.faultBackfills(nil)
            #expect(ended.counts[.provider] == 59 && ended.counts[.kept] == 59 && ended.counts[.missing] == 0)
            #expect(ended.counts[.extra] == 1)
            let extra = try await bench.store.backfillDifferences(BackfillDifferenceQuery(backfill: id, kind: .extra))
            #expect(extra.map { String(decoding: $0.key, as: UTF8.self) } == [Self.key(unread)])
            let statement = BackfillStatement.text(ended.window, ended.mode, ended.counts, notes: ended.notes)
            #expect(statement.contains("the provider had 59 records, Sluice has 59 of them, 0 repaired. Nothing is missing."))
            #expect(statement.contains("1 more jobs of this time that the provider no longer lists"), "\(statement)")
            bench.service.pollNow(trigger)
            try await waitUntil("the changes are jobs", seconds: 180) { try await Self.keys(bench).count == 62 }
            #expect(Set(try await Self.keys(bench)).count == 62, "none is doubled")
        }
    }

    /// Jobs that retention removed: those whose keys are kept are known by them, the others count as missing, and the sum is right.
    @Test func g_anAuditPastRetentionSaysWhatItCanKnow() async throws {
        let time = ManualTime()
        let feed = try WindowFeed(time: time)
        let old = Self.items(30)
        feed.put(old)
        try await Self.with(feed, time) { bench in
            time.advance(by: .days(40))
            feed.put([WindowFeed.Item(id: "new", at: time.now().seconds - 5)])
            bench.service.lookAgain()
            bench.service.pollNow(try await bench.trigger())
            try await waitUntil("the new one", seconds: 180) { try await Self.keys(bench).contains { $0.hasPrefix("new@") } }
            _ = try await bench.store.prune(RetentionPolicy(), at: time.now())
            #expect(try await Self.keys(bench).count == 1, "jobs older than their time are gone")
            let id = try await Self.begin(
                bench, Self.wanted(try await bench.trigger(), Self.start - 1000, time.now().seconds, .dryRun, keys: .unknown))
            let ended = try await Self.run(bench, id)
            let counts = ended.counts
            #expect(ended.state == .done && counts[.provider] == 31 && counts[.kept] == 1 && counts[.extra] == 0)
            #expect(counts[.keyOnly] + counts[.missing] == 30, "\(counts[.keyOnly]) by key, \(counts[.missing]) missing")
            let statement = BackfillStatement.text(ended.window, ended.mode, counts, notes: ended.notes)
            #expect(
                statement.contains("the provider had 31 records, Sluice has \(1 + counts[.keyOnly]) of them, 0 repaired."), "\(statement)")
            #expect(statement.contains("were removed by retention"), "\(statement)")
        }
    }

    // MARK: What is refused, and what ends it

    @Test func P4_whatReachesPastRetentionSaysSoFirst() async throws {
        let time = ManualTime()
        let feed = try WindowFeed(time: time)
        feed.put(Self.items(30))
        try await Self.with(feed, time) { bench in
            let trigger = try await bench.trigger()
            time.advance(by: .days(40))
            _ = try await bench.store.prune(RetentionPolicy(), at: time.now())
            #expect(try await Self.keys(bench).isEmpty)
            let old = Self.wanted(trigger, Self.start - 200, Self.start, .missingOnly, keys: .from(Self.start))
            let error = await #expect(throws: SluiceError.self) { try await Self.begin(bench, old) }
            #expect(error?.code.rawValue == "needs_confirmation" && error?.message.contains("--beyond-retention") == true)
            // What lies above the floor is known by its keys; what was removed is older than a later window.
            _ = try await Self.end(bench, Self.wanted(trigger, Self.start, Self.start + 10, .missingOnly, keys: .from(Self.start)))
            _ = try await Self.end(bench, Self.wanted(trigger, Self.start + 3600, Self.start + 3610, .missingOnly, keys: .unknown))
            let looked = try await Self.end(bench, Self.wanted(trigger, Self.start - 200, Self.start, .dryRun, keys: .from(Self.start)))
            #expect(looked.notes.first?.contains("were removed by retention") == true)
            _ = try await Self.end(
                bench, Self.wanted(trigger, Self.start - 200, Self.start, .missingOnly, keys: .from(Self.start), beyond: true))
        }
    }

    private static func end(_ bench: Bench, _ wanted: BackfillRequest) async throws -> StoredBackfill {
        let id = try await begin(bench, wanted)
        return try await bench.store.commandBackfill(.default, id, .cancel, at: bench.time.now())
    }

    @Test func aSecondOneAndATriggerThatIsNotRunningAreRefused() async throws {
        let time = ManualTime()
        let feed = try WindowFeed(time: time)
        feed.put(Self.items(3))
        try await Self.with(feed, time) { bench in
            let wanted = Self.wanted(try await bench.trigger(), Self.start - 100, Self.start, .missingOnly)
            _ = try await Self.begin(bench, wanted)
            let second = await #expect(throws: SluiceError.self) { try await Self.begin(bench, wanted) }
            #expect(second?.code == .conflict && second?.message.contains("backfill cancel 1") == true)
            try await bench.command(.stop)
            let stopped = Self.wanted(try await bench.trigger(), Self.start - 100, Self.start, .missingOnly)
            let error = await #expect(throws: SluiceError.self) { try await Self.begin(bench, stopped) }
            #expect(error?.message.contains("start it first") == true)
        }
    }

    @Test func aProviderThatFailsIsWaitedForAndSaysSo() async throws {
        let time = ManualTime()
        let feed = try WindowFeed(time: time)
        feed.put(Self.items(20))
        try await Self.with(feed, time) { bench in
            feed.setFault { _, _ in HTTPReply(status: 401, headers: [], body: []) }
            let id = try await Self.begin(bench, Self.wanted(try await bench.trigger(), Self.start - 100, Self.start, .missingOnly))
            let service = BackfillService(polling: bench.service, limits: Self.limits())
            try await withThrowingTaskGroup(of: Void.self) { group in
                group.addTask { await service.run() }
                try await waitUntil("it waits", seconds: 180) { try await bench.store.backfill(.default, id)?.retryAt != nil }
                let waiting = try #require(try await bench.store.backfill(.default, id))
                #expect(service.waitsFor(waiting)?.reason.contains("refuses the connection's credentials") == true)
                #expect(waiting.state == .running)
                feed.setFault(nil)
                // Who resumes it wants it tried now.
                _ = try await bench.store.commandBackfill(.default, id, .resume, at: time.now())
                service.lookAgain()
                try await waitUntil("it is done", seconds: 180) { try await bench.store.backfill(.default, id)?.state == .done }
                group.cancelAll()
            }
        }
    }

    @Test func aTriggerThatReadsSomethingElseEndsItAndAPauseDoesNot() async throws {
        let time = ManualTime()
        let feed = try WindowFeed(time: time, pageSize: 2)
        feed.put(Self.items(20))
        try await Self.with(feed, time) { bench in
            let id = try await Self.begin(bench, Self.wanted(try await bench.trigger(), Self.start - 1000, Self.start, .missingOnly))
            try await bench.command(.pause)
            #expect(try await Self.run(bench, id).state == .done, "the trigger's generation was raised meanwhile")
            try await bench.command(.resume)
            let second = try await Self.begin(bench, Self.wanted(try await bench.trigger(), Self.start - 1000, Self.start, .missingOnly))
            try await bench.store.apply(
                [
                    .putTrigger(
                        name: "items", uid: "uid-items", connection: "shop", type: "item", input: Array(#"{"other":1}"#.utf8),
                        settings: Array("{}".utf8), topicKeys: [""], resets: false)
                ], namespace: .default, at: time.now())
            let ended = try await Self.run(bench, second)
            #expect(ended.state == .failed && ended.lastError?.contains("reads something else now") == true)
        }
    }

    /// As long as it waits no dedup key of its trigger is forgotten.
    @Test func P10_aFullQuarantineEndsIt() async throws {
        let time = ManualTime()
        let feed = try WindowFeed(time: time)
        feed.put(Self.items(5))
        try await Self.with(feed, time) { bench in
            bench.store.beforeBackfill { if case .page = $0.work { throw QuarantineLimits.full } }
            let id = try await Self.begin(bench, Self.wanted(try await bench.trigger(), Self.start - 1000, Self.start, .missingOnly))
            let ended = try await Self.run(bench, id)
            #expect(ended.state == .failed && ended.lastError?.contains("make jobs of them with --retry") == true)
        }
    }

    @Test func whatNobodyHearsOfIsGivenUp() async throws {
        let time = ManualTime()
        let feed = try WindowFeed(time: time)
        feed.put(Self.items(5))
        try await Self.with(feed, time) { bench in
            let id = try await Self.begin(bench, Self.wanted(try await bench.trigger(), Self.start - 1000, Self.start, .missingOnly))
            _ = try await bench.store.commandBackfill(.default, id, .pause, at: time.now())
            time.advance(by: .days(31))
            let ended = try await Self.run(bench, id)
            #expect(ended.state == .failed && ended.lastError?.contains("nothing came of it for 30 days") == true)
        }
    }

    @Test func aFeedWithoutATimeAndALambdaAreRefused() async throws {
        let time = ManualTime()
        let feed = try WindowFeed(time: time, cursor: #"{"field":"at","parameter":"since","type":"integer","order":"asc"}"#)
        try await Self.with(feed, time) { bench in
            let error = await #expect(throws: SluiceError.self) {
                try await Self.begin(bench, Self.wanted(try await bench.trigger(), Self.start - 10, Self.start, .missingOnly))
            }
            #expect(error?.message.contains("cannot be read by time") == true)
        }
        try await Bench.with(
            [BenchConnection(connector: try SluicePollingTests.feed(poll: feedPoll), url: "http://127.0.0.1:1/")], time: time
        ) {
            bench in
            let error = await #expect(throws: SluiceError.self) {
                try await Self.begin(bench, Self.wanted(try await bench.trigger(), Self.start - 10, Self.start, .missingOnly))
            }
            #expect(error?.message.contains("is code") == true)
        }
    }
}

/// Draws from many tasks; the same seed draws the same numbers, in whatever order they are asked for.
private final class Random: Sendable {
    private let state: Mutex<UInt64>
    init(_ seed: UInt64) { state = Mutex(seed &* 0x9E37_79B9_7F4A_7C15 | 1) }

    func below(_ count: Int) -> Int {
        state.withLock { value in
            value ^= value << 13
            value ^= value >> 7
            value ^= value << 17
            return Int(value % UInt64(count))
        }
    }
}
