import SluiceCore

/// A position in a feed: a whole number to compare by, and the text to send, in the source's own words where they fit.
struct CursorValue: Equatable, Sendable {
    /// In the unit of `CursorRule.Kind`, rounded down.
    var mark: Int64
    var text: String

    /// The committed cursor: `{"mark":1700000000,"value":"1700000000"}`. A bare number or text is taken as well, so that an
    /// operator can set one by hand.
    init(json: [UInt8], rule: CursorRule) throws(PollFailure) {
        let fault = PollFailure(
            .badCursor,
            SluiceError(
                .badCursor,
                "the cursor is not one of this trigger's: it should look like {\"mark\":1700000000,\"value\":\"1700000000\"}; set or reset it"
            ))
        guard let root = try? JSONDocument(json).root else { throw fault }
        guard let text = root["value"]?.text ?? root.text, let value = rule.value(ofText: text) else { throw fault }
        self = value
    }

    init(mark: Int64, text: String) {
        self.mark = mark
        self.text = text
    }

    var json: [UInt8] {
        var writer = JSONWriter()
        writer.object {
            $0.member("mark", mark)
            $0.member("value", text)
        }
        return writer.bytes
    }
}

extension CursorRule {
    /// What a record's field says.
    enum Reading: Equatable {
        case mark(Int64)
        case zoneless
        case unreadable
    }

    /// Units of the mark in a second; nil if the cursor is no time.
    var unitsPerSecond: Int64? {
        switch kind {
        case .unixSeconds: 1
        case .unixMilliseconds, .rfc3339, .date, .strftime: 1000
        case .unixMicroseconds, .unixDecimal: 1_000_000
        case .unixNanoseconds: 1_000_000_000
        case .integer, .text, .opaque: nil
        }
    }

    /// What a bound cannot tell apart: as the API compares, and as field and bound are written.
    private var granuleUnits: Int64 {
        let compared = max(granularity ?? (isExclusive && kind == .rfc3339 ? 1000 : 1), 1)
        guard let unitsPerSecond else { return compared }
        let written = max(pattern?.granuleMilliseconds ?? 0, format?.granuleMilliseconds ?? 0)
        return max(compared, written * unitsPerSecond / 1000)
    }

    /// How far below the mark to query: one granule where the API excludes its bound, the lookback, and the hour that comes
    /// twice where the clock is put back.
    private var overlapUnits: Int64 {
        overlap ?? lookback + (isExclusive ? granuleUnits : 0) + (zone?.spreadSeconds ?? 0) * (unitsPerSecond ?? 0)
    }

    /// How far below the committed mark a record can be returned again.
    var rereadUnits: Int64 { kind.hasMarks ? overlapUnits + granuleUnits - 1 : 0 }

    /// How far behind a record the next one can lie; nil where several may share a mark, as times do, which a clock caps besides, and where
    /// records may show up late.
    var exactStep: Int64? {
        let isPlain = overlapUnits == (isExclusive ? granuleUnits : 0) && visibilityLag == .zero
        return isPlain && isUnique && unitsPerSecond == nil && granuleUnits <= 1 ? granuleUnits : nil
    }

    /// What to query from, given where the feed was read to. Rounded down only, so that it never skips; the source's own
    /// text where nothing is subtracted and the bound is written as the field is.
    func lowerBound(from value: CursorValue) -> CursorValue {
        guard kind.hasMarks else { return value }
        let (stepped, overflow) = value.mark.subtractingReportingOverflow(overlapUnits)
        if overflow { return value }
        let lowered = rounded(stepped)
        return lowered == value.mark && format == nil ? value : CursorValue(mark: lowered, text: text(of: lowered))
    }

    /// What to query from so that nothing below `kept` is returned, but for what comes without a lookback in any case.
    func lowerBound(from value: CursorValue, notBelow kept: Int64) -> CursorValue {
        var rule = self
        if overlap == nil { rule.lookback = 0 }
        let least = rule.lowerBound(from: value)
        // Up to what the source tells apart.
        let lowered = rounded(kept + granuleUnits - 1) - (isExclusive ? granuleUnits : 0)
        return lowered < least.mark ? CursorValue(mark: lowered, text: text(of: lowered)) : least
    }

    /// Down to what the source tells apart.
    private func rounded(_ stepped: Int64) -> Int64 {
        // Days begin at the zone's midnight.
        let phase = granuleUnits > 1 ? (zone?.offsetSeconds ?? 0) * (unitsPerSecond ?? 0) : 0
        var lowered = floor(stepped + phase, granuleUnits) - phase
        if unitsPerSecond != nil, stepped + overlapUnits >= 0 { lowered = max(lowered, 0) }
        return lowered
    }

