import SluiceConnectors
import SluiceCore
import SluiceDelivery
import SluiceStore

/// Deliveries that were given up: to be looked at, delivered again, or put aside.
extension API {
    /// Dead letters looked at in one transaction, and at most in one request.
    private static let batchRows = 1000
    private static let requestRowsMax: Int64 = 100_000
    private static let requestRowsDefault: Int64 = 10_000
    private static let numbersMax = 1000
    private static let noteBytesMax = 500
    private static let attemptsShownMax = 100

    // MARK: Looking

    func listDeadLetters(_ call: APICall) async throws -> APIResponse {
        let definitions = try await definitions()
        var query = DeadLetterQuery(limit: try call.limit())
        query.isDiscarded = call.flag("discarded")
        query.before = try call.query("after").map { try API.mark($0) }
        query.selection = try selection(definitions, { call.query($0) })
        let page = try await parts.store.deadLetters(query)
        let triggers = Dictionary(definitions.triggers.map { ($0.id, $0) }) { first, _ in first }
        let destinations = Dictionary(definitions.destinations.map { ($0.id, $0.name) }) { first, _ in first }
        return APIResponse.object { writer in
            writer.list("dead_letters", page.letters) { writer, letter in
                let delivery = letter.delivery
                writer.member("id", delivery.id)
                writer.member("destination", destinations[delivery.destination])
                writer.member("trigger", triggers[delivery.trigger]?.name)
                writer.member("position", delivery.position.rawValue)
                writer.member("job", triggers[delivery.trigger].map { JobIdentity.id(uid: $0.uid, dedupKey: letter.dedupKey) })
                writer.member("reason", delivery.reason)
                writer.member("last_error", letter.lastError)
                writer.member("last_status", delivery.lastStatus.map(Int64.init))
                writer.member("attempts", Int64(delivery.attempts))
                writer.member("died_at", letter.diedAt)
                writer.member("created_at", delivery.createdAt)
                API.write(letter.discard, to: &writer)
            }
            writer.member("next", page.next.map(API.text))
        }
    }

    private static func write(_ discard: DeadLetter.Discard?, to writer: inout JSONWriter) {
        writer.member("discarded_at", discard?.at)
        writer.member("discarded_by", discard?.by)
        writer.member("discarded_because", discard?.note)
    }

    func showDeadLetter(_ call: APICall) async throws -> APIResponse {
        let detail = try await delivery(call.parameter("id"))
        guard detail.delivery.state == .dead || detail.delivery.state == .discarded else { throw API.noDeadLetter(detail.delivery) }
        return try await show(detail)
    }

    func showDelivery(_ call: APICall) async throws -> APIResponse { try await show(try await delivery(call.parameter("id"))) }

    private func delivery(_ id: String) async throws -> DeliveryDetail {
        guard let number = Int64(id), number > 0 else { throw SluiceError(.invalid, "a delivery is named by its number") }
        let detail = try await parts.store.deliveryDetail(.default, number, attemptsMax: API.attemptsShownMax)
        guard let detail else {
            throw SluiceError(.notFound, "there is no delivery \(number): it went with its job after its time, or never was")
        }
        return detail
    }

    private static func noDeadLetter(_ delivery: StoredDelivery) -> SluiceError {
        SluiceError(
            .conflict,
            "delivery \(delivery.id) is no dead letter but \(delivery.state.rawValue): see `sluice delivery show \(delivery.id)`",
            context: ["delivery": String(delivery.id), "state": delivery.state.rawValue])
    }

    private func show(_ detail: DeliveryDetail) async throws -> APIResponse {
        let definitions = try await definitions()
        let trigger = definitions.triggers.first { $0.id == detail.delivery.trigger }
        let delivery = detail.delivery
        var job: [UInt8] = []
        JobJSON.write(detail.job, triggerName: trigger?.name ?? "", uid: trigger?.uid ?? "", into: &job)
        return APIResponse.object { writer in
            writer.member("id", delivery.id)
            let destination = definitions.destinations.first { $0.id == delivery.destination }
            writer.member("destination", destination?.name)
            writer.member("kind", destination?.kind)
            writer.member("trigger", trigger?.name)
            writer.member("position", delivery.position.rawValue)
            writer.member("state", delivery.state.rawValue)
            writer.member("reason", delivery.reason)
            writer.member("attempts", Int64(delivery.attempts))
            writer.member("next_attempt_at", delivery.nextAttemptAt)
            writer.member("last_status", delivery.lastStatus.map(Int64.init))
            writer.member("created_at", delivery.createdAt)
            writer.member("settled_at", detail.settledAt)
            API.write(detail.discard, to: &writer)
            writer.member("attempts_in_all", Int64(detail.attemptsInAll))
            writer.list("history", detail.attempts) { writer, attempt in
                writer.member("at", attempt.at)
                writer.member("status", attempt.status.map(Int64.init))
                writer.member("error", attempt.error)
                writer.member("duration_ms", attempt.durationMilliseconds)
                writer.member("response", String(decoding: attempt.response, as: UTF8.self))
            }
            writer.key("job")
            writer.raw(job)
        }
    }

