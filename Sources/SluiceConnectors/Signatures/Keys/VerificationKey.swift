import SluiceCore

/// What a connection's secret is for a scheme.
enum VerificationKey: Sendable {
    case secret([UInt8])
    case publicKey(PublicKey)
}

/// Reads the secrets of a connection in the form that a scheme takes.
enum SignatureKeys {
    /// What holds as a key; throws if nothing does. An empty key would let anybody sign.
    static func read(_ secrets: [String], _ description: SignatureDescription) throws(RefusalError) -> [VerificationKey] {
        var keys: [VerificationKey] = []
        for secret in secrets { keys += read(secret, description.key) }
        if keys.isEmpty { throw RefusalError(.noSecret, "the connection has no usable webhook secret for this scheme: set one") }
        return keys
    }

    private static func read(_ secret: String, _ form: SignatureKeyForm) -> [VerificationKey] {
        switch form {
        case .text: return secret.isEmpty ? [] : [.secret(Array(secret.utf8))]
        case .standardWebhooks: return StandardWebhooks.verificationKeys(secret).map { .secret($0) }
        case .hex:
            guard let bytes = Hex.bytes(Array(secret.utf8), allowsCapitals: true), !bytes.isEmpty else { return [] }
            return [.secret(bytes)]
        case .userPassword:
            return secret.utf8.contains(UInt8(ascii: ":")) && secret != ":" ? [.secret(Array(secret.utf8))] : []
        case .publicKey: return PublicKey(secret).map { [.publicKey($0)] } ?? []
        }
    }
}

/// Certificates and key sets that were fetched before. Verification is synchronous and pure: it looks here, and never fetches.
///
/// A scheme asks for URLs of its own allow-listed hosts only (`Refusal.keyURL` names the one that is missing). Who fills
/// it must not follow redirects to other hosts, and must bound size and age of what it keeps.
public protocol KeySource: Sendable {
    /// The bytes at an https URL, for example a certificate in PEM; nil if they were not fetched yet.
    func document(at url: String) -> [UInt8]?
}

/// Which URLs a key may come from.
enum KeyURL {
    /// https, no user, no port, and a host that is a suffix given here or ends in `.` and one of them; only the
    /// characters of plain URLs.
    static func isAllowed(_ url: String, hostSuffixes: [String]) -> Bool {
        guard let host = host(of: url) else { return false }
        return hostSuffixes.contains { host == $0 || host.hasSuffix("." + $0) }
    }

    /// The host in lower case; nil for anything but a plain https URL with a path.
    static func host(of url: String) -> String? {
        guard url.utf8.count <= 512, url.utf8.starts(with: "https://".utf8) else { return nil }
        let rest = url.utf8.dropFirst(8)
        guard let slash = rest.firstIndex(of: UInt8(ascii: "/")) else { return nil }
        let host = rest[..<slash]
        let isPlain = rest[slash...].allSatisfy { $0 > 0x20 && $0 < 0x7F && $0 != UInt8(ascii: "\\") }
        let isHost = host.allSatisfy { byte in
            let lower = ASCII.lowercased(byte)
            return lower &- 0x61 < 26 || byte &- 0x30 < 10 || byte == UInt8(ascii: "-") || byte == UInt8(ascii: ".")
        }
        guard isPlain, isHost, !host.isEmpty else { return nil }
        return String(decoding: host.map(ASCII.lowercased), as: UTF8.self)
    }
}
