import Crypto
import SluiceConnectors
import SluiceCore

/// The secret values of a destination. Sealed as JSON.
public struct DestinationSecrets: Sendable, Equatable {
    /// The newest first: it signs first, and the others beside it until they expire.
    public var secrets: [SigningSecret] = []
    /// What stood in the file when it was last applied, as a hash: so that `apply` of an unchanged file does not undo a rotation.
    public var fileDigest: String?
    /// A rotation made secrets that the file does not name.
    public var isRotated = false
    public var headers: [NamedText] = []
    /// Further ones, by what they stand under: see `CarriedSettings`.
    public var values: [NamedText] = []
    public init() {}

    public func value(_ name: String) -> String? { values.first { $0.name == name }?.value }

    public init(fromFile secrets: [SigningSecret], headers: [NamedText], values: [NamedText] = []) {
        self.secrets = secrets
        self.headers = headers
        self.values = values
        fileDigest = secrets.isEmpty ? nil : DestinationSecrets.digest(secrets)
    }

    /// What is stored after `apply` of a file with these secrets. An unchanged file keeps what a rotation made. A changed one
    /// decides which secrets there are; those that are about to expire stay until then.
    public func applied(over stored: DestinationSecrets?) -> DestinationSecrets {
        guard let stored, !stored.secrets.isEmpty, !secrets.isEmpty else { return self }
        var result = self
        if stored.fileDigest == fileDigest {
            result.secrets = stored.secrets
            result.isRotated = stored.isRotated
        } else {
            let named = Set(secrets.map(\.secret))
            result.secrets += stored.secrets.filter { $0.expiresAt != nil && !named.contains($0.secret) }
            result.secrets = Array(result.secrets.prefix(WebhookSigner.secretsMax))
        }
        return result
    }

    /// With a new secret in front. The others expire after `overlap`, if they do not sooner.
    public func rotated(to secret: String, overlap: Span, at now: Timestamp) -> DestinationSecrets {
        var result = self
        let former = secrets.compactMap { former -> SigningSecret? in
            let expiresAt = min(former.expiresAt ?? .distantFuture, now + overlap)
            return expiresAt > now ? SigningSecret(former.secret, expiresAt: expiresAt) : nil
        }
        result.isRotated = true
        result.secrets = [SigningSecret(secret)] + former.prefix(WebhookSigner.secretsMax - 1)
        return result
    }

    private static func digest(_ secrets: [SigningSecret]) -> String {
        let text = secrets.map { "\($0.secret) \($0.expiresAt?.milliseconds ?? 0)" }.joined(separator: "\n")
        return Hex.text(SHA256.hash(data: Array(text.utf8)))
    }

    public var json: [UInt8] {
        var writer = JSONWriter()
        writer.object { writer in
            if !secrets.isEmpty {
                writer.list("secrets", secrets) { writer, secret in
                    writer.member("secret", secret.secret)
                    if let expiresAt = secret.expiresAt { writer.member("expires_at_ms", expiresAt.milliseconds) }
                }
            }
            if let fileDigest { writer.member("file_digest", fileDigest) }
            if isRotated { writer.member("rotated", true) }
            writer.key("headers")
            writer.object { writer in for header in headers { writer.member(header.name, header.value) } }
            guard !values.isEmpty else { return }
            writer.key("values")
            writer.object { writer in for value in values { writer.member(value.name, value.value) } }
        }
        return writer.bytes
    }

    public init(json: [UInt8]) {
        guard let root = (try? JSONDocument(json))?.root else { return }
        secrets =
            root["secrets"]?.elements?.compactMap { element in
                element["secret"]?.string.map {
                    SigningSecret($0, expiresAt: element["expires_at_ms"]?.int64.map(Timestamp.init(milliseconds:)))
                }
            } ?? []
        fileDigest = root["file_digest"]?.string
        isRotated = root["rotated"]?.bool ?? false
        // As it was sealed before there could be several.
        if let secret = root["secret"]?.string {
            secrets = [SigningSecret(secret)]
            fileDigest = DestinationSecrets.digest(secrets)
        }
        headers = DestinationSecrets.texts(root["headers"])
        values = DestinationSecrets.texts(root["values"])
    }

    private static func texts(_ members: JSONView?) -> [NamedText] {
        members?.members?.compactMap { member in member.value.string.map { NamedText(name: member.key, value: $0) } } ?? []
    }
}
