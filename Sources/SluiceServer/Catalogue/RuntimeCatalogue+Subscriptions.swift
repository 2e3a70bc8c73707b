import SluiceConnectors
import SluiceCore
import SluicePolling
import SluiceStore

extension RuntimeCatalogue: SubscriptionCatalogue {
    public func subscriptionPlan(for trigger: StoredTrigger) throws -> SubscriptionPlan? {
        let connection = try usable(trigger.connection, "trigger \(trigger.name)")
        guard let type = connection.connector.definition.trigger(trigger.type) else {
            throw SluiceError(.connector, "connector \(connection.stored.connector) has no trigger type `\(trigger.type)`")
        }
        guard let traits = type.subscription else { return nil }
        let input = Defaults.filled(trigger.input, type.inputFields)
        let root = try JSONDocument(input).root
        var writer = JSONWriter()
        writer.object { writer in
            for (key, value) in root.members ?? [] where traits.inputFields?.contains(key) ?? true {
                writer.key(key)
                writer.raw(value.bytes)
            }
        }
        return SubscriptionPlan(traits: traits, input: input, key: "\(trigger.connection)/\(trigger.type)\n\(writer.string)")
    }

    public func subscriptionMeans(connection id: ConnectionID, triggerType: String) throws -> SubscriptionMeans {
        let connection = try usable(id, "subscription")
        let scheme = connection.settings.scheme ?? connection.connector.definition.webhook?.scheme
        let isVerified = scheme.flatMap { SignatureScheme.named($0) }?.isSafe ?? false
        return SubscriptionMeans(
            connector: connection.connector, connectionName: connection.stored.name, connection: try JSONDocument(connection.values),
            canVerify: !isVerified || !connection.webhookSecrets.isEmpty)
    }

    private func usable(_ id: ConnectionID, _ what: String) throws -> Catalogue.Connection {
        let catalogue = current
        guard let connection = catalogue.connections[id] else {
            let name = catalogue.connectionNames[id] ?? "?"
            throw catalogue.problems.first { $0.subject == "connection \(name)" }?.error
                ?? SluiceError(.connector, "the connection of \(what) cannot be used")
        }
        return connection
    }

    public func webhookBaseURL() throws -> String {
        guard let url = address.urlForProviders else {
            throw SluiceError(
                .invalid,
                "providers cannot reach this server at its own address, so nothing is subscribed and it polls: start the server with "
                    + "`--public-url https://…`, the address at which they can")
        }
        return url + WebhookPath.path("")
    }

    public func seal(_ secret: [UInt8], url: String) throws -> [UInt8] { try sealer.seal(secret, owner: SecretOwner.subscription(url)) }
    public func open(_ sealed: [UInt8], url: String) throws -> [UInt8] { try sealer.open(sealed, owner: SecretOwner.subscription(url)) }
}
