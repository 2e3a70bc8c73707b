import SluiceCore

extension SignatureScheme {
    /// `X-Hub-Signature-256: sha256=HEX`: HMAC-SHA256 over the body alone, keyed with the secret's text. There is no
    /// timestamp: a replay is told by X-GitHub-Delivery.
    /// Source: GitHub, "Validating webhook deliveries".
    static let github = SignatureScheme(
        name: "github", isSafe: true, signsBody: true, secretHint: "the secret that was typed in at the webhook's settings"
    ) { request, secrets, _, _ in
        SignedRequest.verdict { () throws(RefusalError) in
            let name = "X-Hub-Signature-256"
            let keys = try SignedRequest.keys(secrets) { [Array($0.utf8)] }
            let header = try SignedRequest.header(name, of: request)
            guard header.utf8.starts(with: "sha256=".utf8), let code = Hex.code(header.utf8.dropFirst(7)) else {
                throw RefusalError(.malformedHeader, "\(name) must be sha256= and 64 lowercase hexadecimal digits")
            }
            var matches = false
            for key in keys where HMACSHA256.equal(code, HMACSHA256.code(key: key, [], request.body)) { matches = true }
            if !matches {
                throw RefusalError(
                    .mismatch,
                    "\(name) is not the HMAC-SHA256 of the body (\(request.body.count) bytes) under a secret of this connection")
            }
        }
    }
}
