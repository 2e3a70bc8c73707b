import SluiceCore

/// The field that orders a feed, and how the API compares with it.
public struct CursorRule: Sendable {
    /// How the field is written. Marks count in seconds for `unixSeconds`, in microseconds for `unixMicroseconds` and
    /// `unixDecimal`, in nanoseconds for `unixNanoseconds`, and in milliseconds for all other times.
    public enum Kind: String, Sendable, CaseIterable {
        case unixSeconds = "unix_seconds"
        case unixMilliseconds = "unix_milliseconds"
        case unixMicroseconds = "unix_microseconds"
        case unixNanoseconds = "unix_nanoseconds"
        /// Seconds with a fraction, as `1700000000.000100`.
        case unixDecimal = "unix_decimal"
        case rfc3339
        /// `2026-01-31`: each cycle reads the last day again.
        case date
        /// As `pattern` says.
        case strftime
        /// A number that is no time: no clock caps it.
        case integer
        /// Text that sorts by its bytes, for example a ULID. Nothing can be subtracted from it.
        case text
        /// Not in a record: the answer itself hands out the position to go on from (a sync token), at `answer`.
        case opaque

        /// Whether a record has a whole number to compare by.
        var hasMarks: Bool { self != .text && self != .opaque }
    }
    /// The order in which the source lists. Only `ascending` lets the mark move page by page; a feed that claims it and
    /// breaks it is treated as unordered from there on.
    public enum Order: String, Sendable, CaseIterable { case ascending = "asc", descending = "desc", none }

    /// Where the field stands in a record. Nothing for `opaque`.
    public var field: JSONPath
    /// The parameter that bounds the list from below; nil if a template speaks of `{cursor}` instead, or if there is no bound (a
    /// descending feed is then read back to the mark).
    public var parameter: String?
    public var kind: Kind
    /// The field's form, for `strftime` and `date`.
    public var pattern: TimePattern?
    /// How the bound is written where that is not how the field is.
    public var format: TimeFormat?
    /// Where the next position stands in the answer, for `opaque`.
    public var answer: Incremental.AnswerPlace?
    /// Whether that position is the whole URL of the next cycle's first request (a delta link).
    public var isURL = false
    /// Whether the API lists only what lies strictly after the parameter.
    public var isExclusive = false
    /// No two records share a value, so that nothing is lost strictly after one.
    public var isUnique = false
    /// How finely the API compares, in units of the mark. Nil: as finely as the bound is written, or a whole second for an
    /// exclusive RFC 3339 time.
    public var granularity: Int64?
    /// How far below the mark each cycle reads again, in units of the mark, for records that become visible late.
    public var lookback: Int64 = 0
    public var order = Order.none
    /// How long a change may stay invisible, if that is declared: the mark stays this far behind the server's clock.
    public var declaredVisibilityLag: Span?
    /// A parameter that bounds the list from above, inclusively: frozen at the server's time of a cycle's first page and sent
    /// with its further pages, where those are found by keyset.
    public var upperParameter: String?
    /// The API wants that bound with each request, the first page's as well. It then holds for the whole cycle.
    public var isUpperAlwaysSent = false
    /// What times without a zone mean. Unless this is declared they are refused.
    public var zone: ZoneRule?
    /// How far below the mark to query, instead of as far as the rules above need. Zero shows what they are for.
    public var overlap: Int64?

    public init(field: JSONPath, parameter: String?, kind: Kind) {
        self.field = field
        self.parameter = parameter
        self.kind = kind
        if kind == .date { pattern = .date }
    }

    /// `declaredVisibilityLag`, or none.
    public var visibilityLag: Span {
        get { declaredVisibilityLag ?? .zero }
        set { declaredVisibilityLag = newValue }
    }

    /// The longest lag that is supposed where only a lookback is declared.
    public static let signalLagDefaultMax = Span.seconds(10)

    /// How old a webhook must be before a poll covers it. Whoever reads again below the mark says that records may show up late:
    /// where no lag is declared it is as long as the lookback, at most 10 s. The lookback finds the record, a later poll looks.
    public var signalLag: Span {
        if let declaredVisibilityLag { return declaredVisibilityLag }
        guard let unitsPerSecond else { return .zero }
        if lookback / unitsPerSecond >= CursorRule.signalLagDefaultMax.milliseconds / 1000 { return CursorRule.signalLagDefaultMax }
        return .milliseconds(lookback * 1000 / unitsPerSecond)
    }

    /// Times without a zone are UTC.
    public var assumesUTC: Bool {
        get { zone == .utc }
        set { zone = newValue ? .utc : nil }
    }
}

/// A distance from UTC that the provider's times keep.
public struct ZoneRule: Sendable, Equatable {
    /// East of UTC; the larger one where daylight saving moves it, so that a time never reads later than it was.
    public var offsetSeconds: Int64
    /// By how much the other offset is smaller: each cycle reads again that far, since an hour comes twice.
    public var spreadSeconds: Int64

