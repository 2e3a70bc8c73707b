import Crypto
import SluiceCore

/// Seals secrets at rest with AES-256-GCM (NIST SP 800-38D).
///
/// A sealed secret is `0x01 | key id (8) | nonce (12) | ciphertext | tag (16)`. The key id says which master key opens it.
/// The owner, for example `connection default/billing`, is authenticated with it: a secret that is moved to another owner
/// does not open.
public struct SecretSealer: Sendable {
    private static let version: UInt8 = 1
    private static let keyIDCount = 8
    private static let overhead = 1 + keyIDCount + 12 + 16

    private let key: SymmetricKey
    /// The first bytes of a hash of the key: names it and tells nothing about it.
    public let keyID: [UInt8]
    /// Where the key came from, for messages: `SLUICE_MASTER_KEY`, or a file.
    public let source: String

    /// Throws `.wrongKey` unless `key` has 32 bytes.
    public init(key: [UInt8], source: String) throws(SluiceError) {
        guard key.count == 32 else {
            throw SluiceError(.wrongKey, "the master key from \(source) must be 32 bytes, written as 64 hexadecimal digits")
        }
        self.key = SymmetricKey(data: key)
        self.source = source
        keyID = Array(SHA256.hash(data: Array("sluice master key id\n".utf8) + key).prefix(SecretSealer.keyIDCount))
    }

    /// Seals bytes for an owner. Each call gives other bytes.
    public func seal(_ secret: [UInt8], owner: String) throws(SluiceError) -> [UInt8] {
        do {
            let box = try AES.GCM.seal(secret, using: key, authenticating: Array(owner.utf8))
            return [SecretSealer.version] + keyID + Array(box.nonce) + Array(box.ciphertext) + Array(box.tag)
        } catch {
            throw SluiceError(.internalError, "a secret could not be sealed").with("owner", owner)
        }
    }

    /// Opens what was sealed for this owner. Throws `.wrongKey` if another master key is needed, `.storage` if the bytes
    /// were changed or belong to another owner.
    public func open(_ sealed: [UInt8], owner: String) throws(SluiceError) -> [UInt8] {
        guard let needed = SecretSealer.keyID(of: sealed) else {
            throw SluiceError(.storage, "a sealed secret is damaged: give it again with `sluice apply`").with("owner", owner)
        }
        guard needed == keyID else { throw wrongKey(needed: needed).with("owner", owner) }
        let nonceStart = 1 + SecretSealer.keyIDCount
        do {
            let box = try AES.GCM.SealedBox(
                nonce: AES.GCM.Nonce(data: sealed[nonceStart..<nonceStart + 12]),
                ciphertext: sealed[(nonceStart + 12)..<(sealed.count - 16)],
                tag: sealed.suffix(16))
            return Array(try AES.GCM.open(box, using: key, authenticating: Array(owner.utf8)))
        } catch {
            throw SluiceError(
                .storage, "a sealed secret was changed or belongs to something else: give it again with `sluice apply`"
            ).with("owner", owner)
        }
    }

    /// Which key sealed these bytes; nil if they are none of ours.
    public static func keyID(of sealed: [UInt8]) -> [UInt8]? {
        guard sealed.count >= overhead, sealed[0] == version else { return nil }
        return Array(sealed[1..<1 + keyIDCount])
    }

    func wrongKey(needed: [UInt8]) -> SluiceError {
        SluiceError(
            .wrongKey,
            "the secrets in this data directory were sealed with master key \(Hex.text(needed)), and \(source) holds key \(Hex.text(keyID)): "
                + "put the former key back into \(source)")
    }
}
