import SluiceConnectors
import SluiceCore
import SluiceStore

/// Where the subscription service learns what the definitions mean, and whom it tells where webhooks may come in.
public protocol SubscriptionCatalogue: Sendable {
    /// What a trigger needs; nil: its webhooks are static, or it takes none. Throws `SluiceError` where that cannot be told now,
    /// for example because the connector is not loaded.
    func subscriptionPlan(for trigger: StoredTrigger) throws -> SubscriptionPlan?
    /// What it takes to ask the provider of a connection. Throws `SluiceError` that names the fix.
    func subscriptionMeans(connection: ConnectionID, triggerType: String) throws -> SubscriptionMeans
    /// What webhook URLs begin with, ending in a slash. Throws `SluiceError` where providers cannot reach this server.
    func webhookBaseURL() throws -> String
    /// Seals and opens what belongs to the subscription with this URL.
    func seal(_ secret: [UInt8], url: String) throws -> [UInt8]
    func open(_ sealed: [UInt8], url: String) throws -> [UInt8]
    /// Where webhooks of a trigger come in from now on, before this returns; and whether they can.
    func subscriptionsChanged(of trigger: TriggerID, to routes: [SubscriptionRoute], isSubscribed: Bool)
}

public struct SubscriptionPlan: Sendable {
    public var traits: SubscriptionTraits
    /// The trigger's input with its defaults: a JSON object.
    public var input: [UInt8]
    /// What a subscription depends on: one made from another key is replaced. The server's address comes to it.
    public var key: String
    public init(traits: SubscriptionTraits, input: [UInt8], key: String) {
        self.traits = traits
        self.input = input
        self.key = key
    }
}

public struct SubscriptionMeans: Sendable {
    public var connector: any Connector
    public var connectionName: String
    /// Values of the connection's fields, secrets included: a JSON object.
    public var connection: JSONDocument
    /// Webhooks of a subscription without a secret of its own can be verified.
    public var canVerify: Bool
    public init(connector: any Connector, connectionName: String, connection: JSONDocument, canVerify: Bool) {
        self.connector = connector
        self.connectionName = connectionName
        self.connection = connection
        self.canVerify = canVerify
    }
}

/// An address at which webhooks of one trigger come in.
public struct SubscriptionRoute: Sendable, Equatable {
    public var token: String
    public var connection: ConnectionID
    /// What its webhooks are signed with; nil: the connection's secrets.
    public var secret: String?
    /// What the provider gave, JSON; nil before it answered.
    public var output: [UInt8]?
    public init(token: String, connection: ConnectionID, secret: String?, output: [UInt8]? = nil) {
        self.output = output
        self.token = token
        self.connection = connection
        self.secret = secret
    }
}
