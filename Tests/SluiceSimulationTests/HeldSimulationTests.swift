import SluiceSimulation
import Testing

/// Long polling and webhook-only triggers under restarts of the source, crashes, pauses and retention.
@Suite struct HeldSimulationTests {
    @Test func h_heldAndWebhookOnlyTriggersHoldIn5000Seeds() {
        var (jobs, restarts, crashes, gaps) = (0, 0, 0, 0)
        var violations: [String] = []
        for seed in UInt64(1)...5000 {
            let result = HeldSimulation.run(seed: seed)
            if let violation = result.violation { violations.append(violation) }
            (jobs, restarts, crashes, gaps) = (jobs + result.jobs, restarts + result.restarts, crashes + result.crashes, gaps + result.gaps)
        }
        #expect(violations.isEmpty, "\(violations.count) violations, first: \(violations.prefix(3))")
        #expect(jobs > 500_000 && restarts > 50_000 && crashes > 100_000 && gaps > 10_000, "\(jobs) \(restarts) \(crashes) \(gaps)")
    }

    @Test(arguments: HeldSimulation.Mistake.allCases)
    func h_aMistakeInHeldOrWebhookOnlyTriggersIsNoticed(_ mistake: HeldSimulation.Mistake) {
        #expect((UInt64(1)...500).contains { HeldSimulation.run(seed: $0, mistake: mistake).violation != nil })
    }
}
