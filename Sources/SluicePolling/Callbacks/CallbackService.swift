import Logging
import NIOCore
import SluiceConnectors
import SluiceCore
import SluiceStore
import Synchronization

/// Waits for the results of pending operations: asks providers when it is time, takes what calls bring, and lets those wait who
/// want to know.
///
/// A thin shell. `CallbackMachine` decides; each event reads the callback, decides, and records it if nobody else has changed it
/// meanwhile. Memory holds the polls under way and nothing else: what is due is asked of the store.
public final class CallbackService: Sendable {
    public struct Limits: Sendable {
        /// Status polls at the same time over all connections, and of one.
        public var pollsAtOnceMax: Int
        public var pollsPerConnectionMax: Int
        public var pendingPerConnectionMax: Int
        /// Those who may wait for a result at the same time.
        public var waitersMax: Int
        /// How long the store is left alone after it failed.
        public var storeRetry: Span
        public init(
            pollsAtOnceMax: Int = 64, pollsPerConnectionMax: Int = 4, pendingPerConnectionMax: Int = 1_000_000, waitersMax: Int = 20_000,
            storeRetry: Span = .seconds(5)
        ) {
            self.pollsAtOnceMax = pollsAtOnceMax
            self.pollsPerConnectionMax = pollsPerConnectionMax
            self.pendingPerConnectionMax = pendingPerConnectionMax
            self.waitersMax = waitersMax
            self.storeRetry = storeRetry
        }
    }

    private struct State {
        /// Polls under way, with the signals that each will cover.
        var underWay: [String: Int64] = [:]
        var running: [ConnectionID: Int] = [:]
        var hasBegun = false
        /// When it began to ask; calls come since about then, too.
        var servedSince = Timestamp.distantPast
        /// When the loop wakes by itself; nil while it is awake.
        var wakeAt: Timestamp?
        /// Connections that are asked first next time.
        var turn = 0
    }

    public static let waitSecondsMax = 60
    private static let conflictsMax = 16
    private static let storeTriesMax = 24

    let store: any Store
    private let catalogue: any CallbackCatalogue
    private let time: any TimeSource
    private let alarms: any AlarmReporting
    private let logger: Logger
    private let random: @Sendable () -> Double
    private let http: @Sendable (ConnectionID) -> any HTTPSending
    private let scrubber: @Sendable (ConnectionID) -> SecretScrubber
    private let state = Mutex(State())
    private let waiters: CallbackWaiters
    private let waker: Waker
    public let limits: Limits

    /// Requests go through the lanes of `polling`.
    public init(
        store: any Store, catalogue: any CallbackCatalogue, time: any TimeSource, alarms: any AlarmReporting, polling: PollingService,
        limits: Limits = Limits(), logger: Logger, random: @escaping @Sendable () -> Double
    ) {
        self.store = store
        self.catalogue = catalogue
        self.time = time
        self.alarms = alarms
        self.logger = logger
        self.random = random
        self.limits = limits
        http = { polling.lane($0) }
        scrubber = { polling.scrubber(of: $0) }
        let loops = polling.client.eventLoopGroup
        waker = Waker(eventLoop: loops.any())
        waiters = CallbackWaiters(loops: loops, waitersMax: limits.waitersMax)
    }

    // MARK: What others ask

    /// As `CallbackStore.addCallback`.
    public func add(_ new: NewCallback) async throws -> (callback: StoredCallback, isNew: Bool) {
        let made = try await store.addCallback(new, pendingMax: limits.pendingPerConnectionMax, at: time.now())
        if made.isNew { isDue(made.callback.state.nextAt) }
        return made
    }

    /// Whoever waits is told once it is over. Throws `.notFound`, `.overloaded` where too many wait; after `seconds` it is returned
    /// as it stands.
    public func wait(_ id: String, seconds: Int) async throws -> StoredCallback {
        guard (0...CallbackService.waitSecondsMax).contains(seconds) else {
            throw SluiceError(.invalid, "wait is a number of seconds from 0 to \(CallbackService.waitSecondsMax), not \(seconds).")
        }
        guard seconds > 0 else { return try await read(id) }
        let deadline = ContinuousClock.now + .seconds(seconds)
        guard let waiter = waiters.register(id) else {
            let stored = try await read(id)
            if stored.state.state.isOver || waiters.isClosed { return stored }
            throw SluiceError(.overloaded, "\(limits.waitersMax) wait for callbacks already: ask without `wait`, or again later")
        }
        defer { waiters.remove(id, waiter.number) }
        while true {
            let stored = try await read(id)
            let left = ContinuousClock.now.duration(to: deadline)
            if stored.state.state.isOver || left <= .zero || waiters.isClosed { return stored }
            await waiter.waker.sleep(for: .milliseconds(Int64((left / .milliseconds(1)).rounded(.up))))
            try Task.checkCancellation()
        }
    }

