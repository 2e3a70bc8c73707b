import SluiceCore
import SluiceTesting

#if canImport(Glibc)
    import Glibc
#elseif canImport(Musl)
    import Musl
#elseif canImport(Darwin)
    import Darwin
#endif

/// Writes a line to standard output, at once even where that is a pipe.
func say(_ text: String) {
    var bytes = Array((text + "\n").utf8)[...]
    while !bytes.isEmpty {
        let written = bytes.withUnsafeBytes { write(1, $0.baseAddress, $0.count) }
        if written <= 0 { return }
        bytes = bytes.dropFirst(written)
    }
}

/// A report in words and in JSON. Pure.
enum Summary {
    static let offendersMax = 10

    static func text(_ report: DeliveryObserver.Report) -> String {
        let verdict = report.verdict
        var lines = live(report, missing: verdict.missing.count, waiting: nil)
        lines.append("")
        let kinds = [
            ("missing", verdict.missing), ("doubled", verdict.doubled), ("altered", verdict.altered), ("invented", verdict.invented),
        ]
        for (name, offenders) in kinds where !offenders.isEmpty {
            lines += offenders.prefix(offendersMax).map { "  \(name): \($0)" }
            if offenders.count > offendersMax { lines.append("  \(name): and \(offenders.count - offendersMax) more") }
        }
        if report.forgedNotRefused > 0 { lines.append("  forged webhooks that were not refused: \(report.forgedNotRefused)") }
        if report.isRefusalUnproven { lines.append("  no forged webhook was refused yet: does the provider know the webhooks' URL?") }
        if verdict.changes == 0 { lines.append("  the provider has made no changes: there is nothing to judge") }
        lines.append(report.isGood ? "OK: nothing missing, doubled or altered, and every forged webhook refused" : "NOT OK")
        return lines.joined(separator: "\n")
    }

    /// The counters as a block. `waiting` are changes without a job that are too young to be called missing.
    static func live(_ report: DeliveryObserver.Report, missing: Int, waiting: Int?) -> [String] {
        let verdict = report.verdict
        let planned = report.counts.planned
        let polls = report.pollsByCause.sorted { $0.key < $1.key }.map { "\($0.key) \($0.value)" }.joined(separator: " · ")
        let spoofed = planned.spoofed > 0 ? " · spoofed \(planned.spoofed)" : ""
        return [
            "changes    \(report.counts.changes) at the provider",
            "webhooks   sent \(report.counts.realSent) · accepted \(report.counts.realAccepted) · lost \(planned.dropped) · doubled \(planned.doubled)"
                + " · late \(planned.late) · reordered \(planned.reordered)",
            "forged     \(planned.forged), of these refused \(report.counts.forgedRefused)\(spoofed)",
            "polls      \(polls.isEmpty ? "unknown" : polls)",
            "jobs       \(verdict.jobs)\(waiting.map { " · on their way \($0)" } ?? "") · versions replaced before a poll"
                + " \(verdict.replacedUnseen)",
            "wrong      missing \(missing) · doubled \(verdict.doubled.count) · altered \(verdict.altered.count)"
                + " · invented \(verdict.invented.count)",
            "change→job " + latency(verdict),
        ]
    }

    /// The counters on one line.
    static func line(_ report: DeliveryObserver.Report, missing: Int, waiting: Int) -> String {
        let verdict = report.verdict
        let planned = report.counts.planned
        let polls = report.pollsByCause.sorted { $0.key < $1.key }.map { "\($0.key):\($0.value)" }.joined(separator: ",")
        return "changes=\(report.counts.changes) sent=\(report.counts.realSent) lost=\(planned.dropped) doubled_hooks=\(planned.doubled) "
            + "late=\(planned.late + planned.reordered) forged=\(planned.forged) refused=\(report.counts.forgedRefused) "
            + "polls=\(polls.isEmpty ? "?" : polls) jobs=\(verdict.jobs) waiting=\(waiting) missing=\(missing) "
            + "doubled=\(verdict.doubled.count) altered=\(verdict.altered.count) invented=\(verdict.invented.count) "
            + "p50=\(time(verdict, 0.5)) p95=\(time(verdict, 0.95))"
    }

    static func json(_ report: DeliveryObserver.Report) -> String {
        let verdict = report.verdict
        var json = JSONWriter()
        json.object { json in
            json.member("ok", report.isGood)
            json.member("changes", Int64(verdict.changes))
            json.member("jobs", Int64(verdict.jobs))
            json.member("missing", Int64(verdict.missing.count))
            json.member("doubled", Int64(verdict.doubled.count))
            json.member("altered", Int64(verdict.altered.count))
            json.member("invented", Int64(verdict.invented.count))
            json.member("replaced_unseen", Int64(verdict.replacedUnseen))
            json.member("forged", Int64(report.counts.planned.forged))
            json.member("forged_refused", Int64(report.counts.forgedRefused))
            json.member("forged_not_refused", Int64(report.forgedNotRefused))
            json.member("change_to_job_p50_ms", verdict.changeToJobMilliseconds(share: 0.5))
            json.member("change_to_job_p95_ms", verdict.changeToJobMilliseconds(share: 0.95))
            json.member("change_to_job_max_ms", verdict.changeToJobMilliseconds.last)
            json.key("first_offenders")
            json.array { json in
                for text in [verdict.missing, verdict.doubled, verdict.altered, verdict.invented].flatMap({ $0.prefix(offendersMax) }) {
                    json.value(text)
                }
            }
            json.key("provider")
            json.raw(report.counts.json)
        }
        return json.string
    }

    private static func latency(_ verdict: DeliveryChecker.Verdict) -> String {
        guard let longest = verdict.changeToJobMilliseconds.last else { return "no job yet" }
        return "p50 \(time(verdict, 0.5)) · p95 \(time(verdict, 0.95)) · longest \(seconds(longest))"
    }

    private static func time(_ verdict: DeliveryChecker.Verdict, _ share: Double) -> String {
        verdict.changeToJobMilliseconds(share: share).map(seconds) ?? "-"
    }

    private static func seconds(_ milliseconds: Int64) -> String { "\(milliseconds / 1000).\(abs(milliseconds) % 1000 / 100) s" }
}
