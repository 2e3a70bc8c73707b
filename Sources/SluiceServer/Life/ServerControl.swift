import SluiceCore
import SluiceGateway
import SluicePolling
import SluiceStore
import Synchronization

/// Tells the polling service what the API changes, and the API what the polling service does.
final class ServerControl: TriggerControl {
    /// What the polling service was told last.
    private struct Told {
        /// Never lowered: definitions may have been read before a command that was told meanwhile.
        var triggers: [TriggerID: Generation] = [:]
        var topics: [TriggerID: [TopicID]] = [:]
        var connections: [ConnectionID: [[UInt8]]] = [:]
    }

    private let catalogue: RuntimeCatalogue
    private let polling: PollingService
    private let subscriptions: SubscriptionService
    private let gateway: Gateway
    private let backfills: BackfillService
    private let told = Mutex(Told())
    private struct Readings {
        var asked = 0
        /// Those that were asked for up to this one have been answered.
        var answered = 0
    }
    private let readings = Mutex(Readings())
    /// Definitions are read and told by one at a time. Whoever waits here is a request, of which there are only so many.
    private let turns = ChangeLock(waitingMax: 10_000)
    private let read: @Sendable () async throws -> Definitions
    private let time: any TimeSource

    /// `read` brings the catalogue up to date and returns what it has read.
    init(
        catalogue: RuntimeCatalogue, polling: PollingService, subscriptions: SubscriptionService, gateway: Gateway,
        backfills: BackfillService, time: any TimeSource, read: (@Sendable () async throws -> Definitions)? = nil
    ) {
        self.time = time
        self.read = read ?? { try await catalogue.refresh() }
        self.backfills = backfills
        self.subscriptions = subscriptions
        self.gateway = gateway
        self.catalogue = catalogue
        self.polling = polling
    }

    /// Notes what the polling service has loaded by itself.
    func loaded(_ definitions: Definitions) { _ = news(definitions) }

    func definitionsChanged() async throws {
        let asked = readings.withLock { readings in
            readings.asked += 1
            return readings.asked
        }
        try await turns.run {
            // A reading that began after it was asked for has seen what it was asked for.
            if self.readings.withLock({ $0.answered >= asked }) { return }
            let upTo = self.readings.withLock { $0.asked }
            try await self.tellNews()
            self.readings.withLock { $0.answered = upTo }
        }
    }

    private func tellNews() async throws {
        let news = news(try await read())
        for connection in news.connections { polling.connectionChanged(connection) }
        await tell(news.triggers)
        for trigger in news.removed { polling.triggerRemoved(trigger) }
        for connection in news.removedConnections { polling.connectionRemoved(connection) }
        for connection in news.connections { subscriptions.connectionChanged(connection) }
        for trigger in news.removed { subscriptions.triggerRemoved(trigger) }
        // Until the gateway had the new routes, webhooks for a new key signalled nobody, and those signed with a new secret were refused.
        for trigger in news.listening { polling.webhooksMissed(trigger: trigger) }
        // What failed may fail no more: it is not waited for.
        for trigger in news.mended { polling.pollNow(trigger) }
        for connection in news.verifying { polling.webhooksMissed(connection: connection, at: time.now()) }
    }

    /// What was changed since it was read has been told already, but perhaps before the catalogue knew what it knows now.
    private func tell(_ triggers: [StoredTrigger]) async {
        for trigger in triggers {
            if !polling.triggerChanged(trigger) { await polling.readAgain(trigger.id) }
            subscriptions.triggerChanged(trigger)
        }
    }

    /// Takes the new connectors over, and then what their triggers do with them: how often they poll, what they subscribe to. One
    /// that has failed, or waits after a failure, tries at once: the connector may be what was mended.
    func connectorsChanged(_ names: Set<String>) async throws {
        try await definitionsChanged()
        let catalogue = catalogue.current
        let connections = Set(catalogue.connections.values.filter { names.contains($0.stored.connector) }.map(\.stored.id))
        // What a connection is polled by (its limits, its networks, its credentials) is known only where its connector is.
        for connection in connections {
            polling.connectionChanged(connection)
            subscriptions.connectionChanged(connection)
        }
        for trigger in try await read().triggers where connections.contains(trigger.connection) {
            await tell([trigger])
            if trigger.state == .failed || trigger.progress.failures > 0 { polling.pollNow(trigger) }
        }
    }

    private struct News {
        var connections: [ConnectionID]
        var triggers: [StoredTrigger]
        var removed: [TriggerID]
        var removedConnections: [ConnectionID]
        /// Those that listen to other topics than before.
        var listening: [TriggerID]
        /// Those that wait after a failure, of connections that were changed.
        var mended: [StoredTrigger]
        /// Those whose webhooks are checked in another way than before.
        var verifying: [ConnectionID]
    }

