import Crypto
import FoundationEssentials
import SluiceCore

/// A secret that signs, and until when.
public struct SigningSecret: Sendable, Hashable {
    /// `whsec_` and base64 (HMAC-SHA256, `v1`), or `whsk_` and base64 of an ed25519 key (`v1a`).
    public var secret: String
    /// Nil: it does not expire.
    public var expiresAt: Timestamp?
    public init(_ secret: String, expiresAt: Timestamp? = nil) {
        self.secret = secret
        self.expiresAt = expiresAt
    }
}

/// Signs what Sluice pushes, with keys that are read once. During a rotation there are several secrets: the signature header then
/// has one signature for each, the newest first, so that receivers with the new and with the old secret both verify.
/// Source: the Standard Webhooks specification, "Signature scheme" (`v1` symmetric, `v1a` asymmetric) and "Webhook headers".
public struct WebhookSigner: Sendable {
    private enum Key: Sendable {
        case symmetric(HMACSHA256.Key)
        case asymmetric(Curve25519.Signing.PrivateKey)
    }
    private let keys: [(key: Key, expiresAt: Timestamp?)]

    public static let secretsMax = 8
    /// Of a symmetric key: the specification's bounds.
    public static let keyBytes = 24...64

    /// Throws `.invalid` without naming the secret, where one is neither form.
    public init(_ secrets: [SigningSecret]) throws(SluiceError) {
        var keys: [(Key, Timestamp?)] = []
        for secret in secrets {
            guard let key = WebhookSigner.key(secret.secret) else {
                throw SluiceError(
                    .invalid,
                    "The secret of a push destination is neither whsec_ and base64 of 24 to 64 bytes, nor whsk_ and base64 of an ed25519 key; "
                        + "make one: echo \"whsec_$(openssl rand -base64 32)\""
                )
            }
            keys.append((key, secret.expiresAt))
        }
        guard !keys.isEmpty else {
            throw SluiceError(.invalid, "A push destination needs a secret: whsec_ and base64 of 24 to 64 random bytes.")
        }
        self.keys = keys
    }

    /// The value of `webhook-signature`: signatures separated by spaces. `timestamp` counts in whole seconds: send
    /// `timestamp.seconds` as `webhook-timestamp`. `id` must not contain a point. The first secret signs even if it has expired,
    /// so that nothing ever goes out unsigned.
    public func sign(id: String, timestamp: Timestamp, body: [UInt8]) -> String {
        let prefix = StandardWebhooks.prefix(id: id, timestamp: String(timestamp.seconds))
        var header = ""
        for (index, entry) in keys.enumerated() {
            if index > 0, let expiresAt = entry.expiresAt, expiresAt <= timestamp { continue }
            if index > 0 { header += " " }
            switch entry.key {
            case .symmetric(let key):
                let code = key.code(prefix, body)
                header += "v1," + Base64.encode((0..<32).map { code[$0] })
            case .asymmetric(let key):
                guard let signature = try? key.signature(for: prefix + body) else { continue }
                header += "v1a," + Base64.encode(Array(signature))
            }
        }
        return header
    }

    /// What receivers verify with: `whpk_` and base64 of the public key; nil for a symmetric secret and for what is none.
    public static func publicKey(of secret: String) -> String? {
        guard case .asymmetric(let key) = key(secret) else { return nil }
        return "whpk_" + Base64.encode(Array(key.publicKey.rawRepresentation))
    }

    /// A new HMAC secret from 24 to 64 random bytes.
    public static func newSymmetricSecret(randomBytes: [UInt8]) -> String { "whsec_" + Base64.encode(randomBytes) }

    /// A new ed25519 secret from 32 random bytes.
    public static func newAsymmetricSecret(randomBytes: [UInt8]) -> String { "whsk_" + Base64.encode(randomBytes) }

    /// An ed25519 key is its seed of 32 bytes, or seed and public key together, 64 bytes (RFC 8032).
    private static func key(_ secret: String) -> Key? {
        guard secret.hasPrefix("whsk_") else {
            // A text without the prefix would be signed with as it is, and read as base64 by the receivers' libraries.
            guard secret.hasPrefix("whsec_"), let key = StandardWebhooks.signingKey(secret), WebhookSigner.keyBytes.contains(key.count)
            else { return nil }
            return .symmetric(HMACSHA256.Key(key))
        }
        guard let bytes = Base64.decode(secret.utf8.dropFirst(5)), bytes.count == 32 || bytes.count == 64,
            let key = try? Curve25519.Signing.PrivateKey(rawRepresentation: bytes.prefix(32))
        else { return nil }
        if bytes.count == 64, Array(key.publicKey.rawRepresentation) != Array(bytes.suffix(32)) { return nil }
        return .asymmetric(key)
    }
}
