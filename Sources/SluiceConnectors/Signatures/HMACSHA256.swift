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
        update(&inner, block ^ inside)
        if first.withContiguousStorageIfAvailable({ inner.update(bufferPointer: UnsafeRawBufferPointer($0)) }) == nil {
            Array(first).withUnsafeBytes { inner.update(bufferPointer: $0) }
        }
        body.withUnsafeBytes { inner.update(bufferPointer: $0) }
        var outer = SHA256()
        update(&outer, block ^ outside)
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
            update(&inner, block ^ HMACSHA256.inside)
            update(&outer, block ^ HMACSHA256.outside)
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
        update(&inner, block ^ inside)
        for piece in pieces { piece.withUnsafeBytes { inner.update(bufferPointer: $0) } }
        var outer = SHA256()
        update(&outer, block ^ outside)
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

    /// A block of the hash, by words: bytes one by one took as long as hashing them.
    private typealias Block = SIMD8<UInt64>
    private static let inside = Block(repeating: 0x3636_3636_3636_3636)
    private static let outside = Block(repeating: 0x5C5C_5C5C_5C5C_5C5C)

    /// A longer key is hashed (RFC 2104, 2).
    private static func block(of key: [UInt8]) -> Block {
        var block = Block(repeating: 0)
        withUnsafeMutableBytes(of: &block) { bytes in
            if key.count <= bytes.count {
                bytes.copyBytes(from: key)
            } else {
                withUnsafeBytes(of: sha256(key)) { bytes.copyMemory(from: $0) }
            }
        }
        return block
    }

    private static func update(_ hash: inout SHA256, _ block: Block) {
        withUnsafeBytes(of: block) { hash.update(bufferPointer: $0) }
    }

    private static func code(_ digest: SHA256Digest) -> Code {
        digest.withUnsafeBytes { $0.loadUnaligned(as: Code.self) }
    }
}
