import Synchronization

/// Where the gateway takes webhooks.
public enum WebhookPath {
    public static func path(_ token: String) -> String { "/hooks/" + token }
}

/// Where webhooks reach this server: scheme, host, port. Known once the listener is bound; never without a server, unless
/// it was given.
public final class PublicAddress: Sendable {
    private let known: Mutex<String?>

    public init(_ url: String?) { known = Mutex(url.map(PublicAddress.trimmed)) }

    public var url: String? { known.withLock { $0 } }

    /// Sets it unless it was given.
    public func bound(_ url: String) { known.withLock { $0 = $0 ?? PublicAddress.trimmed(url) } }

    private static func trimmed(_ url: String) -> String { url.hasSuffix("/") ? String(url.dropLast()) : url }
}
