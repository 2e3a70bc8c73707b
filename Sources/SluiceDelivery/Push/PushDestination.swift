import SluiceConnectors
import SluiceCore

/// Where jobs are pushed to by signed HTTP, and how. Lives in memory only.
public struct PushDestination: CourierPlan {
    public var name: String
    /// http or https; may hold a secret, so it is never logged.
    public var url: String
    /// `whsec_` + base64. During a rotation the new one first, then the old: the signature header then has one for each.
    public var secrets: [String]
    /// Sent with each request. They cannot replace the webhook headers, nor those that frame a request.
    public var headers: [HTTPField]
    /// Whether the URL may lead to a private address (see `AddressGuard`).
    public var allowsPrivate: Bool
    /// Connections kept open; as many as there are calls at the same time.
    public var connectionsMax: Int
    /// From the connection to the end of the answer.
    public var timeoutSeconds: Int

    public static let timeoutSecondsDefault = 15

    public init(
        name: String, url: String, secrets: [String], headers: [HTTPField] = [], allowsPrivate: Bool = false,
        connectionsMax: Int = CarriedDestination.callsAtOnceDefault, timeoutSeconds: Int = timeoutSecondsDefault
    ) {
        self.name = name
        self.url = url
        self.secrets = secrets
        self.headers = headers
        self.allowsPrivate = allowsPrivate
        self.connectionsMax = connectionsMax
        self.timeoutSeconds = timeoutSeconds
    }

    public var target: String { url }

    public func makeCourier(_ tools: CourierTools) -> any Courier { PushCourier(self, tools) }

    /// Checks the URL, a literal address in it, and the secrets.
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
    }
}
