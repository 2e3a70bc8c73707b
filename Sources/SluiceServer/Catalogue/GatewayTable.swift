import SluiceConnectors
import SluiceCore
import SluiceGateway
import SluiceStore

extension Catalogue {
    /// Which address leads to which connection. A connection without a way to verify its webhooks gets none.
    func gatewayRoutes() -> GatewayRoutes {
        var connectionsByToken: [String: GatewayConnection] = [:]
        var expiresAtByToken: [String: Timestamp] = [:]
        for connection in connections.values {
            guard let gateway = connection.gatewayConnection() else { continue }
            for endpoint in connection.endpoints {
                connectionsByToken[endpoint.token] = gateway
                if let expiry = endpoint.expiresAt { expiresAtByToken[endpoint.token] = expiry }
            }
        }
        return GatewayRoutes(connectionsByToken: connectionsByToken, expiresAtByToken: expiresAtByToken)
    }
}

extension Catalogue.Connection {
    /// What the gateway must know of it; nil without a way to verify its webhooks.
    func gatewayConnection() -> GatewayConnection? {
        guard let name = settings.scheme ?? connector.definition.webhook?.scheme, let scheme = SignatureScheme.named(name),
            let whole = topics.first(where: { $0.key.isEmpty })
        else { return nil }
        var options = SchemeOptions()
        options.tolerance = settings.tolerance ?? options.tolerance
        options.headerName = settings.header
        let keyed = topics.filter { !$0.key.isEmpty }.map { ($0.key, $0.id) }
        return GatewayConnection(
            id: stored.id, name: stored.name, connector: connector, scheme: scheme, secrets: webhookSecrets, schemeOptions: options,
            deliveryID: connector.definition.webhook?.deliveryID, topicsByKey: Dictionary(keyed) { first, _ in first },
            wholeConnectionTopic: whole.id)
    }
}