    /// Ends all waits: for an orderly stop of the server.
    public func stopWaiting() { waiters.close() }

    public var waiting: Int { waiters.count }

    /// Cancels it. Again, it changes nothing. Throws `.notFound`, or `.conflict` where it has ended in another way.
    public func cancel(_ id: String, reason: String?) async throws -> StoredCallback {
        let now = time.now()
        let stored = try await change(try await read(id)) { machine in
            machine.cancel(reason: reason, at: now) ? .changed(by: .request) : .unchanged
        }
        guard stored.state.state == .cancelled else {
            throw SluiceError(.conflict, "callback \(id) is \(stored.state.state.rawValue) already: there is nothing to cancel")
                .with("callback", id).with("state", stored.state.state.rawValue)
        }
        return stored
    }

    private func read(_ id: String) async throws -> StoredCallback {
        guard let stored = try await store.callback(.default, id: id) else {
            throw SluiceError(.notFound, "there is no callback `\(id.prefix(64))`: it never was, or its time of keeping is over")
        }
        return stored
    }

    // MARK: Calls

    /// By SHA-256 of the token in its URL; nil: nothing is known of it.
    public func callback(tokenHash: [UInt8]) async throws -> StoredCallback? { try await store.callback(tokenHash: tokenHash) }

    /// A call came to its URL, verified where that is needed. `record`: what it carried. Returns what the callback is then, once all
    /// that follows is on disk.
    @discardableResult
    public func called(_ stored: StoredCallback, record: Record) async throws -> CallbackState {
        let now = time.now()
        if !stored.state.asks, record.bytes.count > CallbackAnswer.resultBytesMax {
            throw SluiceError(.invalid, "the result is larger than \(CallbackAnswer.resultBytesMax) bytes")
        }
        let after = try await change(stored) { machine in
            if machine.callback.asks {
                let covering = state.withLock { $0.underWay[stored.id] }
                return machine.called(covering: covering, at: now) ? .changed(by: .webhook) : .unchanged
            }
            return machine.brought(at: now) ? .changed(by: .webhook, result: Array(record.bytes)) : .unchanged
        }
        if !after.state.state.isOver { isDue(after.state.nextAt) }
        return after.state.state
    }

    // MARK: The loop

    /// Runs until the task is cancelled; a status poll under way then is made again after the next start.
    public func run() async {
        let now = time.now()
        state.withLock { $0.servedSince = now }
        await hasten()
        state.withLock { $0.hasBegun = true }
        await withDiscardingTaskGroup { group in
            while !Task.isCancelled {
                state.withLock { $0.wakeAt = nil }
                let (ready, wake) = await takeReady()
                for stored in ready { group.addTask { await self.perform(stored) } }
                let now = time.now()
                state.withLock { $0.wakeAt = wake }
                await waker.sleep(for: wake.map { max($0 - now, .zero) })
            }
            group.cancelAll()
        }
    }

    /// Whether what was pending at the start has been hastened: what is added from then on is asked for at its own times.
    package var hasBegun: Bool { state.withLock { $0.hasBegun } }

    /// Looks again, for example because a clock that is moved by hand was moved.
    package func lookAgain() { waker.call() }

    /// Something is due then: the loop need not look sooner than it would.
    private func isDue(_ due: Timestamp) {
        if state.withLock({ $0.wakeAt.map { due < $0 } ?? true }) { waker.call() }
    }

    /// Calls may have been lost while nobody was here: everything pending is asked for soon, spread over a window.
    private func hasten() async {
        do {
            let count = try await store.pendingCallbacks(.default).reduce(0) { $0 + $1.pending }
            let window = min(Span.milliseconds(20 * count), Span.minutes(10))
            var after: Int64? = 0
            while let from = after, !Task.isCancelled {
                after = try await store.hastenCallbacks(.default, after: from, limit: 1000, window: window, at: time.now())
            }
        } catch is CancellationError {
            return
        } catch {
            logger.warning("pending callbacks could not be looked at", metadata: ["error": "\(error)"])
        }
    }

