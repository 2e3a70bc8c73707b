import SluiceCore

extension IncrementalPoll {
    /// How far the guessed default start may lie before the server's own, until the first page is asked for again.
    private static let startToleranceSeconds: Int64 = 60

    /// What an answer means: records, and how far the cursor may move. `request` is the one that `nextRequest` was given.
    public func page(from reply: HTTPReply, for request: PollRequest) throws(PollFailure) -> PollPage {
        var state = try pageState(of: request)
        try checkStatus(reply, request)
        let serverDate = reply.serverDate
        let now = serverDate ?? request.readBound
        if let restart = try restart(request, state, serverDate) { return restart }

        let document = reply.status == 204 ? nil : try reply.json()
        let elements = if let document { try elements(document, request) } else { [JSONView]() }
        let scan = try PageScan(elements, unwrap: try rules.unwrap?.text(request, for: "unwrap"), cursor: rules.cursor)
        var warnings = scan.warnings
        if serverDate == nil, rules.cursor?.unitsPerSecond != nil, state.pages == 0 {
            warnings.append("the provider sends no Date header; this machine's clock bounds the cursor instead")
        }
        if state.pages == 0 { warnings += try gapWarning(request, now) }

        let lower = try lower(request, state)
        state.lower = lower
        state.pages += 1
        state.firstNow = state.firstNow ?? now
        // A page that restarted from the mark begins below it, by the overlap.
        let goesOn = state.position != .first
        if rules.cursor?.order == .ascending, !scan.isAscending || goesOn && isBelow(scan, state.seen), !state.isUnordered {
            state.isUnordered = true
            warnings.append(
                "the records are not in ascending order, though the connector says so; the cursor moves after the last page only")
        }
        if let furthest = scan.furthest, furthest.mark > state.seen?.mark ?? Int64.min || state.seen == nil { state.seen = furthest }

        let next: PageState.Position? = if let document { try next(reply, document, scan, &state, request) } else { nil }
        if let next { try state.advance(to: next, lower: next == .first ? restartBound(state) : lower) }
        let moved = try committed(request, state, isLast: next == nil, now: now)
        let page = PollPage(
            records: scan.records, marks: scan.marks, cursor: moved?.json, cursorMark: try mark(of: request, moved),
            pageState: next == nil ? nil : state.json, more: next != nil, warnings: warnings)
        return try checkSizes(page, request)
    }

    // MARK: Answers that are no page

    private func checkStatus(_ reply: HTTPReply, _ request: PollRequest) throws(PollFailure) {
        func fail(_ kind: PollFailure.Kind, _ code: SluiceError.Code, _ message: String, retryAfter: Span? = nil) -> PollFailure {
            let start = String(decoding: reply.body.prefix(120), as: UTF8.self)
            let error = SluiceError(code, message).with("status", String(reply.status))
            // Some providers repeat the credentials that they refuse.
            return PollFailure(kind, kind == .unauthorized ? error : error.with("answer", start.debugDescription), retryAfter: retryAfter)
        }
        switch reply.status {
        case 200..<300: return
        case 429: throw fail(.rateLimited, .rateLimited, "the provider asks for fewer requests", retryAfter: retryAfter(reply))
        case 401, 403:
            throw fail(.unauthorized, .providerAuth, "the provider refuses the connection's credentials: check them and their rights")
        case 500...: throw fail(.transient, .providerStatus, "the provider failed", retryAfter: retryAfter(reply))
        case 400 where request.pageState != nil, 404 where request.pageState != nil, 410 where request.pageState != nil:
            throw fail(
                .pageStateExpired, .providerStatus, "the provider no longer knows the next page; the cycle begins again from the cursor")
        case 400 where request.cursor != nil, 410 where request.cursor != nil:
            throw fail(.badCursor, .badCursor, "the provider does not take the cursor: show it, then set or reset it")
        case 300..<400: throw fail(.permanent, .providerStatus, "the provider redirects elsewhere: correct the base URL or the path")
        default:
            throw fail(.permanent, .providerStatus, "the provider refuses the request: check the connection's and the trigger's fields")
        }
    }

