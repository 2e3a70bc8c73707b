import SluiceCore

/// One verification: all that a recipe may look at.
struct SignatureAttempt: Sendable {
    var request: WebhookRequest
    var secrets: [String]
    var now: Timestamp
    var options: SchemeOptions
}

/// How one scheme verifies. Pure: certificates and key sets are handed in.
protocol SignatureRecipe: Sendable {
    func check(_ attempt: SignatureAttempt) throws(RefusalError)
    /// What should have been signed, for people who look for a fault; nil where nothing is signed or it cannot be made.
    func content(_ attempt: SignatureAttempt) -> SignedContent?
    /// The signed moment, if there is one that can be read.
    func moment(_ attempt: SignatureAttempt) -> Timestamp?
}

extension SignatureRecipe {
    func moment(_ attempt: SignatureAttempt) -> Timestamp? { nil }
}

/// What a scheme signs of one request. Never holds the secret.
public struct SignedContent: Sendable, Equatable {
    public struct Part: Sendable, Equatable {
        public var name: String
        /// Nil for the secret.
        public var bytes: [UInt8]?
    }
    /// For example `{timestamp}.{body}`.
    public var template: String
    public var parts: [Part]

    /// All parts joined; nil if the secret is one of them.
    public var bytes: [UInt8]? {
        var all: [UInt8] = []
        for part in parts {
            guard let bytes = part.bytes else { return nil }
            all += bytes
        }
        return all
    }
}

/// The URL that schemes sign.
enum SignedURL {
    static func required(_ attempt: SignatureAttempt) throws(RefusalError) -> String {
        guard let url = attempt.options.url(of: attempt.request), !url.isEmpty else {
            throw RefusalError(
                .noURL, "this scheme signs the URL that the provider calls, and that is not known: start the server with --public-url")
        }
        return url
    }

    /// The URL, and where they differ the URL with what HubSpot writes plainly: `%3A %2F %3F %40 %21 %24 %27 %28 %29 %2A
    /// %2C %3B` decoded (HubSpot, "Validating requests", v3).
    static func candidates(_ url: String) -> [String?] {
        guard url.utf8.contains(UInt8(ascii: "%")) else { return [url] }
        let plain: [UInt8] = Array(":/?@!$'()*,;".utf8)
        let bytes = Array(url.utf8)
        var decoded: [UInt8] = []
        var index = 0
        while index < bytes.count {
            if bytes[index] == UInt8(ascii: "%"), index + 2 < bytes.count,
                let byte = Hex.bytes(bytes[index + 1...index + 2], allowsCapitals: true)?.first, plain.contains(byte)
            {
                decoded.append(byte)
                index += 3
            } else {
                decoded.append(bytes[index])
                index += 1
            }
        }
        return decoded == bytes ? [url] : [url, String(decoding: decoded, as: UTF8.self)]
    }
}
