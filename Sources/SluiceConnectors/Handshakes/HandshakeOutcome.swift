/// What a connection knows when it is asked for a handshake.
public struct HandshakeContext: Sendable {
    /// Secrets of the address, the newest first; where the request was signed, the one that it was signed with.
    public var secrets: [String]
    /// The connection's fields as text.
    public var fields: [String: String]
    /// The address has no webhook secret yet, so the provider may give it one.
    public var mayLearnSecret: Bool
    /// What a sender that asks for a rate is granted.
    public var requestsPerMinuteMax: Int

    public init(secrets: [String] = [], fields: [String: String] = [:], mayLearnSecret: Bool = false, requestsPerMinuteMax: Int = 60_000) {
        self.secrets = secrets
        self.fields = fields
        self.mayLearnSecret = mayLearnSecret
        self.requestsPerMinuteMax = requestsPerMinuteMax
    }
}

/// What becomes of a request.
public enum HandshakeOutcome: Sendable, Equatable {
    case notAHandshake
    case answer(HandshakeAnswer, HandshakeAction? = nil)
    /// It is one, and must not be answered: 400, 403, 404 or 409, and why. The reason quotes nothing of the request.
    case refused(status: Int, reason: String)
}

/// An answer as it goes out. What is reflected is text/plain or JSON, never anything that a browser would run.
public struct HandshakeAnswer: Sendable, Equatable {
    public var status: Int
    public var headers: [HTTPField]
    public var body: [UInt8]

    public init(status: Int, headers: [HTTPField] = [], body: [UInt8] = []) {
        self.status = status
        self.headers = headers
        self.body = body
    }

    static func reflecting(_ type: String, _ body: [UInt8]) -> HandshakeAnswer {
        HandshakeAnswer(
            status: 200,
            headers: [
                HTTPField("Content-Type", type), HTTPField("X-Content-Type-Options", "nosniff"),
                HTTPField("Content-Security-Policy", "default-src 'none'; sandbox"), HTTPField("Cache-Control", "no-store"),
            ], body: body)
    }
}

/// What the answer depends on, or what follows it.
public enum HandshakeAction: Sendable, Equatable {
    /// Keep the secret for this address; the answer goes out once it is on disk.
    case learnSecret(String)
    /// GET this https URL once, after the answer.
    case confirm(url: String)
}
