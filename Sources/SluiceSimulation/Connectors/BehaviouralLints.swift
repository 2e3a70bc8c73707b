import SluiceConnectors

/// What failed traps mean to who wrote the connector: lints that were seen to hold, not guessed from the source.
extension ConnectorSimulation {
    private struct Lint {
        var name: String
        var message: String
        var loses: String
        var fix: String
        /// The key that it is about, where that is not the poll.
        var key: String?
        /// Nothing comes of the trigger at all.
        var isFatal = false
        init(_ name: String, _ message: String, loses: String, fix: String, key: String? = nil, isFatal: Bool = false) {
            (self.name, self.message, self.loses, self.fix) = (name, message, loses, fix)
            (self.key, self.isFatal) = (key, isFatal)
        }
    }

    /// Findings for what failed and what was seen, at most one of each lint for a trigger type. `locate` gives file and line of a
    /// key such as `triggers.new_order.poll`.
    public static func findings(
        _ reports: [Report], locate: (_ key: String) -> (file: String, line: Int?)
    ) -> [ConnectorFinding] {
        var findings: [ConnectorFinding] = []
        for report in reports {
            let key = "triggers.\(report.trigger).\(report.form == "lambda" ? "poll" : "incremental")"
            let place = locate(key)
            if let reason = report.notSimulated {
                guard report.form == "lambda", !report.readsNoList else { continue }
                findings.append(
                    ConnectorFinding(
                        .warning, "not-simulated", file: place.file, line: place.line, subject: key,
                        message: "nothing is known of what this poll reads, so its mistakes cannot be shown",
                        loses: "the check: nine mistakes of hand-written polls stay unseen", fix: reason))
                continue
            }
            for (lint, seed) in lints(report) {
                let proof = seed.map { " (shown by `sluice connector simulate`, seed \($0))" } ?? " (seen in its requests)"
                let own = lint.key.map { "triggers.\(report.trigger).\($0)" } ?? key
                let place = lint.key == nil ? place : locate(own)
                findings.append(
                    ConnectorFinding(
                        lint.isFatal ? .error : .warning, lint.name, file: place.file, line: place.line, subject: own,
                        message: lint.message + proof, loses: lint.loses, fix: lint.fix))
            }
        }
        return findings
    }

    private static func lints(_ report: Report) -> [(Lint, UInt64?)] {
        var result: [(Lint, UInt64?)] = []
        var names: Set<String> = []
        func add(_ lint: Lint, _ seed: UInt64?) { if names.insert(lint.name).inserted { result.append((lint, seed)) } }
        // Without a key nothing becomes a job: whatever the traps show comes of that.
        for row in report.rows where row.trap != .noZone && !breaks(row.trap) {
            guard case .failed(let seed, _, _, let fault?) = row.result, fault.hasPrefix(TrapScene.setAsidePrefix) else { continue }
            let reason = String(fault.dropFirst(TrapScene.setAsidePrefix.count))
            return [(report.form == "lambda" ? dedupFails(reason) : noKeys(reason), seed)]
        }
        for name in report.observations.sorted() { if let lint = observed[name] { add(lint, nil) } }
        let alwaysFails = report.rows.contains { stuck($0) != nil && !breaks($0.trap) }
        for row in report.rows {
            guard case .failed(let seed, _, let doubled, _) = row.result else { continue }
            if let message = stuck(row), alwaysFails {
                add(pollFails(message), seed)
                continue
            }
            guard let lint = row.trap == .changedAtOnce ? tooCoarse(report.saysVersionSeconds) : lint(row.trap) else { continue }
            // A poll that never ends, or ends too early, fails most traps: it is named once.
            if isEndless(row) || names.contains("paging-stops-early") && row.trap != .keptStart { continue }
            if row.trap == .changedAtOnce, names.contains(TrapScene.undatedObservation) { continue }
            if row.trap == .idleFeed || row.trap == .changedAgain && report.observations.contains("new-by-updated") { continue }
            add(doubled.isEmpty ? lint : doubles, seed)
        }
        return result
    }

