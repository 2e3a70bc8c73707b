import SluiceCore
import SluiceStore
import Synchronization

extension StoreConformance {
    static let jobs: [ConformanceCase] = [
        ConformanceCase("P9_aReaderMissesNothingWhileTwoTriggersCommit", readerMissesNothing),
        ConformanceCase("P9_tokensGoOnFromWhereTheyStand", tokens),
        ConformanceCase("P9_aTokenIsOfItsNamespace", tokenOfNamespace),
        ConformanceCase("P10_pagesOfJobsAreBounded", boundedPages),
        ConformanceCase("P9_jobsAreReadFromAPosition", fromPosition),
        ConformanceCase("P9_aTokenOfOneListServesAnother", tokenAcrossLists),
        ConformanceCase("P9_newestFirstReadsBackwards", newestFirst),
    ]

    /// Commits of two triggers, in flight at once, and two readers that follow tokens meanwhile: one of everything, one of
    /// one trigger.
    private static func readerMissesNothing(_ bench: inout StoreBench) async throws {
        let triggers = [try await bench.makeTrigger("one"), try await bench.makeTrigger("two", topicKeys: ["b"])]
        let fence = try await bench.lease()
        let here = bench
        let cycles: Int64 = 60
        let perCycle = 5
        let running = Countdown(triggers.count)
        let follow: @Sendable (TriggerID?) async throws -> [StoredJob] = { trigger in
            var seen: [StoredJob] = []
            var after: String?
            for _ in 0..<1_000_000 {
                let wasRunning = running.isRunning
                let page = try await here.store.jobs(JobQuery(trigger: trigger, after: after, limit: 3))
                seen += page.jobs
                after = page.next
                if page.jobs.isEmpty {
                    if !wasRunning { return seen }
                    await Task.yield()
                }
            }
            throw ConformanceFailure(description: "the reader never came to an end")
        }
        async let everything = follow(nil)
        async let ofOne = follow(triggers[0].id)
        try await withThrowingTaskGroup(of: Void.self) { group in
            for trigger in triggers {
                group.addTask {
                    defer { running.end() }
                    for number in 1...cycles {
                        let keys = (0..<perCycle).map { "\(trigger.name)-\(number)-\($0)" }
                        try await here.cycle(trigger, fence, number, keys: keys)
                    }
                }
            }
            try await group.waitForAll()
        }
        let all = try await everything
        try expectEqual(all.count, triggers.count * Int(cycles) * perCycle, "jobs that the reader saw")
        for trigger in triggers {
            let positions = all.filter { $0.trigger == trigger.id }.map(\.position.rawValue)
            try expectEqual(positions, Array(1...cycles * Int64(perCycle)), "positions of \(trigger.name), in their order")
        }
        try expectEqual(try await ofOne.map(\.position.rawValue), Array(1...cycles * Int64(perCycle)), "what the reader of one saw")
    }

    private static func tokens(_ bench: inout StoreBench) async throws {
        let trigger = try await bench.makeTrigger()
        let fence = try await bench.lease()
        let empty = try await bench.store.jobs(JobQuery())
        try expect(empty.jobs.isEmpty && !empty.more, "an empty store has jobs")
        try await bench.cycle(trigger, fence, 1, keys: ["a", "b", "c", "d"])
        let fromEmpty = try await bench.store.jobs(JobQuery(after: empty.next, limit: 3))
        try expectEqual(fromEmpty.jobs.count, 3, "jobs after the token of nothing")
        try expect(fromEmpty.more, "more is there")
        try expectEqual(fromEmpty.next, fromEmpty.jobs[2].token, "the page's token is its last job's")
        let second = try await bench.store.jobs(JobQuery(after: fromEmpty.jobs[0].token))
        try expectEqual(second.jobs.map(\.position.rawValue), [2, 3, 4], "after the first job")
        let last = try await bench.store.jobs(JobQuery(after: second.next))
        try expect(last.jobs.isEmpty && !last.more, "jobs after the last")
        try expectEqual(last.next, second.next, "a token that nothing follows stays")
        let store = bench.store
        for bad in ["", "x", "AAAA", "12", String(second.next.dropLast()), second.next + "A", String(repeating: "A", count: 5000), "é/+="] {
            try await expectError(.invalid, "the token \(bad.prefix(20))") { _ = try await store.jobs(JobQuery(after: bad)) }
        }
        try await bench.reopen()
        try expectEqual(try await bench.store.jobs(JobQuery(after: fromEmpty.next)).jobs.count, 1, "after reopening")
    }