    public static let utc = ZoneRule(offsetSeconds: 0, spreadSeconds: 0)

    public init(offsetSeconds: Int64, spreadSeconds: Int64) {
        self.offsetSeconds = offsetSeconds
        self.spreadSeconds = spreadSeconds
    }

    /// `utc`, one offset such as `+02:00`, or the two of a zone with daylight saving. Nil for anything else, names included:
    /// their rules change, and this machine's would not be the provider's.
    init?(_ texts: [String]) {
        let offsets = texts.compactMap(ZoneRule.offset)
        guard offsets.count == texts.count, (1...2).contains(offsets.count), let most = offsets.max(), let least = offsets.min(),
            most - least <= 7200
        else { return nil }
        self.init(offsetSeconds: most, spreadSeconds: most - least)
    }

    private static func offset(_ text: String) -> Int64? {
        if text == "utc" { return 0 }
        let parts = text.dropFirst().split(separator: ":", omittingEmptySubsequences: false)
        guard parts.count == 2, parts.allSatisfy({ $0.count == 2 }), let hours = Int64(parts[0]), let minutes = Int64(parts[1]),
            (0...14).contains(hours), (0...59).contains(minutes)
        else { return nil }
        switch text.first {
        case "+": return hours * 3600 + minutes * 60
        case "-": return -(hours * 3600 + minutes * 60)
        default: return nil
        }
    }
}

// MARK: JSON

extension CursorRule {
    init(_ rule: RuleReader) throws(SluiceError) {
        var rule = rule
        let kinds = Kind.allCases.map(\.rawValue)
        let kind = try rule.required("type", try rule.choice("type", kinds).flatMap(Kind.init))
        let field = kind == .opaque ? JSONPath([]) : try rule.path("field")
        self.init(field: field, parameter: try rule.optionalText("parameter"), kind: kind)
        if kind == .opaque {
            answer = try rule.answerPlace()
            isURL = try rule.flag("url") ?? false
        }
        if kind == .strftime { pattern = try rule.pattern(try rule.text("pattern"), "pattern") }
        if let text = try rule.optionalText("format") { format = try TimeFormat(text, rule) }
        isExclusive = try rule.flag("exclusive") ?? false
        isUnique = try rule.flag("unique") ?? false
        granularity = try rule.integer("granularity", 1...86_400_000_000_000)
        let units = try rule.integer("lookback", 0...Int64.max / 4)
        let seconds = try rule.integer("lookback_seconds", 0...31_536_000)
        if units != nil && seconds != nil { throw rule.fault("lookback", "and lookback_seconds exclude each other: keep one") }
        if let seconds, unitsPerSecond == nil {
            throw rule.fault("lookback_seconds", "needs a time; for an integer use lookback, got \(seconds)")
        }
        lookback = units ?? (seconds ?? 0) * (unitsPerSecond ?? 1)
        order = try rule.choice("order", Order.allCases.map(\.rawValue)).flatMap(Order.init) ?? .none
        declaredVisibilityLag = try rule.integer("visibility_lag_seconds", 0...86_400).map { .seconds($0) }
        upperParameter = try rule.optionalText("upper_parameter")
        isUpperAlwaysSent = try rule.flag("upper_always") ?? false
        let zones = try rule.texts("zone")
        if !zones.isEmpty {
            zone = ZoneRule(zones)
            if zone == nil {
                throw rule.fault(
                    "zone",
                    "must be \"utc\", an offset such as \"+02:00\", or the two offsets of a zone with daylight saving, "
                        + "{ \"+01:00\", \"+02:00\" }")
            }
        }
        overlap = try rule.integer("overlap", 0...Int64.max / 4)
        try check(rule)
        try rule.finish()
    }

    /// What cannot be right whatever the rest of the description says.
    private func check(_ rule: RuleReader) throws(SluiceError) {
        if zone == nil, pattern?.namesItsZone == false {
            throw rule.fault(
                "zone",
                "is missing: \(kind == .date ? "dates" : "times of this pattern") name no zone; declare zone = \"utc\" or the offset")
        }
        if zone == nil, let format, !format.namesItsZone {
            throw rule.fault("zone", "is missing: the format names no zone; declare zone = \"utc\" or the offset that the API means")
        }
        if format != nil, unitsPerSecond == nil { throw rule.fault("format", "needs a time, and \(kind.rawValue) is none") }
        if isURL, parameter != nil {
            throw rule.fault("parameter", "and url exclude each other: a position that is a URL says all there is to say; keep one")
        }
        guard !kind.hasMarks else { return }
        if lookback > 0 || overlap ?? 0 > 0 || granularity != nil || visibilityLag > .zero {
            throw rule.fault("type", "is \(kind.rawValue), from which nothing can be subtracted: remove lookback, granularity and lag")
        }
        if kind == .text, isExclusive, !isUnique {
            throw rule.fault(
                "exclusive",
                "loses records that share the last value, and text cannot be stepped back: say unique = true if no two records share one, "
                    + "or order the list by a time")
        }
    }
}
