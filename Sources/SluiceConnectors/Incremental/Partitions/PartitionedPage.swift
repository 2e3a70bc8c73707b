import SluiceCore

/// One page of a poll over partitions as pure steps: what to ask for next, and what the answer means.
///
/// ```
/// listing ──a page of the list──▶ a page without records, or, once the list is whole ──▶ reading ──a page of one partition──▶ the page
/// ```
public struct PartitionedPage: Sendable {
    /// What is to be asked for.
    public enum Next: Sendable {
        /// A page of the list of partitions: its answer goes to `listed`.
        case list(HTTPRequestPlan)
        /// A page of one partition: what it holds goes to `read`.
        case read(Turn)
        /// Nothing: there are no partitions, and `ended` is the page.
        case end
    }

    /// A partition's turn to be read.
    public struct Turn: Sendable {
        let waiting: PartitionState.Waiting
        /// With the partition's own cursor and page state.
        let request: PollRequest
        /// Where the partition begins if it has no cursor; nil: where the description says.
        let origin: CursorValue?

        /// What to ask for.
        public func nextRequest(_ rules: Incremental) throws(PollFailure) -> HTTPRequestPlan { try poll(rules).nextRequest(request) }

        /// What the answer means.
        public func page(from reply: HTTPReply, _ rules: Incremental) throws(PollFailure) -> PollPage {
            try poll(rules).page(from: reply, for: request)
        }

        private func poll(_ rules: Incremental) -> IncrementalPoll {
            var poll = IncrementalPoll(rules)
            poll.origin = origin
            return poll
        }
    }

    private let rules: Incremental
    private let partitions: Partitions
    private let request: PollRequest
    private var cursor = PartitionCursor()
    private var state = PartitionState()
    private var warnings: [String] = []

    /// Throws `badCursor` for a cursor that cannot be read, and `pageStateExpired` for such a page state.
    public init(_ rules: Incremental, _ request: PollRequest) throws(PollFailure) {
        guard let partitions = rules.partitions else {
            throw PollFailure(.permanent, SluiceError(.connector, "the description has no partitions"))
        }
        (self.rules, self.partitions, self.request) = (rules, partitions, request)
        if let json = request.cursor { cursor = try PartitionCursor(json: json) }
        if let json = request.pageState { state = try PartitionState(json: json) }
    }

    public mutating func next() throws(PollFailure) -> Next {
        if state.phase == .listing {
            if case .list(let list) = partitions.source { return .list(try IncrementalPoll(listing(list)).nextRequest(listRequest)) }
            try add(named, more: false)
            meet(at: request.readBound)
        }
        guard let waiting = state.queue.first else { return .end }
        var inner = request
        let id = waiting.partition.id
        (inner.cursor, inner.pageState) = (cursor[id], state.inner)
        inner.forgottenBelow = cursor.forgottenBelow(id, of: request.forgottenBelow)
        inner.scope.partition = JSONView(checked: waiting.partition.fields[...])
        inner.scope["partition"] = TemplateScope.Word(text: id)
        return .read(Turn(waiting: waiting, request: inner, origin: try origin()))
    }

    /// The page of a cycle that has nothing to read.
    public func ended() throws(PollFailure) -> PollPage { try whole(PollPage(records: [], more: false)) }

    // MARK: The list

    private var listRequest: PollRequest {
        var inner = request
        (inner.cursor, inner.pageState) = (nil, state.inner)
        return inner
    }

    /// Partitions that no request needs to be made for.
    private var named: [JSONView] {
        switch partitions.source {
        case .list: return []
        case .values(let values): return values.map { JSONView(text: $0) }
        case .input(let name):
            let view = request.input.root[name]
            return view?.elements ?? (view?.text ?? "").split(separator: ",").map { JSONView(text: PartitionedPage.trimmed($0)) }
        }
    }

    /// Takes a page of the list; nil once the list is whole: the first partition is to be read on the same page.
    public mutating func listed(_ reply: HTTPReply) throws(PollFailure) -> PollPage? {
        guard case .list(let list) = partitions.source else { return nil }
        let page = try IncrementalPoll(listing(list)).page(from: reply, for: listRequest)
        state.inner = page.pageState
        try add(page.records.map(\.view), more: page.more)
        guard !page.more else { return try whole(PollPage(records: [], more: true)) }
        meet(at: reply.serverDate ?? request.readBound)
        return nil
    }

    private mutating func meet(at date: Timestamp) {
        // One wrong Date must not end what is kept for days.
        let now = min(max(date, request.readBound - .days(1)), request.readBound + .days(1))
        cursor.noteFloor(request.dedupFloor, forgottenBelow: request.forgottenBelow)
        warnings += cursor.meet(Set(state.queue.map(\.partition.id)), at: now, keep: partitions.keepRemoved, rules.cursor)
    }