    private static func tokenOfNamespace(_ bench: inout StoreBench) async throws {
        let trigger = try await bench.makeTrigger()
        try await bench.cycle(trigger, try await bench.lease(), 1, keys: ["a"])
        let token = try await bench.store.jobs(JobQuery()).next
        let store = bench.store
        try await expectError(.invalid, "a token of another namespace") {
            _ = try await store.jobs(JobQuery(namespace: NamespaceID(2), after: token))
        }
        try expectEqual(try await bench.store.jobs(JobQuery(namespace: NamespaceID(2))).jobs.count, 0, "another namespace's jobs")
    }

    private static func boundedPages(_ bench: inout StoreBench) async throws {
        let trigger = try await bench.makeTrigger()
        try await bench.cycle(trigger, try await bench.lease(), 1, keys: (0..<9).map { "key\($0)" })
        let size = try await bench.store.jobs(JobQuery(limit: 1)).jobs[0].record.count
        let some = try await bench.store.jobs(JobQuery(bytesMax: size * 3))
        try expectEqual(some.jobs.count, 3, "jobs within three records' bytes")
        try expect(some.more, "more is there")
        try expectEqual(try await bench.store.jobs(JobQuery(bytesMax: 1)).jobs.count, 1, "at least one job")
        let bare = try await bench.store.jobs(JobQuery(bytesMax: 1, includesRecords: false))
        try expectEqual(bare.jobs.count, 9, "jobs without records")
        try expect(bare.jobs.allSatisfy(\.record.isEmpty), "records nobody asked for")
    }

    private static func fromPosition(_ bench: inout StoreBench) async throws {
        let trigger = try await bench.makeTrigger()
        let other = try await bench.makeTrigger("other", topicKeys: ["b"])
        let fence = try await bench.lease()
        for number in 1...4 {
            try await bench.cycle(trigger, fence, Int64(number), keys: ["a\(number)", "b\(number)"])
            try await bench.cycle(other, fence, Int64(number), keys: ["c\(number)"])
        }
        let page = try await bench.store.jobs(JobQuery(trigger: trigger.id, fromPosition: JobPosition(6), limit: 2))
        try expectEqual(page.jobs.map(\.position.rawValue), [6, 7], "from position six")
        let rest = try await bench.store.jobs(JobQuery(trigger: trigger.id, after: page.next))
        try expectEqual(rest.jobs.map(\.position.rawValue), [8], "and on")
    }

    private static func tokenAcrossLists(_ bench: inout StoreBench) async throws {
        let trigger = try await bench.makeTrigger()
        let other = try await bench.makeTrigger("other", topicKeys: ["b"])
        let fence = try await bench.lease()
        for number in 1...3 {
            try await bench.cycle(trigger, fence, Int64(number), keys: ["a\(number)"])
            try await bench.cycle(other, fence, Int64(number), keys: ["b\(number)"])
        }
        let all = try await bench.allJobs()
        let afterOther = try await bench.store.jobs(JobQuery(trigger: trigger.id, after: all[1].token))
        try expectEqual(afterOther.jobs.map(\.position.rawValue), [2, 3], "of one trigger, after a job of another")
        let ofOne = try await bench.store.jobs(JobQuery(trigger: trigger.id, limit: 2))
        try expectEqual(try await bench.store.jobs(JobQuery(after: ofOne.next)).jobs.count, 3, "of all, after a job of one")
    }

    private static func newestFirst(_ bench: inout StoreBench) async throws {
        let trigger = try await bench.makeTrigger()
        try await bench.cycle(trigger, try await bench.lease(), 1, keys: (0..<7).map { "k\($0)" })
        for filter in [nil, trigger.id] {
            let first = try await bench.store.jobs(JobQuery(trigger: filter, limit: 3, newestFirst: true))
            try expectEqual(first.jobs.map(\.position.rawValue), [7, 6, 5], "newest")
            let second = try await bench.store.jobs(JobQuery(trigger: filter, after: first.next, limit: 9, newestFirst: true))
            try expectEqual(second.jobs.map(\.position.rawValue), [4, 3, 2, 1], "before them")
            try expect(first.more && !second.more, "more")
        }
    }
}

/// How many writers are still at work.
private final class Countdown: Sendable {
    private let count: Mutex<Int>
    init(_ count: Int) { self.count = Mutex(count) }
    var isRunning: Bool { count.withLock { $0 > 0 } }
    func end() { count.withLock { $0 -= 1 } }
}
