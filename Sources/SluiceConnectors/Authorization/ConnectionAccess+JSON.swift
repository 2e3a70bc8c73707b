import SluiceCore

extension ConnectionAccess {
    /// Reads the keys of `connection` besides `fields` from a JSON object, as the Lua form gives it. Throws an error that names
    /// the key and what mends it.
    ///
    /// ```
    /// { "base_url": "{connection.site_url}",
    ///   "authorization": { "oauth2_refresh_token": { "token_url": "https://auth.example.com/token",
    ///     "client_id": "{connection.client_id}", "client_secret": "{connection.client_secret}",
    ///     "refresh_token": "{connection.refresh_token}", "client_auth": "post" } },
    ///   "test": { "path": "/v1/me" },
    ///   "rate_limit": { "remaining": "X-Left", "reset": "X-Reset", "reset_unit": "epoch_seconds", "reserve": 10 } }
    /// ```
    public init(json: JSONDocument) throws(SluiceError) {
        var reader = try RuleReader(json.root, at: "connection")
        baseURLs = try ConnectionAccess.baseURLs(&reader)
        if let rule = try reader.optionalNested("authorization") { authorization = try Authorization(rule) }
        if var rule = try reader.optionalNested("test") {
            test = ConnectionTest(path: try rule.template("path"), method: try rule.choice("method", ["GET", "POST", "HEAD"]) ?? "GET")
            try rule.finish()
        }
        if let rule = try reader.optionalNested("rate_limit") { rateLimit = try RateLimitRule(rule) }
        try reader.finish()
    }

    private static func baseURLs(_ reader: inout RuleReader) throws(SluiceError) -> [Template] {
        guard let view = reader.value("base_url") else { return [] }
        var result: [Template] = []
        for element in view.elements ?? [view] {
            guard let text = element.string else { throw reader.fault("base_url", "must be text, or a list of texts") }
            do throws(SluiceError) { result.append(try Template(text)) } catch {
                throw reader.fault("base_url", "is malformed: \(error.message)")
            }
        }
        return result
    }
}

extension Authorization {
    fileprivate init(_ rule: RuleReader) throws(SluiceError) {
        var rule = rule
        var kind: Kind?
        if let inner = try rule.optionalNested("api_key") { kind = .apiKey(try Authorization.apiKey(inner)) }
        if var inner = try rule.optionalNested("basic") {
            kind = .basic(user: try inner.template("user"), password: try inner.optionalTemplate("password") ?? "")
            try inner.finish()
        }
        if let token = try rule.optionalTemplate("bearer") { kind = .bearer(token) }
        for name in ["oauth2_client_credentials", "oauth2_refresh_token", "jwt_bearer"] {
            if let inner = try rule.optionalNested(name) { kind = .token(try TokenGrant(name, inner)) }
        }
        try rule.finishWithOne()
        guard let kind else { throw rule.fault("bearer", "is empty") }
        self.init(kind)
    }

    private static func apiKey(_ rule: RuleReader) throws(SluiceError) -> APIKey {
        var rule = rule
        let (header, query) = (try rule.optionalText("header"), try rule.optionalText("query"))
        let value = try rule.template("value")
        try rule.finish()
        switch (header, query) {
        case (let header?, nil): return APIKey(place: .header(try headerName(header, rule, "header")), value: value)
        case (nil, let query?): return APIKey(place: .query(query), value: value)
        default: throw rule.fault("header", "or query says where the key goes: give one of the two")
        }
    }

    /// RFC 9110, 5.6.2.
    static func headerName(_ name: String, _ rule: RuleReader, _ key: String) throws(SluiceError) -> String {
        let isName =
            !name.isEmpty
            && name.utf8.allSatisfy { ASCII.lowercased($0) &- 0x61 < 26 || $0 &- 0x30 < 10 || "!#$%&'*+-.^_`|~".utf8.contains($0) }
        guard isName else { throw rule.fault(key, "must be the name of a header") }
        return name
    }
}

