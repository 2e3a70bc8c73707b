import Crypto
import SluiceCore

/// An nkey: an Ed25519 key in NATS's spelling. Base32 (RFC 4648, no padding) of a prefix, 32 bytes, and CRC-16/XMODEM.
/// Source: github.com/nats-io/nkeys, README.
struct NATSKey: Sendable, Equatable {
    /// As it was given; begins with `SU` for a user.
    let seed: String
    /// Begins with `U`.
    let publicKey: String

    private static let alphabet = Array("ABCDEFGHIJKLMNOPQRSTUVWXYZ234567".utf8)
    private static let seedPrefix: UInt8 = 18 << 3
    static let userPrefix: UInt8 = 20 << 3

    /// Throws `.invalid` without quoting the seed.
    init(seed text: String) throws(SluiceError) {
        let problem = SluiceError(
            .invalid, "the nkey is not the seed of a user: it begins with SU and has 58 characters, as `nk -gen user` prints it")
        guard let raw = NATSKey.decoded(text), raw.count == 36 else { throw problem }
        let kind = (raw[0] & 7) << 5 | raw[1] >> 3
        guard raw[0] & 0xF8 == NATSKey.seedPrefix, kind == NATSKey.userPrefix else { throw problem }
        let sum = NATSKey.checksum(raw[..<34])
        guard raw[34] == UInt8(sum & 0xFF), raw[35] == UInt8(sum >> 8) else { throw problem }
        guard let key = try? Curve25519.Signing.PrivateKey(rawRepresentation: raw[2..<34]) else { throw problem }
        seed = text
        publicKey = NATSKey.encoded([NATSKey.userPrefix] + key.publicKey.rawRepresentation)
    }

    /// A seed's spelling of 32 random bytes.
    static func seed(of bytes: [UInt8], prefix: UInt8 = userPrefix) -> String {
        encoded([seedPrefix | prefix >> 5, (prefix & 31) << 3] + bytes)
    }

    static func encoded(_ bytes: [UInt8]) -> String {
        let sum = checksum(bytes[...])
        var (text, buffer, bits): ([UInt8], UInt32, Int) = ([], 0, 0)
        for byte in bytes + [UInt8(sum & 0xFF), UInt8(sum >> 8)] {
            buffer = buffer << 8 | UInt32(byte)
            bits += 8
            while bits >= 5 {
                bits -= 5
                text.append(alphabet[Int(buffer >> UInt32(bits) & 31)])
            }
        }
        if bits > 0 { text.append(alphabet[Int(buffer << UInt32(5 - bits) & 31)]) }
        return String(decoding: text, as: UTF8.self)
    }

    private static func decoded(_ text: String) -> [UInt8]? {
        guard text.utf8.count == 58 else { return nil }
        var (bytes, buffer, bits): ([UInt8], UInt32, Int) = ([], 0, 0)
        for character in text.utf8 {
            guard let value = alphabet.firstIndex(of: character) else { return nil }
            buffer = buffer << 5 | UInt32(value)
            bits += 5
            if bits >= 8 {
                bits -= 8
                bytes.append(UInt8(buffer >> UInt32(bits) & 0xFF))
            }
        }
        return bytes
    }

    private static func checksum(_ bytes: ArraySlice<UInt8>) -> UInt16 {
        var sum: UInt16 = 0
        for byte in bytes {
            sum ^= UInt16(byte) << 8
            for _ in 0..<8 { sum = sum & 0x8000 != 0 ? sum << 1 ^ 0x1021 : sum << 1 }
        }
        return sum
    }
}

extension NATSKey {
    /// The user's JWT and seed of a `.creds` file, as `nsc` writes it. Throws `.invalid` without quoting anything of it.
    static func credentials(_ text: String) throws(SluiceError) -> (jwt: String, key: NATSKey) {
        guard let jwt = block(text, "NATS USER JWT"), let seed = block(text, "USER NKEY SEED") else {
            throw SluiceError(
                .invalid,
                "`credentials` is the text of a .creds file, for example \"${file:/etc/sluice/nats.creds}\": it has two blocks, NATS USER JWT and USER NKEY SEED"
            )
        }
        return (jwt, try NATSKey(seed: seed))
    }

    private static func block(_ text: String, _ title: String) -> String? {
        let lines = text.split(whereSeparator: \.isNewline).map { $0.filter { !$0.isWhitespace || $0 == " " } }
        guard let begin = lines.firstIndex(where: { $0.contains("BEGIN \(title)") }), begin + 1 < lines.count else { return nil }
        let value = lines[begin + 1].filter { $0 != " " }
        return value.isEmpty || value.hasPrefix("-") ? nil : value
    }
}
