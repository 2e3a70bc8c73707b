import SluiceConnectors

/// What is known of the schemes' names, for messages.
enum WebhookSchemes {
    /// What is wrong with a scheme's name, or nil.
    static func problem(_ name: String) -> String? {
        SignatureScheme.named(name) == nil
            ? "there is no scheme `\(name)`: \(Words.hint(name, among: SignatureScheme.all.map(\.name)))" : nil
    }

    static func secretHint(_ name: String) -> String { SignatureScheme.named(name)?.secretHint ?? "" }
}
