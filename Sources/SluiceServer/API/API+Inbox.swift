import Crypto
import SluiceCore
import SluiceStore

/// Webhooks as they came. Headers that carry credentials are masked.
extension API {
    func listInbox(_ call: APICall) async throws -> APIResponse {
        let definitions = try await definitions()
        let limit = try call.limit()
        var query = InboxQuery(limit: limit, includesContent: false)
        query.unmatchedOnly = call.flag("unmatched")
        query.before = try (call.number("before", 1...Int64.max) ?? call.number("after", 1...Int64.max)).map(InboxSequence.init)
        if let name = call.query("connection") {
            guard let connection = definitions.connections.first(where: { $0.name == name }) else {
                throw SluiceError(
                    .notFound, "there is no connection `\(name)`: \(Words.hint(name, among: definitions.connections.map(\.name)))")
            }
            query.connection = connection.id
        }
        let items = try await parts.store.inbox(query)
        return APIResponse.object { writer in
            writer.list("webhooks", items) { self.summary(&$0, $1, definitions) }
            writer.member("next", items.count == limit ? items.last.map { String($0.sequence.rawValue) } : nil)
        }
    }

    private func summary(_ writer: inout JSONWriter, _ item: InboxItem, _ definitions: Definitions) {
        writer.member("sequence", item.sequence.rawValue)
        writer.member("connection", definitions.connections.first { $0.id == item.entry.connection }?.name)
        writer.member("received_at", item.entry.receivedAt)
        writer.member("delivery_id", item.entry.deliveryID)
        writer.member("body_bytes", Int64(item.bodyBytes))
        writer.member("unmatched_reason", item.entry.unmatchedReason)
    }

    private func webhook(_ call: APICall) async throws -> InboxItem {
        guard let number = Int64(call.parameter("sequence")), number > 0 else {
            throw SluiceError(.invalid, "a webhook is named by its number")
        }
        guard let item = try await parts.store.inboxItem(.default, InboxSequence(number)) else {
            throw SluiceError(.notFound, "webhook \(number) is not in the inbox: it never was, or was removed after its time")
        }
        return item
    }

    /// Sends a webhook through again as if it had just come: for one that could not be matched or read before.
    func redeliverInbox(_ call: APICall) async throws -> APIResponse {
        let item = try await webhook(call)
        guard let sequence = try await parts.control.redeliver(item) else {
            throw SluiceError(.conflict, "no server runs, and only a server matches webhooks: start `sluice serve`")
        }
        try await discardQuarantine(ofWebhook: item.sequence.rawValue, connection: item.entry.connection)
        let stored = try await parts.store.inboxItem(.default, sequence)
        return APIResponse.object { writer in
            writer.member("sequence", sequence.rawValue)
            writer.member("redelivered", item.sequence.rawValue)
            writer.member("unmatched_reason", stored?.entry.unmatchedReason)
        }
    }

    func showInbox(_ call: APICall) async throws -> APIResponse {
        let item = try await webhook(call)
        let definitions = try await definitions()
        let connection = definitions.connections.first { $0.id == item.entry.connection }
        let secretHeader = connection.flatMap { ConnectionSettings(json: $0.settings).header }
        return APIResponse.object { writer in
            summary(&writer, item, definitions)
            writer.member("method", item.entry.method)
            writer.member("path", item.entry.path)
            writer.member("query", item.entry.query)
            writer.list("headers", API.headers(item.entry.headers, secretHeader: secretHeader)) { writer, header in
                writer.member("name", header.name)
                writer.member("value", header.value)
            }
            if let text = String(validating: item.entry.body, as: UTF8.self) {
                writer.member("body", text)
            } else {
                writer.member("body_hex", Hex.text(item.entry.body))
            }
            writer.key("keys")
            writer.array { writer in
                for topic in definitions.topics where item.entry.topics.contains(topic.id) { writer.value(topic.key) }
            }
        }
    }

    static func headers(_ bytes: [UInt8], secretHeader: String?) -> [NamedText] {
        let secret = ["authorization", "proxy-authorization", "cookie"] + (secretHeader.map { [$0] } ?? [])
        return String(decoding: bytes, as: UTF8.self).split(separator: "\n").map { line in
            let parts = line.split(separator: ":", maxSplits: 1, omittingEmptySubsequences: false)
            let name = String(parts[0])
            let value = parts.count > 1 ? String(parts[1].trimmed) : ""
            return NamedText(name: name, value: secret.contains { ASCII.equalIgnoringCase($0, name) } ? "…" : value)
        }
    }

    // MARK: Tokens

    func listTokens(_ call: APICall) async throws -> APIResponse {
        let all = try await parts.store.tokens().sorted { $0.name < $1.name }
        let slice = try ListSlice(all, after: call.query("after"), limit: call.limit()) { $0.name }
        return APIResponse.object { writer in
            writer.list("tokens", slice.elements) { writer, token in
                writer.member("name", token.name)
                writer.member("created_at", token.createdAt)
            }
            writer.member("next", slice.next)
        }
    }

    /// Takes `{"name"}`. The token is shown this once; only its hash is kept.
    func createToken(_ call: APICall) async throws -> APIResponse {
        guard let name = try call.object()["name"]?.string, Words.isName(name) else {
            throw SluiceError(.invalid, "`name` is at most 64 letters, digits, `-`, `_` and `.`")
        }
        let token = Randomness.apiToken()
        try await parts.store.createToken(name: name, hash: TokenGate.hash(token), at: parts.clock.now())
        tokens.forget()
        return APIResponse.object(status: 201) { writer in
            writer.member("name", name)
            writer.member("token", token)
        }
    }

    func revokeToken(_ call: APICall) async throws -> APIResponse {
        try await parts.store.revokeToken(name: call.parameter("name"))
        tokens.forget()
        return APIResponse.object { $0.member("revoked", call.parameter("name")) }
    }
}
