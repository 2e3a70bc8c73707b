import SluiceCore

/// One server of `url`: `nats://HOST[:PORT]`, or `tls://HOST[:PORT]` where nothing but TLS will do.
public struct NATSAddress: Sendable, Equatable {
    public var host: String
    public var port: Int
    public var needsTLS: Bool

    public static let portDefault = 4222
    public static let serversMax = 16

    /// The servers of a cluster, separated by commas. Throws `.invalid`; the message never quotes the URL: it may hold a secret.
    public static func list(_ text: String) throws(SluiceError) -> [NATSAddress] {
        let parts = text.split(separator: ",", omittingEmptySubsequences: false)
        guard (1...serversMax).contains(parts.count) else { throw refusal("names more than \(serversMax) servers") }
        var result: [NATSAddress] = []
        for part in parts { result.append(try address(part.drop { $0 == " " })) }
        return result
    }

    private static func address(_ text: Substring) throws(SluiceError) -> NATSAddress {
        guard !text.contains("@") else { throw refusal("holds credentials: give them as `user` and `password`, or as `token`") }
        let needsTLS = text.hasPrefix("tls://")
        guard needsTLS || text.hasPrefix("nats://") else {
            throw refusal("begins with nats:// or tls://, for example nats://127.0.0.1:4222")
        }
        // The rest is what stands in any URL; the reader of those is strict.
        let rest = text.dropFirst(needsTLS ? 6 : 7)
        let web: WebAddress
        do throws(SluiceError) {
            web = try WebAddress("http://" + rest)
        } catch {
            throw refusal("has a host or port that is none: for example nats://127.0.0.1:4222")
        }
        guard web.pathAndQuery == "/", !rest.contains("#"), !rest.contains("?") else {
            throw refusal("has no path: only a host and a port")
        }
        let hasPort = rest.last.map { $0 != "]" } ?? false && rest[(rest.lastIndex(of: "]") ?? rest.startIndex)...].contains(":")
        return NATSAddress(host: web.host, port: hasPort ? web.port : portDefault, needsTLS: needsTLS)
    }

    private static func refusal(_ message: String) -> SluiceError { SluiceError(.invalid, "the `url` of a NATS destination \(message)") }
}
