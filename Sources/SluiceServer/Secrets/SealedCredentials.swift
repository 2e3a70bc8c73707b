import SluiceCore
import SluicePolling
import SluiceStore

/// Keeps rotated refresh tokens in the store, sealed for their connection.
struct SealedCredentials: CredentialKeeping {
    let store: any Store
    let sealer: SecretSealer

    func load(_ connection: ConnectionID, name: String) async throws -> (chain: TokenChain?, version: Int64) {
        let stored = try await store.credentials(connection)
        guard let sealed = stored.sealed else { return (nil, stored.version) }
        guard let chain = TokenChain(json: try sealer.open(sealed, owner: SecretOwner.credentials(name))) else {
            throw SluiceError(.storage, "the connection's stored tokens are damaged: authorize again and run `sluice apply`")
        }
        return (chain, stored.version)
    }

    func replace(
        _ connection: ConnectionID, name: String, version: Int64, by chain: TokenChain, at time: Timestamp
    ) async throws -> Int64? {
        let sealed = try sealer.seal(chain.json, owner: SecretOwner.credentials(name))
        return try await store.replaceCredentials(connection, version: version, sealed: sealed, at: time)
    }
}
