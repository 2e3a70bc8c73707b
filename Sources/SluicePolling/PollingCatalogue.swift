import SluiceConnectors
import SluiceCore
import SluiceStore

/// Where the polling service learns what the definitions mean: connectors that are loaded, secrets that can be opened.
public protocol PollingCatalogue: Sendable {
    /// How often and how late a trigger polls. Never fails: a trigger whose connector is missing keeps its place.
    func timing(of trigger: StoredTrigger) -> TriggerSchedule.Timing
    /// Everything a cycle needs. Throws `SluiceError` that names the fix: the connector is not loaded, a secret is missing.
    func plan(for trigger: StoredTrigger) throws -> PollPlan
    func settings(of connection: ConnectionID) -> ConnectionPollSettings
    /// What holds for all requests of a connection; nil if it is gone or cannot be used.
    func authorization(of connection: ConnectionID) -> ConnectionAuthorization?
    /// A connector made of a text that one was made of before (`ConnectorDefinition.source`).
    func connector(ofText text: [UInt8]) throws -> any Connector
}

extension PollingCatalogue {
    public func authorization(of connection: ConnectionID) -> ConnectionAuthorization? { nil }
}

public struct PollPlan: Sendable {
    public var connector: any Connector
    public var triggerType: TriggerTypeDefinition
    public var connectionName: String
    /// Values of the connection's fields, secrets included: a JSON object.
    public var connection: JSONDocument
    /// A JSON object.
    public var input: JSONDocument
    /// What the provider gave when the trigger was subscribed; nil with static webhooks, and before.
    public var subscriptionOutput: JSONDocument?
    public init(
        connector: any Connector, triggerType: TriggerTypeDefinition, connectionName: String, connection: JSONDocument, input: JSONDocument,
        subscriptionOutput: JSONDocument? = nil
    ) {
        self.subscriptionOutput = subscriptionOutput
        self.connector = connector
        self.triggerType = triggerType
        self.connectionName = connectionName
        self.connection = connection
        self.input = input
    }
}

public struct ConnectionPollSettings: Sendable, Equatable {
    /// Cycles at once.
    public var pollsAtOnceMax: Int
    /// Held requests at once.
    public var heldAtOnceMax: Int
    public var requestsPerSecondMax: Double?
    /// Whether loopback and private addresses may be polled.
    public var allowsPrivate: Bool
    /// Networks that may be polled although they are not public.
    public var allowedNetworks: [IPNetwork] = []
    public var addresses: AddressAllowance { AddressAllowance(allowsPrivate: allowsPrivate, networks: allowedNetworks) }
    /// For connecting, sending and reading one answer together.
    public var requestSpanMax: Span
    public init(
        pollsAtOnceMax: Int = 4, requestsPerSecondMax: Double? = nil, allowsPrivate: Bool = false, requestSpanMax: Span = .seconds(60),
        heldAtOnceMax: Int = Schedule.heldPerConnectionMax
    ) {
        self.heldAtOnceMax = heldAtOnceMax
        self.pollsAtOnceMax = pollsAtOnceMax
        self.requestsPerSecondMax = requestsPerSecondMax
        self.allowsPrivate = allowsPrivate
        self.requestSpanMax = requestSpanMax
    }
}
