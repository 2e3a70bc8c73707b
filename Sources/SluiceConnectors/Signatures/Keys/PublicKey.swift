import Crypto
import CryptoExtras
import FoundationEssentials
import SluiceCore

/// A provider's public key.
enum PublicKey: Sendable {
    case rsa(_RSA.Signing.PublicKey)
    case p256(P256.Signing.PublicKey)
    case ed25519(Curve25519.Signing.PublicKey)

    /// Texts longer than this are not keys.
    private static let textBytesMax = 64 * 1024

    /// A certificate or public key in PEM, base64 of a SubjectPublicKeyInfo, or an Ed25519 key of 32 bytes in hex or
    /// base64, `whpk_` before it or not. A certificate's dates and issuer are not judged: who gave it is trusted.
    init?(_ text: String) {
        guard text.utf8.count <= Self.textBytesMax else { return nil }
        if let (label, der) = PEM.first(text) {
            guard let info = label == "CERTIFICATE" ? DER.publicKeyInfo(certificate: der) : label == "PUBLIC KEY" ? der : nil
            else { return nil }
            self.init(publicKeyInfo: info)
            return
        }
        let bare = text.hasPrefix("whpk_") ? text.utf8.dropFirst(5) : text.utf8[...]
        if bare.count == 64, let bytes = Hex.bytes(bare, allowsCapitals: true) {
            self.init(ed25519: bytes)
            return
        }
        guard let bytes = Base64.decode(bare) else { return nil }
        if bytes.count == 32 { self.init(ed25519: bytes) } else { self.init(publicKeyInfo: bytes) }
    }

    init?(ed25519 bytes: [UInt8]) {
        guard bytes.count == 32, let key = try? Curve25519.Signing.PublicKey(rawRepresentation: bytes) else { return nil }
        self = .ed25519(key)
    }

    init?(publicKeyInfo der: [UInt8]) {
        guard let (algorithm, bits) = DER.keyAndAlgorithm(publicKeyInfo: der) else { return nil }
        switch algorithm {
        case DER.rsaEncryption:
            guard let key = try? _RSA.Signing.PublicKey(derRepresentation: der) else { return nil }
            self = .rsa(key)
        case DER.ecPublicKey:
            guard let key = try? P256.Signing.PublicKey(derRepresentation: der) else { return nil }
            self = .p256(key)
        case DER.ed25519: self.init(ed25519: bits)
        default: return nil
        }
    }

    /// Whether a signature of this kind is one of the joined pieces. False where the key is of another kind.
    func verifies(_ signature: [UInt8], _ algorithm: SignatureAlgorithm, _ pieces: [[UInt8]]) -> Bool {
        switch (self, algorithm) {
        case (.ed25519(let key), .ed25519): key.isValidSignature(signature, for: Array(pieces.joined()))
        case (.p256(let key), .ecdsaP256):
            if let parsed = try? P256.Signing.ECDSASignature(derRepresentation: signature) {
                key.isValidSignature(parsed, for: MessageCode.hash(SHA256.self, pieces))
            } else {
                false
            }
        case (.rsa(let key), .rsaSHA256): Self.verify(key, signature, MessageCode.hash(SHA256.self, pieces))
        default: false
        }
    }

    /// RSASSA-PKCS1-v1_5 over SHA-1: what the first version of Amazon SNS signs with, and nothing else.
    func verifiesSHA1(_ signature: [UInt8], _ pieces: [[UInt8]]) -> Bool {
        guard case .rsa(let key) = self else { return false }
        return Self.verify(key, signature, MessageCode.hash(Insecure.SHA1.self, pieces))
    }

    static func verify(_ key: _RSA.Signing.PublicKey, _ signature: [UInt8], _ digest: some Digest) -> Bool {
        key.isValidSignature(_RSA.Signing.RSASignature(rawRepresentation: signature), for: digest, padding: .insecurePKCS1v1_5)
    }
}
