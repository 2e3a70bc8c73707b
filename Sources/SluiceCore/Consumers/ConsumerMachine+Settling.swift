/// What workers say about the jobs of their leases, and what people do to a consumer.
extension ConsumerMachine {
    /// What a call settled.
    public struct Settled: Sendable, Equatable {
        /// Jobs that this call settled.
        public var jobs: Int
        /// Jobs that the same was said of before.
        public var repeated: Int
        /// Jobs of the lease that are still held.
        public var inHand: Int
        public init(jobs: Int, repeated: Int, inHand: Int) {
            self.jobs = jobs
            self.repeated = repeated
            self.inHand = inHand
        }
    }

    /// These jobs are done. `jobs` nil: all that the lease holds. Throws `.notFound`, `.fenced` or `.conflict` with nothing
    /// changed.
    public mutating func ack(_ number: Int64, nonce: Int64, jobs: SequenceSet?) throws(SluiceError) -> Settled {
        let lease = try known(number, nonce)
        let wanted = try targets(jobs, of: lease, without: lease.nacked)
        let nacked = wanted.intersection(lease.nacked)
        guard nacked.isEmpty else {
            throw SluiceError(
                .conflict,
                "\(ConsumerMachine.jobs(nacked.count)) of these \(nacked.count == 1 ? "was" : "were") nacked with this lease before; they come again",
                context: ["nacked": String(nacked.count)])
        }
        let done = settle(wanted, of: number)
        return Settled(jobs: done, repeated: wanted.count - done, inHand: leases[number]?.heldCount ?? 0)
    }

    /// These jobs are to come again after `delay` of their attempts, or are dead if they came too often. `jobs` nil: all that
    /// the lease holds. Throws `.notFound`, `.fenced` or `.conflict` with nothing changed.
    ///
    /// A lease of which everything was acked has nothing that could come again: that is a conflict, as whoever says so would
    /// wait for jobs in vain. (An ack of one of which everything was nacked loses nothing, and is none.)
    public mutating func nack(
        _ number: Int64, nonce: Int64, jobs: SequenceSet?, delay: (_ attempts: Int) -> Span, reason: String?, at now: Timestamp,
        _ rules: Rules
    ) throws(SluiceError) -> Settled {
        let lease = try known(number, nonce)
        let held = lease.heldJobs
        let acked = lease.jobs.subtracting(held).subtracting(lease.nacked).subtracting(lease.lost)
        let wanted = try jobs == nil && !held.isEmpty ? held : targets(jobs, of: lease, without: acked)
        let opposite = jobs == nil && !wanted.isEmpty ? SequenceSet() : (jobs ?? acked).intersection(acked)
        guard opposite.isEmpty else {
            throw SluiceError(
                .conflict,
                "\(ConsumerMachine.jobs(opposite.count)) of these \(opposite.count == 1 ? "was" : "were") acked with this lease before, so "
                    + "they do not come again",
                context: ["acked": String(opposite.count)])
        }
        let shares = leases[number]?.take(wanted) ?? []
        var count = 0
        for share in shares {
            count += share.jobs.count
            leases[number]?.nacked.insert(share.jobs)
            if share.attempt >= rules.attemptsMax {
                die(share.jobs, attempts: share.attempt, reason: "exhausted", detail: reason ?? "nacked")
            } else {
                comeAgain(share.jobs, attempts: share.attempt, dueAt: now + delay(share.attempt), reason: reason)
            }
        }
        if count > 0 { changes.leases.insert(number) }
        return Settled(jobs: count, repeated: wanted.count - count, inHand: leases[number]?.heldCount ?? 0)
    }

    /// Gives a worker more time, from now. A lease that ran out and lost nothing is good again.
    public mutating func extend(
        _ number: Int64, nonce: Int64, by visibility: Span, at now: Timestamp
    ) throws(SluiceError) -> (expiresAt: Timestamp, settled: Settled) {
        let lease = try known(number, nonce)
        if !lease.isOpen, !lease.lost.isEmpty { throw ConsumerMachine.lost(lease.lost) }
        if lease.isOpen {
            leases[number]?.expiresAt = now + visibility
            leases[number]?.visibility = visibility
            timers.insert(Timer(at: now + visibility, subject: .lease(number)))
            changes.leases.insert(number)
        }
        return (
            leases[number]?.expiresAt ?? lease.expiresAt, Settled(jobs: 0, repeated: 0, inHand: lease.heldCount)
        )
    }

    /// A lease that never reached its worker: its jobs come again at once, and it does not count as an attempt.
    public mutating func giveBack(_ number: Int64, nonce: Int64, at now: Timestamp) throws(SluiceError) {
        let lease = try known(number, nonce)
        for share in lease.held {
            lose(share.jobs, of: number)
            comeAgain(share.jobs, attempts: share.attempt - 1, dueAt: now, reason: nil)
        }
    }

    /// Jobs of a lease that no worker is to get: filtered out, and those that the filter fails on, with what it said. The lease is
    /// without them from then on.
    public mutating func sift(
        _ number: Int64, nonce: Int64, skipped: SequenceSet, refused: [(job: Int64, detail: String)]
    ) throws(SluiceError) {
        let lease = try known(number, nonce)
        let lost = lease.lost.intersection(skipped)
        guard lost.isEmpty, !refused.contains(where: { lease.lost.contains($0.job) }) else { throw ConsumerMachine.lost(lease.lost) }
        _ = settle(skipped, of: number)
        leases[number]?.jobs.remove(skipped)
        for (job, detail) in refused {
            let one = SequenceSet(SequenceSet.Run(job, job))
            for share in leases[number]?.take(one) ?? [] {
                die(share.jobs, attempts: share.attempt - 1, reason: "filter", detail: detail)
            }
            leases[number]?.jobs.remove(one)
        }
        changes.leases.insert(number)
    }

