import SluiceCore

/// How a bound is written for the API.
public enum TimeFormat: Sendable, Equatable {
    case unixSeconds, unixMilliseconds, rfc3339
    case pattern(TimePattern)

    /// A name, or a pattern as strftime takes it.
    init(_ text: String, _ rule: RuleReader) throws(SluiceError) {
        switch text {
        case "unix_seconds": self = .unixSeconds
        case "unix_milliseconds": self = .unixMilliseconds
        case "rfc3339": self = .rfc3339
        case "date": self = .pattern(.date)
        default:
            guard text.contains("%") else {
                throw rule.fault(
                    "format", "must be unix_seconds, unix_milliseconds, rfc3339, date, or a pattern such as \"%Y-%m-%d %H:%M:%S\"")
            }
            self = .pattern(try rule.pattern(text, "format"))
        }
    }

    var namesItsZone: Bool { if case .pattern(let pattern) = self { pattern.namesItsZone } else { true } }

    /// What is finer than this is lost in writing.
    var granuleMilliseconds: Int64 {
        switch self {
        case .unixSeconds: 1000
        case .unixMilliseconds, .rfc3339: 1
        case .pattern(let pattern): pattern.granuleMilliseconds
        }
    }
}

/// A form of times in the words of strftime: `%Y %m %d %H %I %M %S %p %b`, `%f` (as many digits as there are; six when written),
/// `%3f %6f %9f` (exactly so many), `%s` (Unix seconds), `%z` (+0200), `%:z` (+02:00), `%F` (%Y-%m-%d), `%T` (%H:%M:%S), `%%`.
public struct TimePattern: Sendable, Equatable {
    enum Piece: Sendable, Equatable {
        case literal(UInt8)
        case year, month, monthName, day, hour, hour12, halfDay, minute, second, unixSeconds
        /// Exactly so many digits; nil: as many as there are.
        case fraction(Int?)
        case offset(colon: Bool)
    }

    private let pieces: [Piece]
    private static let months = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"].map { Array($0.utf8) }

    static let date = TimePattern(checked: [.year, .literal(0x2D), .month, .literal(0x2D), .day])

    private init(checked pieces: [Piece]) { self.pieces = pieces }

    /// Throws an error that names what the pattern lacks.
    public init(_ text: String) throws(SluiceError) {
        var pieces: [Piece] = []
        var bytes = Array(text.utf8)[...]
        while let byte = bytes.popFirst() {
            guard byte == UInt8(ascii: "%") else {
                pieces.append(.literal(byte))
                continue
            }
            let word = TimePattern.word(&bytes)
            guard let found = TimePattern.directives[word] else {
                throw SluiceError(.connector, "%\(word) is not known: use \(TimePattern.directives.keys.sorted().joined(separator: " "))")
            }
            pieces += found
        }
        self.pieces = pieces
        let hasDay = pieces.contains(.year) && pieces.contains(.day) && (pieces.contains(.month) || pieces.contains(.monthName))
        guard hasDay || pieces.contains(.unixSeconds) else {
            throw SluiceError(.connector, "the pattern needs %Y, %m and %d, or %s")
        }
        if pieces.contains(.hour12) != pieces.contains(.halfDay) { throw SluiceError(.connector, "%I and %p belong together") }
    }

    private static let directives: [String: [Piece]] = [
        "Y": [.year], "m": [.month], "b": [.monthName], "d": [.day], "H": [.hour], "I": [.hour12], "p": [.halfDay], "M": [.minute],
        "S": [.second], "s": [.unixSeconds], "f": [.fraction(nil)], "3f": [.fraction(3)], "6f": [.fraction(6)], "9f": [.fraction(9)],
        "z": [.offset(colon: false)], ":z": [.offset(colon: true)], "F": date.pieces,
        "T": [.hour, .literal(0x3A), .minute, .literal(0x3A), .second], "%": [.literal(0x25)],
    ]

    private static func word(_ bytes: inout ArraySlice<UInt8>) -> String {
        guard let first = bytes.popFirst() else { return "" }
        var word = String(UnicodeScalar(first))
        if first == UInt8(ascii: ":") || first &- 0x30 < 10, let next = bytes.popFirst() { word += String(UnicodeScalar(next)) }
        return word
    }

    /// A trailing Z stands for UTC as well.
    var namesItsZone: Bool {
        endsWithZ || pieces.contains { if case .offset = $0 { true } else { $0 == .unixSeconds } }
    }

    private var endsWithZ: Bool { pieces.last == .literal(UInt8(ascii: "Z")) }

    var granuleMilliseconds: Int64 {
        if pieces.contains(where: { if case .fraction = $0 { true } else { false } }) { return 1 }
        if pieces.contains(.second) || pieces.contains(.unixSeconds) { return 1000 }
        if pieces.contains(.minute) { return 60_000 }
        if pieces.contains(.hour) || pieces.contains(.hour12) { return 3_600_000 }
        return 86_400_000
    }

    // MARK: Writing

