import SluiceConnectors
import SluiceLua

/// The reference of a connector's keys, for those who do not load connectors themselves.
public enum ReferencePage {
    /// docs/REFERENCE.md, whole.
    public static func markdown() throws -> String { try ConnectorReference.make().markdown }
}
