import Crypto
import SluiceCore

/// HMAC and hashes over content that stands in pieces.
enum MessageCode {
    /// Empty for what needs another kind of key.
    static func code(_ algorithm: SignatureAlgorithm, key: [UInt8], _ pieces: [[UInt8]]) -> [UInt8] {
        switch algorithm {
        case .hmacSHA1: hmac(Insecure.SHA1.self, key, pieces)
        case .hmacSHA256: HMACSHA256.bytes(HMACSHA256.code(key: key, pieces))
        case .hmacSHA384: hmac(SHA384.self, key, pieces)
        case .hmacSHA512: hmac(SHA512.self, key, pieces)
        case .sha256: Array(hash(SHA256.self, pieces))
        case .ed25519, .ecdsaP256, .rsaSHA256, .secret: []
        }
    }

    static func hash<Function: HashFunction>(_ function: Function.Type, _ pieces: [[UInt8]]) -> Function.Digest {
        var hash = Function()
        for piece in pieces { piece.withUnsafeBytes { hash.update(bufferPointer: $0) } }
        return hash.finalize()
    }

    private static func hmac<Function: HashFunction>(_ function: Function.Type, _ key: [UInt8], _ pieces: [[UInt8]]) -> [UInt8] {
        var code = HMAC<Function>(key: SymmetricKey(data: key))
        for piece in pieces { code.update(data: piece) }
        return Array(code.finalize())
    }
}

enum ConstantTime {
    /// Whether two codes are equal, in a time that depends on their lengths only. Empty ones never are.
    static func equal(_ left: [UInt8], _ right: [UInt8]) -> Bool {
        guard left.count == right.count, !left.isEmpty else { return false }
        var difference: UInt8 = 0
        for index in left.indices { difference |= left[index] ^ right[index] }
        return difference == 0
    }
}
