import SluiceConnectors
import SluiceCore
import SluiceLua

/// Loads one connector, to check it. Reads files.
public enum ConnectorFile {
    /// `path`: a `connector.lua`, or the directory that holds one; its name is the directory's.
    public static func load(_ path: String) throws -> any Connector {
        let trimmed = path.hasSuffix("/") ? String(path.dropLast()) : path
        let file = trimmed.hasSuffix(".lua") ? trimmed : trimmed + "/connector.lua"
        guard let source = try SmallFile.read(file, bytesMax: LuaConnector.sourceBytesMax) else {
            throw SluiceError(.notFound, "there is no file \(file)").with("file", file)
        }
        let parts = file.split(separator: "/").map(String.init)
        let parent = parts.count > 1 ? parts[parts.count - 2] : ""
        let name =
            parts.last == "connector.lua" && !parent.isEmpty && parent != "." ? parent : String((parts.last ?? "connector").dropLast(4))
        return try LuaConnector.load(source: source, name: name, path: file)
    }
}

/// Lengths of time as people write them.
public enum Durations {
    /// `500ms`, `15s`, `5m`, `12h`, `7d`; nil for anything else.
    public static func span(_ text: String) -> Span? { Words.span(text) }
}
