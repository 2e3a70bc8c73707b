import AsyncHTTPClient
import Logging
import SluiceConnectors
import SluiceCore
import SluiceStore
import Synchronization

/// Keeps the subscriptions of triggers with dynamic webhooks. What is to be done is decided by `SubscriptionMachine`; this
/// records it, asks providers through their connection's lane, and tells where webhooks come in.
///
/// One thing at a time of a trigger, a few at a time of a connection, and a bounded number over all.
public final class SubscriptionService: Sendable {
    public struct Limits: Sendable {
        /// Triggers whose provider is being asked at the same time.
        public var callsAtOnceMax: Int
        public var callsPerConnectionMax: Int
        public var policy: SubscriptionPolicy
        public init(callsAtOnceMax: Int = 32, callsPerConnectionMax: Int = 4, policy: SubscriptionPolicy = SubscriptionPolicy()) {
            self.callsAtOnceMax = callsAtOnceMax
            self.callsPerConnectionMax = callsPerConnectionMax
            self.policy = policy
        }
    }

    /// Whom it tells what becomes of triggers.
    public struct Listener: Sendable {
        /// A trigger has another state, or other times at which it polls.
        public var triggerChanged: @Sendable (StoredTrigger) -> Void
        /// Webhooks may have been missed until now.
        public var webhooksMissed: @Sendable (TriggerID) -> Void
        public init(
            triggerChanged: @escaping @Sendable (StoredTrigger) -> Void, webhooksMissed: @escaping @Sendable (TriggerID) -> Void
        ) {
            self.triggerChanged = triggerChanged
            self.webhooksMissed = webhooksMissed
        }
    }

    /// A subscription with what is sealed beside it.
    struct Row {
        var stored: StoredSubscription
        var secrets: SubscriptionSecrets
        /// False: what is sealed could not be opened, and stays as it is.
        var isOpen = true
    }

    /// A trigger and its subscriptions.
    struct Held {
        /// Nil once the trigger is gone.
        var trigger: StoredTrigger?
        var machine: SubscriptionMachine
        var rows: [SubscriptionID: Row]
        var isBusy = false
        /// Look again; set by whatever changes it.
        var isCalled = true
        var wakeAt: Timestamp?
        var holdReason: String?
        var alarms: Set<Alarm.Kind> = []
        var routes: [SubscriptionRoute] = []
        var isSubscribed: Bool
        /// The store could not be read after a failure: what is held may not be what is recorded.
        var needsReload = false

        var connection: ConnectionID? { trigger?.connection ?? rows.values.first?.stored.connection }
    }

    struct State {
        var held: [TriggerID: Held] = [:]
        var calls: [ConnectionID: Int] = [:]
        var callsRunning = 0
        var isRunning = false
    }

    let store: any Store
    let catalogue: any SubscriptionCatalogue
    let time: any TimeSource
    let alarms: any AlarmReporting
    let logger: Logger
    let random: @Sendable () -> Double
    let newToken: @Sendable () -> String
    let http: @Sendable (ConnectionID) -> any HTTPSending
    let scrubber: @Sendable (ConnectionID) -> SecretScrubber
    let listener: Listener
    let limits: Limits
    let state = Mutex(State())
    private let waker: Waker

    /// `newToken`: unguessable, different each time. Requests go through the lanes of `polling`.
    public init(
        store: any Store, catalogue: any SubscriptionCatalogue, time: any TimeSource, alarms: any AlarmReporting, polling: PollingService,
        limits: Limits = Limits(), logger: Logger, random: @escaping @Sendable () -> Double, newToken: @escaping @Sendable () -> String
    ) {
        self.store = store
        self.catalogue = catalogue
        self.time = time
        self.alarms = alarms
        self.logger = logger
        self.random = random
        self.newToken = newToken
        self.limits = limits
        http = { polling.lane($0) }
        scrubber = { polling.scrubber(of: $0) }
        listener = Listener(
            triggerChanged: { polling.triggerChanged($0) }, webhooksMissed: { polling.webhooksMissed(trigger: $0) })
        waker = Waker(eventLoop: polling.client.eventLoopGroup.any())
    }

