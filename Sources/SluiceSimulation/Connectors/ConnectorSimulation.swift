import SluiceConnectors
import SluiceCore

/// Runs a connector's polls against stand-ins made from its own description, with each trap, by the server's rules.
public enum ConnectorSimulation {
    /// What a trap did over all seeds.
    public enum Result: Sendable, Equatable {
        case passed
        /// The first seed that showed it.
        case failed(seed: UInt64, lost: [String], doubled: [String], fault: String?)
        /// The trap says nothing about this feed, and why.
        case notApplicable(String)

        public var isFailure: Bool { if case .failed = self { true } else { false } }
    }

    public struct Row: Sendable {
        public var trap: ConnectorTrap
        public var result: Result
    }

    /// One trigger type of a connector.
    public struct Report: Sendable {
        public var connector: String
        public var version: String
        public var trigger: String
        /// `incremental` or `lambda`.
        public var form: String
        /// Why nothing was run; then there are no rows.
        public var notSimulated: String?
        /// A webhook-only trigger reads no list, so there is nothing to simulate.
        public var readsNoList: Bool { notSimulated == Report.readsNoListReason }
        static let readsNoListReason = "it does not poll"
        public var rows: [Row]
        /// What was seen of the nine mistakes, by the names of lints, whether it led to a loss or not.
        public var observations: Set<String>
        /// Whether its poll is code that says `version_seconds`.
        var saysVersionSeconds = false

        public var passed: Int { rows.count { $0.result == .passed } }
        public var failed: Int { rows.count { $0.result.isFailure } }
    }

    public static let seedsStandard: UInt64 = 5

    /// A report for each trigger type, in the connector's order. Never throws: what goes wrong is in the report.
    public static func run(_ connector: any Connector, seeds: UInt64 = seedsStandard) async -> [Report] {
        var reports: [Report] = []
        for type in connector.definition.triggers { reports.append(await run(connector, type, seeds: seeds)) }
        return reports
    }

    static func run(_ connector: any Connector, _ type: TriggerTypeDefinition, seeds: UInt64) async -> Report {
        var report = Report(
            connector: connector.definition.name, version: connector.definition.version, trigger: type.name,
            form: connector.incremental(triggerType: type.name) == nil ? "lambda" : "incremental", notSimulated: nil, rows: [],
            observations: [])
        report.saysVersionSeconds = type.versionSpan != nil
        let subject: SimulatedTrigger
        do {
            guard let found = try SimulatedTrigger(connector, type) else {
                report.notSimulated =
                    type.kind == .webhook ? Report.readsNoListReason : "add simulate = { … }, which describes the list it reads"
                return report
            }
            subject = found
        } catch {
            report.notSimulated = TrapRun.message(error)
            return report
        }
        for trap in ConnectorTrap.allCases { report.rows.append(await run(trap, subject, seeds: seeds, &report.observations)) }
        return report
    }

    private static func run(
        _ trap: ConnectorTrap, _ subject: SimulatedTrigger, seeds: UInt64, _ observations: inout Set<String>
    ) async -> Row {
        if let reason = subject.irrelevance(of: trap) { return Row(trap: trap, result: .notApplicable(reason)) }
        for seed in 1...max(1, seeds) {
            var scene = TrapScene(subject, seed: seed)
            let outcome = await scene.spring(trap)
            observations.formUnion(outcome.observations)
            if !outcome.isGood {
                return Row(
                    trap: trap, result: .failed(seed: seed, lost: outcome.lost, doubled: outcome.doubled, fault: outcome.fault))
            }
        }
        return Row(trap: trap, result: .passed)
    }
}
