import SluiceCore

/// What a connection may set for its scheme.
public struct SchemeOptions: Sendable {
    /// How far a signed timestamp may lie from now, in either direction. Nil: as the scheme has it.
    public var tolerance: Span?
    /// The header of schemes that leave it open, such as `header-token` and `hmac-sha256`.
    public var headerName: String?
    /// Scheme and host under which the provider reaches this server, without a final slash: `https://hooks.example.com`.
    /// For schemes that sign the URL; path and query of the request follow it.
    public var publicURL: String?
    /// What else a scheme asks for, by name: `webhook_id` of `paypal`, `audience` and `email` of `google-pubsub`,
    /// `topic_arn` of `aws-sns`.
    public var parameters: [String: String]
    /// Certificates and key sets that were fetched before, for schemes whose keys stand at an address of the provider.
    /// Without it such a key is given as the connection's secret.
    public var keys: (any KeySource)?

    public init(
        tolerance: Span? = nil, headerName: String? = nil, publicURL: String? = nil, parameters: [String: String] = [:],
        keys: (any KeySource)? = nil
    ) {
        self.tolerance = tolerance
        self.headerName = headerName
        self.publicURL = publicURL
        self.parameters = parameters
        self.keys = keys
    }

    /// The tolerance where a scheme names no other.
    static let toleranceDefault = Span.seconds(300)

    /// The URL that the provider called; nil if it is not known.
    func url(of request: WebhookRequest) -> String? {
        request.url ?? publicURL.map { $0 + request.path + (request.query.isEmpty ? "" : "?" + request.query) }
    }
}
