import SluiceCore

/// What a trigger type with dynamic webhooks says of its subscriptions.
public struct SubscriptionTraits: Sendable, Equatable {
    public var abilities: SubscriptionAbilities
    /// The input fields that a subscription depends on: another value makes another subscription. Nil: all of them.
    public var inputFields: [String]?
    /// Each subscription is made with, or answered with, a secret of its own: the connection needs none.
    public var hasOwnSecret: Bool
    /// Its webhooks are signed with the secret that Sluice offers (`SubscriptionRequest.secret`).
    public var usesOfferedSecret: Bool
    public init(
        abilities: SubscriptionAbilities, inputFields: [String]? = nil, hasOwnSecret: Bool = false, usesOfferedSecret: Bool = false
    ) {
        self.abilities = abilities
        self.inputFields = inputFields
        self.hasOwnSecret = hasOwnSecret || usesOfferedSecret
        self.usesOfferedSecret = usesOfferedSecret
    }
}

/// What a connector is given to subscribe, refresh, check or unsubscribe.
public struct SubscriptionRequest: Sendable {
    public var triggerType: String
    /// Values of the connection's fields, secrets included: a JSON object.
    public var connection: JSONDocument
    /// The input of the trigger that the subscription was, or is to be, made for: a JSON object.
    public var input: JSONDocument
    /// Where the provider is to send webhooks: unguessable, and for this subscription alone.
    public var webhookURL: String
    /// A secret made for this subscription, for providers to which one is given.
    public var secret: String
    /// What the provider gave when it was made, JSON; nil before.
    public var output: [UInt8]?
    /// By our clock, for providers that want to be told when a subscription shall end.
    public var now: Timestamp

    public init(
        triggerType: String, connection: JSONDocument, input: JSONDocument, webhookURL: String, secret: String, output: [UInt8]?,
        now: Timestamp
    ) {
        self.triggerType = triggerType
        self.connection = connection
        self.input = input
        self.webhookURL = webhookURL
        self.secret = secret
        self.output = output
        self.now = now
    }

    /// What all URLs of this server begin with: whatever else the provider sends there is ours, too.
    public var webhookBaseURL: String { webhookURL.lastIndex(of: "/").map { String(webhookURL[...$0]) } ?? webhookURL }
}

/// What a provider says of a subscription.
public struct SubscriptionAnswer: Sendable {
    /// Another subscription at the provider with a URL of this server.
    public struct Other: Sendable {
        /// How the provider calls it.
        public var id: String
        public var url: String
        /// What it takes to unsubscribe, JSON.
        public var output: [UInt8]
        public init(id: String, url: String, output: [UInt8]) {
            self.id = id
            self.url = url
            self.output = output
        }
    }

    /// What the provider has, compared with what it should have.
    public typealias Status = SubscriptionMachine.Check.Status

    public static let outputBytesMax = 64 * 1024
    public static let othersMax = 1000

    public var status: Status
    /// What it takes to refresh, check and unsubscribe, JSON; nil: as it was.
    public var output: [UInt8]?
    /// Nil: it does not end, or is not said.
    public var expiresAt: Timestamp?
    /// What its webhooks are signed with; nil: as it was.
    public var secret: String?
    /// All others with URLs of this server; nil: the provider's list was not read.
    public var others: [Other]?

    public init(
        _ status: Status = .active, output: [UInt8]? = nil, expiresAt: Timestamp? = nil, secret: String? = nil, others: [Other]? = nil
    ) {
        self.status = status
        self.output = output
        self.expiresAt = expiresAt
        self.secret = secret
        self.others = others
    }
}

/// Calls for trigger types with dynamic webhooks (`TriggerTypeDefinition.subscription`). Each throws `PollFailure`, or
/// `SluiceError` for a fault of the connector itself. Each may come again after a crash.
extension Connector {
    /// Asks the provider to send webhooks (`webhook_subscribe`).
    public func subscribe(_ request: SubscriptionRequest, http: any HTTPSending) async throws -> SubscriptionAnswer {
        throw notDynamic(request)
    }

    /// Makes a subscription last longer (`webhook_refresh`); answers `.missing` where the provider has it no more.
    public func refreshSubscription(_ request: SubscriptionRequest, http: any HTTPSending) async throws -> SubscriptionAnswer {
        throw notDynamic(request)
    }

    /// Compares a subscription with what the provider has (`webhook_check`). Without output: looks for one with its URL.
    public func checkSubscription(_ request: SubscriptionRequest, http: any HTTPSending) async throws -> SubscriptionAnswer {
        throw notDynamic(request)
    }

    /// Ends a subscription (`webhook_unsubscribe`). One that is gone already is a success.
    public func unsubscribe(_ request: SubscriptionRequest, http: any HTTPSending) async throws { throw notDynamic(request) }

    private func notDynamic(_ request: SubscriptionRequest) -> SluiceError {
        SluiceError(.connector, "the trigger type \(request.triggerType) of connector \(definition.name) has no dynamic webhooks")
    }
}

/// When a subscription ends, as providers write it.
public enum SubscriptionTime {
    /// Seconds or milliseconds since 1970, or RFC 3339 in UTC or with an offset. Nil if it is none of these.
    public static func read(_ value: JSONView) -> Timestamp? {
        if let number = value.double ?? value.string.flatMap({ Double($0) }) {
            guard number > 0, number < 1e15 else { return nil }
            return Timestamp(milliseconds: Int64(number > 1e11 ? number : number * 1000))
        }
        switch value.string.map({ Times.rfc3339($0) }) {
        case .milliseconds(let milliseconds), .zoneless(let milliseconds): return Timestamp(milliseconds: milliseconds)
        default: return nil
        }
    }
}
