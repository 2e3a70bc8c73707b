import HeapModule

/// What a consumer has handed out, and what it hands out next. Decides for all workers of one consumer.
///
/// ```
///                 takeNew                       ack
///  not handed out ───────▶ held by a lease ───────────▶ settled
///                            │   ▲      │ time ran out, or nacked, too often
///      nack, time ran out,   │   │      └───────────────▶ dead ──replay──▶ waiting to come again
///      undelivered           ▼   │ takeReady
///                      waiting to come again ──expired──▶ dead
/// ```
/// Jobs are known by their place in the order of commits. What lies after `position` was not handed out; of what lies before,
/// only the unsettled is kept: settled jobs leave no trace, so a consumer that keeps up costs a row a lease and nothing a job.
///
/// - A job is held by one lease at most. One whose time ran out keeps its jobs until somebody else gets them: an ack that
///   comes before is good, one that comes after is refused.
/// - What comes again comes before what is new, the oldest first.
/// - Refusals change nothing, and repeating a call that was made changes nothing.
public struct ConsumerMachine: Sendable {
    public struct Rules: Sendable {
        /// A job that was handed out this often and is not acked becomes a dead letter.
        public var attemptsMax: Int
        /// With this many jobs unacked nothing new is handed out.
        public var unackedMax: Int
        public init(attemptsMax: Int = attemptsDefault, unackedMax: Int = unackedDefault) {
            self.attemptsMax = attemptsMax
            self.unackedMax = unackedMax
        }
        public static let attemptsDefault = 20
        public static let unackedDefault = 50_000
    }

    /// Jobs that became dead letters.
    public struct Dead: Sendable, Equatable {
        public var jobs: SequenceSet
        public var attempts: Int
        /// `exhausted`, `expired`, `filter`, `detached`.
        public var reason: String
        /// What the worker or the filter said, for people.
        public var detail: String?
        public init(jobs: SequenceSet, attempts: Int, reason: String, detail: String? = nil) {
            self.jobs = jobs
            self.attempts = attempts
            self.reason = reason
            self.detail = detail
        }
    }

    /// What a call changed and is to be stored.
    public struct Changes: Sendable {
        public var isHeaderChanged = false
        public var leases: Set<Int64> = []
        public var returned: Set<Int64> = []
        public var dead: [Dead] = []
        /// Replayed dead letters that were acked.
        public var delivered = SequenceSet()
        public init() {}
        public var isEmpty: Bool { !isHeaderChanged && leases.isEmpty && returned.isEmpty && dead.isEmpty && delivered.isEmpty }
    }

    /// What is to be handed out with the next lease.
    public struct HandOut: Sendable {
        public private(set) var shares: [ConsumerLease.Share] = []
        public private(set) var count = 0
        public var bytes = 0
        public init() {}

        mutating func add(_ jobs: SequenceSet, attempt: Int) {
            count += jobs.count
            if let index = shares.firstIndex(where: { $0.attempt == attempt }) {
                shares[index].jobs.insert(jobs)
            } else {
                shares.append(ConsumerLease.Share(attempt: attempt, jobs: jobs))
            }
        }
    }

    /// What there is of a job that may be handed out again.
    public enum Standing: Sendable {
        case there(bytes: Int)
        case gone
        /// Its trigger is this consumer's no longer: nobody knows what of it a worker may get.
        case detached
    }

    enum Source: Hashable, Sendable {
        case lease(Int64, attempt: Int)
        case returned(Int64)
    }
    /// Jobs that may be handed out again; what has changed since is found when their turn comes.
    struct Ready: Comparable, Sendable {
        var first: Int64
        var source: Source
        static func < (left: Ready, right: Ready) -> Bool { left.first < right.first }
        static func == (left: Ready, right: Ready) -> Bool { left.first == right.first }
    }
    enum Subject: Hashable, Sendable { case lease(Int64), returned(Int64) }
    struct Timer: Comparable, Sendable {
        var at: Timestamp
        var subject: Subject
        static func < (left: Timer, right: Timer) -> Bool { left.at < right.at }
        static func == (left: Timer, right: Timer) -> Bool { left.at == right.at }
    }

