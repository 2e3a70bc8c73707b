import SluiceCore

/// Describes one upstream service: what a connection needs, what triggers exist, how webhooks are matched to them, and
/// how a poll reads what is new. Written in Swift (`ConnectorDescription`) or Lua (SluiceLua); both take this form.
///
/// A connector holds no state and no credentials: everything comes in with each call. Calls may come from any thread
/// at any time. The names follow the Workato connector SDK.
public protocol Connector: Sendable {
    var definition: ConnectorDefinition { get }

    /// The keys under which triggers listen for this webhook (`webhook_keys`). The request was verified before, if the
    /// connection has a scheme. Throws `SluiceError` when the webhook cannot be read: it is then kept as unmatched and
    /// signals every trigger of the connection.
    func webhookKeys(_ request: WebhookRequest) throws -> [String]

    /// The key under which a trigger with this input listens (`webhook_key`), or nil if it takes no webhooks.
    /// `input` is a JSON object.
    func webhookKey(triggerType: String, input: JSONDocument) throws -> String?

    /// Reads one page (`poll`). Throws `PollFailure`, or `SluiceError` for a fault of the connector itself.
    func poll(_ request: PollRequest, http: any HTTPSending) async throws -> PollPage

    /// As `poll`, with a request that the provider holds until there is news (`long_poll`): for triggers of the kind
    /// `longPolling`, whose cursor a poll has set before. Its requests carry `HTTPRequestPlan.holdSpan`.
    func longPoll(_ request: PollRequest, http: any HTTPSending) async throws -> PollPage

    /// The records of one webhook of a webhook-only trigger (`webhook_notification`). `input` is a JSON object; `output` is
    /// what the subscription of a dynamic webhook gave, if there is one. Throws `SluiceError` where the webhook cannot be
    /// read: it is then quarantined, and the others go on.
    func webhookNotification(_ request: WebhookRequest, triggerType: String, input: JSONDocument, output: JSONDocument?) throws
        -> [Record]

    /// Identity and version of each record (`dedup`), one result for each in the same order. A record whose key cannot
    /// be made gives a failure: it is quarantined, and the others go on.
    func dedupKeys(triggerType: String, records: [Record]) throws -> [Result<[UInt8], SluiceError>]

    /// What to do at the provider so that its webhooks arrive (`help`), as plain text or Markdown.
    func help(webhookBaseURL: String) -> String

    /// The description of a trigger type's poll; nil where the poll is code. For tools.
    func incremental(triggerType: String) -> Incremental?

    /// For a poll that is code (`cursor_at`): a cursor, JSON, from which it reads everything that was changed at `time` or later. Nil
    /// where the trigger type does not say. `input` is a JSON object. Throws `SluiceError` for a fault of the connector.
    func cursorAt(_ time: Timestamp, triggerType: String, input: JSONDocument) throws -> [UInt8]?

    /// For a poll that is code (`record_time`): when each record was changed, in the same order; nil for one without a readable time.
    /// Nil where the trigger type does not say.
    func recordTimes(triggerType: String, records: [Record]) throws -> [Timestamp?]?

    /// What a trigger type says for its simulation; nil where it says nothing. For tools.
    func simulation(triggerType: String) -> SimulatedFeed?

    // For trigger types with dynamic webhooks; see `Subscriptions/SubscriptionCalls.swift`.
    func subscribe(_ request: SubscriptionRequest, http: any HTTPSending) async throws -> SubscriptionAnswer
    func refreshSubscription(_ request: SubscriptionRequest, http: any HTTPSending) async throws -> SubscriptionAnswer
    func checkSubscription(_ request: SubscriptionRequest, http: any HTTPSending) async throws -> SubscriptionAnswer
    func unsubscribe(_ request: SubscriptionRequest, http: any HTTPSending) async throws

    /// Whether a connection works (`connection.test` as a function), by what the connector asks; nil where it has no such
    /// function. Throws as `poll`. `connection`: a JSON object.
    func testConnection(_ connection: JSONDocument, http: any HTTPSending) async throws -> ConnectionTestAnswer?

    // For callbacks; see `Callbacks/CallbackCalls.swift`.
    func callbackStatus(_ request: CallbackRequest, http: any HTTPSending) async throws -> CallbackAnswer
}

extension Connector {
    public func testConnection(_ connection: JSONDocument, http: any HTTPSending) async throws -> ConnectionTestAnswer? { nil }

    public func longPoll(_ request: PollRequest, http: any HTTPSending) async throws -> PollPage {
        throw SluiceError(.connector, "the connector \(definition.name) defines no long_poll for \(request.triggerType)")
    }

