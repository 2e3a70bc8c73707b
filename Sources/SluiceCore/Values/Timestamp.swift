/// A moment in milliseconds since 1970-01-01T00:00:00Z. Passed in wherever it is needed: nothing in SluiceCore reads a clock.
public struct Timestamp: Hashable, Comparable, Sendable, Codable, CustomStringConvertible {
    public var milliseconds: Int64

    public init(milliseconds: Int64) { self.milliseconds = milliseconds }
    public init(seconds: Int64) { self.milliseconds = seconds * 1000 }

    public init(from decoder: any Decoder) throws {
        milliseconds = try decoder.singleValueContainer().decode(Int64.self)
    }

    public func encode(to encoder: any Encoder) throws {
        var container = encoder.singleValueContainer()
        try container.encode(milliseconds)
    }

    /// Whole seconds since 1970, rounded down.
    public var seconds: Int64 { milliseconds >= 0 ? milliseconds / 1000 : -((-milliseconds + 999) / 1000) }

    public static let distantPast = Timestamp(milliseconds: 0)
    public static let distantFuture = Timestamp(milliseconds: Int64.max / 4)

    public static func < (left: Timestamp, right: Timestamp) -> Bool { left.milliseconds < right.milliseconds }
    public static func + (time: Timestamp, span: Span) -> Timestamp {
        Timestamp(milliseconds: time.milliseconds + span.milliseconds)
    }
    public static func - (time: Timestamp, span: Span) -> Timestamp {
        Timestamp(milliseconds: time.milliseconds - span.milliseconds)
    }
    public static func - (left: Timestamp, right: Timestamp) -> Span {
        Span(milliseconds: left.milliseconds - right.milliseconds)
    }

    /// RFC 3339 in UTC with milliseconds, for example 2026-01-31T09:05:00.250Z.
    public var description: String {
        let days = Timestamp.floorDivide(milliseconds, 86_400_000)
        let inDay = milliseconds - days * 86_400_000
        let date = Timestamp.civil(days: days)
        func pad(_ value: Int64, _ width: Int) -> String {
            let digits = String(value)
            return String(repeating: "0", count: max(0, width - digits.count)) + digits
        }
        let time = [inDay / 3_600_000, inDay / 60_000 % 60, inDay / 1000 % 60].map { pad($0, 2) }.joined(separator: ":")
        return "\(pad(date.year, 4))-\(pad(date.month, 2))-\(pad(date.day, 2))T\(time).\(pad(inDay % 1000, 3))Z"
    }

    /// Year, month and day of a number of days since 1970-01-01, in the proleptic Gregorian calendar.
    /// Source: Howard Hinnant, "chrono-Compatible Low-Level Date Algorithms".
    public static func civil(days: Int64) -> (year: Int64, month: Int64, day: Int64) {
        let shifted = days + 719_468
        let era = floorDivide(shifted, 146_097)
        let dayOfEra = shifted - era * 146_097
        let yearOfEra = (dayOfEra - dayOfEra / 1460 + dayOfEra / 36_524 - dayOfEra / 146_096) / 365
        let dayOfYear = dayOfEra - (365 * yearOfEra + yearOfEra / 4 - yearOfEra / 100)
        let monthFromMarch = (5 * dayOfYear + 2) / 153
        let month = monthFromMarch < 10 ? monthFromMarch + 3 : monthFromMarch - 9
        let year = yearOfEra + era * 400 + (month <= 2 ? 1 : 0)
        return (year, month, dayOfYear - (153 * monthFromMarch + 2) / 5 + 1)
    }

    /// Days since 1970-01-01 of a date in the proleptic Gregorian calendar. Same source as `civil(days:)`.
    public static func days(year: Int64, month: Int64, day: Int64) -> Int64 {
        let shiftedYear = month <= 2 ? year - 1 : year
        let era = floorDivide(shiftedYear, 400)
        let yearOfEra = shiftedYear - era * 400
        let dayOfYear = (153 * (month > 2 ? month - 3 : month + 9) + 2) / 5 + day - 1
        return era * 146_097 + yearOfEra * 365 + yearOfEra / 4 - yearOfEra / 100 + dayOfYear - 719_468
    }

    static func floorDivide(_ value: Int64, _ divisor: Int64) -> Int64 {
        let quotient = value / divisor
        return value % divisor < 0 ? quotient - 1 : quotient
    }
}

/// A length of time in milliseconds; negative spans are allowed in differences.
public struct Span: Hashable, Comparable, Sendable, Codable, CustomStringConvertible {
    public var milliseconds: Int64

    public init(milliseconds: Int64) { self.milliseconds = milliseconds }

    public init(from decoder: any Decoder) throws {
        milliseconds = try decoder.singleValueContainer().decode(Int64.self)
    }

    public func encode(to encoder: any Encoder) throws {
        var container = encoder.singleValueContainer()
        try container.encode(milliseconds)
    }

    public static func milliseconds(_ value: Int64) -> Span { Span(milliseconds: value) }
    public static func seconds(_ value: Int64) -> Span { Span(milliseconds: value * 1000) }
    public static func minutes(_ value: Int64) -> Span { Span(milliseconds: value * 60_000) }
    public static func hours(_ value: Int64) -> Span { Span(milliseconds: value * 3_600_000) }
    public static func days(_ value: Int64) -> Span { Span(milliseconds: value * 86_400_000) }
    public static let zero = Span(milliseconds: 0)

    public static func < (left: Span, right: Span) -> Bool { left.milliseconds < right.milliseconds }
    public static func + (left: Span, right: Span) -> Span { Span(milliseconds: left.milliseconds + right.milliseconds) }
    public static func - (left: Span, right: Span) -> Span { Span(milliseconds: left.milliseconds - right.milliseconds) }
    public static func * (span: Span, factor: Int64) -> Span { Span(milliseconds: span.milliseconds * factor) }

    /// Milliseconds below ten seconds, otherwise seconds.
    public var description: String { milliseconds < 10_000 ? "\(milliseconds) ms" : "\(milliseconds / 1000) s" }
}
