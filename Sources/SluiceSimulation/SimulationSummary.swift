import SluiceCore

/// What many seeds showed.
public struct SimulationSummary: Sendable {
    public private(set) var seeds = 0
    public private(set) var steps = 0
    /// The shortest run that ended without a violation.
    public private(set) var stepsFewest: Int?
    public private(set) var jobs = 0
    public private(set) var violationCount = 0
    /// The first of them, by seed.
    public private(set) var violations: [Violation] = []
    private var seedsWithFault: [Fault: Int] = [:]

    public static let violationsKept = 20
    /// Each fault is to occur in at least this share of the seeds.
    public static let faultShareMin = 0.03

    public init() {}

    public func seeds(with fault: Fault) -> Int { seedsWithFault[fault] ?? 0 }

    /// Faults that occurred in too few seeds to say much.
    public var rareFaults: [Fault] {
        Fault.allCases.filter { Double(seeds(with: $0)) < SimulationSummary.faultShareMin * Double(seeds) }
    }

    public mutating func add(_ result: SimulationResult) {
        seeds += 1
        steps += result.steps
        jobs += result.jobs
        for fault in Fault.allCases where result.faults.contains(fault) { seedsWithFault[fault, default: 0] += 1 }
        if let violation = result.violation {
            keep([violation])
            violationCount += 1
        } else {
            stepsFewest = min(stepsFewest ?? result.steps, result.steps)
        }
    }

    public mutating func add(_ other: SimulationSummary) {
        seeds += other.seeds
        steps += other.steps
        jobs += other.jobs
        violationCount += other.violationCount
        stepsFewest = [stepsFewest, other.stepsFewest].compactMap { $0 }.min()
        seedsWithFault.merge(other.seedsWithFault) { $0 + $1 }
        keep(other.violations)
    }

    private mutating func keep(_ more: [Violation]) {
        violations = Array((violations + more).sorted { $0.seed < $1.seed }.prefix(SimulationSummary.violationsKept))
    }
}

extension SimulationSummary {
    /// The summary as one JSON object.
    public func json(seconds: Double) -> String {
        var writer = JSONWriter()
        writer.object { writer in
            writer.member("seeds", Int64(seeds))
            writer.member("steps", Int64(steps))
            writer.member("steps_fewest", Int64(stepsFewest ?? 0))
            writer.member("jobs", Int64(jobs))
            writer.member("milliseconds", Int64(seconds * 1000))
            writer.member("violation_count", Int64(violationCount))
            writer.key("violations")
            writer.array { writer in
                for violation in violations {
                    writer.object { writer in
                        writer.member("seed", Int64(violation.seed))
                        writer.member("step", Int64(violation.step))
                        writer.member("invariant", violation.invariant.rawValue)
                        writer.member("message", violation.message)
                    }
                }
            }
            writer.key("seeds_with_fault")
            writer.object { writer in
                for fault in Fault.allCases { writer.member(fault.rawValue, Int64(self.seeds(with: fault))) }
            }
            writer.key("faults_too_rare")
            writer.array { writer in for fault in rareFaults { writer.value(fault.rawValue) } }
        }
        return writer.string
    }
}