    public func cursorAt(_ time: Timestamp, triggerType: String, input: JSONDocument) throws -> [UInt8]? { nil }
    public func recordTimes(triggerType: String, records: [Record]) throws -> [Timestamp?]? { nil }

    /// The body as one record: see `WebhookRequest.bodyRecord`.
    public func webhookNotification(
        _ request: WebhookRequest, triggerType: String, input: JSONDocument, output: JSONDocument?
    ) throws -> [Record] { [request.bodyRecord] }
}

/// What is known of a connector without calling it.
public struct ConnectorDefinition: Sendable {
    /// kebab-case, unique among the connectors that are loaded, for example `stripe-events`.
    public var name: String
    public var title: String
    public var version: String
    /// Changes whenever the connector's code does: hex of SHA-256 over its source, or a version for compiled ones.
    public var hash: String
    /// `lua` or `swift`.
    public var language: String
    /// The text it was made of, by which it can be made again; nil for compiled ones.
    public var source: [UInt8]?
    public var connectionFields: [Field]
    /// How its webhooks are signed unless the connection says otherwise; nil if it takes no webhooks.
    public var webhook: WebhookDescription?
    public var triggers: [TriggerTypeDefinition]
    /// Pending operations that can be waited for.
    public var callbacks: [CallbackTypeDefinition]
    /// Its recipe could not be held against the provider's own documentation.
    public var isExperimental: Bool
    /// What holds for all requests of a connection.
    public var access: ConnectionAccess

    public init(
        name: String, title: String, version: String, hash: String, language: String, connectionFields: [Field],
        webhook: WebhookDescription?, triggers: [TriggerTypeDefinition], isExperimental: Bool = false,
        access: ConnectionAccess = ConnectionAccess(), callbacks: [CallbackTypeDefinition] = [], source: [UInt8]? = nil
    ) {
        self.callbacks = callbacks
        self.source = source
        self.access = access
        self.name = name
        self.title = title
        self.version = version
        self.hash = hash
        self.language = language
        self.connectionFields = connectionFields
        self.webhook = webhook
        self.triggers = triggers
        self.isExperimental = isExperimental
    }

    public func trigger(_ name: String) -> TriggerTypeDefinition? { triggers.first { $0.name == name } }

    /// Whether webhooks come to URLs of a connection; otherwise to those of subscriptions only.
    public var hasStaticWebhooks: Bool {
        let dynamic = triggers.filter { $0.subscription != nil }
        return webhook != nil
            && (dynamic.isEmpty || triggers.contains { $0.subscription == nil && ($0.kind == .hybrid || $0.kind == .webhook) })
    }

    /// Whether a connection needs a webhook secret for the webhooks that it takes to be verified.
    public var needsConnectionSecret: Bool {
        hasStaticWebhooks || triggers.contains { $0.subscription.map { !$0.hasOwnSecret } ?? false }
    }
}

/// How a connector's webhooks are verified and told apart.
public struct WebhookDescription: Sendable {
    /// A scheme name of `SignatureScheme`, for example `stripe`.
    public var scheme: String
    /// Where the id of a delivery stands, so that a repeated one is stored once; nil: nowhere.
    public var deliveryID: DeliveryIDSource?
    /// Names of `Handshake`s that its addresses answer; empty: the one of the scheme, if it has one.
    public var handshakes: [String]

    public init(scheme: String, deliveryID: DeliveryIDSource? = nil, handshakes: [String] = []) {
        self.scheme = scheme
        self.deliveryID = deliveryID
        self.handshakes = handshakes
    }
}

public enum DeliveryIDSource: Sendable, Equatable {
    case header(String)
    /// Keys from the root of a JSON body.
    case body([String])
}

