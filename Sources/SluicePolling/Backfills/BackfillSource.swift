import SluiceConnectors
import SluiceCore
import SluiceStore

/// How a backfill finds a window in a trigger's list: by the description of its poll or, where that is code, by what the code says
/// of times (`cursor_at`, `record_time`).
enum BackfillSource {
    case described(Incremental)
    case code(any Connector, TriggerTypeDefinition)

    /// Throws `.invalid` where there is no list that could be read again.
    init(_ plan: PollPlan, _ trigger: StoredTrigger) throws(SluiceError) {
        guard plan.triggerType.kind != .webhook else {
            throw SluiceError(
                .invalid,
                "the trigger \(trigger.name) gets all it knows from webhooks: there is no list to read again. Webhooks that were kept "
                    + "are matched again by `sluice inbox redeliver`"
            ).with("trigger", trigger.name)
        }
        if let rules = plan.connector.incremental(triggerType: trigger.type) {
            self = .described(rules)
        } else {
            self = .code(plan.connector, plan.triggerType)
        }
    }

    /// Where one begins, and what it says of itself.
    struct Begin {
        var cursor: [UInt8]
        /// The mark below which nothing lies in the window, in the unit of the trigger's marks.
        var mark: Int64
        var retention: Span?
        var notes: [String] = []
    }

    /// Throws `.invalid` where the list cannot be read by time, or not up to an end, and says what to do instead.
    func begin(_ wanted: BackfillRequest, _ request: PollRequest) throws -> Begin {
        var begin: Begin
        switch self {
        case .described(let rules):
            guard let cursor = wanted.cursor else {
                let start = try rules.windowStart(wanted.window, request)
                return Begin(cursor: start.cursor, mark: start.mark, retention: start.retention)
            }
            guard let isTime = try rules.isOrderedByTime(request) else {
                throw SluiceError(
                    .invalid, "the list of \(wanted.trigger.name) is read whole each time and has no cursor; leave `cursor` out")
            }
            guard !isTime else {
                throw SluiceError(
                    .invalid, "the list of \(wanted.trigger.name) is read by time, so `from` says where to begin; leave `cursor` out")
            }
            begin = Begin(cursor: cursor, mark: Int64.min)
        case .code(let connector, let type):
            guard let cursor = try wanted.cursor ?? connector.cursorAt(wanted.window.from, triggerType: type.name, input: request.input)
            else {
                throw SluiceError(
                    .invalid,
                    "the poll of \(type.name) is code, and does not say which of its cursors belongs to a time: give the connector a "
                        + "`cursor_at(time, input)`, or say where to begin by hand: --cursor JSON (`sluice trigger cursor show "
                        + "\(wanted.trigger.name)` shows what one looks like)"
                ).with("trigger", wanted.trigger.name)
            }
            begin = Begin(cursor: cursor, mark: Int64.min)
        }
        guard cursorIsSmall(begin.cursor) else {
            throw SluiceError(.invalid, "the cursor has more than \(PollLimits.cursorBytesMax) bytes")
        }
        if wanted.cursor != nil { begin.notes.append("It began at a cursor given by hand: what its list shows before that was not read.") }
        guard !hasTimes else { return begin }
        guard wanted.isOpenEnded else {
            throw SluiceError(
                .invalid,
                "the records of \(wanted.trigger.name) give no time by which an end could be kept: leave `to` out, and everything up to "
                    + "the end of the list is read; or, where the poll is code, give the connector a `record_time(record)`"
            ).with("trigger", wanted.trigger.name)
        }
        begin.notes.append("Its records give no time: everything that the provider listed from the start on is counted.")
        return begin
    }

    private func cursorIsSmall(_ cursor: [UInt8]) -> Bool { cursor.count <= PollLimits.cursorBytesMax }

    /// Whether records say when they were changed.
    private var hasTimes: Bool {
        switch self {
        case .described: false
        case .code(_, let type): type.hasRecordTime
        }
    }

    /// Which records lie in a window; nil for one without a readable time.
    func places(_ window: BackfillWindow, _ request: PollRequest, records: [Record]) throws -> [Bool?] {
        switch self {
        case .described(let rules): return try rules.isInWindow(window, request, records: records)
        case .code(let connector, let type):
            guard !records.isEmpty, let times = try connector.timesOfAll(type.name, records) else { return records.map { _ in nil } }
            return times.map { time in time.map { window.from <= $0 && $0 < window.to } }
        }
    }

    /// What of a page lies in the window. A described poll has seen to that itself; of code, what has no readable time stays, marked.
    func inWindow(_ page: PollPage, _ window: BackfillWindow, _ request: PollRequest) throws -> PollPage {
        guard case .code = self else { return page }
        let places = try places(window, request, records: page.records)
        let kept = places.indices.filter { places[$0] != false }
        var page = page
        page.records = kept.map { page.records[$0] }
        page.keys = page.keys.map { keys in kept.map { keys[$0] } }
        if !page.states.isEmpty { page.states = kept.map { page.states[$0] } }
        if !page.formerKeys.isEmpty { page.formerKeys = kept.map { page.formerKeys[$0] } }
        // Marks of its own, if it has some, are no matter of a backfill.
        page.marks = kept.map { places[$0] == nil ? BackfillCommit.unplacedMark : 0 }
        return page
    }

    /// Whether `KeyedRecord.mark` says where a record lies in the window, and nothing else.
    var hasOwnMarks: Bool {
        if case .code = self { return true }
        return false
    }
}
