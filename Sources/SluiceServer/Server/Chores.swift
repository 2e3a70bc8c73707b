import Logging
import ServiceLifecycle
import SluiceCore
import SluiceGateway
import SluicePolling
import SluiceStore
import Synchronization

/// Gathers refused webhooks and tells the polling service once a second at most: it looks at every trigger then (P6).
final class RefusalCollector: GatewayObserver {
    private struct State {
        var all: Timestamp?
        var byConnection: [ConnectionID: Timestamp] = [:]
    }
    private let state = Mutex(State())

    func webhooksRefused(_ connection: ConnectionID?, at time: Timestamp) {
        state.withLock { state in
            if let connection { state.byConnection[connection] = time } else { state.all = time }
        }
    }

    func tell(_ polling: PollingService) {
        let gathered = state.withLock { state in
            defer { state = State() }
            return state
        }
        if let time = gathered.all { return polling.webhooksMissed(connection: nil, at: time) }
        for (connection, time) in gathered.byConnection { polling.webhooksMissed(connection: connection, at: time) }
    }
}

/// What is done again and again, each on its own, so that none waits for another: refused webhooks are told, and destinations attached
/// from an earlier position catch up, every second; unread webhooks are counted every five; what retention allows is removed until
/// nothing is left to remove, and again a minute later; each minute dead letters are told of.
struct Chores: Service {
    let store: any CatchUpStore & MaintenanceStore
    let clock: any TimeSource
    let retention: RetentionPolicy
    var pace = RetentionPace()
    let logger: Logger
    /// Tests shorten it.
    var second = Duration.seconds(1)
    let tellRefusals: @Sendable () -> Void
    let countUnread: @Sendable () async -> Void
    /// Tells of the dead letters that died since, and of none where none is left.
    let tellLetters: @Sendable (_ since: Timestamp) async throws -> Void

    func run() async throws {
        await cancelWhenGracefulShutdown {
            await withDiscardingTaskGroup { group in
                group.addTask { await again(after: second) { tellRefusals() } }
                group.addTask { await again(after: second) { await catchUp() } }
                group.addTask { await again(after: second * 5) { await countUnread() } }
                group.addTask { await again(after: second * 60) { await prune() } }
                group.addTask {
                    // Alarms are kept in memory: what died before this start is told again.
                    await tellOfLetters(since: .distantPast)
                    // What retention let expire, and what was detached meanwhile.
                    await again(after: second * 60) { await tellOfLetters(since: clock.now() - Chores.lettersToldAgain) }
                }
            }
        }
    }

    private func again(after pause: Duration, _ chore: () async -> Void) async {
        while !Task.isCancelled {
            try? await Task.sleep(for: pause)
            if !Task.isCancelled { await chore() }
        }
    }

    private func catchUp() async {
        do {
            for _ in 0..<100 where !Task.isCancelled {
                guard try await store.catchUp(limit: 1000, at: clock.now()).isPartial else { return }
                try await Task.sleep(for: .milliseconds(5))
            }
        } catch is CancellationError {
            return
        } catch {
            logger.error("cannot intend the deliveries of kept jobs", metadata: ["error": "\(error)"])
        }
    }

    /// Looked at twice: a letter may carry the time at which its transaction began.
    private static let lettersToldAgain = Span.minutes(3)

    private func prune() async {
        var batch = retention
        do {
            while !Task.isCancelled {
                let report = try await store.prune(batch, at: clock.now())
                guard report.isPartial else { return }
                batch.rowsPerBatchMax = pace.rows(
                    after: batch.rowsPerBatchMax, microseconds: report.workMicroseconds, max: retention.rowsPerBatchMax)
                let rest = pace.rest(afterMicroseconds: report.workMicroseconds, behind: report.behind)
                try await Task.sleep(for: .milliseconds(rest.milliseconds))
            }
        } catch is CancellationError {
            return
        } catch {
            logger.error("cannot remove what is past its time", metadata: ["error": "\(error)"])
        }
    }

    private func tellOfLetters(since time: Timestamp) async {
        do {
            try await tellLetters(time)
        } catch {
            logger.error("cannot look for dead letters", metadata: ["error": "\(error)"])
        }
    }
}

/// Makes token requests, and when everything ends, waits for those under way: an answer may hold the only refresh token that
/// still works.
struct TokenRenewal: Service {
    let polling: PollingService

    func run() async throws {
        await withGracefulShutdownHandler {
            await polling.renewTokens()
        } onGracefulShutdown: {
            polling.stopRenewing()
        }
        // It may have come to its end with the polls, before its turn.
        try? await gracefulShutdown()
    }
}

/// A part that runs until it is cancelled, as a service that ends with the others.
struct CancelledAtShutdown: Service {
    let body: @Sendable () async -> Void
    func run() async throws { await cancelWhenGracefulShutdown { await body() } }
}

/// A part that brings to an end what it has begun, and is cancelled if that takes too long.
struct EndedAtShutdown: Service {
    let graceSeconds: Int
    let stop: @Sendable () -> Void
    let body: @Sendable () async -> Void

    func run() async throws {
        let (stopping, isStopping) = AsyncStream.makeStream(of: Void.self)
        await withTaskGroup { group in
            group.addTask {
                await body()
                isStopping.finish()
                return true
            }
            group.addTask {
                // Ends when the shutdown begins, or the part by itself.
                for await _ in stopping {}
                try? await Task.sleep(for: .seconds(graceSeconds))
                return false
            }
            await withGracefulShutdownHandler {
                while let hasEnded = await group.next(), !hasEnded { group.cancelAll() }
                group.cancelAll()
            } onGracefulShutdown: {
                stop()
                isStopping.finish()
            }
        }
    }
}
