import SluiceCore

/// As much of PEM (RFC 7468) as keys need.
enum PEM {
    /// Label and bytes of the first block; nil if there is none that is whole.
    static func first(_ text: String) -> (label: String, bytes: [UInt8])? {
        guard let begin = text.firstRange(of: "-----BEGIN ") else { return nil }
        let afterBegin = text[begin.upperBound...]
        guard let dashes = afterBegin.firstRange(of: "-----") else { return nil }
        let label = String(afterBegin[..<dashes.lowerBound])
        let body = afterBegin[dashes.upperBound...]
        guard label.utf8.count <= 40, let end = body.firstRange(of: "-----END \(label)-----") else { return nil }
        let digits = body[..<end.lowerBound].utf8.filter { $0 != 0x0A && $0 != 0x0D && $0 != 0x20 && $0 != 0x09 }
        guard let bytes = Base64.decode(digits), !bytes.isEmpty else { return nil }
        return (label, bytes)
    }
}

/// As much of DER (ITU-T X.690) as it takes to find a key in a certificate (RFC 5280, 4.1). Every length is checked.
enum DER {
    static let rsaEncryption: [UInt8] = [0x2A, 0x86, 0x48, 0x86, 0xF7, 0x0D, 0x01, 0x01, 0x01]
    static let ecPublicKey: [UInt8] = [0x2A, 0x86, 0x48, 0xCE, 0x3D, 0x02, 0x01]
    static let ed25519: [UInt8] = [0x2B, 0x65, 0x70]

    private static let sequence: UInt8 = 0x30
    private static let objectIdentifier: UInt8 = 0x06
    private static let bitString: UInt8 = 0x03
    private static let explicitVersion: UInt8 = 0xA0

    /// One value: what it is, its content, and all of its bytes.
    private struct Value {
        var tag: UInt8
        var content: ArraySlice<UInt8>
        var whole: ArraySlice<UInt8>
    }

    /// The SubjectPublicKeyInfo of a certificate.
    static func publicKeyInfo(certificate: [UInt8]) -> [UInt8]? {
        var all = certificate[...]
        guard let outer = next(&all), outer.tag == sequence else { return nil }
        var content = outer.content
        guard let body = next(&content), body.tag == sequence else { return nil }
        var fields = body.content
        guard var field = next(&fields) else { return nil }
        if field.tag == explicitVersion {
            guard let serial = next(&fields) else { return nil }
            field = serial
        }
        // After the serial number: algorithm, issuer, validity, subject, then the key.
        for _ in 0..<4 { guard next(&fields) != nil else { return nil } }
        guard let info = next(&fields), info.tag == sequence else { return nil }
        return Array(info.whole)
    }

    /// The algorithm's identifier and the key's bits.
    static func keyAndAlgorithm(publicKeyInfo: [UInt8]) -> (algorithm: [UInt8], bits: [UInt8])? {
        var all = publicKeyInfo[...]
        guard let outer = next(&all), outer.tag == sequence, all.isEmpty else { return nil }
        var content = outer.content
        guard let algorithm = next(&content), algorithm.tag == sequence, let bits = next(&content), bits.tag == bitString,
            bits.content.first == 0
        else { return nil }
        var parts = algorithm.content
        guard let identifier = next(&parts), identifier.tag == objectIdentifier else { return nil }
        return (Array(identifier.content), Array(bits.content.dropFirst()))
    }

    private static func next(_ bytes: inout ArraySlice<UInt8>) -> Value? {
        let (start, whole) = (bytes.startIndex, bytes)
        guard let tag = bytes.popFirst(), tag & 0x1F != 0x1F, let first = bytes.popFirst() else { return nil }
        var length = Int(first)
        if first & 0x80 != 0 {
            let digits = Int(first & 0x7F)
            guard (1...3).contains(digits), bytes.count >= digits else { return nil }
            length = 0
            for _ in 0..<digits { length = length << 8 | Int(bytes.removeFirst()) }
        }
        guard bytes.count >= length else { return nil }
        let end = bytes.startIndex + length
        let value = Value(tag: tag, content: bytes[bytes.startIndex..<end], whole: whole[start..<end])
        bytes = bytes[end...]
        return value
    }
}
