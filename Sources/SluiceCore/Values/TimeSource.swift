/// Where the shells get the time from. Elapsed time is monotonic: a source never runs backwards while the process lives,
/// whatever is done to the machine's clock.
public protocol TimeSource: Sendable {
    func now() -> Timestamp
}

/// Something that people should look at. It stands until it is cleared.
public struct Alarm: Sendable, Equatable {
    /// The set can grow.
    public struct Kind: RawRepresentable, Hashable, Sendable, ExpressibleByStringLiteral {
        public let rawValue: String
        public init(rawValue: String) { self.rawValue = rawValue }
        public init(stringLiteral value: String) { self.rawValue = value }
        /// Webhooks of a connection keep failing verification: a wrong secret, or an attack.
        public static let verificationFailing: Self = "verification_failing"
        /// The provider refuses the connection's credentials.
        public static let connectionRefused: Self = "connection_refused"
        /// A trigger polls in vain.
        public static let triggerFailing: Self = "trigger_failing"
        /// The source keeps less than the time since the last successful poll.
        public static let gap: Self = "gap"
        /// The provider refuses some of a trigger's partitions; the others are read.
        public static let partitionsLeftOut: Self = "partitions_left_out"
        /// A trigger reads page after page without a job and without moving.
        public static let triggerResting: Self = "trigger_resting"
        /// The store does not take what it must: disk full, or too slow.
        public static let storage: Self = "storage"
        /// A destination's deliveries became dead letters.
        public static let deadLetters: Self = "dead_letters"
        /// A trigger's last backfill or audit came to no end.
        public static let backfillFailed: Self = "backfill_failed"
        /// Another process polls this store, and this one has stopped.
        public static let leaseLost: Self = "lease_lost"
        /// A connector's file cannot be loaded; the last good one runs on.
        public static let connectorBroken: Self = "connector_broken"
        /// A record could not be keyed.
        public static let quarantined: Self = "quarantined"
        /// A trigger's subscription at its provider cannot be made or removed.
        public static let subscriptionFailing: Self = "subscription_failing"
        /// A subscription is near its end, and refreshing it fails.
        public static let subscriptionLapsing: Self = "subscription_lapsing"
        /// A subscription has ended, and no other one has taken its place yet.
        public static let subscriptionLapsed: Self = "subscription_lapsed"
        /// The provider has, or may have, a subscription with our URL that no trigger needs.
        public static let subscriptionLeftBehind: Self = "subscription_left_behind"
    }
    public var kind: Kind
    /// What it is about: `connection NAME`, `trigger NAME`, `destination NAME`, `store`.
    public var subject: String
    /// What is wrong and what mends it.
    public var message: String
    public init(kind: Kind, subject: String, message: String) {
        self.kind = kind
        self.subject = subject
        self.message = message
    }
}

/// Takes alarms. Raising one that stands already replaces its message and keeps its time.
public protocol AlarmReporting: Sendable {
    func raise(_ alarm: Alarm)
    func clear(_ kind: Alarm.Kind, subject: String)
}
