import SluiceCore

/// Times as providers write them, read from bytes without a String.
enum Times {
    enum Reading: Equatable {
        case milliseconds(Int64)
        /// Well-formed, but without a zone.
        case zoneless(Int64)
        case unreadable
    }

    /// An RFC 3339 time; what is finer than a millisecond is cut off. A space may stand for T and an offset may lack its
    /// colon, as some providers write it.
    static func rfc3339(_ text: UnsafeBufferPointer<UInt8>) -> Reading {
        var scan = DigitScan(text)
        guard let year = scan.number(4), scan.take("-"), let month = scan.number(2), scan.take("-"), let day = scan.number(2),
            scan.take("T") || scan.take("t") || scan.take(" "), let hour = scan.number(2), scan.take(":"), let minute = scan.number(2),
            scan.take(":"), let second = scan.number(2), isDate(year, month, day), hour < 24, minute < 60, second <= 60
        else { return .unreadable }
        guard let milliseconds = scan.fractionMilliseconds() else { return .unreadable }
        let local = ((Timestamp.days(year: year, month: month, day: day) * 24 + hour) * 60 + minute) * 60 + second
        if scan.isAtEnd { return .zoneless(local * 1000 + milliseconds) }
        if scan.take("Z") || scan.take("z") { return scan.isAtEnd ? .milliseconds(local * 1000 + milliseconds) : .unreadable }
        guard let offset = scan.offsetSeconds(), scan.isAtEnd else { return .unreadable }
        return .milliseconds((local - offset) * 1000 + milliseconds)
    }

    static func rfc3339(_ text: String) -> Reading {
        var text = text
        return text.withUTF8 { rfc3339($0) }
    }

    static func isDate(_ year: Int64, _ month: Int64, _ day: Int64) -> Bool {
        guard (1...12).contains(month), day >= 1 else { return false }
        let days = Timestamp.days(year: month == 12 ? year + 1 : year, month: month == 12 ? 1 : month + 1, day: 1)
        return day <= days - Timestamp.days(year: year, month: month, day: 1)
    }
}

/// Walks over digits and signs.
struct DigitScan {
    let text: UnsafeBufferPointer<UInt8>
    var index = 0

    init(_ text: UnsafeBufferPointer<UInt8>) { self.text = text }

    var isAtEnd: Bool { index == text.count }

    mutating func number(_ digits: Int) -> Int64? {
        guard index + digits <= text.count else { return nil }
        var value: Int64 = 0
        for _ in 0..<digits {
            guard text[index] &- 0x30 < 10 else { return nil }
            value = value * 10 + Int64(text[index] - 0x30)
            index += 1
        }
        return value
    }

    mutating func take(_ sign: Unicode.Scalar) -> Bool {
        guard index < text.count, text[index] == UInt8(ascii: sign) else { return false }
        index += 1
        return true
    }

    /// As many digits as there are, at least one and at most `count`.
    mutating func digits(_ count: Int) -> Int64? {
        var value: Int64?
        let start = index
        while index < text.count, index - start < count, text[index] &- 0x30 < 10 {
            value = (value ?? 0) * 10 + Int64(text[index] - 0x30)
            index += 1
        }
        return value
    }

    /// Seconds east of UTC, `+02:00` or `+0200`.
    mutating func offsetSeconds() -> Int64? {
        if take("Z") { return 0 }
        let isEast = take("+")
        guard isEast || take("-"), let hours = number(2), hours < 24 else { return nil }
        _ = take(":")
        guard let minutes = number(2), minutes < 60 else { return nil }
        let offset = (hours * 60 + minutes) * 60
        return isEast ? offset : -offset
    }

    /// Which of these words stands here.
    mutating func name(of words: [[UInt8]]) -> Int? {
        for (number, word) in words.enumerated()
        where index + word.count <= text.count && text[index..<index + word.count].elementsEqual(word) {
            index += word.count
            return number
        }
        return nil
    }

    /// The milliseconds of a fraction, 0 without one; nil if a point has no digits after it.
    mutating func fractionMilliseconds() -> Int64? {
        guard take(".") else { return 0 }
        return fractionDigits()
    }

    /// The milliseconds of a fraction whose point was taken; nil without digits.
    mutating func fractionDigits() -> Int64? {
        var value: Int64 = 0
        var digits = 0
        while index < text.count, text[index] &- 0x30 < 10 {
            if digits < 3 { value = value * 10 + Int64(text[index] - 0x30) }
            digits += 1
            index += 1
        }
        while digits < 3 && digits > 0 {
            value *= 10
            digits += 1
        }
        return digits > 0 ? value : nil
    }
}

/// Decimal numbers as JSON writes them, rounded down to whole ones without passing through a double.
enum Decimals {
    /// Nil if this is no number or does not fit in 64 bits. `scale` counts in finer units: 6 for millionths.
    static func floor(_ text: UnsafeBufferPointer<UInt8>, scale: Int = 0) -> Int64? {
        var index = 0
        let isNegative = text.first == UInt8(ascii: "-")
        if isNegative { index = 1 }
        var digits: [UInt8] = []
        var pointShift: Int?
        let start = index
        var whole: Int64 = 0
        // The usual case, a plain integer, needs no array.
        while index < text.count, index - start < 18, text[index] &- 0x30 < 10 {
            whole = whole * 10 + Int64(text[index] - 0x30)
            index += 1
        }
        if index == text.count, scale == 0 { return index == start ? nil : isNegative ? -whole : whole }
        index = start
        while index < text.count, text[index] &- 0x30 < 10 || (text[index] == UInt8(ascii: ".") && pointShift == nil) {
            if text[index] == UInt8(ascii: ".") { pointShift = digits.count } else { digits.append(text[index] - 0x30) }
            index += 1
        }
        guard !digits.isEmpty, digits.count <= 64 else { return nil }
        var exponent = 0
        if index < text.count {
            guard text[index] | 0x20 == UInt8(ascii: "e"), let power = Int(String(decoding: text[(index + 1)...], as: UTF8.self)),
                (-64...64).contains(power)
            else { return nil }
            exponent = power
        }
        return integer(digits, point: (pointShift ?? digits.count) + exponent + scale, isNegative: isNegative)
    }

    private static func integer(_ digits: [UInt8], point: Int, isNegative: Bool) -> Int64? {
        var value: Int64 = 0
        for position in 0..<max(point, 0) {
            let (product, overflow) = value.multipliedReportingOverflow(by: 10)
            let (sum, carry) = product.addingReportingOverflow(position < digits.count ? Int64(digits[position]) : 0)
            if overflow || carry { return nil }
            value = sum
        }
        let hasFraction = digits.dropFirst(max(point, 0)).contains { $0 != 0 }
        return isNegative ? -value - (hasFraction ? 1 : 0) : value
    }
}

extension Timestamp {
    /// A time as RFC 3339 writes it, with its zone; what is finer than a millisecond is cut off. Throws `.invalid`, naming `name`,
    /// for anything else: a time without a zone is nobody's.
    public init(rfc3339 text: String, _ name: String) throws(SluiceError) {
        switch Times.rfc3339(text) {
        case .milliseconds(let milliseconds): self.init(milliseconds: milliseconds)
        case .zoneless:
            throw SluiceError(.invalid, "`\(name)` names no zone: write \(text)Z for UTC, or an offset such as \(text)+02:00")
        case .unreadable:
            throw SluiceError(.invalid, "`\(name)` is a time such as 2026-01-31T09:00:00Z, and not \(text.prefix(60).debugDescription)")
        }
    }
}