    // MARK: What others tell

    /// Takes what is stored. Call once, before anything else, after the catalogue knows the definitions.
    public func load(_ definitions: Definitions, _ stored: [StoredSubscription]) {
        let now = time.now()
        let rows = Dictionary(grouping: stored, by: \.trigger)
        let triggers = Dictionary(definitions.triggers.map { ($0.id, $0) }) { first, _ in first }
        // Each check may read a provider's whole list: very many of them come over hours.
        var policy = limits.policy
        policy.checkSpread = min(max(policy.checkSpread, .seconds(Int64(rows.count))), policy.checkInterval)
        let spread = policy
        state.withLock { state in
            for (trigger, rows) in rows { state.held[trigger] = hold(triggers[trigger], rows, at: now, policy: spread) }
            for trigger in definitions.triggers { put(trigger, in: &state, at: now) }
        }
        for trigger in rows.keys { publish(trigger) }
    }

    /// A trigger was made or changed.
    public func triggerChanged(_ trigger: StoredTrigger) {
        let now = time.now()
        state.withLock { put(trigger, in: &$0, at: now) }
        waker.call()
    }

    /// Its subscriptions are removed all the same.
    public func triggerRemoved(_ id: TriggerID) {
        state.withLock { state in
            state.held[id]?.trigger = nil
            state.held[id]?.isCalled = true
        }
        waker.call()
    }

    /// Its credentials may be others now: whatever waits is tried again, and compared with what the provider has.
    public func connectionChanged(_ id: ConnectionID) {
        let triggers = state.withLock { state in state.held.filter { $0.value.connection == id }.map(\.key) }
        for trigger in triggers { _ = checkNow(trigger) }
    }

    /// Compares with the provider at once. False: the trigger has no subscription.
    @discardableResult
    public func checkNow(_ trigger: TriggerID) -> Bool {
        let now = time.now()
        let isKnown = state.withLock { state in
            guard state.held[trigger] != nil else { return false }
            state.held[trigger]?.machine.checkNow(at: now)
            state.held[trigger]?.isCalled = true
            return true
        }
        waker.call()
        return isKnown
    }

    /// Removes what was left behind at the provider, or forgets it where the provider's name for it is not known. Throws
    /// `.notFound`, or `.conflict` if it is in use.
    public func removeLeftBehind(_ id: SubscriptionID) throws(SluiceError) {
        let now = time.now()
        let removed = state.withLock { state -> Bool? in
            guard let trigger = state.held.first(where: { $0.value.rows[id] != nil })?.key else { return nil }
            let removed = state.held[trigger]?.machine.removeLeftBehind(id, at: now) ?? false
            state.held[trigger]?.isCalled = true
            return removed
        }
        guard let removed else {
            throw SluiceError(.notFound, "there is no subscription \(id): see `sluice subscription list`").with(
                "subscription", id.description)
        }
        guard removed else {
            throw SluiceError(.conflict, "subscription \(id) is not left behind: stop its trigger to remove it")
                .with("subscription", id.description)
        }
        waker.call()
    }

    /// A provider gave the secret of a subscription in a handshake at its URL. False: it is no URL of a subscription. Throws
    /// `.conflict` if it has a secret already.
    public func learn(secret: String, token: String) async throws -> Bool {
        let found = state.withLock { state -> (TriggerID, Row)? in
            for (trigger, held) in state.held {
                if let row = held.rows.values.first(where: { $0.stored.token == token }) { return (trigger, row) }
            }
            return nil
        }
        guard let (trigger, row) = found else { return false }
        guard row.secrets.secret == nil else { throw SluiceError(.conflict, "the address has a webhook secret already") }
        var secrets = row.secrets
        secrets.secret = secret
        let sealed = try catalogue.seal(secrets.json, url: row.stored.url)
        let change = SubscriptionChange.update(row.stored.id, row.stored.generation, state: row.stored.state, sealed: sealed)
        try await store.recordSubscriptions([change])
        state.withLock { state in
            guard var row = state.held[trigger]?.rows[row.stored.id] else { return }
            row.stored.sealed = sealed
            row.stored.generation = row.stored.generation.next
            row.secrets.secret = secret
            state.held[trigger]?.rows[row.stored.id] = row
        }
        publish(trigger)
        return true
    }

