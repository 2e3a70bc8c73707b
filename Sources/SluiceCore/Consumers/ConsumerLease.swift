/// Jobs that were handed out together, and what became of them so far.
///
/// Each job of `jobs` is one of: held (neither acked nor nacked), acked, nacked, or lost: handed out to somebody else after
/// the time ran out, dead, or given up by a seek.
public struct ConsumerLease: Sendable, Equatable {
    /// Jobs that were handed out for the same time: 1 for the first.
    public struct Share: Sendable, Equatable {
        public var attempt: Int
        public var jobs: SequenceSet
        public init(attempt: Int, jobs: SequenceSet) {
            self.attempt = attempt
            self.jobs = jobs
        }
    }

    /// Counts a consumer's leases: the fencing token.
    public let number: Int64
    /// Random, so that a number that comes again after a restore from a backup is not taken for the one before.
    public let nonce: Int64
    /// Who took it, as they call themselves.
    public var worker: String?
    public var takenAt: Timestamp
    /// From then on its jobs may be handed out again.
    public var expiresAt: Timestamp
    /// How long it was asked for at last: a stored `expiresAt` lies no further away than this, whatever the clock says.
    public var visibility: Span
    /// As the worker got them: without those that a filter kept back.
    public internal(set) var jobs: SequenceSet
    public var held: [Share]
    public var nacked: SequenceSet
    public var lost: SequenceSet

    public init(
        number: Int64, nonce: Int64, worker: String?, takenAt: Timestamp, expiresAt: Timestamp, visibility: Span, jobs: SequenceSet,
        held: [Share], nacked: SequenceSet = SequenceSet(), lost: SequenceSet = SequenceSet()
    ) {
        self.number = number
        self.nonce = nonce
        self.worker = worker
        self.takenAt = takenAt
        self.expiresAt = expiresAt
        self.visibility = visibility
        self.jobs = jobs
        self.held = held
        self.nacked = nacked
        self.lost = lost
    }

    public var isOpen: Bool { !held.isEmpty }
    public var heldCount: Int { held.reduce(0) { $0 + $1.jobs.count } }
    public var heldJobs: SequenceSet {
        if held.count == 1 { return held[0].jobs }
        var all = SequenceSet()
        for share in held { all.insert(share.jobs) }
        return all
    }

    /// Takes jobs out of what is held; returns them with their attempts.
    mutating func take(_ jobs: SequenceSet) -> [Share] {
        var taken: [Share] = []
        for index in held.indices {
            let common = held[index].jobs.intersection(jobs)
            guard !common.isEmpty else { continue }
            held[index].jobs.remove(common)
            taken.append(Share(attempt: held[index].attempt, jobs: common))
        }
        held.removeAll { $0.jobs.isEmpty }
        return taken
    }
}

/// Jobs that were nacked or replayed, and come again.
public struct ReturnedJobs: Sendable, Equatable {
    public let id: Int64
    public var jobs: SequenceSet
    /// How often they were handed out.
    public var attempts: Int
    public var dueAt: Timestamp
    /// What the nack said.
    public var reason: String?
    public init(id: Int64, jobs: SequenceSet, attempts: Int, dueAt: Timestamp, reason: String?) {
        self.id = id
        self.jobs = jobs
        self.attempts = attempts
        self.dueAt = dueAt
        self.reason = reason
    }
}