    /// Adds a page of the list to the queue.
    private mutating func add(_ elements: [JSONView], more: Bool) throws(PollFailure) {
        var known = Set(state.queue.map(\.partition.id))
        var unnamed = 0
        for element in elements {
            let path = element.kind == .object ? partitions.id : JSONPath([])
            guard let partition = Partition(element, id: path, keeping: rules.partitionFields) else {
                unnamed += 1
                continue
            }
            if known.insert(partition.id).inserted { state.queue.append(.init(partition: partition)) }
        }
        if unnamed > 0 {
            warnings.append("\(unnamed) partitions have no text or number at \"\(partitions.id)\" to know them by; they are not read")
        }
        if state.queue.count > partitions.countMax {
            throw PollFailure(
                .permanent,
                SluiceError(
                    .connector,
                    "there are more than \(partitions.countMax) partitions: narrow the list, make several triggers, or raise "
                        + "incremental.partitions.max (at most \(Partitions.countMaxHighest))"))
        }
        if !more { state.begin() }
    }

    private static func trimmed(_ text: Substring) -> String {
        String(text.drop { $0 == " " }.reversed().drop { $0 == " " }.reversed())
    }

    /// The list as a feed without a cursor: the same address, headers and credentials.
    private func listing(_ list: PartitionList) -> Incremental {
        var listing = Incremental(
            baseURL: rules.baseURL, path: list.path, records: list.records, dedup: .init(id: partitions.id, versions: []))
        listing.query = list.query
        listing.headers = rules.headers.filter { !$0.value.mentionsPartition && !$0.value.mentions("cursor") }
        listing.authentication = rules.authentication
        listing.pagination = list.pagination
        listing.pageSize = list.pageSize
        return listing
    }

    // MARK: One partition

    /// Takes what came of a partition's turn: its page, or why there is none. `now`: the provider's clock, where it told.
    public mutating func read(_ result: Result<PollPage, PollFailure>, of turn: Turn, now: Timestamp?) throws(PollFailure) -> PollPage {
        let page: PollPage
        switch result {
        case .success(let read):
            do throws(PollFailure) { page = try taken(read, turn, now ?? request.readBound) } catch {
                page = try putBack(turn.waiting, error)
            }
        case .failure(let failure): page = try putBack(turn.waiting, failure)
        }
        return try whole(page)
    }

    private mutating func taken(_ page: PollPage, _ turn: Turn, _ now: Timestamp) throws(PollFailure) -> PollPage {
        let partition = turn.waiting.partition
        var page = page
        // One that holds a validator alone has no position yet.
        let start =
            rules.cursor.flatMap { rule in turn.request.cursor.flatMap { try? CursorValue(json: $0, rule: rule) } } ?? turn.origin
        if cursor.origin == nil, turn.request.cursor == nil {
            // Where this partition begins is where all others begin that are found later.
            cursor.origin = try IncrementalPoll(rules).start(turn.request, now: now)?.json
        }
        if turn.request.cursor == nil, let news = cursor.newsOfBeginning(partition.id) { page.warnings.insert(news, at: 0) }
        if page.cursor != nil || !cursor.hasBegun(partition.id) { cursor[partition.id] = page.cursor ?? turn.request.cursor }
        if let rule = rules.cursor, rule.kind.hasMarks {
            cursor.noteRead(partition.id, from: start, rule, forgottenBelow: request.forgottenBelow)
        }
        if page.keys == nil {
            page.formerKeys = Incremental.formerKeys(page.records, turn.request)
            page.keyPrefix = rules.dedup.isGlobal ? [] : PartitionedPage.keyPrefix(partition)
        }
        page.formerKeys = formerKeys(page, of: partition)
        page.keys = keys(page, of: partition)
        // Marks of different partitions compare only where they are times.
        if rules.cursor?.unitsPerSecond == nil { page.marks = [] }
        if page.more { state.inner = page.pageState } else { state.finished() }
        return page
    }

    private func origin() throws(PollFailure) -> CursorValue? {
        guard let rule = rules.cursor, let json = cursor.origin else { return nil }
        return try CursorValue(json: json, rule: rule)
    }

    private static func keyPrefix(_ partition: Partition) -> [UInt8] { Array((WebURL.encode(partition.id) + "/").utf8) }

    /// The same id in two partitions is two records, unless the description says otherwise.
    private func keys(_ page: PollPage, of partition: Partition) -> [Result<[UInt8], SluiceError>] {
        let keys = page.keys ?? rules.dedupKeys(records: page.records)
        if rules.dedup.isGlobal { return keys }
        let prefix = PartitionedPage.keyPrefix(partition)
        return keys.map { key in
            key.flatMap { bytes in
                let whole = prefix + bytes
                guard whole.count > KeyedRecord.dedupKeyBytesMax else { return .success(whole) }
                return .failure(
                    SluiceError(
                        .connector, "the dedup key would take \(whole.count) bytes, at most \(KeyedRecord.dedupKeyBytesMax) are kept"))
            }
        }
    }

