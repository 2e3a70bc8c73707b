import SluiceCore

/// Adyen's payment webhooks: each item of the body holds its own signature, over eight of its values.
/// Source: Adyen, "Verify HMAC signatures"; adyen-python-api-library, `is_valid_hmac_notification`.
struct AdyenSignature: SignatureRecipe {
    private static let itemsMax = 1000
    static let template =
        "pspReference:originalReference:merchantAccountCode:merchantReference:amount.value:amount.currency:eventCode:success"

    func check(_ attempt: SignatureAttempt) throws(RefusalError) {
        let keys = try SignedRequest.keys(attempt.secrets) { secret in
            Hex.bytes(Array(secret.utf8), allowsCapitals: true).map { [$0] } ?? []
        }
        let items = try items(attempt.request)
        for (number, item) in items.enumerated() {
            let place = items.count == 1 ? "additionalData.hmacSignature" : "additionalData.hmacSignature of item \(number + 1)"
            guard let text = item["additionalData"]?["hmacSignature"]?.string else {
                throw RefusalError(.malformedBody, "the body lacks \(place): the sender does not sign, or not with this scheme")
            }
            guard let code = Base64.decode(Array(text.utf8)), code.count == 32 else {
                throw RefusalError(.malformedBody, "the body's \(place) must be 32 bytes in base64")
            }
            let pieces = Self.pieces(item)
            let matches = keys.map { ConstantTime.equal(code, MessageCode.code(.hmacSHA256, key: $0, [pieces])) }
            if !matches.contains(true) {
                throw RefusalError(
                    .mismatch, "the body's \(place) is not the HMAC-SHA256 of \"\(Self.template)\" under a secret of this connection")
            }
        }
    }

    /// The items: those of a live webhook, or the one that the body is.
    private func items(_ request: WebhookRequest) throws(RefusalError) -> [JSONView] {
        guard let root = (try? JSONDocument(request.body))?.root, root.kind == .object else {
            throw RefusalError(.malformedBody, "the body must be JSON of Adyen")
        }
        guard let list = root["notificationItems"] else { return [root] }
        guard let elements = list.elements, !elements.isEmpty, elements.count <= Self.itemsMax else {
            throw RefusalError(.malformedBody, "the body's notificationItems must hold 1 to \(Self.itemsMax) items")
        }
        return elements.map { $0["NotificationRequestItem"] ?? $0 }
    }

    private static func pieces(_ item: JSONView) -> [UInt8] {
        let values = [
            item["pspReference"], item["originalReference"], item["merchantAccountCode"], item["merchantReference"],
            item["amount"]?["value"], item["amount"]?["currency"], item["eventCode"], item["success"],
        ]
        let texts = values.map { value in value?.text ?? value?.bool.map(String.init) ?? "" }
        return Array(texts.joined(separator: ":").utf8)
    }

    func content(_ attempt: SignatureAttempt) -> SignedContent? {
        guard let items = try? items(attempt.request) else { return nil }
        return SignedContent(
            template: Self.template,
            parts: items.enumerated().map { .init(name: "item \($0.offset + 1)", bytes: Self.pieces($0.element)) })
    }
}
