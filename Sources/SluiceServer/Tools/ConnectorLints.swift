import SluiceConnectors
import SluiceCore
import SluiceLua

/// What `sluice connector check` finds in one file without running it against anything: whether it loads, and what its
/// description and its source say.
public struct ConnectorLints: Sendable {
    public let file: String
    /// Nil where the file does not load: then `findings` says why.
    public let connector: (any Connector)?
    public private(set) var findings: [ConnectorFinding] = []
    private let keys: LuaKeyLines
    private let lines: [String]

    /// Throws `.notFound` if there is no such file.
    public init(file path: String) throws {
        file = ConnectorFile.file(path)
        let source: [UInt8]
        do {
            source = try ConnectorFile.source(file)
        } catch let error as SluiceError where error.code != .notFound {
            keys = LuaKeyLines(source: [])
            (lines, connector) = ([], nil)
            findings.append(fault(error))
            return
        }
        keys = LuaKeyLines(source: source)
        lines = source.split(separator: UInt8(ascii: "\n"), omittingEmptySubsequences: false).map { String(decoding: $0, as: UTF8.self) }
        do {
            connector = try ConnectorFile.load(source: source, file: file)
        } catch {
            connector = nil
            findings.append(fault(error as? SluiceError ?? SluiceError(.connector, "\(error)")))
            return
        }
        if let definition = connector?.definition { lint(definition) }
        lintAllowances(lines)
    }

    /// A finding about a line, whatever stands in it.
    mutating func note(_ lint: String, line: Int, _ message: String, loses: String, fix: String) {
        findings.append(ConnectorFinding(.warning, lint, file: file, line: line, subject: "", message: message, loses: loses, fix: fix))
    }

    /// File and line of a key such as `triggers.new_order.poll`.
    public func locate(_ key: String) -> (file: String, line: Int?) { (file, keys.line(key)) }

    /// Whether the file says `-- allow LINT: WHY` where a finding stands: for those that were seen by running the connector.
    public func allows(_ finding: ConnectorFinding) -> Bool { allows(finding.lint, line: finding.line) }

    private func allows(_ lint: String, line: Int?) -> Bool {
        guard let line else { return false }
        return [line - 1, line - 2].contains { index in
            guard lines.indices.contains(index), let allowance = LintAllowance(lines[index]) else { return false }
            return allowance.name == lint && allowance.hasReason
        }
    }

    /// Once for a place, though variants may repeat it; and not where its line, or the one above, says `-- allow LINT: WHY`.
    mutating func warn(
        _ lint: String, _ key: String, _ message: String, loses: String, fix: String,
        severity: ConnectorFinding.Severity = .warning
    ) {
        if findings.contains(where: { $0.lint == lint && $0.subject == key }) { return }
        if allows(lint, line: keys.line(key)) { return }
        findings.append(
            ConnectorFinding(severity, lint, file: file, line: keys.line(key), subject: key, message: message, loses: loses, fix: fix))
    }

    // MARK: What keeps it from loading

    private func fault(_ error: SluiceError) -> ConnectorFinding {
        var message = error.message
        if message.hasPrefix(file + ": ") { message = String(message.dropFirst(file.utf8.count + 2)) }
        // Lua says where by itself: connector.lua:21: …
        var line: Int?
        if message.hasPrefix("connector.lua:") {
            let rest = message.dropFirst("connector.lua:".count)
            line = Int(rest.prefix { $0.isNumber })
            if line != nil { message = String(rest.drop { $0.isNumber }.drop { $0 == ":" || $0 == " " }) }
        }
        var subject = message.split(separator: " ").first.map(String.init) ?? ""
        let words = message.split { " '\":".contains($0) }.map(String.init)
        // "triggers.x.incremental incremental.cursor.type is missing": the two say one place.
        if words.count > 1, let last = subject.split(separator: ".").last, words[1].hasPrefix(last + ".") {
            subject += words[1].dropFirst(last.count)
            message = subject + message.dropFirst(words[0].count + 1 + words[1].count)
        } else if words.count > 1, words[1].contains("."), !subject.isEmpty {
            subject += "." + words[1]
        }
        line = line ?? ([subject] + words).lazy.compactMap { $0.contains(".") || $0 == subject ? keys.line($0) : nil }.first
        return ConnectorFinding(
            .error, "definition", file: file, line: line, subject: subject, message: message, loses: "the connector: it does not load",
            fix: "see the message")
    }

