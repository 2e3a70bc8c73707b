import Logging
import NIOCore
import NIOPosix
import SluiceConnectors
import SluiceCore
import SluiceStore
import Synchronization

/// Consumers: hands out jobs to workers, who may wait for them, and takes their acks.
///
/// Tell the store: `store.observe(consumers)`. Definitions are read when they are first needed and after
/// `definitionsChanged()`.
public final class ConsumerService: StoreObserver {
    /// What sifts the jobs of a trigger for a consumer, by the settings of its attachment; nil: it gets them all as they are.
    public typealias Sieves = @Sendable (TriggerID, JobJSON.TriggerNames, DestinationID, _ settings: [UInt8]) -> (any JobSieve)?

    struct Lane {
        var consumer: Consumer
        var queue = ConsumerQueue()
        var signals: [Int: WakeSignal] = [:]
        /// When it is to be looked whether something comes again.
        var dueAt: Timestamp?
        var timer: Scheduled<Void>?
        var workers = WorkersSeen()
        var dead = 0
    }
    struct State {
        /// What is known was read after the last change.
        var isCurrent: Bool { readingShown > readingsBeforeChange }
        /// Readings that have begun; which of them is known, and how many had begun when something changed last.
        var readings = 0
        var readingShown = 0
        var readingsBeforeChange = 0
        var names: [String: DestinationID] = [:]
        var lanes: [DestinationID: Lane] = [:]
        var byTrigger: [TriggerID: [DestinationID]] = [:]
        var triggerNames: [TriggerID: JobJSON.TriggerNames] = [:]
        var waiting = 0
        var lastNumber = 0
        var isClosed = false
    }
    private struct News {
        var triggers: Set<TriggerID> = []
        var consumers: Set<DestinationID> = []
        var isTelling = false
    }

    let store: any ConsumerStore & DefinitionStore
    let namespace: NamespaceID
    let time: any TimeSource
    private let alarms: any AlarmReporting
    private let trouble: StoreTrouble
    let sieves: Sieves
    private let waitersMax: Int
    private let newNonce: @Sendable () -> Int64
    private let overtimeMax: Duration
    let state = Mutex(State())
    private let pending = Mutex(News())
    private let wakeUps = Mutex(0)
    /// As many as there are answers under way.
    let returned: AsyncStream<LeaseToken>
    let returning: AsyncStream<LeaseToken>.Continuation

    /// - Parameters:
    ///   - waitersMax: fetches that may wait at the same time; more are refused with `.overloaded`.
    ///   - overtimeMax: how long a fetch reads on past its wait where filters leave nothing of what it finds.
    public init(
        store: any ConsumerStore & DefinitionStore, namespace: NamespaceID = .default, time: any TimeSource, alarms: any AlarmReporting,
        sieves: @escaping Sieves, waitersMax: Int = 20_000, overtimeMax: Duration = .seconds(2),
        newNonce: @escaping @Sendable () -> Int64 = { Int64.random(in: .min ... .max) }
    ) {
        self.store = store
        self.namespace = namespace
        self.time = time
        self.alarms = alarms
        trouble = StoreTrouble(alarms: alarms, subject: "consumers")
        self.sieves = sieves
        self.waitersMax = waitersMax
        self.newNonce = newNonce
        self.overtimeMax = overtimeMax
        (returned, returning) = AsyncStream.makeStream(of: LeaseToken.self)
    }

    // MARK: Definitions

    /// Triggers, destinations or attachments changed.
    public func definitionsChanged() {
        let ids = state.withLock { state in
            state.readingsBeforeChange = state.readings
            return Array(state.lanes.keys)
        }
        consumersChanged(ids)
    }

    /// The consumer of this name. Throws `.notFound`, naming what there is.
    public func consumer(_ name: String) async throws -> Consumer {
        if let known = known(name) { return known }
        try await reload()
        // Read since it was asked for, whatever changes meanwhile.
        if let read = state.withLock({ state in state.names[name].flatMap { state.lanes[$0]?.consumer } }) { return read }
        let names = state.withLock { $0.names.keys.sorted() }
        let there =
            names.isEmpty
            ? "there are none: a destination of the kind pull is one" : "there are \(names.prefix(10).joined(separator: ", "))"
        throw SluiceError(.notFound, "there is no consumer `\(name.prefix(64))`; \(there)").with("consumer", String(name.prefix(64)))
    }

    private func known(_ name: String) -> Consumer? {
        state.withLock { state in
            guard state.isCurrent, let id = state.names[name] else { return nil }
            return state.lanes[id]?.consumer
        }
    }

