import SluiceCore

extension Timestamp {
    /// Reads an RFC 3339 time with its zone; nil for anything else.
    public init?(rfc3339 text: String) {
        guard case .milliseconds(let milliseconds) = Times.rfc3339(text) else { return nil }
        self.init(milliseconds: milliseconds)
    }
}
