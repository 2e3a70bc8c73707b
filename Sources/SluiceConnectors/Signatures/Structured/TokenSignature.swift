import Crypto
import SluiceCore

/// A JSON Web Token (RFC 7519, compact form) in a header: FusionAuth, Plaid, Google Pub/Sub, monday.com.
struct TokenSignature: SignatureRecipe {
    /// How a claim binds the body.
    enum BodyClaim: Sendable { case none, base64(String), hex(String) }

    var header: String
    /// `Bearer ` before the token: wanted, or taken away where it stands.
    var isBearer = false
    var algorithms: [String]
    var allowsSecrets = true
    var bodyClaim = BodyClaim.none
    var issuers: [String] = []
    /// Whether `aud` must be the parameter `audience` or, without one, the public URL.
    var checksAudience = false
    /// Whether the parameter `email` must be the claim `email`, verified.
    var checksEmail = false
    var needsExpiry = false
    /// How old `iat` may be; nil: not judged unless the connection sets a tolerance.
    var ageSeconds: Int64?

    /// Clocks that differ by less than this are taken for equal where a token expires.
    private static let leeway = Span.seconds(60)

    func check(_ attempt: SignatureAttempt) throws(RefusalError) {
        let keys = attempt.secrets.flatMap { TokenKey.read($0, allowsSecrets: allowsSecrets) }
        if keys.isEmpty { throw RefusalError(.noSecret, "the connection has no usable webhook secret for this scheme: set one") }
        let token = try token(attempt.request)
        guard algorithms.contains(token.algorithm) else {
            throw RefusalError(.malformedHeader, "\(header) holds a token of another algorithm than \(algorithms.joined(separator: ", "))")
        }
        let fitting = keys.filter { $0.id == nil || token.keyID == nil || $0.id == token.keyID }
        if fitting.isEmpty { throw RefusalError(.noKey, "\(header) holds a token of a key that the connection does not have") }
        guard fitting.contains(where: { $0.verifies(token.signature, algorithm: token.algorithm, signed: token.signed) }) else {
            throw RefusalError(.mismatch, "the token in \(header) is not signed with a key of this connection")
        }
        try checkTimes(token.claims, attempt)
        try checkNames(token.claims, attempt)
        try checkBody(token.claims, attempt.request)
    }

    // MARK: - The token

    private struct Token {
        var algorithm: String
        var keyID: String?
        var claims: JSONView
        /// `HEADER.CLAIMS` as it came.
        var signed: [UInt8]
        var signature: [UInt8]
    }

    private func token(_ request: WebhookRequest) throws(RefusalError) -> Token {
        var text = try SignedRequest.header(header, of: request)[...]
        let hasBearer = ASCII.equalIgnoringCase(String(text.prefix(7)), "Bearer ")
        if hasBearer { text = text.dropFirst(7) }
        let parts = text.utf8.split(separator: UInt8(ascii: "."), omittingEmptySubsequences: false)
        guard hasBearer || !isBearer, parts.count == 3, let head = Base64.decodeURL(parts[0]), let body = Base64.decodeURL(parts[1]),
            let signature = Base64.decodeURL(parts[2]), !signature.isEmpty, let header = (try? JSONDocument(head, depthMax: 8))?.root,
            let claims = (try? JSONDocument(body, depthMax: 16))?.root, claims.kind == .object, let algorithm = header["alg"]?.string,
            header["crit"] == nil
        else { throw RefusalError(.malformedHeader, "\(header) must hold \(isBearer ? "Bearer and " : "")a JSON Web Token") }
        return Token(
            algorithm: algorithm, keyID: header["kid"]?.string, claims: claims,
            signed: Array(text.utf8.prefix(parts[0].count + 1 + parts[1].count)), signature: signature)
    }

    // MARK: - The claims

