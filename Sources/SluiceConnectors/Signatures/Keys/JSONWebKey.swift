import Crypto
import CryptoExtras
import FoundationEssentials
import SluiceCore

/// What may verify a JSON Web Token: each key with the algorithms that it may be used for, and no others, so that a token
/// cannot choose to have a public key taken for a secret (RFC 8725, 3.1).
struct TokenKey: Sendable {
    enum Material: Sendable {
        case secret([UInt8])
        case publicKey(PublicKey)
    }
    var material: Material
    /// The key's name in a set; nil fits every token.
    var id: String?
    /// The one algorithm that its set declares for it.
    var algorithm: String?

    private static let keysMax = 32

    /// A set of keys or one key in JSON (RFC 7517), a certificate or public key in PEM, or the text of a secret.
    static func read(_ secret: String, allowsSecrets: Bool) -> [TokenKey] {
        guard let first = secret.utf8.first(where: { $0 != 0x20 && $0 != 0x0A && $0 != 0x0D && $0 != 0x09 }) else { return [] }
        if first == UInt8(ascii: "{") {
            guard secret.utf8.count <= 256 * 1024, let root = (try? JSONDocument(Array(secret.utf8)))?.root else { return [] }
            let members = root["keys"]?.elements ?? [root["key"] ?? root]
            return members.prefix(keysMax).compactMap { key(in: $0, allowsSecrets: allowsSecrets) }
        }
        if secret.contains("-----BEGIN") {
            return PublicKey(secret).map { [TokenKey(material: .publicKey($0), id: nil, algorithm: nil)] } ?? []
        }
        return allowsSecrets ? [TokenKey(material: .secret(Array(secret.utf8)), id: nil, algorithm: nil)] : []
    }

    private static func key(in json: JSONView, allowsSecrets: Bool) -> TokenKey? {
        guard let material = material(json), json["use"]?.string ?? "sig" == "sig" else { return nil }
        if case .secret = material, !allowsSecrets { return nil }
        return TokenKey(material: material, id: json["kid"]?.string, algorithm: json["alg"]?.string)
    }

    private static func material(_ json: JSONView) -> Material? {
        func bytes(_ name: String) -> [UInt8]? { json[name]?.string.flatMap { Base64.decodeURL(Array($0.utf8)) } }
        switch json["kty"]?.string {
        case "RSA":
            guard let n = bytes("n"), let e = bytes("e"), (256...1024).contains(n.count), (1...8).contains(e.count),
                let key = try? _RSA.Signing.PublicKey(n: n, e: e)
            else { return nil }
            return .publicKey(.rsa(key))
        case "EC":
            guard json["crv"]?.string == "P-256", let x = bytes("x"), let y = bytes("y"), x.count == 32, y.count == 32,
                let key = try? P256.Signing.PublicKey(rawRepresentation: x + y)
            else { return nil }
            return .publicKey(.p256(key))
        case "OKP":
            guard json["crv"]?.string == "Ed25519", let x = bytes("x") else { return nil }
            return PublicKey(ed25519: x).map { .publicKey($0) }
        case "oct":
            guard let k = bytes("k"), !k.isEmpty else { return nil }
            return .secret(k)
        default: return nil
        }
    }

    /// Whether this key made the signature of a token with this algorithm.
    func verifies(_ signature: [UInt8], algorithm name: String, signed: [UInt8]) -> Bool {
        if let algorithm, algorithm != name { return false }
        switch material {
        case .secret(let secret):
            let algorithm: SignatureAlgorithm
            switch name {
            case "HS256": algorithm = .hmacSHA256
            case "HS384": algorithm = .hmacSHA384
            case "HS512": algorithm = .hmacSHA512
            default: return false
            }
            return ConstantTime.equal(signature, MessageCode.code(algorithm, key: secret, [signed]))
        case .publicKey(.rsa(let key)):
            switch name {
            case "RS256": return PublicKey.verify(key, signature, MessageCode.hash(SHA256.self, [signed]))
            case "RS384": return PublicKey.verify(key, signature, MessageCode.hash(SHA384.self, [signed]))
            case "RS512": return PublicKey.verify(key, signature, MessageCode.hash(SHA512.self, [signed]))
            default: return false
            }
        case .publicKey(.p256(let key)):
            guard name == "ES256", signature.count == 64, let parsed = try? P256.Signing.ECDSASignature(rawRepresentation: signature)
            else { return false }
            return key.isValidSignature(parsed, for: MessageCode.hash(SHA256.self, [signed]))
        case .publicKey(.ed25519(let key)):
            return name == "EdDSA" && signature.count == 64 && key.isValidSignature(signature, for: signed)
        }
    }
}
