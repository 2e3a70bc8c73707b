import SluiceCore
import Synchronization

/// A poll over partitions: lists them, then reads one after the other as pages of one cycle.
struct PartitionedPoll: Sendable {
    let rules: Incremental
    let partitions: Partitions

    /// Reads a page of one partition, whose cursor and page state `request` holds, beginning at `origin` if it has no cursor.
    typealias ReadOne = @Sendable (_ request: PollRequest, _ origin: CursorValue?, _ http: any HTTPSending) async throws -> PollPage

    func run(_ request: PollRequest, http: any HTTPSending, read: ReadOne) async throws -> PollPage {
        var cursor = try request.cursor.map { json throws(PollFailure) in try PartitionCursor(json: json) } ?? PartitionCursor()
        var state = try request.pageState.map { json throws(PollFailure) in try PartitionState(json: json) } ?? PartitionState()
        var warnings: [String] = []
        let clock = ServerClock(http)
        if state.phase == .listing {
            guard try await list(request, &state, &warnings, clock) else {
                return try page(PollPage(records: [], more: true, warnings: warnings), cursor, state, request)
            }
            let listed = Set(state.queue.map(\.partition.id))
            warnings += cursor.meet(listed, at: clock.now ?? request.readBound, keep: partitions.keepRemoved, rules.cursor)
            if state.queue.isEmpty {
                return try page(PollPage(records: [], more: false, warnings: warnings), cursor, state, request)
            }
        }
        guard let waiting = state.queue.first else { return try page(PollPage(records: [], more: false), cursor, state, request) }
        var result: PollPage
        do {
            result = try await self.read(waiting.partition, &cursor, &state, request, clock, read)
        } catch let failure as PollFailure {
            result = try putBack(waiting, failure, &state)
        }
        result.warnings = warnings + result.warnings
        return try page(result, cursor, state, request)
    }

    // MARK: The list

    /// Adds a page of the list to the queue; whether it was the last.
    private func list(
        _ request: PollRequest, _ state: inout PartitionState, _ warnings: inout [String], _ http: any HTTPSending
    ) async throws -> Bool {
        var elements: [JSONView] = []
        var more = false
        switch partitions.source {
        case .values(let values): elements = values.map { JSONView(text: $0) }
        case .input(let name):
            let view = request.input.root[name]
            elements = view?.elements ?? (view?.text ?? "").split(separator: ",").map { JSONView(text: PartitionedPoll.trimmed($0)) }
        case .list(let list):
            var inner = request
            (inner.cursor, inner.pageState) = (nil, state.inner)
            let poll = IncrementalPoll(listing(list))
            let page = try poll.page(from: try await http.send(try poll.nextRequest(inner)), for: inner)
            elements = page.records.map(\.view)
            (more, state.inner) = (page.more, page.pageState)
        }
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
        return !more
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

    private func read(
        _ partition: Partition, _ cursor: inout PartitionCursor, _ state: inout PartitionState, _ request: PollRequest,
        _ clock: ServerClock, _ read: ReadOne
    ) async throws -> PollPage {
        var inner = request
        (inner.cursor, inner.pageState) = (cursor[partition.id], state.inner)
        inner.scope.partition = JSONView(checked: partition.fields[...])
        inner.scope["partition"] = TemplateScope.Word(text: partition.id)
        let origin = try origin(cursor)
        var page = try await read(inner, origin, clock)
        if cursor.origin == nil, inner.cursor == nil {
            // Where this partition begins is where all others begin that are found later.
            cursor.origin = try IncrementalPoll(rules).start(inner, now: clock.now ?? request.readBound)?.json
        }
        if page.cursor != nil || !cursor.hasBegun(partition.id) { cursor[partition.id] = page.cursor ?? inner.cursor }
        if page.keys == nil { page.formerKeys = Incremental.formerKeys(page.records, inner) }
        page.formerKeys = formerKeys(page, of: partition, request)
        page.keys = keys(page, of: partition)
        // Marks of different partitions compare only where they are times.
        if rules.cursor?.unitsPerSecond == nil { page.marks = [] }
        if page.more { state.inner = page.pageState } else { state.finished() }
        return page
    }

    private func origin(_ cursor: PartitionCursor) throws(PollFailure) -> CursorValue? {
        guard let rule = rules.cursor, let json = cursor.origin else { return nil }
        return try CursorValue(json: json, rule: rule)
    }

    /// The same id in two partitions is two records, unless the description says otherwise.
    private func keys(_ page: PollPage, of partition: Partition) -> [Result<[UInt8], SluiceError>] {
        let keys = page.keys ?? rules.dedupKeys(records: page.records)
        if rules.dedup.isGlobal { return keys }
        let prefix = Array((WebURL.encode(partition.id) + "/").utf8)
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
    private func formerKeys(_ page: PollPage, of partition: Partition, _ request: PollRequest) -> [[[UInt8]]] {
        let prefix = Array((WebURL.encode(partition.id) + "/").utf8)
        let wereGlobal = request.formerRules.contains { $0.dedup.isGlobal || $0.partitions == nil }
        return page.formerKeys.map { keys in
            let whole = keys.map { prefix + $0 }
            return wereGlobal ? whole + keys : whole
        }
    }

    // MARK: Failures

    /// A partition that fails must not keep the others from being read; but the cycle must not succeed as if it had been.
    private func putBack(_ waiting: PartitionState.Waiting, _ failure: PollFailure, _ state: inout PartitionState) throws -> PollPage {
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

    private func page(
        _ page: PollPage, _ cursor: PartitionCursor, _ state: PartitionState, _ request: PollRequest
    ) throws(PollFailure) -> PollPage {
        var (page, cursor) = (page, cursor)
        let more = page.more || !state.queue.isEmpty
        var json = cursor.json
        while json.count > PollLimits.cursorBytesMax, !cursor.resting.isEmpty {
            page.warnings += cursor.forgetOne()
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

/// Passes requests on and remembers the provider's clock.
final class ServerClock: HTTPSending {
    private let http: any HTTPSending
    private let date = Mutex<Timestamp?>(nil)

    init(_ http: any HTTPSending) { self.http = http }

    /// From the last answer; nil before one, or if it had no Date.
    var now: Timestamp? { date.withLock { $0 } }

    func send(_ request: HTTPRequestPlan) async throws -> HTTPReply {
        let reply = try await http.send(request)
        if let now = reply.serverDate { date.withLock { $0 = now } }
        return reply
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
