import Foundation
import GRDB
import SluiceCore
import SluiceSQLite
import SluiceStore
import SluiceTesting
import Testing

/// What the disk does to the store: full, slow, gone in the middle of a commit.
@Suite struct DiskTests {
    private static let start = Timestamp(seconds: 1_700_000_000)

    private func prepare(_ store: SQLiteStore) async throws -> (trigger: StoredTrigger, connection: ConnectionID, fence: Fence) {
        try await store.apply(
            [
                .putConnection(name: "shop", connector: "demo", fields: [], sealedSecrets: [], settings: []),
                .putTrigger(
                    name: "orders", uid: "u", connection: "shop", type: "t", input: [], settings: [], topicKeys: ["a"], resets: false),
            ], namespace: .default, at: Self.start)
        let trigger = try #require(try await store.trigger(.default, named: "orders"))
        return (trigger, trigger.connection, try await store.acquireLease(shard: 0, holder: "test", at: Self.start))
    }

    private func webhook(_ connection: ConnectionID, _ topics: [TopicID], bytes: Int = 100) -> InboxEntry {
        InboxEntry(connection: connection, receivedAt: Self.start, body: [UInt8](repeating: 7, count: bytes), topics: topics)
    }

    private func page(_ trigger: StoredTrigger, _ fence: Fence, _ cycle: Int64, keys: Range<Int>) -> PageCommit {
        let end = CycleEnd(cause: .webhook, startedAt: Self.start, coveredSequence: .zero, safetyDueAt: Self.start)
        return PageCommit(
            fence: fence, trigger: trigger.id, generation: trigger.generation, cycle: cycle, page: 0, chunk: 0, cause: .webhook,
            records: keys.map {
                KeyedRecord(record: Record(bytes: [UInt8](repeating: 0x31, count: 200)[...]), dedupKey: Array("key\($0)".utf8))
            },
            completion: PageCompletion(cursor: Array("\(cycle)".utf8), end: end), at: Self.start)
    }

    @Test func P10_aFullDiskIsSaidAndNothingIsHalfKept() async throws {
        let directory = try TemporaryDirectory()
        let options = directory.options { $0.pagesMax = 120 }
        var store = try await TemporaryDirectory.open(options)
        let (trigger, connection, fence) = try await prepare(store)
        var acknowledged: Set<InboxSequence> = []
        var refusal: SluiceError?
        for _ in 0..<1000 {
            do {
                acknowledged.insert(try await store.append(webhook(connection, trigger.topics, bytes: 5000)).sequence)
            } catch {
                refusal = error as? SluiceError
                break
            }
        }
        #expect(refusal?.code == .diskFull)
        await #expect(throws: SluiceError.self) { _ = try await store.commitPage(page(trigger, fence, 1, keys: 0..<1000)) }
        #expect(try await store.trigger(.default, named: "orders")?.progress.cursor == nil)
        #expect(try await store.jobs(JobQuery()).jobs.isEmpty)
        #expect(Set(try await store.inbox(InboxQuery(limit: 1000)).map(\.sequence)) == acknowledged)
        // Room is made while the store runs on: old webhooks go, their pages are used again.
        let policy = RetentionPolicy(inbox: .zero)
        for _ in 0..<10 where try await store.prune(policy, at: Self.start + .days(1)).isPartial {}
        let more = try await store.append(webhook(connection, trigger.topics)).sequence
        #expect(more > acknowledged.max() ?? .zero)
        #expect(try await store.commitPage(page(trigger, fence, 1, keys: 0..<500)) == .committed(jobs: 500, lastPosition: JobPosition(500)))
        await store.close()
        store = try await TemporaryDirectory.open(directory.options())
        #expect(try await store.inbox(InboxQuery(limit: 1000)).map(\.sequence) == [more])
        #expect(try await store.jobs(JobQuery(limit: 1000)).jobs.count == 500)
        await store.close()
    }

