import SluiceConnectors
import SluiceCore

/// Where jobs are pushed to, with its secrets opened. Lives in memory only.
public struct PushDestination: Sendable {
    public var id: DestinationID
    public var name: String
    /// http or https; may hold a secret, so it is never logged.
    public var url: String
    /// `whsec_` + base64. During a rotation the new one first, then the old: the signature header then has one for each.
    public var secrets: [String]
    /// Sent with each request. They cannot replace the webhook headers, nor those that frame a request.
    public var headers: [HTTPField]
    /// Whether the URL may lead to a private address (see `AddressGuard`).
    public var allowsPrivate: Bool
    /// Nothing is sent; deliveries stay pending.
    public var isDisabled: Bool
    /// Requests in flight.
    public var attemptsAtOnceMax: Int
    /// From the connection to the end of the answer.
    public var timeoutSeconds: Int
    public var retrySchedule: RetrySchedule

    public static let attemptsAtOnceDefault = 8
    public static let timeoutSecondsDefault = 15

    public init(
        id: DestinationID, name: String, url: String, secrets: [String], headers: [HTTPField] = [], allowsPrivate: Bool = false,
        isDisabled: Bool = false, attemptsAtOnceMax: Int = attemptsAtOnceDefault, timeoutSeconds: Int = timeoutSecondsDefault,
        retrySchedule: RetrySchedule = .standard
    ) {
        self.id = id
        self.name = name
        self.url = url
        self.secrets = secrets
        self.headers = headers
        self.allowsPrivate = allowsPrivate
        self.isDisabled = isDisabled
        self.attemptsAtOnceMax = attemptsAtOnceMax
        self.timeoutSeconds = timeoutSeconds
        self.retrySchedule = retrySchedule
    }

    /// Checks what can be checked without asking the network: the URL, a literal address in it, the secrets. Throws
    /// `.invalid` or `.forbiddenAddress` naming what to mend; `apply` calls this before it stores a destination.
    public func validate() throws(SluiceError) {
        let target = try WebAddress(url)
        if let literal = target.literal {
            try AddressGuard.check(host: target.host, addresses: [literal], allowsPrivate: allowsPrivate)
        }
        guard !secrets.isEmpty else {
            throw SluiceError(.invalid, "A push destination needs a secret: whsec_ and base64 of 24 to 64 random bytes.")
        }
        guard secrets.allSatisfy(StandardWebhooksSigner.isUsable) else {
            throw SluiceError(.invalid, "The secret of a push destination is not whsec_ and base64; create a new one.")
        }
        guard (1...600).contains(timeoutSeconds) else {
            throw SluiceError(.invalid, "The time-out of destination \(name) is from 1 to 600 seconds, not \(timeoutSeconds).")
        }
        guard (1...256).contains(attemptsAtOnceMax) else {
            throw SluiceError(.invalid, "Destination \(name) takes from 1 to 256 requests at once, not \(attemptsAtOnceMax).")
        }
    }
}

/// Settings of the push service as a whole.
public struct PushOptions: Sendable {
    /// Requests in flight over all destinations, beyond the first of each.
    public var attemptsAtOnceMax = 64
    public var userAgent = "Sluice"
    /// How much of an answer is kept with the attempt.
    public var responseBytesKept = 4 * 1024
    /// How much of an answer is read before the connection is closed.
    public var responseBytesMax = 64 * 1024
    /// How long an answer of the name service is used.
    public var addressSecondsMax = 60
    /// How long to wait for news at most before asking the store.
    public var idleSecondsMax = 30
    public init() {}
}
