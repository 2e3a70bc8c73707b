/// Takes secrets out of what a provider wrote, before anybody reads it.
public struct SecretScrubber: Sendable {
    /// A shorter secret is left: taking out every `a` would help nobody.
    public static let secretBytesMin = SecretFinder.secretBytesMin

    private var finder = SecretFinder()

    /// Also what the secrets look like percent-encoded, escaped and in Base64.
    public init(_ secrets: [String]) {
        for secret in secrets { finder.add(secret, label: "[secret]") }
    }

    /// The text with `[secret]` in place of each.
    public func scrubbed(_ text: String) -> String {
        if finder.isEmpty { return text }
        return String(decoding: finder.replaced(Array(text.utf8)), as: UTF8.self)
    }
}