    // MARK: Doing

    /// Takes `{"deliveries": [numbers]}`, or any of `destination`, `trigger`, `reason`, `since` and `until`, or `"all": true`; with
    /// `limit`, how many to look at, and `after`, the `next` of an answer before.
    func replayDeadLetters(_ call: APICall) async throws -> APIResponse {
        let order = try await order(try call.object())
        let now = parts.clock.now()
        let done = try await run(order) { try await self.parts.store.replayDeadLetters($0, after: $1, limit: $2, at: now) }
        return try await answer(done, order, "replayed")
    }

    /// As `replayDeadLetters`, with `because`: why, for whoever asks later; and `by`, who, where the token is not enough.
    func discardDeadLetters(_ call: APICall) async throws -> APIResponse {
        let body = try call.object()
        let order = try await order(body)
        guard let note = body["because"]?.string?.trimmed, (1...API.noteBytesMax).contains(note.utf8.count) else {
            throw SluiceError(.invalid, "`because` says in at most \(API.noteBytesMax) bytes why they are discarded: it is kept with them")
        }
        let person = body["by"]?.string.map { String($0.prefix(100)) } ?? ""
        let who = [person, call.caller].filter { !$0.isEmpty }.joined(separator: ", ")
        let now = parts.clock.now()
        let done = try await run(order) {
            try await self.parts.store.discardDeadLetters($0, by: who, because: String(note), after: $1, limit: $2, at: now)
        }
        return try await answer(done, order, "discarded")
    }

    private struct Order: Sendable {
        var selection: DeadLetterSelection
        var after: DeadLetterMark?
        var rows: Int
    }

    private func order(_ body: JSONView) async throws -> Order {
        let names = ["destination", "trigger", "reason", "since", "until"]
        let rows = try API.whole(body["limit"], "limit", 1...API.requestRowsMax) ?? API.requestRowsDefault
        let after = try body["after"].flatMap { try $0.string.map { try API.mark($0) } }
        if let list = body["deliveries"] {
            let numbers = list.elements?.map(\.int64) ?? []
            guard (1...API.numbersMax).contains(numbers.count), !numbers.contains(nil) else {
                throw SluiceError(.invalid, "`deliveries` is a list of 1 to \(API.numbersMax) numbers of deliveries")
            }
            if let other = (names + ["all"]).first(where: { body[$0].map { !$0.isNull } ?? false }) {
                throw SluiceError(.invalid, "`deliveries` names them one by one, and `\(other)` those that fit: give one of them")
            }
            return Order(selection: DeadLetterSelection(deliveries: numbers.compactMap { $0 }), rows: Int(rows))
        }
        for name in names where body[name].map({ $0.kind != .string && !$0.isNull }) ?? false {
            throw SluiceError(.invalid, "`\(name)` is a text")
        }
        guard names.contains(where: { body[$0]?.string != nil }) || body["all"]?.bool == true else {
            throw SluiceError(
                .invalid, "say which dead letters: `deliveries`, `destination`, `trigger`, `reason`, `since`, `until`, or `all`: true")
        }
        var selection = try selection(try await definitions()) { body[$0]?.string }
        // Those that die again meanwhile are not meant: so it comes to an end.
        selection.until = min(selection.until ?? .distantFuture, parts.clock.now())
        return Order(selection: selection, after: after, rows: Int(rows))
    }

    /// Batch after batch; webhooks that wait for the disk go in between.
    private func run(
        _ order: Order, _ body: @Sendable (DeadLetterSelection, DeadLetterMark?, Int) async throws -> DeadLetterBatch
    ) async throws -> DeadLetterBatch {
        var sum = DeadLetterBatch()
        sum.next = order.after
        var left = order.rows
        repeat {
            let batch = try await body(order.selection, sum.next, min(left, API.batchRows))
            left -= API.batchRows
            sum.changed += batch.changed
            sum.refused += batch.refused
            sum.detached += batch.detached
            sum.next = batch.next
        } while sum.next != nil && left > 0
        return sum
    }