    private func news(_ definitions: Definitions) -> News {
        told.withLock { told in
            let connections = Dictionary(
                definitions.connections.map { ($0.id, [$0.fields, $0.sealedSecrets, $0.settings]) }
            ) { first, _ in first }
            let triggers = Dictionary(
                definitions.triggers.map { ($0.id, max($0.generation, told.triggers[$0.id] ?? $0.generation)) }
            ) { first, _ in first }
            let topics = Dictionary(definitions.triggers.map { ($0.id, $0.topics) }) { first, _ in first }
            defer { told = Told(triggers: triggers, topics: topics, connections: connections) }
            return News(
                connections: definitions.connections.map(\.id).filter { told.connections[$0] != connections[$0] },
                triggers: definitions.triggers.filter { (trigger: StoredTrigger) in
                    told.triggers[trigger.id].map { $0 < trigger.generation } ?? true
                },
                removed: told.triggers.keys.filter { triggers[$0] == nil },
                removedConnections: told.connections.keys.filter { connections[$0] == nil },
                listening: definitions.triggers.filter { told.topics[$0.id] != $0.topics && !$0.topics.isEmpty }.map(\.id),
                mended: definitions.triggers.filter { trigger in
                    trigger.progress.failures > 0 && trigger.state.polls
                        && told.connections[trigger.connection].map { $0 != connections[trigger.connection] } ?? false
                },
                verifying: connections.keys.filter { id in
                    told.connections[id].map { $0[1...] != connections[id]?[1...] } ?? false
                })
        }
    }

    func triggerChanged(_ trigger: StoredTrigger, poll cause: PollCause?) async {
        told.withLock { $0.triggers[trigger.id] = max(trigger.generation, $0.triggers[trigger.id] ?? trigger.generation) }
        polling.triggerChanged(trigger, poll: cause == .manual ? nil : cause)
        if cause == .manual { polling.pollNow(trigger) }
        subscriptions.triggerChanged(trigger)
    }

    func subscriptionProblem(of trigger: TriggerID) -> String? { subscriptions.problem(of: trigger) }
    func checkSubscription(of trigger: TriggerID) throws(SluiceError) -> Bool { subscriptions.checkNow(trigger) }
    func removeLeftBehind(_ subscription: SubscriptionID) throws(SluiceError) { try subscriptions.removeLeftBehind(subscription) }

    func connectionStatus(_ connection: ConnectionID) async -> ConnectionStatus? { polling.connectionStatus(connection) }

    func testConnection(_ connection: ConnectionID) async throws -> ConnectionTestResult {
        try await polling.testConnection(connection)
    }

    func startBackfill(_ wanted: BackfillRequest) async throws -> StoredBackfill { try await backfills.start(wanted) }
    func backfillsChanged(_ trigger: TriggerID) async {
        backfills.lookAgain()
        await backfills.lookAtEnd(of: trigger)
    }
    func backfillWaits(_ backfill: StoredBackfill) -> (reason: String, until: Timestamp?)? { backfills.waitsFor(backfill) }

    func redeliver(_ webhook: InboxItem) async throws -> InboxSequence? {
        guard let connection = catalogue.current.connections[webhook.entry.connection]?.gatewayConnection() else {
            throw SluiceError(.conflict, "the connection of this webhook is gone, or takes no webhooks any more")
        }
        let answer = await gateway.keep(webhook.request, connection: connection, isForced: true)
        guard let sequence = answer.sequence else { throw SluiceError(.overloaded, answer.message) }
        return sequence
    }

    func runtimeStatus(of trigger: StoredTrigger) async -> RuntimeTriggerStatus? {
        let status = polling.status(of: trigger)
        var result = RuntimeTriggerStatus()
        switch status.waiting {
        case nil: return nil
        case .running: result.isPolling = true
        case .holding: (result.isPolling, result.waitsFor) = (true, "news: the provider holds its request until there is some")
        case .due(let due): (result.nextDueAt, result.nextCause) = (due.at, due.cause)
        case .connectionBusy: result.waitsFor = "other polls of its connection, which has as many at once as it may"
        case .connectionBlocked(let until):
            result.waitsFor =
                status.isConnectionRefused
                ? "its connection: the provider refuses the credentials; a probe is made then"
                : "its connection: " + (polling.connectionStatus(trigger.connection).waitsFor ?? "the provider asked to wait")
            result.waitsUntil = until
        case .resting: break
        }
        return result
    }
}
