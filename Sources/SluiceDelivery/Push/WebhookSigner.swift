import Crypto
import FoundationEssentials
import SluiceCore

/// Signs what is pushed: `v1,` + base64 of HMAC-SHA256 over `id.timestamp.body`, once for each secret.
/// Source: the Standard Webhooks specification, "Signature scheme" (symmetric).
///
/// Stands alone so that a signer shared with the verifying side can take its place.
struct WebhookSigner: Sendable {
    private let keys: [SymmetricKey]

    /// Throws `.invalid` where there is no secret, or one is not base64. The message holds nothing of it.
    init(secrets: [String]) throws(SluiceError) {
        guard !secrets.isEmpty else {
            throw SluiceError(.invalid, "A push destination needs a secret: whsec_ and base64 of 24 to 64 random bytes.")
        }
        var keys: [SymmetricKey] = []
        for secret in secrets {
            let text = secret.hasPrefix("whsec_") ? String(secret.dropFirst(6)) : secret
            guard let key = Data(base64Encoded: text), !key.isEmpty else {
                throw SluiceError(.invalid, "The secret of a push destination is not whsec_ and base64; create a new one.")
            }
            keys.append(SymmetricKey(data: key))
        }
        self.keys = keys
    }

    /// The value of `webhook-signature`.
    func signature(id: String, timestampSeconds: Int64, body: [UInt8]) -> String {
        let head = Array("\(id).\(timestampSeconds).".utf8)
        return keys.map { key in
            var code = HMAC<SHA256>(key: key)
            code.update(data: head)
            code.update(data: body)
            return "v1," + Data(code.finalize()).base64EncodedString()
        }.joined(separator: " ")
    }
}