    /// Retry-After in seconds or as a date, which counts from the answer's own Date (RFC 9110, 10.2.3).
    func retryAfter(_ reply: HTTPReply) -> Span? {
        guard let text = reply.headers.first("Retry-After") else { return nil }
        let now = reply.serverDate ?? .distantFuture
        return RetryAfter.parse(text, now: now).map { min($0, .hours(24)) }
    }

    /// On the very first poll the default start was guessed by the clock that was passed in. Where the server's clock tells
    /// another, the page is put aside and asked for again from the start that then is stored.
    private func restart(_ request: PollRequest, _ state: PageState, _ serverDate: Timestamp?) throws(PollFailure) -> PollPage? {
        guard request.cursor == nil, request.pageState == nil, let serverDate, let rule = rules.cursor, let units = rule.unitsPerSecond,
            rules.defaultSinceSecondsAgo != nil, try rules.since?.optionalText(request, for: "since") == nil,
            let guess = try guessedStart(request), let right = try start(request, now: serverDate)
        else { return nil }
        let difference = right.mark - guess.mark
        if (0...Self.startToleranceSeconds * units).contains(difference) { return nil }
        return PollPage(
            records: [], cursor: right.json, cursorMark: right.mark, pageState: PageState().json, more: true,
            warnings: ["this machine's clock and the provider's differ by \(abs(difference) / units) s"])
    }

    private func gapWarning(_ request: PollRequest, _ now: Timestamp) throws(PollFailure) -> [String] {
        guard let retention = rules.retention, let cursor = rules.cursor, request.cursor != nil,
            let mark = try start(request, now: now)?.mark, let time = cursor.time(of: mark), now - time > retention
        else { return [] }
        return [
            "gap: the provider keeps \(retention.milliseconds / 86_400_000) days, and the cursor stands at \(time): what changed in between may be gone; read everything again to be sure"
        ]
    }

    // MARK: Records and the next page

    private func elements(_ document: JSONDocument, _ request: PollRequest) throws(PollFailure) -> [JSONView] {
        let list = rules.records.find(in: document.root)
        // Some encoders write an empty list as null.
        if let list, list.isNull { return [] }
        guard let elements = list?.elements else {
            let place = rules.records.keys.isEmpty ? "as the whole answer" : "at \"\(rules.records)\""
            throw PollFailure(.permanent, SluiceError(.providerAnswer, "the answer has no array of records \(place)"))
        }
        if elements.count > request.recordsMax {
            throw PollFailure(
                .permanent,
                SluiceError(
                    .providerAnswer, "a page has \(elements.count) records, at most \(request.recordsMax) are taken: ask for smaller pages")
            )
        }
        return elements
    }

    private func isBelow(_ scan: PageScan, _ seen: CursorValue?) -> Bool {
        guard let lowest = scan.lowestMark, let seen else { return false }
        return lowest < seen.mark
    }

    /// Where the next page is; nil after the last one.
    private func next(
        _ reply: HTTPReply, _ document: JSONDocument, _ scan: PageScan, _ state: inout PageState, _ request: PollRequest
    ) throws(PollFailure) -> PageState.Position? {
        if isReadBack(scan, state) { return nil }
        switch rules.pagination {
        case .none: return nil
        case .token(let path, _, let restartsFromMark):
            guard let view = path.find(in: document.root), !view.isNull, view.bool != false else { return nil }
            guard let token = view.text else {
                throw PollFailure(.permanent, SluiceError(.providerAnswer, "the page token at \"\(path)\" is neither text nor a number"))
            }
            if token.isEmpty { return nil }
            return restartsFromMark && restartBound(state) != nil ? .first : .token(token)
        case .link:
            guard let link = LinkHeader.next(in: reply.headers) else { return nil }
            let url = try WebURL(try nextRequest(request).url).sameOrigin(link)
            // A key is no part of a place, and is not stored with it.
            if case .query(let name, _) = rules.authentication { return .url(WebURL.removing(name, from: url)) }
            return .url(url)
        case .keyset(let path, _, let hasMore):
            return try nextKey(document, scan, &state, path: path, hasMore: hasMore, request)
        }
    }

    /// The mark to go on from instead of a token; nil where the pages have not moved past the bound they were asked with.
    private func restartBound(_ state: PageState) -> CursorValue? {
        guard var rule = rules.cursor, rule.order == .ascending, !state.isUnordered, let seen = state.seen else { return nil }
        rule.lookback = 0
        let bound = rule.lowerBound(from: seen)
        return bound.mark > state.lower?.mark ?? Int64.min ? bound : nil
    }

