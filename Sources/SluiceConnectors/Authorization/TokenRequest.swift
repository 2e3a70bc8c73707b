import SluiceCore

/// A token request and what its answer means. Pure: who sends it sees to addresses, time-outs and redirects (none is followed).
public struct TokenRequest: Sendable {
    public let grant: TokenGrant
    /// Values of the connection's fields, secrets included: a JSON object.
    public let values: JSONDocument
    private let secrets: [String]

    /// A longer answer is refused.
    public static let answerBytesMax = 256 * 1024
    static let tokenBytesMax = 16 * 1024
    private static let quotedMax = 200

    /// - Parameter secrets: what must not be quoted from an answer.
    public init(grant: TokenGrant, values: JSONDocument, secrets: [String]) {
        self.grant = grant
        self.values = values
        self.secrets = secrets
    }

    /// The refresh token that the definition gives; nil for grants that have none. Throws where the field has no value.
    public func seedToken() throws(PollFailure) -> String? {
        guard case .refreshToken(let template) = grant.flow else { return nil }
        return try template.text(connection: values, for: "the refresh token")
    }

    /// The field that holds the refresh token, for messages.
    public var refreshTokenField: String? {
        guard case .refreshToken(let template) = grant.flow else { return nil }
        return template.connectionFields.first
    }

    /// An access token that needs no provider; nil for all grants but the assertion that is one.
    public func selfMade(at now: Timestamp, nonce: String) throws(PollFailure) -> AccessToken? {
        guard case .jwt(let assertion, .accessToken) = grant.flow else { return nil }
        let (text, expiresAt) = try assertion.signed(values: values, at: now, nonce: nonce)
        return AccessToken(value: text, obtainedAt: now, expiresAt: expiresAt)
    }

    /// What to send. Throws a permanent failure where a field has no value.
    public func plan(refreshToken: String?, at now: Timestamp, nonce: String) throws(PollFailure) -> HTTPRequestPlan {
        guard let url = try grant.tokenURL?.text(connection: values, for: "the token URL", encode: { $0 }),
            WebURL.origin(url) != nil, !url.contains("#")
        else {
            throw PollFailure(
                .permanent, SluiceError(.invalid, "the token URL must look like https://auth.example.com/oauth/token: check its field"))
        }
        var form: [(String, String)] = []
        var headers = [HTTPField("Accept", "application/json")]
        try addFlow(&form, &headers, refreshToken, now, nonce)
        try addClient(&form, &headers)
        if let scope = try grant.scope?.optionalText(connection: values, for: "the scope") { form.append(("scope", scope)) }
        if let audience = try grant.audience?.optionalText(connection: values, for: "the audience") { form.append(("audience", audience)) }
        for parameter in grant.parameters {
            if let text = try parameter.value.optionalText(connection: values, for: "the parameter \(parameter.name)") {
                form.removeAll { $0.0 == parameter.name }
                form.append((parameter.name, text))
            }
        }
        for header in grant.headers {
            if let text = try header.value.optionalText(connection: values, for: "the header \(header.name)") {
                headers.removeAll { ASCII.equalIgnoringCase($0.name, header.name) }
                headers.append(HTTPField(header.name, text))
            }
        }
        if !form.isEmpty { headers.append(HTTPField("Content-Type", "application/x-www-form-urlencoded")) }
        try HeaderText.check(headers)
        let body = form.map { WebURL.encode($0.0) + "=" + WebURL.encode($0.1) }.joined(separator: "&")
        return HTTPRequestPlan(method: "POST", url: url, headers: headers, body: Array(body.utf8), acceptsAnyStatus: true)
    }

    private func addFlow(
        _ form: inout [(String, String)], _ headers: inout [HTTPField], _ refreshToken: String?, _ now: Timestamp, _ nonce: String
    ) throws(PollFailure) {
        switch grant.flow {
        case .clientCredentials: form.append(("grant_type", grant.grantType ?? "client_credentials"))
        case .refreshToken:
            form += [("grant_type", grant.grantType ?? "refresh_token"), ("refresh_token", refreshToken ?? "")]
        case .jwt(let assertion, let use):
            let text = try assertion.signed(values: values, at: now, nonce: nonce).text
            switch use {
            case .grant:
                form += [("grant_type", grant.grantType ?? "urn:ietf:params:oauth:grant-type:jwt-bearer"), ("assertion", text)]
            case .clientAssertion:
                form += [
                    ("grant_type", grant.grantType ?? "client_credentials"),
                    ("client_assertion_type", "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"), ("client_assertion", text),
                ]
            case .bearer, .accessToken: headers.append(HTTPField("Authorization", "Bearer " + text))
            }
        }
    }

    private func addClient(_ form: inout [(String, String)], _ headers: inout [HTTPField]) throws(PollFailure) {
        guard let id = try grant.clientID?.optionalText(connection: values, for: "the client's id") else { return }
        let secret = try grant.clientSecret?.optionalText(connection: values, for: "the client's secret")
        switch grant.clientAuthentication {
        case .basic:
            guard let secret else { return form.append(("client_id", id)) }
            // RFC 6749, 2.3.1: both are form-encoded first.
            let pair = WebURL.encode(id) + ":" + WebURL.encode(secret)
            headers.append(HTTPField("Authorization", "Basic " + Base64.encode(pair.utf8)))
        case .post:
            form.append(("client_id", id))
            if let secret { form.append(("client_secret", secret)) }
        case .none: form.append(("client_id", id))
        }
    }

    // MARK: Answers

