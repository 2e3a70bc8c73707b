/// Takes secrets out of what a provider wrote, before anybody reads it.
public struct SecretScrubber: Sendable {
    /// A shorter secret is left: taking out every `a` would help nobody.
    public static let secretBytesMin = 4

    private let secrets: [[UInt8]]

    /// Also what the secrets look like percent-encoded and in base64.
    public init(_ secrets: [String]) {
        var forms: [[UInt8]] = []
        for secret in secrets where secret.utf8.count >= SecretScrubber.secretBytesMin {
            for form in [secret, WebURL.encode(secret), Base64.encode(secret.utf8)] { forms.append(Array(form.utf8)) }
        }
        // The longest first: one may be the start of another.
        self.secrets = forms.sorted { $0.count > $1.count }
    }

    /// The text with `[secret]` in place of each.
    public func scrubbed(_ text: String) -> String {
        if secrets.isEmpty { return text }
        let bytes = Array(text.utf8)
        var result: [UInt8] = []
        var index = 0
        while index < bytes.count {
            if let found = secrets.first(where: { bytes[index...].starts(with: $0) }) {
                result.append(contentsOf: "[secret]".utf8)
                index += found.count
            } else {
                result.append(bytes[index])
                index += 1
            }
        }
        return String(decoding: result, as: UTF8.self)
    }
}
