import SluiceConnectors
import SluiceCore
import SluiceDelivery
import SluicePolling
import SluiceStore

/// Backfills and audits: a window of a trigger's provider read again.
extension API {
    /// Takes `{"trigger", "from", "to"?, "mode"?, "audit"?, "repair"?, "beyond_retention"?, "cursor"?}`. An audit only looks,
    /// unless it repairs.
    func startBackfill(_ call: APICall) async throws -> APIResponse {
        let body = try call.object()
        let wanted = try BackfillWords(body, now: parts.clock.now())
        let trigger = try await trigger(wanted.trigger)
        let reach = try await reach(of: trigger)
        let started = try await parts.control.startBackfill(
            BackfillRequest(
                trigger: trigger, window: wanted.window, mode: wanted.mode, isAudit: wanted.isAudit,
                isBeyondRetention: wanted.isBeyondRetention,
                keysKept: reach.keepsAll ? .all : reach.floor.map { .from($0) } ?? .unknown, cursor: wanted.cursor,
                isOpenEnded: wanted.isOpenEnded))
        var answer = write(started, triggerName: trigger.name)
        answer.status = 201
        return answer
    }

    /// `trigger`, `unfinished`, `limit`, `after`. The newest first.
    func listBackfills(_ call: APICall) async throws -> APIResponse {
        var query = BackfillQuery(limit: try call.limit())
        if let name = call.query("trigger") { query.trigger = try await trigger(name).id }
        query.unfinishedOnly = call.flag("unfinished")
        query.before = try call.number("after", 1...Int64.max).map { BackfillID($0) }
        let limit = query.limit
        query.limit += 1
        let found = try await parts.store.backfills(query)
        let names = try await backfillTriggers(found)
        return APIResponse.object { writer in
            writer.list("backfills", found.prefix(limit)) { writer, backfill in
                self.write(backfill, names[backfill.trigger] ?? "?", to: &writer)
            }
            writer.member("next", found.count > limit ? found[limit - 1].id.description : nil)
        }
    }

    func showBackfill(_ call: APICall) async throws -> APIResponse {
        let backfill = try await backfill(call)
        return write(backfill, triggerName: try await backfillTriggers([backfill])[backfill.trigger] ?? "?")
    }

    func commandBackfill(_ call: APICall) async throws -> APIResponse {
        let id = try backfillID(call)
        guard let command = BackfillCommand(rawValue: call.parameter("command")) else {
            throw SluiceError(.notFound, "a backfill is told to \(BackfillCommand.allCases.map(\.rawValue).joined(separator: ", "))")
        }
        let changed = try await parts.store.commandBackfill(.default, id, command, at: parts.clock.now())
        await parts.control.backfillsChanged(changed.trigger)
        return write(changed, triggerName: try await backfillTriggers([changed])[changed.trigger] ?? "?")
    }

    /// `kind` (missing, extra, key_only), `limit`, `after`: in the order of the dedup keys.
    func listBackfillDifferences(_ call: APICall) async throws -> APIResponse {
        let backfill = try await backfill(call)
        let kinds = BackfillDifference.Kind.allCases.map(\.rawValue)
        guard let kind = BackfillDifference.Kind(rawValue: call.query("kind") ?? "missing") else {
            throw SluiceError(.invalid, "`kind` is one of \(kinds.joined(separator: ", "))")
        }
        var after: [UInt8]?
        if let text = call.query("after") {
            guard let bytes = HexText.bytes(text) else {
                throw SluiceError(.invalid, "this is no `after` of differences: use the `next` of a list before, or leave it out")
            }
            after = bytes
        }
        let limit = try call.limit(100)
        let found = try await parts.store.backfillDifferences(
            BackfillDifferenceQuery(backfill: backfill.id, kind: kind, after: after, limit: limit + 1))
        let trigger = try await parts.store.trigger(backfill.trigger)
        return APIResponse.object { writer in
            writer.member("backfill", backfill.id.rawValue)
            writer.member("kind", kind.rawValue)
            writer.list("differences", found.prefix(limit)) { writer, difference in
                writer.member("dedup_key", String(decoding: difference.key, as: UTF8.self))
                writer.member("job_id", trigger.map { JobIdentity.id(uid: $0.uid, dedupKey: difference.key) })
                writer.member("position", difference.position?.rawValue)
            }
            writer.member("next", found.count > limit ? HexText.text(found[limit - 1].key) : nil)
        }
    }

    // MARK: Inside

    private func backfillID(_ call: APICall) throws(SluiceError) -> BackfillID {
        guard let number = Int64(call.parameter("id")), number > 0 else {
            throw SluiceError(.invalid, "a backfill is named by its number: see `sluice backfill list`")
        }
        return BackfillID(number)
    }

    private func backfill(_ call: APICall) async throws -> StoredBackfill {
        let id = try backfillID(call)
        guard let backfill = try await parts.store.backfill(.default, id) else {
            throw SluiceError(.notFound, "there is no backfill \(id): see `sluice backfill list`")
        }
        return backfill
    }

    private func backfillTriggers(_ backfills: [StoredBackfill]) async throws -> [TriggerID: String] {
        var names: [TriggerID: String] = [:]
        for id in Set(backfills.map(\.trigger)) { names[id] = try await parts.store.trigger(id)?.name }
        return names
    }

