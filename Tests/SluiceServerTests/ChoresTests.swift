import Logging
import SluiceCore
import SluiceStore
import SluiceTesting
import Synchronization
import Testing

@testable import SluiceServer

@Suite struct ChoresTests {
    /// A store that takes as long for everything as it is told to.
    private final class SlowStore: CatchUpStore, MaintenanceStore {
        struct Seen {
            var catchUps = 0
            var prunes: [RetentionPolicy] = []
        }
        let seen = Mutex(Seen())
        private let report: @Sendable (Int) async -> PruneReport
        init(_ report: @escaping @Sendable (Int) async -> PruneReport) { self.report = report }

        func catchUp(limit: Int, at time: Timestamp) async throws -> CatchUpReport {
            seen.withLock { $0.catchUps += 1 }
            return CatchUpReport()
        }
        func prune(_ retention: RetentionPolicy, at time: Timestamp) async throws -> PruneReport {
            let number = seen.withLock { seen in
                seen.prunes.append(retention)
                return seen.prunes.count
            }
            return await report(number)
        }
        func fact(_ name: String) async throws -> [UInt8]? { nil }
        func setFact(_ name: String, _ value: [UInt8]) async throws {}
    }

    /// Counts what is told.
    private final class Shared: Sendable {
        let refusals = Mutex(0)
        let letters = Mutex(0)
    }

    private static func with(_ store: SlowStore, _ body: @escaping @Sendable (Shared) async throws -> Void) async throws {
        let told = Shared()
        let chores = Chores(
            store: store, clock: AnchoredClock(wallMillisecondsAtStart: 1_800_000_000_000),
            retention: RetentionPolicy(rowsPerBatchMax: 800),
            logger: Logger(label: "chores"), second: .milliseconds(1), tellRefusals: { told.refusals.withLock { $0 += 1 } },
            countUnread: {}, tellLetters: { _ in told.letters.withLock { $0 += 1 } })
        try await withThrowingTaskGroup(of: Void.self) { group in
            group.addTask { try await chores.run() }
            try await body(told)
            group.cancelAll()
        }
    }

    @Test func P6_refusalsAreToldAndDestinationsCatchUpWhileRetentionTakesItsTime() async throws {
        let (mayEnd, end) = AsyncStream.makeStream(of: Void.self)
        let store = SlowStore { _ in
            for await _ in mayEnd {}
            return PruneReport()
        }
        try await Self.with(store) { told in
            try await waitUntil("retention is at work") { store.seen.withLock { !$0.prunes.isEmpty } }
            let before = (told.refusals.withLock { $0 }, store.seen.withLock { $0.catchUps }, told.letters.withLock { $0 })
            try await waitUntil("the others go on") {
                told.refusals.withLock { $0 } > before.0 + 3 && store.seen.withLock { $0.catchUps } > before.1 + 3
                    && told.letters.withLock { $0 } > before.2 + 1
            }
            #expect(store.seen.withLock { $0.prunes.count } == 1)
            end.finish()
        }
    }

    /// No number of batches ends a sweep, and slow ones become smaller.
    @Test func P10_aSweepGoesOnWhileThereIsSomethingToRemove() async throws {
        let store = SlowStore { number in
            var report = PruneReport()
            (report.isPartial, report.behind, report.workMicroseconds) = (number < 150, .days(1), number < 3 ? 50_000 : 10_000)
            return report
        }
        try await Self.with(store) { _ in
            try await waitUntil("a whole sweep", seconds: 60) { store.seen.withLock { $0.prunes.count } >= 150 }
            #expect(store.seen.withLock { $0.prunes.prefix(4).map(\.rowsPerBatchMax) } == [800, 400, 200, 200])
        }
    }
}