    /// Every consumer, by name.
    public func all() async throws -> [Consumer] {
        if !state.withLock(\.isCurrent) { try await reload() }
        return state.withLock { $0.lanes.values.map(\.consumer) }.sorted { $0.name < $1.name }
    }

    private func reload() async throws {
        // Before the reading: what changes while it runs makes it out of date.
        let reading = state.withLock { state in
            state.readings += 1
            return state.readings
        }
        let definitions = try await store.definitions(namespace)
        let attached = Dictionary(grouping: definitions.attachments, by: \.destination)
        let consumers = definitions.destinations.filter { $0.kind == Consumer.kind }.map { stored in
            Consumer(
                id: stored.id, name: stored.name, triggers: Set((attached[stored.id] ?? []).map(\.trigger)),
                settings: ConsumerSettings(json: stored.settings))
        }
        let names = Dictionary(definitions.triggers.map { ($0.id, (name: $0.name, uid: $0.uid)) }) { first, _ in first }
        let ended = state.withLock { state -> [WakeSignal] in
            // Of several at a time, an older reading never replaces a newer one.
            guard reading > state.readingShown else { return [] }
            state.readingShown = reading
            let gone = state.lanes.filter { lane in !consumers.contains { $0.id == lane.key } }
            for id in gone.keys { state.lanes[id] = nil }
            state.names = [:]
            state.byTrigger = [:]
            for consumer in consumers {
                state.names[consumer.name] = consumer.id
                state.lanes[consumer.id, default: Lane(consumer: consumer)].consumer = consumer
                for trigger in consumer.triggers { state.byTrigger[trigger, default: []].append(consumer.id) }
            }
            state.triggerNames = names
            return gone.values.flatMap(\.signals.values)
        }
        for signal in ended { signal.wake() }
        trouble.keep { id in consumers.contains { $0.id == id } }
    }

    /// What triggers are called outside; reads them anew where one is not known.
    public func triggerNames(of jobs: [ConsumerBatch.Job]) async throws -> [TriggerID: JobJSON.TriggerNames] {
        let known = state.withLock(\.triggerNames)
        if jobs.allSatisfy({ known[$0.job.trigger] != nil }) { return known }
        try await reload()
        return state.withLock(\.triggerNames)
    }

    // MARK: Fetch

    /// Jobs on loan for a worker of this consumer; where there are none, waits for some for up to `waitSeconds`. Without jobs
    /// means that the time is up; with `more` then, that filters left out all that was looked at so far. Throws `.notFound`,
    /// `.invalid`, `.overloaded`, what the store throws, and `CancellationError` as soon as the task is cancelled. Throws what an
    /// ack throws where the order has one, with nothing acked and nothing fetched.
    public func fetch(_ name: String, _ order: FetchOrder) async throws -> FetchedJobs {
        let consumer = try await consumer(name)
        guard FetchOrder.jobsMax.contains(order.jobsMax) else {
            throw SluiceError(.invalid, "`max` is a whole number from 1 to \(FetchOrder.jobsMax.upperBound), not \(order.jobsMax)")
        }
        guard FetchOrder.waitSeconds.contains(order.waitSeconds) else {
            throw SluiceError(
                .invalid, "`wait` is a number of seconds from 0 to \(FetchOrder.waitSeconds.upperBound), not \(order.waitSeconds)")
        }
        note(order.worker, of: consumer.id)
        if let lease = order.ack { _ = try await settle(name, lease: lease, jobs: nil, .ack) }
        return try await take(consumer, order)
    }

    /// How long a fetch that does not want to wait may wait for its turn among the others.
    private static let turnSecondsMax = 10

    private func take(_ consumer: Consumer, _ order: FetchOrder) async throws -> FetchedJobs {
        let deadline = ContinuousClock.now + .seconds(order.waitSeconds)
        let turnDeadline = max(deadline, ContinuousClock.now + .seconds(ConsumerService.turnSecondsMax))
        while true {
            if Task.isCancelled {
                // It may have been woken for news that nobody else was told of.
                wake(state.withLock { $0.next(consumer.id) { $0.pass() } })
                throw CancellationError()
            }
            if let due = state.withLock({ $0.lanes[consumer.id]?.dueAt }), due <= time.now() { isDue(consumer.id) }
            // What was committed before this fetch came is in it, also where nobody was told of it yet.
            if pending.withLock(\.isTelling) { tell() }
            let turn = state.withLock { state -> ConsumerQueue.Turn in
                state.isClosed ? .nothing : state.lanes[consumer.id]?.queue.turn() ?? .nothing
            }
            switch turn {
            case .ask(let version):
                let found = try await ask(consumer, order, version)
                let end = found.more ? deadline + overtimeMax : deadline
                if !found.jobs.isEmpty || ContinuousClock.now >= end { return found }
            case .nothing:
                let isOver = state.withLock { $0.isClosed || $0.lanes[consumer.id] == nil }
                guard !isOver, ContinuousClock.now < deadline else { return nothing(consumer) }
                try await wait(consumer.id, until: deadline)
            case .wait:
                guard ContinuousClock.now < turnDeadline else {
                    throw SluiceError(.overloaded, "too many workers fetch from \(consumer.name) at once: try again")
                }
                try await wait(consumer.id, until: turnDeadline)
            }
        }
    }

