import SluiceCore
import SluiceStore

/// What filters and projections leave of the jobs that a fetch was given.
extension ConsumerService {
    /// Filters of one fetch may take this long in one go.
    private static let siftingMax = Duration.milliseconds(5)

    struct Sifted {
        var jobs: [ConsumerBatch.Job]
        var expiresAt: Timestamp
    }

    /// Leaves out what the filters do not want, which settles it; what they fail on becomes dead letters. Nil where the time ran
    /// out meanwhile and others have some of it: ask again.
    func sift(_ batch: ConsumerBatch, _ consumer: Consumer, _ lease: LeaseID, _ visibility: Span) async throws -> Sifted? {
        guard !batch.settings.isEmpty else { return Sifted(jobs: batch.jobs, expiresAt: batch.expiresAt) }
        do {
            return try await sifted(batch, consumer, lease, visibility)
        } catch {
            // Its worker will never see it.
            await giveBack(LeaseToken(consumer: consumer.id, id: lease))
            if let error = error as? SluiceError, error.code == .fenced { return nil }
            throw error
        }
    }

    private func sifted(
        _ batch: ConsumerBatch, _ consumer: Consumer, _ lease: LeaseID, _ visibility: Span
    ) async throws -> Sifted {
        let sieves = try await sieves(batch, consumer)
        var kept = Sifted(jobs: [], expiresAt: batch.expiresAt)
        var skipped: [String] = []
        var refused: [(token: String, detail: String)] = []
        var begun = ContinuousClock.now
        for var entry in batch.jobs {
            if begun.duration(to: .now) > ConsumerService.siftingMax {
                // Slow ones let others go first now and then (P12), and keep their jobs in hand.
                await Task.yield()
                begun = .now
                try await keep(batch, &kept.expiresAt, consumer, lease, visibility)
            }
            guard let sieve = sieves[entry.job.trigger] else {
                kept.jobs.append(entry)
                continue
            }
            do throws(SluiceError) {
                switch try sieve.sift(entry.job) {
                case .pass(let record, let isProjected):
                    (entry.job.record, entry.isProjected) = (record, isProjected)
                    kept.jobs.append(entry)
                case .skip: skipped.append(entry.job.token)
                }
            } catch {
                refused.append((entry.job.token, error.message))
            }
        }
        try await keep(batch, &kept.expiresAt, consumer, lease, visibility)
        guard !skipped.isEmpty || !refused.isEmpty else { return kept }
        let answer = try await store.settleJobs(
            LeaseSettlement(
                consumer: consumer.id, lease: lease, action: .sift(refused: refused), jobs: skipped, rules: consumer.settings.rules,
                at: time.now()))
        noteDead(answer.dead, consumer)
        try ConsumerService.isWhole(answer, kept.jobs.count)
        return kept
    }

    private func sieves(_ batch: ConsumerBatch, _ consumer: Consumer) async throws -> [TriggerID: any JobSieve] {
        let names = try await triggerNames(of: batch.jobs)
        var made: [TriggerID: any JobSieve] = [:]
        for (trigger, settings) in batch.settings {
            made[trigger] = sieves(trigger, names[trigger] ?? (name: "", uid: ""), consumer.id, settings)
        }
        return made
    }

    /// More time, once half of it went by: the worker is to have some left.
    private func keep(
        _ batch: ConsumerBatch, _ expiresAt: inout Timestamp, _ consumer: Consumer, _ lease: LeaseID, _ visibility: Span
    ) async throws {
        let now = time.now()
        guard expiresAt - now < Span(milliseconds: visibility.milliseconds / 2) else { return }
        let answer = try await store.settleJobs(
            LeaseSettlement(consumer: consumer.id, lease: lease, action: .extend(by: visibility), rules: consumer.settings.rules, at: now))
        try ConsumerService.isWhole(answer, batch.jobs.count)
        expiresAt = answer.expiresAt ?? expiresAt
        look(consumer.id, at: answer.nextDueAt)
    }

    /// What others took meanwhile is theirs: it must not be handed out twice at once.
    private static func isWhole(_ answer: LeaseAnswer, _ count: Int) throws {
        if answer.settled.inHand != count { throw SluiceError(.fenced, "the lease ran out while filters looked at its jobs") }
    }
}
