import Logging
import SluiceConnectors
import SluiceCore
import SluiceStore
import Synchronization

/// Runs backfills: a window of a trigger's provider is read again with a cursor of its own, beside the live polls and after them.
///
/// One at a time of a connection, a few at once. All that it knows is in the store: after a crash it goes on where the last commit
/// left it. It uses the lanes of the polling service, so budgets, credentials and the guard of addresses are the connection's own.
public final class BackfillService: Sendable {
    public struct Limits: Sendable {
        /// A commit holds the writer for a few milliseconds, so that live commits never wait for long.
        public var recordsPerCommitMax: Int
        public var jobsPerCommitMax: Int
        public var keysPerComparisonMax: Int
        public var backfillsAtOnceMax: Int
        /// A list that does not end is not read for ever.
        public var pagesMax: Int64 = 1_000_000
        /// Permanent failures in a row after which it has failed.
        public var permanentFailuresMax: Int
        /// Between two tries, at most.
        public var retrySpanMax: Span
        public var pace: BackfillPace
        public init(
            recordsPerCommitMax: Int = 200, jobsPerCommitMax: Int = 500, keysPerComparisonMax: Int = 500, backfillsAtOnceMax: Int = 4,
            permanentFailuresMax: Int = 5, retrySpanMax: Span = .minutes(5), pace: BackfillPace = BackfillPace()
        ) {
            self.recordsPerCommitMax = recordsPerCommitMax
            self.jobsPerCommitMax = jobsPerCommitMax
            self.keysPerComparisonMax = keysPerComparisonMax
            self.backfillsAtOnceMax = backfillsAtOnceMax
            self.permanentFailuresMax = permanentFailuresMax
            self.retrySpanMax = retrySpanMax
            self.pace = pace
        }
    }

    private struct State {
        var running: [BackfillID: ConnectionID] = [:]
    }

    let polling: PollingService
    let limits: Limits
    var store: any Store { polling.store }
    var time: any TimeSource { polling.time }
    var logger: Logger { polling.logger }
    private let state = Mutex(State())
    private let waker: Waker

    public init(polling: PollingService, limits: Limits = Limits()) {
        self.polling = polling
        self.limits = limits
        waker = Waker(eventLoop: polling.client.eventLoopGroup.any())
    }

    /// A backfill was started or commanded.
    public func lookAgain() { waker.call() }

    /// What a backfill waits for, as a sentence; nil if it works, or has ended.
    public func waitsFor(_ backfill: StoredBackfill) -> (reason: String, until: Timestamp?)? {
        guard backfill.state == .running else { return nil }
        let now = time.now()
        if let retryAt = backfill.retryAt, retryAt > now {
            return (backfill.lastError ?? "the next try", retryAt)
        }
        let others = state.withLock { $0.running.filter { $0.key != backfill.id } }
        if let other = others.first(where: { $0.value == backfill.connection })?.key {
            return ("the backfill \(other), of the same connection", nil)
        }
        if others.count >= limits.backfillsAtOnceMax { return ("other backfills: \(limits.backfillsAtOnceMax) run at once", nil) }
        return nil
    }

    // MARK: The loop

    /// Runs until the task is cancelled. Call once, after `PollingService.load`.
    public func run() async {
        await lookAtEnds()
        await withDiscardingTaskGroup { group in
            while !Task.isCancelled {
                let wake = await start { backfill in group.addTask { await self.drive(backfill) } }
                // Now and then without a reason: what is given up is noticed then.
                await waker.sleep(for: min(wake ?? .hours(1), .hours(1)))
            }
            group.cancelAll()
        }
    }

    /// Starts what may start; returns how long until another one may.
    private func start(_ body: (StoredBackfill) -> Void) async -> Span? {
        let now = time.now()
        let unfinished: [StoredBackfill]
        do {
            unfinished = try await store.backfills(BackfillQuery(unfinishedOnly: true, limit: 10_000)).reversed()
        } catch {
            return .seconds(5)
        }
        var wake: Span?
        for backfill in unfinished {
            if limits.pace.isGivenUp(backfill.state, progressAt: backfill.progressAt, now: now) {
                await giveUp(backfill)
                continue
            }
            guard backfill.state == .running else { continue }
            if let retryAt = backfill.retryAt, retryAt > now {
                wake = min(wake ?? .hours(1), retryAt - now)
                continue
            }
            let mayStart = state.withLock { state -> Bool in
                guard state.running.count < limits.backfillsAtOnceMax, state.running[backfill.id] == nil,
                    !state.running.values.contains(backfill.connection)
                else { return false }
                state.running[backfill.id] = backfill.connection
                return true
            }
            if mayStart { body(backfill) }
        }
        return wake
    }

    private func drive(_ backfill: StoredBackfill) async {
        await BackfillRunner(service: self, id: backfill.id).run(backfill)
        _ = state.withLock { $0.running.removeValue(forKey: backfill.id) }
        waker.call()
    }

    private func giveUp(_ backfill: StoredBackfill) async {
        let span = backfill.state == .paused ? limits.pace.pauseMax : limits.pace.patience
        let why = "nothing came of it for \(span.milliseconds / 86_400_000) days"
        await fail(backfill, backfill.lastError.map { "\(why): \($0)" } ?? why)
    }

    func fail(_ backfill: StoredBackfill, _ why: String) async {
        logger.warning("a backfill failed", metadata: ["backfill": "\(backfill.id)", "error": "\(why)"])
        do {
            try await store.recordBackfillFailure(
                BackfillFailure(
                    backfill: backfill.id, step: backfill.step, failures: backfill.failures + 1, retryAt: nil, error: why, isFinal: true,
                    at: time.now()))
        } catch {
            logger.error("a backfill's end could not be recorded", metadata: ["backfill": "\(backfill.id)", "error": "\(error)"])
        }
        await lookAtEnd(of: backfill.trigger)
    }

    // MARK: Alarms

    /// Raises the alarm of a trigger whose last backfill that ended has failed, and clears that of any other.
    public func lookAtEnd(of id: TriggerID) async {
        do {
            guard let trigger = try await store.trigger(id) else { return }
            let subject = "trigger \(trigger.name)"
            let last = try await store.backfills(BackfillQuery(trigger: id, limit: 2)).first { $0.state.hasEnded }
            guard let last, last.state == .failed else { return polling.alarms.clear(.backfillFailed, subject: subject) }
            let what = last.isAudit ? "audit" : "backfill"
            polling.alarms.raise(
                Alarm(
                    kind: .backfillFailed, subject: subject,
                    message: "The \(what) \(last.id) failed: \(last.lastError ?? "for no reason that was kept"). Mend that and start "
                        + "another one, or `sluice backfill cancel \(last.id)` to let it be."))
        } catch {
            logger.error("the last backfill cannot be looked at", metadata: ["trigger": "\(id)", "error": "\(error)"])
        }
    }

    /// Alarms are forgotten with the process.
    private func lookAtEnds() async {
        let ended = (try? await store.backfills(BackfillQuery(limit: 1000)))?.filter { $0.state == .failed } ?? []
        for trigger in Set(ended.map(\.trigger)) { await lookAtEnd(of: trigger) }
    }

    // MARK: What the live polls are given

    /// Lets polls of the connection that run, or are about to, go first; for a while.
    func yieldToLive(_ connection: ConnectionID) async throws {
        var waited = Span.zero
        while limits.pace.waits(liveRunning: polling.state.withLock({ $0.schedule.pollsInHand(of: connection) }), waited: waited) {
            try await Task.sleep(for: .milliseconds(5))
            waited = waited + .milliseconds(5)
        }
    }
}
