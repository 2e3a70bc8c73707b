/// What a provider takes as proof of who asks, for a time.
public struct AccessToken: Sendable, Equatable {
    public var value: String
    /// When the provider gave it, by the clock passed in.
    public var obtainedAt: Timestamp
    /// Nil: the provider did not say; it holds until a request is refused.
    public var expiresAt: Timestamp?

    public init(value: String, obtainedAt: Timestamp, expiresAt: Timestamp?) {
        self.value = value
        self.obtainedAt = obtainedAt
        self.expiresAt = expiresAt
    }

    /// The same by a clock that is ahead by so much.
    public func counted(ahead: Span) -> AccessToken {
        AccessToken(value: value, obtainedAt: obtainedAt + ahead, expiresAt: expiresAt.map { $0 + ahead })
    }

    /// A token is renewed this long before it expires, so that it still holds when the request arrives and clocks may differ.
    public static let renewedBeforeExpiry = Span.seconds(60)

    /// Whether it still holds.
    public func isValid(at now: Timestamp) -> Bool { expiresAt.map { now < $0 } ?? true }

    /// Whether it holds and need not be renewed yet. A short-lived one is renewed after four fifths of its life.
    public func isFresh(at now: Timestamp) -> Bool {
        guard let expiresAt else { return true }
        let early = min(AccessToken.renewedBeforeExpiry.milliseconds, max(0, (expiresAt - obtainedAt).milliseconds / 5))
        return now < expiresAt - .milliseconds(early)
    }
}

/// What the provider answers to a token request.
public struct TokenAnswer: Sendable, Equatable {
    public var access: AccessToken
    /// The refresh token to use from now on; nil: the one that was used stays good.
    public var refreshToken: String?

    public init(access: AccessToken, refreshToken: String? = nil) {
        self.access = access
        self.refreshToken = refreshToken
    }
}

/// Why there is no access token.
public struct TokenFailure: Error, Sendable, Equatable {
    public enum Kind: Sendable {
        /// It may pass by itself: an outage, a time-out, a full disk.
        case transient
        /// The provider does not know this refresh token (any more). Another one may still do.
        case invalidGrant
        /// The provider refuses the credentials, or the description of the authorization is wrong: somebody has to act.
        case refused
    }
    public var kind: Kind
    /// Never holds a secret.
    public var error: SluiceError
    /// No token request before this much time has passed.
    public var retryAfter: Span?

    public init(_ kind: Kind, _ error: SluiceError, retryAfter: Span? = nil) {
        self.kind = kind
        self.error = error
        self.retryAfter = retryAfter
    }
}
