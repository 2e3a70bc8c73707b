import SluiceCore

/// What must still happen for a trigger, and by when.
struct Obligation {
    var invariant: Invariant
    /// A cycle whose read bound lies here or later fulfils it.
    var from: Timestamp
    var deadline: Timestamp
    /// The throttle may postpone it.
    var isThrottled: Bool
    /// It takes a cycle that succeeds; otherwise one that starts.
    var needsSuccess: Bool
}

/// What is known to be true of one trigger, kept apart from everything that is tested.
struct Watch {
    let resource: Int
    let listens: Bool
    let visibilityLag: Span
    let safetyInterval: Span

    /// Accepted webhooks that no successful cycle could see yet, oldest first.
    var pending: [(sequence: InboxSequence, arrivedAt: Timestamp)] = []
    var lastAcceptedAt: Timestamp?
    var obligations: [Obligation] = []
    var lastStartAt: Timestamp?
    /// The last that was for webhooks; after a restart the last of all.
    var lastSignalStartAt: Timestamp?
    /// The start of the last cycle that succeeded.
    var lastSuccessAt: Timestamp?
    var webhookStarts: [Timestamp] = []
    /// Until when something that is known held the trigger back.
    var excusedUntil = Timestamp.distantPast
    /// As of the last event: how long that will go on; in the past if nothing does.
    var excuseEnd = Timestamp.distantFuture
    /// A failed poll waits until then, unless somebody asked for one.
    var notBefore: Timestamp?
    var isAsked = false
    /// The cycle that runs was asked for.
    var isAnswering = false
    var wasPaused = false
    /// Changes that are no job yet.
    var outstanding: [Int] = []
    var jobs: Set<Int> = []
    /// Records of which a state is a job.
    var records: Set<Int> = []
    /// How far each record's states were read by a description that ignores changes, in the granules of the feed.
    var ignoredUpTo: [Int: Int64] = [:]
    /// What the cursor that was committed last makes the provider list: of each partition, or of all as one.
    var bounds: [Int: Int64] = [:]
    static let all = -1
    /// Jobs that may come once more, as a warning has said.
    var mayRepeat: Set<Int> = []
    var repeatedJobs = 0
    /// How far partitions were read that rest, or all as one before there were any, in the provider's milliseconds.
    var restingMarks: [Int: Int64] = [:]
    /// When the provider last refused to show a partition to this trigger.
    var refusedAt: [Int: Timestamp] = [:]
    /// Jobs of a partition that no cursor names, of a page of which some chunks were committed, and not its cursor.
    var unfinished: Set<Int> = []

    init(resource: Int, listens: Bool, visibilityLag: Span, safetyInterval: Span) {
        self.resource = resource
        self.listens = listens
        self.visibilityLag = visibilityLag
        self.safetyInterval = safetyInterval
    }

    /// What is overdue at `time`, and since when.
    func overdue(at time: Timestamp, slack: Span) -> (Invariant, Timestamp)? {
        func isPast(_ deadline: Timestamp) -> Bool { time > max(deadline, excusedUntil) + slack }
        let throttleEnd = lastStartAt.map { $0 + TriggerSchedule.throttle } ?? .distantPast
        if let first = pending.first {
            let deadline = max(first.arrivedAt + visibilityLag, throttleEnd)
            if isPast(deadline) { return (.P2_pollStartsInTime, deadline) }
            let latest = max(first.arrivedAt, lastStartAt.map { $0 + TriggerSchedule.startsApartMax } ?? .distantPast)
            if isPast(latest) { return (.P5_startsAtMost25sApart, latest) }
        }
        for obligation in obligations {
            let deadline = obligation.isThrottled ? max(obligation.deadline, throttleEnd) : obligation.deadline
            if isPast(deadline) { return (obligation.invariant, deadline) }
        }
        if let lastSuccessAt, isPast(lastSuccessAt + safetyInterval) { return (.P6_safetyInterval, lastSuccessAt + safetyInterval) }
        return nil
    }
}

/// A set of faults.
public struct FaultSet: Sendable, Equatable {
    private var bits: UInt64 = 0
    public init() {}
    public mutating func insert(_ fault: Fault) { bits |= 1 << FaultSet.bit(fault) }
    public func contains(_ fault: Fault) -> Bool { bits & 1 << FaultSet.bit(fault) != 0 }

    private static let order = Dictionary(uniqueKeysWithValues: Fault.allCases.enumerated().map { ($1, UInt64($0)) })
    private static func bit(_ fault: Fault) -> UInt64 { order[fault] ?? 0 }
}
