import SluiceConnectors
import SluiceCore

extension ConnectorSimulation {
    /// The table that people read: a line for each trap.
    public static func text(_ reports: [Report], seeds: UInt64, broken: [BrokenConnector] = []) -> String {
        var lines = broken.map(\.text)
        for report in reports {
            lines.append("\(report.connector) \(report.version), \(report.trigger) (\(report.form))")
            if let reason = report.notSimulated {
                lines.append("  not simulated: \(reason)")
                continue
            }
            for row in report.rows { lines += text(row) }
            let skipped = report.rows.count - report.passed - report.failed
            lines.append(
                "  \(report.passed) passed, \(report.failed) failed, \(skipped) do not apply; \(seeds == 1 ? "1 seed" : "\(seeds) seeds") each"
            )
        }
        return lines.joined(separator: "\n")
    }

    private static func text(_ row: Row) -> [String] {
        let name = row.trap.rawValue + String(repeating: " ", count: max(0, 22 - row.trap.rawValue.count))
        switch row.result {
        case .passed: return ["  \(name) passed"]
        case .notApplicable(let reason): return ["  \(name) -       \(reason)"]
        case .failed(let seed, let lost, let doubled, let fault):
            var lines = ["  \(name) FAILED  seed \(seed): \(row.trap.explanation)"]
            let indent = String(repeating: " ", count: 25)
            if let fault { lines.append("\(indent) \(fault)") }
            if !lost.isEmpty { lines.append("\(indent) lost \(brief(lost))") }
            if !doubled.isEmpty { lines.append("\(indent) doubled \(brief(doubled))") }
            return lines
        }
    }

    private static func brief(_ all: [String]) -> String {
        all.prefix(3).joined(separator: "; ") + (all.count > 3 ? "; and \(all.count - 3) more" : "")
    }

    /// The same for programs.
    public static func json(_ reports: [Report], seeds: UInt64, broken: [BrokenConnector] = []) -> [UInt8] {
        var writer = JSONWriter()
        writer.object { writer in
            writer.member("seeds", Int64(clamping: seeds))
            writer.member("failed", Int64(reports.reduce(0) { $0 + $1.failed }))
            writer.key("triggers")
            writer.array { writer in for report in reports { append(report, to: &writer) } }
            BrokenConnector.append(broken, to: &writer)
        }
        return writer.bytes
    }

    private static func append(_ report: Report, to writer: inout JSONWriter) {
        writer.object { writer in
            writer.member("connector", report.connector)
            writer.member("version", report.version)
            writer.member("trigger", report.trigger)
            writer.member("form", report.form)
            writer.member("not_simulated", report.notSimulated)
            writer.member("passed", Int64(report.passed))
            writer.member("failed", Int64(report.failed))
            writer.key("traps")
            writer.array { writer in
                for row in report.rows {
                    writer.object { writer in
                        writer.member("trap", row.trap.rawValue)
                        append(row.result, to: &writer)
                    }
                }
            }
        }
    }

    private static func append(_ result: Result, to writer: inout JSONWriter) {
        switch result {
        case .passed: writer.member("result", "passed")
        case .notApplicable(let reason):
            writer.member("result", "not_applicable")
            writer.member("reason", reason)
        case .failed(let seed, let lost, let doubled, let fault):
            writer.member("result", "failed")
            writer.member("seed", Int64(clamping: seed))
            writer.member("fault", fault)
            for (name, all) in [("lost", lost), ("doubled", doubled)] {
                writer.key(name)
                writer.array { writer in for text in all { writer.value(text) } }
            }
        }
    }
}

extension BrokenConnector {
    /// The member `broken`.
    static func append(_ broken: [BrokenConnector], to writer: inout JSONWriter) {
        writer.key("broken")
        writer.array { writer in
            for one in broken {
                writer.object { writer in
                    writer.member("file", one.file)
                    writer.member("error", one.message)
                }
            }
        }
    }
}
