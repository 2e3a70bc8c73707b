import SluiceCore

/// Verifies that a webhook comes from who holds the secret. Works on the raw bytes and takes constant time in the secret.
///
/// Source of each recipe: the provider's documentation, named at the scheme; test vectors are in Tests/.
public struct SignatureScheme: Sendable {
    /// kebab-case: `standard-webhooks`, `stripe`, `github`, `basic-auth`, `header-token`, `none`.
    public let name: String
    /// Whether a forged request is detected at all; `none` is shown as unsafe everywhere.
    public let isSafe: Bool
    /// Whether the body is covered, so that a delivery id in the request can be trusted.
    public let signsBody: Bool
    /// What the secret must look like, for a message to the person who configures it.
    public let secretHint: String
    /// Whether the public URL is part of what is signed: then `WebhookRequest.url` or `SchemeOptions.publicURL` is needed.
    public var signsURL = false

    let check: @Sendable (WebhookRequest, [String], Timestamp, SchemeOptions) -> Verdict

    /// Checks a request against every secret that is valid now (more than one during a rotation).
    public func verify(_ request: WebhookRequest, secrets: [String], now: Timestamp, options: SchemeOptions = SchemeOptions()) -> Verdict {
        check(request, secrets, now, options)
    }

    /// Every scheme, safe ones first.
    public static let all: [SignatureScheme] = [.standardWebhooks, .stripe, .github, .basicAuth, .headerToken, .none]

    /// The scheme of a name such as `stripe`; nil if there is none.
    public static func named(_ name: String) -> SignatureScheme? { all.first { $0.name == name } }
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
        case stale
        case fromTheFuture = "from_the_future"
        case mismatch
        case noSecret = "no_secret"
    }
    public var reason: Reason
    /// A sentence: which header, stale by how much, which content was signed.
    public var message: String
    public init(_ reason: Reason, _ message: String) {
        self.reason = reason
        self.message = message
    }
    public var description: String { "\(reason.rawValue): \(message)" }
}
