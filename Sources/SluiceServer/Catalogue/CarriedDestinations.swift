import SluiceConnectors
import SluiceCore
import SluiceDelivery
import SluiceNATS
import SluiceStore

/// Destinations as the delivery service takes them: the one place that knows which courier each kind has.
enum CarriedDestinations {
    /// Nil for a destination that nothing is carried to, and for one that lacks what its kind needs.
    static func destination(_ destination: Catalogue.Destination, _ places: DestinationPlaces) -> CarriedDestination? {
        let stored = destination.stored
        var carried = try? make(stored.id, stored.name, stored.kind, destination.settings, destination.secrets, places)
        carried?.isDisabled = stored.state != .active
        return carried
    }

    /// What is wrong with a destination before it is stored, or nil. Never names its secret.
    static func problem(
        _ name: String, _ kind: String, _ settings: DestinationSettings, _ secrets: DestinationSecrets, _ places: DestinationPlaces
    ) -> String? {
        do throws(SluiceError) {
            try make(DestinationID(0), name, kind, settings, secrets, places)?.validate()
            return nil
        } catch {
            return "destination \(name): \(error.message)"
        }
    }

    /// What keeps destinations that are defined from being carried to, one sentence each.
    static func problems(_ catalogue: Catalogue, _ places: DestinationPlaces) -> [String] {
        catalogue.destinations.values.sorted { $0.stored.name < $1.stored.name }.compactMap {
            problem($0.stored.name, $0.stored.kind, $0.settings, $0.secrets, places)
        }
    }

    private static func make(
        _ id: DestinationID, _ name: String, _ kind: String, _ settings: DestinationSettings, _ secrets: DestinationSecrets,
        _ places: DestinationPlaces
    ) throws(SluiceError) -> CarriedDestination? {
        guard let plan = try plan(name, kind, settings, secrets, places) else { return nil }
        let atOnce =
            switch kind {
            // One writer, one connection: their batches are what goes at once.
            case "file", "nats": 1
            case "command": settings.concurrency ?? CommandDestination.callsAtOnceDefault
            default: settings.concurrency ?? CarriedDestination.callsAtOnceDefault
            }
        // Checked when it was read from the file.
        let schedule = settings.retries.flatMap { try? RetrySchedule(delays: $0) } ?? .standard
        return CarriedDestination(
            id: id, name: name, plan: plan, callsAtOnceMax: atOnce, retrySchedule: schedule, rate: settings.rate)
    }

    /// How the courier of a destination is made; nil for a kind that has none.
    private static func plan(
        _ name: String, _ kind: String, _ settings: DestinationSettings, _ secrets: DestinationSecrets, _ places: DestinationPlaces
    ) throws(SluiceError) -> (any CourierPlan)? {
        switch kind {
        case "push": push(name, settings, secrets)
        case "command": try command(name, settings, secrets, places)
        case "file": try file(name, settings, places)
        case "nats": nats(name, settings, secrets)
        default: nil
        }
    }

    private static func push(_ name: String, _ settings: DestinationSettings, _ secrets: DestinationSecrets) -> PushDestination? {
        guard let url = settings.url, !secrets.secrets.isEmpty else { return nil }
        return PushDestination(
            name: name, url: url, secrets: secrets.secrets, headers: secrets.headers.map { HTTPField($0.name, $0.value) },
            addresses: AddressAllowance(allowsPrivate: settings.allowsPrivate, networks: settings.allowedNetworks),
            connectionsMax: settings.concurrency ?? CarriedDestination.callsAtOnceDefault,
            timeoutSeconds: settings.timeout.map { Int($0.milliseconds / 1000) } ?? PushDestination.timeoutSecondsDefault)
    }
}

extension CarriedDestinations {
    private static func seconds(_ settings: DestinationSettings) -> Int? { settings.timeout.map { Int($0.milliseconds / 1000) } }

    private static func command(
        _ name: String, _ settings: DestinationSettings, _ secrets: DestinationSecrets, _ places: DestinationPlaces
    ) throws(SluiceError) -> CommandDestination? {
        guard let first = settings.carried.run.first else { return nil }
        guard let root = places.commands else {
            throw SluiceError(
                .invalid,
                "this server runs no commands: start it with --commands-from and the directory that they lie in "
                    + "(or \(DestinationPlaces.commandsVariable))")
        }
        guard let program = FileDestination.resolve(first, root: root) else {
            throw SluiceError(.invalid, "`run`: the program `\(first)` does not lie in \(root), the directory of --commands-from")
        }
        let prefix = "env."
        let variables = secrets.values.filter { $0.name.hasPrefix(prefix) }.map { (String($0.name.dropFirst(prefix.count)), $0.value) }
        return CommandDestination(
            name: name, program: program, arguments: Array(settings.carried.run.dropFirst()),
            environment: Dictionary(variables) { _, last in last }, isBatched: settings.carried.isBatched,
            batchMax: settings.carried.batchMax ?? CommandDestination.batchDefault,
            limitSeconds: seconds(settings) ?? CommandDestination.limitSecondsDefault,
            refuseCodes: settings.carried.refuseCodes.map(Set.init) ?? CommandDestination.refuseCodesDefault)
    }

