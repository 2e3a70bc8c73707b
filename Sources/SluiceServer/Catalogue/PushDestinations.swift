import SluiceConnectors
import SluiceCore
import SluiceDelivery
import SluiceStore

/// Destinations as the push service takes them.
enum PushDestinations {
    /// Nil for a destination that is not pushed to.
    static func destination(_ destination: Catalogue.Destination) -> PushDestination? {
        guard destination.stored.kind == "push" else { return nil }
        return make(destination.stored.id, destination.stored.name, destination.settings, destination.secrets)
    }

    /// What is wrong with a destination before it is stored, or nil. Never names its secret.
    static func problem(_ name: String, _ settings: DestinationSettings, _ secrets: DestinationSecrets) -> String? {
        do {
            try make(DestinationID(0), name, settings, secrets)?.validate()
            return nil
        } catch {
            return "destination \(name): \(error.message)"
        }
    }

    private static func make(
        _ id: DestinationID, _ name: String, _ settings: DestinationSettings, _ secrets: DestinationSecrets
    ) -> PushDestination? {
        guard let url = settings.url, let secret = secrets.secret else { return nil }
        return PushDestination(
            id: id, name: name, url: url, secrets: [secret], headers: secrets.headers.map { HTTPField($0.name, $0.value) },
            allowsPrivate: settings.allowsPrivate, attemptsAtOnceMax: settings.concurrency ?? PushDestination.attemptsAtOnceDefault,
            timeoutSeconds: settings.timeout.map { Int($0.milliseconds / 1000) } ?? PushDestination.timeoutSecondsDefault)
    }
}
