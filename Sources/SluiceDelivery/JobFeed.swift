import NIOCore
import NIOPosix
import SluiceCore
import SluiceStore
import Synchronization

/// Jobs by pull: short polls, and long polls that wait for the next commit.
///
/// A reader registers before it reads, so a job that is committed between its read and its wait wakes it: no wake-up is
/// missed and nothing is asked in a loop. Commits that come close together wake each reader once. Tell the store:
/// `store.observe(feed)`.
public final class JobFeed: StoreObserver {
    private struct Readers {
        var byTrigger: [TriggerID: [Int: WakeSignal]] = [:]
        var ofAll: [Int: WakeSignal] = [:]
        var count = 0
        var lastNumber = 0
        var isClosed = false
    }
    private struct Commits {
        var triggers: Set<TriggerID> = []
        var isWaking = false
    }
    private struct Registration {
        var number: Int
        var trigger: TriggerID?
        var signal: WakeSignal
    }

    private let store: any JobStore
    private let waitersMax: Int
    private let readers = Mutex(Readers())
    private let commits = Mutex(Commits())

    /// The longest that a read may wait.
    public static let waitSecondsMax = 60

    /// `waitersMax`: reads that may wait at the same time; more are refused with `.overloaded`.
    public init(store: any JobStore, waitersMax: Int = 20_000) {
        self.store = store
        self.waitersMax = waitersMax
    }

    /// Reads a page; where there is nothing yet, waits for a commit for up to `waitSeconds` (0-60) and reads again. A page
    /// without jobs means that the time is up: ask again with its `next`. Throws what the store throws, `.invalid` for
    /// another wait, `.overloaded` when too many wait, and `CancellationError` as soon as the task is cancelled.
    public func read(_ query: JobQuery, waitSeconds: Int = 0) async throws -> JobPage {
        guard (0...JobFeed.waitSecondsMax).contains(waitSeconds) else {
            throw SluiceError(.invalid, "wait is a number of seconds from 0 to \(JobFeed.waitSecondsMax), not \(waitSeconds).")
        }
        if waitSeconds == 0 { return try await store.jobs(query) }
        let deadline = ContinuousClock.now + .seconds(waitSeconds)
        guard let reader = register(query.trigger) else {
            let page = try await store.jobs(query)
            guard page.jobs.isEmpty, !readers.withLock(\.isClosed) else { return page }
            throw SluiceError(.overloaded, "\(waitersMax) readers are waiting for jobs already; ask with wait=0, or again later.")
        }
        defer { remove(reader) }
        return try await withTaskCancellationHandler {
            while true {
                let page = try await store.jobs(query)
                let left = ContinuousClock.now.duration(to: deadline)
                if !page.jobs.isEmpty || left <= .zero || readers.withLock(\.isClosed) { return page }
                await reader.signal.wait(atMost: .milliseconds(Int64((left / .milliseconds(1)).rounded(.up))))
                try Task.checkCancellation()
            }
        } onCancel: {
            reader.signal.wake()
        }
    }

    /// Ends all waits with what there is, and lets no later read wait: for an orderly stop of the server.
    public func stopWaiting() {
        let signals = readers.withLock { readers in
            readers.isClosed = true
            return Array(readers.ofAll.values) + readers.byTrigger.values.flatMap(\.values)
        }
        for signal in signals { signal.wake() }
    }

    /// Whether `stopWaiting` was called.
    public var isStopped: Bool { readers.withLock(\.isClosed) }

    /// Reads that are waiting, or about to.
    public var waiting: Int { readers.withLock(\.count) }

    private func register(_ trigger: TriggerID?) -> Registration? {
        readers.withLock { readers in
            guard readers.count < waitersMax, !readers.isClosed else { return nil }
            readers.count += 1
            readers.lastNumber += 1
            let signal = WakeSignal()
            if let trigger {
                readers.byTrigger[trigger, default: [:]][readers.lastNumber] = signal
            } else {
                readers.ofAll[readers.lastNumber] = signal
            }
            return Registration(number: readers.lastNumber, trigger: trigger, signal: signal)
        }
    }

    private func remove(_ reader: Registration) {
        readers.withLock { readers in
            readers.count -= 1
            guard let trigger = reader.trigger else {
                readers.ofAll[reader.number] = nil
                return
            }
            readers.byTrigger[trigger]?[reader.number] = nil
            if readers.byTrigger[trigger]?.isEmpty == true { readers.byTrigger[trigger] = nil }
        }
    }

    // MARK: - StoreObserver

    public func signalled(_ signals: [TopicSignal]) {}
    public func deliveriesIntended() {}

    /// Only notes the triggers: waking thousands of readers is no work for the store's thread.
    public func jobsCommitted(_ triggers: [TriggerID], at time: Timestamp) {
        let mustStart = commits.withLock { commits in
            commits.triggers.formUnion(triggers)
            defer { commits.isWaking = true }
            return !commits.isWaking
        }
        guard mustStart else { return }
        MultiThreadedEventLoopGroup.singleton.any().execute { self.wakeReaders() }
    }

    private func wakeReaders() {
        let triggers = commits.withLock { commits in
            defer { commits = Commits() }
            return commits.triggers
        }
        let signals = readers.withLock { readers in
            var signals = Array(readers.ofAll.values)
            for trigger in triggers { signals += readers.byTrigger[trigger].map { Array($0.values) } ?? [] }
            return signals
        }
        for signal in signals { signal.wake() }
    }
}