    private func takeReady() async -> ([StoredCallback], wake: Timestamp?) {
        let now = time.now()
        var ready: [StoredCallback] = []
        var wake: Timestamp?
        do {
            let pending = try await store.pendingCallbacks(.default)
            let start = pending.isEmpty ? 0 : state.withLock { $0.turn } % pending.count
            for next in pending[start...] + pending[..<start] {
                guard next.dueAt <= now else {
                    wake = min(wake ?? next.dueAt, next.dueAt)
                    continue
                }
                let (room, running) = state.withLock { state in
                    let running = state.running[next.connection, default: 0]
                    return (min(limits.pollsPerConnectionMax - running, limits.pollsAtOnceMax - state.underWay.count), running)
                }
                // Those that find no room are looked at again when a poll ends.
                guard room > 0 else { continue }
                let due = try await store.dueCallbacks(.default, connection: next.connection, at: now, limit: room + running)
                ready += take(due, room: room)
            }
            state.withLock { $0.turn &+= 1 }
        } catch is CancellationError {
            return (ready, nil)
        } catch {
            logger.error("callbacks that are due cannot be read", metadata: ["error": "\(error)"])
            wake = now + limits.storeRetry
        }
        return (ready, wake)
    }

    private func take(_ due: [StoredCallback], room: Int) -> [StoredCallback] {
        state.withLock { state in
            let fresh = due.filter { state.underWay[$0.id] == nil }.prefix(room)
            for stored in fresh {
                state.underWay[stored.id] = stored.state.signals
                state.running[stored.connection, default: 0] += 1
            }
            return Array(fresh)
        }
    }

    private func perform(_ stored: StoredCallback) async {
        do { try await advance(stored) } catch {
            if !(error is CancellationError) {
                logger.error("a callback cannot be recorded", metadata: ["callback": "\(stored.id)", "error": "\(error)"])
            }
        }
        state.withLock { state in
            state.underWay[stored.id] = nil
            state.running[stored.connection, default: 1] -= 1
            if state.running[stored.connection] == 0 { state.running[stored.connection] = nil }
        }
        waker.call()
    }

    private func advance(_ stored: StoredCallback) async throws {
        let started = time.now()
        switch machine(of: stored).due(at: started) {
        case .nothing: return
        case .expire:
            _ = try await changeInTheEnd(stored) { machine in machine.expire(at: started) ? .changed(by: .time) : .unchanged }
        case .poll(let covers):
            guard let (answer, result) = await ask(stored) else { return }
            let (now, random) = (time.now(), random())
            _ = try await changeInTheEnd(stored) { machine in
                guard machine.answered(answer, covers: covers, startedAt: started, at: now, random: random) else { return .unchanged }
                return .changed(by: machine.callback.state == .expired ? .time : .status, result: result)
            }
        }
    }

    /// What the provider says; nil where everything ends.
    private func ask(_ stored: StoredCallback) async -> (CallbackMachine.Answer, result: [UInt8]?)? {
        let means: CallbackMeans
        do {
            means = try catalogue.callbackMeans(connection: stored.connection, type: stored.type)
        } catch {
            return noAnswer(error, stored, isUnasked: true)
        }
        do {
            let request = CallbackRequest(
                type: stored.type ?? "", connection: means.connection, input: try JSONDocument(stored.input), now: time.now())
            let answer = try await means.connector.callbackStatus(request, http: http(stored.connection))
            guard case .over(let result, let failed) = answer else {
                alarms.clear(.callbackStatus, subject: "connection \(means.connectionName)")
                if case .pending(let wait) = answer { return (.pending(retryAfter: wait), nil) }
                return nil
            }
            guard result.count <= CallbackAnswer.resultBytesMax else {
                throw SluiceError(
                    .providerAnswer, "the result is larger than \(CallbackAnswer.resultBytesMax >> 10) KB: let `result` name a part of it")
            }
            // What a connector written in Swift hands over was never checked.
            let checked = Array(try JSONDocument(result).root.bytes)
            alarms.clear(.callbackStatus, subject: "connection \(means.connectionName)")
            return (.over(failed: failed), checked)
        } catch let error as JSONError {
            return (.none(reason: "the connector's result is not JSON: it \(error)"), nil)
        } catch {
            if error is CancellationError || Task.isCancelled { return nil }
            return noAnswer(error, stored, isUnasked: false)
        }
    }