    private func nothing(_ consumer: Consumer) -> FetchedJobs {
        let isAtBound = state.withLock { $0.lanes[consumer.id]?.queue.isAtBound ?? false }
        return FetchedJobs(lease: nil, expiresAt: time.now(), jobs: [], more: false, isAtBound: isAtBound)
    }

    private func ask(_ consumer: Consumer, _ order: FetchOrder, _ version: Int) async throws -> FetchedJobs {
        let visibility = order.visibility ?? consumer.settings.visibility ?? ConsumerSettings.visibilityDefault
        let batch: ConsumerBatch
        do {
            batch = try await store.fetchJobs(
                ConsumerFetch(
                    consumer: consumer.id, limit: order.jobsMax, visibility: visibility, rules: consumer.settings.rules, nonce: newNonce(),
                    worker: order.worker, at: time.now()))
            trouble.worked(.claim(consumer.id))
        } catch {
            trouble.failed(.claim(consumer.id), "consumer \(consumer.name) cannot be handed its jobs", error)
            wake(state.withLock { $0.next(consumer.id) { $0.failed() } })
            throw error
        }
        wake(state.withLock { $0.next(consumer.id) { $0.done(version: version, more: batch.more, isAtBound: batch.isAtBound) } })
        look(consumer.id, at: batch.nextDueAt)
        noteDead(batch.dead, consumer)
        guard let lease = batch.lease, let sifted = try await sift(batch, consumer, lease, visibility) else {
            // What was given back is there for anybody.
            if batch.lease != nil { wake(state.withLock { $0.next(consumer.id) { $0.news() } }) }
            return FetchedJobs(
                lease: nil, expiresAt: batch.expiresAt, jobs: [], more: batch.more || batch.lease != nil, isAtBound: batch.isAtBound)
        }
        return FetchedJobs(
            lease: LeaseToken(consumer: consumer.id, id: lease), expiresAt: sifted.expiresAt, jobs: sifted.jobs,
            more: batch.more || sifted.jobs.isEmpty, isAtBound: batch.isAtBound)
    }

    // MARK: Waiting

    private func wait(_ id: DestinationID, until deadline: ContinuousClock.Instant) async throws {
        let signal = WakeSignal()
        let number = try state.withLock { state in
            guard state.waiting < waitersMax else {
                throw SluiceError(.overloaded, "\(waitersMax) fetches are waiting for jobs already; ask with wait 0, or again later.")
            }
            guard state.lanes[id] != nil, !state.isClosed else { return -1 }
            state.lastNumber += 1
            state.waiting += 1
            state.lanes[id]?.signals[state.lastNumber] = signal
            state.lanes[id]?.queue.join(state.lastNumber)
            // News that came since the turn was asked for.
            if let queue = state.lanes[id]?.queue, queue.hasNews, queue.asking < ConsumerQueue.placesMax { signal.wake() }
            return state.lastNumber
        }
        guard number >= 0 else { return }
        await withTaskCancellationHandler {
            let left = ContinuousClock.now.duration(to: deadline)
            if left > .zero { await signal.wait(atMost: .milliseconds(Int64((left / .milliseconds(1)).rounded(.up)))) }
        } onCancel: {
            signal.wake()
        }
        let next = state.withLock { state in
            state.waiting -= 1
            state.lanes[id]?.signals[number] = nil
            return Task.isCancelled || ContinuousClock.now >= deadline
                ? state.next(id) { $0.leave(number) } : state.next(id) { $0.stays(number) }
        }
        wake(next)
    }

    private func wake(_ signal: WakeSignal?) {
        guard let signal else { return }
        wakeUps.withLock { $0 += 1 }
        signal.wake()
    }

    /// How many fetches wait.
    public var waiting: Int { state.withLock(\.waiting) }
    /// How many were woken by news so far.
    public var woken: Int { wakeUps.withLock { $0 } }

