import SluiceConnectors
import SluiceCore
import SluiceDelivery
import SluiceGateway
import SluicePolling
import SluiceStore
import Synchronization

/// Holds the current `Catalogue` and hands each new one to those who work from it.
public final class RuntimeCatalogue: Sendable {
    /// Called in the order of the catalogues, one at a time. Must return quickly.
    public typealias Listener = @Sendable (Catalogue) -> Void
    /// Called between the calls of listeners, with what one trigger's subscriptions change.
    typealias RouteListener = @Sendable (_ adding: GatewayRoutes, _ removing: [String]) -> Void

    private struct State {
        var catalogue = Catalogue()
        var ticketsTaken = 0
        var ticketShown = 0
        var listeners: [Listener] = []
        var routeListeners: [RouteListener] = []
        var subscriptions: [TriggerID: Catalogue.Subscriptions] = [:]
        var troubled: Set<String> = []
    }

    private let store: any Store
    private let shelf: ConnectorShelf
    let sealer: SecretSealer
    let address: PublicAddress
    /// Filters and projections; up to date before any listener hears of a new catalogue.
    public let sieves = SieveShelf()
    private let alarms: any AlarmReporting
    private let state = Mutex(State())

    public init(
        store: any Store, shelf: ConnectorShelf, sealer: SecretSealer, alarms: any AlarmReporting,
        address: PublicAddress = PublicAddress(nil)
    ) {
        self.address = address
        self.store = store
        self.shelf = shelf
        self.sealer = sealer
        self.alarms = alarms
    }

    public var current: Catalogue { state.withLock { $0.catalogue } }

    /// Adds a listener, which hears the current catalogue at once and each later one.
    public func listen(_ listener: @escaping Listener) {
        state.withLock { state in
            state.listeners.append(listener)
            if state.ticketShown > 0 { listener(state.catalogue) }
        }
    }

    /// Reads what is defined, hands it out and returns it. Of several at a time, an older reading never replaces a newer one.
    @discardableResult
    public func refresh() async throws -> Definitions {
        let ticket = state.withLock { state in
            state.ticketsTaken += 1
            return state.ticketsTaken
        }
        let definitions = try await store.definitions(.default)
        let read = Catalogue(definitions, connectors: shelf.connectors, sealer: sealer)
        state.withLock { state in
            guard ticket > state.ticketShown else { return }
            var catalogue = read
            catalogue.subscriptions = state.subscriptions
            for (trigger, error) in sieves.update(catalogue.attachments, names: catalogue.triggerNames) {
                catalogue.problems.append(.init(subject: "trigger \(catalogue.triggerNames[trigger]?.name ?? "?")", error: error))
            }
            state.ticketShown = ticket
            state.catalogue = catalogue
            for listener in state.listeners { listener(catalogue) }
            report(catalogue, &state.troubled)
        }
        return definitions
    }

    /// What the attachment of a claimed delivery lets through.
    func sieve(_ claimed: ClaimedDelivery) -> (any JobSieve)? {
        sieves.sieve(claimed.job.trigger, claimed.destination, settings: claimed.attachmentSettings)
    }

    func listenToRoutes(_ listener: @escaping RouteListener) { state.withLock { $0.routeListeners.append(listener) } }

    public func subscriptionsChanged(of trigger: TriggerID, to routes: [SubscriptionRoute], isSubscribed: Bool) {
        let news = Catalogue.Subscriptions(routes: routes, isSubscribed: isSubscribed)
        state.withLock { state in
            let before = state.subscriptions[trigger]
            let after = routes.isEmpty && !isSubscribed ? nil : news
            guard before != after else { return }
            state.subscriptions[trigger] = after
            state.catalogue.subscriptions[trigger] = after
            guard before?.routes ?? [] != routes else { return }
            let removed = (before?.routes ?? []).map(\.token).filter { token in !routes.contains { $0.token == token } }
            let added = GatewayRoutes(
                connectionsByToken: state.catalogue.gateways(of: trigger, news), unusableByToken: state.catalogue.unusable(of: news))
            for listener in state.routeListeners { listener(added, removed) }
        }
    }

    private func report(_ catalogue: Catalogue, _ troubled: inout Set<String>) {
        let subjects = Set(catalogue.problems.map(\.subject))
        for subject in troubled.subtracting(subjects) { alarms.clear(.notRunnable, subject: subject) }
        for problem in catalogue.problems {
            alarms.raise(Alarm(kind: .notRunnable, subject: problem.subject, message: problem.error.message))
        }
        troubled = subjects
    }
}

extension Alarm.Kind {
    /// Something is defined that cannot be run.
    public static let notRunnable: Self = "not_runnable"
}
