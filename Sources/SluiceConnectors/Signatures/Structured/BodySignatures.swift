import SluiceCore

/// Mailgun: the body holds `signature: {timestamp, token, signature}`, the HMAC-SHA256 of timestamp and token in hex. The rest
/// of the body is not signed, so a webhook is a signal and no more.
/// Source: Mailgun, "Securing Webhooks".
struct MailgunSignature: SignatureRecipe {
    static let template = "{signature.timestamp}{signature.token}"

    func check(_ attempt: SignatureAttempt) throws(RefusalError) {
        let keys = try SignedRequest.keys(attempt.secrets) { [Array($0.utf8)] }
        let signed = try signed(attempt.request)
        guard let code = Hex.bytes(Array(signed.signature.utf8)), code.count == 32 else {
            throw RefusalError(.malformedBody, "the body's signature.signature must be 64 lowercase hexadecimal digits")
        }
        if let tolerance = attempt.options.tolerance {
            guard let seconds = SignedRequest.seconds(signed.timestamp.utf8) else {
                throw RefusalError(.malformedBody, "the body's signature.timestamp must be seconds since 1970 in digits")
            }
            try SignedRequest.checkAge(seconds, header: "the body's signature.timestamp", now: attempt.now, tolerance: tolerance)
        }
        let pieces = [Array(signed.timestamp.utf8), Array(signed.token.utf8)]
        let matches = keys.map { ConstantTime.equal(code, MessageCode.code(.hmacSHA256, key: $0, pieces)) }
        if !matches.contains(true) {
            throw RefusalError(
                .mismatch,
                "the body's signature.signature is not the HMAC-SHA256 of signature.timestamp and signature.token under a secret of this connection"
            )
        }
    }

    private func signed(_ request: WebhookRequest) throws(RefusalError) -> (timestamp: String, token: String, signature: String) {
        guard let part = (try? JSONDocument(request.body))?.root["signature"], let timestamp = part["timestamp"]?.text,
            let token = part["token"]?.string, let signature = part["signature"]?.string, !token.isEmpty
        else {
            throw RefusalError(.malformedBody, "the body must be JSON with signature.timestamp, signature.token and signature.signature")
        }
        return (timestamp, token, signature)
    }

    func content(_ attempt: SignatureAttempt) -> SignedContent? {
        guard let signed = try? signed(attempt.request) else { return nil }
        let parts = [("signature.timestamp", signed.timestamp), ("signature.token", signed.token)]
        return SignedContent(template: Self.template, parts: parts.map { .init(name: $0.0, bytes: Array($0.1.utf8)) })
    }

    func moment(_ attempt: SignatureAttempt) -> Timestamp? {
        (try? signed(attempt.request)).flatMap { SignedRequest.seconds($0.timestamp.utf8) }.map(Timestamp.init(seconds:))
    }
}

/// Microsoft Graph: nothing is signed; every item of `value` shows the `clientState` that the subscription was made with.
/// Source: Microsoft Graph, "Receive change notifications through webhooks".
struct ClientStateSignature: SignatureRecipe {
    private static let itemsMax = 10_000

    func check(_ attempt: SignatureAttempt) throws(RefusalError) {
        let keys = try SignedRequest.keys(attempt.secrets) { [Array($0.utf8)] }
        guard let items = (try? JSONDocument(attempt.request.body))?.root["value"]?.elements, !items.isEmpty,
            items.count <= Self.itemsMax
        else { throw RefusalError(.malformedBody, "the body must be JSON with 1 to \(Self.itemsMax) items in value") }
        for item in items {
            guard let state = item["clientState"]?.string else {
                throw RefusalError(.malformedBody, "an item of the body's value lacks clientState")
            }
            let matches = keys.map { HMACSHA256.equalSecrets(Array(state.utf8), $0) }
            if !matches.contains(true) {
                throw RefusalError(.mismatch, "an item of the body's value holds another clientState than this connection")
            }
        }
    }

    func content(_ attempt: SignatureAttempt) -> SignedContent? { nil }
}
