import FoundationEssentials
import SluiceConnectors
import SluiceCore

/// Loads the connectors of a directory: `NAME/connector.lua`.
///
/// Reads files: call it while starting, not from the cooperative pool while serving.
public struct LuaConnectorLoader: Sendable {
    /// A file that could not be loaded, and why.
    public struct Failure: Sendable {
        public var path: String
        public var error: SluiceError
    }

    public var connectors: [LuaConnector] = []
    public var failures: [Failure] = []

    /// Loads each file in order of its name. One that fails does not keep the others from loading. Throws if the
    /// directory itself cannot be read.
    public static func load(directory: String, limits: LuaLimits = LuaLimits()) throws -> LuaConnectorLoader {
        var result = LuaConnectorLoader()
        let names: [String]
        do {
            names = try FileManager.default.contentsOfDirectory(atPath: directory).sorted()
        } catch {
            throw SluiceError(.notFound, "The directory of connectors, \(directory), cannot be read; name one that exists.")
        }
        for name in names {
            let path = "\(directory)/\(name)/\(LuaState.chunkName)"
            guard FileManager.default.fileExists(atPath: path) else { continue }
            do {
                guard let data = FileManager.default.contents(atPath: path) else {
                    throw SluiceError(.connector, "\(path): cannot be read")
                }
                result.connectors.append(try LuaConnector.load(source: Array(data), name: name, path: path, limits: limits))
            } catch let error as SluiceError {
                result.failures.append(Failure(path: path, error: error))
            }
        }
        return result
    }
}
