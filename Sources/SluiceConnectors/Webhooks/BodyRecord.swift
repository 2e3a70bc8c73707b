import SluiceCore

extension WebhookRequest {
    /// The body as one record of a webhook-only trigger. JSON stays byte for byte, without the white space around it. Other
    /// text becomes a JSON string, and bytes that are no text become `{"base64":"…"}`; both are marked derived.
    public var bodyRecord: Record {
        if let document = try? JSONDocument(body) { return Record(bytes: document.root.bytes) }
        var writer = JSONWriter()
        if let text = String(validating: body, as: UTF8.self) {
            writer.value(text)
        } else {
            writer.object { $0.member("base64", Base64.encode(body)) }
        }
        return Record(bytes: writer.bytes[...], isDerived: true)
    }
}

/// The dedup keys of a webhook-only trigger without a `dedup` of its own: which delivery a record came with, never what it holds,
/// since two deliveries of the same bytes are two events.
public enum WebhookKeys {
    /// How long a delivery's key is kept: as long as webhooks are.
    public static let kept = Span.days(7)

    /// A delivery's id as far as its signature vouches for it. One in a header that is not signed counts together with the body: another
    /// body under the same id is another delivery.
    public static func signed(_ id: String, of webhook: WebhookDescription?, body: [UInt8]) -> String {
        guard let webhook, case .header(let name)? = webhook.deliveryID,
            SignatureScheme.named(webhook.scheme)?.signedHeaders.contains(name.lowercased()) != true
        else { return id }
        return id + ":" + Hex.text(HMACSHA256.sha256(body)).prefix(16)
    }

    /// - Parameters:
    ///   - signedDeliveryID: the provider's id of the delivery, if it can be trusted; otherwise the inbox number and the time count.
    ///   - index: of the record within the webhook.
    ///   - count: of the webhook's records. A single one has the plain key.
    public static func key(
        signedDeliveryID: String?, sequence: InboxSequence, receivedAt: Timestamp, index: Int, of count: Int
    ) -> [UInt8] {
        // The numbers of a store that was restored from a backup begin anew behind it: other webhooks get them.
        let name = signedDeliveryID.map { "delivery:" + $0 } ?? "inbox:\(sequence.rawValue)@\(receivedAt.milliseconds)"
        return Array((count == 1 ? name : name + "#\(index)").utf8)
    }
}