    /// Where the file of a `file` destination lies; nil where it may not.
    static func filePath(_ settings: DestinationSettings, _ places: DestinationPlaces) -> String? {
        guard let path = settings.carried.path, let root = places.files else { return nil }
        return FileDestination.resolve(path, root: root)
    }

    private static func file(
        _ name: String, _ settings: DestinationSettings, _ places: DestinationPlaces
    ) throws(SluiceError) -> FileDestination? {
        guard let path = settings.carried.path, !path.isEmpty else { return nil }
        guard let root = places.files else {
            throw SluiceError(.invalid, "this server writes no files: start it with --files-in and the directory that they lie in")
        }
        guard let resolved = filePath(settings, places) else {
            throw SluiceError(
                .invalid, "`path` `\(path)` does not lie in \(root), the directory of --files-in: for example \"orders.jsonl\"")
        }
        return FileDestination(
            name: name, path: resolved, root: root,
            rotation: FileRotation(
                bytesMax: settings.carried.rotateBytes, every: settings.carried.rotateEvery, keep: settings.carried.keep),
            batchMax: settings.carried.batchMax ?? FileDestination.batchDefault,
            timeoutSeconds: seconds(settings) ?? FileDestination.timeoutSecondsDefault)
    }

    private static func nats(_ name: String, _ settings: DestinationSettings, _ secrets: DestinationSecrets) -> NATSDestination? {
        guard let url = settings.url, let subject = settings.carried.subject, !subject.isEmpty else { return nil }
        var credentials = NATSDestination.Credentials.none
        if let user = settings.carried.user { credentials = .user(user, password: secrets.value("password") ?? "") }
        if let token = secrets.value("token") { credentials = .token(token) }
        if let seed = secrets.value("nkey") { credentials = .nkey(seed: seed) }
        if let text = secrets.value("credentials") { credentials = .file(text) }
        return NATSDestination(
            name: name, url: url, subject: subject, stream: settings.carried.stream,
            headers: secrets.headers.map { HTTPField($0.name, $0.value) }, credentials: credentials,
            tls: NATSDestination.TLS(
                authorities: settings.carried.authorities, certificate: settings.carried.certificate,
                key: secrets.value(CarriedSettings.keyOfTLS)),
            addresses: AddressAllowance(allowsPrivate: settings.allowsPrivate, networks: settings.allowedNetworks),
            batchMax: settings.carried.batchMax ?? NATSDestination.batchDefault,
            limitSeconds: seconds(settings) ?? NATSDestination.limitSecondsDefault)
    }
}

extension CarriedDestinations {
    /// What a plan says of a destination that is new or changes, without any value that may be secret.
    static func notes(_ kind: String, _ settings: DestinationSettings, _ places: DestinationPlaces) -> [String] {
        let carried = settings.carried
        switch kind {
        case "command":
            let program = carried.run.first.flatMap { first in places.commands.flatMap { FileDestination.resolve(first, root: $0) } }
            let arguments = max(0, carried.run.count - 1)
            return [
                "runs \(program ?? "a program") for each \(carried.isBatched ? "batch" : "job")"
                    + (arguments == 0 ? "" : ", with \(arguments) argument\(arguments == 1 ? "" : "s")")
            ]
        case "file":
            let rotation =
                [carried.rotateBytes.map { "at \(Words.text(bytes: $0))" }, carried.rotateEvery.map { "every \(Words.text($0))" }]
                .compactMap { $0 }.joined(separator: " and ")
            let kept = carried.keep.map { ", the last \($0) are kept" } ?? ""
            return ["appends to \(filePath(settings, places) ?? "a file")" + (rotation.isEmpty ? "" : ", rotated \(rotation)\(kept)")]
        case "nats":
            return ["publishes to \(carried.subject ?? "")" + (carried.stream.map { " in the stream \($0)" } ?? "")]
        default: return []
        }
    }
}
