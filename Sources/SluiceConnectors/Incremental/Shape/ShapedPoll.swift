import SluiceCore
import Synchronization

/// One poll of an `Incremental` with a shape: what happens around the request and the answer that `IncrementalPoll` decides on.
struct ShapedPoll: Sendable {
    let rules: Incremental
    var shape: Shape { rules.shape }

    init(_ rules: Incremental) { self.rules = rules }

    /// Reads one page. `read` is the poll without its shape.
    func run(
        _ request: PollRequest, http: any HTTPSending, read: (PollRequest, any HTTPSending) async throws -> PollPage
    ) async throws -> PollPage {
        var (inner, state) = try ShapeState.split(request)
        let side = ShapedHTTP(http, rules, inner, state.carried)
        try await lookUp(&inner, &state, side)
        setUpper(&inner, &state)
        let isFirst = request.pageState == nil
        let sender = ShapedHTTP(http, rules, inner, state.carried, isPage: true, validator: isFirst ? state.validator : nil)
        var page: PollPage
        do {
            page = try await read(inner, sender)
        } catch is NotModified {
            return unchanged(request, inner, state)
        }
        let seen = sender.seen
        state.carried = seen.carried
        if let again = askAgain(page, &state, serverDate: seen.serverDate) { return again }
        let validator = isFirst ? newValidator(page, seen) : nil
        page = try await shaped(page, inner, side)
        if let validator {
            page.cursor = ShapeState.cursor(page.cursor ?? inner.cursor, with: validator)
            if page.cursor == request.cursor { page.cursor = nil }
        }
        if page.more { page.pageState = state.pageState(around: page.pageState) }
        return page
    }

    // MARK: Before the request

    /// Makes the lookups of a cycle that has not made them yet.
    private func lookUp(_ inner: inout PollRequest, _ state: inout ShapeState, _ http: ShapedHTTP) async throws {
        guard !shape.lookups.isEmpty, state.lookup == nil else { return }
        var found: [(String, [UInt8])] = []
        for lookup in shape.lookups {
            let plan = try side(path: lookup.path, query: lookup.query, inner)
            let value = try lookup.value(of: try await http.send(plan), inner)
            found.append((lookup.name, Array(value.bytes)))
            var writer = JSONWriter()
            writer.object { writer in
                for (name, bytes) in found {
                    writer.key(name)
                    writer.raw(bytes)
                }
            }
            state.lookup = try? JSONDocument(writer.bytes)
            inner.scope.lookup = state.lookup
        }
    }

    /// A request beside the pages: the same base, headers and credentials, another path.
    private func side(path: Template, query: [Incremental.NamedTemplate], _ request: PollRequest) throws(PollFailure) -> HTTPRequestPlan {
        try IncrementalPoll(sideRules(path: path, query: query)).nextRequest(SideRequest.of(request))
    }

    private func sideRules(path: Template, query: [Incremental.NamedTemplate]) -> Incremental {
        var side = Incremental(baseURL: rules.baseURL, path: path, records: JSONPath([]), dedup: rules.dedup)
        (side.query, side.headers, side.authentication) = (query, rules.headers, rules.authentication)
        return side
    }

    /// The bound from above where the API wants one with each request: by our clock at first, rounded up.
    private func setUpper(_ inner: inout PollRequest, _ state: inout ShapeState) {
        guard let rule = rules.cursor, rule.isUpperAlwaysSent else { return }
        // A window has passed: its end is known, whatever the server's clock says.
        if state.upper == nil, let window = inner.window, rules.dedup.created == nil {
            (state.upper, state.isUpperServers) = (window.to, true)
        }
        let bound = state.upper ?? ShapedPoll.roundedUp(inner.now)
        state.upper = bound
        inner.scope.upper = rule.mark(of: bound).map { rule.text(of: $0) }
    }

    private static func roundedUp(_ time: Timestamp) -> Timestamp { Timestamp(seconds: time.seconds + 1) }

    // MARK: After the answer

    /// A bound by our clock may leave out what the cycle promises to see. Where the server's clock is beyond it, the page is
    /// put aside and asked for again with the server's, which lies after everything that is promised: once in a cycle.
    private func askAgain(_ page: PollPage, _ state: inout ShapeState, serverDate: Timestamp?) -> PollPage? {
        guard let bound = state.upper, !state.isUpperServers else { return nil }
        guard let serverDate, serverDate > bound else {
            // Settled for this cycle.
            state.isUpperServers = true
            return nil
        }
        state.upper = ShapedPoll.roundedUp(serverDate)
        state.isUpperServers = true
        // Where nothing was listed yet the cursor is where the feed begins; a list is asked for again from its start.
        let start = page.listedCount == nil ? page : PollPage(records: [], more: true)
        return PollPage(
            records: [], cursor: start.cursor, cursorMark: start.cursorMark,
            pageState: state.pageState(around: start.more ? start.pageState : nil), more: true, warnings: start.warnings)
    }