    // MARK: What it says

    private mutating func lint(_ definition: ConnectorDefinition) {
        if definition.webhook?.scheme == "none" {
            warn(
                "no-signature-check", "webhook.scheme", "its webhooks are not verified (scheme \"none\")",
                loses: "nothing, but whoever learns the URL can cause polls", fix: "name the provider's scheme: `sluice verify --list`")
        }
        if let token = keys.tokens.indices.first(where: { isClock(at: $0) }) {
            let line = keys.tokens[token].line
            findings.append(
                ConnectorFinding(
                    .warning, "clock-as-cursor", file: file, line: line, subject: "os",
                    message: "it asks for this machine's clock, which connectors cannot read and cursors must not come from",
                    loses: "whatever the code that asks is for: it fails there",
                    fix: "take times from the records, or parse_http_date(response.headers.date)"))
        }
        for type in definition.triggers {
            let key = "triggers.\(type.name)"
            lintLag(type, key)
            if let rules = connector?.incremental(triggerType: type.name) {
                for variant in rules.variantsOrSelf { lint(variant, type, key + ".incremental") }
            } else {
                lintLambda(type, key)
                lintWindow(type, key)
            }
        }
    }

    private func isClock(at index: Int) -> Bool {
        let tokens = keys.tokens
        guard index + 2 < tokens.count, tokens[index].kind == .name, tokens[index].text == "os", tokens[index + 1].text == "." else {
            return false
        }
        return ["time", "date", "clock"].contains(tokens[index + 2].text)
    }

    private mutating func lint(_ rules: Incremental, _ type: TriggerTypeDefinition, _ key: String) {
        lintParameters(rules, key)
        if rules.dedup.versions.isEmpty, ChangeWords.stand(in: type.name), rules.cursor?.saysChange != true,
            rules.cursor?.field != rules.dedup.id
        {
            warn(
                "no-version", key + ".dedup", "the trigger is about changes, and its dedup key is \(rules.dedup.id) alone",
                loses: "every change of a record after the first",
                fix: "add version, which changes with the record; where each change has an id of its own: -- allow no-version: WHY")
        }
        guard let cursor = rules.cursor else { return }
        let granule = cursor.comparedUnits
        if let overlap = cursor.overlap {
            if cursor.isExclusive, overlap < granule {
                warn(
                    "exclusive-without-overlap", key + ".cursor.overlap",
                    "the source lists only what is strictly after the cursor, and overlap = \(overlap) asks from the cursor itself",
                    loses: "records with the timestamp at which the last poll ended", fix: "remove overlap: Sluice asks one granule earlier"
                )
            } else if overlap < cursor.lookback {
                warn(
                    "lookback-overridden", key + ".cursor.overlap", "overlap = \(overlap) replaces the lookback of \(cursor.lookback)",
                    loses: "records that show up late", fix: "remove overlap")
            }
        }
        if cursor.marksPerSecond != nil, cursor.lookback == 0, cursor.visibilityLag == .zero {
            warn(
                "no-lookback", key + ".cursor", "nothing below the cursor is read again, and lists may lag behind changes",
                loses: "records that show up after newer ones, if the source has such",
                fix: "declare lookback_seconds as long as the source may lag, for example 60")
        }
        if rules.dedup.versions.isEmpty, cursor.saysChange {
            warn(
                "no-version", key + ".dedup", "\(cursor.field) moves with each change, and the dedup key has no version",
                loses: "every change of a record after the first", fix: "add version = \"\(cursor.field)\"")
        }
        if isAboutNew(type.name), cursor.saysChange {
            warn(
                "new-by-updated", key + ".cursor.field", "the trigger is about new records, and its cursor is \(cursor.field)",
                loses: "nothing, but old records may come as new when they change",
                fix: "use when a record was created, or name it updated_…")
        }
        if cursor.order == .ascending, !rules.asksForOrder {
            warn(
                "unordered-as-ordered", key + ".cursor.order",
                "order = \"asc\" is declared, and nothing in the request asks the source for it",
                loses: "what an unordered list shows after the cursor has moved past it, if the source's order is not ascending by itself",
                fix: "add the source's parameter for sorting, or leave order out; in order by itself: -- allow unordered-as-ordered: WHY")
        }
        if case .token(let token) = rules.pagination, case .query(let parameter) = token.parameter, !token.restartsFromMark,
            cursor.order == .ascending, countsPages(parameter)
        {
            warn(
                "shifting-pages", key + ".pagination", "its pages may be counted (\(parameter)), and records that change move between them",
                loses: "the record that slides over a page's edge", fix: "add restart_from_mark = true")
        }
    }