    private func noAnswer(
        _ error: any Error, _ stored: StoredCallback, isUnasked: Bool
    ) -> (CallbackMachine.Answer, result: [UInt8]?) {
        let failure = PollFailure.classify(error).scrubbed(by: scrubber(stored.connection))
        report(failure, stored)
        let answer = CallbackMachine.Answer.none(
            reason: failure.error.message, retryAfter: failure.retryAfter, isHeldBack: failure.isHeldBack, isUnasked: isUnasked)
        return (answer, nil)
    }

    private func report(_ failure: PollFailure, _ stored: StoredCallback) {
        if failure.isHeldBack { return }
        logger.info(
            "a status poll gave no answer", metadata: ["callback": "\(stored.id)", "error": "\(failure.error.message)"])
        guard failure.kind == .unauthorized || failure.kind == .permanent else { return }
        // Of a connection that cannot be used another alarm tells.
        guard let means = try? catalogue.callbackMeans(connection: stored.connection, type: nil) else { return }
        alarms.raise(
            Alarm(
                kind: .callbackStatus, subject: "connection \(means.connectionName)",
                message: "Status polls of its callbacks fail: \(failure.error.message)"))
    }

    // MARK: Changes

    enum Decision {
        case unchanged
        case changed(by: CallbackEnding.Cause, result: [UInt8]? = nil)
    }

    private func machine(of stored: StoredCallback) -> CallbackMachine {
        CallbackMachine(stored.state, policy: policy(of: stored), servedSince: state.withLock { $0.servedSince })
    }

    private func policy(of stored: StoredCallback) -> CallbackPolicy {
        if !stored.pauses.isEmpty { return CallbackPolicy(pauses: stored.pauses) }
        let type = try? catalogue.callbackMeans(connection: stored.connection, type: stored.type).type
        return CallbackPolicy(pauses: type?.pauses ?? [])
    }

    /// Decides and records; begins again with what is stored if somebody else was faster. Returns it as it is recorded.
    private func change(_ stored: StoredCallback, _ decide: (inout CallbackMachine) -> Decision) async throws -> StoredCallback {
        var stored = stored
        for _ in 0..<CallbackService.conflictsMax {
            var machine = machine(of: stored)
            guard case .changed(let cause, let result) = decide(&machine) else { return stored }
            let ending = machine.callback.state.isOver ? ending(stored, machine.callback, cause, result) : nil
            do {
                let after = try await store.recordCallback(
                    CallbackChange(
                        id: stored.id, generation: stored.generation, state: machine.callback, ending: ending, at: time.now()))
                if after.state.state.isOver {
                    logger.info("a callback ended", metadata: ["callback": "\(after.id)", "state": "\(after.state.state.rawValue)"])
                    waiters.wake(after.id)
                }
                return after
            } catch let error as SluiceError where error.code == .conflict {
                stored = try await read(stored.id)
            }
        }
        throw SluiceError(.conflict, "callback \(stored.id) is being changed by others: try again")
    }

    /// The same for what must not be lost, however long the store takes: an answer of the provider.
    private func changeInTheEnd(
        _ stored: StoredCallback, _ decide: (inout CallbackMachine) -> Decision
    ) async throws -> StoredCallback {
        for _ in 0..<CallbackService.storeTriesMax {
            do {
                return try await change(stored, decide)
            } catch let error as SluiceError where error.code != .notFound {
                logger.warning("a callback waits for the store", metadata: ["callback": "\(stored.id)", "error": "\(error)"])
                try await Task.sleep(for: .milliseconds(limits.storeRetry.milliseconds))
            }
        }
        return try await change(stored, decide)
    }

    private func ending(
        _ stored: StoredCallback, _ state: Callback, _ cause: CallbackEnding.Cause, _ result: [UInt8]?
    ) -> CallbackEnding {
        // Whoever cancels knows that it is over.
        if state.state == .cancelled { return CallbackEnding(cause: cause, result: nil, record: nil) }
        let name = (try? catalogue.callbackMeans(connection: stored.connection, type: nil).connectionName) ?? ""
        let record = CallbackRecord.json(
            id: stored.id, state: state, connection: name, type: stored.type, input: stored.input, result: result)
        return CallbackEnding(cause: cause, result: result, record: record)
    }
}