    // MARK: What others ask

    /// Whether starting and stopping a trigger is settled here, once the provider has answered.
    public func settles(_ trigger: StoredTrigger) -> Bool {
        if (try? catalogue.subscriptionPlan(for: trigger)) ?? nil != nil { return true }
        return state.withLock { state in state.held[trigger.id]?.rows.values.contains { $0.stored.state.phase != .leftBehind } ?? false }
    }

    /// What keeps a trigger's webhooks away, where that is for people to mend; nil otherwise.
    public func problem(of trigger: TriggerID) -> String? {
        let (reason, row) = state.withLock { state in
            let held = state.held[trigger]
            return (held?.holdReason, held?.machine.newest.flatMap { held?.rows[$0.id] })
        }
        if let reason { return reason }
        guard let row, row.stored.state.phase == .active, row.secrets.secret == nil,
            let means = try? catalogue.subscriptionMeans(connection: row.stored.connection, triggerType: row.stored.triggerType),
            !means.canVerify
        else { return nil }
        return "its webhooks cannot be verified: neither the subscription nor the connection \(means.connectionName) has a secret; set "
            + "`webhook: {secrets: [...]}`"
    }

    // MARK: The loop

    /// Runs until the task is cancelled; what is under way then is uncertain, and is looked into after the next start.
    public func run() async {
        await withDiscardingTaskGroup { group in
            while !Task.isCancelled {
                let now = time.now()
                let (ready, wake) = state.withLock { takeReady(&$0, at: now) }
                for trigger in ready {
                    group.addTask { await self.perform(trigger) }
                }
                await waker.sleep(for: wake.map { max($0 - now, .zero) })
            }
            group.cancelAll()
        }
    }

    private func takeReady(_ state: inout State, at now: Timestamp) -> ([TriggerID], wake: Timestamp?) {
        var ready: [TriggerID] = []
        var wake: Timestamp?
        for (id, held) in state.held where !held.isBusy {
            guard held.isCalled || held.wakeAt.map({ $0 <= now }) ?? false else {
                if let at = held.wakeAt { wake = min(wake ?? at, at) }
                continue
            }
            let connection = held.connection ?? ConnectionID(0)
            // Those that find no room are looked at again when a call ends.
            guard state.callsRunning < limits.callsAtOnceMax, state.calls[connection, default: 0] < limits.callsPerConnectionMax else {
                continue
            }
            state.callsRunning += 1
            state.calls[connection, default: 0] += 1
            state.held[id]?.isBusy = true
            state.held[id]?.isCalled = false
            ready.append(id)
        }
        return (ready, wake)
    }

    private func perform(_ id: TriggerID) async {
        let connection = state.withLock { $0.held[id]?.connection } ?? ConnectionID(0)
        await SubscriptionRunner(service: self, id: id).run()
        state.withLock { state in
            state.callsRunning -= 1
            state.calls[connection, default: 1] -= 1
            if state.calls[connection] == 0 { state.calls[connection] = nil }
            state.held[id]?.isBusy = false
            // A trigger without dynamic webhooks and without anything left is of no concern here.
            if let held = state.held[id], held.rows.isEmpty, held.machine.wantedKey == nil, !held.isCalled, held.holdReason == nil {
                state.held[id] = nil
            }
        }
        waker.call()
    }

    // MARK: Inside

    private func put(_ trigger: StoredTrigger, in state: inout State, at now: Timestamp) {
        if state.held[trigger.id] == nil {
            // Cheap to ask, and most triggers have none.
            do { guard try catalogue.subscriptionPlan(for: trigger) != nil else { return } } catch { return }
            state.held[trigger.id] = hold(trigger, [], at: now)
        }
        state.held[trigger.id]?.trigger = trigger
        state.held[trigger.id]?.isCalled = true
    }

