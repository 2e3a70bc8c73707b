import SluiceCore

/// A connector written in Swift.
///
/// ```swift
/// let connector = ConnectorDescription("orders", title: "Orders", version: "1.0.0") {
///     Field("api_key", isSecret: true)
///     Webhook(scheme: "stripe", deliveryID: .body(["id"])) { request in
///         [try request.json()["type"]?.string ?? ""]
///     }
///     TriggerType("new_order", title: "New order") {
///         WebhookKey { _ in "order.created" }
///         Poll(incremental)
///     }
/// }
/// ```
public struct ConnectorDescription: Connector {
    public let definition: ConnectorDefinition
    private let webhook: Webhook?
    private let triggers: [String: TriggerType]
    let callbacks: [String: CallbackType]
    private let helpText: @Sendable (String) -> String

    /// `name` in kebab-case; `version` must change with the code, since it stands for the hash of a Lua connector's source.
    /// Two trigger types of one name, or one without a poll, stop the program: they are mistakes of the programmer.
    public init(_ name: String, title: String, version: String, @ConnectorBuilder _ parts: () -> [any ConnectorPart]) {
        var fields: [Field] = []
        var webhook: Webhook?
        var types: [TriggerType] = []
        var help: Help?
        var waited: [CallbackType] = []
        var access = ConnectionAccess()
        for part in parts() {
            switch part {
            case let field as Field: fields.append(field)
            case let value as Webhook: webhook = value
            case let type as TriggerType: types.append(type)
            case let value as Help: help = value
            case let type as CallbackType: waited.append(type)
            case let value as Access: access = value.rules
            default: break
            }
        }
        access.addBaseURLs(of: types.compactMap { $0.poll?.incremental })
        access.addBaseURLs(of: waited.compactMap(\.rules))
        if let problem = access.problem(fields: fields) { preconditionFailure("\(name): \(problem)") }
        precondition(Set(types.map(\.definition.name)).count == types.count, "two trigger types of \(name) have the same name")
        precondition(Set(waited.map(\.definition.name)).count == waited.count, "two callback types of \(name) have the same name")
        definition = ConnectorDefinition(
            name: name, title: title, version: version, hash: "swift:\(name)@\(version)", language: "swift", connectionFields: fields,
            webhook: webhook?.description, triggers: types.map(\.definition), access: access,
            callbacks: waited.map(\.definition))
        self.webhook = webhook
        triggers = Dictionary(uniqueKeysWithValues: types.map { ($0.definition.name, $0) })
        callbacks = Dictionary(uniqueKeysWithValues: waited.map { ($0.definition.name, $0) })
        if let help {
            helpText = help.text
        } else {
            helpText = { base in "Let \(title) send its webhooks to \(base)." }
        }
    }

    public func webhookKeys(_ request: WebhookRequest) throws -> [String] { try webhook.map { try $0.keys(request) } ?? [] }

    public func webhookKey(triggerType: String, input: JSONDocument) throws -> String? {
        let type = try trigger(triggerType)
        return try type.webhookKey?.key(input.root)
    }

    public func poll(_ request: PollRequest, http: any HTTPSending) async throws -> PollPage {
        let type = try trigger(request.triggerType)
        guard let poll = type.poll else { throw lacks("Poll", type) }
        if let rule = type.longPoll?.rule, let rules = poll.incremental { return try await rule.poll(request, rules, http: http) }
        return try await tellingStatesApart(type.definition, request, http) { try await poll.read(request, $0) }
    }

    public func longPoll(_ request: PollRequest, http: any HTTPSending) async throws -> PollPage {
        switch try held(request.triggerType) {
        case .code(let read, let type): return try await tellingStatesApart(type, request, http) { try await read(request, $0) }
        case .rules(let rule, let rules): return try await rule.longPoll(request, rules, http: http)
        }
    }

    private enum Held {
        case code(@Sendable (PollRequest, any HTTPSending) async throws -> PollPage, TriggerTypeDefinition)
        case rules(LongPollRule, Incremental)
    }

    /// What a request that waits holds of its trigger type.
    @inline(never)
    private func held(_ name: String) throws -> Held {
        let type = try trigger(name)
        if let read = type.longPoll?.read { return .code(read, type.definition) }
        guard let rule = type.longPoll?.rule, let rules = type.poll?.incremental else { throw lacks("LongPoll", type) }
        return .rules(rule, rules)
    }

    public func webhookNotification(
        _ request: WebhookRequest, triggerType: String, input: JSONDocument, output: JSONDocument?
    ) throws -> [Record] {
        guard let notification = try trigger(triggerType).notification else { return [request.bodyRecord] }
        return try notification.records(request, input.root, output?.root)
    }