    /// Goes on from another place, as if everything before it were acked and nothing after it. Whatever is held or waits to
    /// come again is given up, but for dead letters that are being replayed: these come again.
    public mutating func seek(to target: Int64, at now: Timestamp) {
        var kept: [SequenceSet] = []
        for (number, lease) in leases {
            for share in lease.held {
                lose(share.jobs, of: number)
                kept.append(share.jobs.intersection(replayed))
            }
        }
        for (id, group) in returned {
            kept.append(group.jobs.intersection(replayed))
            returned[id] = nil
            changes.returned.insert(id)
        }
        awaited = SequenceSet()
        for jobs in kept {
            awaited.insert(jobs)
            comeAgain(jobs, attempts: 0, dueAt: now, reason: nil)
        }
        position = target
        highWater = max(highWater, target)
        changes.isHeaderChanged = true
    }

    /// Moves the position back for jobs that were not this consumer's before. What is unacked stays so.
    public mutating func rewind(to target: Int64) {
        guard target < position else { return }
        position = target
        changes.isHeaderChanged = true
    }

    /// Everything up to `through` is too old: what waits becomes a dead letter, `expired`. What a worker has in hand is left
    /// alone, and so is what is being replayed, which counts from its replay: unless it is in `jobs`.
    public mutating func expire(through: Int64, and jobs: SequenceSet, at now: Timestamp) {
        let old = through < 0 ? SequenceSet() : SequenceSet(SequenceSet.Run(0, through)).subtracting(replayed)
        for (id, group) in returned {
            var past = group.jobs.intersection(old)
            past.insert(group.jobs.intersection(jobs))
            guard !past.isEmpty else { continue }
            returned[id]?.jobs.remove(past)
            if returned[id]?.jobs.isEmpty == true { returned[id] = nil }
            changes.returned.insert(id)
            die(past, attempts: group.attempts, reason: "expired")
        }
        for (number, lease) in leases where lease.expiresAt <= now {
            for share in lease.held {
                var past = share.jobs.intersection(old)
                past.insert(share.jobs.intersection(jobs))
                guard !past.isEmpty else { continue }
                lose(past, of: number)
                die(past, attempts: share.attempt, reason: "expired")
            }
        }
    }

    /// New jobs that are too old to be handed out at all.
    public mutating func expireNew(_ jobs: SequenceSet, through: Int64) {
        position = max(position, through)
        highWater = max(highWater, position)
        changes.isHeaderChanged = true
        awaited.insert(jobs)
        die(jobs, attempts: 0, reason: "expired")
    }

    /// Dead letters that are to be delivered after all. What is unacked already stays as it is.
    public mutating func replay(_ jobs: SequenceSet, at now: Timestamp) {
        let new = withoutAwaited(jobs)
        replayed.insert(jobs)
        awaited.insert(new)
        comeAgain(new, attempts: 0, dueAt: now, reason: nil)
    }

    /// Those that are neither held nor wait to come again.
    public func withoutAwaited(_ jobs: SequenceSet) -> SequenceSet { jobs.subtracting(awaited) }

    // MARK: Pieces

    private func known(_ number: Int64, _ nonce: Int64) throws(SluiceError) -> ConsumerLease {
        guard let lease = leases[number], lease.nonce == nonce else { throw ConsumerMachine.unknown }
        return lease
    }

    /// Of a lease that this consumer does not have, or no longer remembers.
    public static let unknown = SluiceError(
        .notFound, "this consumer knows no such lease: use the `lease` that a fetch gave; one that was settled long ago is forgotten")

    private func targets(
        _ jobs: SequenceSet?, of lease: ConsumerLease, without: SequenceSet
    ) throws(SluiceError) -> SequenceSet {
        let wanted = jobs ?? lease.jobs.subtracting(without)
        let others = wanted.subtracting(lease.jobs)
        guard others.isEmpty else {
            throw SluiceError(
                .notFound,
                "\(ConsumerMachine.jobs(others.count)) of these \(others.count == 1 ? "was" : "were") not handed out with this lease: nothing was changed",
                context: ["others": String(others.count)])
        }
        let lost = wanted.intersection(lease.lost)
        guard lost.isEmpty else { throw ConsumerMachine.lost(lost) }
        return wanted
    }

    private static func lost(_ jobs: SequenceSet) -> SluiceError {
        SluiceError(
            .fenced,
            "the lease ran out, and \(ConsumerMachine.jobs(jobs.count)) of it went to another worker or became dead letters. Nothing was changed: "
                + "ask for a longer visibility, or extend the lease in time",
            context: ["lost": String(jobs.count)])
    }

    private mutating func settle(_ jobs: SequenceSet, of number: Int64) -> Int {
        var count = 0
        for share in leases[number]?.take(jobs) ?? [] {
            count += share.jobs.count
            awaited.remove(share.jobs)
            let delivered = share.jobs.intersection(replayed)
            changes.delivered.insert(delivered)
            replayed.remove(delivered)
        }
        if count > 0 { changes.leases.insert(number) }
        return count
    }

    private static func jobs(_ count: Int) -> String { count == 1 ? "1 job" : "\(count) jobs" }
}