    private func write(_ backfill: StoredBackfill, triggerName: String) -> APIResponse {
        APIResponse.object { self.write(backfill, triggerName, to: &$0) }
    }

    private func write(_ backfill: StoredBackfill, _ triggerName: String, to writer: inout JSONWriter) {
        let waits = parts.control.backfillWaits(backfill)
        writer.member("id", backfill.id.rawValue)
        writer.member("trigger", triggerName)
        writer.member("mode", backfill.mode.rawValue)
        writer.member("audit", backfill.isAudit)
        writer.member("from", backfill.window.from)
        writer.member("to", backfill.window.to)
        writer.member("state", backfill.state.rawValue)
        writer.member("phase", backfill.state.hasEnded ? nil : backfill.phase.rawValue)
        writer.member("waits_for", waits?.reason)
        writer.member("waits_until", waits?.until)
        writer.key("counts")
        backfill.counts.write(to: &writer)
        writer.member(
            "statement",
            backfill.state == .done
                ? BackfillStatement.text(backfill.window, backfill.mode, backfill.counts, notes: backfill.notes) : nil)
        writer.key("notes")
        writer.array { writer in for note in backfill.notes { writer.value(note) } }
        writer.member("failures", Int64(backfill.failures))
        writer.member("last_error", backfill.lastError)
        writer.member("created_at", backfill.createdAt)
        writer.member("progress_at", backfill.progressAt)
        writer.member("ended_at", backfill.endedAt)
    }
}

/// What the body of a new backfill says.
private struct BackfillWords {
    var trigger: String
    var window: BackfillWindow
    var mode: BackfillMode
    var isAudit: Bool
    var isBeyondRetention: Bool
    var cursor: [UInt8]?
    var isOpenEnded: Bool

    private static let known: Set<String> = ["trigger", "from", "to", "mode", "audit", "repair", "beyond_retention", "cursor"]

    init(_ body: JSONView, now: Timestamp) throws(SluiceError) {
        if let unknown = (body.members ?? []).first(where: { !BackfillWords.known.contains($0.key) })?.key {
            throw SluiceError(.invalid, "`\(unknown)` is not known here: use \(BackfillWords.known.sorted().joined(separator: ", "))")
        }
        guard let trigger = body["trigger"]?.string, !trigger.isEmpty else {
            throw SluiceError(.invalid, "`trigger` is the name of a trigger, as `sluice trigger list` shows it")
        }
        self.trigger = trigger
        guard let from = try BackfillWords.time(body, "from") else {
            throw SluiceError(.invalid, "`from` is a time such as 2026-01-31T09:00:00Z: where the window begins")
        }
        let to = try BackfillWords.time(body, "to")
        window = try BackfillWindow(from: from, to: to, now: now)
        isOpenEnded = to == nil
        cursor = body["cursor"].flatMap { $0.isNull ? nil : Array($0.bytes) }
        isAudit = try BackfillWords.flag(body, "audit")
        isBeyondRetention = try BackfillWords.flag(body, "beyond_retention")
        let repairs = try BackfillWords.flag(body, "repair")
        if repairs, !isAudit { throw SluiceError(.invalid, "`repair` belongs to an audit; a backfill says what it does by its `mode`") }
        switch body["mode"].flatMap({ $0.isNull ? nil : $0 }) {
        case nil: mode = isAudit && !repairs ? .dryRun : .missingOnly
        case let word?:
            guard !isAudit else {
                throw SluiceError(.invalid, "an audit has no `mode`: it looks, and with `repair` it makes what is missing")
            }
            guard let mode = word.string.flatMap(BackfillMode.init(rawValue:)) else {
                throw SluiceError(.invalid, "`mode` is one of \(BackfillMode.allCases.map(\.rawValue).joined(separator: ", "))")
            }
            self.mode = mode
        }
    }

    private static func time(_ body: JSONView, _ name: String) throws(SluiceError) -> Timestamp? {
        guard let value = body[name], !value.isNull else { return nil }
        guard let text = value.string else { throw SluiceError(.invalid, "`\(name)` is a text such as \"2026-01-31T09:00:00Z\"") }
        return try Timestamp(rfc3339: text, name)
    }

    private static func flag(_ body: JSONView, _ name: String) throws(SluiceError) -> Bool {
        guard let value = body[name], !value.isNull else { return false }
        guard let flag = value.bool else { throw SluiceError(.invalid, "`\(name)` is true or false") }
        return flag
    }
}

/// Bytes as digits, for tokens that nobody reads.
private enum HexText {
    static func text(_ bytes: [UInt8]) -> String {
        let digits = Array("0123456789abcdef".utf8)
        return String(decoding: bytes.flatMap { [digits[Int($0 >> 4)], digits[Int($0 & 15)]] }, as: UTF8.self)
    }

    static func bytes(_ text: String) -> [UInt8]? {
        let digits = Array(text.utf8)
        guard digits.count % 2 == 0, digits.count <= 8192 else { return nil }
        var bytes: [UInt8] = []
        for index in stride(from: 0, to: digits.count, by: 2) {
            guard let byte = UInt8(String(decoding: digits[index...index + 1], as: UTF8.self), radix: 16) else { return nil }
            bytes.append(byte)
        }
        return bytes
    }
}
