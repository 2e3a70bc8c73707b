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
        case .unixMilliseconds, .rfc3339: 1000
        case .integer: nil
        }
    }

    private var granuleUnits: Int64 { max(granularity ?? (isExclusive && kind == .rfc3339 ? 1000 : 1), 1) }

    /// How far below the mark to query: one granule where the API excludes its bound, and the lookback.
    private var overlapUnits: Int64 { overlap ?? lookback + (isExclusive ? granuleUnits : 0) }

    /// How far below the committed mark a record can be returned again.
    var rereadUnits: Int64 { overlapUnits + granuleUnits - 1 }

    /// What to query from, given where the feed was read to. Rounded down only, so that it never skips; the source's own
    /// text where nothing is subtracted.
    func lowerBound(from value: CursorValue) -> CursorValue {
        let (stepped, overflow) = value.mark.subtractingReportingOverflow(overlapUnits)
        if overflow { return value }
        var lowered = floor(stepped, granuleUnits)
        if unitsPerSecond != nil, value.mark >= 0 { lowered = max(lowered, 0) }
        return lowered == value.mark ? value : CursorValue(mark: lowered, text: text(of: lowered))
    }

    private func floor(_ value: Int64, _ step: Int64) -> Int64 {
        let remainder = value % step
        return value - (remainder < 0 ? remainder + step : remainder)
    }

    /// The mark of a moment, rounded down; nil if the cursor is no time.
    func mark(of time: Timestamp) -> Int64? {
        unitsPerSecond.map { $0 == 1 ? time.seconds : time.milliseconds }
    }

    func time(of mark: Int64) -> Timestamp? {
        switch unitsPerSecond {
        case 1: Timestamp(milliseconds: mark.multipliedReportingOverflow(by: 1000).overflow ? Int64.max / 4 : mark * 1000)
        case .some: Timestamp(milliseconds: mark)
        case nil: nil
        }
    }

    /// A mark as the API takes it.
    func text(of mark: Int64) -> String {
        guard kind == .rfc3339 else { return String(mark) }
        var text = Timestamp(milliseconds: min(mark, 253_402_300_799_999)).description
        if text.hasSuffix(".000Z") { text = String(text.dropLast(5)) + "Z" }
        return assumesUTC ? String(text.dropLast()) : text
    }

    /// Reads a field of a record, given as the bytes of one JSON value.
    func read(_ value: UnsafeBufferPointer<UInt8>) -> Reading {
        let isString = value.count >= 2 && value[0] == UInt8(ascii: "\"")
        let text = isString ? UnsafeBufferPointer(rebasing: value[1..<value.count - 1]) : value
        guard kind == .rfc3339 else { return Decimals.floor(text).map { .mark($0) } ?? .unreadable }
        guard isString else { return .unreadable }
        switch Times.rfc3339(text) {
        case .milliseconds(let milliseconds): return .mark(milliseconds)
        case .zoneless(let milliseconds): return assumesUTC ? .mark(milliseconds) : .zoneless
        case .unreadable: return .unreadable
        }
    }

    /// A text that a person or a cursor gives. Where the cursor counts seconds or milliseconds, an RFC 3339 time is taken too.
    func value(ofText text: String) -> CursorValue? {
        var copy = text
        if kind != .rfc3339, let mark = copy.withUTF8({ Decimals.floor($0) }) { return CursorValue(mark: mark, text: text) }
        guard unitsPerSecond != nil else { return nil }
        switch Times.rfc3339(text) {
        case .milliseconds(let milliseconds): return value(milliseconds: milliseconds, text)
        case .zoneless(let milliseconds): return assumesUTC ? value(milliseconds: milliseconds, text) : nil
        case .unreadable: return nil
        }
    }

    private func value(milliseconds: Int64, _ text: String) -> CursorValue? {
        guard let mark = mark(of: Timestamp(milliseconds: milliseconds)) else { return nil }
        return CursorValue(mark: mark, text: kind == .rfc3339 ? text : String(mark))
    }
}
