import SluiceCore

/// The place behind a job in the order of commits. Opaque outside: base64url of a version byte, numbers of seven bits a
/// byte (LEB128) and a check byte.
struct JobToken: Equatable {
    var namespace: NamespaceID
    var sequence: Int64
    var trigger: TriggerID
    var position: JobPosition
    /// The last removal of jobs that its reader knew of: `removal.id`.
    var removals: Int64

    /// Before the first job.
    static func start(_ namespace: NamespaceID, removals: Int64) -> JobToken { place(namespace, 0, removals: removals) }

    /// Behind a job, whosever it is.
    static func place(_ namespace: NamespaceID, _ sequence: Int64, removals: Int64) -> JobToken {
        JobToken(namespace: namespace, sequence: sequence, trigger: TriggerID(0), position: .zero, removals: removals)
    }

    /// Tokens of version 1 had no `removals`.
    private static let version: UInt8 = 2
    private static let bytesMax = 64
    /// No counter comes near it, and what is counted on from it does not overflow.
    private static let numberMax = Int64.max / 4

    init(namespace: NamespaceID, sequence: Int64, trigger: TriggerID, position: JobPosition, removals: Int64) {
        self.removals = removals
        self.namespace = namespace
        self.sequence = sequence
        self.trigger = trigger
        self.position = position
    }

    /// Throws `.invalid` for anything that is no token of this namespace.
    init(_ text: String, namespace: NamespaceID) throws(SluiceError) {
        let invalid = SluiceError(.invalid, "this is no `after` token: use one that a page of jobs gave, or leave it out")
        guard text.utf8.count <= JobToken.bytesMax, let bytes = Base64URL.decode(text), bytes.count >= 6,
            let version = bytes.first, (1...JobToken.version).contains(version), let check = bytes.last,
            JobToken.check(bytes.dropLast()) == check
        else { throw invalid }
        var rest = bytes.dropFirst().dropLast()
        guard let values = JobToken.numbers(&rest), values.count == Int(version) + 3, values[0] == namespace.rawValue,
            values.allSatisfy({ (0...JobToken.numberMax).contains($0) })
        else { throw invalid }
        self.init(
            namespace: namespace, sequence: values[1], trigger: TriggerID(values[2]), position: JobPosition(values[3]),
            removals: version == 1 ? 0 : values[4])
    }

    var text: String {
        var bytes = [JobToken.version]
        for value in [namespace.rawValue, sequence, trigger.rawValue, position.rawValue, removals] {
            var rest = UInt64(bitPattern: value)
            while rest >= 0x80 {
                bytes.append(UInt8(rest & 0x7F) | 0x80)
                rest >>= 7
            }
            bytes.append(UInt8(rest))
        }
        bytes.append(JobToken.check(bytes[...]))
        return Base64URL.encode(bytes)
    }

    private static func numbers(_ bytes: inout ArraySlice<UInt8>) -> [Int64]? {
        var values: [Int64] = []
        var value: UInt64 = 0
        var shift: UInt64 = 0
        for byte in bytes {
            guard shift < 63 else { return nil }
            value |= UInt64(byte & 0x7F) << shift
            shift += 7
            if byte & 0x80 == 0 {
                values.append(Int64(value))
                (value, shift) = (0, 0)
            }
        }
        return shift == 0 ? values : nil
    }

    private static func check(_ bytes: ArraySlice<UInt8>) -> UInt8 {
        let hash = bytes.reduce(UInt32(2_166_136_261)) { ($0 ^ UInt32($1)) &* 16_777_619 }
        return UInt8(truncatingIfNeeded: hash ^ hash >> 8 ^ hash >> 16 ^ hash >> 24)
    }
}

/// RFC 4648, section 5, without padding.
enum Base64URL {
    private static let alphabet = Array("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_".utf8)

    static func encode(_ bytes: [UInt8]) -> String {
        var output: [UInt8] = []
        output.reserveCapacity(bytes.count * 4 / 3 + 2)
        var bits: UInt32 = 0
        var count: UInt32 = 0
        for byte in bytes {
            bits = bits << 8 | UInt32(byte)
            count += 8
            while count >= 6 {
                count -= 6
                output.append(alphabet[Int(bits >> count & 63)])
            }
        }
        if count > 0 { output.append(alphabet[Int(bits << (6 - count) & 63)]) }
        return String(decoding: output, as: UTF8.self)
    }

    /// Nil for what `encode` does not write.
    static func decode(_ text: String) -> [UInt8]? {
        var output: [UInt8] = []
        var bits: UInt32 = 0
        var count: UInt32 = 0
        for character in text.utf8 {
            guard let value = value(character) else { return nil }
            bits = bits << 6 | value
            count += 6
            if count >= 8 {
                count -= 8
                output.append(UInt8(truncatingIfNeeded: bits >> count))
            }
        }
        return encode(output) == text ? output : nil
    }

    private static func value(_ character: UInt8) -> UInt32? {
        switch character {
        case UInt8(ascii: "A")...UInt8(ascii: "Z"): UInt32(character - 65)
        case UInt8(ascii: "a")...UInt8(ascii: "z"): UInt32(character - 71)
        case UInt8(ascii: "0")...UInt8(ascii: "9"): UInt32(character + 4)
        case UInt8(ascii: "-"): 62
        case UInt8(ascii: "_"): 63
        default: nil
        }
    }
}