    /// A descending feed has been read back to where the cycle began.
    private func isReadBack(_ scan: PageScan, _ state: PageState) -> Bool {
        guard rules.cursor?.order == .descending, scan.isDescending, let lowest = scan.lowestMark, let lower = state.lower else {
            return false
        }
        return lowest < lower.mark
    }

    private func nextKey(
        _ document: JSONDocument, _ scan: PageScan, _ state: inout PageState, path: JSONPath, hasMore: JSONPath?, _ request: PollRequest
    ) throws(PollFailure) -> PageState.Position? {
        let first = scan.records.first.flatMap { path.find(in: $0.view)?.text }
        let last = scan.records.last.flatMap { path.find(in: $0.view)?.text }
        // An unknown key makes some sources begin anew without a word. With the key still there, they ignore it.
        if case .after(let sent) = state.position, let first, first == state.firstID, last != sent {
            throw PollFailure(
                .pageStateExpired,
                SluiceError(.providerAnswer, "the provider began again at its first page: the record that marked the place is gone"))
        }
        state.firstID = state.firstID ?? first
        if let hasMore {
            guard let more = hasMore.find(in: document.root)?.bool else {
                throw PollFailure(
                    .permanent, SluiceError(.providerAnswer, "the answer does not say at \"\(hasMore)\" whether there is more"))
            }
            if !more { return nil }
        } else if scan.records.isEmpty || scan.records.count < min(rules.pageSize?.value ?? 1, request.recordsMax) {
            return nil
        }
        guard let last else {
            throw PollFailure(
                .permanent,
                SluiceError(.providerAnswer, "no progress: there is more, but the page's last record has no \"\(path)\" to go on from"))
        }
        return .after(last)
    }

    // MARK: The cursor

    /// The cursor to commit with this page; nil leaves it where it is.
    private func committed(_ request: PollRequest, _ state: PageState, isLast: Bool, now: Timestamp) throws(PollFailure) -> CursorValue? {
        guard let rule = rules.cursor else { return nil }
        let before = try start(request, now: now)
        // A start that was resolved is stored with the first page, so that a crash cannot move it forward.
        let unmoved = request.cursor == nil ? before : nil
        let isOrdered = rule.order == .ascending && !state.isUnordered
        guard isLast || isOrdered, var reached = state.seen else { return unmoved }
        if let cap = cap(rule, state, isOrdered: isOrdered, now: now), reached.mark > cap {
            reached = CursorValue(mark: cap, text: rule.text(of: cap))
        }
        if let before, reached.mark <= before.mark { return unmoved }
        return reached
    }

    /// The furthest mark that is safe. What changed after the cycle's first answer may have moved between pages that were
    /// read already, so only an ascending feed may go beyond it; and what is newer than the visibility lag may be incomplete.
    private func cap(_ rule: CursorRule, _ state: PageState, isOrdered: Bool, now: Timestamp) -> Int64? {
        var bound = now
        // A record that becomes visible between two pages may belong on the one that was read already.
        let hidesRecords = rule.visibilityLag > .zero
        if !isOrdered || hidesRecords || rule.upperParameter != nil { bound = min(now, state.firstNow ?? now) }
        // A Date is cut to the second and taken when the answer was ready, not when its query ran.
        if !isOrdered, state.pages > 1 { bound = bound - .seconds(1) }
        return rule.mark(of: bound - rule.visibilityLag)
    }

    private func mark(of request: PollRequest, _ moved: CursorValue?) throws(PollFailure) -> Int64? {
        if let moved { return moved.mark }
        guard let rule = rules.cursor, let json = request.cursor else { return nil }
        return try CursorValue(json: json, rule: rule).mark
    }

    private func checkSizes(_ page: PollPage, _ request: PollRequest) throws(PollFailure) -> PollPage {
        for (name, bytes) in [("cursor", page.cursor), ("page token", page.pageState)] {
            guard let bytes, bytes.count > PollLimits.cursorBytesMax else { continue }
            throw PollFailure(
                .permanent,
                SluiceError(.providerAnswer, "the \(name) would take \(bytes.count) bytes, at most \(PollLimits.cursorBytesMax) are kept"))
        }
        return page
    }
}
