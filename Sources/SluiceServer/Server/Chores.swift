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

/// What is done again and again: refused webhooks are told, and destinations attached from an earlier position catch up, every
/// second; unread webhooks are counted every five, what retention allows is removed every minute.
struct Chores: Service {
    let store: any Store
    let polling: PollingService
    let unread: UnreadWatch
    let refusals: RefusalCollector
    let expired: ExpiredLetters
    let clock: any TimeSource
    let retention: RetentionPolicy
    let logger: Logger

    func run() async throws {
        await cancelWhenGracefulShutdown {
            var seconds = 0
            // Alarms are kept in memory: what died before this start is told again.
            await tellOfLetters(since: .distantPast)
            while !Task.isCancelled {
                try? await Task.sleep(for: .seconds(1))
                refusals.tell(polling)
                await catchUp()
                seconds += 1
                if seconds % 5 == 0 { await unread.look() }
                if seconds % 60 == 0 { await prune() }
            }
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

    private func prune() async {
        let begun = clock.now()
        do {
            for _ in 0..<100 where !Task.isCancelled {
                let report = try await store.prune(retention, at: clock.now())
                guard report.isPartial else { break }
                // Webhooks that wait for the disk go first.
                try await Task.sleep(for: .milliseconds(50))
            }
        } catch is CancellationError {
            return
        } catch {
            logger.error("cannot remove what is past its time", metadata: ["error": "\(error)"])
        }
        // What retention let expire, and what was detached meanwhile.
        await tellOfLetters(since: begun - .minutes(2))
    }

    private func tellOfLetters(since time: Timestamp) async {
        do {
            try await expired.tell(since: time)
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
