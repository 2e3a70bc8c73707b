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
            let prefix = timestamp + [UInt8(ascii: ".")]
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
    private(set) var timestamp: [UInt8]?
    private(set) var codes: [HMACSHA256.Code] = []

    init(_ header: String) {
        var header = header
        header.withUTF8 { read(UnsafeRawBufferPointer($0)) }
    }

    private mutating func read(_ header: UnsafeRawBufferPointer) {
        var timestamps = 0
        var start = 0
        while start < header.count {
            let end = header[start...].firstIndex(of: UInt8(ascii: ",")) ?? header.count
            let part = UnsafeRawBufferPointer(rebasing: header[start..<end])
            start = end + 1
            // `t=` or `v1=`: what stands before the first "=" has no other in it.
            if part.count >= 2, part[0] == UInt8(ascii: "t"), part[1] == UInt8(ascii: "=") {
                timestamps += 1
                timestamp = timestamps == 1 ? Array(part[2...]) : nil
            } else if part.count >= 3, part[0] == UInt8(ascii: "v"), part[1] == UInt8(ascii: "1"), part[2] == UInt8(ascii: "="),
                codes.count < Self.codesMax, let code = Hex.code(UnsafeRawBufferPointer(rebasing: part[3...]))
            {
                codes.append(code)
            }
        }
    }
}