    /// Why a poll could not go on in a trap; nil where it could.
    private static func stuck(_ row: Row) -> String? {
        guard case .failed(_, _, _, let fault?) = row.result, fault.hasPrefix(TrapScene.stuckPrefix) else { return nil }
        return String(fault.dropFirst(TrapScene.stuckPrefix.count))
    }

    private static func isEndless(_ row: Row) -> Bool {
        guard case .failed(_, _, _, let fault?) = row.result else { return false }
        return fault.hasPrefix(TrapScene.endlessPrefix)
    }

    /// Whether what a trap does makes a poll fail that is right otherwise.
    private static func breaks(_ trap: ConnectorTrap) -> Bool { [.expiringToken, .deletedAnchor, .poisonRecord].contains(trap) }

    /// It says nothing of the mistakes that the traps are for: they were not reached.
    private static func pollFails(_ message: String) -> Lint {
        Lint(
            "poll-fails", "the poll fails: \(message)", loses: "everything: no cycle succeeds, and other mistakes stay unseen",
            fix: "see the message; where only the stand-in cannot answer it, describe the list as it is in simulate", isFatal: true)
    }

    private static func dedupFails(_ message: String) -> Lint {
        Lint(
            "dedup-fails", "dedup fails for every record: \(message)",
            loses: "everything: each record is set aside, and other mistakes stay unseen",
            fix: "see the message; where only the stand-in's records lack what it reads, describe them in simulate", key: "dedup",
            isFatal: true)
    }

    private static func noKeys(_ message: String) -> Lint {
        var lint = dedupFails(message)
        lint.message = "no record has a dedup key: \(message)"
        lint.key = "incremental.dedup"
        return lint
    }

    private static func tooCoarse(_ saysVersionSeconds: Bool) -> Lint {
        Lint(
            "version-too-coarse", "a record that changed twice within a second is taken for one that was seen",
            loses: "the later change, for good",
            fix: saysVersionSeconds
                ? "make version_seconds as long as the version in the dedup key stays the same, and let record_time give the time of the change"
                : "declare version_seconds and record_time, add a version that each change moves to the dedup key, or use incremental")
    }

    private static let doubles = Lint(
        "record-doubled", "the same version of a record becomes two jobs", loses: "nothing, but work is done twice",
        fix: "make dedup of what the record says only, and declare lookback: dedup keys are kept that far below the cursor")

    private static let observed: [String: Lint] = Dictionary(
        uniqueKeysWithValues: [
            Lint(
                "record-time-unread", "record_time gives no time for any record, and version_seconds goes by it",
                loses: "the later of two changes within version_seconds",
                fix: "return seconds since 1970, or an RFC 3339 time with its zone; an error in record_time counts as no time",
                key: "record_time"),
            Lint(
                "page-token-kept", "the last page's token is kept after the end",
                loses: "whatever the token does not lead to, at the latest when it expires",
                fix: "leave the token out of next_poll where can_poll_more is false"),
            Lint(
                "clock-as-cursor", "the cursor follows a clock instead of the records",
                loses: "records that show up after a poll and are dated before it",
                fix: "take the cursor from the records, at most the Date of the answer"),
            Lint(
                "new-by-updated", "records that change come again, though the trigger is about new ones",
                loses: "nothing, but old records come as new",
                fix: "filter and dedup by when a record was created, or name the trigger updated_…"),
            Lint(
                "paging-stops-early", "the poll ends while the list has more", loses: "what stands on the further pages",
                fix: "return can_poll_more = true while the answer says that there is more"),
            Lint(
                "paging-never-ends", "the poll says that there is more for ever", loses: "everything after it: the cycle never succeeds",
                fix: "return can_poll_more = false on the last page: a missing, null or empty token, an empty page"),
        ].map { ($0.name, $0) })

