import SluiceCore

extension SignatureScheme {
    /// `webhook-id`, `webhook-timestamp` and `webhook-signature: v1,BASE64 [v1,BASE64…]`: HMAC-SHA256 over
    /// `ID.SECONDS.BODY`. The `svix-` names of the same headers are taken as well.
    /// The row of `SignatureTable` in a form that is faster; a test holds both to the same verdicts.
    /// Source: the Standard Webhooks specification, "Signature scheme"; symmetric signatures only.
    static let checkStandardWebhooks: @Sendable (WebhookRequest, [String], Timestamp, SchemeOptions) -> Verdict = {
        request, secrets, now, options in
        SignedRequest.verdict { () throws(RefusalError) in
            let keys = try SignedRequest.keys(secrets, StandardWebhooks.verificationKeys)
            let family = request.header("webhook-signature") == nil && request.header("svix-signature") != nil ? "svix" : "webhook"
            let id = try SignedRequest.header("\(family)-id", of: request)
            let timestamp = try SignedRequest.header("\(family)-timestamp", of: request)
            let signatures = try SignedRequest.header("\(family)-signature", of: request)
            // With a point in the id, two different pairs of id and timestamp could be signed alike.
            if id.utf8.contains(UInt8(ascii: ".")) { throw RefusalError(.malformedHeader, "\(family)-id must not contain a point") }
            guard let seconds = SignedRequest.seconds(timestamp.utf8) else {
                throw RefusalError(.malformedHeader, "\(family)-timestamp must be seconds since 1970 in digits")
            }
            let codes = StandardWebhooks.codes(signatures)
            if codes.isEmpty {
                throw RefusalError(.malformedHeader, "\(family)-signature holds no \"v1,\" followed by 32 bytes in base64")
            }
            try SignedRequest.checkAge(
                seconds, header: "\(family)-timestamp", now: now, tolerance: options.tolerance ?? SchemeOptions.toleranceDefault)
            let prefix = StandardWebhooks.prefix(id: id, timestamp: timestamp)
            var matches = false
            for key in keys {
                let expected = HMACSHA256.code(key: key, prefix, request.body)
                for code in codes where HMACSHA256.equal(code, expected) { matches = true }
            }
            if !matches {
                throw RefusalError(
                    .mismatch,
                    "no v1 in \(family)-signature is the HMAC-SHA256 of \"id.timestamp.body\" (a body of \(request.body.count) bytes) under a secret of this connection"
                )
            }
        }
    }
}

enum StandardWebhooks {
    private static let codesMax = 16

    static func prefix(id: String, timestamp: String) -> [UInt8] {
        var prefix: [UInt8] = []
        prefix.reserveCapacity(id.utf8.count + timestamp.utf8.count + 2)
        prefix.append(contentsOf: id.utf8)
        prefix.append(UInt8(ascii: "."))
        prefix.append(contentsOf: timestamp.utf8)
        prefix.append(UInt8(ascii: "."))
        return prefix
    }

    /// The key behind `whsec_`, or the text itself; nil if it is empty or not base64 after `whsec_`.
    static func signingKey(_ secret: String) -> [UInt8]? {
        let key = secret.hasPrefix("whsec_") ? Base64.decode(secret.utf8.dropFirst(6)) : Array(secret.utf8)
        return key?.isEmpty == false ? key : nil
    }

    /// Senders differ on a secret without `whsec_`: the reference libraries read it as base64, others as text. Both
    /// readings are tried, which gives nothing away to who has neither.
    static func verificationKeys(_ secret: String) -> [[UInt8]] {
        var keys = signingKey(secret).map { [$0] } ?? []
        if !secret.hasPrefix("whsec_"), let decoded = Base64.decode(secret.utf8), decoded.count >= 16 { keys.append(decoded) }
        return keys
    }

    /// The well-formed `v1` signatures of a header.
    static func codes(_ header: String) -> [HMACSHA256.Code] {
        var codes: [HMACSHA256.Code] = []
        for part in header.utf8.split(separator: UInt8(ascii: " ")) where codes.count < codesMax {
            guard part.starts(with: "v1,".utf8), part.count == 3 + 44, let bytes = Base64.decode(part.dropFirst(3)), bytes.count == 32
            else { continue }
            var code = HMACSHA256.Code()
            for index in 0..<32 { code[index] = bytes[index] }
            codes.append(code)
        }
        return codes
    }
}