    public func dedupKeys(triggerType: String, records: [Record]) throws -> [Result<[UInt8], SluiceError>] {
        let type = try trigger(triggerType)
        guard let dedup = type.dedup else { throw lacks("Dedup", type) }
        return dedup.keys(records)
    }

    private func lacks(_ part: String, _ type: TriggerType) -> SluiceError {
        SluiceError(.connector, "the trigger type \(type.definition.name) of \(definition.name) has no \(part)")
    }

    public func help(webhookBaseURL: String) -> String { helpText(webhookBaseURL) }

    public func incremental(triggerType: String) -> Incremental? { triggers[triggerType]?.poll?.incremental }

    public func cursorAt(_ time: Timestamp, triggerType: String, input: JSONDocument) throws -> [UInt8]? {
        try trigger(triggerType).cursorAt?.cursor(time, input.root)
    }

    public func recordTimes(triggerType: String, records: [Record]) throws -> [Timestamp?]? {
        try trigger(triggerType).recordTime.map { part in records.map { part.time($0.view) } }
    }

    func trigger(_ name: String) throws -> TriggerType {
        guard let trigger = triggers[name] else {
            let names = triggers.keys.sorted().joined(separator: ", ")
            throw SluiceError(.notFound, "the connector \(definition.name) has no trigger type \(name): choose from \(names)")
        }
        return trigger
    }
}

/// What may stand inside a `ConnectorDescription`: `Field`, `Access`, `Webhook`, `TriggerType`, `CallbackType`, `Help`.
public protocol ConnectorPart: Sendable {}

extension Field: ConnectorPart {}

/// How the connector's webhooks are verified, and under which keys triggers hear of them (`webhook_keys`).
public struct Webhook: ConnectorPart {
    let description: WebhookDescription
    let keys: @Sendable (WebhookRequest) throws -> [String]

    /// `scheme` is a name of `SignatureScheme`. A `keys` that throws keeps the webhook as unmatched and signals every trigger.
    /// `handshakes`: names of `Handshake`s; none: the scheme's own.
    public init(
        scheme: String, deliveryID: DeliveryIDSource? = nil, handshakes: [String] = [],
        keys: @escaping @Sendable (WebhookRequest) throws -> [String]
    ) {
        description = WebhookDescription(scheme: scheme, deliveryID: deliveryID, handshakes: handshakes)
        self.keys = keys
    }
}

/// What to do at the provider so that its webhooks arrive, given the URL to send them to.
public struct Help: ConnectorPart {
    let text: @Sendable (String) -> String
    public init(_ text: @escaping @Sendable (String) -> String) { self.text = text }
}

/// Where a connection's requests go, how they show who asks, and how to try whether that works.
public struct Access: ConnectorPart {
    let rules: ConnectionAccess

    /// Credentials go to `baseURLs` alone; those of `Incremental` polls are added.
    public init(
        baseURLs: [Template] = [], authorization: Authorization? = nil, test: ConnectionTest? = nil, rateLimit: RateLimitRule = .init()
    ) {
        var rules = ConnectionAccess()
        rules.baseURLs = baseURLs
        rules.authorization = authorization
        rules.test = test
        rules.rateLimit = rateLimit
        self.rules = rules
    }
}

/// Collects the parts of a connector.
@resultBuilder public enum ConnectorBuilder {
    public static func buildExpression(_ part: any ConnectorPart) -> [any ConnectorPart] { [part] }
    public static func buildBlock(_ parts: [any ConnectorPart]...) -> [any ConnectorPart] { parts.flatMap { $0 } }
    public static func buildArray(_ parts: [[any ConnectorPart]]) -> [any ConnectorPart] { parts.flatMap { $0 } }
    public static func buildOptional(_ parts: [any ConnectorPart]?) -> [any ConnectorPart] { parts ?? [] }
    public static func buildEither(first parts: [any ConnectorPart]) -> [any ConnectorPart] { parts }
    public static func buildEither(second parts: [any ConnectorPart]) -> [any ConnectorPart] { parts }
}

extension WebhookRequest {
    /// The body as JSON. Throws `SluiceError` that says where it goes wrong.
    public func json() throws(SluiceError) -> JSONView {
        if let checkedBody { return checkedBody.root }
        do throws(JSONError) {
            return try JSONDocument(body).root
        } catch {
            throw SluiceError(.invalid, "the webhook's body is not readable: it \(error)")
        }
    }
}
