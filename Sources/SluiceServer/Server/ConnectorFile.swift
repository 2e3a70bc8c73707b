import SluiceConnectors
import SluiceCore
import SluiceLua

/// Loads connectors one by one, to check and try them. Reads files.
public enum ConnectorFile {
    /// `path`: a `connector.lua`, or the directory that holds one; its name is the directory's.
    public static func load(_ path: String) throws -> any Connector {
        let file = file(path)
        return try load(source: try source(file), file: file)
    }

    /// Where the source of a connector lies, given the file or its directory.
    static func file(_ path: String) -> String {
        let trimmed = path.hasSuffix("/") ? String(path.dropLast()) : path
        return trimmed.hasSuffix(".lua") ? trimmed : trimmed + "/connector.lua"
    }

    static func source(_ file: String) throws -> [UInt8] {
        guard let source = try SmallFile.read(file, bytesMax: LuaConnector.sourceBytesMax) else {
            throw SluiceError(.notFound, "there is no file \(file)").with("file", file)
        }
        return source
    }

    static func load(source: [UInt8], file: String) throws -> LuaConnector {
        let parts = file.split(separator: "/").map(String.init)
        let parent = parts.count > 1 ? parts[parts.count - 2] : ""
        let name =
            parts.last == "connector.lua" && !parent.isEmpty && parent != "." ? parent : String((parts.last ?? "connector").dropLast(4))
        return try LuaConnector.load(source: source, name: name, path: file)
    }
}

extension ConnectorFile {
    /// Loads each by itself: one that is broken keeps no other from loading.
    public static func loadEach(_ files: [String]) -> (connectors: [any Connector], broken: [BrokenConnector]) {
        var (connectors, broken): ([any Connector], [BrokenConnector]) = ([], [])
        for file in files {
            do {
                connectors.append(try load(file))
            } catch {
                let message = (error as? SluiceError)?.message ?? "\(error)"
                let isNamed = message.hasPrefix(file + ": ")
                broken.append(BrokenConnector(file: file, message: isNamed ? String(message.dropFirst(file.count + 2)) : message))
            }
        }
        return (connectors, broken)
    }

    /// Whether there is something to load; what cannot be read is there, and loading it says why it cannot.
    private static func isThere(_ file: String) -> Bool {
        do { return try SmallFile.read(file, bytesMax: LuaConnector.sourceBytesMax) != nil } catch { return true }
    }

    /// The connectors that paths name: each a `connector.lua`, a directory that holds one, or a directory of such directories.
    /// Throws `.notFound` where there is none.
    public static func all(in paths: [String]) throws -> [String] {
        var files: [String] = []
        for path in paths {
            let file = file(path)
            if isThere(file) {
                files.append(file)
                continue
            }
            let directory = path.hasSuffix("/") ? String(path.dropLast()) : path
            let names = path.hasSuffix(".lua") ? [] : SmallFile.names(in: directory)
            let inner = names.map { "\(directory)/\($0)/connector.lua" }.filter(isThere)
            if inner.isEmpty {
                throw SluiceError(.notFound, "there is no connector at \(path): name a connector.lua or a directory that holds one")
                    .with("file", path)
            }
            files += inner
        }
        return files
    }
}

/// Lengths of time as people write them.
public enum Durations {
    /// `500ms`, `15s`, `5m`, `12h`, `7d`; nil for anything else.
    public static func span(_ text: String) -> Span? { Words.span(text) }
}
