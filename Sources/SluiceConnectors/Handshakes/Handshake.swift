import SluiceCore

/// How a provider makes sure that an address belongs to who gave it, before it sends webhooks there: as data. Only a
/// connection that has the handshake answers it; it leaves no inbox row and no signal.
///
/// The published shapes are in `Handshake+Catalogue.swift`; what is asked for is reflected only within bounds
/// (`HandshakeReply`), so nobody can use an address as an echo.
public struct Handshake: Sendable {
    /// kebab-case; the same as the signature scheme of its provider, where there is one.
    public let name: String
    /// Methods besides POST and PUT that it comes with.
    public let methods: [String]
    /// The provider signs it, so it is answered only after the signature was verified.
    public let needsSignature: Bool
    /// Fields of the connection that hold what the provider must show or ask for; a connector declares them.
    public let fields: [String]
    /// The same, where a connection may do without.
    public let optionalFields: [String]
    /// All must hold, or the request is something else.
    let recognition: [Recognition]
    /// Who asks must know these; otherwise the request is refused.
    let proofs: [Proof]
    let reply: HandshakeReply
    let action: HandshakeTask?
    /// The provider wants no byte of a body in any answer, also to its webhooks.
    public let wantsEmptyAnswers: Bool

    init(
        _ name: String, methods: [String] = [], needsSignature: Bool = false, fields: [String] = [], optionalFields: [String] = [],
        when recognition: [Recognition], proofs: [Proof] = [], reply: HandshakeReply, action: HandshakeTask? = nil,
        wantsEmptyAnswers: Bool = false
    ) {
        self.name = name
        self.methods = methods
        self.needsSignature = needsSignature
        self.fields = fields
        self.optionalFields = optionalFields
        self.recognition = recognition
        self.proofs = proofs
        self.reply = reply
        self.action = action
        self.wantsEmptyAnswers = wantsEmptyAnswers
    }

    /// The provider gives the webhook secret in it, so a connection needs none before.
    public var learnsSecret: Bool { if case .learnSecret = action { true } else { false } }

    /// Whether it is told by the body: other webhooks need not be read for it.
    var readsBody: Bool {
        recognition.contains { sign in
            switch sign {
            case .onlyMember, .emptyList, .formOfDigits: true
            case .present(.body), .absent(.body), .equals(.body, _): true
            default: false
            }
        }
    }

    /// The shapes of a name such as `slack`, more than one where a provider has several; empty if there is none.
    public static func named(_ name: String) -> [Handshake] { all.filter { $0.name == name } }

    /// Those that a connection answers: what its connector declares, otherwise what its signature scheme implies.
    public static func of(declared: [String], scheme: String) -> [Handshake] {
        declared.isEmpty ? named(scheme) : declared.flatMap(named)
    }
}

/// What a request must have to be this handshake.
enum Recognition: Sendable {
    case method([String])
    case present(Place)
    case absent(Place)
    case equals(Place, [String])
    /// The body is a JSON object with this key only.
    case onlyMember(String)
    /// An array that is there and has no elements.
    case emptyList([String])
    /// The body is a form of this one field, whose value has digits only.
    case formOfDigits(String)
}

/// Where a text stands in a request.
enum Place: Sendable {
    case query(String)
    case header(String)
    /// Keys from the root of a JSON body; a number is the place in an array.
    case body([String])
}

/// What proves that who asks is the provider that was set up.
enum Proof: Sendable {
    /// A text of the request is the one in the connection's field; 403 otherwise.
    case secretField(Place, field: String)
    /// The same for what is no secret; `isOptional`: a connection without the field accepts any. 404 otherwise.
    case field(Place, field: String, isOptional: Bool)
}

/// What is answered.
enum HandshakeReply: Sendable {
    /// The status alone.
    case status(Int)
    /// The text as it was sent, as text/plain.
    case text(Place)
    case json([(key: String, value: Value)])
    /// The header of the request, sent back.
    case header(String)
    /// CloudEvents: who may send, and how often.
    case permission(origin: String, rate: String)

    enum Value: Sendable {
        case echo(Place)
        /// Lowercase hex of HMAC-SHA256 under the connection's webhook secret.
        case hmacHex(Place)
        /// The same as base64 behind a prefix.
        case hmacBase64(Place, prefix: String)
        case number(Int64)
    }
}

/// What is to be done besides answering.
enum HandshakeTask: Sendable {
    /// The text becomes the webhook secret of this address.
    case learnSecret(Place)
    /// The URL is asked for once, if its host is allowed.
    case confirm(Place, host: HostRule)

    enum HostRule: Sendable {
        /// sns.REGION.amazonaws.com or amazonaws.com.cn.
        case simpleNotificationService
        /// The host named in a header, or one above or below it.
        case kinOf(header: String)
    }
}
