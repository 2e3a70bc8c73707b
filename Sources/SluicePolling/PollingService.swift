import AsyncHTTPClient
import Logging
import NIOCore
import SluiceConnectors
import SluiceCore
import SluiceOutgoing
import SluiceStore
import Synchronization

/// Runs the polls of a shard: asks the `Schedule` what may start, runs cycles, and tells it how they ended.
///
/// A thin shell: when to poll is decided by `Schedule`, how a cycle goes on by `CycleSlice`, what is new by the store.
public final class PollingService: StoreObserver, Sendable {
    public struct Limits: Sendable {
        /// Cycles at once over all connections.
        public var cyclesAtOnceMax: Int
        /// Beyond that, for connections of which nothing runs: so many providers can hang before they hold up others.
        public var firstCyclesMax: Int
        /// Cycles at once that read the inbox.
        public var inboxCyclesMax: Int
        /// Held requests at once over all connections. Where there are more triggers, they take turns.
        public var heldMax: Int
        /// How long held requests that bring nothing go without a commit that says so.
        public var quietSpanMax: Span
        public var recordsPerCommitMax: Int
        /// The window over which polls are spread that make up for missed webhooks: this much a trigger, at most `catchUpWindowMax`.
        public var catchUpSpanPerTrigger: Span
        public var catchUpWindowMax: Span
        public var slice: CycleSlice.Limits
        /// Permanent failures in a row after which a trigger counts as failed.
        public var permanentFailuresMax: Int
        /// After so many of them in the middle of a cycle it begins again from the cursor, without the page state that it stood at.
        public var stuckFailuresMax: Int
        /// Refusals of the cursor in a row after which a trigger counts as failed: one may pass.
        public var badCursorsMax: Int
        /// A larger answer of a provider is refused.
        public var pageBytesMax: Int
        public init(
            cyclesAtOnceMax: Int = 64, firstCyclesMax: Int = 256, inboxCyclesMax: Int = 16, heldMax: Int = 20_000,
            quietSpanMax: Span = .minutes(10),
            recordsPerCommitMax: Int = 1000,
            catchUpSpanPerTrigger: Span = .milliseconds(20),
            catchUpWindowMax: Span = .minutes(10), slice: CycleSlice.Limits = CycleSlice.Limits(), permanentFailuresMax: Int = 5,
            badCursorsMax: Int = 3, stuckFailuresMax: Int = 3, pageBytesMax: Int = PollLimits.pageBytesMax
        ) {
            self.cyclesAtOnceMax = cyclesAtOnceMax
            self.firstCyclesMax = firstCyclesMax
            self.inboxCyclesMax = inboxCyclesMax
            self.heldMax = heldMax
            self.quietSpanMax = quietSpanMax
            self.recordsPerCommitMax = recordsPerCommitMax
            self.catchUpSpanPerTrigger = catchUpSpanPerTrigger
            self.catchUpWindowMax = catchUpWindowMax
            self.slice = slice
            self.permanentFailuresMax = permanentFailuresMax
            self.badCursorsMax = badCursorsMax
            self.stuckFailuresMax = stuckFailuresMax
            self.pageBytesMax = pageBytesMax
        }
    }

    struct State {
        var schedule = Schedule()
        var generations = NewestGenerations()
        var fence: Fence?
        /// Somebody else polls this shard now.
        var isLeaseLost = false
        var lanes: [ConnectionID: PollHTTP] = [:]
        /// Access tokens, of connections that have them.
        var keepers: [ConnectionID: Keeping] = [:]
        /// Pages in a row without news, of triggers that are in the middle of a long read.
        var barrenPages: [TriggerID: Int] = [:]
        /// Failures in a row of one kind, of triggers whose last cycle failed.
        var streaks: [TriggerID: FailureStreak] = [:]
        var doubts: [ConnectionID: CredentialDoubt] = [:]
        /// Cycles that run, lane by lane.
        var running = Schedule.Lane.allCases.map { _ in 0 }
        /// What long-polling triggers hold.
        var held: [TriggerID: HeldSlot] = [:]
        /// When a held answer last made dedup keys older.
        var agedKeysAt: [TriggerID: Timestamp] = [:]
        /// Hashes of connectors whose texts are kept.
        var textsKept: Set<String> = []
        /// Connectors as they were, by their hashes.
        var formers: [String: any Connector] = [:]
    }