    func write(_ milliseconds: Int64, offsetSeconds: Int64) -> String {
        let offset = endsWithZ ? 0 : offsetSeconds
        let local = milliseconds + offset * 1000
        let days = TimePattern.divide(local, 86_400_000)
        let inDay = local - days * 86_400_000
        let date = Timestamp.civil(days: days)
        let hour = inDay / 3_600_000
        var text: [UInt8] = []
        for piece in pieces {
            switch piece {
            case .literal(let byte): text.append(byte)
            case .year: text += TimePattern.digits(date.year, 4)
            case .month: text += TimePattern.digits(date.month, 2)
            case .monthName: text += TimePattern.months[Int(date.month - 1)]
            case .day: text += TimePattern.digits(date.day, 2)
            case .hour: text += TimePattern.digits(hour, 2)
            case .hour12: text += TimePattern.digits((hour + 11) % 12 + 1, 2)
            case .halfDay: text += Array((hour < 12 ? "AM" : "PM").utf8)
            case .minute: text += TimePattern.digits(inDay / 60_000 % 60, 2)
            case .second: text += TimePattern.digits(inDay / 1000 % 60, 2)
            case .unixSeconds: text += Array(String(TimePattern.divide(milliseconds, 1000)).utf8)
            case .fraction(let count):
                text += TimePattern.digits(inDay % 1000, 3) + Array(repeating: UInt8(ascii: "0"), count: (count ?? 6) - 3)
            case .offset(let colon):
                let minutes = abs(offset) / 60
                text.append(UInt8(ascii: offset < 0 ? "-" : "+"))
                text += TimePattern.digits(minutes / 60, 2) + (colon ? [0x3A] : []) + TimePattern.digits(minutes % 60, 2)
            }
        }
        return String(decoding: text, as: UTF8.self)
    }

    private static func digits(_ value: Int64, _ width: Int) -> [UInt8] {
        let digits = Array(String(value).utf8)
        return Array(repeating: UInt8(ascii: "0"), count: max(0, width - digits.count)) + digits
    }

    private static func divide(_ value: Int64, _ divisor: Int64) -> Int64 {
        let quotient = value / divisor
        return value % divisor < 0 ? quotient - 1 : quotient
    }

    // MARK: Reading

    /// A time of exactly this form. What is finer than a millisecond is cut off.
    func read(_ text: UnsafeBufferPointer<UInt8>) -> Times.Reading {
        var scan = DigitScan(text)
        var (year, month, day, hour, minute, second, fraction): (Int64, Int64, Int64, Int64, Int64, Int64, Int64) = (1970, 1, 1, 0, 0, 0, 0)
        var (unix, offset): (Int64?, Int64?) = (nil, endsWithZ ? 0 : nil)
        var isAfternoon: Bool?
        for piece in pieces {
            var isRead = true
            func take(_ value: Int64?, into field: inout Int64) {
                if let value { field = value } else { isRead = false }
            }
            switch piece {
            case .literal(let byte): isRead = scan.take(Unicode.Scalar(byte))
            case .year: take(scan.number(4), into: &year)
            case .month: take(scan.number(2), into: &month)
            case .monthName: take(scan.name(of: TimePattern.months).map { Int64($0 + 1) }, into: &month)
            case .day: take(scan.number(2), into: &day)
            case .hour, .hour12: take(scan.number(2), into: &hour)
            case .halfDay:
                isAfternoon = scan.take("P") ? true : scan.take("A") ? false : nil
                isRead = isAfternoon != nil && scan.take("M")
            case .minute: take(scan.number(2), into: &minute)
            case .second: take(scan.number(2), into: &second)
            case .unixSeconds:
                unix = scan.digits(12)
                isRead = unix != nil
            case .fraction: take(scan.fractionDigits(), into: &fraction)
            case .offset:
                offset = scan.offsetSeconds()
                isRead = offset != nil
            }
            if !isRead { return .unreadable }
        }
        if let isAfternoon {
            guard (1...12).contains(hour) else { return .unreadable }
            hour = hour % 12 + (isAfternoon ? 12 : 0)
        }
        guard scan.isAtEnd, Times.isDate(year, month, day), hour < 24, minute < 60, second <= 60 else { return .unreadable }
        if let unix { return .milliseconds(unix * 1000 + fraction) }
        let local = ((Timestamp.days(year: year, month: month, day: day) * 24 + hour) * 60 + minute) * 60 + second
        if let offset { return .milliseconds((local - offset) * 1000 + fraction) }
        return .zoneless(local * 1000 + fraction)
    }
}

extension RuleReader {
    func pattern(_ text: String, _ key: String) throws(SluiceError) -> TimePattern {
        do throws(SluiceError) { return try TimePattern(text) } catch { throw fault(key, "is malformed: \(error.message)") }
    }

    /// One text, or a list of them.
    mutating func texts(_ key: String) throws(SluiceError) -> [String] {
        guard let view = value(key) else { return [] }
        let texts = (view.elements ?? [view]).map(\.string)
        let found = texts.compactMap { $0 }
        if found.count != texts.count { throw fault(key, "must be text, or a list of texts") }
        return found
    }
}