    func hold(
        _ trigger: StoredTrigger?, _ rows: [StoredSubscription], at now: Timestamp, policy: SubscriptionPolicy? = nil
    ) -> Held {
        let plan = trigger.flatMap { try? catalogue.subscriptionPlan(for: $0) }
        let machine = SubscriptionMachine(
            entries: rows.map(\.state), abilities: plan?.traits.abilities ?? abilities(of: rows), policy: policy ?? limits.policy, at: now,
            random: random())
        let opened = rows.map { stored -> (SubscriptionID, Row) in
            let secrets = (try? catalogue.open(stored.sealed, url: stored.url)).map { SubscriptionSecrets($0) }
            return (stored.id, Row(stored: stored, secrets: secrets ?? SubscriptionSecrets(), isOpen: secrets != nil))
        }
        return Held(
            trigger: trigger, machine: machine, rows: Dictionary(opened) { first, _ in first }, isSubscribed: machine.isSubscribed(at: now))
    }

    /// Of subscriptions whose trigger is gone, or is of another type by now.
    func abilities(of rows: [StoredSubscription]) -> SubscriptionAbilities {
        guard let row = rows.last, let means = try? catalogue.subscriptionMeans(connection: row.connection, triggerType: row.triggerType)
        else { return SubscriptionAbilities() }
        return means.connector.definition.trigger(row.triggerType)?.subscription?.abilities ?? SubscriptionAbilities()
    }

    /// Tells where the webhooks of a trigger come in, and what is wrong with its subscriptions.
    func publish(_ id: TriggerID) {
        let now = time.now()
        struct News {
            var routes: [SubscriptionRoute]
            var isSubscribed: Bool
            var problems: [(kind: Alarm.Kind, message: String)]
            var cleared: Set<Alarm.Kind>
            var subject: String
        }
        let news = state.withLock { state -> News? in
            guard var held = state.held[id] else { return nil }
            let routes = held.rows.values.sorted { $0.stored.id < $1.stored.id }.compactMap { row -> SubscriptionRoute? in
                guard let token = row.stored.token, row.stored.state.phase != .leftBehind else { return nil }
                return SubscriptionRoute(
                    token: token, connection: row.stored.connection, secret: row.secrets.secret, output: row.secrets.output)
            }
            let problems = held.machine.problems(at: now)
            let kinds = Set(problems.map(\.kind))
            let cleared = held.alarms.subtracting(kinds)
            (held.alarms, held.routes) = (kinds, routes)
            state.held[id] = held
            return News(
                routes: routes, isSubscribed: held.machine.isSubscribed(at: now), problems: problems, cleared: cleared,
                subject: held.trigger.map { "trigger \($0.name)" } ?? "subscriptions of a removed trigger (\(id))")
        }
        guard let news else { return }
        catalogue.subscriptionsChanged(of: id, to: news.routes, isSubscribed: news.isSubscribed)
        for kind in news.cleared { alarms.clear(kind, subject: news.subject) }
        for problem in news.problems { alarms.raise(Alarm(kind: problem.kind, subject: news.subject, message: problem.message)) }
    }
}

/// What is sealed beside a subscription.
struct SubscriptionSecrets {
    /// Made here, for providers to which one is given.
    var offered: String?
    /// What its webhooks are signed with, as far as that is its own.
    var secret: String?
    /// JSON.
    var output: [UInt8]?

    init(offered: String? = nil, secret: String? = nil, output: [UInt8]? = nil) {
        self.offered = offered
        self.secret = secret
        self.output = output
    }

    init(_ json: [UInt8]) {
        guard let root = (try? JSONDocument(json))?.root else { return }
        offered = root["offered"]?.string
        secret = root["secret"]?.string
        output = root["output"].map { Array($0.bytes) }
    }

    /// What the provider gave goes with its subscription; what was offered is offered again.
    mutating func forgetGiven() {
        if secret != offered { secret = nil }
    }

    var json: [UInt8] {
        var writer = JSONWriter()
        writer.object { writer in
            if let offered { writer.member("offered", offered) }
            if let secret { writer.member("secret", secret) }
            if let output {
                writer.key("output")
                writer.raw(output)
            }
        }
        return writer.bytes
    }
}
