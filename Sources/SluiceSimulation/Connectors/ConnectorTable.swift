import SluiceConnectors
import SluiceCore

/// What each connector of a catalogue has and has been shown to do: `sluice connector table`, docs/CATALOGUE.md.
public struct ConnectorTable: Sendable {
    public struct Row: Sendable {
        public var name: String
        public var title: String
        public var isExperimental: Bool
        /// How its webhooks are verified; nil if it takes none.
        public var scheme: String?
        public var handshakes: [String]
        /// Trigger types that subscribe to webhooks by themselves.
        public var subscribing: Int
        /// What its polls are: `incremental`, `lambda`, `long poll`; `webhook` for what has none.
        public var polls: [String]
        public var trapsPassed: Int
        public var trapsFailed: Int
        /// Trigger types that no stand-in was made for.
        public var notSimulated: Int
        /// The program that its live test runs it against; nil: none.
        public var realProgram: String?
    }
    public private(set) var rows: [Row] = []
    /// Those that did not load.
    public let broken: [BrokenConnector]
    public let seeds: UInt64

    /// Runs the simulation of each. `realPrograms`: by the connectors' names.
    public init(
        _ connectors: [any Connector], broken: [BrokenConnector] = [], realPrograms: [String: String], seeds: UInt64
    ) async {
        (self.seeds, self.broken) = (seeds, broken)
        for connector in connectors.sorted(by: { $0.definition.name < $1.definition.name }) {
            let definition = connector.definition
            let reports = await ConnectorSimulation.run(connector, seeds: seeds)
            let webhook = definition.webhook
            rows.append(
                Row(
                    name: definition.name, title: definition.title, isExperimental: definition.isExperimental, scheme: webhook?.scheme,
                    handshakes: webhook.map { Set(Handshake.of(declared: $0.handshakes, scheme: $0.scheme).map(\.name)).sorted() } ?? [],
                    subscribing: definition.triggers.count { $0.subscription != nil },
                    polls: Set(definition.triggers.map { ConnectorTable.form(connector, $0) }).sorted(),
                    trapsPassed: reports.reduce(0) { $0 + $1.passed }, trapsFailed: reports.reduce(0) { $0 + $1.failed },
                    notSimulated: reports.count { $0.notSimulated != nil && !$0.readsNoList },
                    realProgram: realPrograms[definition.name]))
        }
    }

    private static func form(_ connector: any Connector, _ type: TriggerTypeDefinition) -> String {
        switch type.kind {
        case .webhook: "webhook"
        case .longPolling: "long poll"
        case .polling, .hybrid: connector.incremental(triggerType: type.name) == nil ? "lambda" : "incremental"
        }
    }

    /// `NAME PROGRAM` a line, PROGRAM with what runs it; # begins a comment.
    public static func realPrograms(_ text: String) -> [String: String] {
        var result: [String: String] = [:]
        for line in text.split(separator: "\n") where !line.hasPrefix("#") {
            let words = line.split(separator: " ", maxSplits: 1).map { $0.trimmingSpaces }
            if words.count == 2 { result[words[0]] = words[1] }
        }
        return result
    }

    private static let columns = ["connector", "verify", "handshake", "subscribe", "poll", "traps passed", "real program"]

    private static func cells(_ row: Row) -> [String] {
        let traps = row.trapsPassed + row.trapsFailed
        return [
            row.name + (row.isExperimental ? " (experimental)" : ""), row.scheme.map { $0 == "none" ? "none (UNSAFE)" : $0 } ?? "-",
            row.handshakes.isEmpty ? "-" : row.handshakes.joined(separator: ", "), row.subscribing > 0 ? "yes" : "-",
            row.polls.joined(separator: ", "),
            (traps == 0 ? "-" : "\(row.trapsPassed) of \(traps)") + (row.notSimulated > 0 ? ", \(row.notSimulated) not simulated" : ""),
            row.realProgram ?? "-",
        ]
    }

    /// The page docs/CATALOGUE.md, whole.
    public var markdown: String {
        let all = [ConnectorTable.columns] + rows.map(ConnectorTable.cells)
        var lines = [
            "# The catalogue", "",
            "Made by `sluice connector table --write docs/CATALOGUE.md`; a test holds it to what the connectors are.", "",
            "| " + all[0].joined(separator: " | ") + " |", "|" + String(repeating: "---|", count: all[0].count),
        ]
        lines += all.dropFirst().map { "| " + $0.joined(separator: " | ") + " |" }
        lines += [
            "",
            "- **verify**: the signature scheme of its webhooks. **handshake**: what its URLs answer besides webhooks. **subscribe**: whether it",
            "  makes its webhooks at the provider itself.",
            "- **poll**: `incremental` is data, `lambda` code, `webhook` reads what came.",
            "- **traps passed**: of those that say something about its lists, over all of its trigger types, with \(seeds) seeds each:",
            "  `sluice connector simulate connectors`.",
            "- **real program**: what its live test runs it against (connectors/real-programs.txt).", "",
        ]
        return lines.joined(separator: "\n")
    }

    /// Columns under their titles.
    public var text: String {
        let all = [ConnectorTable.columns.map { $0.uppercased() }] + rows.map(ConnectorTable.cells)
        let widths = all[0].indices.map { column in all.map { $0[column].count }.max() ?? 0 }
        let lines = all.map { row in
            row.indices.map { $0 == row.count - 1 ? row[$0] : row[$0] + String(repeating: " ", count: widths[$0] - row[$0].count) }
                .joined(separator: "  ")
        }
        return (lines + broken.map(\.text)).joined(separator: "\n")
    }

    public var json: [UInt8] {
        var writer = JSONWriter()
        writer.object { writer in
            writer.member("seeds", Int64(clamping: seeds))
            writer.key("connectors")
            writer.array { writer in
                for row in rows {
                    writer.object { writer in
                        writer.member("name", row.name)
                        writer.member("title", row.title)
                        writer.member("experimental", row.isExperimental)
                        writer.member("verify", row.scheme)
                        for (name, list) in [("handshakes", row.handshakes), ("polls", row.polls)] {
                            writer.key(name)
                            writer.array { writer in for text in list { writer.value(text) } }
                        }
                        writer.member("subscribing_triggers", Int64(row.subscribing))
                        writer.member("traps_passed", Int64(row.trapsPassed))
                        writer.member("traps_failed", Int64(row.trapsFailed))
                        writer.member("not_simulated", Int64(row.notSimulated))
                        writer.member("real_program", row.realProgram)
                    }
                }
            }
            BrokenConnector.append(broken, to: &writer)
        }
        return writer.bytes
    }
}

extension Substring {
    fileprivate var trimmingSpaces: String {
        var text = self
        while text.first == " " { text.removeFirst() }
        while text.last == " " { text.removeLast() }
        return String(text)
    }
}