    let store: any Store
    let catalogue: any PollingCatalogue
    let time: any TimeSource
    let wallTime: any TimeSource
    let alarms: any AlarmReporting
    let client: HTTPClient
    let heldClient: HTTPClient?
    let limits: Limits
    let logger: Logger
    let random: @Sendable () -> Double
    let guardAddress: @Sendable (_ host: String, _ allowed: AddressAllowance) async throws -> Void
    let routes: OutgoingRoutes?
    let heldRoutes: OutgoingRoutes?
    /// Told when a trigger's state changed because of its polls.
    let stateChanged: @Sendable (StoredTrigger) -> Void
    let state = Mutex(State())
    let credentials: (any CredentialKeeping)?
    let renewer = TokenRenewer()
    /// Names this process among those that may refresh the same connection's tokens.
    let node = String(UInt64.random(in: 0...UInt64.max), radix: 36)
    private let waker: Waker

    /// `wallTime`: what the times of signed assertions are read from; nil: `time`.
    public init(
        store: any Store, catalogue: any PollingCatalogue, time: any TimeSource, wallTime: (any TimeSource)? = nil,
        alarms: any AlarmReporting, client: HTTPClient, limits: Limits = Limits(), logger: Logger, random: @escaping @Sendable () -> Double,
        guardAddress: @escaping @Sendable (_ host: String, _ allowed: AddressAllowance) async throws -> Void, routes: OutgoingRoutes? = nil,
        heldClient: HTTPClient? = nil, heldRoutes: OutgoingRoutes? = nil, credentials: (any CredentialKeeping)? = nil,
        stateChanged: @escaping @Sendable (StoredTrigger) -> Void = { _ in }
    ) {
        self.routes = routes
        self.heldClient = heldClient
        self.heldRoutes = heldRoutes
        self.credentials = credentials
        self.store = store
        self.catalogue = catalogue
        self.time = time
        self.wallTime = wallTime ?? time
        self.alarms = alarms
        self.client = client
        self.limits = limits
        self.logger = logger
        self.random = random
        self.guardAddress = guardAddress
        self.stateChanged = stateChanged
        waker = Waker(eventLoop: client.eventLoopGroup.any())
    }

    /// How the client must be set up: redirects are followed here, if at all, and each cycle may have a connection of its own,
    /// so that polls which hang at a host hold up nobody else's at the same host (P12).
    public static func clientConfiguration(_ limits: Limits) -> HTTPClient.Configuration {
        var configuration = HTTPClient.Configuration(redirectConfiguration: .disallow, timeout: .init(connect: .seconds(10)))
        configuration.decompression = .enabled(limit: .size(limits.pageBytesMax))
        configuration.connectionPool.concurrentHTTP1ConnectionsPerHostSoftLimit = limits.cyclesAtOnceMax
        return configuration
    }

    /// How the client for held requests must be set up, of which very many may be open to one host.
    public static func heldConfiguration(_ limits: Limits) -> HTTPClient.Configuration {
        var configuration = clientConfiguration(limits)
        configuration.connectionPool.concurrentHTTP1ConnectionsPerHostSoftLimit = limits.heldMax
        // A provider that cannot be reached may have been restarted, and that is for the next poll to find out.
        configuration.connectionPool.retryConnectionEstablishment = false
        return configuration
    }

    // MARK: What others tell

