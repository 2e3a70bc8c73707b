import SluiceConnectors
import SluiceCore
import SluiceGateway
import SluiceStore

extension Catalogue {
    /// Which address leads to which connection. A connection without a way to verify its webhooks gets none.
    func gatewayRoutes() -> GatewayRoutes {
        var connectionsByToken: [String: GatewayConnection] = [:]
        var expiresAtByToken: [String: Timestamp] = [:]
        var usable: [ConnectionID: GatewayConnection] = [:]
        for connection in connections.values {
            guard let gateway = connection.gatewayConnection() else { continue }
            usable[connection.stored.id] = gateway
            for endpoint in connection.endpoints {
                connectionsByToken[endpoint.token] = connection.knowingSecret(of: endpoint.token, gateway)
                if let expiry = endpoint.expiresAt { expiresAtByToken[endpoint.token] = expiry }
            }
        }
        for (trigger, subscriptions) in subscriptions { connectionsByToken.merge(gateways(of: trigger, subscriptions)) { $1 } }
        var waiting: [String: ConnectionID] = [:]
        for (id, endpoints) in unusable { for endpoint in endpoints { waiting[endpoint.token] = id } }
        for subscriptions in subscriptions.values { waiting.merge(unusable(of: subscriptions)) { $1 } }
        return GatewayRoutes(
            connectionsByToken: connectionsByToken, expiresAtByToken: expiresAtByToken, connections: usable, unusableByToken: waiting,
            unusable: Set(unusable.keys))
    }

    /// The addresses of one trigger's subscriptions, where they cannot be used.
    func unusable(of subscriptions: Subscriptions) -> [String: ConnectionID] {
        Dictionary(subscriptions.routes.filter { unusable[$0.connection] != nil }.map { ($0.token, $0.connection) }) { first, _ in first }
    }

    /// The addresses of one trigger's subscriptions.
    func gateways(of trigger: TriggerID, _ subscriptions: Subscriptions) -> [String: GatewayConnection] {
        var result: [String: GatewayConnection] = [:]
        for route in subscriptions.routes {
            guard let connection = connections[route.connection], var gateway = connection.gatewayConnection() else { continue }
            let key = triggerNames[trigger].map { DynamicTopic.key($0.uid) }
            gateway.subscriptionTopic = connection.topics.first { $0.key == key }?.id ?? gateway.wholeConnectionTopic
            if let secret = route.secret { gateway.secrets = [secret] }
            result[route.token] = connection.knowingSecret(of: route.token, gateway)
        }
        return result
    }
}

extension Catalogue.Connection {
    /// What the gateway must know of it; nil without a way to verify its webhooks.
    func gatewayConnection() -> GatewayConnection? {
        guard let name = settings.scheme ?? connector.definition.webhook?.scheme, let scheme = SignatureScheme.named(name),
            let whole = topics.first(where: { $0.key.isEmpty })
        else { return nil }
        var options = SchemeOptions()
        options.tolerance = settings.tolerance
        options.headerName = settings.header
        options.parameters = settings.schemeParameters
        let keyed = topics.filter { !$0.key.isEmpty && !DynamicTopic.isOne($0.key) }.map { ($0.key, $0.id) }
        var gateway = GatewayConnection(
            id: stored.id, name: stored.name, connector: connector, scheme: scheme, secrets: webhookSecrets, schemeOptions: options,
            deliveryID: connector.definition.webhook?.deliveryID, topicsByKey: Dictionary(keyed) { first, _ in first },
            wholeConnectionTopic: whole.id)
        gateway.handshakes = Handshake.of(declared: connector.definition.webhook?.handshakes ?? [], scheme: name)
        let known = (try? JSONDocument(values))?.root
        for field in gateway.handshakes.flatMap({ $0.fields + $0.optionalFields }) {
            // What a handshake and its scheme ask for under one name is one thing, wherever it is set.
            let isBoth = scheme.summary.parameters.contains(field)
            gateway.handshakeFields[field] = known?[field]?.text ?? (isBoth ? options.parameters[field] : nil)
            if isBoth, options.parameters[field] == nil { gateway.schemeOptions.parameters[field] = known?[field]?.text }
        }
        return gateway
    }

    /// A secret that a provider gives in a handshake belongs to one address. An address that has none may be given one.
    fileprivate func knowingSecret(of token: String, _ gateway: GatewayConnection) -> GatewayConnection {
        guard gateway.handshakes.contains(where: \.learnsSecret) else { return gateway }
        var gateway = gateway
        let learned = learnedSecrets[token]
        gateway.mayLearnSecret = gateway.secrets.isEmpty && learned == nil
        gateway.secrets += learned.map { [$0] } ?? []
        return gateway
    }
}

/// What webhooks to the URLs of a trigger's subscriptions are kept under. No `webhook_key` leads there.
enum DynamicTopic {
    private static let prefix = "dynamic:"
    static func key(_ triggerUID: String) -> String { prefix + triggerUID }
    static func isOne(_ key: String) -> Bool { key.hasPrefix(prefix) }
}
