import SluiceCore

/// The texts of connectors by which dedup keys were made, so that the same keys can be made after a connector changed
/// (`KeyOrigin`), also by a server that never saw the former file.
public protocol ConnectorTextStore: Sendable {
    /// Keeps a text under its hash; one that is kept already stays. Texts that no trigger's keys need, and that are older than a
    /// day, may be removed.
    func keepConnectorText(_ text: [UInt8], hash: String, at time: Timestamp) async throws
    /// Nil if it is not kept.
    func connectorText(hash: String) async throws -> [UInt8]?
}
