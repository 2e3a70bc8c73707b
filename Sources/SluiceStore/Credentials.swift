import SluiceCore

/// Credentials that change by themselves: refresh tokens that a provider rotates. They are kept apart from what `apply`
/// writes, so that neither overwrites the other's.
public protocol CredentialStore: Sendable {
    /// What is kept for a connection. Throws `.notFound` if there is no such connection.
    func credentials(_ connection: ConnectionID) async throws -> StoredCredentials

    /// Replaces what is kept if its version is still `version`, and returns the new version; nil if somebody else was
    /// faster, and nothing changed. Throws `.notFound` if there is no such connection.
    func replaceCredentials(_ connection: ConnectionID, version: Int64, sealed: [UInt8], at time: Timestamp) async throws -> Int64?
}

public struct StoredCredentials: Sendable, Equatable {
    /// Sealed bytes, meaningless to the store; nil if nothing was kept yet.
    public var sealed: [UInt8]?
    /// Raised by every change; 0 before the first.
    public var version: Int64
    public init(sealed: [UInt8]?, version: Int64) {
        self.sealed = sealed
        self.version = version
    }
}
