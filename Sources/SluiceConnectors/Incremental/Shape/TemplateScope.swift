import SluiceCore

/// Values for places of templates that are neither the connection's nor the input's, while one request is made.
struct TemplateScope: Sendable {
    /// A word's text, and whether it stands as a number where it is a JSON value of its own.
    struct Word: Sendable, Equatable {
        var text: String
        var isNumber = false
    }

    /// What the lookups found: a JSON object.
    var lookup: JSONDocument?
    /// The record that is fetched in full.
    var record: JSONView?
    /// The partition that is read: a JSON object.
    var partition: JSONView?
    /// From above: sent with the cycle's first page as well. Nil unless the cursor's `isUpperAlwaysSent`.
    var upper: String?
    private var words: [String: Word] = [:]

    /// Every word there is, whatever its purpose.
    static let words: Set<String> = [
        "cursor", "partition", "upper", "method", "host", "path", "query", "body", "body_sha256", "timestamp", "signature",
    ]

    subscript(word: String) -> Word? {
        get { words[word] }
        set { words[word] = newValue }
    }
}
