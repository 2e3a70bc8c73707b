import SluiceCore

/// How a provider signs, as data: which header holds the signature, what was signed, and how.
///
/// One general routine (`DescribedSignature`) verifies all that can be described so; `SignatureTable` holds the rows.
public struct SignatureDescription: Sendable {
    /// One way of signing. `prefix` stands before the signature and tells ways apart: `sha256=`, `v1=`, `Basic `.
    public struct Form: Sendable {
        public var prefix: String
        public var algorithm: SignatureAlgorithm
        public init(_ prefix: String, _ algorithm: SignatureAlgorithm) {
            self.prefix = prefix
            self.algorithm = algorithm
        }
    }

    /// Headers that may hold a signature, each at most once; one that matches is enough. Empty: the connection names it.
    public var headers: [String]
    /// The header where the connection names none; for schemes that leave it open.
    public var headerDefault: String?
    /// What separates several signatures in one header; nil: the header is one signature.
    public var list: Unicode.Scalar?
    public var forms: [Form]
    /// Whether a signature without any of the prefixes is taken for one of the first form.
    public var isPrefixOptional = false
    /// Whether `basic ` stands for `Basic ` (RFC 9110, 11.1).
    public var ignoresPrefixCase = false
    public var encoding: SignatureEncoding
    /// What is signed, for example `{timestamp}.{body}`: see `ContentTemplate`.
    public var content: ContentTemplate
    public var key: SignatureKeyForm
    public var timestamp: SignatureTimestamp?
    /// Headers that must have one value: the version of the scheme, for example.
    public var required: [HTTPField]
    /// A header whose value must be an https URL of a host that ends in the value here: where the key comes from.
    public var keyHost: HTTPField?
    /// A parameter of the query that may stand for the header.
    public var queryParameter: String?
    /// Whether the provider may have signed the URL with some of its percent-encoded characters decoded.
    public var decodesURL = false
    /// Headers that must not hold a point, since points separate the parts of what is signed.
    public var pointless: [String] = []

    public init(
        headers: [String], headerDefault: String? = nil, list: Unicode.Scalar? = nil, forms: [Form], encoding: SignatureEncoding,
        content: ContentTemplate, key: SignatureKeyForm = .text, timestamp: SignatureTimestamp? = nil, required: [HTTPField] = [],
        keyHost: HTTPField? = nil, queryParameter: String? = nil
    ) {
        self.headers = headers
        self.headerDefault = headerDefault
        self.list = list
        self.forms = forms
        self.encoding = encoding
        self.content = content
        self.key = key
        self.timestamp = timestamp
        self.required = required
        self.keyHost = keyHost
        self.queryParameter = queryParameter
    }
}

/// What makes a signature of a content and a key.
public enum SignatureAlgorithm: String, Sendable, CaseIterable {
    case hmacSHA1 = "hmac-sha1"
    case hmacSHA256 = "hmac-sha256"
    case hmacSHA384 = "hmac-sha384"
    case hmacSHA512 = "hmac-sha512"
    /// A plain hash; the secret is part of the content.
    case sha256
    case ed25519
    /// ECDSA on P-256 over SHA-256; the signature is DER.
    case ecdsaP256 = "ecdsa-p256-sha256"
    /// RSASSA-PKCS1-v1_5 over SHA-256.
    case rsaSHA256 = "rsa-pkcs1v15-sha256"
    /// Nothing is signed: the secret itself is shown.
    case secret = "shared secret"

    /// How long a signature is, in bytes; nil where that varies.
    var bytes: Int? {
        switch self {
        case .hmacSHA1: 20
        case .hmacSHA256, .sha256: 32
        case .hmacSHA384: 48
        case .hmacSHA512, .ed25519: 64
        case .ecdsaP256, .rsaSHA256, .secret: nil
        }
    }

    var isAsymmetric: Bool { self == .ed25519 || self == .ecdsaP256 || self == .rsaSHA256 }
}