extension TokenGrant {
    fileprivate init(_ name: String, _ rule: RuleReader) throws(SluiceError) {
        var rule = rule
        let flow: Flow
        switch name {
        case "oauth2_client_credentials": flow = .clientCredentials
        case "oauth2_refresh_token":
            let token = try rule.template("refresh_token")
            guard token.isSinglePlace else { throw rule.fault("refresh_token", "must be one field, as in \"{connection.refresh_token}\"") }
            flow = .refreshToken(token)
        default: flow = .jwt(try JWTAssertion(&rule), try JWTUse(&rule))
        }
        self.init(flow, tokenURL: try rule.optionalTemplate("token_url"))
        if case .jwt(_, .accessToken) = flow {
            if tokenURL != nil { throw rule.fault("token_url", "means nothing where the assertion is the access token: remove it") }
        } else if tokenURL == nil {
            throw rule.fault("token_url", "is missing: add it")
        }
        clientID = try rule.optionalTemplate("client_id")
        clientSecret = try rule.optionalTemplate("client_secret")
        if name == "oauth2_client_credentials", clientID == nil { throw rule.fault("client_id", "is missing: add it") }
        clientAuthentication =
            try rule.choice("client_auth", ClientAuthentication.allCases.map(\.rawValue)).flatMap(ClientAuthentication.init) ?? .basic
        grantType = try rule.optionalText("grant_type")
        scope = try TokenGrant.scopes(&rule)
        audience = try rule.optionalTemplate("audience")
        parameters = try rule.templates("parameters")
        headers = try rule.templates("headers")
        if var paths = try rule.optionalNested("answer") {
            answer.accessToken = try paths.optionalPath("access_token") ?? answer.accessToken
            answer.refreshToken = try paths.optionalPath("refresh_token") ?? answer.refreshToken
            answer.expiresIn = try paths.optionalPath("expires_in") ?? answer.expiresIn
            answer.expiresAt = try paths.optionalPath("expires_at") ?? answer.expiresAt
            try paths.finish()
        }
        lifetime = try rule.integer("token_lifetime_seconds", 1...31_536_000).map(Span.seconds)
        scheme = try rule.optionalText("token_type") ?? "Bearer"
        guard !scheme.isEmpty, scheme.utf8.allSatisfy({ $0 > 0x20 && $0 < 0x7F }) else {
            throw rule.fault("token_type", "is what stands before the token in the header, for example \"Bearer\"")
        }
        try rule.finish()
    }

    /// One text, or a list that is joined by spaces (RFC 6749, 3.3).
    private static func scopes(_ rule: inout RuleReader) throws(SluiceError) -> Template? {
        guard let view = rule.value("scopes") else { return nil }
        let texts = view.elements.map { $0.map(\.string) } ?? [view.string]
        guard !texts.contains(nil) else { throw rule.fault("scopes", "must be text, or a list of texts") }
        do throws(SluiceError) { return try Template(texts.compactMap(\.self).joined(separator: " ")) } catch {
            throw rule.fault("scopes", "is malformed: \(error.message)")
        }
    }
}

extension TokenGrant.JWTUse {
    fileprivate init(_ rule: inout RuleReader) throws(SluiceError) {
        let named = try rule.choice("send_as", Self.allCases.map(\.rawValue)).flatMap(Self.init)
        self = named ?? (rule.holds("token_url") ? .grant : .accessToken)
    }
}

extension JWTAssertion {
    fileprivate init(_ rule: inout RuleReader) throws(SluiceError) {
        let algorithm = try rule.choice("algorithm", Algorithm.allCases.map(\.rawValue)).flatMap(Algorithm.init) ?? .rs256
        let key = try rule.template("key")
        var claims: [(name: String, value: ClaimValue)] = []
        for member in rule.value("claims")?.members ?? [] {
            if let text = member.value.string {
                do throws(SluiceError) { claims.append((member.key, .text(try Template(text)))) } catch {
                    throw rule.fault("claims", "\(member.key) is malformed: \(error.message)")
                }
            } else {
                claims.append((member.key, .json(Array(member.value.bytes))))
            }
        }
        self.init(
            algorithm: algorithm, key: key, claims: claims,
            lifetime: .seconds(try rule.integer("assertion_lifetime_seconds", 30...86_400) ?? 300))
        keyID = try rule.optionalTemplate("key_id")
        backdated = .seconds(try rule.integer("backdate_seconds", 0...600) ?? 30)
    }
}
