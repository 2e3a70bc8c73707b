import Crypto
import CryptoExtras
import SluiceCore

/// A signed statement of who asks (RFC 7519, 7523), made anew for each token request.
public struct JWTAssertion: Sendable {
    /// RFC 7518, 3.1.
    public enum Algorithm: String, Sendable, CaseIterable { case rs256 = "RS256", es256 = "ES256", hs256 = "HS256" }

    public enum ClaimValue: Sendable {
        case text(Template)
        /// Anything else, as JSON.
        case json([UInt8])
    }

    public var algorithm: Algorithm
    /// A PEM of the private key (PKCS #8, PKCS #1 or SEC 1), or the shared secret of HS256. Line breaks may be written `\n`.
    public var key: Template
    /// `kid` in the header.
    public var keyID: Template?
    /// `iss`, `sub`, `aud`, `scope` and others. `iat`, `exp` and `jti` are added.
    public var claims: [(name: String, value: ClaimValue)]
    /// From `iat` to `exp`.
    public var lifetime: Span
    /// `iat` lies this far in the past, for providers whose clocks are slow.
    public var backdated = Span.seconds(30)

    public init(algorithm: Algorithm, key: Template, claims: [(name: String, value: ClaimValue)], lifetime: Span = .minutes(5)) {
        self.algorithm = algorithm
        self.key = key
        self.claims = claims
        self.lifetime = lifetime
    }

    /// The assertion at a time. `nonce`: what no other one has (`jti`). Throws a permanent failure that names what is wrong
    /// with the key or which field is missing.
    func signed(values: JSONDocument, at now: Timestamp, nonce: String) throws(PollFailure) -> (text: String, expiresAt: Timestamp) {
        let issued = now - backdated
        let expires = issued + lifetime
        var header = JSONWriter()
        let keyID = try self.keyID?.optionalText(connection: values, for: "the key's id")
        header.object { header in
            header.member("alg", algorithm.rawValue)
            header.member("typ", "JWT")
            if let keyID { header.member("kid", keyID) }
        }
        let body = try payload(values, issued, expires, nonce)
        let content = JWTAssertion.base64URL(header.bytes) + "." + JWTAssertion.base64URL(body)
        let key = JWTAssertion.unfolded(try self.key.text(connection: values, for: "the signing key"))
        return (content + "." + JWTAssertion.base64URL(try sign(Array(content.utf8), key)), expires)
    }

    private func payload(
        _ values: JSONDocument, _ issued: Timestamp, _ expires: Timestamp, _ nonce: String
    ) throws(PollFailure) -> [UInt8] {
        var members: [(String, [UInt8])] = []
        for claim in claims {
            switch claim.value {
            case .json(let json): members.append((claim.name, json))
            case .text(let template):
                guard let text = try template.optionalText(connection: values, for: "the claim \(claim.name)") else { continue }
                var literal: [UInt8] = []
                JSONWriter.append(text, to: &literal)
                members.append((claim.name, literal))
            }
        }
        for (name, value) in [("iat", issued.seconds), ("exp", expires.seconds)] where !members.contains(where: { $0.0 == name }) {
            members.append((name, Array(String(value).utf8)))
        }
        var writer = JSONWriter()
        writer.object { writer in
            for (name, json) in members {
                writer.key(name)
                writer.raw(json)
            }
            if !members.contains(where: { $0.0 == "jti" }) { writer.member("jti", nonce) }
        }
        return writer.bytes
    }

    private func sign(_ content: [UInt8], _ key: String) throws(PollFailure) -> [UInt8] {
        do {
            switch algorithm {
            case .hs256:
                return Array(HMAC<SHA256>.authenticationCode(for: content, using: SymmetricKey(data: Array(key.utf8))))
            case .es256: return Array(try P256.Signing.PrivateKey(pemRepresentation: key).signature(for: content).rawRepresentation)
            case .rs256:
                let signature = try _RSA.Signing.PrivateKey(pemRepresentation: key).signature(
                    for: content, padding: .insecurePKCS1v1_5)
                return Array(signature.rawRepresentation)
            }
        } catch {
            // What the library says may quote the key.
            throw PollFailure(
                .permanent,
                SluiceError(
                    .invalid,
                    "the signing key cannot be used for \(algorithm.rawValue): give the whole PEM of the private key, from -----BEGIN to END-----"
                ))
        }
    }

    /// A PEM from an environment variable often has its line breaks written as `\n`.
    static func unfolded(_ key: String) -> String {
        guard key.hasPrefix("-----BEGIN"), !key.contains("\n") else { return key }
        var result = ""
        var rest = Substring(key)
        while let mark = rest.firstRange(of: "\\n") {
            result += rest[..<mark.lowerBound] + "\n"
            rest = rest[mark.upperBound...]
        }
        return result + rest
    }

    /// RFC 4648, 5, without padding.
    static func base64URL(_ bytes: [UInt8]) -> String {
        var text = Base64.encode(bytes)
        while text.hasSuffix("=") { text.removeLast() }
        return String(
            decoding: text.utf8.map { $0 == UInt8(ascii: "+") ? UInt8(ascii: "-") : $0 == UInt8(ascii: "/") ? UInt8(ascii: "_") : $0 },
            as: UTF8.self)
    }
}
