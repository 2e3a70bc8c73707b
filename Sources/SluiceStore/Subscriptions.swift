import SluiceCore

/// Subscriptions at providers, made for triggers, and those that were left behind there.
public protocol SubscriptionStore: Sendable {
    /// All of a namespace, in the order in which they were made.
    func subscriptions(_ namespace: NamespaceID) async throws -> [StoredSubscription]
    /// Records one that is about to be made, or one that was found at the provider, before anything is asked of the provider.
    /// Throws `.notFound` if its connection is gone, `.conflict` if its token is taken.
    func addSubscription(_ new: NewSubscription, at time: Timestamp) async throws -> StoredSubscription
    /// Records changes, all or none, and raises the generation of each that is changed. Throws `.conflict` if one of them has
    /// another generation by now: somebody else decides about it.
    func recordSubscriptions(_ changes: [SubscriptionChange]) async throws
}

public struct NewSubscription: Sendable {
    public var namespace: NamespaceID
    public var trigger: TriggerID
    public var connection: ConnectionID
    public var triggerType: String
    /// The trigger's input as it was made from, defaults included: a JSON object.
    public var input: [UInt8]
    /// The unguessable part of its URL; nil for one that was found at the provider.
    public var token: String?
    /// Where the provider sends webhooks.
    public var url: String
    /// Its secret and what the provider gave: sealed bytes, meaningless to the store.
    public var sealed: [UInt8]
    public var phase: Subscription.Phase
    public var key: String
    public var foundID: String?
    public var hasOutput: Bool
    public init(
        namespace: NamespaceID = .default, trigger: TriggerID, connection: ConnectionID, triggerType: String, input: [UInt8],
        token: String?, url: String, sealed: [UInt8], phase: Subscription.Phase = .subscribing, key: String, foundID: String? = nil,
        hasOutput: Bool = false
    ) {
        self.namespace = namespace
        self.trigger = trigger
        self.connection = connection
        self.triggerType = triggerType
        self.input = input
        self.token = token
        self.url = url
        self.sealed = sealed
        self.phase = phase
        self.key = key
        self.foundID = foundID
        self.hasOutput = hasOutput
    }
}

public struct StoredSubscription: Sendable {
    public var state: Subscription
    public var trigger: TriggerID
    public var connection: ConnectionID
    public var triggerType: String
    public var input: [UInt8]
    public var token: String?
    public var url: String
    public var sealed: [UInt8]
    public var generation: Generation
    public var createdAt: Timestamp
    public var id: SubscriptionID { state.id }
    public init(
        state: Subscription, trigger: TriggerID, connection: ConnectionID, triggerType: String, input: [UInt8], token: String?, url: String,
        sealed: [UInt8], generation: Generation, createdAt: Timestamp
    ) {
        self.state = state
        self.trigger = trigger
        self.connection = connection
        self.triggerType = triggerType
        self.input = input
        self.token = token
        self.url = url
        self.sealed = sealed
        self.generation = generation
        self.createdAt = createdAt
    }
}

public enum SubscriptionChange: Sendable {
    /// Its state and its sealed bytes are as given now; `generation` is the one that was read.
    case update(SubscriptionID, Generation, state: Subscription, sealed: [UInt8])
    /// It is gone at the provider.
    case remove(SubscriptionID, Generation)
}
