import Crypto
import SluiceCore

/// A job's public id: derived from the trigger's uid and the dedup key, so that pruning, restoring, backfilling and reading
/// again all give the same id.
///
/// `job_` + uid + `_` + the first 20 characters of the lower-case base32 (RFC 4648, no padding) of SHA-256(uid ‖ 0x00 ‖ key):
/// 100 bits, so that a trigger with 2^40 jobs has two alike with a chance of about one in a million.
public enum JobIdentity {
    static let prefix = "job_"
    static let hashLength = 20
    private static let alphabet = Array("abcdefghijklmnopqrstuvwxyz234567".utf8)

    /// The id of the job that `dedupKey` gives in the trigger of this uid.
    public static func id(uid: String, dedupKey: [UInt8]) -> String {
        var hasher = SHA256()
        hasher.update(data: Array(uid.utf8))
        hasher.update(data: [UInt8(0)])
        hasher.update(data: dedupKey)
        return prefix + uid + "_" + base32(Array(hasher.finalize()), length: hashLength)
    }

    /// The parts of an id, for looking it up; nil for what is none. The uid may hold underscores.
    public static func parse(_ id: String) -> (uid: String, hash: String)? {
        guard id.hasPrefix(prefix), let last = id.lastIndex(of: "_") else { return nil }
        let rest = id.dropFirst(prefix.count)
        let hash = id[id.index(after: last)...]
        guard rest.startIndex < last, hash.utf8.count == hashLength, hash.utf8.allSatisfy({ alphabet.contains($0) }) else { return nil }
        return (String(rest[..<last]), String(hash))
    }

    private static func base32(_ bytes: [UInt8], length: Int) -> String {
        var text: [UInt8] = []
        var buffer: UInt32 = 0
        var bits = 0
        for byte in bytes {
            buffer = buffer << 8 | UInt32(byte)
            bits += 8
            while bits >= 5 {
                bits -= 5
                text.append(alphabet[Int(buffer >> UInt32(bits) & 31)])
            }
            if text.count >= length { break }
        }
        return String(decoding: text.prefix(length), as: UTF8.self)
    }
}
