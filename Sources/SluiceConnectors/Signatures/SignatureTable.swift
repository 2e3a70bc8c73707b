import SluiceCore

/// One scheme as data.
struct SchemeRow: Sendable {
    var name: String
    var provider: String
    /// What the secret must look like.
    var secret: String
    /// Where the recipe is from.
    var source: String
    var isExperimental: Bool
    var alternatives: [SignatureDescription]

    init(
        _ name: String, _ provider: String, secret: String, source: String, isExperimental: Bool = false,
        _ alternatives: SignatureDescription...
    ) {
        self.name = name
        self.provider = provider
        self.secret = secret
        self.source = source
        self.isExperimental = isExperimental
        self.alternatives = alternatives
    }
}

extension SignatureScheme {
    init(_ row: SchemeRow) {
        let first = row.alternatives[0]
        let content = first.content
        let isSecret = first.forms[0].algorithm == .secret
        var headers = row.alternatives.flatMap { $0.headers.isEmpty ? [$0.headerDefault ?? ""] : $0.headers }
        if case .header(let name)? = first.timestamp?.place { headers.append(name) }
        headers += first.required.map(\.name) + first.content.headers + [first.keyHost?.name].compactMap(\.self)
        let prefixes = first.forms.map(\.prefix).filter { !$0.isEmpty }
        var algorithms: [String] = []
        for form in first.forms where !algorithms.contains(form.algorithm.rawValue) { algorithms.append(form.algorithm.rawValue) }
        let list = first.list.map { " in a list separated by \($0 == " " ? "spaces" : "`\($0)`")" } ?? ""
        let summary = SchemeSummary(
            provider: row.provider, headers: headers.reduce(into: []) { if !$0.contains($1) { $0.append($1) } },
            algorithm: algorithms.joined(separator: ", "), content: isSecret ? "nothing" : content.description,
            encoding: first.encoding.rawValue + (prefixes.isEmpty ? "" : " after `\(prefixes.joined(separator: "`, `"))`") + list,
            toleranceSeconds: first.timestamp?.toleranceSeconds, parameters: content.parameters, source: row.source)
        let fast: (@Sendable (WebhookRequest, [String], Timestamp, SchemeOptions) -> Verdict)? =
            switch row.name {
            case "stripe": Self.checkStripe
            case "standard-webhooks", "svix": Self.checkStandardWebhooks
            default: nil
            }
        self.init(
            name: row.name, signsBody: !isSecret && content.contains(.body), signsURL: content.contains(.url),
            isExperimental: row.isExperimental, secretHint: row.secret, summary: summary,
            recipe: DescribedSignature(alternatives: row.alternatives), fast: fast)
        signedHeaders = row.alternatives.flatMap { $0.content.headers.map { $0.lowercased() } }
    }
}

// Short forms, so that a row reads like the provider's page.
extension SignatureDescription {
    /// HMAC in a header of its own.
    static func hmac(
        _ header: String, _ prefix: String = "", _ algorithm: SignatureAlgorithm = .hmacSHA256, _ encoding: SignatureEncoding = .hex,
        of content: ContentTemplate = "{body}", list: Unicode.Scalar? = nil, key: SignatureKeyForm = .text,
        at timestamp: SignatureTimestamp? = nil, required: [HTTPField] = []
    ) -> Self {
        Self(
            headers: [header], list: list, forms: [Form(prefix, algorithm)], encoding: encoding, content: content, key: key,
            timestamp: timestamp, required: required)
    }

    /// HMAC over the body in hex, the prefix of which names the method: `sha256=…` (WebSub).
    static func hmacOfAnyMethod(_ header: String, _ methods: [SignatureAlgorithm]) -> Self {
        let forms = methods.map { Form("\($0.rawValue.dropFirst(5))=", $0) }
        return Self(headers: [header], forms: forms, encoding: .hex, content: "{body}")
    }

    /// A header that the connection names, several signatures after commas, the prefix there or not.
    static func anySender(_ prefix: String, _ algorithm: SignatureAlgorithm) -> Self {
        var description = Self(
            headers: [], headerDefault: "X-Signature", list: ",", forms: [Form(prefix, algorithm)], encoding: .hexAnyCase, content: "{body}"
        )
        description.isPrefixOptional = true
        return description
    }

    /// A secret that is shown as it is.
    static func token(_ header: String, _ prefix: String = "", isDefault: Bool = false, queryParameter: String? = nil) -> Self {
        var description = Self(
            headers: [header], headerDefault: isDefault ? header : nil, forms: [Form(prefix, .secret)], encoding: .text,
            content: "", queryParameter: queryParameter)
        description.ignoresPrefixCase = true
        return description
    }

    /// `Basic BASE64(user:password)` (RFC 7617); the first colon ends the user.
    static let basic: Self = {
        var description = Self(
            headers: ["Authorization"], forms: [Form("Basic ", .secret)], encoding: .base64, content: "", key: .userPassword)
        description.ignoresPrefixCase = true
        return description
    }()

    /// Standard Webhooks under one family of header names.
    static func standardWebhooks(_ family: String, _ form: Form, key: SignatureKeyForm) -> Self {
        var description = Self(
            headers: ["\(family)-signature"], list: " ", forms: [form], encoding: .base64,
            content: ContentTemplate("{header:\(family)-id}.{timestamp}.{body}"), key: key,
            timestamp: .header("\(family)-timestamp", .seconds, within: 300))
        description.pointless = ["\(family)-id"]
        return description
    }
}
