import Logging
import SluiceCore
import SluiceGateway
import SluiceStore
import Synchronization

/// Keeps the inbox of webhook-only triggers within its bound: unread webhooks are never removed, so beyond it a connection
/// takes no new ones until its triggers have read on.
final class UnreadWatch: Sendable {
    private let store: any Store
    private let gateway: Gateway
    private let alarms: any AlarmReporting
    private let logger: Logger
    /// Of one connection.
    private let unreadMax: Int
    private let full = Mutex<[ConnectionID: String]>([:])

    init(store: any Store, gateway: Gateway, alarms: any AlarmReporting, unreadMax: Int, logger: Logger) {
        self.store = store
        self.gateway = gateway
        self.alarms = alarms
        self.unreadMax = max(1, unreadMax)
        self.logger = logger
    }

    func look() async {
        do {
            let counts = try await store.unreadWebhooks(.default, countMax: unreadMax)
            let before = full.withLock { $0 }
            let isFull = counts.filter { $0.value >= unreadMax }
            if isFull.isEmpty, before.isEmpty { return }
            let connections = try await store.definitions(.default).connections.filter { isFull[$0.id] != nil }
            let now = Dictionary(connections.map { ($0.id, $0.name) }) { first, _ in first }
            full.withLock { $0 = now }
            gateway.setInboxFull(Set(now.keys))
            for (id, name) in before where now[id] == nil { alarms.clear(.inboxFull, subject: "connection \(name)") }
            for name in now.values {
                alarms.raise(
                    Alarm(
                        kind: .inboxFull, subject: "connection \(name)",
                        message: "\(unreadMax) webhooks or more wait for a webhook-only trigger that does not read them, and new ones are "
                            + "answered 503: resume the trigger that is paused or failed, or stop it to let them go"))
            }
        } catch is CancellationError {
            return
        } catch {
            logger.error("unread webhooks could not be counted", metadata: ["error": "\(error)"])
        }
    }
}

extension Alarm.Kind {
    /// Webhook-only triggers have left too many webhooks unread.
    public static let inboxFull: Self = "inbox_full"
}
