/// The bounds of the public listener (P10). The defaults leave room for 60,000 requests a second of one connection: more than two cores take.
public struct GatewayLimits: Sendable {
    public var bodyBytesMax = 10 * 1024 * 1024
    /// Names and values of one request's headers together; beyond: 431.
    public var headerBytesMax = 32 * 1024
    public var headersMax = 100
    public var jsonDepthMax = 64
    /// From a request's first byte, or the connection's start, until its headers are complete; beyond: 408.
    public var headerDeadlineSeconds = 10.0
    /// From the headers until the body is complete; beyond: 408.
    public var bodyDeadlineSeconds = 30.0
    /// How long a connection may rest between two requests.
    public var idleDeadlineSeconds = 75.0
    /// How long an answered client may take to close, when its connection cannot be used again.
    public var lingerSeconds = 2.0
    /// All connections together; beyond: 429. Twice what one connection may use, so that a noisy one leaves room for the others (P12).
    public var requestsPerSecondMax = 120_000
    /// One connection, unless it says otherwise; beyond: 429.
    public var requestsPerSecondPerConnectionMax = 60_000
    /// Requests read and not yet answered; beyond: 503.
    public var requestsInFlightMax = 20_000
    /// Bodies held at the same time, whole or in part; beyond: 503.
    public var bodiesInFlightBytesMax = 256 * 1024 * 1024
    /// Open TCP connections; further ones wait in the kernel's backlog.
    public var connectionsMax = 20_000
    /// Serves `POST /baseline/…`: reads the body and answers 200. For benchmarks only.
    public var enablesBaseline = false

    public init() {}
}