    private func checkTimes(_ claims: JSONView, _ attempt: SignatureAttempt) throws(RefusalError) {
        if let expiry = try time("exp", claims) {
            let late = attempt.now - expiry
            if late > Self.leeway {
                throw RefusalError(.stale, "the token in \(header) expired \(late.milliseconds / 1000) s ago (exp)")
            }
        } else if needsExpiry {
            throw RefusalError(.malformedHeader, "the token in \(header) does not say when it expires (exp)")
        }
        if let begin = try time("nbf", claims), begin - attempt.now > Self.leeway {
            throw RefusalError(.fromTheFuture, "the token in \(header) is not valid yet (nbf): check this machine's clock")
        }
        guard let tolerance = attempt.options.tolerance ?? ageSeconds.map(Span.seconds) else { return }
        guard let issued = try time("iat", claims) else {
            throw RefusalError(.malformedHeader, "the token in \(header) does not say when it was issued (iat)")
        }
        try SignedRequest.checkAge(issued, place: "\(header) (iat)", now: attempt.now, tolerance: tolerance)
    }

    private func time(_ name: String, _ claims: JSONView) throws(RefusalError) -> Timestamp? {
        guard let value = claims[name] else { return nil }
        let halves = value.numberLiteral?.split(separator: ".", omittingEmptySubsequences: false) ?? []
        guard (1...2).contains(halves.count), let seconds = SignedRequest.seconds(halves[0].utf8),
            halves.count == 1 || halves[1].utf8.allSatisfy({ $0 &- 0x30 < 10 })
        else {
            throw RefusalError(.malformedHeader, "the token's \(name) in \(header) is not a time in seconds")
        }
        return Timestamp(seconds: seconds)
    }

    private func checkNames(_ claims: JSONView, _ attempt: SignatureAttempt) throws(RefusalError) {
        if !issuers.isEmpty, !issuers.contains(claims["iss"]?.string ?? "") {
            throw RefusalError(.mismatch, "the token in \(header) is of another issuer than \(issuers.joined(separator: ", ")) (iss)")
        }
        if checksAudience {
            let wanted = attempt.options.parameters["audience"] ?? attempt.options.url(of: attempt.request)
            guard let wanted else {
                throw RefusalError(
                    .noURL, "the token's audience is the public URL or the parameter `audience`: start the server with --public-url")
            }
            let given = claims["aud"]?.elements?.compactMap(\.string) ?? claims["aud"]?.string.map { [$0] } ?? []
            if !given.contains(wanted) {
                throw RefusalError(.mismatch, "the token in \(header) is meant for another audience than this connection (aud)")
            }
        }
        if checksEmail, let wanted = attempt.options.parameters["email"],
            claims["email"]?.string != wanted || claims["email_verified"]?.bool == false
        {
            throw RefusalError(.mismatch, "the token in \(header) is of another account than the parameter `email`")
        }
    }

    private func checkBody(_ claims: JSONView, _ request: WebhookRequest) throws(RefusalError) {
        let hash = HMACSHA256.bytes(HMACSHA256.sha256(request.body))
        let (name, given): (String, [UInt8]?)
        switch bodyClaim {
        case .none: return
        case .base64(let claim): (name, given) = (claim, claims[claim]?.string.flatMap { Base64.decode(Array($0.utf8)) })
        case .hex(let claim): (name, given) = (claim, claims[claim]?.string.flatMap { Hex.bytes(Array($0.utf8)) })
        }
        guard let given, ConstantTime.equal(given, hash) else {
            throw RefusalError(
                .mismatch, "the token's \(name) in \(header) is not the SHA-256 of the body (\(request.body.count) bytes)")
        }
    }

    // MARK: - What is said of it

    func content(_ attempt: SignatureAttempt) -> SignedContent? {
        guard let token = try? token(attempt.request) else { return nil }
        var parts = [SignedContent.Part(name: "token header and claims", bytes: token.signed)]
        if case .none = bodyClaim {} else { parts.append(.init(name: "body", bytes: attempt.request.body)) }
        return SignedContent(template: template, parts: parts)
    }

    func moment(_ attempt: SignatureAttempt) -> Timestamp? {
        guard let token = try? token(attempt.request) else { return nil }
        return try? time("iat", token.claims)
    }

    var template: String {
        switch bodyClaim {
        case .none: "a token; not the body"
        case .base64(let claim): "a token whose \(claim) is the base64 of SHA-256 of {body}"
        case .hex(let claim): "a token whose \(claim) is the hex of SHA-256 of {body}"
        }
    }
}
