import SluiceCore

extension Timestamp {
    /// An RFC 3339 time with its zone, for example 2026-01-31T09:05:00Z; nil for anything else.
    package init?(rfc3339 text: String) {
        guard case .milliseconds(let milliseconds) = Times.rfc3339(text) else { return nil }
        self.init(milliseconds: milliseconds)
    }
}