    /// Nothing is new: no records, and the mark stays where it is.
    private func unchanged(_ request: PollRequest, _ inner: PollRequest, _ state: ShapeState) -> PollPage {
        var cursor: [UInt8]?
        if var validator = state.validator {
            validator.unchanged += 1
            cursor = ShapeState.cursor(inner.cursor, with: validator)
        }
        return PollPage(records: [], cursor: cursor, more: false)
    }

    /// The validator of a first page that was the last one and either had room or lists the newest first.
    private func newValidator(_ page: PollPage, _ seen: ShapedHTTP.Seen) -> Validator? {
        guard shape.isConditional, !page.more, let validator = seen.validator else { return nil }
        let hasRoom: Bool =
            if case .none = rules.pagination {
                true
            } else {
                // As the provider lists: what was read before, or is not wanted, fills a page as well.
                rules.pageSize.map { (page.listedCount ?? $0.value) < $0.value } ?? false
            }
        return hasRoom || rules.cursor?.order == .descending ? validator : nil
    }

    // MARK: Records

    private func shaped(_ page: PollPage, _ request: PollRequest, _ http: ShapedHTTP) async throws -> PollPage {
        guard shape.changesRecords else { return page }
        var page = page
        var thin = try selected(page, request)
        if let enrichment = shape.enrichment {
            let requests = try self.requests(of: enrichment, request, http)
            let full = try await enrichment.complete(thin, requests)
            thin = full.records
            if shape.format.isXML { for index in thin.indices { thin[index].record.isDerived = true } }
            page.warnings += full.warnings
        }
        page.marks = page.marks.isEmpty ? [] : thin.map { $0.mark ?? PageScan.unknownMark }
        page.keys = thin.map(\.key)
        if !request.formerRules.isEmpty { page.formerKeys = thin.map(\.formerKeys) }
        let isCoarse = thin.contains { $0.isOpen != nil }
        page.states = isCoarse ? thin.map { one in one.isOpen.map { RecordState(digest: Incremental.digest(one.record), isOpen: $0) } } : []
        page.records = thin.map { thin in
            // What is set aside is shown as the provider sent it.
            if let map = shape.map, case .success = thin.key { map.apply(thin.record) } else { thin.record }
        }
        return page
    }

    /// The records that become jobs, with their keys and their element's marks.
    private func selected(_ page: PollPage, _ request: PollRequest) throws(PollFailure) -> [Enrichment.Thin] {
        var conditions: [FilterCondition.Resolved] = []
        for condition in shape.filter { if let resolved = try condition.resolved(request) { conditions.append(resolved) } }
        let tombstone = try shape.tombstone?.resolved(request)
        let isDerived = shape.format.isXML
        var records: [Record] = []
        var marks: [Int64?] = []
        for (index, element) in page.records.enumerated() {
            let mark = index < page.marks.count ? page.marks[index] : nil
            for var record in try shape.flatten?.records(in: element.view) ?? [element] {
                record.isDerived = record.isDerived || isDerived
                record.isDeletion = tombstone?.holds(record.view) ?? false
                // A tombstone shows too little to be filtered by.
                guard record.isDeletion || conditions.allSatisfy({ $0.holds(record.view) }) else { continue }
                records.append(record)
                marks.append(mark)
            }
            guard records.count <= request.recordsMax else {
                throw PollFailure(
                    .permanent,
                    SluiceError(
                        .providerAnswer, "flatten makes more than \(request.recordsMax) records of a page: ask for smaller pages"))
            }
        }
        let keys = rules.dedupKeys(records: records)
        let formers = Incremental.formerKeys(records, request)
        return records.indices.map { index in
            let key = records[index].isDeletion ? keys[index].map { $0 + deletionSuffix(records[index], request) } : keys[index]
            return Enrichment.Thin(
                record: records[index], key: key, mark: marks[index], formerKeys: formers.isEmpty ? [] : formers[index],
                isOpen: page.readAt.flatMap { rules.isOpen(records[index], readAt: $0) })
        }
    }

    /// A tombstone without the version that records have looks the same each time its item goes. Where the source hands out positions, each
    /// change is listed behind one of them, so that one tells the times apart.
    private func deletionSuffix(_ record: Record, _ request: PollRequest) -> [UInt8] {
        guard rules.cursor?.kind == .opaque, rules.dedup.versions.contains(where: { $0.find(in: record.view)?.text == nil }) else {
            return Tombstone.keySuffix
        }
        return Array("@\(Hex.text(HMACSHA256.sha256(request.cursor ?? [])).prefix(16))".utf8) + Tombstone.keySuffix
    }

