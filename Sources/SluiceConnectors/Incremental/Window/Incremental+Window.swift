import SluiceCore

/// Where a backfill of a described poll begins, and which records lie in its window.
///
/// The window is one of the cursor's field: what was changed in it. Where only new records are wanted (`dedup.created`), it is
/// one of their creation, and what was changed since is looked for up to the end of the list.
extension Incremental {
    /// Everything a backfill needs to know before it begins.
    public struct WindowStart: Sendable {
        /// A cursor to begin with; JSON, of the trigger's form.
        public var cursor: [UInt8]
        /// The mark below which nothing lies in the window, in the unit of the trigger's marks.
        public var mark: Int64
        /// How long the source keeps what it lists; nil: for ever.
        public var retention: Span?
    }

    /// Throws `.invalid` where the list cannot be read by time, saying what to do instead.
    public func windowStart(_ window: BackfillWindow, _ request: PollRequest) throws -> WindowStart {
        if let variants = shape.variants { return try variants.rules(for: request).windowStart(window, request) }
        guard let rule = cursor else {
            throw Incremental.unreadable(
                "its list has no time: each poll reads all of it, so what is missing is found by `sluice trigger poll`")
        }
        guard let from = rule.mark(of: window.from) else {
            throw Incremental.unreadable(
                rule.kind == .opaque
                    ? "its provider hands out positions that say nothing of a time"
                    : "its list is ordered by \(rule.kind.rawValue == "text" ? "a text" : "a number") that is no time", hasCursor: true)
        }
        let value = rule.value(of: from)
        guard partitions == nil else {
            var all = PartitionCursor()
            all.origin = value.json
            return WindowStart(cursor: all.json, mark: rule.lowestMark(of: window), retention: retention)
        }
        guard dedup.created != nil else {
            return WindowStart(cursor: value.json, mark: rule.lowestMark(of: window), retention: retention)
        }
        var writer = JSONWriter()
        writer.object {
            $0.member("mark", value.mark)
            $0.member("value", value.text)
            $0.member("began", value.mark)
        }
        return WindowStart(cursor: writer.bytes, mark: rule.lowestMark(of: window), retention: retention)
    }

    private static func unreadable(_ why: String, hasCursor: Bool = false) -> SluiceError {
        let fix =
            hasCursor ? ". Say where to begin by hand, and leave the end out: --cursor JSON, as `sluice trigger cursor show` has it" : ""
        return SluiceError(.invalid, "this trigger cannot be read by time: \(why)\(fix)")
    }

    /// Whether what orders the list is a time; nil where nothing does, and each poll reads all of it.
    public func isOrderedByTime(_ request: PollRequest) throws -> Bool? {
        let rules = try shape.variants.map { try $0.rules(for: request) } ?? self
        return rules.cursor.map { $0.unitsPerSecond != nil }
    }

    /// Which of the records lie in the window; nil for one without a readable time.
    public func isInWindow(_ window: BackfillWindow, _ request: PollRequest, records: [Record]) throws -> [Bool?] {
        let rules = try shape.variants.map { try $0.rules(for: request) } ?? self
        guard let rule = rules.cursor, rule.unitsPerSecond != nil else { return records.map { _ in nil } }
        let marks = rule.marks(of: window)
        return records.map { record in
            rules.windowMark(of: record, rule).map { marks.contains($0) }
        }
    }

    /// The time by which a record lies in a window or does not, in units of the mark.
    fileprivate func windowMark(of record: Record, _ rule: CursorRule) -> Int64? {
        record.bytes.withUnsafeBufferPointer { bytes in
            guard let range = (dedup.created ?? rule.field).find(in: bytes),
                case .mark(let mark) = rule.read(UnsafeBufferPointer(rebasing: bytes[range]))
            else { return nil }
            return mark
        }
    }
}

extension CursorRule {
    /// Marks of the window, widened to what the field can tell apart.
    fileprivate func marks(of window: BackfillWindow) -> Range<Int64> {
        let low = lowestMark(of: window)
        return low..<max(low, highMark(of: window))
    }

    fileprivate func lowestMark(of window: BackfillWindow) -> Int64 { mark(of: window.from).map { value(of: $0).mark } ?? Int64.min }

    /// The first mark behind it.
    fileprivate func highMark(of window: BackfillWindow) -> Int64 {
        guard let mark = mark(of: window.to) else { return Int64.max }
        let isWhole = unitsPerSecond != 1 || window.to.milliseconds % 1000 == 0
        return isWhole ? mark : mark + 1
    }
}

extension IncrementalPoll {
    /// What to ask for at most, where the API takes a bound from above, and nothing changed later is wanted.
    func windowEnd(_ request: PollRequest) -> String? {
        guard let window = request.window, rules.dedup.created == nil, let rule = rules.cursor, rule.upperParameter != nil else {
            return nil
        }
        return rule.mark(of: window.to).map { rule.text(of: $0) }
    }

    /// Whether nothing that comes after this page can lie in the window.
    func isPastWindow(_ scan: PageScan, _ state: PageState, _ request: PollRequest) -> Bool {
        guard let window = request.window, rules.dedup.created == nil, let rule = rules.cursor, rule.order == .ascending,
            !state.isUnordered, scan.isAscending, let furthest = scan.furthest
        else { return false }
        return furthest.mark >= rule.highMark(of: window)
    }

    /// Leaves out what does not lie in the window. What has no readable time stays: the source lists it.
    func windowed(_ page: PollPage, _ request: PollRequest) -> PollPage {
        guard let window = request.window, let rule = rules.cursor, rule.unitsPerSecond != nil else { return page }
        let marks = rule.marks(of: window)
        let kept = page.records.map { record in rules.windowMark(of: record, rule).map { marks.contains($0) } ?? true }
        guard kept.contains(false) else { return page }
        var page = page
        page.records = zip(page.records, kept).compactMap { $1 ? $0 : nil }
        if !page.marks.isEmpty { page.marks = zip(page.marks, kept).compactMap { $1 ? $0 : nil } }
        return page
    }
}
