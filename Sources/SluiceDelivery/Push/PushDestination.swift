import SluiceConnectors
import SluiceCore

/// Where jobs are pushed to by signed HTTP, and how. Lives in memory only.
public struct PushDestination: CourierPlan {
    public var name: String
    /// http or https; may hold a secret, so it is never logged.
    public var url: String
    /// During a rotation the new one first, then the old.
    public var secrets: [SigningSecret]
    /// Sent with each request. They cannot replace the webhook headers, nor those that frame a request.
    public var headers: [HTTPField]
    /// To which addresses the URL may lead (see `AddressGuard`).
    public var addresses: AddressAllowance
    /// Connections kept open; as many as there are calls at the same time.
    public var connectionsMax: Int
    /// From the connection to the end of the answer.
    public var timeoutSeconds: Int

    public static let timeoutSecondsDefault = 15

    public init(
        name: String, url: String, secrets: [SigningSecret], headers: [HTTPField] = [], addresses: AddressAllowance = .publicOnly,
        connectionsMax: Int = CarriedDestination.callsAtOnceDefault, timeoutSeconds: Int = timeoutSecondsDefault
    ) {
        self.name = name
        self.url = url
        self.secrets = secrets
        self.headers = headers
        self.addresses = addresses
        self.connectionsMax = connectionsMax
        self.timeoutSeconds = timeoutSeconds
    }

    public var target: String { url }

    public func makeCourier(_ tools: CourierTools) -> any Courier { PushCourier(self, tools) }

    private static let plainHeaders: Set<String> = ["accept", "accept-language", "cache-control", "content-language", "user-agent"]
    /// A shorter part of a URL is a name rather than a credential.
    private static let urlPartBytesMin = 16

    /// What must not be told of a destination: its secrets, the values of its headers, and what in its URL may be a credential.
    var credentials: [String] {
        var result: [String] = []
        for secret in secrets {
            result.append(secret.secret)
            if let key = secret.secret.split(separator: "_", maxSplits: 1).last { result.append(String(key)) }
        }
        for field in headers where !PushDestination.plainHeaders.contains(field.name.lowercased()) {
            result.append(field.value)
            // `Bearer TOKEN`: also where the token alone is repeated.
            if let word = field.value.split(separator: " ").last { result.append(String(word)) }
        }
        let parts = url.split(separator: "/", omittingEmptySubsequences: true)
        if parts.count > 1, let at = parts[1].lastIndex(of: "@") {
            result += parts[1][..<at].split(separator: ":", maxSplits: 1).map(String.init)
        }
        for part in parts.dropFirst(2).flatMap({ $0.split { "?&=#".contains($0) } })
        where part.utf8.count >= PushDestination.urlPartBytesMin {
            result.append(String(part))
        }
        return result
    }

    /// Checks the URL, a literal address in it, and the secrets.
    public func validate() throws(SluiceError) {
        let target = try WebAddress(url)
        if let literal = target.literal {
            try AddressGuard.check(host: target.host, addresses: [literal], allowed: addresses)
        }
        _ = try WebhookSigner(secrets)
    }
}
