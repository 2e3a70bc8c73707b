import SluiceCore
import SluiceDelivery

/// What a connection may set besides its fields. Stored as JSON.
public struct ConnectionSettings: Sendable, Equatable {
    /// A scheme name; nil: the connector's.
    public var scheme: String?
    /// The header of schemes that leave it open, such as `header-token`.
    public var header: String?
    public var tolerance: Span?
    /// What else the scheme asks for, by name, for example `webhook_id`.
    public var schemeParameters: [String: String] = [:]
    /// Polls may go to private and loopback addresses.
    public var allowsPrivate = false
    /// Networks that polls may go to although they are not public.
    public var allowedNetworks: [IPNetwork] = []
    public var pollsAtOnce: Int?
    public var requestsPerSecond: Double?
    public init() {}

    public var json: [UInt8] {
        var writer = JSONWriter()
        writer.object { writer in
            if let scheme { writer.member("scheme", scheme) }
            if let header { writer.member("header", header) }
            if let tolerance { writer.member("tolerance_ms", tolerance.milliseconds) }
            if !schemeParameters.isEmpty {
                writer.key("scheme_parameters")
                writer.object { writer in
                    for (name, value) in schemeParameters.sorted(by: { $0.key < $1.key }) { writer.member(name, value) }
                }
            }
            if allowsPrivate { writer.member("allow_private", true) }
            IPNetwork.write(allowedNetworks, to: &writer)
            if let pollsAtOnce { writer.member("polls_at_once", Int64(pollsAtOnce)) }
            if let requestsPerSecond {
                writer.key("requests_per_second")
                writer.raw(String(requestsPerSecond).utf8)
            }
        }
        return writer.bytes
    }

    /// Reads what `json` wrote; anything missing or unknown is left at its default.
    public init(json: [UInt8]) {
        guard let root = (try? JSONDocument(json))?.root else { return }
        scheme = root["scheme"]?.string
        header = root["header"]?.string
        tolerance = root["tolerance_ms"]?.int64.map(Span.init(milliseconds:))
        for member in root["scheme_parameters"]?.members ?? [] { schemeParameters[member.key] = member.value.string }
        allowsPrivate = root["allow_private"]?.bool ?? false
        allowedNetworks = IPNetwork.read(root)
        pollsAtOnce = root["polls_at_once"]?.int64.map { Int($0) }
        requestsPerSecond = root["requests_per_second"]?.double
    }
}

/// Intervals of a trigger. Stored as JSON.
public struct TriggerSettings: Sendable, Equatable {
    /// The longest time between polls that needs no signal; nil: the default.
    public var safetyInterval: Span?
    /// How often a polling trigger polls; nil: the default.
    public var interval: Span?
    /// Its jobs are delivered to each destination one after the other, in the order of their positions.
    public var isOrdered = false
    public init() {}

    public var json: [UInt8] {
        var writer = JSONWriter()
        writer.object { writer in
            if let safetyInterval { writer.member("safety_interval_ms", safetyInterval.milliseconds) }
            if let interval { writer.member("interval_ms", interval.milliseconds) }
            if isOrdered { writer.member("ordered", true) }
        }
        return writer.bytes
    }

    public init(json: [UInt8]) {
        guard let root = (try? JSONDocument(json))?.root else { return }
        safetyInterval = root["safety_interval_ms"]?.int64.map(Span.init(milliseconds:))
        interval = root["interval_ms"]?.int64.map(Span.init(milliseconds:))
        isOrdered = root["ordered"]?.bool ?? false
    }
}

/// Where pushes go and how. Stored as JSON; the secret and the headers are sealed elsewhere.
public struct DestinationSettings: Sendable, Equatable {
    public var url: String?
    public var allowsPrivate = false
    /// Networks that pushes may go to although they are not public.
    public var allowedNetworks: [IPNetwork] = []
    /// The waits after the first, second, … failed attempt; nil: the standard ones.
    public var retries: [Span]?
    public var rate: DeliveryRate?
    public var timeout: Span?
    /// Deliveries under way at once.
    public var concurrency: Int?
    /// Of the kinds `command`, `file` and `nats`.
    public var carried = CarriedSettings()
    /// Of a destination of the kind `pull`.
    public var consumer = ConsumerSettings()
    public init() {}

