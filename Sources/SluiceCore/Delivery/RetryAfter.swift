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
        return date(trimmed).map { max(.zero, $0 - now) }
    }

    private static let months = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"]

    private static func date(_ text: Substring) -> Timestamp? {
        let parts = text.split(separator: " ")
        guard parts.count == 6, parts[5] == "GMT", parts[0].hasSuffix(","), let month = months.firstIndex(of: String(parts[2])) else {
            return nil
        }
        let clock = parts[4].split(separator: ":").compactMap { Int64($0) }
        guard let day = Int64(parts[1]), let year = Int64(parts[3]), clock.count == 3, (1...31).contains(day),
            (1970...9999).contains(year), (0..<24).contains(clock[0]), (0..<60).contains(clock[1]), (0...60).contains(clock[2])
        else { return nil }
        let days = Timestamp.days(year: year, month: Int64(month + 1), day: day)
        return Timestamp(seconds: days * 86_400 + clock[0] * 3600 + clock[1] * 60 + clock[2])
    }
}
