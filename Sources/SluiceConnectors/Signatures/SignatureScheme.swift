import SluiceCore

/// Verifies that a webhook comes from who holds the secret. Works on the raw bytes and takes constant time in the secret.
///
/// Most schemes are data (`SignatureTable`); a few are code, since what they sign is structured (`StructuredSchemes`). The
/// source of each recipe is named at its row; test vectors are in Tests/.
public struct SignatureScheme: Sendable {
    /// kebab-case: `standard-webhooks`, `stripe`, `github`, `header-token`, `none`.
    public let name: String
    /// Whether a forged request is detected at all; `none` is shown as unsafe everywhere.
    public let isSafe: Bool
    /// Whether the body is covered, so that a delivery id in the request can be trusted.
    public let signsBody: Bool
    /// What the secret must look like, for a message to the person who configures it.
    public let secretHint: String
    /// Whether the public URL is part of what is signed, or of a token: then `WebhookRequest.url` or `SchemeOptions.publicURL` is needed.
    public var signsURL = false
    /// Whether neither the provider's documentation nor an independent implementation confirmed the recipe.
    public private(set) var isExperimental = false
    /// Headers that show the secret or a token: they are never kept or printed.
    public private(set) var credentialHeaders: [String] = []
    /// Headers whose values are signed, in lower case.
    var signedHeaders: [String] = []
    /// What people read of it.
    public private(set) var summary: SchemeSummary
    /// The recipe, for explanations; nil for `none`.
    private(set) var recipe: (any SignatureRecipe)?

    let check: @Sendable (WebhookRequest, [String], Timestamp, SchemeOptions) -> Verdict

    init(
        name: String, isSafe: Bool, signsBody: Bool, secretHint: String,
        check: @escaping @Sendable (WebhookRequest, [String], Timestamp, SchemeOptions) -> Verdict
    ) {
        self.name = name
        self.isSafe = isSafe
        self.signsBody = signsBody
        self.secretHint = secretHint
        self.summary = SchemeSummary(provider: name)
        self.check = check
    }

    /// A scheme by its recipe. `fast`: a specialised form of the same check, for the providers that send most.
    init(
        name: String, signsBody: Bool, signsURL: Bool, isExperimental: Bool, secretHint: String, summary: SchemeSummary,
        recipe: some SignatureRecipe, fast: (@Sendable (WebhookRequest, [String], Timestamp, SchemeOptions) -> Verdict)? = nil
    ) {
        self.init(
            name: name, isSafe: true, signsBody: signsBody, secretHint: secretHint,
            check: fast
                ?? { request, secrets, now, options in
                    SignedRequest.verdict { () throws(RefusalError) in
                        try recipe.check(SignatureAttempt(request: request, secrets: secrets, now: now, options: options))
                    }
                })
        self.signsURL = signsURL
        self.isExperimental = isExperimental
        self.summary = summary
        self.recipe = recipe
        let showsSecrets = summary.algorithm == SignatureAlgorithm.secret.rawValue || summary.algorithm.hasPrefix("JWT")
        credentialHeaders = showsSecrets ? summary.headers : []
    }

    /// Checks a request against every secret that is valid now (more than one during a rotation).
    public func verify(_ request: WebhookRequest, secrets: [String], now: Timestamp, options: SchemeOptions = SchemeOptions()) -> Verdict {
        check(request, secrets, now, options)
    }

    /// Whether a text can be a secret or key of this scheme at all.
    public func takes(secret: String) -> Bool {
        if let described = recipe as? DescribedSignature {
            return described.alternatives.contains { (try? SignatureKeys.read([secret], $0)) != nil }
        }
        let nothing = WebhookRequest(method: "POST", path: "/", query: "", headers: [], body: [])
        guard case .refused(let refusal) = verify(nothing, secrets: [secret], now: .distantPast) else { return true }
        return refusal.reason != .noSecret
    }

    /// Whether a connection says which header it reads (`SchemeOptions.headerName`).
    public var leavesHeaderOpen: Bool {
        (recipe as? DescribedSignature)?.alternatives.contains { $0.headerDefault != nil } ?? false
    }

    /// Parameters without which nothing verifies.
    public var parametersNeeded: [String] { (recipe as? DescribedSignature)?.alternatives[0].content.parameters ?? [] }

    /// Verifies nothing. Whoever knows the URL can cause polls, though never a record.
    static let none = SignatureScheme(name: "none", isSafe: false, signsBody: false, secretHint: "no secret") { _, _, _, _ in .valid }

    /// Every scheme, by name; `none` is the last.
    public static let all: [SignatureScheme] =
        (SignatureTable.rows.map(SignatureScheme.init) + StructuredSchemes.all).sorted { $0.name < $1.name } + [.none]

    private static let byName = Dictionary(uniqueKeysWithValues: all.map { ($0.name, $0) })

    /// The scheme of a name such as `stripe`; nil if there is none.
    public static func named(_ name: String) -> SignatureScheme? { byName[name] }
}

/// What people read of a scheme: `sluice verify --list`, docs/SIGNATURES.md.
public struct SchemeSummary: Sendable, Equatable {
    public var provider: String
    /// The headers that it reads; empty where all stands in the body.
    public var headers: [String] = []
    public var algorithm = "none"
    /// What is signed, for example `{timestamp}.{body}`.
    public var content = "nothing"
    public var encoding = ""
    /// How far a signed moment may lie from now, in either direction; nil where the scheme does not say.
    public var toleranceSeconds: Int64?
    /// Names of `SchemeOptions.parameters` that it reads.
    public var parameters: [String] = []
    /// Where the recipe is from.
    public var source = ""
}

/// The result of a verification. A refusal never holds the expected signature.
public enum Verdict: Sendable, Equatable {
    case valid
    case refused(Refusal)
}

public struct Refusal: Sendable, Equatable, CustomStringConvertible {
    public enum Reason: String, Sendable {
        case missingHeader = "missing_header"
        case malformedHeader = "malformed_header"
        /// What the scheme reads in the body is not there or not readable.
        case malformedBody = "malformed_body"
        case stale
        case fromTheFuture = "from_the_future"
        case mismatch
        case noSecret = "no_secret"
        /// It is signed with a key that the connection does not have.
        case noKey = "no_key"
        /// The scheme signs the public URL, and nobody said what it is.
        case noURL = "no_url"
    }
    public var reason: Reason
    /// A sentence: which header, stale by how much, which content was signed.
    public var message: String
    /// Where the key that was missing could be fetched: an https URL of one of the scheme's own hosts.
    public var keyURL: String?
    public init(_ reason: Reason, _ message: String) {
        self.reason = reason
        self.message = message
    }
    public var description: String { "\(reason.rawValue): \(message)" }
}
