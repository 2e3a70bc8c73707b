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
