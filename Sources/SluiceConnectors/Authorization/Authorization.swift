import SluiceCore

/// How the requests of a connection show who asks, as data: Sluice adds the credentials to each request to the connection's
/// own hosts, gets access tokens where they are needed, and renews them.
public struct Authorization: Sendable {
    public enum Kind: Sendable {
        case apiKey(APIKey)
        /// RFC 7617.
        case basic(user: Template, password: Template)
        /// RFC 6750, with a token that does not expire.
        case bearer(Template)
        case token(TokenGrant)
    }

    public struct APIKey: Sendable {
        public enum Place: Sendable, Equatable {
            case header(String)
            /// A parameter of the query. A header is better: URLs end up in the logs of proxies.
            case query(String)
        }
        public var place: Place
        public var value: Template
        public init(place: Place, value: Template) {
            self.place = place
            self.value = value
        }
    }

    public var kind: Kind
    public init(_ kind: Kind) { self.kind = kind }

    /// As the connector's file calls it, for example `oauth2_refresh_token`.
    public var name: String {
        switch kind {
        case .apiKey: "api_key"
        case .basic: "basic"
        case .bearer: "bearer"
        case .token(let grant): grant.name
        }
    }

    public var grant: TokenGrant? { if case .token(let grant) = kind { grant } else { nil } }

    /// The request with its credentials. One that shows who asks by itself stays as it is. `accessToken`: what the grant gave;
    /// not used by the other kinds. Throws a permanent failure where a field has no value, or would break the header.
    public func applied(
        to plan: HTTPRequestPlan, values: JSONDocument, accessToken: String?
    ) throws(PollFailure) -> HTTPRequestPlan {
        switch kind {
        case .apiKey(let key):
            let value = try key.value.text(connection: values, for: "the API key")
            switch key.place {
            case .header(let name): return try Authorization.adding(name, value, to: plan)
            case .query(let name): return Authorization.adding(parameter: name, value, to: plan)
            }
        case .basic(let user, let password):
            let pair =
                try user.text(connection: values, for: "basic authentication") + ":"
                + (try password.optionalText(connection: values, for: "basic authentication") ?? "")
            return try Authorization.adding("Authorization", "Basic " + Base64.encode(pair.utf8), to: plan)
        case .bearer(let token):
            let value = try token.text(connection: values, for: "bearer authentication")
            return try Authorization.adding("Authorization", "Bearer " + value, to: plan)
        case .token(let grant):
            guard let accessToken else { return plan }
            return try Authorization.adding("Authorization", grant.scheme + " " + accessToken, to: plan)
        }
    }

    /// Whether a request shows who asks by itself, so that nothing is added.
    public func isShown(by plan: HTTPRequestPlan) -> Bool {
        if plan.headers.first("Authorization") != nil { return true }
        guard case .apiKey(let key) = kind else { return false }
        switch key.place {
        case .header(let name): return plan.headers.first(name) != nil
        case .query(let name): return Authorization.hasParameter(name, plan.url)
        }
    }

    private static func adding(_ name: String, _ value: String, to plan: HTTPRequestPlan) throws(PollFailure) -> HTTPRequestPlan {
        var plan = plan
        plan.headers.append(HTTPField(name, try HeaderText.checked(value, name)))
        return plan
    }

    private static func adding(parameter name: String, _ value: String, to plan: HTTPRequestPlan) -> HTTPRequestPlan {
        var plan = plan
        let pair = WebURL.encode(name) + "=" + WebURL.encode(value)
        plan.url += (plan.url.utf8.contains(UInt8(ascii: "?")) ? "&" : "?") + pair
        return plan
    }

    private static func hasParameter(_ name: String, _ url: String) -> Bool {
        guard let start = url.firstIndex(of: "?") else { return false }
        let wanted = WebURL.encode(name)
        return url[url.index(after: start)...].split(separator: "&").contains { pair in
            let found = pair.prefix { $0 != "=" }
            return found == wanted || found == name
        }
    }
}

/// How an access token is got.
public struct TokenGrant: Sendable {
    public enum Flow: Sendable {
        /// RFC 6749, 4.4, and what is like it (Zoom's `account_credentials`).
        case clientCredentials
        /// RFC 6749, 6: with the refresh token that the field holds. Whoever set the connection up has gone through the
        /// authorization code's way in a browser.
        case refreshToken(Template)
        /// A signed assertion.
        case jwt(JWTAssertion, JWTUse)
    }

    /// What a signed assertion is sent as.
    public enum JWTUse: String, Sendable, CaseIterable {
        /// `assertion` of the grant `urn:ietf:params:oauth:grant-type:jwt-bearer` (RFC 7523, 2.1): Google, Salesforce.
        case grant
        /// `client_assertion` of client credentials (RFC 7523, 2.2): Okta, Microsoft.
        case clientAssertion = "client_assertion"
        /// In the header Authorization of the token request: GitHub Apps.
        case bearer
        /// It is the access token itself, and nothing is asked: App Store Connect.
        case accessToken = "access_token"
    }

    public enum ClientAuthentication: String, Sendable, CaseIterable {
        /// In the header Authorization (RFC 6749, 2.3.1).
        case basic
        /// In the body.
        case post
        /// The client's id alone, in the body.
        case none
    }

    /// Where things stand in the token endpoint's answer.
    public struct AnswerRule: Sendable {
        public var accessToken = JSONPath(["access_token"])
        public var refreshToken = JSONPath(["refresh_token"])
        /// Seconds.
        public var expiresIn = JSONPath(["expires_in"])
        /// A time, as RFC 3339 or seconds since 1970.
        public var expiresAt = JSONPath(["expires_at"])
        public init() {}
    }

    public var flow: Flow
    /// Nil where the assertion is the access token.
    public var tokenURL: Template?
    public var clientID: Template?
    public var clientSecret: Template?
    public var clientAuthentication = ClientAuthentication.basic
    /// Nil: what the flow says.
    public var grantType: String?
    public var scope: Template?
    public var audience: Template?
    /// Further members of the form.
    public var parameters: [Incremental.NamedTemplate] = []
    public var headers: [Incremental.NamedTemplate] = []
    public var answer = AnswerRule()
    /// How long an access token holds where the answer does not say; nil: until it is refused.
    public var lifetime: Span?
    /// What stands before the token in the header Authorization.
    public var scheme = "Bearer"

    public init(_ flow: Flow, tokenURL: Template?) {
        self.flow = flow
        self.tokenURL = tokenURL
    }

    public var name: String {
        switch flow {
        case .clientCredentials: "oauth2_client_credentials"
        case .refreshToken: "oauth2_refresh_token"
        case .jwt: "jwt_bearer"
        }
    }
}

extension Template {
    /// The text with values of the connection alone.
    func text(connection: JSONDocument, for purpose: String, encode: (String) -> String = { $0 }) throws(PollFailure) -> String {
        try text(Template.request(connection), for: purpose, encode: encode)
    }

    func optionalText(connection: JSONDocument, for purpose: String) throws(PollFailure) -> String? {
        try optionalText(Template.request(connection), for: purpose)
    }

    private static func request(_ connection: JSONDocument) -> PollRequest {
        PollRequest(triggerType: "", connection: connection, input: connection, cursor: nil, pageState: nil, readBound: .distantPast)
    }

    /// Whether it has places for values of the input.
    var usesInput: Bool {
        parts.contains { if case .field(.input, _, _) = $0 { true } else { false } }
    }

    /// The connection's fields that it has places for.
    var connectionFields: [String] {
        parts.compactMap { if case .field(.connection, let path, _) = $0 { path.keys.first } else { nil } }
    }
}
