import Crypto
import SluiceConnectors
import SluiceCore

/// What the polling service is told of a connection's access: the connector's rules and the connection's values.
public struct ConnectionAuthorization: Sendable {
    public var name: String
    public var access: ConnectionAccess
    /// Values of the connection's fields, secrets included: a JSON object.
    public var values: JSONDocument
    /// Names of the fields that are secret.
    public var secretFields: [String]
    /// Whose own test is made where it has one; nil: only what `access` names.
    public var connector: (any Connector)?

    public init(name: String, access: ConnectionAccess, values: JSONDocument, secretFields: [String], connector: (any Connector)? = nil) {
        self.connector = connector
        self.name = name
        self.access = access
        self.values = values
        self.secretFields = secretFields
    }

    var secrets: [String] { secretFields.compactMap { values.root[$0]?.text } }

    /// Whatever changes what a token request would be.
    func fingerprint(_ settings: ConnectionPollSettings) -> [UInt8] {
        var hash = SHA256()
        hash.update(data: Array(values.root.bytes))
        hash.update(data: Array("\(access.authorization.map { String(describing: $0) } ?? "") \(settings.allowsPrivate)".utf8))
        return Array(hash.finalize())
    }
}

/// Keeps the refresh tokens that a provider rotates, sealed and durable.
public protocol CredentialKeeping: Sendable {
    /// What is kept, and its version. Throws `SluiceError` if it cannot be read or opened.
    func load(_ connection: ConnectionID, name: String) async throws -> (chain: TokenChain?, version: Int64)
    /// Replaces it if its version is still `version`. When this returns the new version, the chain is durable; nil: somebody
    /// else was faster.
    func replace(_ connection: ConnectionID, name: String, version: Int64, by chain: TokenChain, at time: Timestamp) async throws -> Int64?
}

/// How a lane adds credentials to its requests.
struct LaneAuthorization: Sendable {
    let authorization: Authorization
    let values: JSONDocument
    /// Credentials go to these alone.
    let origins: Set<String>
    /// Nil for credentials that do not expire.
    let keeper: TokenKeeper?

    /// Whether this request is to be given credentials.
    func covers(_ plan: HTTPRequestPlan) -> Bool {
        ConnectionAccess.allows(plan.url, origins: origins) && !authorization.isShown(by: plan)
    }

    func applied(to plan: HTTPRequestPlan, _ token: AccessToken?) throws -> HTTPRequestPlan {
        try authorization.applied(to: plan, values: values, accessToken: token?.value)
    }
}

/// What is known of a connection's credentials and budget, for people. Nothing in it is secret.
public struct ConnectionStatus: Sendable, Equatable {
    /// As the connector's file calls it, or nil if requests show who asks in a way of their own.
    public var authorization: String?
    public var tokenExpiresAt: Timestamp?
    public var tokenRefreshedAt: Timestamp?
    /// Why the last refresh failed, if none succeeded since.
    public var tokenError: String?
    /// Before this the provider is not asked for a token again.
    public var tokenRetryAt: Timestamp?
    public var isRefused = false
    /// Why nothing is asked, and until when.
    public var waitsFor: String?
    public var waitsUntil: Timestamp?
    public init() {}
}
