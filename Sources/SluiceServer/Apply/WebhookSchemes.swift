import SluiceConnectors

/// What is known of the schemes' names, for messages.
enum WebhookSchemes {
    /// What is wrong with a scheme's name, or nil.
    static func problem(_ name: String) -> String? {
        SignatureScheme.named(name) == nil
            ? "there is no scheme `\(name)`: \(Words.hint(name, among: SignatureScheme.all.map(\.name)))" : nil
    }

    /// Whether it is for the user to say which header is read.
    static func leavesHeaderOpen(_ name: String) -> Bool { SignatureScheme.named(name)?.leavesHeaderOpen ?? true }

    /// What is wrong with the parameters that are given for a scheme.
    static func problems(_ name: String, _ parameters: [String: String]) -> [String] {
        guard let scheme = SignatureScheme.named(name) else { return [] }
        let known = scheme.summary.parameters
        let unknown = parameters.keys.filter { !known.contains($0) }.sorted()
        return unknown.map { "the scheme `\(name)` has no parameter `\($0)`: \(Words.hint($0, among: known))" }
            + scheme.parametersNeeded.filter { parameters[$0]?.isEmpty != false }
            .map { "the scheme `\(name)` needs `parameters: {\($0): …}`" }
    }

    /// Whether a text can be a secret or key of this scheme at all.
    static func takes(_ name: String, secret: String) -> Bool { SignatureScheme.named(name)?.takes(secret: secret) ?? true }

    static func isExperimental(_ name: String) -> Bool { SignatureScheme.named(name)?.isExperimental ?? false }

    static func secretHint(_ name: String) -> String { SignatureScheme.named(name)?.secretHint ?? "" }
}
