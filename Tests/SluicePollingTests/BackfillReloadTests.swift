import SluiceCore
import SluicePolling
import SluiceStore
import SluiceTesting
import Synchronization
import Testing

/// A connector is exchanged while a backfill reads.
@Suite struct BackfillReloadTests {
    private static func limits() -> BackfillService.Limits {
        var limits = BackfillService.Limits(recordsPerCommitMax: 3)
        limits.pace = BackfillPace(shareMax: 1, redeliveriesPerSecondMax: 1_000_000)
        return limits
    }

    /// Between two of its pages the other connector comes, whose keys are others, and the live poll commits a record by it. The
    /// backfill finds that record later.
    @Test func P4_aConnectorExchangedDuringABackfillDoublesNothing() async throws {
        let time = ManualTime()
        let server = FeedServer(clock: time)
        server.add(12)
        try await server.with {
            let former = try feed(dedup: "return record.id")
            try await Bench.with([BenchConnection(connector: former, url: server.url)], time: time) { bench in
                try await waitUntil("the live jobs") { try await bench.keys() == server.keys }
                let changed = try feed(dedup: "return record.id .. '@' .. record.n")
                let commits = Mutex(0)
                bench.store.beforeBackfill { commit in
                    guard case .page = commit.work else { return }
                    let number = commits.withLock { commits in
                        commits += 1
                        return commits
                    }
                    guard number == 3 else { return }
                    bench.catalogue.change("shop") { $0.connector = changed }
                    server.add(1)
                    try await bench.pollNow()
                    try await waitUntil("the live commit") { try await bench.keys().last == "i13@13" }
                }
                let service = BackfillService(polling: bench.service, limits: Self.limits())
                let id = try await service.start(
                    BackfillRequest(
                        trigger: try await bench.trigger(),
                        window: BackfillWindow(from: time.now() + .days(-1), to: time.now() + .days(1)), mode: .missingOnly,
                        isAudit: true, keysKept: .all, cursor: Array(#"{"after":0}"#.utf8), isOpenEnded: true)
                ).id
                try await withThrowingTaskGroup(of: Void.self) { group in
                    group.addTask { await service.run() }
                    try await waitUntil("the backfill", seconds: 60) {
                        try await bench.store.backfill(.default, id)?.state.hasEnded != false
                    }
                    group.cancelAll()
                }
                let ended = try #require(try await bench.store.backfill(.default, id))
                #expect(ended.state == .done, "\(ended.lastError ?? "")")
                #expect(commits.withLock { $0 } > 3 && ended.counts[.provider] == 13)
                #expect(try await bench.keys() == server.keys.dropLast() + ["i13@13"], "none twice")
            }
        }
    }
}
