import Logging
import SluiceCore
import SluiceStore
import Synchronization

/// Pushes jobs to destinations, at least once each, until they are delivered or dead letters (P9).
///
/// A coordinator asks the store which destinations have something due: when told of new deliveries, when the next retry is
/// due, and now and then. Each such destination gets a worker for as long as it has work. A worker claims a batch, sends
/// it with bounded concurrency, and its attempts are recorded together with those of other destinations. A destination
/// that hangs holds only its own slots (P12, see `PushLane` and `PushSlots`). A claim is hidden for a bounded time only, so
/// what a kill -9 interrupts comes back by itself; the receiver then sees the same `webhook-id` again.
///
/// Jobs of a destination are sent oldest first, several at a time: receivers that need the order use `position`.
public final class PushService: StoreObserver {
    struct State {
        var destinations: [DestinationID: PushDestination] = [:]
        var triggers: [TriggerID: JobJSON.TriggerNames] = [:]
        /// Workers that are running.
        var lanes: [DestinationID: Lane] = [:]
        /// Destinations that answered 410, with the URL that did.
        var gone: [DestinationID: String] = [:]
        var slots: PushSlots
        var deadLetters: [DestinationID: Int] = [:]
        /// When the coordinator looks again by itself.
        var nextRoundAt = Timestamp.distantPast
        var isStopping = false
        var counters = Counters()
    }

    /// Since the start of the process.
    public struct Counters: Sendable, Equatable {
        public var delivered = 0
        public var retried = 0
        public var dead = 0
    }

    let store: any DeliveryStore
    let namespace: NamespaceID
    let time: any TimeSource
    /// For the timestamps that are signed.
    let wallTime: any TimeSource
    let alarms: any AlarmReporting
    let options: PushOptions
    let logger: Logger
    let random: @Sendable () -> Double
    let destinationGone: @Sendable (DestinationID) async -> Void
    let recorder: AttemptRecorder
    let routes: PushRoutes
    let sender: PushSender
    let state: Mutex<State>
    private let signal = WakeSignal()

    /// `wallTime`: what `webhook-timestamp` and dates in Retry-After are counted by; nil: `time`. `random`: numbers from 0 up to 1, for the jitter. `destinationGone`: called when a destination answered 410; the
    /// server stores it as disabled. Until then this service keeps it disabled by itself.
    public init(
        store: any DeliveryStore, namespace: NamespaceID = .default, time: any TimeSource, wallTime: (any TimeSource)? = nil,
        alarms: any AlarmReporting, options: PushOptions = PushOptions(), logger: Logger,
        random: @escaping @Sendable () -> Double = { Double.random(in: 0..<1) },
        destinationGone: @escaping @Sendable (DestinationID) async -> Void = { _ in }
    ) {
        self.store = store
        self.namespace = namespace
        self.time = time
        self.wallTime = wallTime ?? time
        self.alarms = alarms
        self.options = options
        self.logger = logger
        self.random = random
        self.destinationGone = destinationGone
        recorder = AttemptRecorder(store: store, logger: logger)
        routes = PushRoutes(addressSecondsMax: options.addressSecondsMax)
        sender = PushSender(options: options)
        state = Mutex(State(slots: PushSlots(sharedMax: options.attemptsAtOnceMax)))
    }

    /// What there is now. Call it before `run`, and after each change of definitions before the changed triggers poll: a
    /// job of a trigger that is not named here waits until its claim runs out.
    public func update(destinations: [PushDestination], triggers: [TriggerID: (name: String, uid: String)]) {
        state.withLock { state in
            state.destinations = Dictionary(destinations.map { ($0.id, $0) }) { _, last in last }
            state.triggers = triggers
            // Stored as disabled by now, or led elsewhere: from here on only what is stored counts.
            state.gone = state.gone.filter { id, url in
                state.destinations[id].map { !$0.isDisabled && $0.url == url } ?? false
            }
        }
        routes.keepOnly(Set(destinations.map(\.id)))
        signal.wake()
    }

