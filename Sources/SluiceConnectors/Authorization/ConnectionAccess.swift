import SluiceCore

/// What holds for all requests of a connection: where they go, how they show who asks, how to try whether that works, and
/// how the provider says that it is asked too much.
public struct ConnectionAccess: Sendable {
    /// Credentials go to these scheme, host and port alone.
    public var baseURLs: [Template] = []
    public var authorization: Authorization?
    public var test: ConnectionTest?
    public var rateLimit = RateLimitRule()

    public init() {}

    /// Credentials may go where the described polls go.
    public mutating func addBaseURLs(of polls: [Incremental]) {
        if authorization == nil { return }
        baseURLs += polls.flatMap(\.variantsOrSelf).map(\.baseURL).filter { !$0.usesInput }
    }

    /// The origins that credentials may go to. One whose fields have no value is left out.
    public func origins(values: JSONDocument) -> Set<String> {
        Set(baseURLs.compactMap { base in (try? base.text(connection: values, for: "the base URL")).flatMap(WebURL.origin) })
    }

    /// Whether credentials may go to this URL.
    public static func allows(_ url: String, origins: Set<String>) -> Bool { WebURL.origin(url).map(origins.contains) ?? false }

    /// What is wrong with it besides its form, or nil: fields that are not declared, secrets that would be shown, credentials
    /// that could go nowhere.
    public func problem(fields: [Field]) -> String? {
        let templates = baseURLs + (authorization?.templates ?? []) + (test.map { [$0.path] } ?? [])
        if templates.contains(where: \.usesInput) {
            return "connection: {input.…} means nothing here: the connection is the same for all its triggers; use {connection.FIELD}"
        }
        for name in templates.flatMap(\.connectionFields) where !fields.contains(where: { $0.name == name }) {
            return "connection: {connection.\(name)} is not among its fields: add { name = \"\(name)\" }"
        }
        for name in (authorization?.secretTemplates ?? []).flatMap(\.connectionFields) {
            if fields.first(where: { $0.name == name })?.isSecret == false {
                return "connection.fields: mark \(name) as secret = true: it would be shown otherwise"
            }
        }
        if authorization != nil, baseURLs.isEmpty {
            return "connection.authorization needs connection.base_url, for example \"https://api.example.com\": "
                + "credentials are sent there and nowhere else"
        }
        if test != nil, baseURLs.isEmpty { return "connection.test needs connection.base_url, which its path follows" }
        return nil
    }
}

/// A request that shows whether a connection works: its credentials, its address.
public struct ConnectionTest: Sendable {
    /// Follows the base URL.
    public var path: Template
    public var method = "GET"

    public init(path: Template, method: String = "GET") {
        self.path = path
        self.method = method
    }

    /// Throws a permanent failure where a field has no value.
    public func plan(base: Template, values: JSONDocument) throws(PollFailure) -> HTTPRequestPlan {
        var start = try base.text(connection: values, for: "the base URL")
        while start.hasSuffix("/") { start.removeLast() }
        guard WebURL.isBase(start) else {
            throw PollFailure(
                .permanent,
                SluiceError(.invalid, "the base URL must look like https://api.example.com, without user, query or fragment"))
        }
        let path = try self.path.text(connection: values, for: "the path", encode: { WebURL.encode($0) })
        return HTTPRequestPlan(
            method: method, url: start + (path.hasPrefix("/") ? path : "/" + path), headers: [HTTPField("Accept", "application/json")],
            acceptsAnyStatus: true)
    }
}

/// What a connector's own test says of a connection.
public enum ConnectionTestAnswer: Sendable, Equatable {
    case works
    /// What is wrong, in the connector's words.
    case failed(String)
}

extension ConnectionTest {
    private static let quotedMax = 200
    private static let quotedPaths = [
        ["error_description"], ["error", "message"], ["message"], ["errors", "0", "message"], ["errors", "0", "detail"], ["errors"],
        ["error"], ["detail"], ["title"],
    ]

    /// What a provider says in an answer, short and printable; nil where it says nothing in words. It may repeat secrets: scrub it.
    public static func words(of reply: HTTPReply) -> String? {
        let found: String?
        if let root = (try? JSONDocument(reply.body))?.root {
            found = quotedPaths.lazy.compactMap { path in
                path.reduce(Optional(root)) { view, key in Int(key).map { view?.elements?[at: $0] } ?? view?[key] }?.string
            }.first { !$0.isEmpty }
        } else if reply.headers.first("Content-Type")?.lowercased().hasPrefix("text/plain") == true {
            found = String(validating: reply.body.prefix(4 * quotedMax), as: UTF8.self)
        } else {
            found = nil
        }
        guard let found else { return nil }
        let shown = found.unicodeScalars.filter { $0.value >= 0x20 && $0.value != 0x7F }.prefix(quotedMax)
        return shown.isEmpty ? nil : String(String.UnicodeScalarView(shown))
    }
}

extension Array {
    fileprivate subscript(at index: Int) -> Element? { indices.contains(index) ? self[index] : nil }
}

extension Authorization {
    /// Every template, to be checked when a connector is loaded.
    var templates: [Template] {
        switch kind {
        case .apiKey(let key): [key.value]
        case .basic(let user, let password): [user, password]
        case .bearer(let token): [token]
        case .token(let grant):
            [grant.tokenURL, grant.clientID, grant.clientSecret, grant.scope, grant.audience].compactMap(\.self)
                + (grant.parameters + grant.headers).map(\.value) + grant.flow.templates
        }
    }

    /// Those whose fields must be secret.
    var secretTemplates: [Template] {
        switch kind {
        case .apiKey(let key): [key.value]
        // Some services take the key as the user and no password.
        case .basic(let user, let password): password.connectionFields.isEmpty ? [user] : [password]
        case .bearer(let token): [token]
        case .token(let grant):
            switch grant.flow {
            case .clientCredentials: [grant.clientSecret].compactMap(\.self)
            case .refreshToken(let token): [token] + [grant.clientSecret].compactMap(\.self)
            case .jwt(let assertion, _): [assertion.key] + [grant.clientSecret].compactMap(\.self)
            }
        }
    }
}

extension TokenGrant.Flow {
    fileprivate var templates: [Template] {
        switch self {
        case .clientCredentials: []
        case .refreshToken(let token): [token]
        case .jwt(let assertion, _):
            [assertion.key, assertion.keyID].compactMap(\.self)
                + assertion.claims.compactMap { if case .text(let template) = $0.value { template } else { nil } }
        }
    }
}
