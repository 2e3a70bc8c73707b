import SluiceCore
import Testing

@testable import SluiceTesting

/// The judge must find every kind of wrong, and nothing where there is none.
struct DeliveryCheckerTests {
    /// What happens to the honest jobs before the checker sees them.
    enum Wrong: CaseIterable {
        case nothing, loseLast, loseRecord, loseResource, doubleJob, doublePosition, reformat, roundNumber, invent, webhookCopy
    }

    static func honestJobs(_ changes: [ProviderChange], trigger: String = "t") -> [DeliveryChecker.Job] {
        changes.enumerated().map { index, change in
            DeliveryChecker.Job(
                id: "job_\(trigger)\(index)", trigger: trigger, position: Int64(index + 1), dedupKey: change.key,
                createdAt: change.madeAt + .milliseconds(Int64(index)), record: change.record)
        }
    }

    static func judge(
        _ changes: [ProviderChange], _ jobs: [DeliveryChecker.Job], cutoff: Timestamp = .distantFuture
    ) -> DeliveryChecker.Verdict {
        var checker = DeliveryChecker()
        for change in changes { checker.add(change) }
        for job in jobs { checker.add(job) }
        return checker.verdict(cutoff: cutoff)
    }

    static func spoil(_ jobs: [DeliveryChecker.Job], _ wrong: Wrong) -> [DeliveryChecker.Job] {
        var jobs = jobs
        func text(_ index: Int) -> String { String(decoding: jobs[index].record, as: UTF8.self) }
        switch wrong {
        case .nothing: break
        case .loseLast: jobs.removeLast()
        case .loseRecord:
            let id = jobs[0].dedupKey.prefix { $0 != "@" }
            jobs.removeAll { $0.dedupKey.hasPrefix(id) }
        case .loseResource: jobs.removeAll { String(decoding: $0.record, as: UTF8.self).contains("\"object\":\"invoice\"") }
        case .doubleJob: jobs.append(jobs[3])
        case .doublePosition: jobs[5].position = jobs[4].position
        case .reformat: jobs[2].record = Array(text(2).replacing("\"empty\":{}", with: "\"empty\":{ }").utf8)
        case .roundNumber:
            guard let index = jobs.indices.first(where: { text($0).contains("9007199254740993") }) else { return [] }
            jobs[index].record = Array(text(index).replacing("9007199254740993", with: "9007199254740992").utf8)
        case .invent: jobs[1].record = Array(text(1).replacing("\"id\":\"", with: "\"id\":\"x").utf8)
        case .webhookCopy: jobs[2].record = Array("{\"from_webhook\":true,".utf8) + jobs[2].record.dropFirst()
        }
        return jobs
    }

    @Test(arguments: Wrong.allCases)
    func findsEachWrong(_ wrong: Wrong) {
        let changes = WorldTests.world(changes: 200).changes
        let verdict = DeliveryCheckerTests.judge(
            changes, DeliveryCheckerTests.spoil(DeliveryCheckerTests.honestJobs(changes), wrong))
        #expect(verdict.isClean == (wrong == .nothing), "\(verdict)")
        switch wrong {
        case .nothing: #expect(verdict.jobs == 200 && verdict.changes == 200 && verdict.replacedUnseen == 0)
        case .loseLast, .loseRecord, .loseResource: #expect(!verdict.missing.isEmpty && verdict.doubled.isEmpty)
        case .doubleJob, .doublePosition: #expect(verdict.doubled.count == 1 && verdict.missing.isEmpty)
        case .reformat, .roundNumber, .webhookCopy: #expect(verdict.altered.count == 1 && verdict.missing.isEmpty)
        case .invent: #expect(verdict.invented.count >= 1)
        }
    }

    @Test func nothingDeliveredIsEverythingMissing() {
        let changes = WorldTests.world(changes: 50).changes
        #expect(DeliveryCheckerTests.judge(changes, []).missing.count == Set(changes.map(\.id)).count)
    }

    @Test func replacedVersionIsNoLossButTheLastOneIs() {
        let changes = WorldTests.world(.init(updateShare: 0.5), changes: 400).changes
        var last: [String: Int] = [:]
        for (index, change) in changes.enumerated() { last[change.id] = index }
        let jobs = DeliveryCheckerTests.honestJobs(changes)
        let onlyLast = DeliveryCheckerTests.judge(changes, last.values.sorted().map { jobs[$0] })
        #expect(onlyLast.isClean && onlyLast.replacedUnseen == changes.count - last.count && onlyLast.replacedUnseen > 50)
        let onlyFirst = DeliveryCheckerTests.judge(changes, jobs.filter { job in changes[Int(job.position) - 1].kind == .created })
        #expect(!onlyFirst.missing.isEmpty)
    }

    @Test func everyTriggerOwesItsWholeResource() {
        let changes = WorldTests.world(.init(resources: ["customer"]), changes: 100).changes
        let both = DeliveryCheckerTests.honestJobs(changes, trigger: "a") + DeliveryCheckerTests.honestJobs(changes, trigger: "b")
        #expect(DeliveryCheckerTests.judge(changes, both).isClean)
        #expect(DeliveryCheckerTests.judge(changes, both.dropLast(3)).missing.allSatisfy { $0.hasPrefix("b ") })
        #expect(!DeliveryCheckerTests.judge(changes, both.dropLast(3)).missing.isEmpty)
    }

    @Test func whatIsNotVisibleYetIsNotMissing() {
        let changes = WorldTests.world(changes: 100).changes
        let cutoff = WorldTests.start + .seconds(5)
        let jobs = DeliveryCheckerTests.honestJobs(changes).filter { changes[Int($0.position) - 1].visibleAt <= cutoff }
        #expect(jobs.count < 100)
        #expect(DeliveryCheckerTests.judge(changes, jobs, cutoff: cutoff).isClean)
        #expect(!DeliveryCheckerTests.judge(changes, jobs).isClean)
    }

    @Test func wrappedRecordsCountAsServed() {
        let changes = WorldTests.world(.init(resources: ["invoice"]), changes: 20).changes
        let jobs = DeliveryCheckerTests.honestJobs(changes).map { job in
            var job = job
            job.record = Array("{\"invoice\":".utf8) + job.record + Array("}".utf8)
            return job
        }
        #expect(DeliveryCheckerTests.judge(changes, jobs).isClean)
    }

    @Test func latencyIsNearestRank() {
        let changes = WorldTests.world(changes: 100).changes
        let verdict = DeliveryCheckerTests.judge(changes, DeliveryCheckerTests.honestJobs(changes))
        #expect(verdict.changeToJobMilliseconds(share: 0.5) == 49)
        #expect(verdict.changeToJobMilliseconds(share: 0.95) == 94)
        #expect(verdict.changeToJobMilliseconds(share: 1) == 99)
        #expect(DeliveryChecker.Verdict().changeToJobMilliseconds(share: 0.5) == nil)
    }
}
