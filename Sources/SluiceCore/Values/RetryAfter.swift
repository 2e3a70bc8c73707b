/// Reads the header Retry-After (RFC 9110, 10.2.3): seconds, or an HTTP date.
public enum RetryAfter {
    /// The wait asked for, never negative; nil for what is neither. Only the date form that RFC 9110 has servers send is
    /// read (IMF-fixdate: `Sun, 06 Nov 1994 08:49:37 GMT`).
    public static func parse(_ text: String, now: Timestamp) -> Span? {
        let trimmed = text.drop { $0 == " " || $0 == "\t" }
        let digits = trimmed.prefix { $0.isASCII && $0.isNumber }
        if !digits.isEmpty, trimmed.dropFirst(digits.count).allSatisfy({ $0 == " " || $0 == "\t" }) {
            // More digits than these is some thousand years: a bound, not an error.
            return .seconds(digits.utf8.count > 11 ? 99_999_999_999 : Int64(digits) ?? 0)
        }
        return HTTPDate.parse(String(trimmed)).map { max(.zero, $0 - now) }
    }
}
