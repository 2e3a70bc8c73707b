import SluiceConnectors
import SluiceCore
import SluiceDelivery
import SluicePolling
import SluiceStore

/// Callbacks: pending operations whose results are waited for.
extension API {
    private static let lifetimeStandard = Span.days(1)
    private static let idempotencyKeyBytesMax = 255
    private static let ownPrefix = "callback-"
    private static let ownDestinationsMax = 1000

    private func desk() throws(SluiceError) -> CallbackDesk {
        guard let desk = parts.callbacks else {
            throw SluiceError(.conflict, "no server runs that could wait for it: start one with `sluice serve`")
        }
        return desk
    }

    func createCallback(_ call: APICall) async throws -> APIResponse {
        let desk = try desk()
        let body = try call.object()
        var order = try API.order(body)
        if let push = body["push"], !push.isNull {
            if order.destination != nil { throw SluiceError(.invalid, "`push` and `destination` exclude each other: keep one") }
            order.destination = try await ownDestination(push, desk)
        }
        let made = try await desk.make(order)
        // Those who carry jobs do not know a source before its first callback.
        if !desk.knowsSource(of: made.callback) { try await parts.control.definitionsChanged() }
        return try await show(made.callback, status: made.isNew ? 201 : 200)
    }

    private static func order(_ body: JSONView) throws(SluiceError) -> CallbackDesk.Order {
        let known = ["connection", "type", "input", "expires_in", "destination", "push", "pauses", "idempotency_key"]
        for (key, _) in body.members ?? [] where !known.contains(key) {
            throw SluiceError(.invalid, "a callback has no `\(key.prefix(64))`: \(Words.hint(key, among: known))")
        }
        guard let connection = try text(body, "connection") else {
            throw SluiceError(.invalid, "`connection` is missing: the connection that knows the provider")
        }
        let input = body["input"].flatMap { $0.isNull ? nil : $0 }
        if let input, input.members == nil { throw SluiceError(.invalid, "`input` must be a JSON object") }
        let key = try text(body, "idempotency_key")
        if let key, !(1...idempotencyKeyBytesMax).contains(key.utf8.count) {
            throw SluiceError(.invalid, "`idempotency_key` is text of 1 to \(idempotencyKeyBytesMax) bytes")
        }
        return CallbackDesk.Order(
            connection: connection, type: try text(body, "type"), input: input.map { Array($0.bytes) } ?? Array("{}".utf8),
            lifetime: try lifetime(body["expires_in"]), destination: try text(body, "destination"), pauses: try pauses(body["pauses"]),
            idempotencyKey: key)
    }

    /// The push destination of a caller's own URL and secret, made at its first use: the same for each callback that names them.
    private func ownDestination(_ push: JSONView, _ desk: CallbackDesk) async throws -> String {
        let known = ["url", "secret", "allow_private"]
        for (key, _) in push.members ?? [] where !known.contains(key) {
            throw SluiceError(.invalid, "`push` has no `\(key.prefix(64))`: \(Words.hint(key, among: known))")
        }
        guard let url = try API.text(push, "url"), let secret = try API.text(push, "secret") else {
            throw SluiceError(.invalid, "`push` needs `url`, and `secret`, with which each delivery is signed: \"whsec_…\"")
        }
        var (settings, secrets) = (DestinationSettings(), DestinationSecrets())
        (settings.url, settings.allowsPrivate, secrets.secrets) = (url, push["allow_private"]?.bool ?? false, [SigningSecret(secret)])
        let name = API.ownPrefix + Hex.text(CallbackDesk.hash("\(url)\n\(secret)\n\(settings.allowsPrivate)").prefix(8))
        let names = desk.definitions.destinations.values.map(\.stored.name)
        if names.contains(name) { return name }
        guard names.count(where: { $0.hasPrefix(API.ownPrefix) }) < API.ownDestinationsMax else {
            throw SluiceError(.overloaded, "callbacks have \(API.ownDestinationsMax) URLs of their own already: name a destination instead")
        }
        if let problem = CarriedDestinations.problem(name, "push", settings, secrets, parts.places) {
            throw SluiceError(.invalid, "`push`: \(problem)")
        }
        let change = DefinitionChange.putDestination(
            name: name, kind: "push", settings: settings.json,
            sealedSecrets: try parts.sealer.seal(secrets.json, owner: SecretOwner.destination(name)))
        try await changes.run {
            try await self.parts.store.apply([change], namespace: .default, at: self.parts.clock.now())
            try await self.parts.control.definitionsChanged()
        }
        return name
    }

    private static func text(_ body: JSONView, _ key: String) throws(SluiceError) -> String? {
        guard let value = body[key], !value.isNull else { return nil }
        guard let text = value.string else { throw SluiceError(.invalid, "`\(key)` must be text") }
        return text
    }

    private static func lifetime(_ value: JSONView?) throws(SluiceError) -> Span {
        guard let value, !value.isNull else { return lifetimeStandard }
        let span =
            value.string.flatMap { Words.span($0) }
            ?? value.double.flatMap { seconds in
                seconds > 0 && seconds < 1e9 ? Span(milliseconds: Int64(seconds * 1000)) : nil
            }
        guard let span, span >= .seconds(1), span <= CallbackPolicy.lifetimeMax else {
            throw SluiceError(.invalid, "`expires_in` is a number of seconds, or a text such as \"30m\", \"12h\" or \"7d\": 1s to 90d")
        }
        return span
    }

