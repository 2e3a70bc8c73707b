import SluiceCore
import SluiceStore

extension API {
    /// Keeps the webhook secret that a provider gave to an address in a handshake, sealed with the connection's others. Throws
    /// `.conflict` if the address has one already, `.notFound` if it is gone.
    func learn(secret: String, token: String, connection: ConnectionID) async throws {
        try await changes.run {
            let definitions = try await self.definitions()
            let tokens = Set(definitions.endpoints.filter { $0.connection == connection }.map(\.token))
            guard let stored = definitions.connections.first(where: { $0.id == connection }), tokens.contains(token) else {
                throw SluiceError(.notFound, "the address of the handshake is gone")
            }
            let owner = SecretOwner.connection(stored.name)
            var secrets = ConnectionSecrets(json: try self.parts.sealer.open(stored.sealedSecrets, owner: owner))
            guard secrets.webhookSecrets.isEmpty, secrets.learnedSecrets[token] == nil else {
                throw SluiceError(.conflict, "the address has a webhook secret already").with("connection", stored.name)
            }
            secrets.learnedSecrets = secrets.learnedSecrets.filter { tokens.contains($0.key) }
            secrets.learnedSecrets[token] = secret
            let change = DefinitionChange.putConnection(
                name: stored.name, connector: stored.connector, fields: stored.fields,
                sealedSecrets: try self.parts.sealer.seal(secrets.json, owner: owner), settings: stored.settings)
            try await self.parts.store.apply([change], namespace: .default, at: self.parts.clock.now())
            try await self.parts.control.definitionsChanged()
        }
    }
}