    @Test func P10_whatDoesNotFitInTheQueueIsRefusedAtOnce() async throws {
        let directory = try TemporaryDirectory()
        let store = try await TemporaryDirectory.open(directory.options { $0.waitingAppendsMax = 20 })
        let (trigger, connection, _) = try await prepare(store)
        var outcomes: [Result<InboxReceipt, any Error>] = []
        var refused: [SluiceError] = []
        // How many wait at the same time is up to the machine: again, until they were too many.
        for _ in 0..<10 where refused.isEmpty {
            let round = await withTaskGroup(of: Result<InboxReceipt, any Error>.self) { group in
                for _ in 0..<2000 {
                    group.addTask {
                        do { return .success(try await store.append(webhook(connection, trigger.topics))) } catch { return .failure(error) }
                    }
                }
                return await group.reduce(into: []) { $0.append($1) }
            }
            outcomes += round
            refused = outcomes.compactMap { outcome -> SluiceError? in
                if case .failure(let error) = outcome { error as? SluiceError } else { nil }
            }
        }
        let kept = outcomes.compactMap { try? $0.get().sequence }
        #expect(kept.count + refused.count == outcomes.count)
        #expect(refused.allSatisfy { $0.code == .overloaded })
        #expect(!refused.isEmpty)
        #expect(Set(try await store.inbox(InboxQuery(limit: 20_000)).map(\.sequence)) == Set(kept))
        await store.close()
    }

    /// Copies the files aside while commits are under way, as a power cut would leave them, and opens the copy: what was
    /// acknowledged before the copy began is there, and each commit is there as a whole or not at all.
    @Test func P3_aCopyTakenInMidCommitHoldsWholeCommits() async throws {
        let directory = try TemporaryDirectory()
        let options = directory.options { $0.checkpointPages = 200 }
        let store = try await TemporaryDirectory.open(options)
        let (trigger, connection, fence) = try await prepare(store)
        let pageSize = 50
        try await withThrowingTaskGroup(of: Void.self) { group in
            group.addTask {
                for cycle in 1...120 {
                    let keys = (cycle - 1) * pageSize..<cycle * pageSize
                    _ = try await store.commitPage(page(trigger, fence, Int64(cycle), keys: keys))
                    _ = try await store.append(webhook(connection, trigger.topics))
                }
            }
            group.addTask {
                for number in 0..<12 {
                    let before = try await store.jobs(JobQuery(limit: 1, newestFirst: true)).jobs.first?.position ?? .zero
                    let copy = directory.path + "/copy\(number)"
                    try Self.copy(options.directory, to: copy)
                    try await Self.check(copy, atLeast: before, pageSize: pageSize)
                }
            }
            try await group.waitForAll()
        }
        await store.close()
    }

    /// A copy of both files as they are together at one moment. Commits only lengthen the log, so it holds unless the log
    /// began afresh or was copied into the database meanwhile: then it is taken again.
    private static func copy(_ source: String, to target: String) throws {
        for _ in 0..<100 {
            try? FileManager.default.removeItem(atPath: target)
            try FileManager.default.createDirectory(atPath: target, withIntermediateDirectories: false)
            let before = try (header(source), database(source))
            for name in ["sluice.db-wal", "sluice.db"] {
                try FileManager.default.copyItem(atPath: "\(source)/\(name)", toPath: "\(target)/\(name)")
            }
            if try (header(source), database(source)) == before { return }
        }
        Issue.record("no copy could be taken between two checkpoints")
    }

    private static func header(_ directory: String) throws -> Data {
        let file = try FileHandle(forReadingFrom: URL(fileURLWithPath: directory + "/sluice.db-wal"))
        defer { try? file.close() }
        return try file.read(upToCount: 32) ?? Data()
    }

    private static func database(_ directory: String) throws -> Data {
        try Data(contentsOf: URL(fileURLWithPath: directory + "/sluice.db"))
    }

