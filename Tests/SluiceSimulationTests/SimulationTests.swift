import Dispatch
import SluiceSimulation
import Synchronization
import Testing

/// What the simulator is for: every promise holds in every seed, and each deliberate mistake is noticed.
@Suite struct SimulationTests {
    /// Also shows each fault in at least 3% of the seeds, and that each run is long enough.
    @Test func h_20000SeedsHold() {
        let summary = run(seeds: 1..<20_001, threads: 2)
        for violation in summary.violations { Issue.record("\(violation)") }
        #expect(summary.violationCount == 0)
        #expect(summary.seeds == 20_000)
        #expect(summary.stepsFewest ?? 0 >= 200)
        #expect(summary.jobs > 500_000)
        for fault in summary.rareFaults {
            Issue.record("\(fault.rawValue) occurred in \(summary.seeds(with: fault)) of \(summary.seeds) seeds, fewer than 3%")
        }
        for fault in Fault.allCases { print("\(fault.rawValue): \(summary.seeds(with: fault))") }
    }

    struct Caught: Sendable {
        var mutant: Mutant
        /// The first violation that a seed may show.
        var by: Set<Invariant>
    }

    static let caught = [
        Caught(mutant: .clearDirtyAtEnd, by: [.P2_coveredNeverAhead]),
        Caught(mutant: .noteAnewOnResume, by: [.P2_coveredNeverAhead]),
        Caught(mutant: .cursorBeforeJobs, by: [.P3_cursorNotAheadOfJobs]),
        Caught(mutant: .skipEpochCheck, by: [.P3_onlyTheHolderCommits]),
        Caught(mutant: .debounce, by: [.P2_pollStartsInTime, .P5_startsAtMost25sApart, .P5_idleStartsAtOnce]),
        Caught(mutant: .forgetFormerKeys, by: [.P4_noJobTwice]),
        Caught(mutant: .keepStaleFormerKeys, by: [.P2_cycleSeesWhatWasVisible, .P3_cursorNotAheadOfJobs]),
        Caught(mutant: .reachBelowForgotten, by: [.P4_noJobTwice]),
        Caught(mutant: .laterPartitionFromNow, by: [.P3_cursorNotAheadOfJobs, .P2_cycleSeesWhatWasVisible]),
        Caught(mutant: .leaveOutFailing, by: [.P2_cycleSeesWhatWasVisible]),
        Caught(mutant: .noOverlap, by: [.P3_cursorNotAheadOfJobs, .P2_cycleSeesWhatWasVisible]),
    ]

    @Test(arguments: caught) func h_mutantIsCaughtWithin2000Seeds(_ expected: Caught) {
        for seed in UInt64(1)...2000 {
            guard let violation = Simulation.run(seed: seed, mutant: expected.mutant).violation else { continue }
            #expect(expected.by.contains(violation.invariant), "\(expected.mutant.rawValue) was noticed by \(violation)")
            return
        }
        Issue.record("\(expected.mutant.rawValue) was not noticed in 2000 seeds")
    }

    @Test func everyMutantIsTried() {
        #expect(Set(SimulationTests.caught.map(\.mutant)) == Set(Mutant.allCases))
    }

    @Test(arguments: [1, 17, 4711] as [UInt64]) func aSeedReproducesItsRun(_ seed: UInt64) {
        let first = Simulation.run(seed: seed, traces: true)
        let second = Simulation.run(seed: seed, traces: true)
        #expect(first.trace == second.trace)
        #expect(first.trace.count > 50)
        #expect(first.trace != Simulation.run(seed: seed + 1, traces: true).trace)
    }

    /// Watching a run does not change it.
    @Test func aTraceChangesNothing() {
        let quiet = Simulation.run(seed: 23)
        let traced = Simulation.run(seed: 23, traces: true)
        #expect(quiet.steps == traced.steps && quiet.jobs == traced.jobs && quiet.faults == traced.faults)
    }

    private func run(seeds: Range<UInt64>, threads: Int) -> SimulationSummary {
        let total = Mutex(SimulationSummary())
        let next = Mutex(seeds.lowerBound)
        DispatchQueue.concurrentPerform(iterations: threads) { _ in
            while true {
                let first = next.withLock { next -> UInt64 in
                    defer { next += 100 }
                    return next
                }
                guard first < seeds.upperBound else { return }
                let part = Simulation.run(seeds: first..<min(first + 100, seeds.upperBound))
                total.withLock { $0.add(part) }
            }
        }
        return total.withLock { $0 }
    }
}
