import SluiceConnectors
import SluiceCore
import SluiceDelivery

/// A JetStream that jobs are published to.
public struct NATSDestination: CourierPlan {
    public enum Credentials: Sendable, Equatable {
        case none
        case user(String, password: String)
        case token(String)
        /// The seed of a user's nkey.
        case nkey(seed: String)
        /// The text of a `.creds` file.
        case file(String)
    }

    /// PEM texts; nil: none, and the system's certificate authorities.
    public struct TLS: Sendable, Equatable {
        public var authorities: String?
        public var certificate: String?
        public var key: String?
        public init(authorities: String? = nil, certificate: String? = nil, key: String? = nil) {
            self.authorities = authorities
            self.certificate = certificate
            self.key = key
        }
    }

    public var name: String
    /// See `NATSAddress.list`.
    public var url: String
    /// See `NATSSubject`.
    public var subject: String
    /// The stream that must take the messages; nil: whichever has the subject.
    public var stream: String?
    /// Sent with each message, beside `Nats-Msg-Id`.
    public var headers: [HTTPField]
    public var credentials: Credentials
    public var tls: TLS
    /// Whether the servers may have private addresses (see `AddressGuard`).
    public var addresses: AddressAllowance
    /// Messages published before their acknowledgements are awaited.
    public var jobsMax: Int
    /// For connecting, and again for all acknowledgements of a batch.
    public var limitSeconds: Int

    public static let batchDefault = 256
    public static let batchLimit = 2000
    public static let limitSecondsDefault = 10
    public static let limitSecondsMax = 120

    public init(
        name: String, url: String, subject: String, stream: String? = nil, headers: [HTTPField] = [], credentials: Credentials = .none,
        tls: TLS = TLS(), addresses: AddressAllowance = .publicOnly, batchMax: Int = batchDefault, limitSeconds: Int = limitSecondsDefault
    ) {
        self.name = name
        self.url = url
        self.subject = subject
        self.stream = stream
        self.headers = headers
        self.credentials = credentials
        self.tls = tls
        self.addresses = addresses
        jobsMax = batchMax
        self.limitSeconds = limitSeconds
    }

    public var target: String { url }
    /// Asking for addresses, connecting and waiting for acknowledgements each have the whole limit.
    public var timeoutSeconds: Int { 4 * limitSeconds + 5 }
    public func makeCourier(_ tools: CourierTools) -> any Courier { NATSCourier(self) }

    /// What must not be told of a destination: what it logs in with, and the values of its headers.
    var secrets: [String] {
        let secrets: [String] =
            switch credentials {
            case .none: []
            case .user(_, let password): [password]
            case .token(let token): [token]
            case .nkey(let seed): [seed]
            case .file(let text): text.split(whereSeparator: \.isNewline).filter { !$0.hasPrefix("-") }.map(String.init)
            }
        // `Bearer TOKEN`: also where the token alone is repeated.
        return secrets + headers.flatMap { [$0.value] + ($0.value.split(separator: " ").last.map { [String($0)] } ?? []) }
    }

    /// Throws `.invalid` or `.forbiddenAddress` naming what to mend, never a secret.
    public func validate() throws(SluiceError) {
        func refuse(_ message: String) -> SluiceError { SluiceError(.invalid, message) }
        for address in try NATSAddress.list(url) {
            guard let literal = IPAddress(address.host) else { continue }
            try AddressGuard.check(host: address.host, addresses: [literal], allowed: addresses)
        }
        _ = try NATSSubject(subject)
        if let stream, stream.isEmpty || stream.utf8.count > 255 || !stream.utf8.allSatisfy(NATSDestination.isStreamCharacter) {
            throw refuse("`stream` is a stream's name: no spaces, dots, `*`, `>`, `/` or `\\`")
        }
        guard headers.count <= 32 else { throw refuse("a message has at most 32 headers") }
        for header in headers { try check(header) }
        switch credentials {
        case .nkey(let seed): _ = try NATSKey(seed: seed)
        case .file(let text): _ = try NATSKey.credentials(text)
        case .user(let user, _): if user.isEmpty { throw refuse("`user` is empty") }
        case .token(let token): if token.isEmpty { throw refuse("`token` is empty") }
        case .none: break
        }
        guard (tls.certificate == nil) == (tls.key == nil) else {
            throw refuse("`tls`: `certificate` and `key` belong together: give both or none")
        }
        for (name, text) in [("ca", tls.authorities), ("certificate", tls.certificate), ("key", tls.key)] {
            if let text, !text.contains("-----BEGIN ") {
                throw refuse("`tls`: `\(name)` is a PEM text, for example \"${file:/etc/sluice/\(name).pem}\"")
            }
        }
        guard (1...NATSDestination.limitSecondsMax).contains(limitSeconds) else {
            throw refuse("`timeout` of a NATS destination is from 1s to \(NATSDestination.limitSecondsMax)s, not \(limitSeconds)s")
        }
        guard (1...NATSDestination.batchLimit).contains(jobsMax) else {
            throw refuse("`batch_max` of a NATS destination is from 1 to \(NATSDestination.batchLimit), not \(jobsMax)")
        }
    }

    private func check(_ header: HTTPField) throws(SluiceError) {
        let isName =
            !header.name.isEmpty && header.name.utf8.count <= 128
            && header.name.utf8.allSatisfy { $0 > 0x20 && $0 < 0x7F && $0 != UInt8(ascii: ":") }
        guard isName else { throw SluiceError(.invalid, "a name among `headers` has a space, a colon or a character that is not ASCII") }
        guard !header.name.lowercased().hasPrefix("nats-") else {
            throw SluiceError(.invalid, "`headers`: those that begin with Nats- are NATS's own, \(header.name) as well")
        }
        guard header.value.utf8.count <= 4096, header.value.utf8.allSatisfy({ $0 >= 0x20 && $0 != 0x7F }) else {
            throw SluiceError(.invalid, "`headers`: the value of \(header.name) holds a line break or more than 4096 bytes")
        }
    }

    private static func isStreamCharacter(_ byte: UInt8) -> Bool { byte > 0x20 && byte < 0x7F && !".*>/\\".utf8.contains(byte) }
}