    /// By rules that were global a key stood without its partition, by others behind it: which of them holds is not asked.
    private func formerKeys(_ page: PollPage, of partition: Partition) -> [[[UInt8]]] {
        let prefix = PartitionedPage.keyPrefix(partition)
        let wereGlobal = request.formerRules.contains { $0.dedup.isGlobal || $0.partitions == nil }
        return page.formerKeys.map { keys in
            let whole = keys.map { prefix + $0 }
            return wereGlobal ? whole + keys : whole
        }
    }

    // MARK: Failures

    /// A partition that fails must not keep the others from being read; but the cycle must not succeed as if it had been.
    private mutating func putBack(_ waiting: PartitionState.Waiting, _ failure: PollFailure) throws(PollFailure) -> PollPage {
        let name = "partition \(waiting.partition.id)"
        func page(_ warning: String) -> PollPage { PollPage(records: [], more: true, warnings: [warning]) }
        switch failure.kind {
        case .rateLimited: throw failure
        case .unauthorized where failure.error.context["status"] != "403": throw failure
        case .pageStateExpired where state.inner != nil && waiting.trouble == .none:
            // From its cursor, after the others.
            state.putBack(.passing)
            return page("\(name): \(failure.error.message)")
        case .permanent where isRefusal(failure), .badCursor where isRefusal(failure), .unauthorized:
            // All of them were refused: the fault is not the partition's. Not so while another one only passes through trouble.
            if state.count <= 1 || waiting.trouble == .refused && !state.othersMayPass { throw failure }
            state.refusal = String("\(waiting.partition.id): \(failure.error.message)".prefix(PartitionState.refusalCharactersMax))
            state.putBack(.refused)
            return page("\(name) is left out of this cycle, the others are read: \(failure.error.message)")
        case .pageStateExpired, .transient, .permanent, .badCursor:
            guard state.count > 1 else { throw failure }
            guard waiting.trouble == .passing else {
                state.putBack(.passing)
                return page("\(name) failed and is tried again after the others: \(failure.error.message)")
            }
            // None of them could be read: this is no matter of one partition, and asking again soon does not mend it.
            if state.done == 0, failure.kind == .permanent || failure.kind == .badCursor { throw failure }
            // Everything begins anew after a pause: the others go on being read, and what was signalled is not covered.
            throw PollFailure(
                .pageStateExpired, SluiceError(failure.error.code, "\(name) fails, the others were read: \(failure.error.message)"),
                retryAfter: failure.retryAfter)
        }
    }

    /// Whether the provider itself said no to what was asked. An answer that cannot be read, or a fault of the description, says
    /// nothing of what the partition holds: to go on without it would lose that unseen.
    private func isRefusal(_ failure: PollFailure) -> Bool {
        if failure.error.context[AnswerErrors.contextKey] != nil { return true }
        return failure.error.context["status"].flatMap { Int($0) }.map { (400..<500).contains($0) } ?? false
    }

    // MARK: The page

    /// The page with the cursors of all partitions, and where the cycle goes on.
    private func whole(_ page: PollPage) throws(PollFailure) -> PollPage {
        var (page, cursor) = (page, cursor)
        page.warnings = warnings + page.warnings
        let more = page.more || !state.queue.isEmpty
        var json = cursor.json
        while json.count > PollLimits.cursorBytesMax, !cursor.resting.isEmpty {
            page.warnings += cursor.forgetOne()
            json = cursor.json
        }
        if json.count > PollLimits.cursorBytesMax {
            cursor.forgetReads(request.forgottenBelow)
            json = cursor.json
        }
        page.more = more
        if !more, let warning = state.leftOutWarning { page.warnings.insert(warning, at: 0) }
        page.pageState = more ? state.json : nil
        page.cursor = request.cursor == nil && cursor == PartitionCursor() || json == request.cursor ? nil : json
        page.cursorMark = rules.cursor.flatMap { $0.unitsPerSecond == nil ? nil : cursor.lowestMark($0) }
        for (what, bytes) in [("the cursors", page.cursor), ("the open cycle", page.pageState)] {
            guard let bytes, bytes.count > PollLimits.cursorBytesMax else { continue }
            throw PollFailure(
                .permanent,
                SluiceError(
                    .connector,
                    "\(what) of \(max(cursor.positions.count, state.queue.count)) partitions would take \(bytes.count) bytes, at most "
                        + "\(PollLimits.cursorBytesMax) are kept: narrow the list, or make several triggers"))
        }
        return page
    }
}

extension Incremental {
    /// What of a partition the templates name, besides its id.
    var partitionFields: [JSONPath] {
        var paths: Set<JSONPath> = []
        for template in requestTemplates + shape.partitionTemplates { paths.formUnion(template.paths(of: .partition)) }
        return paths.sorted { $0.description < $1.description }
    }
}

extension Shape {
    /// Templates of requests beside the pages.
    fileprivate var partitionTemplates: [Template] {
        lookups.flatMap { [$0.path] + $0.query.map(\.value) } + (enrichment.map { [$0.template] + $0.query.map(\.value) } ?? [])
    }
}