    /// A webhook wakes a poll within milliseconds; whether the record shows by then is the provider's doing.
    private mutating func lintLag(_ type: TriggerTypeDefinition, _ key: String) {
        guard type.kind == .hybrid, type.visibilityLag == .zero else { return }
        let rules = connector?.incremental(triggerType: type.name)?.variantsOrSelf
        guard rules?.contains(where: { $0.cursor.map { $0.lookback > 0 } ?? false }) ?? (type.lookback > 0) else { return }
        warn(
            "webhook-covered-early", rules == nil ? key + ".lookback" : key + ".incremental.cursor",
            "records may show up late (lookback), and the poll that a webhook wakes is the last one for it (no visibility lag)",
            loses: "nothing for ever, but what shows up after that poll waits for the next webhook or the safety poll",
            fix: "declare visibility_lag_seconds: how long after a webhook its change may stay invisible")
    }

    private func isAboutNew(_ name: String) -> Bool {
        let words = Set(name.split(separator: "_").map(String.init))
        return !words.isDisjoint(with: ["new", "created"]) && words.isDisjoint(with: ["updated", "changed", "modified", "or"])
    }

    private func countsPages(_ parameter: String) -> Bool {
        ["page", "offset", "skip", "start", "startat", "pagenumber"].contains(parameter.lowercased().filter { $0.isLetter })
    }

    /// `dedup = function(record) return record.id end`, where the trigger is about changes.
    private mutating func lintLambda(_ type: TriggerTypeDefinition, _ key: String) {
        guard let body = keys.function(key + ".dedup") else { return }
        let words = type.name.lowercased()
        let stated = connector?.simulation(triggerType: type.name)?.rules
        // What is described is shown by running it.
        guard stated == nil, ChangeWords.stand(in: words) else { return }
        guard let start = body.firstIndex(where: { $0.text == "return" }) else { return }
        let rest = body[(start + 1)...].map(\.text)
        if rest.count == 4, rest[1] == ".", rest[3] == "end" {
            warn(
                "no-version", key + ".dedup", "the trigger is about changes, and its dedup key may be \(rest[2]) alone",
                loses: "every change of a record after the first",
                fix: "add what changes with the record: record.\(rest[2]) .. \"@\" .. record.updated_at")
        }
    }
}

extension ConnectorFinding {
    /// Writes all findings of a check as JSON.
    public static func json(_ findings: [ConnectorFinding], files: [String]) -> [UInt8] {
        var writer = JSONWriter()
        writer.object { writer in
            writer.key("files")
            writer.array { writer in for file in files { writer.value(file) } }
            writer.member("errors", Int64(findings.count { $0.severity == .error }))
            writer.member("warnings", Int64(findings.count { $0.severity == .warning }))
            writer.key("findings")
            writer.array { writer in
                for finding in findings {
                    writer.object { writer in
                        writer.member("severity", finding.severity.rawValue)
                        writer.member("lint", finding.lint)
                        writer.member("file", finding.file)
                        writer.member("line", finding.line.map(Int64.init))
                        writer.member("subject", finding.subject)
                        writer.member("message", finding.message)
                        writer.member("loses", finding.loses)
                        writer.member("fix", finding.fix)
                    }
                }
            }
        }
        return writer.bytes
    }

    /// For people: file:line, the lint's name, what is wrong, what it loses, and the fix.
    public var text: String {
        let place = line.map { "\(file):\($0)" } ?? file
        let head = "\(place): \(severity.rawValue): \(message) [\(lint)]"
        return lint == "definition" ? head : head + "\n    loses: \(loses)\n    fix:   \(fix)"
    }
}