    /// Takes the lease and everything that is defined. Call once, before `run`, after `store.observe`. Every trigger that
    /// listens to webhooks polls once within the catch-up window: webhooks may have been lost while nobody was here.
    public func load(_ definitions: Definitions, holder: String) async throws {
        let now = time.now()
        let fence = try await store.acquireLease(shard: 0, holder: holder, at: now)
        state.withLock { state in
            (state.fence, state.isLeaseLost) = (fence, false)
            for connection in definitions.connections { configure(connection.id, in: &state) }
            for connection in definitions.connections where connection.problem != nil {
                state.schedule.setRefused(connection.id, probeAt: now)
            }
            for topic in definitions.topics {
                state.schedule.restoreTopic(topic.id, sequence: topic.signalSequence, at: min(topic.signalledAt, now))
            }
            for trigger in definitions.triggers {
                _ = put(trigger, in: &state, at: now)
                // Whatever was mended while nobody was here: one that has failed is tried once.
                if trigger.state == .failed { state.schedule.probe(trigger.id, at: now) }
            }
        }
        webhooksMissed(connection: nil, at: now)
        await raiseStanding(definitions)
    }

    /// A connection was made or changed. What was blocked or refused gets another chance.
    public func connectionChanged(_ id: ConnectionID) {
        let now = time.now()
        state.withLock { state in
            configure(id, in: &state)
            state.doubts[id]?.changed()
            // One that was refused is tried at once; the success takes the mark and the alarm away.
            state.schedule.setRefused(id, probeAt: state.schedule.isRefused(id) ? now : nil)
        }
        waker.call()
    }

    /// A connection was removed, with its triggers before it: its credentials stay in no memory.
    public func connectionRemoved(_ id: ConnectionID) {
        state.withLock { state in
            state.lanes[id] = nil
            state.keepers[id] = nil
        }
    }

    /// A trigger was made or changed; with `cause` it polls at once. False: a later change is known, so that all but the poll is
    /// left as it is.
    @discardableResult
    public func triggerChanged(_ trigger: StoredTrigger, poll cause: PollCause? = nil) -> Bool {
        let now = time.now()
        let isTaken = state.withLock { state in
            let isTaken = put(trigger, in: &state, at: now)
            if let cause { state.schedule.pollNow(trigger.id, cause: cause, at: now) }
            return isTaken
        }
        if isTaken { release(trigger.id) }
        if !trigger.state.polls, trigger.state != .failed {
            // What is not polled does not try again.
            for kind in [Alarm.Kind.triggerFailing, .triggerResting] { alarms.clear(kind, subject: "trigger \(trigger.name)") }
        }
        waker.call()
        return isTaken
    }

    public func triggerRemoved(_ id: TriggerID) {
        release(id)
        state.withLock { state in
            state.schedule.remove(id)
            state.generations.forget(id)
            state.barrenPages[id] = nil
            state.streaks[id] = nil
            state.held[id] = nil
            state.agedKeysAt[id] = nil
        }
    }

    /// Lets go of what a trigger holds at its provider, so that the cycle that waits for it ends at once.
    private func release(_ id: TriggerID) { state.withLock { $0.held[id] }?.release() }

    /// Somebody asked for a poll: it starts at once, even where the provider refused the credentials before.
    public func pollNow(_ trigger: StoredTrigger) {
        let now = time.now()
        state.withLock { state in
            state.keepers[trigger.connection]?.keeper.forgetFailure()
            if state.schedule.isRefused(trigger.connection) { state.schedule.setRefused(trigger.connection, probeAt: now) }
            state.schedule.pollNow(trigger.id, cause: .manual, at: now)
        }
        release(trigger.id)
        waker.call()
    }

    /// Webhooks may not have been accepted until `time`: by one connection, or by any.
    public func webhooksMissed(connection: ConnectionID?, at time: Timestamp) {
        let now = self.time.now()
        state.withLock { state in
            let spread = limits.catchUpSpanPerTrigger * Int64(state.schedule.triggerCount)
            let window = min(spread, limits.catchUpWindowMax)
            state.schedule.missedWebhooks(connection: connection, until: time, window: window, at: now) { id in
                // A multiplicative hash spreads neighbouring numbers evenly over the window.
                Double((UInt64(bitPattern: id.rawValue) &* 0x9E37_79B9_7F4A_7C15) >> 11) / Double(1 << 53)
            }
        }
        waker.call()
    }

