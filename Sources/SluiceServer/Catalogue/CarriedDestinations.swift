import SluiceConnectors
import SluiceCore
import SluiceDelivery
import SluiceStore

/// Destinations as the delivery service takes them: the one place that knows which courier each kind has.
enum CarriedDestinations {
    /// Nil for a destination that nothing is carried to, and for one that lacks what its kind needs.
    static func destination(_ destination: Catalogue.Destination) -> CarriedDestination? {
        make(destination.stored.id, destination.stored.name, destination.stored.kind, destination.settings, destination.secrets)
    }

    /// What is wrong with a destination before it is stored, or nil. Never names its secret.
    static func problem(_ name: String, _ kind: String, _ settings: DestinationSettings, _ secrets: DestinationSecrets) -> String? {
        do {
            try make(DestinationID(0), name, kind, settings, secrets)?.validate()
            return nil
        } catch {
            return "destination \(name): \(error.message)"
        }
    }

    private static func make(
        _ id: DestinationID, _ name: String, _ kind: String, _ settings: DestinationSettings, _ secrets: DestinationSecrets
    ) -> CarriedDestination? {
        guard let plan = plan(name, kind, settings, secrets) else { return nil }
        return CarriedDestination(
            id: id, name: name, plan: plan, callsAtOnceMax: settings.concurrency ?? CarriedDestination.callsAtOnceDefault)
    }

    /// How the courier of a destination is made; nil for a kind that has none.
    private static func plan(
        _ name: String, _ kind: String, _ settings: DestinationSettings, _ secrets: DestinationSecrets
    ) -> (any CourierPlan)? {
        switch kind {
        case "push": push(name, settings, secrets)
        default: nil
        }
    }

    private static func push(_ name: String, _ settings: DestinationSettings, _ secrets: DestinationSecrets) -> PushDestination? {
        guard let url = settings.url, let secret = secrets.secret else { return nil }
        return PushDestination(
            name: name, url: url, secrets: [secret], headers: secrets.headers.map { HTTPField($0.name, $0.value) },
            allowsPrivate: settings.allowsPrivate, connectionsMax: settings.concurrency ?? CarriedDestination.callsAtOnceDefault,
            timeoutSeconds: settings.timeout.map { Int($0.milliseconds / 1000) } ?? PushDestination.timeoutSecondsDefault)
    }
}