    private func requests(of enrichment: Enrichment, _ request: PollRequest, _ http: ShapedHTTP) throws(PollFailure) -> Enrichment.Requests
    {
        let request = SideRequest.of(request)
        switch enrichment.address {
        case .path(let path):
            let poll = IncrementalPoll(sideRules(path: path, query: enrichment.query))
            return Enrichment.Requests(
                plan: { record throws(PollFailure) in try poll.nextRequest(SideRequest.of(request, record: record)) },
                send: { try await http.send($0) }, connection: request.connection)
        case .url(let url):
            let poll = IncrementalPoll(sideRules(path: "", query: enrichment.query))
            return Enrichment.Requests(
                plan: { record throws(PollFailure) in
                    let request = SideRequest.of(request, record: record)
                    var plan = try poll.nextRequest(request)
                    let link = try WebURL(plan.url).sameOrigin(try url.text(request, for: "the record's URL"))
                    let query = WebURL.parts(plan.url).query
                    plan.url = query.isEmpty ? link : link + (link.contains("?") ? "&" : "?") + query
                    return plan
                },
                send: { try await http.send($0) }, connection: request.connection)
        }
    }
}

/// The poll's request as one beside the pages sees it: no cursor, no page, perhaps a record.
enum SideRequest {
    static func of(_ request: PollRequest, record: Record? = nil) -> PollRequest {
        var side = request
        (side.cursor, side.pageState) = (nil, nil)
        side.scope.record = record?.view
        return side
    }
}

/// The provider says that nothing has changed.
struct NotModified: Error {}

/// Sends requests as the shape wants them and gives answers back as JSON.
final class ShapedHTTP: HTTPSending {
    /// What the answers to pages said besides records.
    struct Seen: Sendable {
        var carried: [HTTPField]
        var serverDate: Timestamp?
        var validator: Validator?
    }

    private let inner: any HTTPSending
    private let rules: Incremental
    private let request: PollRequest
    private let isPage: Bool
    private let validator: Validator?
    private let state: Mutex<Seen>

    init(
        _ inner: any HTTPSending, _ rules: Incremental, _ request: PollRequest, _ carried: [HTTPField], isPage: Bool = false,
        validator: Validator? = nil
    ) {
        self.inner = inner
        self.rules = rules
        self.request = request
        self.isPage = isPage
        self.validator = validator
        state = Mutex(Seen(carried: carried))
    }

    var seen: Seen { state.withLock { $0 } }

    func send(_ plan: HTTPRequestPlan) async throws -> HTTPReply {
        let shape = rules.shape
        var plan = plan
        if !shape.format.isJSON, isPage || shape.format.isXML,
            !rules.headers.contains(where: { ASCII.equalIgnoringCase($0.name, "Accept") })
        {
            plan.headers.set("Accept", shape.format.mediaTypes)
        }
        for field in seen.carried { plan.headers.set(field.name, field.value) }
        let isConditional = isPage && shape.isConditional
        let fingerprint = isConditional ? Validator.fingerprint(plan, request.connection) : ""
        let asks = isConditional ? validator?.condition(&plan, of: request) ?? false : false
        try shape.signing?.sign(&plan, request)
        let reply = try await inner.send(plan)
        if asks, reply.status == 304 { throw NotModified() }
        if isPage { try note(reply, isConditional ? fingerprint : nil) }
        let converted = try shape.format.converted(reply, records: isPage ? rules.records : nil)
        if shape.body?.isGraphQL == true, isPage { try GraphQLAnswer.check(converted) }
        return converted
    }

    private func note(_ reply: HTTPReply, _ fingerprint: String?) throws(PollFailure) {
        var carried: [HTTPField] = []
        for header in rules.shape.carried {
            guard let value = reply.headers.first(header.header) else { continue }
            guard value.utf8.count <= CarriedHeader.bytesMax else {
                throw PollFailure(
                    .permanent,
                    SluiceError(
                        .providerAnswer, "the header \(header.header) of the answer is longer than \(CarriedHeader.bytesMax) bytes"))
            }
            carried.append(HTTPField(header.sentAs, try HeaderText.checked(value, header.sentAs)))
        }
        let validator = fingerprint.flatMap { Validator(of: reply, for: $0, at: request.now) }
        state.withLock { state in
            // What an answer does not say again stays as it was.
            for field in carried { state.carried.set(field.name, field.value) }
            state.serverDate = reply.serverDate
            state.validator = validator
        }
    }
}

/// Errors that come with status 200 (GraphQL specification, 7.1.2).
enum GraphQLAnswer {
    static func check(_ reply: HTTPReply) throws(PollFailure) {
        guard (200..<300).contains(reply.status), let errors = (try? JSONDocument(reply.body))?.root["errors"]?.elements,
            let first = errors.first
        else { return }
        let message = first["message"]?.string ?? "no message"
        let codes = [first["type"]?.string, first["extensions"]?["code"]?.string].compactMap { $0?.lowercased() }
        let isLimited = codes.contains { $0.contains("rate") || $0.contains("throttled") || $0.contains("complexity") }
        let isRefused = codes.contains { $0.contains("unauthenticated") || $0.contains("forbidden") || $0.contains("access_denied") }
        throw PollFailure(
            isLimited ? .rateLimited : isRefused ? .unauthorized : .transient,
            SluiceError(
                isLimited ? .rateLimited : isRefused ? .providerAuth : .providerAnswer,
                "the provider answers the query with an error: \(message.prefix(200).debugDescription)"))
    }
}
