import Logging
import SluiceCore
import SluiceStore
import Synchronization

/// Carries jobs to destinations, at least once each, until they are delivered or dead letters (P9).
///
/// A coordinator asks the store which destinations have something due: when told of new deliveries, when the next retry is
/// due, and now and then. Each such destination gets a worker for as long as it has work. A worker claims a batch, lets its
/// courier carry it with bounded concurrency, and its attempts are recorded together with those of other destinations. A
/// destination that hangs holds only its own slots (P12, see `DeliveryLane` and `DeliverySlots`). What a kill -9 interrupts the
/// next process gives back at its start (`releaseFormerClaims`); the receiver then sees the same job id again. Besides, a claim is
/// hidden for a bounded time only.
///
/// Jobs of a destination are carried oldest first, several at a time: receivers that need the order use `position`.
public final class DeliveryService: StoreObserver {
    /// Which jobs of a trigger a destination gets, and in what form; nil: all, as they are.
    public typealias SieveSource = @Sendable (ClaimedDelivery) -> (any JobSieve)?
    /// Told that a destination takes nothing more: its number, the plan's target that said so, and what it said.
    public typealias DestinationGone = @Sendable (DestinationID, _ target: String, _ reason: String) async -> Void

    struct State {
        var destinations: [DestinationID: CarriedDestination] = [:]
        var triggers: [TriggerID: JobJSON.TriggerNames] = [:]
        /// Of all destinations that ever had work, with what is known of how they do.
        var lanes: [DestinationID: Lane] = [:]
        var couriers: [DestinationID: HeldCourier] = [:]
        /// To be closed by the coordinator.
        var retired: [any Courier] = []
        /// Destinations that take nothing more, with the target that said so.
        var gone: [DestinationID: String] = [:]
        var slots: DeliverySlots
        var deadLetters: [DestinationID: Int] = [:]
        /// When the coordinator looks again by itself.
        var nextRoundAt = Timestamp.distantPast
        /// Raised by each update.
        var version = 0
        var isStopping = false
        var counters = Counters()
    }

    /// Since the start of the process.
    public struct Counters: Sendable, Equatable {
        public var delivered = 0
        public var retried = 0
        public var dead = 0
        /// Left out by a filter.
        public var filtered = 0
    }

    let store: any DeliveryStore
    let namespace: NamespaceID
    let time: any TimeSource
    let alarms: any AlarmReporting
    let options: DeliveryOptions
    let logger: Logger
    let random: @Sendable () -> Double
    let sieve: SieveSource
    let destinationGone: DestinationGone
    let recorder: AttemptRecorder
    let trouble: StoreTrouble
    let state: Mutex<State>
    private let tools: CourierTools
    private let signal = WakeSignal()

    /// `wallTime`: what signed timestamps and dates in Retry-After are counted by; nil: `time`. `random`: numbers from 0 up to
    /// 1, for the jitter. `sieve`: asked for each delivery that is claimed. `destinationGone`: called when a destination takes
    /// nothing more; the server stores it as disabled. Until then this service keeps it disabled by itself.
    public init(
        store: any DeliveryStore, namespace: NamespaceID = .default, time: any TimeSource, wallTime: (any TimeSource)? = nil,
        alarms: any AlarmReporting, options: DeliveryOptions = DeliveryOptions(), logger: Logger,
        random: @escaping @Sendable () -> Double = { Double.random(in: 0..<1) },
        sieve: @escaping SieveSource = { _ in nil },
        destinationGone: @escaping DestinationGone = { _, _, _ in }
    ) {
        self.store = store
        self.namespace = namespace
        self.time = time
        self.alarms = alarms
        self.options = options
        self.logger = logger
        self.random = random
        self.sieve = sieve
        self.destinationGone = destinationGone
        tools = CourierTools(wallTime: wallTime ?? time, options: options, logger: logger)
        trouble = StoreTrouble(alarms: alarms, subject: "deliveries")
        recorder = AttemptRecorder(store: store, trouble: trouble, logger: logger)
        state = Mutex(State(slots: DeliverySlots(sharedMax: options.callsAtOnceMax)))
    }

    /// What there is now. Call it before `run`, and after each change of definitions before the changed triggers poll: a
    /// job of a trigger that is not named here waits until its claim runs out.
    public func update(destinations: [CarriedDestination], triggers: [TriggerID: (name: String, uid: String)]) {
        let working = state.withLock { state in
            state.destinations = Dictionary(destinations.map { ($0.id, $0) }) { _, last in last }
            state.triggers = triggers
            state.version += 1
            // Stored as disabled by now, or led elsewhere: from here on only what is stored counts.
            state.gone = state.gone.filter { id, target in
                state.destinations[id].map { !$0.isDisabled && $0.plan.target == target } ?? false
            }
            let now = time.now()
            for (id, lane) in state.lanes {
                if let destination = state.destinations[id] {
                    lane.work.withLock { $0.adapt(to: destination, at: now) }
                } else if lane.work.withLock({ !$0.isWorking }) {
                    state.lanes[id] = nil
                }
            }
            for (id, held) in state.couriers where state.destinations[id]?.plan.isSame(as: held.plan) != true {
                state.couriers[id] = nil
                if held.retire() { state.retired.append(held.courier) }
            }
            return Array(state.lanes.values)
        }
        // More calls at once, another rate: not when a pause is over, but now.
        for lane in working { lane.signal.wake() }
        signal.wake()
    }

