import SluiceConnectors
import SluiceCore

extension Trial {
    private static let recordsShownMax = 20
    private static let bodyCharactersMax = 500

    /// For people. `width` cuts each record to one line.
    public func text(width: Int = 140) -> String {
        var lines = ["\(connector), \(type): nothing is stored"]
        if let webhook { lines += Trial.lines(webhook) }
        for exchange in exchanges {
            let status = exchange.reply.map { String($0.status) } ?? "no answer"
            lines.append("  \(exchange.request.method) \(exchange.request.url) → \(status), \(exchange.span.milliseconds) ms")
            if let body = Trial.shownBody(exchange.request) { lines.append("    " + body.replacing("\n", with: "\n    ")) }
            if let failure = exchange.failure { lines.append("    \(failure)") }
        }
        for (index, page) in pages.enumerated() {
            lines.append("page \(index + 1): \(page.records.count) records, " + (page.more ? "and there is more" : "the last one"))
            for record in page.records.prefix(Trial.recordsShownMax) {
                let mark = record.mark.map { "  mark \($0)" } ?? ""
                lines.append(
                    "  " + (record.isKeyed ? record.key : "QUARANTINED: \(record.key)") + mark + (record.isDerived ? "  derived" : ""))
                let text = String(decoding: record.bytes, as: UTF8.self)
                lines.append("    " + (text.count > width ? text.prefix(width - 1) + "…" : text))
            }
            if page.records.count > Trial.recordsShownMax {
                lines.append("  and \(page.records.count - Trial.recordsShownMax) more: --json shows all")
            }
            for warning in page.warnings { lines.append("  warning: \(warning)") }
        }
        if webhook == nil {
            lines.append("cursor before: \(Trial.text(cursorBefore))")
            lines.append("cursor after:  \(Trial.text(cursorAfter))")
        }
        for note in notes { lines.append("note: \(note)") }
        if pages.last?.more == true { lines.append("There is more: --pages \(pages.count * 2)") }
        if let failure { lines.append("FAILED (\(failureKind ?? "?")): \(failure)") }
        return lines.joined(separator: "\n")
    }

    private static func lines(_ webhook: TrialWebhook) -> [String] {
        var lines: [String] = []
        if let report = webhook.verification { lines += report.text.split(separator: "\n").map { "  \($0)" } }
        if let reason = webhook.unverified { lines.append("  \(reason)") }
        if !webhook.keys.isEmpty { lines.append("  its keys: \(webhook.keys.joined(separator: ", "))") }
        if let key = webhook.listensTo { lines.append("  this trigger listens to: \(key.isEmpty ? "every webhook" : key)") }
        lines.append("  the webhook is \(webhook.isForTrigger ? "" : "not ")for this trigger")
        return lines
    }

    /// How the body of a request begins; nil if it has none.
    private static func shownBody(_ request: HTTPRequestPlan) -> String? {
        if request.body.isEmpty { return nil }
        guard let text = String(validating: request.body, as: UTF8.self) else { return "a body of \(request.body.count) bytes, no text" }
        return text.count > bodyCharactersMax ? String(text.prefix(bodyCharactersMax)) + "…" : text
    }

    private static func text(_ cursor: [UInt8]?) -> String { cursor.map { String(decoding: $0, as: UTF8.self) } ?? "none" }

    /// For programs.
    public var json: [UInt8] {
        var writer = JSONWriter()
        writer.object { writer in
            writer.member("connector", connector)
            writer.member("type", type)
            writer.member("cursor_before", json: cursorBefore)
            writer.member("cursor_after", json: cursorAfter)
            writer.list("requests", exchanges) { writer, exchange in
                writer.member("method", exchange.request.method)
                writer.member("url", exchange.request.url)
                writer.member("body", Trial.shownBody(exchange.request))
                writer.member("status", exchange.reply.map { Int64($0.status) })
                writer.member("failure", exchange.failure)
                writer.member("milliseconds", exchange.span.milliseconds)
            }
            writer.list("pages", pages) { writer, page in
                writer.list("records", page.records) { writer, record in
                    writer.member(record.isKeyed ? "dedup_key" : "quarantined", record.key)
                    writer.member("mark", record.mark)
                    writer.member("derived", record.isDerived)
                    writer.member("record", json: record.bytes)
                }
                writer.member("more", page.more)
                writer.key("warnings")
                writer.array { writer in for warning in page.warnings { writer.value(warning) } }
            }
            writer.key("notes")
            writer.array { writer in for note in notes { writer.value(note) } }
            if let webhook {
                writer.key("webhook")
                writer.object { writer in
                    if let report = webhook.verification { writer.member("verified", report.isValid) }
                    writer.key("keys")
                    writer.array { writer in for key in webhook.keys { writer.value(key) } }
                    writer.member("listens_to", webhook.listensTo)
                    writer.member("for_trigger", webhook.isForTrigger)
                }
            }
            writer.member("failure", failure)
        }
        return writer.bytes
    }
}
