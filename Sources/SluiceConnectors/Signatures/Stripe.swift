import SluiceCore

extension SignatureScheme {
    /// `Stripe-Signature: t=SECONDS,v1=HEX[,v1=HEX]`: HMAC-SHA256 over `SECONDS.BODY`, keyed with the secret's text as it
    /// is, `whsec_` included. Several `v1` stand there during a rotation; other versions are ignored.
    /// The row of `SignatureTable` in a form that is faster; a test holds both to the same verdicts.
    /// Source: Stripe, "Receive Stripe events in your webhook endpoint", verifying signatures manually.
    static let checkStripe: @Sendable (WebhookRequest, [String], Timestamp, SchemeOptions) -> Verdict = { request, secrets, now, options in
        SignedRequest.verdict { () throws(RefusalError) in
            let keys = try SignedRequest.keys(secrets) { [Array($0.utf8)] }
            let header = StripeHeader(try SignedRequest.header(StripeHeader.name, of: request))
            guard let timestamp = header.timestamp, let seconds = SignedRequest.seconds(timestamp) else {
                throw RefusalError(.malformedHeader, "Stripe-Signature must hold one t= with seconds since 1970 in digits")
            }
            if header.codes.isEmpty {
                throw RefusalError(.malformedHeader, "Stripe-Signature holds no v1= with 64 lowercase hexadecimal digits")
            }
            try SignedRequest.checkAge(
                seconds, header: StripeHeader.name, now: now, tolerance: options.tolerance ?? SchemeOptions.toleranceDefault)
            let prefix = Array(timestamp) + [UInt8(ascii: ".")]
            var matches = false
            for key in keys {
                let expected = HMACSHA256.code(key: key, prefix, request.body)
                for code in header.codes where HMACSHA256.equal(code, expected) { matches = true }
            }
            if !matches {
                throw RefusalError(
                    .mismatch,
                    "no v1 in Stripe-Signature is the HMAC-SHA256 of \"t.body\" (a body of \(request.body.count) bytes) under a secret of this connection"
                )
            }
        }
    }
}

/// The parts of a `Stripe-Signature` header that are well-formed.
private struct StripeHeader {
    static let name = "Stripe-Signature"
    /// More signatures than any rotation needs are not looked at.
    private static let codesMax = 16

    /// The text after `t=`; nil if there is none or more than one.
    private(set) var timestamp: Substring.UTF8View?
    private(set) var codes: [HMACSHA256.Code] = []

    init(_ header: String) {
        var timestamps = 0
        for part in header.utf8.split(separator: UInt8(ascii: ",")) {
            guard let equals = part.firstIndex(of: UInt8(ascii: "=")) else { continue }
            let value = part[part.index(after: equals)...]
            if part[..<equals].elementsEqual("t".utf8) {
                timestamps += 1
                timestamp = timestamps == 1 ? value : nil
            } else if part[..<equals].elementsEqual("v1".utf8), codes.count < Self.codesMax, let code = Hex.code(value) {
                codes.append(code)
            }
        }
    }
}