    public var json: [UInt8] {
        var writer = JSONWriter()
        writer.object { writer in
            if let url { writer.member("url", url) }
            if allowsPrivate { writer.member("allow_private", true) }
            IPNetwork.write(allowedNetworks, to: &writer)
            if let retries {
                writer.key("retries_ms")
                writer.array { writer in for retry in retries { writer.value(retry.milliseconds) } }
            }
            if let rate { writer.member("rate", rate.description) }
            if let timeout { writer.member("timeout_ms", timeout.milliseconds) }
            if let concurrency { writer.member("concurrency", Int64(concurrency)) }
            carried.write(to: &writer)
            consumer.write(to: &writer)
        }
        return writer.bytes
    }

    public init(json: [UInt8]) {
        guard let root = (try? JSONDocument(json))?.root else { return }
        url = root["url"]?.string
        allowsPrivate = root["allow_private"]?.bool ?? false
        allowedNetworks = IPNetwork.read(root)
        retries = root["retries_ms"]?.elements?.compactMap { $0.int64.map(Span.init(milliseconds:)) }
        rate = root["rate"]?.string.flatMap(DeliveryRate.init)
        timeout = root["timeout_ms"]?.int64.map(Span.init(milliseconds:))
        concurrency = root["concurrency"]?.int64.map { Int($0) }
        carried = CarriedSettings(json: json)
        consumer = ConsumerSettings(json: json)
    }

    /// The URL without what may be secret in it: user information and query.
    public static func shown(_ url: String) -> String {
        var text = Substring(url)
        var tail = ""
        if let cut = text.firstIndex(where: { $0 == "?" || $0 == "#" }) {
            tail = "?…"
            text = text[..<cut]
        }
        guard let scheme = text.firstRange(of: "://") else { return String(text) + tail }
        let rest = text[scheme.upperBound...]
        let end = rest.firstIndex(of: "/") ?? rest.endIndex
        guard let at = rest[..<end].lastIndex(of: "@") else { return String(text) + tail }
        return text[..<scheme.upperBound] + "…@" + rest[rest.index(after: at)...] + tail
    }
}

/// The secret values of a connection. Sealed as JSON.
public struct ConnectionSecrets: Sendable, Equatable {
    /// JSON values by field name.
    public var fields: [(name: String, json: [UInt8])] = []
    public var webhookSecrets: [String] = []
    /// Secrets that the provider gave in a handshake, by the token of the address.
    public var learnedSecrets: [String: String] = [:]
    public init() {}

    public static func == (left: ConnectionSecrets, right: ConnectionSecrets) -> Bool { left.json == right.json }

    public var json: [UInt8] {
        var writer = JSONWriter()
        writer.object { writer in
            writer.key("fields")
            writer.object { writer in
                for field in fields.sorted(by: { $0.name < $1.name }) {
                    writer.key(field.name)
                    writer.raw(field.json)
                }
            }
            writer.key("webhook_secrets")
            writer.array { writer in for secret in webhookSecrets { writer.value(secret) } }
            guard !learnedSecrets.isEmpty else { return }
            writer.key("learned_secrets")
            writer.object { writer in for (token, secret) in learnedSecrets.sorted(by: { $0.key < $1.key }) { writer.member(token, secret) }
            }
        }
        return writer.bytes
    }

    public init(json: [UInt8]) {
        guard let root = (try? JSONDocument(json))?.root else { return }
        fields = root["fields"]?.members?.map { ($0.key, Array($0.value.bytes)) } ?? []
        webhookSecrets = root["webhook_secrets"]?.elements?.compactMap(\.string) ?? []
        for member in root["learned_secrets"]?.members ?? [] { learnedSecrets[member.key] = member.value.string }
    }
}

extension IPNetwork {
    fileprivate static func write(_ networks: [IPNetwork], to writer: inout JSONWriter) {
        guard !networks.isEmpty else { return }
        writer.key("allow_networks")
        writer.array { writer in for network in networks { writer.value(network.description) } }
    }

    fileprivate static func read(_ root: JSONView) -> [IPNetwork] {
        root["allow_networks"]?.elements?.compactMap { $0.string.flatMap { IPNetwork($0) } } ?? []
    }
}