/// How a signature is written. Each text stands for one signature only: base64 must be canonical, with its padding.
public enum SignatureEncoding: String, Sendable, CaseIterable {
    /// Lowercase digits; capitals are refused, since none of the providers sends them.
    case hex
    /// Digits in either case, for senders that we do not know.
    case hexAnyCase = "hex in either case"
    case base64
    case base64URL = "base64url"
    /// The text itself, for shared secrets.
    case text

    func decode(_ text: Substring.UTF8View) -> [UInt8]? {
        switch self {
        case .hex: Hex.bytes(text)
        case .hexAnyCase: Hex.bytes(text, allowsCapitals: true)
        case .base64: text.count % 4 == 0 ? Base64.decode(text) : nil
        case .base64URL: Base64.decodeURL(text)
        case .text: Array(text)
        }
    }
}

/// How the connection's secret becomes the key.
public enum SignatureKeyForm: String, Sendable, CaseIterable {
    /// The secret's characters as they are.
    case text
    /// Base64 after `whsec_`; without that, the characters or, where they are base64, what they stand for.
    case standardWebhooks = "base64 after whsec_"
    case hex
    /// `user:password`, with something on one side of the colon.
    case userPassword = "user:password"
    /// A public key or certificate: PEM, base64 of a SubjectPublicKeyInfo, or for Ed25519 32 bytes in hex or base64.
    case publicKey = "public key"
}

/// Where a moment stands, how it is written, and how far it may lie from now.
public struct SignatureTimestamp: Sendable {
    public enum Place: Sendable, Equatable {
        case header(String)
        /// In the signature's own list, behind this prefix: `t=`.
        case item(String)
        /// In the body, which is JSON, behind these keys. Judged after the signature.
        case body([String])
    }
    public enum Unit: String, Sendable {
        case seconds
        case milliseconds
        case rfc3339 = "RFC 3339"
        /// `Thu, 07 Sep 2017 06:30:04 GMT`; the comma may be missing, and UTC may stand for GMT.
        case date
    }
    public var place: Place
    public var unit: Unit
    /// In either direction. Nil: only judged if the connection sets a tolerance.
    public var toleranceSeconds: Int64?

    public static func header(_ name: String, _ unit: Unit, within toleranceSeconds: Int64?) -> Self {
        Self(place: .header(name), unit: unit, toleranceSeconds: toleranceSeconds)
    }
    public static func item(_ prefix: String, _ unit: Unit, within toleranceSeconds: Int64?) -> Self {
        Self(place: .item(prefix), unit: unit, toleranceSeconds: toleranceSeconds)
    }
    public static func body(_ path: [String], _ unit: Unit, within toleranceSeconds: Int64?) -> Self {
        Self(place: .body(path), unit: unit, toleranceSeconds: toleranceSeconds)
    }

    /// The moment that a text stands for; nil if it is not written in this unit.
    func read(_ text: String) -> Timestamp? {
        switch unit {
        case .seconds: SignedRequest.digits(text.utf8, max: 12).map(Timestamp.init(seconds:))
        case .milliseconds: SignedRequest.digits(text.utf8, max: 15).map(Timestamp.init(milliseconds:))
        case .rfc3339:
            if case .milliseconds(let value) = Times.rfc3339(text) { Timestamp(milliseconds: value) } else { nil }
        case .date: Self.date(text)
        }
    }

    var unitName: String {
        switch unit {
        case .seconds: "seconds since 1970 in digits"
        case .milliseconds: "milliseconds since 1970 in digits"
        case .rfc3339: "a time like 2026-01-31T09:05:00Z"
        case .date: "a date like Thu, 07 Sep 2017 06:30:04 GMT"
        }
    }

    private static func date(_ text: String) -> Timestamp? {
        guard text.utf8.count <= 40 else { return nil }
        var words = text.split(separator: " ", omittingEmptySubsequences: false).map(String.init)
        guard words.count == 6, let day = words.first, words[5] == "GMT" || words[5] == "UTC" else { return nil }
        if !day.hasSuffix(",") { words[0] = day + "," }
        words[5] = "GMT"
        return HTTPDate.parse(words.joined(separator: " "))
    }
}