    /// Everything up to here was handed out, or is not this consumer's.
    public internal(set) var position: Int64
    /// The furthest that `position` ever was: between them, jobs may be unacked from before it was moved back.
    public internal(set) var highWater: Int64
    public internal(set) var lastLease: Int64
    public internal(set) var lastReturned: Int64
    /// Those that hold jobs, and closed ones that were recalled for a call.
    public internal(set) var leases: [Int64: ConsumerLease] = [:]
    public internal(set) var returned: [Int64: ReturnedJobs] = [:]
    /// Jobs that were dead letters and are to be delivered after all.
    public internal(set) var replayed: SequenceSet
    /// Jobs that are held or wait to come again: the same as in `leases` and `returned`, found without looking through these.
    var awaited = SequenceSet()
    /// How many jobs are held or wait to come again.
    public var unacked: Int { awaited.count }
    var ready = Heap<Ready>()
    var timers = Heap<Timer>()
    /// With so many timers more than twice of what they are for, those of what is settled are forgotten.
    var timersSpare = 64
    var changes = Changes()
    /// `position` as it is stored.
    var storedPosition: Int64
    /// A position that moved over others' jobs only is stored every so often.
    static let positionStep: Int64 = 5000

    /// As it was stored. Times are clamped to what was asked for, so that a clock that jumped back holds nothing up.
    public init(
        position: Int64 = 0, highWater: Int64 = 0, lastLease: Int64 = 0, leases: [ConsumerLease] = [], returned: [ReturnedJobs] = [],
        replayed: SequenceSet = SequenceSet(), at now: Timestamp
    ) {
        self.position = position
        self.highWater = max(position, highWater)
        self.lastLease = lastLease
        self.replayed = replayed
        storedPosition = position
        lastReturned = returned.map(\.id).max() ?? 0
        for var lease in leases where lease.isOpen {
            lease.expiresAt = min(lease.expiresAt, now + lease.visibility)
            self.leases[lease.number] = lease
            awaited.insert(lease.heldJobs)
            timers.insert(Timer(at: lease.expiresAt, subject: .lease(lease.number)))
        }
        for var group in returned where !group.jobs.isEmpty {
            group.dueAt = min(group.dueAt, now + ConsumerMachine.delayMax)
            self.returned[group.id] = group
            awaited.insert(group.jobs)
            timers.insert(Timer(at: group.dueAt, subject: .returned(group.id)))
        }
    }

    /// The longest that a nack may put a job off.
    public static let delayMax = Span.hours(24)

    /// What is to be stored: since the last `stored()`.
    public var unstored: Changes {
        var changes = changes
        if position - storedPosition >= ConsumerMachine.positionStep || position < storedPosition { changes.isHeaderChanged = true }
        return changes
    }

    /// Everything is stored. Forgets what is closed.
    public mutating func stored() {
        if unstored.isHeaderChanged { storedPosition = position }
        for number in changes.leases where leases[number]?.isOpen == false { leases[number] = nil }
        changes = Changes()
        tidyTimers()
    }

    /// Forgets the timers of what is settled, which could have lasted for half a day.
    private mutating func tidyTimers() {
        guard timers.count > 2 * (leases.count + returned.count) + timersSpare else { return }
        var kept: Set<Subject> = []
        timers = Heap(timers.unordered.filter { isCurrent($0) && kept.insert($0.subject).inserted })
    }

    private func isCurrent(_ timer: Timer) -> Bool {
        switch timer.subject {
        case .lease(let number): leases[number].map { $0.isOpen && $0.expiresAt == timer.at } ?? false
        case .returned(let id): returned[id]?.dueAt == timer.at
        }
    }

    /// Makes a closed lease known again for one call, so that what was settled with it is answered truly.
    public mutating func recall(_ lease: ConsumerLease) {
        if leases[lease.number] == nil { leases[lease.number] = lease }
    }

