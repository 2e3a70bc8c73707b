import SluiceCore
import SluiceStore

extension API {
    /// More than these of one connection are refused (P10).
    private static let learnedSecretsMax = 1000

    /// Keeps the webhook secret that a provider gave to an address in a handshake, sealed with the connection's others; the
    /// address is one of the connection or of a subscription. Throws `.conflict` if it has one already, `.notFound` if the
    /// connection is gone.
    func learn(secret: String, token: String, connection: ConnectionID) async throws {
        try await changes.run {
            let definitions = try await self.definitions()
            guard let stored = definitions.connections.first(where: { $0.id == connection }) else {
                throw SluiceError(.notFound, "the connection of the handshake is gone")
            }
            let owner = SecretOwner.connection(stored.name)
            var secrets = ConnectionSecrets(json: try self.parts.sealer.open(stored.sealedSecrets, owner: owner))
            guard secrets.webhookSecrets.isEmpty, secrets.learnedSecrets[token] == nil else {
                throw SluiceError(.conflict, "the address has a webhook secret already").with("connection", stored.name)
            }
            guard secrets.learnedSecrets.count < API.learnedSecretsMax else {
                throw SluiceError(.conflict, "the connection has learned too many secrets").with("connection", stored.name)
            }
            secrets.learnedSecrets[token] = secret
            let change = DefinitionChange.putConnection(
                name: stored.name, connector: stored.connector, fields: stored.fields,
                sealedSecrets: try self.parts.sealer.seal(secrets.json, owner: owner), settings: stored.settings)
            try await self.parts.store.apply([change], namespace: .default, at: self.parts.clock.now())
            try await self.parts.control.definitionsChanged()
        }
    }
}