    private func answer(_ done: DeadLetterBatch, _ order: Order, _ word: String) async throws -> APIResponse {
        if done.changed > 0 { try await DeadLetterWatch(store: parts.store, alarms: parts.alarms).clear() }
        var refused: [StoredDelivery] = []
        for number in done.refused.prefix(100) {
            if let detail = try await parts.store.deliveryDetail(.default, number, attemptsMax: 0) { refused.append(detail.delivery) }
        }
        if done.changed == 0, done.refused.count == 1, order.selection.deliveries?.count == 1 {
            guard let one = refused.first else {
                throw SluiceError(.notFound, "there is no delivery \(done.refused[0]): it went with its job after its time, or never was")
            }
            throw done.detached > 0 ? try await noAttachment(one) : API.noDeadLetter(one)
        }
        let states = Dictionary(refused.map { ($0.id, $0.state.rawValue) }) { first, _ in first }
        return APIResponse.object { writer in
            writer.member(word, Int64(done.changed))
            writer.list("refused", done.refused) { writer, number in
                writer.member("id", number)
                writer.member("state", states[number])
            }
            writer.member("detached", Int64(done.detached))
            writer.member("until", order.selection.until)
            writer.member("next", done.next.map(API.text))
        }
    }

    private func noAttachment(_ delivery: StoredDelivery) async throws -> SluiceError {
        let definitions = try await definitions()
        let trigger = definitions.triggers.first { $0.id == delivery.trigger }?.name ?? "?"
        let destination = definitions.destinations.first { $0.id == delivery.destination }?.name ?? "?"
        return SluiceError(
            .conflict,
            "delivery \(delivery.id) stays dead: \(trigger) no longer delivers to \(destination), so there is no filter to say what of it may "
                + "go there. Attach it again and replay, or discard it",
            context: ["delivery": String(delivery.id), "trigger": trigger, "destination": destination])
    }

    // MARK: Words

    private func selection(_ definitions: Definitions, _ value: (String) -> String?) throws(SluiceError) -> DeadLetterSelection {
        var selection = DeadLetterSelection()
        if let name = value("destination") { selection.destination = try API.destination(name, definitions) }
        if let name = value("trigger") {
            guard let trigger = definitions.triggers.first(where: { $0.name == name }) else { throw API.noTrigger(name) }
            selection.trigger = trigger.id
        }
        if let reason = value("reason") {
            let known = DeliveryMachine.DeadReason.known.map(\.rawValue)
            guard known.contains(reason) else {
                throw SluiceError(.invalid, "`reason` is one of \(known.joined(separator: ", ")), not `\(reason.prefix(64))`")
            }
            selection.reason = reason
        }
        if let text = value("since") { selection.since = try moment(text, "since") }
        if let text = value("until") { selection.until = try moment(text, "until") }
        if let since = selection.since, let until = selection.until, since >= until {
            throw SluiceError(.invalid, "`since` (\(since)) is not before `until` (\(until))")
        }
        return selection
    }

    /// A time, or how long ago.
    func moment(_ text: String, _ name: String) throws(SluiceError) -> Timestamp {
        if let span = Words.span(text) { return parts.clock.now() - span }
        if let time = Timestamp(rfc3339: text) { return time }
        throw SluiceError(
            .invalid, "`\(name)` is a time with its zone, such as 2026-01-31T09:05:00Z, or how long ago, such as 90m, 2h or 3d")
    }

    /// As `next` tells it.
    private static func text(_ mark: DeadLetterMark) -> String { "\(mark.diedAt.milliseconds).\(mark.delivery)" }

    private static func mark(_ text: String) throws(SluiceError) -> DeadLetterMark {
        let parts = text.split(separator: ".", omittingEmptySubsequences: false).map { Int64($0) }
        guard parts.count == 2, let time = parts[0], let delivery = parts[1], time >= 0, delivery >= 0 else {
            throw SluiceError(.invalid, "`after` is the `next` of an answer before")
        }
        return DeadLetterMark(diedAt: Timestamp(milliseconds: time), delivery: delivery)
    }

    static func whole(_ value: JSONView?, _ name: String, _ range: ClosedRange<Int64>) throws(SluiceError) -> Int64? {
        guard let value, !value.isNull else { return nil }
        guard let number = value.int64, range.contains(number) else {
            throw SluiceError(.invalid, "`\(name)` is a whole number from \(range.lowerBound) to \(range.upperBound)")
        }
        return number
    }

    static func destination(_ name: String, _ definitions: Definitions) throws(SluiceError) -> DestinationID {
        guard let destination = definitions.destinations.first(where: { $0.name == name }) else {
            throw SluiceError(
                .notFound, "there is no destination `\(name)`: \(Words.hint(name, among: definitions.destinations.map(\.name)))")
        }
        return destination.id
    }
}
