import Crypto

/// HMAC with SHA-256 (RFC 2104) over several pieces, without joining them first and without a copy of the body.
///
/// Built on the hash alone: the generic HMAC of swift-crypto takes its key through several heap copies, and a webhook
/// is verified on the way to its 2xx.
enum HMACSHA256 {
    /// 32 bytes, compared as one value.
    typealias Code = SIMD32<UInt8>

    static func code(key: [UInt8], _ first: some Collection<UInt8>, _ body: [UInt8]) -> Code {
        let block = block(of: key)
        var inner = SHA256()
        update(&inner, block ^ SIMD64(repeating: 0x36))
        if first.withContiguousStorageIfAvailable({ inner.update(bufferPointer: UnsafeRawBufferPointer($0)) }) == nil {
            Array(first).withUnsafeBytes { inner.update(bufferPointer: $0) }
        }
        body.withUnsafeBytes { inner.update(bufferPointer: $0) }
        var outer = SHA256()
        update(&outer, block ^ SIMD64(repeating: 0x5C))
        inner.finalize().withUnsafeBytes { outer.update(bufferPointer: $0) }
        return code(outer.finalize())
    }

    /// A key that is hashed once, for signing many messages.
    struct Key: Sendable {
        private let inner: SHA256
        private let outer: SHA256

        init(_ key: [UInt8]) {
            let block = HMACSHA256.block(of: key)
            var (inner, outer) = (SHA256(), SHA256())
            update(&inner, block ^ SIMD64(repeating: 0x36))
            update(&outer, block ^ SIMD64(repeating: 0x5C))
            (self.inner, self.outer) = (inner, outer)
        }

        func code(_ first: [UInt8], _ body: [UInt8]) -> Code {
            var (inner, outer) = (inner, outer)
            first.withUnsafeBytes { inner.update(bufferPointer: $0) }
            body.withUnsafeBytes { inner.update(bufferPointer: $0) }
            inner.finalize().withUnsafeBytes { outer.update(bufferPointer: $0) }
            return HMACSHA256.code(outer.finalize())
        }
    }

    /// The same over any number of pieces.
    static func code(key: [UInt8], _ pieces: [[UInt8]]) -> Code {
        let block = block(of: key)
        var inner = SHA256()
        update(&inner, block ^ SIMD64(repeating: 0x36))
        for piece in pieces { piece.withUnsafeBytes { inner.update(bufferPointer: $0) } }
        var outer = SHA256()
        update(&outer, block ^ SIMD64(repeating: 0x5C))
        inner.finalize().withUnsafeBytes { outer.update(bufferPointer: $0) }
        return code(outer.finalize())
    }

    static func bytes(_ code: Code) -> [UInt8] { withUnsafeBytes(of: code) { Array($0) } }

    static func sha256(_ bytes: [UInt8]) -> Code {
        var hash = SHA256()
        bytes.withUnsafeBytes { hash.update(bufferPointer: $0) }
        return code(hash.finalize())
    }

    /// Whether two codes are equal, in a time that does not depend on where they differ.
    static func equal(_ left: Code, _ right: Code) -> Bool {
        let words = unsafeBitCast(left ^ right, to: SIMD4<UInt64>.self)
        return words[0] | words[1] | words[2] | words[3] == 0
    }

    /// Whether two secrets are equal, in a time that depends on neither's content: their hashes are compared.
    static func equalSecrets(_ left: [UInt8], _ right: [UInt8]) -> Bool { equal(sha256(left), sha256(right)) }

    /// A longer key is hashed (RFC 2104, 2).
    private static func block(of key: [UInt8]) -> SIMD64<UInt8> {
        var block = SIMD64<UInt8>(repeating: 0)
        if key.count <= 64 {
            for index in key.indices { block[index] = key[index] }
        } else {
            let digest = sha256(key)
            for index in 0..<32 { block[index] = digest[index] }
        }
        return block
    }

    private static func update(_ hash: inout SHA256, _ block: SIMD64<UInt8>) {
        withUnsafeBytes(of: block) { hash.update(bufferPointer: $0) }
    }

    private static func code(_ digest: SHA256Digest) -> Code {
        digest.withUnsafeBytes { $0.loadUnaligned(as: Code.self) }
    }
}
