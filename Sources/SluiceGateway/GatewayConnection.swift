import SluiceConnectors
import SluiceCore

/// What the gateway must know of a connection to accept its webhooks.
public struct GatewayConnection: Sendable {
    public var id: ConnectionID
    public var namespace: NamespaceID
    /// As people call it; stands in logs and alarms.
    public var name: String
    public var connector: any Connector
    public var scheme: SignatureScheme
    /// Every secret that is valid now; more than one during a rotation.
    public var secrets: [String]
    public var schemeOptions: SchemeOptions
    /// Where the id of a delivery stands; used only where the scheme signs the body.
    public var deliveryID: DeliveryIDSource?
    /// The topics that triggers listen on, by `webhook_key`.
    public var topicsByKey: [String: TopicID]
    /// The key of triggers that take every webhook of the connection.
    public static let everyWebhook = "*"
    /// Signals every trigger of the connection: for webhooks that cannot be read.
    public var wholeConnectionTopic: TopicID
    /// Nil: `GatewayLimits.requestsPerSecondPerConnectionMax`.
    public var requestsPerSecondMax: Int?
    /// For an address of one subscription: whatever comes to it is about this topic. Nil: `webhook_keys` says.
    public var subscriptionTopic: TopicID?
    /// What its addresses answer besides webhooks.
    public var handshakes: [Handshake] = []
    /// The connection's fields as text, for handshakes that ask for one; secret ones included.
    public var handshakeFields: [String: String] = [:]
    /// The provider gives the secret in a handshake, and this address has none yet.
    public var mayLearnSecret = false

    public init(
        id: ConnectionID, namespace: NamespaceID = .default, name: String, connector: any Connector, scheme: SignatureScheme,
        secrets: [String], schemeOptions: SchemeOptions = SchemeOptions(), deliveryID: DeliveryIDSource? = nil,
        topicsByKey: [String: TopicID], wholeConnectionTopic: TopicID, requestsPerSecondMax: Int? = nil
    ) {
        self.id = id
        self.namespace = namespace
        self.name = name
        self.connector = connector
        self.scheme = scheme
        self.secrets = secrets
        self.schemeOptions = schemeOptions
        self.deliveryID = deliveryID
        self.topicsByKey = topicsByKey
        self.wholeConnectionTopic = wholeConnectionTopic
        self.requestsPerSecondMax = requestsPerSecondMax
    }
}

/// Which token of a URL leads to which connection: an immutable snapshot, replaced as a whole by `Gateway.update`.
/// During a rotation two tokens lead to the same connection.
public struct GatewayRoutes: Sendable {
    public let connectionsByToken: [String: GatewayConnection]
    /// A token that is absent here does not expire while this snapshot holds.
    public let expiresAtByToken: [String: Timestamp]
    /// Every connection that verifies webhooks, whether or not it has addresses: for calls to callbacks.
    public let connections: [ConnectionID: GatewayConnection]
    /// Tokens of connections that cannot be used now: their connector is not loaded, for example. What comes is to be sent again; a
    /// 404 would make some providers give the address up.
    public let unusableByToken: [String: ConnectionID]
    /// Those, with or without addresses.
    public let unusable: Set<ConnectionID>

    public init(
        connectionsByToken: [String: GatewayConnection], expiresAtByToken: [String: Timestamp] = [:],
        connections: [ConnectionID: GatewayConnection] = [:], unusableByToken: [String: ConnectionID] = [:],
        unusable: Set<ConnectionID> = []
    ) {
        self.unusableByToken = unusableByToken
        self.unusable = unusable
        self.connections = connections
        self.connectionsByToken = connectionsByToken
        self.expiresAtByToken = expiresAtByToken
    }
}

/// Hears that webhooks were turned away although nothing was wrong with them.
public protocol GatewayObserver: Sendable {
    /// A webhook could not be accepted: 429, 503, disk full. `connection` nil: any connection may be meant. Called for
    /// each one, on the request's own thread: must return at once.
    func webhooksRefused(_ connection: ConnectionID?, at time: Timestamp)
}
