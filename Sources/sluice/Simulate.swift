import ArgumentParser
import Dispatch
import SluiceSimulation
import Synchronization

/// `sluice simulate`: runs seeds of the simulator and says what they showed. Exit code 1 on a violation, or where a fault
/// occurred too rarely to say anything.
struct Simulate: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "simulate", abstract: "Run the real schedule, cycles and polls against simulated faults.",
        discussion: "A seed reproduces a run exactly: --seed N --trace prints everything that happened in it.")

    @Option(parsing: .unconditional, help: "How many seeds to run.") var seeds: UInt64 = 1000
    @Option(parsing: .unconditional, help: "The first seed.") var from: UInt64 = 1
    @Option(parsing: .unconditional, help: "Run this seed alone.") var seed: UInt64?
    @Flag(help: "With --seed: print a line for each thing that happens.") var trace = false
    @Option(parsing: .unconditional, help: "Steps with faults, at least; then the faults stop.") var steps = 200
    @Option(parsing: .unconditional, help: "Make a mistake on purpose: \(Mutant.allCases.map(\.rawValue).joined(separator: ", ")).")
    var mutant: Mutant?
    @Option(parsing: .unconditional, help: "Threads to run on.") var threads = 2
    @Flag(help: "Print the result as JSON.") var json = false

    func validate() throws {
        guard seeds > 0, seeds < 1 << 40, from < 1 << 62 else { throw ValidationError("--seeds must be from 1 on, and --from below 2^62") }
        guard (1...100_000).contains(steps) else { throw ValidationError("--steps must be from 1 to 100000") }
        guard (1...64).contains(threads) else { throw ValidationError("--threads must be from 1 to 64") }
    }

    func run() throws {
        if let seed { return try runOne(seed) }
        let clock = ContinuousClock()
        let start = clock.now
        let summary = runAll()
        let seconds = Double((clock.now - start).components.seconds) + Double((clock.now - start).components.attoseconds) / 1e18
        // A few seeds cannot show every fault.
        let rare = seeds >= 200 && mutant == nil ? summary.rareFaults : []
        if json { print(summary.json(seconds: seconds)) } else { printText(summary, rare: rare, seconds: seconds) }
        if summary.violationCount > 0 || !rare.isEmpty { throw ExitCode(1) }
    }

    private func runOne(_ seed: UInt64) throws {
        let result = Simulation.run(seed: seed, stepsMin: steps, mutant: mutant, traces: trace)
        for line in result.trace { print(line) }
        let faults = Fault.allCases.filter { result.faults.contains($0) }.map(\.rawValue).joined(separator: ", ")
        print("seed \(seed): \(result.steps) steps, \(result.jobs) jobs; faults: \(faults)")
        guard let violation = result.violation else { return print("every promise held") }
        print(violation)
        throw ExitCode(1)
    }

    private func runAll() -> SimulationSummary {
        let total = Mutex(SimulationSummary())
        let sliceCount: UInt64 = 250
        let slices = Int((seeds + sliceCount - 1) / sliceCount)
        let taken = Mutex(0)
        let (from, seeds, steps, mutant, json) = (from, seeds, steps, mutant, json)
        DispatchQueue.concurrentPerform(iterations: threads) { _ in
            while true {
                let slice = taken.withLock { taken -> Int? in
                    guard taken < slices else { return nil }
                    taken += 1
                    return taken - 1
                }
                guard let slice else { return }
                let first = from + UInt64(slice) * sliceCount
                let part = Simulation.run(seeds: first..<min(first + sliceCount, from + seeds), stepsMin: steps, mutant: mutant)
                total.withLock { total in
                    total.add(part)
                    if !json, total.seeds / 5000 != (total.seeds - part.seeds) / 5000 {
                        print("\(total.seeds) of \(seeds) seeds, \(total.violationCount) violations")
                    }
                }
            }
        }
        return total.withLock { $0 }
    }

    private func printText(_ summary: SimulationSummary, rare: [Fault], seconds: Double) {
        print("seeds in which each fault occurred:")
        for fault in Fault.allCases {
            let count = summary.seeds(with: fault)
            let share = 100 * Double(count) / Double(max(summary.seeds, 1))
            let name = fault.rawValue.padding(24)
            print("  \(name) \(String(count).padding(8)) \(Int(share.rounded()))%\(rare.contains(fault) ? "  too rare" : "")")
        }
        for violation in summary.violations { print("VIOLATION \(violation)") }
        print(
            "\(summary.seeds) seeds, \(summary.steps) steps (at least \(summary.stepsFewest ?? 0) a seed), \(summary.jobs) jobs, "
                + "\(summary.violationCount) violations, \(Int(Double(summary.seeds) / max(seconds, 0.001))) seeds/s")
    }
}

extension Mutant: ExpressibleByArgument {}

extension String {
    /// The text, filled up with spaces.
    fileprivate func padding(_ width: Int) -> String { self + String(repeating: " ", count: max(0, width - count)) }
}