    private static func lint(_ trap: ConnectorTrap) -> Lint? {
        switch trap {
        case .equalTimestamps:
            Lint(
                "exclusive-without-overlap", "it asks for what is strictly after its cursor",
                loses: "records with the timestamp at which the last poll ended",
                fix: "ask from one unit below the cursor, and let dedup drop what comes again")
        case .pageEdgeTie, .pageWideTie:
            Lint(
                "strict-after-page-end", "it asks for what is strictly after a page's last record",
                loses: "records that share that record's timestamp",
                fix: "page by the source's token, or by time and id; move the cursor after the last page")
        case .lateVisibility:
            Lint(
                "late-records-lost", "it reads nothing below its cursor again", loses: "records that show up later than newer ones",
                fix: "read an overlap (lookback_seconds), and declare it")
        case .roundedPrecision:
            Lint(
                "precision-lost", "it makes the cursor of a rounded time", loses: "records within the same second or millisecond",
                fix: "keep the source's own literal, or round down only")
        case .clockSkew:
            Lint(
                "clock-skew", "it relies on this machine's clock", loses: "records within the difference of the clocks",
                fix: "take times from the records, or from the Date of the answer")
        case .futureDated:
            Lint(
                "future-date-believed", "one record dated ahead carries the cursor away", loses: "everything until that date",
                fix: "take no more than the Date of the answer: math.min(updated, now)")
        case .noZone:
            Lint(
                "zone-guessed", "times without a zone are not read and not refused", loses: "records within the offset",
                fix: "refuse them, or declare zone = \"utc\" if the provider means that")
        case .zoneChange:
            Lint(
                "times-compared-as-text", "times with offsets are compared as if they were text, or without their offset",
                loses: "records of the hour that comes twice, or everything until the text catches up",
                fix: "describe the poll with incremental, which compares instants; in code, take the offset off first")
        case .laterPartition:
            Lint(
                "partitions-listed-once", "a partition that shows up later is not read, or only from then on",
                loses: "everything in it, or what it held before it was found",
                fix: "list the partitions in each cycle, and begin each where the trigger began")
        case .lyingValidator:
            Lint(
                "not-modified-believed", "a 304 is taken to mean that nothing is new",
                loses: "what is on further pages, what changed within the same second, and whatever a cache hides",
                fix: "conditional = true in incremental, which asks only where a 304 surely means that, and reads whole once a day")
        case .unordered:
            Lint(
                "last-record-cursor", "the cursor moves past records that an unordered list had not shown yet",
                loses: "what changed while the pages were read", fix: "move the cursor at most to the time of the cycle's first answer")
        case .changedAgain:
            Lint(
                "no-version", "a record that changed again is taken for one that was seen", loses: "every change after the first",
                fix: "add what changes with the record to the dedup key: its version or updated_at")
        case .shiftingPages:
            Lint(
                "shifting-pages", "its pages shift while they are read", loses: "the record that slides over a page's edge",
                fix: "restart from the mark (restart_from_mark), or page by a token that names a place")
        case .crash:
            Lint(
                "cursor-moves-early", "the cursor moves before what lies below it was read",
                loses: "the rest of a cycle in which the process died",
                fix: "keep the mark in next_poll until the last page, and move it there")
        case .expiringToken:
            Lint(
                "token-expiry-unhandled", "a page token that is refused stops it",
                loses: "everything from then on: it asks for the same page again",
                fix: "poll_failure(\"page_state_expired\", …) where a request with a token is refused")
        case .deletedAnchor:
            Lint(
                "anchored-on-record", "it goes on from a record that may be deleted", loses: "what comes after it, or its place",
                fix: "page by time and id, or answer with poll_failure(\"page_state_expired\", …)")
        case .retentionGap:
            Lint(
                "gap-unseen", "nobody is told when the source has dropped what was not read", loses: "those records, silently",
                fix: "declare retention_seconds, or return a warning that begins with gap:")
        case .poisonRecord:
            Lint(
                "one-record-breaks-page", "one record without an id or a time stops it", loses: "every record after it",
                fix: "mind nil in poll; an error in dedup sets that record aside and the others go on")
        case .keptStart:
            Lint(
                "since-not-stored", "the default start is made anew by each poll until a record comes",
                loses: "what came between the first poll and the first job",
                fix: "return the start in next_poll, also where nothing was found")
        case .changedAtOnce, .idleFeed, .idReset: nil
        }
    }
}