    /// Ends all waits, and lets no later fetch wait: for an orderly stop of the server.
    public func stopWaiting() {
        let (signals, timers) = state.withLock { state in
            state.isClosed = true
            return (state.lanes.values.flatMap(\.signals.values), state.lanes.values.compactMap(\.timer))
        }
        for timer in timers { timer.cancel() }
        for signal in signals { signal.wake() }
    }

    /// Something may come again then: somebody is to look.
    func look(_ id: DestinationID, at due: Timestamp?) {
        guard let due else { return }
        let now = time.now()
        state.withLock { state in
            guard let lane = state.lanes[id], !state.isClosed, lane.dueAt.map({ due < $0 }) ?? true else { return }
            lane.timer?.cancel()
            let wait = max(1, min((due - now).milliseconds + 1, 86_400_000))
            state.lanes[id]?.dueAt = due
            state.lanes[id]?.timer = MultiThreadedEventLoopGroup.singleton.any().scheduleTask(in: .milliseconds(wait)) { [weak self] in
                self?.isDue(id)
            }
        }
    }

    private func isDue(_ id: DestinationID) {
        wake(
            state.withLock { state in
                state.lanes[id]?.dueAt = nil
                state.lanes[id]?.timer?.cancel()
                state.lanes[id]?.timer = nil
                return state.next(id) { $0.news() }
            })
    }

    // MARK: - StoreObserver

    public func signalled(_ signals: [TopicSignal]) {}
    public func deliveriesIntended() {}

    /// Only notes what changed: waking is no work for the store's thread.
    public func jobsCommitted(_ triggers: [TriggerID], at time: Timestamp) { note { $0.triggers.formUnion(triggers) } }
    public func consumersChanged(_ consumers: [DestinationID]) { note { $0.consumers.formUnion(consumers) } }

    private func note(_ change: (inout News) -> Void) {
        let mustStart = pending.withLock { news in
            change(&news)
            defer { news.isTelling = true }
            return !news.isTelling
        }
        if mustStart { MultiThreadedEventLoopGroup.singleton.any().execute { self.tell() } }
    }

    private func tell() {
        let news = pending.withLock { news in
            defer { news = News() }
            return news
        }
        let signals = state.withLock { state in
            var ids = news.consumers
            if state.isCurrent {
                for trigger in news.triggers { ids.formUnion(state.byTrigger[trigger] ?? []) }
            } else {
                ids.formUnion(state.lanes.keys)
            }
            return ids.compactMap { id in state.next(id) { $0.news() } }
        }
        for signal in signals { wake(signal) }
    }

    // MARK: Pieces

    func noteDead(_ count: Int, _ consumer: Consumer) {
        guard count > 0 else { return }
        let sum = state.withLock { state in
            state.lanes[consumer.id]?.dead += count
            return state.lanes[consumer.id]?.dead ?? count
        }
        alarms.raise(
            Alarm(
                kind: .deadLetters, subject: "destination \(consumer.name)",
                message:
                    "\(sum) jobs of this consumer became dead letters since the start: see `sluice delivery list --state dead`, mend what handles them, "
                    + "then replay them."))
    }

    func note(_ worker: String?, of id: DestinationID) {
        guard let worker else { return }
        let now = time.now()
        state.withLock { $0.lanes[id]?.workers.note(worker, at: now) }
    }

    /// Who asked lately, the latest first.
    public func workers(of id: DestinationID) -> [(name: String, at: Timestamp)] { state.withLock { $0.lanes[id]?.workers.latest ?? [] } }

    /// News for one consumer: an ack made room.
    func roomWasMade(_ id: DestinationID) {
        wake(
            state.withLock { state in
                guard state.lanes[id]?.queue.isAtBound == true else { return nil }
                return state.next(id) { $0.news() }
            })
    }
}

extension ConsumerService.State {
    /// Whom a change of a consumer's queue wakes.
    mutating func next(_ id: DestinationID, _ change: (inout ConsumerQueue) -> Int?) -> WakeSignal? {
        guard var lane = lanes.removeValue(forKey: id) else { return nil }
        defer { lanes[id] = lane }
        return change(&lane.queue).flatMap { lane.signals[$0] }
    }
}

/// The workers of a consumer by the names they gave, bounded.
struct WorkersSeen {
    private static let namesMax = 256
    private var seen: [String: Timestamp] = [:]

    mutating func note(_ name: String, at time: Timestamp) {
        if seen[name] == nil, seen.count >= WorkersSeen.namesMax, let oldest = seen.min(by: { $0.value < $1.value }) {
            seen[oldest.key] = nil
        }
        seen[name] = time
    }

    var latest: [(name: String, at: Timestamp)] { seen.map { ($0.key, $0.value) }.sorted { ($1.at, $0.name) < ($0.at, $1.name) } }
}