    private static func check(_ directory: String, atLeast: JobPosition, pageSize: Int) async throws {
        let store = try await TemporaryDirectory.open(SQLiteOptions(directory: directory))
        let progress = try #require(try await store.trigger(.default, named: "orders")).progress
        let jobs = try await store.jobs(JobQuery(limit: 100_000)).jobs
        #expect(progress.lastPosition >= atLeast)
        #expect(jobs.map(\.position.rawValue) == Array(1..<progress.lastPosition.rawValue + 1))
        #expect(jobs.count % pageSize == 0)
        #expect(progress.cyclesCompleted == Int64(jobs.count / pageSize))
        #expect(progress.cursor == (jobs.isEmpty ? nil : Array("\(progress.cyclesCompleted)".utf8)))
        #expect(try await store.inbox(InboxQuery(limit: 1000)).count >= Int(progress.cyclesCompleted) - 1)
        await store.close()
        let queue = try DatabaseQueue(path: directory + "/sluice.db")
        #expect(try await queue.read { try String.fetchAll($0, sql: "PRAGMA integrity_check") } == ["ok"])
        try queue.close()
    }

    /// Whoever commits pages hears that webhooks wait for them, and that none does any more.
    @Test func recordsAreFewForAsLongAsWebhooksCome() async throws {
        let directory = try TemporaryDirectory()
        let store = try await TemporaryDirectory.open(directory.options())
        let (trigger, connection, fence) = try await prepare(store)
        _ = try await store.commitPage(page(trigger, fence, 1, keys: 0..<1000))
        #expect(store.recordsPerCommit == 1000, "no webhook waited for them")
        try await withThrowingTaskGroup(of: Void.self) { group in
            for _ in 0..<8 {
                group.addTask {
                    while !Task.isCancelled { _ = try await store.append(webhook(connection, trigger.topics)) }
                }
            }
            var (cycle, isFew) = (Int64(2), false)
            let end = ContinuousClock.now + .seconds(60)
            while !isFew, ContinuousClock.now < end {
                _ = try await store.commitPage(page(trigger, fence, cycle, keys: Int(cycle) * 1000..<Int(cycle + 1) * 1000))
                (cycle, isFew) = (cycle + 1, store.recordsPerCommit == 200)
            }
            #expect(isFew)
            group.cancelAll()
        }
        try await waitUntil("pages are committed whole again") { store.recordsPerCommit == 1000 }
        await store.close()
    }

    /// A backup was put back: the store is as it was, and its readers are further on.
    @Test func P9_aTokenFromAfterTheBackupIsToldAndSkipsNothing() async throws {
        let directory = try TemporaryDirectory()
        var store = try await TemporaryDirectory.open(directory.options())
        let (trigger, _, fence) = try await prepare(store)
        _ = try await store.commitPage(page(trigger, fence, 1, keys: 0..<3))
        let before = try await store.jobs(JobQuery(limit: 10)).next
        await store.close()
        let backup = try Data(contentsOf: URL(filePath: directory.path + "/data/sluice.db"))

        store = try await TemporaryDirectory.open(directory.options())
        let later = try await store.acquireLease(shard: 0, holder: "test", at: Self.start)
        _ = try await store.commitPage(page(trigger, later, 2, keys: 3..<6))
        let after = try await store.jobs(JobQuery(limit: 10)).next
        await store.close()
        try backup.write(to: URL(filePath: directory.path + "/data/sluice.db"))

        store = try await TemporaryDirectory.open(directory.options())
        let restored = store
        let error = try await #require(throws: SluiceError.self) { try await restored.jobs(JobQuery(after: after, limit: 10)) }
        #expect(error.code == .pastRetention && error.message.contains("ahead of the store"))
        let next = try #require(error.context["next"])
        #expect(try await store.jobs(JobQuery(after: next, limit: 10)).jobs.count == 3, "from the beginning")
        #expect(try await store.jobs(JobQuery(after: before, limit: 10)).jobs.isEmpty, "a token from before the backup goes on")
        await store.close()
    }

    @Test func P1_theDatabaseSyncsEachCommit() async throws {
        let directory = try TemporaryDirectory()
        let store = try await TemporaryDirectory.open(directory.options())
        // 2 is FULL: a commit returns only after the log was synced.
        #expect(try await store.writerSetting("synchronous") == 2)
        #expect(try await store.writerSetting("wal_autocheckpoint") == 0)
        #expect(try await store.readerSetting("wal_autocheckpoint") == 0)
        await store.close()
    }
}