    /// Webhooks of one trigger may not have been matched to it until now.
    public func webhooksMissed(trigger: TriggerID) {
        let now = time.now()
        state.withLock { $0.schedule.missedWebhooks(trigger: trigger, until: now, at: now) }
        waker.call()
    }

    public func signalled(_ signals: [TopicSignal]) {
        let now = time.now()
        // Under load a topic is signalled with every commit, and nearly always its triggers wait for their turn already.
        let wakes = state.withLock { state in
            var wakes = false
            for signal in signals {
                let woke = state.schedule.signal(signal.topic, sequence: signal.sequence, receivedAt: min(signal.at, now), at: now)
                wakes = wakes || woke
            }
            return wakes
        }
        if wakes { waker.call() }
    }

    /// Looks at the schedule anew, for example because a clock that is moved by hand was moved.
    package func lookAgain() { waker.call() }

    public func jobsCommitted(_ triggers: [TriggerID], at time: Timestamp) {}
    public func deliveriesIntended() {}

    // MARK: What others ask

    public struct Status: Sendable {
        public var waiting: Schedule.Waiting?
        public var lastSignal: InboxSequence
        public var isConnectionRefused: Bool
    }

    public func status(of trigger: StoredTrigger) -> Status {
        let now = time.now()
        return state.withLock { state in
            Status(
                waiting: state.schedule.waiting(trigger.id, at: now), lastSignal: state.schedule.lastSignal(trigger.id),
                isConnectionRefused: state.schedule.isRefused(trigger.connection))
        }
    }

    /// Cycles that run now, held requests not counted.
    public var cyclesRunning: Int { state.withLock { $0.running[0] + $0.running[1] } }
    /// Requests that providers hold for us now.
    public var requestsHeld: Int { state.withLock { $0.running[Schedule.Lane.held.rawValue] } }

    // MARK: The loop

    /// Runs until the task is cancelled; cycles in flight are cancelled with it, and go on after the next start.
    public func run() async {
        await withDiscardingTaskGroup { group in
            while !Task.isCancelled {
                let now = time.now()
                let (starts, wake) = state.withLock { start(in: &$0, at: now) }
                for start in starts {
                    group.addTask { await self.perform(start) }
                }
                await waker.sleep(for: wake.map { max($0 - now, .zero) })
            }
            group.cancelAll()
        }
        renewer.close()
        // Streams between two cycles are nobody's task.
        for slot in state.withLock({ Array($0.held.values) }) { slot.release() }
        routes?.close()
        heldRoutes?.close()
    }

    private func start(in state: inout State, at now: Timestamp) -> ([Schedule.Start], wake: Timestamp?) {
        if state.isLeaseLost { return ([], nil) }
        let polls = state.running[Schedule.Lane.polls.rawValue]
        let room = max(0, limits.cyclesAtOnceMax - polls)
        let firsts = max(0, limits.cyclesAtOnceMax + limits.firstCyclesMax - polls - room)
        let starts = state.schedule.takeReady(
            limit: room, firsts: firsts, inbox: max(0, limits.inboxCyclesMax - state.running[Schedule.Lane.inbox.rawValue]),
            held: max(0, limits.heldMax - state.running[Schedule.Lane.held.rawValue]), at: now)
        for start in starts {
            state.running[start.lane.rawValue] += 1
            guard start.cycle.cause == .hold else { continue }
            let slot = state.held[start.trigger] ?? HeldSlot()
            state.held[start.trigger] = slot
            slot.begin()
        }
        return (starts, state.schedule.nextWake(at: now))
    }

    private func perform(_ start: Schedule.Start) async {
        if ended(start, await CycleRunner(service: self, start: start).run()) { await readAgain(start.trigger) }
        waker.call()
    }