    public var counters: Counters { state.withLock(\.counters) }

    /// Requests in flight now.
    public var inFlight: Int { state.withLock { $0.slots.total } }

    /// Takes nothing new; `run` returns when the requests in flight are answered and recorded.
    public func stop() {
        let lanes = state.withLock { state in
            state.isStopping = true
            return Array(state.lanes.values)
        }
        signal.wake()
        for lane in lanes { lane.signal.wake() }
    }

    /// Runs until `stop`, or until the task is cancelled: then requests in flight are broken off, and made again once
    /// their claims have run out. Tell the store before: `store.observe(push)`. Once only.
    public func run() async {
        await withTaskCancellationHandler {
            await withDiscardingTaskGroup { outer in
                outer.addTask { await self.recorder.run() }
                await withDiscardingTaskGroup { workers in await self.coordinate(&workers) }
                recorder.finish()
            }
            routes.keepOnly([])
        } onCancel: {
            stop()
        }
    }

    // MARK: - StoreObserver

    public func signalled(_ signals: [TopicSignal]) {}
    public func jobsCommitted(_ triggers: [TriggerID], at time: Timestamp) {}
    public func deliveriesIntended() { signal.wake() }

    // MARK: - Coordinator

    /// Rounds closer together than this share one: under load each commit would ask for one.
    private static let roundGap = Span.milliseconds(10)

    private func coordinate(_ workers: inout DiscardingTaskGroup) async {
        while !isStopping {
            let wait = await round(&workers)
            await signal.wait(atMost: wait)
            if !isStopping { try? await Task.sleep(for: .milliseconds(PushService.roundGap.milliseconds)) }
        }
    }

    var isStopping: Bool { state.withLock(\.isStopping) }

    /// Starts or wakes the workers of what is due; returns how long nothing else will be.
    private func round(_ workers: inout DiscardingTaskGroup) async -> Span {
        let pending: [(destination: DestinationID, dueAt: Timestamp, pending: Int)]
        // A retry that is recorded from here on may not be in the answer: it asks for another round.
        state.withLock { $0.nextRoundAt = .distantFuture }
        do {
            pending = try await store.pendingDestinations(namespace)
        } catch {
            logger.warning("pending deliveries could not be read", metadata: ["error": "\(error)"])
            return .seconds(1)
        }
        let now = time.now()
        var next = now + .seconds(Int64(options.idleSecondsMax))
        for entry in pending where destination(entry.destination) != nil {
            if entry.dueAt > now {
                next = min(next, entry.dueAt)
            } else if let lane = wakeOrMake(entry.destination) {
                workers.addTask { await self.work(lane) }
            }
        }
        state.withLock { $0.nextRoundAt = min($0.nextRoundAt, next) }
        return next - now
    }

    /// The lane of a new worker; nil if there is one running, which is woken.
    private func wakeOrMake(_ id: DestinationID) -> Lane? {
        let (lane, isNew) = state.withLock { state in
            if let lane = state.lanes[id] {
                lane.rules.withLock { $0.noteDue() }
                return (lane, false)
            }
            let lane = Lane(id: id)
            state.lanes[id] = lane
            return (lane, true)
        }
        if isNew { return lane }
        lane.signal.wake()
        return nil
    }

    /// A retry is due then: look no later.
    func lookAgain(at time: Timestamp) {
        let isSooner = state.withLock { state in
            guard time < state.nextRoundAt else { return false }
            state.nextRoundAt = time
            return true
        }
        if isSooner { signal.wake() }
    }

    func wakeCoordinator() { signal.wake() }

    /// The destination as it is now; nil if it is gone or disabled.
    func destination(_ id: DestinationID) -> PushDestination? {
        state.withLock { state in
            guard let destination = state.destinations[id], !destination.isDisabled, state.gone[id] == nil else { return nil }
            return destination
        }
    }
}