    private static func pauses(_ value: JSONView?) throws(SluiceError) -> [Span] {
        guard let value, !value.isNull else { return [] }
        let seconds = (value.elements ?? []).map { $0.double ?? 0 }
        guard (1...CallbackPolicy.pausesMax).contains(seconds.count), seconds.allSatisfy({ (1...86_400).contains($0) }) else {
            throw SluiceError(
                .invalid, "`pauses` is a list of 1 to \(CallbackPolicy.pausesMax) numbers of seconds, each from 1 to 86400")
        }
        return seconds.map { Span(milliseconds: Int64($0 * 1000)) }
    }

    func listCallbacks(_ call: APICall) async throws -> APIResponse {
        let definitions = try await definitions()
        let limit = try call.limit()
        var query = CallbackQuery(before: try call.number("after", 1...Int64.max), limit: limit + 1)
        if let name = call.query("connection") { query.connection = try API.connection(name, definitions).id }
        if let word = call.query("state") {
            guard let state = CallbackState(rawValue: word) else {
                throw SluiceError(.invalid, "`state` is one of \(CallbackState.allCases.map(\.rawValue).joined(separator: ", "))")
            }
            query.state = state
        }
        let all = try await parts.store.callbacks(query)
        let shown = all.prefix(limit)
        let names = Names(definitions)
        return APIResponse.object { writer in
            writer.list("callbacks", shown) { self.summary(&$0, $1, names) }
            writer.member("next", all.count > limit ? shown.last.map { String($0.number) } : nil)
        }
    }

    /// With `wait`, once it is over, or as it stands after so many seconds.
    func showCallback(_ call: APICall) async throws -> APIResponse {
        let id = call.parameter("id")
        let seconds = Int(try call.number("wait", 0...Int64(CallbackService.waitSecondsMax)) ?? 0)
        if seconds > 0 {
            let service = try desk().service
            return try await show(try await call.untilHangUp { try await service.wait(id, seconds: seconds) })
        }
        guard let stored = try await parts.store.callback(.default, id: id) else {
            throw SluiceError(
                .notFound,
                "there is no callback `\(id.prefix(64))`: see `sluice callback list`; how one ended is kept for as long as jobs are")
        }
        return try await show(stored)
    }

    func cancelCallback(_ call: APICall) async throws -> APIResponse {
        let reason = try API.text(try call.object(), "reason")
        if let reason, reason.utf8.count > 1000 { throw SluiceError(.invalid, "`reason` is text of at most 1000 bytes") }
        return try await show(try await desk().service.cancel(call.parameter("id"), reason: reason))
    }

    // MARK: As JSON

    private struct Names {
        var connections: [ConnectionID: String]
        var destinations: [DestinationID: String]
        init(_ definitions: Definitions) {
            connections = Dictionary(definitions.connections.map { ($0.id, $0.name) }) { first, _ in first }
            destinations = Dictionary(definitions.destinations.map { ($0.id, $0.name) }) { first, _ in first }
        }
        init(_ catalogue: Catalogue) {
            connections = catalogue.connectionNames
            destinations = catalogue.destinations.mapValues(\.stored.name)
        }
    }

    private func show(_ stored: StoredCallback, status: Int = 200) async throws -> APIResponse {
        let desk = parts.callbacks
        let names = if let desk { Names(desk.definitions) } else { Names(try await definitions()) }
        return APIResponse.object(status: status) { writer in
            summary(&writer, stored, names)
            writer.member("url", desk?.url(of: stored))
            if let problem = desk?.reachProblem, !stored.state.state.isOver { writer.member("note", problem) }
            writer.member("input", json: stored.input)
            writer.member("result", json: stored.result)
        }
    }

    private func summary(_ writer: inout JSONWriter, _ stored: StoredCallback, _ names: Names) {
        let state = stored.state
        writer.member("id", stored.id)
        writer.member("number", stored.number)
        writer.member("state", state.state.rawValue)
        writer.member("connection", names.connections[stored.connection])
        writer.member("type", stored.type)
        writer.member("settled_by", state.asks ? "status" : "webhook")
        writer.member("unsafe", stored.isUnsafe)
        writer.member("idempotency_key", stored.idempotencyKey)
        writer.member("destination", stored.destination.flatMap { names.destinations[$0] })
        writer.member("job", stored.sourceUID.isEmpty ? nil : JobIdentity.id(uid: stored.sourceUID, dedupKey: Array(stored.id.utf8)))
        writer.member("position", stored.position?.rawValue)
        writer.member("created_at", state.createdAt)
        writer.member("expires_at", state.expiresAt)
        writer.member("next_poll_at", state.state.isOver || !state.asks ? nil : state.nextAt)
        writer.member("polls", Int64(state.polls))
        writer.member("calls", state.signals)
        writer.member("failures", Int64(state.failures))
        writer.member("last_error", state.lastError)
        writer.member("ended_at", state.endedAt)
        writer.member("ended_by", stored.endedBy?.rawValue)
        writer.member("reason", state.reason)
    }
}