    /// Forgets a lease that was only recalled.
    public mutating func dismiss(_ number: Int64) {
        if leases[number]?.isOpen == false, !changes.leases.contains(number) { leases[number] = nil }
    }

    // MARK: Handing out

    /// Lets go of what ran out or is due, and of what was handed out too often.
    public mutating func release(at now: Timestamp, _ rules: Rules) {
        while let timer = timers.min, timer.at <= now {
            timers.removeMin()
            switch timer.subject {
            case .lease(let number):
                guard let lease = leases[number], lease.expiresAt == timer.at else { continue }
                for share in lease.held {
                    if share.attempt >= rules.attemptsMax {
                        lose(share.jobs, of: number)
                        die(share.jobs, attempts: share.attempt, reason: "exhausted", detail: "not acked in time")
                    } else if let first = share.jobs.first {
                        ready.insert(Ready(first: first, source: .lease(number, attempt: share.attempt)))
                    }
                }
            case .returned(let id):
                guard let group = returned[id], group.dueAt == timer.at, let first = group.jobs.first else { continue }
                ready.insert(Ready(first: first, source: .returned(id)))
            }
        }
    }

    /// Takes what may be handed out again, the oldest first, until `limit` jobs or `bytesMax` are reached; at least one.
    /// `look` says what there is of a job: one that is gone is settled, a detached one becomes a dead letter. True: more would have
    /// been there.
    public mutating func takeReady(
        into handOut: inout HandOut, limit: Int, bytesMax: Int, at now: Timestamp, look: (Int64) throws -> Standing
    ) rethrows -> Bool {
        while let entry = ready.min {
            guard let jobs = available(entry.source, at: now), let first = jobs.first else {
                ready.removeMin()
                continue
            }
            if first != entry.first {
                ready.replaceMin(with: Ready(first: first, source: entry.source))
                continue
            }
            if handOut.count >= limit { return true }
            ready.removeMin()
            let last = min(jobs.runs[0].last, (ready.min?.first ?? .max) - 1, first + Int64(limit - handOut.count) - 1)
            let isFull = try take(SequenceSet.Run(first, max(first, last)), from: entry.source, into: &handOut, bytesMax, look)
            if let next = available(entry.source, at: now)?.first { ready.insert(Ready(first: next, source: entry.source)) }
            if isFull { return true }
        }
        return false
    }

    private func available(_ source: Source, at now: Timestamp) -> SequenceSet? {
        switch source {
        case .returned(let id): return returned[id]?.jobs
        case .lease(let number, let attempt):
            guard let lease = leases[number], lease.expiresAt <= now else { return nil }
            return lease.held.first { $0.attempt == attempt }?.jobs
        }
    }

    private mutating func take(
        _ run: SequenceSet.Run, from source: Source, into handOut: inout HandOut, _ bytesMax: Int, _ look: (Int64) throws -> Standing
    ) rethrows -> Bool {
        var (taken, gone, detached) = (SequenceSet(), SequenceSet(), SequenceSet())
        var isFull = false
        for job in run.first...run.last {
            let bytes: Int
            switch try look(job) {
            case .there(let found): bytes = found
            case .gone:
                gone.insert(job)
                continue
            case .detached:
                detached.insert(job)
                continue
            }
            if handOut.count + taken.count > 0, handOut.bytes + bytes > bytesMax {
                isFull = true
                break
            }
            handOut.bytes += bytes
            taken.insert(job)
        }
        let attempts = withdraw(taken, from: source)
        handOut.add(taken, attempt: attempts + 1)
        if !gone.isEmpty {
            _ = withdraw(gone, from: source)
            awaited.remove(gone)
            replayed.remove(gone)
        }
        if !detached.isEmpty {
            _ = withdraw(detached, from: source)
            die(detached, attempts: attempts, reason: "detached")
        }
        return isFull
    }

