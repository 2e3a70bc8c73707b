import SluiceCore

/// A promise that did not hold.
public struct Violation: Sendable, Equatable, CustomStringConvertible {
    public var seed: UInt64
    public var step: Int
    /// Simulated.
    public var at: Timestamp
    public var invariant: Invariant
    public var message: String

    public var description: String { "seed \(seed), step \(step): \(invariant.rawValue): \(message)" }
}

/// How one seed's run ended.
public struct SimulationResult: Sendable {
    public var seed: UInt64
    public var steps: Int
    /// The first promise that did not hold; the run stops there.
    public var violation: Violation?
    public var faults: FaultSet
    public var jobs: Int
    /// One line for each thing that happened, if asked for.
    public var trace: [String]
}

/// Runs the real schedule, cycle, dedup retention and incremental polls against a model of everything around them:
/// a provider, a store, processes that crash. Time is simulated and all chance comes from the seed, so that a seed
/// reproduces a run exactly.
///
/// A run has two parts: at least `stepsMin` steps with faults; then the faults stop, and everything must become a job
/// within a bounded simulated time. The promises watched are the cases of `Invariant`.
public enum Simulation {
    /// - Parameters:
    ///   - stepsMin: events before the faults stop; a run makes up to half as many more.
    ///   - mutant: a mistake to make on purpose.
    ///   - traces: keep a line for each thing that happens.
    public static func run(seed: UInt64, stepsMin: Int = 200, mutant: Mutant? = nil, traces: Bool = false) -> SimulationResult {
        World(seed: seed, stepsMin: stepsMin, mutant: mutant, traces: traces).run()
    }

    /// Runs seeds one after the other.
    public static func run(seeds: Range<UInt64>, stepsMin: Int = 200, mutant: Mutant? = nil) -> SimulationSummary {
        var summary = SimulationSummary()
        for seed in seeds { summary.add(run(seed: seed, stepsMin: stepsMin, mutant: mutant)) }
        return summary
    }
}

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
    public static let faultShareMin = 0.05

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