    /// Claims that are given back in one transaction.
    static let releasedAtOnceMax = 1000

    /// Gives back what a former process had claimed and did not come to record: it is carried again at once. Call it before `run`, and
    /// only where this process has the store to itself.
    public func releaseFormerClaims() async throws {
        while try await store.releaseClaims(namespace, limit: DeliveryService.releasedAtOnceMax, at: time.now())
            == DeliveryService.releasedAtOnceMax
        {}
    }

    public var counters: Counters { state.withLock(\.counters) }

    /// Calls in flight now.
    public var inFlight: Int { state.withLock { $0.slots.total } }

    /// Takes nothing new; `run` returns when the calls in flight are answered and recorded.
    public func stop() {
        let lanes = state.withLock { state in
            state.isStopping = true
            return Array(state.lanes.values)
        }
        signal.wake()
        for lane in lanes { lane.signal.wake() }
    }

    /// Runs until `stop`, or until the task is cancelled: then calls in flight are broken off, and made again once their
    /// claims have run out. Tell the store before: `store.observe(service)`. Once only.
    public func run() async {
        await withTaskCancellationHandler {
            await withDiscardingTaskGroup { outer in
                outer.addTask { await self.recorder.run() }
                await withDiscardingTaskGroup { workers in await self.coordinate(&workers) }
                recorder.finish()
            }
            let couriers = state.withLock { state in
                defer { (state.couriers, state.retired) = ([:], []) }
                return state.couriers.values.filter { $0.retire() }.map(\.courier) + state.retired
            }
            for courier in couriers { await courier.close() }
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
            for courier in takeRetired() { workers.addTask { await courier.close() } }
            let wait = await round(&workers)
            await signal.wait(atMost: wait)
            if !isStopping { try? await Task.sleep(for: .milliseconds(DeliveryService.roundGap.milliseconds)) }
        }
    }

    var isStopping: Bool { state.withLock(\.isStopping) }

    private func takeRetired() -> [any Courier] {
        state.withLock { state in
            defer { state.retired = [] }
            return state.retired
        }
    }

    /// Starts or wakes the workers of what is due; returns how long nothing else will be.
    private func round(_ workers: inout DiscardingTaskGroup) async -> Span {
        let pending: [(destination: DestinationID, dueAt: Timestamp, pending: Int)]
        // A retry that is recorded from here on may not be in the answer: it asks for another round.
        state.withLock { $0.nextRoundAt = .distantFuture }
        do {
            pending = try await store.pendingDestinations(namespace)
            trouble.worked(.look)
            trouble.keep { id in destination(id) != nil && pending.contains { $0.destination == id } }
        } catch {
            trouble.failed(.look, "what is to be delivered cannot be read", error)
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
            let lane = state.lanes[id] ?? Lane(id: id)
            state.lanes[id] = lane
            let destination = state.destinations[id]
            let now = time.now()
            let isNew = lane.work.withLock { work in
                defer { work.isWorking = true }
                if !work.isWorking, let destination { work.adapt(to: destination, at: now) }
                work.rules.noteDue()
                return !work.isWorking
            }
            return (lane, isNew)
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
    func destination(_ id: DestinationID) -> CarriedDestination? { state.withLock { $0.destination(id) } }

    /// The destination's courier, on which `begin` was called; nil if the destination changed meanwhile.
    func courier(of destination: CarriedDestination) -> HeldCourier? {
        state.withLock { state in
            guard let now = state.destination(destination.id), now.plan.isSame(as: destination.plan) else { return nil }
            if let held = state.couriers[destination.id], held.begin() { return held }
            let held = HeldCourier(plan: destination.plan, courier: destination.plan.makeCourier(tools))
            state.couriers[destination.id] = held
            return held.begin() ? held : nil
        }
    }

    func end(_ held: HeldCourier) {
        guard held.end() else { return }
        state.withLock { $0.retired.append(held.courier) }
        signal.wake()
    }
}

extension DeliveryService.State {
    func destination(_ id: DestinationID) -> CarriedDestination? {
        guard let destination = destinations[id], !destination.isDisabled, gone[id] == nil else { return nil }
        return destination
    }
}
