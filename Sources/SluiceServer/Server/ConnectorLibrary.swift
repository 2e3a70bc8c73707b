import SluiceConnectors
import SluiceCore
import SluiceLua

/// The connectors that are loaded, by name.
public struct ConnectorLibrary: Sendable {
    public private(set) var connectors: [String: any Connector] = [:]
    /// Files that were not loaded, and why.
    public private(set) var failures: [SluiceError] = []

    /// Those written in Swift that come with Sluice.
    public static let builtIn: [any Connector] = [ChargebeeSwift.connector]

    public init(_ connectors: [any Connector] = builtIn) {
        for connector in connectors { self.connectors[connector.definition.name] = connector }
    }

    /// Adds the directories of `directory` that hold a `connector.lua`. Reads files: call it where blocking is allowed.
    /// A file that fails keeps no other from loading; a name that is taken is a failure.
    public mutating func load(directory: String) throws {
        let loaded = try LuaConnectorLoader.load(directory: directory)
        failures += loaded.failures.map { $0.error.with("file", $0.path) }
        for connector in loaded.connectors {
            let name = connector.definition.name
            if connectors[name] != nil {
                failures.append(SluiceError(.connector, "there are two connectors named \(name): rename one").with("file", connector.path))
            } else {
                connectors[name] = connector
            }
        }
    }
}
