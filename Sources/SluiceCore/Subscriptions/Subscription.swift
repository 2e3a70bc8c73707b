/// One subscription at a provider, as far as decisions need to know it. What only the provider understands (its id, its
/// secret) lies beside it in the store.
public struct Subscription: Sendable, Equatable {
    public enum Phase: String, Sendable, Codable, CaseIterable {
        /// Recorded as an intention; the provider was not asked yet, or did not answer.
        case subscribing
        /// The provider has it, as far as we know.
        case active
        /// It is to go.
        case unsubscribing
        /// The provider has it, or may have it, and no trigger needs it: for people to look at.
        case leftBehind = "left_behind"
    }

    public var id: SubscriptionID
    public var phase: Phase
    /// What it was made from: where the trigger now needs another one, it is replaced.
    public var key: String
    /// Whether it is known how the provider calls it.
    public var hasOutput = false
    /// A request to subscribe is, or was, under way whose answer we do not know.
    public var isUncertain = false
    /// A request may still take effect at the provider until then: only a check that is made later tells.
    public var doubtUntil: Timestamp?
    /// It drifted, was disabled, ended or cannot be refreshed: another one takes its place.
    public var mustReplace = false
    /// Subscribed again without knowing whether the first time had worked: there may be two.
    public var mayBeDoubled = false
    public var phaseSince: Timestamp
    /// Failures in a row of what is tried now.
    public var attempts = 0
    /// Nothing is tried before.
    public var nextAt: Timestamp
    public var expiresAt: Timestamp?
    public var refreshAt: Timestamp?
    public var checkAt: Timestamp
    public var checkedAt: Timestamp?
    /// What the last check found, as a word or a sentence.
    public var lastCheck: String?
    public var lastError: String?
    /// How the provider calls one that a check found; nil for those that we made.
    public var foundID: String?

    public init(
        id: SubscriptionID, phase: Phase, key: String, foundID: String? = nil, hasOutput: Bool = false, lastError: String? = nil,
        at now: Timestamp
    ) {
        self.id = id
        self.phase = phase
        self.key = key
        self.foundID = foundID
        self.hasOutput = hasOutput
        self.lastError = lastError
        phaseSince = now
        nextAt = now
        checkAt = now
    }

    /// Made, or being made, to be used.
    public var isLive: Bool { phase == .subscribing || phase == .active }

    public func isLapsed(at now: Timestamp) -> Bool { phase == .active && expiresAt.map { $0 <= now } ?? false }
}

/// How patient a subscription's machine is.
public struct SubscriptionPolicy: Sendable, Equatable {
    /// The part of its life after which a subscription is refreshed, less up to `refreshJitter`.
    public var refreshPart = 0.8
    public var refreshJitter = 0.05
    /// How often what the provider has is compared, less up to a tenth.
    public var checkInterval = Span.hours(12)
    /// After a check that failed.
    public var checkRetry = Span.minutes(5)
    /// After a start, checks are spread over this.
    public var checkSpread = Span.minutes(1)
    /// For so long a request whose answer we did not get may still take effect.
    public var settleSpan = Span.seconds(30)
    /// Another one never takes the place of one that is younger.
    public var replaceSpanMin = Span.seconds(1)
    /// Unsubscribing is given up, visibly, after this time and at least `triesMin` tries …
    public var giveUpSpan = Span.days(7)
    public var triesMin = 3
    /// … or after so many tries that failed for a reason which asking again does not mend.
    public var permanentTriesMax = 20
    public init() {}
}

/// What a connector can do about subscriptions of a trigger type.
public struct SubscriptionAbilities: Sendable, Equatable {
    public var canRefresh: Bool
    public var canCheck: Bool
    /// Subscribing the same URL again replaces what the provider has.
    public var isIdempotent: Bool
    public init(canRefresh: Bool = false, canCheck: Bool = false, isIdempotent: Bool = false) {
        self.canRefresh = canRefresh
        self.canCheck = canCheck
        self.isIdempotent = isIdempotent
    }
}
