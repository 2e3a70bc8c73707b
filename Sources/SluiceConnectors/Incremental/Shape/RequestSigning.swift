import Crypto
import SluiceCore

/// An HMAC over each request, for providers that want them signed.
///
/// ```
/// sign = { hmac = "sha256", key = "{connection.secret}", content = "{timestamp}{method}{path}{query}{body}",
///          header = "X-Signature", encoding = "hex", timestamp = { header = "X-Timestamp" } }
/// ```
public struct RequestSigning: Sendable {
    public enum Hash: String, Sendable, CaseIterable { case sha1, sha256, sha512 }
    public enum Encoding: String, Sendable, CaseIterable { case hex, base64 }
    /// How the key's text becomes bytes.
    public enum KeyEncoding: String, Sendable, CaseIterable { case text, hex, base64 }
    public enum TimestampForm: String, Sendable, CaseIterable {
        case unixSeconds = "unix_seconds"
        case unixMilliseconds = "unix_milliseconds"
        case rfc3339
    }

    public var hash: Hash
    public var key: Template
    public var keyEncoding = KeyEncoding.text
    /// What is signed. Words: `method`, `host`, `path` (as sent, encoded), `query` (without ?), `body`, `body_sha256` (hex) and
    /// `timestamp`.
    public var content: Template
    public var header: String
    /// What the header says; `{signature}` stands for the code.
    public var value: Template = "{signature}"
    public var encoding = Encoding.hex
    public var timestampForm = TimestampForm.unixSeconds
    /// The header in which the time is sent; nil: in none.
    public var timestampHeader: String?

    public init(hash: Hash, key: Template, content: Template, header: String) {
        self.hash = hash
        self.key = key
        self.content = content
        self.header = header
    }

    static let contentPlaces = Template.Places.words("method", "host", "path", "query", "body", "body_sha256", "timestamp")
    static let valuePlaces = Template.Places.words("signature", "timestamp")

    /// Adds the signature's headers. `request` gives the fields and the time.
    func sign(_ plan: inout HTTPRequestPlan, _ request: PollRequest) throws(PollFailure) {
        var request = request
        let parts = WebURL.parts(plan.url)
        let timestamp = text(of: request.now)
        for (word, text) in [
            ("method", plan.method), ("host", parts.host), ("path", parts.path), ("query", parts.query), ("timestamp", timestamp),
            ("body", String(decoding: plan.body, as: UTF8.self)), ("body_sha256", Hex.text(HMACSHA256.sha256(plan.body))),
        ] { request.scope[word] = TemplateScope.Word(text: text) }
        let key = try keyBytes(request)
        let content = try content.text(request, for: "the request's signature")
        let code = code(Array(content.utf8), SymmetricKey(data: key))
        request.scope["signature"] = TemplateScope.Word(text: encoding == .hex ? Hex.text(bytes: code) : Base64.encode(code))
        let text = try value.text(request, for: "the header \(header)")
        plan.headers.set(header, try HeaderText.checked(text, header))
        if let timestampHeader { plan.headers.set(timestampHeader, timestamp) }
    }

    private func keyBytes(_ request: PollRequest) throws(PollFailure) -> [UInt8] {
        let text = try key.text(request, for: "the request's signature")
        let bytes: [UInt8]? =
            switch keyEncoding {
            case .text: Array(text.utf8)
            case .hex: Hex.bytes(text)
            case .base64: Base64.decode(text.utf8)
            }
        guard let bytes, !bytes.isEmpty else {
            throw PollFailure(
                .permanent, SluiceError(.invalid, "the key that requests are signed with is not \(keyEncoding.rawValue): correct the field")
            )
        }
        return bytes
    }

    private func code(_ content: [UInt8], _ key: SymmetricKey) -> [UInt8] {
        switch hash {
        case .sha1: Array(HMAC<Insecure.SHA1>.authenticationCode(for: content, using: key))
        case .sha256: Array(HMAC<SHA256>.authenticationCode(for: content, using: key))
        case .sha512: Array(HMAC<SHA512>.authenticationCode(for: content, using: key))
        }
    }

    private func text(of time: Timestamp) -> String {
        switch timestampForm {
        case .unixSeconds: String(time.seconds)
        case .unixMilliseconds: String(time.milliseconds)
        case .rfc3339: time.description
        }
    }
}

/// Signs what passes through.
struct SigningHTTP: HTTPSending {
    let inner: any HTTPSending
    let signing: RequestSigning
    let request: PollRequest

    func send(_ plan: HTTPRequestPlan) async throws -> HTTPReply {
        var plan = plan
        try signing.sign(&plan, request)
        return try await inner.send(plan)
    }
}
