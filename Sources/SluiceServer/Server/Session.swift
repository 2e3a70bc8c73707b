import SluiceCore

#if canImport(Glibc)
    import Glibc
#elseif canImport(Musl)
    import Musl
#endif

/// How commands on the same machine find a running server: `server.json` and `local.token` in its data directory, readable
/// by their owner alone.
public struct Session: Sendable, Equatable {
    public var apiURL: String
    public var publicURL: String
    public var pid: Int32
    /// Valid while the server runs.
    public var token: String

    /// Nil if no server has written one, or its files are incomplete.
    public static func read(dataDirectory: String) throws(SluiceError) -> Session? {
        guard let bytes = try SmallFile.read(dataDirectory + "/server.json", bytesMax: 64 * 1024),
            let token = try SmallFile.read(dataDirectory + "/local.token", bytesMax: 4096),
            let root = (try? JSONDocument(bytes))?.root, let api = root["api_url"]?.string, let pid = root["pid"]?.int64
        else { return nil }
        return Session(
            apiURL: api, publicURL: root["public_url"]?.string ?? "", pid: Int32(truncatingIfNeeded: pid),
            token: String(String(decoding: token, as: UTF8.self).trimmed))
    }

    /// Whether the process that wrote it still lives.
    public var isAlive: Bool { kill(pid, 0) == 0 || errno == EPERM }

    /// The token first: whoever sees `server.json` finds the token.
    func write(dataDirectory: String) throws(SluiceError) {
        try SmallFile.writePrivate(dataDirectory + "/local.token", Array((token + "\n").utf8))
        var writer = JSONWriter()
        writer.object { writer in
            writer.member("api_url", apiURL)
            writer.member("public_url", publicURL)
            writer.member("pid", Int64(pid))
            writer.member("version", API.version)
        }
        try SmallFile.writePrivate(dataDirectory + "/server.json", writer.bytes + [0x0A])
    }

    static func remove(dataDirectory: String) {
        SmallFile.remove(dataDirectory + "/server.json")
        SmallFile.remove(dataDirectory + "/local.token")
    }
}
