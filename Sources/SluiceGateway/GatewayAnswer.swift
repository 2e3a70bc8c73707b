import SluiceConnectors
import SluiceCore

/// What a webhook's sender is told.
public struct GatewayAnswer: Sendable, Equatable {
    public var status: Int
    /// `ok`, or the error's code.
    public var reason: String
    /// For the sender; never holds a secret, a token or an expected signature.
    public var message: String
    /// Set with 429 and 503.
    public var retryAfterSeconds: Int?
    /// Where the webhook, or its first copy, stands in the inbox.
    public var sequence: InboxSequence?
    public var isRepeated = false
    /// Why no trigger was matched; not told to the sender.
    public var unmatchedReason: String?
    /// The answer to a handshake: goes out as it is.
    public var handshake: HandshakeAnswer?

    init(status: Int, reason: String, message: String, retryAfterSeconds: Int? = nil) {
        self.status = status
        self.reason = reason
        self.message = message
        self.retryAfterSeconds = retryAfterSeconds
    }

    init(receipt: InboxSequence, isRepeated: Bool, unmatchedReason: String?) {
        self.init(status: 200, reason: "ok", message: "")
        self.sequence = receipt
        self.isRepeated = isRepeated
        self.unmatchedReason = unmatchedReason
    }

    init(handshake: HandshakeAnswer) {
        self.init(status: handshake.status, reason: "ok", message: "")
        self.handshake = handshake
    }

    public var isSuccess: Bool { status < 300 }

    /// The same without a body, for providers that take an answer with one for a failure.
    func withoutBody() -> GatewayAnswer {
        var copy = self
        copy.handshake = HandshakeAnswer(status: status)
        return copy
    }

    /// The body of the answer: JSON, unless it answers a handshake.
    public var body: [UInt8] {
        if let handshake { return handshake.body }
        if isSuccess { return GatewayAnswer.successBody }
        var writer = JSONWriter()
        writer.object {
            $0.key("error")
            $0.object {
                $0.member("code", reason)
                $0.member("message", message)
            }
        }
        return writer.bytes
    }

    static let successBody = Array(#"{"ok":true}"#.utf8)
}

extension GatewayAnswer {
    static let baseline = GatewayAnswer(status: 200, reason: "ok", message: "")
    static let unknown = GatewayAnswer(status: 404, reason: "not_found", message: "There is nothing at this address.")
    static let wrongMethod = GatewayAnswer(
        status: 405, reason: "method_not_allowed", message: "Webhooks are sent to this address with POST or PUT.")
    static let notLearned = GatewayAnswer(
        status: 503, reason: "storage", message: "The secret could not be stored; send it again.", retryAfterSeconds: 5)
    static let shuttingDown = GatewayAnswer(
        status: 503, reason: "shutting_down", message: "The server is shutting down; send it again.", retryAfterSeconds: 5)
    static let tooManyInFlight = GatewayAnswer(
        status: 503, reason: "overloaded", message: "Too many webhooks are waiting; send it again.", retryAfterSeconds: 1)

    static let inboxFull = GatewayAnswer(
        status: 503, reason: "inbox_full", message: "Too many webhooks wait to be read; send it again later.", retryAfterSeconds: 60)

    static func rateLimited(retryAfterSeconds: Int) -> GatewayAnswer {
        GatewayAnswer(
            status: 429, reason: "rate_limited", message: "Too many webhooks in a second; send it again.",
            retryAfterSeconds: retryAfterSeconds)
    }

    /// Nothing was stored: whatever the cause, the sender should try again.
    static func notStored(_ error: any Error) -> GatewayAnswer {
        switch (error as? SluiceError)?.code {
        case .overloaded:
            GatewayAnswer(
                status: 503, reason: "overloaded", message: "The inbox cannot keep up; send it again.", retryAfterSeconds: 1)
        case .diskFull:
            GatewayAnswer(
                status: 503, reason: "disk_full", message: "The webhook could not be stored; send it again.", retryAfterSeconds: 30)
        default:
            GatewayAnswer(
                status: 503, reason: "storage", message: "The webhook could not be stored; send it again.", retryAfterSeconds: 5)
        }
    }
}
