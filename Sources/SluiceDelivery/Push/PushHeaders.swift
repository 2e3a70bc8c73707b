/// Headers that a destination adds to its pushes.
public enum PushHeaders {
    /// Set by Sluice, or by HTTP itself.
    static let own: Set<String> = [
        "webhook-id", "webhook-timestamp", "webhook-signature", "content-type", "content-length", "transfer-encoding", "host", "connection",
        "expect", "te", "upgrade", "trailer",
    ]

    /// Why this header cannot be sent (RFC 9110, 5.1 and 5.5), without its value, which may be a secret; nil: it can.
    public static func fault(_ name: String, _ value: String) -> String? {
        let shown = String(name.unicodeScalars.prefix(64).map { (0x20...0x7E).contains($0.value) ? Character($0) : "?" })
        let isToken =
            !name.isEmpty
            && name.utf8.allSatisfy { byte in
                (0x30...0x39).contains(byte) || (0x41...0x5A).contains(byte) || (0x61...0x7A).contains(byte)
                    || "!#$%&'*+-.^_`|~".utf8.contains(byte)
            }
        if !isToken { return "`\(shown)` is no name of a header: letters, digits and `-`" }
        if own.contains(name.lowercased()) { return "the header `\(shown)` is set by Sluice: leave it out" }
        if value.utf8.contains(where: { ($0 < 0x20 && $0 != 0x09) || $0 == 0x7F }) {
            return "the value of the header `\(shown)` holds a line break or another control character"
        }
        return nil
    }
}
