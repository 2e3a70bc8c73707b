/// Where the gateway takes webhooks.
public enum WebhookPath {
    public static func path(_ token: String) -> String { "/hooks/" + token }
}
