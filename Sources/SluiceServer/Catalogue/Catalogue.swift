import SluiceConnectors
import SluiceCore
import SluicePolling
import SluiceStore

/// What is defined, joined with the loaded connectors and with its secrets opened: what gateway, pollers and pushers work
/// from. A value, made anew after every change.
public struct Catalogue: Sendable {
    public struct Connection: Sendable {
        public var stored: StoredConnection
        public var connector: any Connector
        /// All fields, secrets and defaults included: a JSON object.
        public var values: [UInt8]
        public var webhookSecrets: [String]
        /// By the token of the address that the provider gave it to.
        public var learnedSecrets: [String: String]
        public var settings: ConnectionSettings
        public var endpoints: [StoredEndpoint]
        public var topics: [StoredTopic]
    }
    /// Where webhooks of one trigger come in, and whether its provider sends any.
    public struct Subscriptions: Sendable, Equatable {
        public var routes: [SubscriptionRoute]
        public var isSubscribed: Bool
    }
    public struct Destination: Sendable {
        public var stored: StoredDestination
        public var settings: DestinationSettings
        public var secrets: DestinationSecrets
    }
    /// Something defined that cannot be run: its connector is not loaded, or its secrets do not open.
    public struct Problem: Sendable, Equatable {
        public var subject: String
        public var error: SluiceError
    }

    public var connections: [ConnectionID: Connection] = [:]
    /// Where webhooks of those come in that cannot be run.
    public var unusable: [ConnectionID: [StoredEndpoint]] = [:]
    /// Those that cannot be run, too.
    public var connectionNames: [ConnectionID: String] = [:]
    /// Of a trigger no more than its names is kept: there may be very many, and whoever needs one reads it.
    public var triggerNames: [TriggerID: (name: String, uid: String)] = [:]
    /// Of triggers with dynamic webhooks.
    public var subscriptions: [TriggerID: Subscriptions] = [:]
    public var destinations: [DestinationID: Destination] = [:]
    /// Those that have a filter or a projection.
    public var attachments: [StoredAttachment] = []
    public var problems: [Problem] = []

    public init() {}

    public init(_ definitions: Definitions, connectors: [String: any Connector], sealer: SecretSealer) {
        let endpoints = Dictionary(grouping: definitions.endpoints, by: \.connection)
        let topics = Dictionary(grouping: definitions.topics, by: \.connection)
        for stored in definitions.connections {
            connectionNames[stored.id] = stored.name
            guard let connector = connectors[stored.connector] else {
                problems.append(Problem(subject: "connection \(stored.name)", error: Catalogue.notLoaded(stored.connector)))
                unusable[stored.id] = endpoints[stored.id] ?? []
                continue
            }
            add(stored, connector, endpoints[stored.id] ?? [], topics[stored.id] ?? [], sealer)
        }
        triggerNames.reserveCapacity(definitions.triggers.count)
        for stored in definitions.triggers { add(stored) }
        for stored in definitions.destinations { add(stored, sealer) }
        attachments = definitions.attachments.filter { !$0.settings.isEmpty }
    }

    private mutating func add(
        _ stored: StoredConnection, _ connector: any Connector, _ endpoints: [StoredEndpoint], _ topics: [StoredTopic],
        _ sealer: SecretSealer
    ) {
        do {
            let secrets = ConnectionSecrets(json: try sealer.open(stored.sealedSecrets, owner: SecretOwner.connection(stored.name)))
            connections[stored.id] = Connection(
                stored: stored, connector: connector,
                values: Catalogue.joined(stored.fields, secrets.fields, connector.definition.connectionFields),
                webhookSecrets: secrets.webhookSecrets, learnedSecrets: secrets.learnedSecrets,
                settings: ConnectionSettings(json: stored.settings),
                endpoints: endpoints, topics: topics)
        } catch {
            problems.append(Problem(subject: "connection \(stored.name)", error: error))
            unusable[stored.id] = endpoints
        }
    }

    private mutating func add(_ stored: StoredTrigger) {
        triggerNames[stored.id] = (stored.name, stored.uid)
        if stored.isCallbackSource { return }
        guard let connection = connections[stored.connection] else { return }
        let definition = connection.connector.definition
        if definition.trigger(stored.type) == nil {
            let error = SluiceError(
                .connector, "connector \(definition.name) no longer has the trigger type `\(stored.type)`: load the version that has it")
            problems.append(Problem(subject: "trigger \(stored.name)", error: error))
        }
    }

    private mutating func add(_ stored: StoredDestination, _ sealer: SecretSealer) {
        do {
            let secrets = DestinationSecrets(json: try sealer.open(stored.sealedSecrets, owner: SecretOwner.destination(stored.name)))
            destinations[stored.id] = Destination(stored: stored, settings: DestinationSettings(json: stored.settings), secrets: secrets)
        } catch {
            problems.append(Problem(subject: "destination \(stored.name)", error: error))
        }
    }

    private static func notLoaded(_ name: String) -> SluiceError {
        SluiceError(.connector, "the connector `\(name)` is not loaded: put its file into the connectors directory")
    }

    /// One object of the open fields, the secret ones and the defaults.
    private static func joined(_ fields: [UInt8], _ secrets: [(name: String, json: [UInt8])], _ declared: [Field]) -> [UInt8] {
        var writer = JSONWriter()
        writer.object { writer in
            for member in (try? JSONDocument(fields))?.root.members ?? [] {
                writer.key(member.key)
                writer.raw(member.value.bytes)
            }
            for secret in secrets {
                writer.key(secret.name)
                writer.raw(secret.json)
            }
        }
        return Defaults.filled(writer.bytes, declared)
    }
}