    /// A commit was refused. Where the lease is lost every other one would be: nothing is polled any more, so that the providers are
    /// not asked in vain.
    func fenced(_ reason: FenceReason) {
        guard reason == .leaseLost else { return }
        let slots = state.withLock { state -> [HeldSlot]? in
            defer { state.isLeaseLost = true }
            return state.isLeaseLost ? nil : Array(state.held.values)
        }
        guard let slots else { return }
        logger.critical("another process has taken the lease: this one polls no more")
        let message =
            "another process polls this store now, so this one has stopped: end one of the two; this one polls again after a restart"
        alarms.raise(Alarm(kind: .leaseLost, subject: "polls", message: message))
        for slot in slots { slot.release() }
    }

    /// Whether the trigger must be read anew.
    @inline(never)
    private func ended(_ start: Schedule.Start, _ outcome: TriggerSchedule.Outcome) -> Bool {
        let now = time.now()
        state.withLock { state in
            state.running[start.lane.rawValue] -= 1
            state.schedule.finish(start.trigger, outcome, at: now)
        }
        if case .fenced = outcome { return true }
        return false
    }

    /// What is true is in the store.
    @inline(never)
    public func readAgain(_ id: TriggerID) async {
        do {
            guard let trigger = try await store.trigger(id) else { return triggerRemoved(id) }
            triggerChanged(trigger)
        } catch is CancellationError {
            return
        } catch {
            logger.error("cannot reload a trigger", metadata: ["trigger": "\(id)", "error": "\(error)"])
        }
    }

    // MARK: Inside

    /// False: a later change of it is known.
    private func put(_ trigger: StoredTrigger, in state: inout State, at now: Timestamp) -> Bool {
        if trigger.isCallbackSource { return true }
        guard state.generations.takes(trigger.id, trigger.generation) else { return false }
        let progress = trigger.progress
        if progress.lastSuccessAt != nil { state.doubts[trigger.connection, default: CredentialDoubt()].succeeded() }
        let stored = TriggerSchedule.Stored(
            covered: progress.coveredSequence, lastStartAt: progress.lastStartAt, safetyDueAt: progress.safetyDueAt,
            failures: progress.failures, retryAt: progress.retryAt, openCycle: progress.openCycle, lastCycle: progress.lastCycle)
        let mode: TriggerSchedule.Mode = trigger.state.polls ? .polls : trigger.state == .failed ? .probes : .rests
        state.schedule.put(
            trigger.id, connection: trigger.connection, topics: trigger.topics, stored: stored, mode: mode,
            timing: catalogue.timing(of: trigger), at: now)
        return true
    }

    private func configure(_ connection: ConnectionID, in state: inout State) {
        let settings = catalogue.settings(of: connection)
        state.schedule.setConnection(connection, runningMax: settings.pollsAtOnceMax, heldMax: settings.heldAtOnceMax)
        state.lanes[connection] = PollHTTP(
            client: client, settings: settings, time: time, pageBytesMax: limits.pageBytesMax, guardAddress: guardAddress, routes: routes,
            heldClient: heldClient, heldRoutes: heldRoutes,
            authorization: laneAuthorization(connection, settings, in: &state),
            rateLimit: catalogue.authorization(of: connection)?.access.rateLimit ?? RateLimitRule(),
            blocked: { [weak self] in self?.blocked(connection, until: $0) })
    }

    /// The provider says that nothing more may be asked for a time: no poll begins before.
    func blocked(_ connection: ConnectionID, until time: Timestamp) {
        state.withLock { $0.schedule.block(connection, until: time) }
    }

    func lane(_ connection: ConnectionID) -> PollHTTP {
        state.withLock { state in
            if state.lanes[connection] == nil { configure(connection, in: &state) }
            return state.lanes[connection]!
        }
    }
}

/// How often in a row a trigger failed for the same kind of reason: an outage must not count towards what is wrong for good.
struct FailureStreak {
    private(set) var kind: PollFailure.Kind?
    private(set) var count = 0

    mutating func failed(_ kind: PollFailure.Kind) {
        count = self.kind == kind ? count + 1 : 1
        self.kind = kind
    }
}
