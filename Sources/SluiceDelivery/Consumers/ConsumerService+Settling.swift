import SluiceCore
import SluiceStore

/// What workers say of their leases.
extension ConsumerService {
    public enum Word: Sendable {
        case ack
        /// `delay` nil: `NackDelay`.
        case nack(delay: Span?, reason: String?)
        /// Nil: the consumer's visibility.
        case extend(by: Span?)
    }

    /// In characters (Unicode scalars).
    public static let reasonLengthMax = 1024
    public static let jobsNamedMax = 1000

    /// Throws `.notFound` for a lease or jobs that are not this consumer's, `.fenced` where the lease ran out and others have
    /// the jobs, `.conflict` where the opposite was said before, `.invalid`; nothing is changed then. `jobs`: ids (`job_…`) or
    /// `seq_token`s; nil: all of the lease.
    public func settle(_ name: String, lease text: String, jobs: [String]?, _ word: Word) async throws -> LeaseAnswer {
        let consumer = try await consumer(name)
        let lease = try LeaseToken(text, of: consumer.id)
        if let jobs, jobs.isEmpty || jobs.count > ConsumerService.jobsNamedMax {
            throw SluiceError(.invalid, "`jobs` names from 1 to \(ConsumerService.jobsNamedMax) jobs; leave it out for all of the lease")
        }
        let action: LeaseSettlement.Action =
            switch word {
            case .ack: .ack
            case .nack(let delay, let reason): .nack(delay: { delay ?? NackDelay.after(attempts: $0) }, reason: reason)
            case .extend(let span): .extend(by: span ?? consumer.settings.visibility ?? ConsumerSettings.visibilityDefault)
            }
        let answer = try await store.settleJobs(
            LeaseSettlement(
                consumer: consumer.id, lease: lease.id, action: action, jobs: try await tokens(jobs, consumer, lease.id),
                rules: consumer.settings.rules, at: time.now()))
        noteDead(answer.dead, consumer)
        look(consumer.id, at: answer.nextDueAt)
        roomWasMade(consumer.id)
        return answer
    }

    /// A lease whose answer did not reach its worker: its jobs come again at once.
    public func giveBack(_ lease: LeaseToken) async {
        _ = try? await store.settleJobs(LeaseSettlement(consumer: lease.consumer, lease: lease.id, action: .giveBack, at: time.now()))
    }

    /// The same for a caller that cannot wait: `run` does it.
    public func giveBackSoon(_ lease: LeaseToken) { returning.yield(lease) }

    /// Gives back what answers could not be brought to their askers. Until the task is cancelled; once only.
    public func run() async {
        for await lease in returned { await giveBack(lease) }
    }

    /// Moves a consumer. Throws `.notFound` and `.invalid`.
    public func seek(_ name: String, to target: SeekTarget) async throws -> SeekOutcome {
        let consumer = try await consumer(name)
        return try await store.seekConsumer(consumer.id, to: target, at: time.now())
    }

    /// Where consumers stand, by name; `name` nil: all of them.
    public func standing(_ name: String?) async throws -> [(consumer: Consumer, stored: StoredConsumer)] {
        let wanted = try await name.asyncMap { try await self.consumer($0) }
        let all: [Consumer]
        if let wanted { all = [wanted] } else { all = try await self.all() }
        let stored = try await store.consumers(namespace, only: wanted?.id, at: time.now())
        return all.compactMap { consumer in stored.first { $0.id == consumer.id }.map { (consumer, $0) } }
    }

    private func tokens(_ jobs: [String]?, _ consumer: Consumer, _ lease: LeaseID) async throws -> [String]? {
        guard let jobs else { return nil }
        guard jobs.contains(where: { $0.hasPrefix(JobIdentity.prefix) }) else { return jobs }
        let handedOut = try await store.leaseJobs(consumer.id, lease)
        let names = try await triggerNames(of: handedOut.map { ConsumerBatch.Job(job: $0, attempt: 1) })
        var byID: [String: String] = [:]
        for job in handedOut {
            if let uid = names[job.trigger]?.uid { byID[JobIdentity.id(uid: uid, dedupKey: job.dedupKey)] = job.token }
        }
        return try jobs.map { job in
            guard job.hasPrefix(JobIdentity.prefix) else { return job }
            guard let token = byID[job] else {
                throw SluiceError(.notFound, "the job \(job.prefix(100)) was not handed out with this lease: nothing was changed")
                    .with("job", String(job.prefix(100)))
            }
            return token
        }
    }
}

extension Optional {
    fileprivate func asyncMap<Value>(_ body: (Wrapped) async throws -> Value) async rethrows -> Value? {
        if let self { try await body(self) } else { nil }
    }
}
