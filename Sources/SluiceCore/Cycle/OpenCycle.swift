/// Why a poll cycle was started. Each poll records its cause (P5), and a job keeps the cause of the cycle that found it.
public enum PollCause: String, Sendable, Codable, CaseIterable {
    /// The trigger was started.
    case start
    /// The trigger was resumed after a pause.
    case resume
    /// A webhook signalled one of the trigger's topics.
    case webhook
    /// The safety interval passed.
    case safety
    /// The interval of a polling trigger passed.
    case interval
    /// Webhooks could not be accepted for a while: the process was down, or answered 429 or 503.
    case catchUp = "catch_up"
    /// Somebody asked for it.
    case manual
    /// The cycle before failed.
    case retry
    /// A failed trigger tries whether the fault is gone.
    case probe
    /// A long-polling trigger holds a request open until there is news.
    case hold = "long_poll"
    /// No cycle of the trigger: somebody had a time read again. Its jobs have this cause; no poll does.
    case backfill
    /// A callback ended: no poll of a trigger.
    case callback
}

/// A cycle that has begun and not yet succeeded, as it is committed with each of its pages. A resumed cycle goes on from
/// exactly this, so it covers no more than the first one saw.
public struct OpenCycle: Sendable, Equatable, Codable {
    /// The trigger's cycles, counted from 1.
    public var number: Int64
    public var cause: PollCause
    public var startedAt: Timestamp
    /// The cycle promises to see everything that was visible at this moment: that of its first request.
    public var readBound: Timestamp
    /// What succeeding covers: the last signal that is older than the read bound by at least the visibility lag.
    public var notedSequence: InboxSequence
    /// The number of the next page, from 0.
    public var nextPage: Int
    /// Where the next page goes on; JSON, the connector's own.
    public var pageState: [UInt8]?
    /// Jobs that the cycle has made so far.
    public var jobs: Int
    /// Name, version and hash of the connector that began it.
    public var connector: String

    public init(
        number: Int64, cause: PollCause, startedAt: Timestamp, readBound: Timestamp, notedSequence: InboxSequence, nextPage: Int = 0,
        pageState: [UInt8]? = nil, jobs: Int = 0, connector: String = ""
    ) {
        self.number = number
        self.cause = cause
        self.startedAt = startedAt
        self.readBound = readBound
        self.notedSequence = notedSequence
        self.nextPage = nextPage
        self.pageState = pageState
        self.jobs = jobs
        self.connector = connector
    }
}
