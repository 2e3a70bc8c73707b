/// Where all polls of a connection ask for the access token. Decides who gets the one at hand, who waits for the next, and
/// when the provider is asked: never twice at a time, and not again too soon after it failed.
///
/// ```
///   ask ─▶ use            the token at hand is fresh
///    ├──▶ wait, refresh   it is not: the first who needs it causes a refresh, the others wait for the same one
///    └──▶ fail            the last refresh failed, and the time to try again has not come
/// ```
/// Until it expires a token serves while the provider's token endpoint is down.
public struct TokenDesk: Sendable {
    public enum Answer: Sendable, Equatable {
        case use(AccessToken)
        /// With `begins`, the caller sees to it that the refresh is made.
        case wait(begins: Bool)
        case fail(TokenFailure)
    }

    /// A token younger than this is not renewed because a request with it was refused: another one would be refused, too.
    public static let renewedApartMin = Span.seconds(30)
    /// After a refusal the provider is not asked again for this long.
    public static let refusalHolds = Span.seconds(60)

    public private(set) var access: AccessToken?
    /// The one before it: an answer that comes late may still repeat it.
    public private(set) var former: AccessToken?
    public private(set) var isRefreshing = false
    /// Refreshes in a row that failed.
    public private(set) var failures = 0
    public private(set) var notBefore: Timestamp?
    public private(set) var lastFailure: TokenFailure?
    public private(set) var refreshedAt: Timestamp?
    /// The token that the running refresh is to replace because the provider refused it.
    public private(set) var refused: AccessToken?

    public init() {}

    /// Somebody needs a token. `refused`: the one that the provider just refused with 401 or 403.
    public mutating func ask(refused: AccessToken?, at now: Timestamp) -> Answer {
        let usable = access.flatMap { $0.value != refused?.value && $0.isValid(at: now) ? $0 : nil }
        if let usable, isRefreshing || usable.isFresh(at: now) { return .use(usable) }
        if isRefreshing { return .wait(begins: false) }
        if let refused, refused.value == access?.value, now - refused.obtainedAt < TokenDesk.renewedApartMin {
            return .fail(
                TokenFailure(
                    .refused,
                    SluiceError(
                        .providerAuth, "the provider refuses an access token that it has just given; check what the connection may do there"
                    )))
        }
        if let notBefore, now < notBefore, let lastFailure {
            if let usable { return .use(usable) }
            return .fail(TokenFailure(lastFailure.kind, lastFailure.error, retryAfter: notBefore - now))
        }
        isRefreshing = true
        self.refused = refused
        return .wait(begins: true)
    }

    public mutating func succeeded(_ token: AccessToken, at now: Timestamp) {
        if access?.value != token.value { former = access }
        access = token
        isRefreshing = false
        failures = 0
        notBefore = nil
        lastFailure = nil
        refused = nil
        refreshedAt = now
    }

    /// `random` lies in 0..<1.
    public mutating func failed(_ failure: TokenFailure, at now: Timestamp, random: Double) {
        isRefreshing = false
        refused = nil
        failures += 1
        lastFailure = failure
        let pause = failure.kind == .transient ? Backoff.delay(failures: failures, random: random) : TokenDesk.refusalHolds
        notBefore = now + max(pause, failure.retryAfter ?? .zero)
    }

    /// What somebody who waited for a refresh that failed may still use.
    public func usable(insteadOf refused: AccessToken?, at now: Timestamp) -> AccessToken? {
        access.flatMap { $0.value != refused?.value && $0.isValid(at: now) ? $0 : nil }
    }

    /// Somebody mended something: the next who needs a token asks the provider, whatever failed before.
    public mutating func forgetFailure() {
        if isRefreshing { return }
        notBefore = nil
        lastFailure = nil
    }
}