/// A trigger type of a connector.
public struct TriggerTypeDefinition: Sendable {
    /// snake_case, unique in its connector.
    public var name: String
    public var title: String
    public var kind: TriggerKind
    public var inputFields: [Field]
    public var outputFields: [Field]
    /// One record as JSON, to build on before the first one comes.
    public var sampleOutput: [UInt8]?
    /// How long after a change the provider may still hide it from its API.
    public var visibilityLag: Span
    /// How far below its mark a poll reads again, in the unit of the cursor (`KeyedRecord.mark`); 0 for lambdas.
    public var lookback: Int64
    /// How long the source keeps what it lists; a gap longer than that raises the gap alarm. Nil: for ever.
    public var retention: Span?
    /// Its webhooks are dynamic: each trigger has a subscription, and a URL, of its own. Nil: static, one URL a connection.
    public var subscription: SubscriptionTraits?
    /// A webhook-only type without a `dedup` of its own: a record counts once for each delivery, see `WebhookKeys`.
    public var countsByDelivery: Bool
    /// Its poll is code, and `Connector.cursorAt` gives a cursor for a time.
    public var hasCursorAt = false
    /// Its poll is code, and `Connector.recordTimes` gives the times of records.
    public var hasRecordTime = false
    /// Its poll is code, and the time in its dedup key stays the same for so long: `record_time` tells where. Nil: each change shows
    /// another key.
    public var versionSpan: Span?
    /// A poll returns nothing that an earlier one returned, until the provider gives up the position that it handed out and everything is
    /// read again: however many polls there were, its dedup keys are still wanted then.
    public var readsOnce = false

    public init(
        name: String, title: String, kind: TriggerKind, inputFields: [Field] = [], outputFields: [Field] = [],
        sampleOutput: [UInt8]? = nil, visibilityLag: Span = .zero, lookback: Int64 = 0, retention: Span? = nil,
        subscription: SubscriptionTraits? = nil, countsByDelivery: Bool = false
    ) {
        self.subscription = subscription
        self.countsByDelivery = countsByDelivery
        self.name = name
        self.title = title
        self.kind = kind
        self.inputFields = inputFields
        self.outputFields = outputFields
        self.sampleOutput = sampleOutput
        self.visibilityLag = visibilityLag
        self.lookback = lookback
        self.retention = retention
    }
}

/// Follows from what the trigger type defines.
public enum TriggerKind: String, Sendable, Codable, CaseIterable {
    case polling, longPolling = "long_polling", webhook, hybrid

    /// Whether webhooks wake a trigger of this kind.
    public var takesWebhooks: Bool { self == .hybrid || self == .webhook }
}

/// A field of a connection, an input or an output.
public struct Field: Sendable, Equatable {
    public enum FieldType: String, Sendable, CaseIterable { case string, integer, number, boolean, dateTime = "date_time", object, array }
    public var name: String
    public var label: String
    public var type: FieldType
    public var isOptional: Bool
    /// Sealed at rest and never shown.
    public var isSecret: Bool
    public var hint: String?
    /// JSON text of the value that holds if none is given.
    public var defaultJSON: String?

    public init(
        _ name: String, label: String? = nil, type: FieldType = .string, isOptional: Bool = false, isSecret: Bool = false,
        hint: String? = nil, defaultJSON: String? = nil
    ) {
        self.name = name
        self.label = label ?? name
        self.type = type
        self.isOptional = isOptional
        self.isSecret = isSecret
        self.hint = hint
        self.defaultJSON = defaultJSON
    }
}

/// A webhook as it came.
public struct WebhookRequest: Sendable {
    public var method: String
    public var path: String
    /// The query without `?`, still encoded.
    public var query: String
    /// In the order in which they came.
    public var headers: [HTTPField]
    public var body: [UInt8] { didSet { checkedBody = nil } }
    /// The body as JSON, where it was checked before: so that the gateway and the connector need not both do it.
    public private(set) var checkedBody: JSONDocument?
    /// The whole URL that the provider called, as it wrote it, for schemes that sign it (`SignatureScheme.signsURL`). Nil:
    /// `SchemeOptions.publicURL`, path and query are put together.
    public var url: String?

    public init(method: String, path: String, query: String, headers: [HTTPField], body: [UInt8], url: String? = nil) {
        self.method = method
        self.path = path
        self.query = query
        self.headers = headers
        self.body = body
        self.url = url
    }

    /// The body as JSON. Keeps the result, so that it is checked once.
    public mutating func checkBody(depthMax: Int) throws(JSONError) -> JSONDocument {
        if let checkedBody { return checkedBody }
        let document = try JSONDocument(body, depthMax: depthMax)
        checkedBody = document
        return document
    }

    /// The first header of a name, in any case.
    public func header(_ name: String) -> String? { headers.first(name) }
}

/// A header's name and value.
public struct HTTPField: Sendable, Equatable {
    public var name: String
    public var value: String
    public init(_ name: String, _ value: String) {
        self.name = name
        self.value = value
    }
}

extension [HTTPField] {
    /// The first value of a name, in any case (RFC 9110, 5.1).
    public func first(_ name: String) -> String? { first { ASCII.equalIgnoringCase($0.name, name) }?.value }
}