    /// Whether `left` lies further on than `right`.
    func isBeyond(_ left: CursorValue, _ right: CursorValue) -> Bool {
        kind == .text
            ? left.text.utf8.lexicographicallyPrecedes(right.text.utf8) == false && left.text != right.text : left.mark > right.mark
    }

    private func floor(_ value: Int64, _ step: Int64) -> Int64 {
        let remainder = value % step
        return value - (remainder < 0 ? remainder + step : remainder)
    }

    /// The mark of a moment, rounded down; nil if the cursor is no time.
    func mark(of time: Timestamp) -> Int64? {
        guard let unitsPerSecond else { return nil }
        if unitsPerSecond == 1 { return time.seconds }
        let (mark, overflow) = time.milliseconds.multipliedReportingOverflow(by: unitsPerSecond / 1000)
        return overflow ? Int64.max / 4 : mark
    }

    func time(of mark: Int64) -> Timestamp? {
        guard let unitsPerSecond else { return nil }
        if unitsPerSecond > 1 { return Timestamp(milliseconds: mark / (unitsPerSecond / 1000)) }
        return Timestamp(milliseconds: mark.multipliedReportingOverflow(by: 1000).overflow ? Int64.max / 4 : mark * 1000)
    }

    /// A mark as the API takes it.
    func text(of mark: Int64) -> String {
        guard let format, let time = time(of: mark) else { return literal(of: mark) }
        switch format {
        case .unixSeconds: return String(time.seconds)
        case .unixMilliseconds: return String(time.milliseconds)
        case .rfc3339: return CursorRule.rfc3339(time.milliseconds)
        case .pattern(let pattern): return pattern.write(time.milliseconds, offsetSeconds: zone?.offsetSeconds ?? 0)
        }
    }

    /// A mark as a cursor, rounded down to what the field can say: it must be the same when it is read again.
    func value(of mark: Int64) -> CursorValue {
        let text = literal(of: mark)
        return value(ofText: text) ?? CursorValue(mark: mark, text: text)
    }

    /// A mark as the field writes it.
    func literal(of mark: Int64) -> String {
        let offset = zone?.offsetSeconds ?? 0
        switch kind {
        case .unixDecimal:
            let fraction = String(mark % 1_000_000)
            return mark < 0
                ? String(mark / 1_000_000) : "\(mark / 1_000_000).\(String(repeating: "0", count: 6 - fraction.count))\(fraction)"
        case .rfc3339:
            if zone == nil { return CursorRule.rfc3339(mark) }
            return String(CursorRule.rfc3339(mark + offset * 1000).dropLast())
        case .date, .strftime: return pattern?.write(mark, offsetSeconds: offset) ?? String(mark)
        default: return String(mark)
        }
    }

    private static func rfc3339(_ milliseconds: Int64) -> String {
        let text = Timestamp(milliseconds: min(milliseconds, 253_402_300_799_999)).description
        return text.hasSuffix(".000Z") ? String(text.dropLast(5)) + "Z" : text
    }

    /// Reads a field of a record, given as the bytes of one JSON value.
    func read(_ value: UnsafeBufferPointer<UInt8>) -> Reading {
        let isString = value.count >= 2 && value[0] == UInt8(ascii: "\"")
        let text = isString ? UnsafeBufferPointer(rebasing: value[1..<value.count - 1]) : value
        guard isText else { return Decimals.floor(text, scale: kind == .unixDecimal ? 6 : 0).map { .mark($0) } ?? .unreadable }
        guard isString else { return .unreadable }
        return reading(of: text)
    }

    private var isText: Bool { kind == .rfc3339 || pattern != nil }

    private func reading(of text: UnsafeBufferPointer<UInt8>) -> Reading {
        switch pattern?.read(text) ?? Times.rfc3339(text) {
        case .milliseconds(let milliseconds): .mark(milliseconds)
        case .zoneless(let local): zone.map { .mark(local - $0.offsetSeconds * 1000) } ?? .zoneless
        case .unreadable: .unreadable
        }
    }

    /// A text that a person or a cursor gives. Where the cursor counts seconds or milliseconds, an RFC 3339 time is taken too.
    func value(ofText text: String) -> CursorValue? {
        guard kind.hasMarks else { return CursorValue(mark: 0, text: text) }
        var copy = text
        if !isText, let mark = copy.withUTF8({ Decimals.floor($0, scale: kind == .unixDecimal ? 6 : 0) }) {
            return CursorValue(mark: mark, text: text)
        }
        guard unitsPerSecond != nil else { return nil }
        if isText, case .mark(let mark) = copy.withUTF8({ reading(of: $0) }) { return CursorValue(mark: mark, text: text) }
        guard case .milliseconds(let milliseconds) = Times.rfc3339(text), let mark = mark(of: Timestamp(milliseconds: milliseconds)) else {
            return nil
        }
        return CursorValue(mark: mark, text: kind == .rfc3339 ? text : literal(of: mark))
    }
}
