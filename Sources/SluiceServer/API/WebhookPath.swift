import SluiceCore
import Synchronization

/// Where the gateway takes webhooks.
public enum WebhookPath {
    public static func path(_ token: String) -> String { "/hooks/" + token }
}

/// Where webhooks reach this server: scheme, host, port. Known once the listener is bound; never without a server, unless
/// it was given.
public final class PublicAddress: Sendable {
    private let known: Mutex<String?>
    private let isGiven: Bool

    public init(_ url: String?) {
        known = Mutex(url.map(PublicAddress.trimmed))
        isGiven = url != nil
    }

    public var url: String? { known.withLock { $0 } }

    /// Sets it unless it was given.
    public func bound(_ url: String) { known.withLock { $0 = $0 ?? PublicAddress.trimmed(url) } }

    /// The address to give to providers: the one that was given, or the listener's if it may be reached from other machines.
    public var urlForProviders: String? {
        guard let url else { return nil }
        if isGiven { return url }
        let host = (try? WebAddress(url))?.host ?? ""
        let isLocal = host == "localhost" || host.hasPrefix("127.") || host == "0.0.0.0" || ["[::1]", "[::]", "::1", "::"].contains(host)
        return isLocal ? nil : url
    }

    private static func trimmed(_ url: String) -> String { url.hasSuffix("/") ? String(url.dropLast()) : url }
}