    /// Takes jobs away from where they wait; returns how often they were handed out.
    private mutating func withdraw(_ jobs: SequenceSet, from source: Source) -> Int {
        switch source {
        case .lease(let number, let attempt):
            lose(jobs, of: number)
            return attempt
        case .returned(let id):
            let attempts = returned[id]?.attempts ?? 0
            returned[id]?.jobs.remove(jobs)
            if returned[id]?.jobs.isEmpty == true { returned[id] = nil }
            changes.returned.insert(id)
            return attempts
        }
    }

    /// How many new jobs may be handed out.
    public func roomForNew(_ rules: Rules, limit: Int, _ handOut: HandOut) -> Int {
        max(0, min(limit - handOut.count, rules.unackedMax - unacked))
    }

    /// Takes new jobs; everything up to `through` was looked at.
    public mutating func takeNew(_ jobs: SequenceSet, through: Int64, into handOut: inout HandOut) {
        position = max(position, through)
        highWater = max(highWater, position)
        guard !jobs.isEmpty else { return }
        awaited.insert(jobs)
        handOut.add(jobs, attempt: 1)
    }

    /// Passes over what is not this consumer's.
    public mutating func takeNew(through: Int64) {
        var nothing = HandOut()
        takeNew(SequenceSet(), through: through, into: &nothing)
    }

    /// Has the header stored with the next changes.
    public mutating func touch() { changes.isHeaderChanged = true }

    /// Makes a lease of what was taken; nil if that is nothing.
    public mutating func lease(
        _ handOut: HandOut, nonce: Int64, worker: String?, visibility: Span, at now: Timestamp
    ) -> ConsumerLease? {
        guard handOut.count > 0 else { return nil }
        lastLease += 1
        var jobs = SequenceSet()
        for share in handOut.shares { jobs.insert(share.jobs) }
        let shares = handOut.shares.filter { !$0.jobs.isEmpty }
        let lease = ConsumerLease(
            number: lastLease, nonce: nonce, worker: worker, takenAt: now, expiresAt: now + visibility, visibility: visibility, jobs: jobs,
            held: shares)
        leases[lease.number] = lease
        timers.insert(Timer(at: lease.expiresAt, subject: .lease(lease.number)))
        changes.leases.insert(lease.number)
        changes.isHeaderChanged = true
        return lease
    }

    // MARK: Looking

    /// Jobs held by leases whose time has not run out.
    public func inHand(at now: Timestamp) -> Int { leases.values.reduce(0) { $0 + ($1.expiresAt > now ? $1.heldCount : 0) } }

    /// Everything up to here is settled.
    public var floor: Int64 { min(position, (awaited.first ?? .max) - 1) }

    /// When something may come again; nil: nothing waits for a time.
    public var nextDueAt: Timestamp? { timers.min?.at }

    /// Whether something may be handed out again now.
    public var hasReady: Bool { !ready.isEmpty }

    /// Whether a job is held or waits to come again.
    public func awaits(_ job: Int64) -> Bool { awaited.contains(job) }

    // MARK: Pieces

    /// Of a lease's jobs, these are no longer its.
    mutating func lose(_ jobs: SequenceSet, of number: Int64) {
        _ = leases[number]?.take(jobs)
        leases[number]?.lost.insert(jobs)
        changes.leases.insert(number)
    }

    mutating func die(_ jobs: SequenceSet, attempts: Int, reason: String, detail: String? = nil) {
        guard !jobs.isEmpty else { return }
        awaited.remove(jobs)
        replayed.remove(jobs)
        changes.dead.append(Dead(jobs: jobs, attempts: attempts, reason: reason, detail: detail))
    }

    mutating func comeAgain(_ jobs: SequenceSet, attempts: Int, dueAt: Timestamp, reason: String?) {
        guard !jobs.isEmpty else { return }
        lastReturned += 1
        returned[lastReturned] = ReturnedJobs(id: lastReturned, jobs: jobs, attempts: attempts, dueAt: dueAt, reason: reason)
        timers.insert(Timer(at: dueAt, subject: .returned(lastReturned)))
        changes.returned.insert(lastReturned)
    }
}