    /// Errors that mean: this refresh token or assertion is no good. RFC 6749, 5.2, and what GitHub and Slack say instead.
    private static let grantErrors: Set<String> = [
        "invalid_grant", "bad_refresh_token", "invalid_refresh_token", "token_revoked", "token_expired", "expired_token",
    ]
    /// Errors that pass, though the status does not say so.
    private static let passingErrors: Set<String> = ["temporarily_unavailable", "server_error", "slow_down"]

    /// What an answer means. Quotes nothing of it but `error` and `error_description`, without any known secret.
    public func outcome(
        of reply: HTTPReply, spent: String?, at now: Timestamp
    ) -> Result<TokenAnswer, TokenFailure> {
        let root = (try? JSONDocument(reply.body))?.root
        if (200..<300).contains(reply.status), let root, let token = grant.answer.accessToken.find(in: root)?.string, !token.isEmpty {
            guard token.utf8.count <= TokenRequest.tokenBytesMax, token.utf8.allSatisfy({ $0 > 0x20 && $0 < 0x7F }) else {
                return .failure(failure(.transient, "the token endpoint's access token cannot stand in a header", reply))
            }
            let refresh = grant.answer.refreshToken.find(in: root)?.string
            let isUsable = refresh.map { !$0.isEmpty && $0.utf8.count <= TokenRequest.tokenBytesMax } ?? false
            return .success(
                TokenAnswer(
                    access: AccessToken(value: token, obtainedAt: now, expiresAt: expiry(root, now)), refreshToken: isUsable ? refresh : nil
                ))
        }
        return .failure(refusal(of: reply, root, spent, now))
    }

    /// What of an answer must not be shown, whatever its status: the tokens in it.
    public func secrets(in reply: HTTPReply) -> [String] {
        guard let root = (try? JSONDocument(reply.body))?.root else { return [] }
        return [grant.answer.accessToken, grant.answer.refreshToken].compactMap { $0.find(in: root)?.string }
    }

    private func expiry(_ root: JSONView, _ now: Timestamp) -> Timestamp? {
        if let text = grant.answer.expiresIn.find(in: root)?.text, let seconds = Double(text), seconds > 0, seconds < 1e9 {
            return now + .milliseconds(Int64(seconds * 1000))
        }
        if let text = grant.answer.expiresAt.find(in: root)?.text {
            if let number = Int64(text), number > 1_000_000_000 {
                return number > 1_000_000_000_000 ? Timestamp(milliseconds: number) : Timestamp(seconds: number)
            }
            if case .milliseconds(let time) = Times.rfc3339(text) { return Timestamp(milliseconds: time) }
        }
        return grant.lifetime.map { now + $0 }
    }

    private func refusal(of reply: HTTPReply, _ root: JSONView?, _ spent: String?, _ now: Timestamp) -> TokenFailure {
        let code = root?["error"]?.string ?? root?["error"]?["code"]?.string ?? root?["message"]?.string
        let known = code.map { $0.utf8.count <= 64 && $0.utf8.allSatisfy { $0 > 0x20 && $0 < 0x7F } ? $0 : "error" }
        let quoted = quote(root?["error_description"]?.string, spent)
        let words = known.map { ": " + SecretScrubber(secrets + [spent ?? ""]).scrubbed($0) + quoted } ?? ""
        let wait = reply.headers.first("retry-after").flatMap { RetryAfter.parse($0, now: now) }
        switch reply.status {
        case 408, 425, 429, 500...599:
            var failure = failure(.transient, "the token endpoint answers with a fault of its own" + words, reply)
            failure.retryAfter = wait.map { min($0, .hours(1)) }
            return failure
        case 300..<400:
            return failure(.refused, "the token endpoint redirects, and credentials are never sent on: correct the token URL", reply)
        default: break
        }
        if let known, TokenRequest.passingErrors.contains(known) {
            return failure(.transient, "the token endpoint is not ready" + words, reply)
        }
        if let known, TokenRequest.grantErrors.contains(known) {
            return failure(.invalidGrant, "the provider no longer takes the \(credential)" + words + "; \(remedy)", reply)
        }
        if root == nil, (200..<300).contains(reply.status) {
            return failure(.refused, "the token endpoint's answer is not JSON: check the token URL", reply)
        }
        return failure(.refused, "the token endpoint refuses the credentials" + words + "; \(remedy)", reply)
    }

    private func failure(_ kind: TokenFailure.Kind, _ message: String, _ reply: HTTPReply) -> TokenFailure {
        let code: SluiceError.Code = kind == .transient ? .providerStatus : .providerAuth
        return TokenFailure(kind, SluiceError(code, message).with("status", String(reply.status)).with("authorization", grant.name))
    }

    private var credential: String {
        switch grant.flow {
        case .clientCredentials: "client's credentials"
        case .refreshToken: "refresh token"
        case .jwt: "signed assertion"
        }
    }

    private var remedy: String {
        guard let field = refreshTokenField else { return "correct them and run `sluice apply`" }
        return "authorize again at the provider, give the new refresh token as `\(field)`, and run `sluice apply`"
    }

    /// A description, short and printable.
    private func quote(_ text: String?, _ spent: String?) -> String {
        guard let text, !text.isEmpty else { return "" }
        let clean = SecretScrubber(secrets + [spent ?? ""]).scrubbed(text)
        let shown = clean.unicodeScalars.filter { $0.value >= 0x20 && $0.value != 0x7F }.prefix(TokenRequest.quotedMax)
        return " (" + String(String.UnicodeScalarView(shown)) + ")"
    }
}
