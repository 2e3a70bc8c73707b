import SluiceConnectors
import SluiceCore

/// Reads `webhook = { scheme, delivery_id, handshake }`.
extension LuaDefinition {
    static func webhook(_ table: LuaTable, _ connectionFields: [Field]) throws(SluiceError) -> WebhookDescription? {
        guard let webhook = try table.table("webhook", known: ["scheme", "delivery_id", "handshake"]) else { return nil }
        let scheme = try webhook.requiredText("scheme")
        guard SignatureScheme.named(scheme) != nil else {
            let near = SignatureScheme.all.map(\.name).filter { $0.hasPrefix(scheme.prefix(4)) && !scheme.isEmpty }
            let hint = near.isEmpty ? "" : "; names like it: \(near.joined(separator: ", "))"
            throw webhook.error("scheme", "'\(scheme.prefix(64))' is no scheme: `sluice verify --list` lists them\(hint)")
        }
        return WebhookDescription(
            scheme: scheme, deliveryID: try deliveryID(webhook), handshakes: try handshakes(webhook, connectionFields))
    }

    private static func deliveryID(_ webhook: LuaTable) throws(SluiceError) -> DeliveryIDSource? {
        guard let source = try webhook.table("delivery_id", known: ["body", "header"]) else { return nil }
        if let header = try source.text("header"), source["body"] == nil { return .header(header) }
        let keys = source["body"]?.elements?.map(\.string) ?? []
        guard !keys.isEmpty, !keys.contains(nil), source["header"] == nil else {
            throw webhook.error("delivery_id", "must be { body = {\"id\"} } or { header = \"X-Id\" }")
        }
        return .body(keys.compactMap(\.self))
    }

    /// A name or a list of names; each must exist, and the fields that it reads must be declared.
    private static func handshakes(_ webhook: LuaTable, _ connectionFields: [Field]) throws(SluiceError) -> [String] {
        guard let value = webhook["handshake"] else { return [] }
        let names = value.string.map { [$0] } ?? value.elements?.map { $0.string ?? "" } ?? [""]
        guard !names.isEmpty, !names.contains("") else {
            throw webhook.error("handshake", "must be the name of a handshake, for example \"slack\", or a list of names")
        }
        for name in names {
            let shapes = Handshake.named(name)
            guard !shapes.isEmpty else {
                let known = Set(Handshake.all.map(\.name)).sorted().joined(separator: ", ")
                throw webhook.error("handshake", "'\(name)' is not known; known are \(known)")
            }
            for field in Set(shapes.flatMap(\.fields)) where !connectionFields.contains(where: { $0.name == field }) {
                throw webhook.error("handshake", "'\(name)' needs a field of the connection named \(field); add it to connection.fields")
            }
        }
        return names
    }
}
