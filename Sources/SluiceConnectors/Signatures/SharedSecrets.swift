import SluiceCore

/// Schemes that show a secret rather than sign with it: they prove who sent, not what.
extension SignatureScheme {
    /// `Authorization: Basic BASE64(user:password)` (RFC 7617).
    static let basicAuth = SignatureScheme(
        name: "basic-auth", isSafe: true, signsBody: false, secretHint: "user:password, as set at the provider"
    ) { request, secrets, _, _ in
        SignedRequest.verdict { () throws(RefusalError) in
            let keys = try SignedRequest.keys(secrets) { $0.utf8.contains(UInt8(ascii: ":")) && $0 != ":" ? [Array($0.utf8)] : [] }
            let header = try SignedRequest.header("Authorization", of: request)
            guard ASCII.equalIgnoringCase(String(header.prefix(6)), "Basic "), let given = Base64.decode(header.utf8.dropFirst(6)) else {
                throw RefusalError(.malformedHeader, "Authorization must be Basic and base64 of user:password")
            }
            var matches = false
            for key in keys where HMACSHA256.equalSecrets(given, key) { matches = true }
            if !matches { throw RefusalError(.mismatch, "Authorization holds another user or password than this connection") }
        }
    }

    /// A secret in a header of its own, as GitLab and many others do it; `options.headerName`, or X-Webhook-Token.
    static let headerToken = SignatureScheme(
        name: "header-token", isSafe: true, signsBody: false, secretHint: "the token, as set at the provider"
    ) { request, secrets, _, options in
        SignedRequest.verdict { () throws(RefusalError) in
            let name = options.headerName ?? "X-Webhook-Token"
            let keys = try SignedRequest.keys(secrets) { [Array($0.utf8)] }
            let given = Array(try SignedRequest.header(name, of: request).utf8)
            var matches = false
            for key in keys where HMACSHA256.equalSecrets(given, key) { matches = true }
            if !matches { throw RefusalError(.mismatch, "\(name) holds another token than this connection") }
        }
    }

    /// Verifies nothing. Whoever knows the URL can cause polls, though never a record.
    static let none = SignatureScheme(name: "none", isSafe: false, signsBody: false, secretHint: "no secret") { _, _, _, _ in .valid }
}
