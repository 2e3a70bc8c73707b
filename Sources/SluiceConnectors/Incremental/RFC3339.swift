import SluiceCore

/// Times as people give them to the API.
public enum RFC3339 {
    /// A time with its zone; nil for anything else.
    public static func parse(_ text: String) -> Timestamp? {
        if case .milliseconds(let time) = Times.rfc3339(text) { Timestamp(milliseconds: time) } else { nil }
    }
}
