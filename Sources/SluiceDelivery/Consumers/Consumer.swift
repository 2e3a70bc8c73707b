import SluiceCore
import SluiceStore

/// A consumer as it is defined.
public struct Consumer: Sendable {
    public var id: DestinationID
    public var name: String
    public var triggers: Set<TriggerID>
    public var settings: ConsumerSettings
    public init(id: DestinationID, name: String, triggers: Set<TriggerID>, settings: ConsumerSettings) {
        self.id = id
        self.name = name
        self.triggers = triggers
        self.settings = settings
    }

    public static let kind = "pull"
}

/// How a consumer hands out jobs.
public struct ConsumerSettings: Sendable, Equatable {
    /// How long a worker has a job to itself, unless it asks for another time.
    public var visibility: Span?
    public var attemptsMax: Int?
    public var unackedMax: Int?
    public init() {}

    public static let visibilityDefault = Span.seconds(60)
    public static let visibilityRange = Span.seconds(1)...Span.hours(12)

    public var rules: ConsumerMachine.Rules {
        ConsumerMachine.Rules(
            attemptsMax: attemptsMax ?? ConsumerMachine.Rules.attemptsDefault,
            unackedMax: unackedMax ?? ConsumerMachine.Rules.unackedDefault)
    }

    /// From a destination's settings.
    public init(json: [UInt8]) {
        guard let root = (try? JSONDocument(json))?.root else { return }
        visibility = root["visibility_ms"]?.int64.map(Span.init(milliseconds:))
        attemptsMax = root["attempts_max"]?.int64.map { Int($0) }
        unackedMax = root["unacked_max"]?.int64.map { Int($0) }
    }

    /// The members that are set.
    public func write(to writer: inout JSONWriter) {
        if let visibility { writer.member("visibility_ms", visibility.milliseconds) }
        if let attemptsMax { writer.member("attempts_max", Int64(attemptsMax)) }
        if let unackedMax { writer.member("unacked_max", Int64(unackedMax)) }
    }
}

/// How long a nacked job waits unless the nack says: 1 s, doubled with each attempt, 5 min at most.
public enum NackDelay {
    public static func after(attempts: Int) -> Span { min(.seconds(1 << Int64(min(max(attempts - 1, 0), 12))), .minutes(5)) }
}

/// What `POST /v1/consumers/:name/fetch` asks for.
public struct FetchOrder: Sendable {
    public var jobsMax: Int
    public var waitSeconds: Int
    public var visibility: Span?
    /// What the worker calls itself, for people.
    public var worker: String?
    /// A lease that is acked first.
    public var ack: String?
    public init(jobsMax: Int = 100, waitSeconds: Int = 0, visibility: Span? = nil, worker: String? = nil, ack: String? = nil) {
        self.jobsMax = jobsMax
        self.waitSeconds = waitSeconds
        self.visibility = visibility
        self.worker = worker
        self.ack = ack
    }
    public static let jobsMax = 1...1000
    public static let waitSeconds = 0...60
    /// In characters (Unicode scalars).
    public static let workerLengthMax = 64
}

/// Jobs on loan.
public struct FetchedJobs: Sendable {
    /// Nil where there are no jobs.
    public var lease: LeaseToken?
    public var expiresAt: Timestamp
    public var jobs: [ConsumerBatch.Job]
    /// Whether more may be there now.
    public var more: Bool
    /// Nothing new is handed out until some jobs are acked.
    public var isAtBound: Bool
    public init(lease: LeaseToken?, expiresAt: Timestamp, jobs: [ConsumerBatch.Job], more: Bool, isAtBound: Bool) {
        self.lease = lease
        self.expiresAt = expiresAt
        self.jobs = jobs
        self.more = more
        self.isAtBound = isAtBound
    }
}
