import SluiceCore
import SluiceStore

/// What `apply` will do: printed as it is, and turned into one transaction.
public struct ApplyPlan: Sendable {
    public enum Action: String, Sendable { case create, change, keep, reset, stop }

    /// One line of the plan.
    public struct Step: Sendable, Equatable {
        public var action: Action
        /// `connection`, `trigger` or `destination`.
        public var kind: String
        public var name: String
        /// What changes and what follows, without any value that may be secret.
        public var notes: [String]
        public init(_ action: Action, _ kind: String, _ name: String, _ notes: [String] = []) {
            self.action = action
            self.kind = kind
            self.name = name
            self.notes = notes
        }
    }

    /// A change whose secrets are not sealed yet.
    public enum Change: Sendable {
        case putConnection(name: String, connector: String, fields: [UInt8], secrets: ConnectionSecrets, settings: [UInt8])
        case putDestination(name: String, kind: String, settings: [UInt8], secrets: DestinationSecrets)
        case plain(DefinitionChange)
    }

    /// Commands to a trigger. The state that they lead to is among the changes; what follows from it is done after these.
    public struct Command: Sendable, Equatable {
        public var trigger: String
        public var commands: [TriggerCommand]
        public var effects: [TriggerEffect]
    }

    public var steps: [Step] = []
    public var warnings: [String] = []
    public var changes: [Change] = []
    public var commands: [Command] = []

    public var isEmpty: Bool { changes.isEmpty && commands.isEmpty }

    /// The changes as the store takes them.
    public func sealed(by sealer: SecretSealer) throws(SluiceError) -> [DefinitionChange] {
        var result: [DefinitionChange] = []
        for change in changes {
            switch change {
            case .putConnection(let name, let connector, let fields, let secrets, let settings):
                let sealed = try sealer.seal(secrets.json, owner: SecretOwner.connection(name))
                result.append(.putConnection(name: name, connector: connector, fields: fields, sealedSecrets: sealed, settings: settings))
            case .putDestination(let name, let kind, let settings, let secrets):
                let sealed = try sealer.seal(secrets.json, owner: SecretOwner.destination(name))
                result.append(.putDestination(name: name, kind: kind, settings: settings, sealedSecrets: sealed))
            case .plain(let change): result.append(change)
            }
        }
        return result
    }
}

public struct ApplyOptions: Sendable {
    /// Stop triggers that the file does not name; their data stays.
    public var prunes: Bool
    /// Triggers that may begin anew because their type or connection changes.
    public var resets: Set<String>
    /// What of this machine destinations may use.
    public var places: DestinationPlaces
    public init(prunes: Bool = false, resets: Set<String> = [], places: DestinationPlaces = DestinationPlaces()) {
        self.prunes = prunes
        self.resets = resets
        self.places = places
    }
}

/// What is defined now, with its secrets opened so that a change can be told.
public struct CurrentState: Sendable {
    public var definitions: Definitions
    public var connectionSecrets: [String: ConnectionSecrets] = [:]
    public var destinationSecrets: [String: DestinationSecrets] = [:]

    public init(definitions: Definitions) { self.definitions = definitions }

    /// Opens every secret.
    public init(definitions: Definitions, sealer: SecretSealer) throws(SluiceError) {
        self.definitions = definitions
        for connection in definitions.connections {
            let bytes = try sealer.open(connection.sealedSecrets, owner: SecretOwner.connection(connection.name))
            connectionSecrets[connection.name] = ConnectionSecrets(json: bytes)
        }
        for destination in definitions.destinations {
            let bytes = try sealer.open(destination.sealedSecrets, owner: SecretOwner.destination(destination.name))
            destinationSecrets[destination.name] = DestinationSecrets(json: bytes)
        }
    }
}
