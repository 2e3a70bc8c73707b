import SluiceCore

extension IncrementalPoll {
    /// How far the guessed default start may lie before the server's own, until the first page is asked for again.
    private static let startToleranceSeconds: Int64 = 60

    /// What an answer means: records, and how far the cursor may move. `request` is the one that `nextRequest` was given.
    @inline(never)
    public func page(from reply: HTTPReply, for request: PollRequest) throws(PollFailure) -> PollPage {
        var state = try pageState(of: request)
        if let anew = try beginsAnew(reply, request, state) { return anew }
        try checkStatus(reply, request)
        let now = reply.serverDate ?? request.readBound
        let document = reply.status == 204 ? nil : try reply.json()
        if let document { try rules.answerErrors?.check(document, isFurther: request.pageState != nil) }
        if let restart = try restart(request, state, reply.serverDate) { return restart }

        let elements = if let document { try elements(document, request) } else { [JSONView]() }
        let scan = try PageScan(
            elements, unwrap: try rules.unwrap?.text(request, for: "unwrap"), cursor: rules.cursor,
            isFirstEver: request.cursor == nil && state.pages == 0)
        let answer = PageAnswer(reply: reply, document: document, scan: scan)
        var warnings = scan.warnings
        if reply.serverDate == nil, rules.cursor?.unitsPerSecond != nil, state.pages == 0 {
            warnings.append("the provider sends no Date header; this machine's clock bounds the cursor instead")
        }
        if state.pages == 0 { warnings += try gapWarning(request, now) }

        let lower = try lower(request, state)
        state.lower = lower
        state.pages += 1
        state.firstNow = state.firstNow ?? now
        let back = try stepBack(answer, &state, request)
        if back == nil { try take(scan, &state, &warnings) }
        state.wentBack = back != nil
        try takeHandedOut(answer, &state, request)

        let next: PageState.Position? =
            if let back { back } else if isPastWindow(answer.scan, state, request) { nil } else { try next(answer, &state, request) }
        if let next { try state.advance(to: next, lower: next == .first ? restartBound(state) : lower, pagesMax: rules.pagesMax) }
        if next == nil { warnings += try endWarnings(answer, state, request) }
        let moved = try committed(request, state, isLast: next == nil, now: now, hasServerClock: reply.serverDate != nil)
        var page = PollPage(
            records: scan.records, marks: scan.marks, cursor: try moved.map { value throws(PollFailure) in try json(value, request, now) },
            cursorMark: try mark(of: request, moved), pageState: next == nil ? nil : state.json, more: next != nil, warnings: warnings)
        page.listedCount = elements.count
        page = try windowed(newOnly(reread(page, lower), request, now), request)
        page.readAt = now
        // What is made of the records first tells their states.
        if !rules.shape.changesRecords { page.states = rules.states(of: page.records, readAt: now) }
        return try checkSizes(page, request)
    }

    /// Notes the page's furthest record, and whether the order still holds.
    private func take(_ scan: PageScan, _ state: inout PageState, _ warnings: inout [String]) throws(PollFailure) {
        guard let rule = rules.cursor else { return }
        // A page that restarted from the mark begins below it, by the overlap; one that stepped back does too.
        let goesOn = state.position != .first && !state.wentBack
        if rule.order == .ascending, !scan.isAscending || goesOn && isBelow(scan, state.seen), !state.isUnordered {
            state.isUnordered = true
            warnings.append(
                "the records are not in ascending order, though the connector says so; the cursor moves after the last page only")
        }
        if let furthest = scan.furthest, state.seen.map({ rule.isBeyond(furthest, $0) }) ?? true { state.seen = furthest }
    }

    // MARK: Answers that are no page

    private func checkStatus(_ reply: HTTPReply, _ request: PollRequest) throws(PollFailure) {
        func fail(_ kind: PollFailure.Kind, _ code: SluiceError.Code, _ message: String, retryAfter: Span? = nil) -> PollFailure {
            let error = SluiceError(code, message).with("status", String(reply.status))
            // Some providers repeat the credentials that they refuse.
            return PollFailure(kind, kind == .unauthorized ? error : error.with("answer", reply.beginning), retryAfter: retryAfter)
        }
        switch reply.status {
        case 200..<300: return
        case 429: throw fail(.rateLimited, .rateLimited, "the provider asks for fewer requests", retryAfter: retryAfter(reply))
        case 401, 403:
            throw fail(.unauthorized, .providerAuth, "the provider refuses the connection's credentials: check them and their rights")
        case 500...: throw fail(.transient, .providerStatus, "the provider failed", retryAfter: retryAfter(reply))
        case let status where request.pageState != nil && ([400, 404, 410] + rules.expiredStatuses).contains(status):
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
        guard request.cursor == nil, request.pageState == nil, origin == nil, let serverDate, let rule = rules.cursor,
            let units = rule.unitsPerSecond,
            rules.defaultSinceSecondsAgo != nil, try rules.since?.optionalText(request, for: "since") == nil,
            let guess = try guessedStart(request), let right = try start(request, now: serverDate)
        else { return nil }
        let difference = right.mark - guess.mark
        if (0...Self.startToleranceSeconds * units).contains(difference) { return nil }
        return PollPage(
            records: [], cursor: try json(right, request, serverDate), cursorMark: right.mark, pageState: PageState().json, more: true,
            warnings: ["this machine's clock and the provider's differ by \(abs(difference) / units) s"])
    }

    private func gapWarning(_ request: PollRequest, _ now: Timestamp) throws(PollFailure) -> [String] {
        guard let retention = rules.retention, let cursor = rules.cursor, request.cursor != nil,
            let mark = try start(request, now: now)?.mark, let time = cursor.time(of: mark), now - time > retention
        else { return [] }
        let days = retention.milliseconds / 86_400_000
        return [
            "gap: the provider keeps \(days > 0 ? "\(days) days" : "\(retention)"), and the cursor stands at \(time): what changed in between may be gone; read everything again to be sure"
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

    // MARK: The cursor

    /// The cursor to commit with this page; nil leaves it where it is.
    private func committed(
        _ request: PollRequest, _ state: PageState, isLast: Bool, now: Timestamp, hasServerClock: Bool
    ) throws(PollFailure) -> CursorValue? {
        guard let rule = rules.cursor else { return nil }
        let before = try start(request, now: now)
        // A start that was resolved is stored with the first page, so that a crash cannot move it forward.
        let unmoved = request.cursor == nil ? before : nil
        if rule.kind == .opaque {
            guard isLast, let position = state.handedOut else { return nil }
            let (count, isOne) = restarts(request)
            return CursorValue(mark: isOne ? count : 0, text: position)
        }
        let isOrdered = rule.order == .ascending && !state.isUnordered
        guard !state.isHeld, isLast || isOrdered else { return unmoved }
        var reached = state.seen
        if let seen = reached, let cap = cap(rule, state, isOrdered: isOrdered, now: now), seen.mark > cap {
            reached = rule.value(of: Incremental.floor(cap, asShownBy: seen.mark, rule))
        }
        if let before { reached = reached.map { rule.isBeyond($0, before) ? $0 : before } ?? before }
        // A Date that is wrong for one answer, as a proxy's may be, must not carry the mark beyond what is to come: it never goes back.
        if isLast, hasServerClock, let known = reached { reached = lifted(known, rule, state, now: min(now, request.now)) }
        guard let reached else { return unmoved }
        return reached == before ? unmoved : reached
    }

    /// Where nothing changes for long, the mark follows the server's clock from afar: otherwise it would seem to stand where the
    /// source has already forgotten, and would hold back what may be forgotten of other partitions.
    private func lifted(_ value: CursorValue, _ rule: CursorRule, _ state: PageState, now: Timestamp) -> CursorValue {
        guard let distance = rules.idleDistance else { return value }
        let bound = min(now, state.firstNow ?? now) - rule.visibilityLag - distance
        guard let mark = rule.mark(of: bound), mark > value.mark else { return value }
        return rule.value(of: mark)
    }

    /// The furthest mark that is safe. What changed after the cycle's first answer may have moved between pages that were
    /// read already, so only an ascending feed may go beyond it; and what is newer than the visibility lag may be incomplete.
    private func cap(_ rule: CursorRule, _ state: PageState, isOrdered: Bool, now: Timestamp) -> Int64? {
        var bound = now
        // A record that becomes visible between two pages may belong on the one that was read already; and one that changes again within
        // what its version shows keeps its place there.
        let hidesRecords = rule.visibilityLag > .zero || rule.lookback > 0 || !rules.dedup.versions.isEmpty
        if !isOrdered || hidesRecords || rule.upperParameter != nil { bound = min(now, state.firstNow ?? now) }
        // A Date is cut to the second and taken when the answer was ready, not when its query ran.
        if !isOrdered, state.pages > 1 { bound = bound - .seconds(1) }
        return rule.mark(of: bound - rule.visibilityLag)
    }

    private func mark(of request: PollRequest, _ moved: CursorValue?) throws(PollFailure) -> Int64? {
        if let moved, rules.cursor?.kind.hasMarks == true { return moved.mark }
        guard let rule = rules.cursor, rule.kind.hasMarks, let json = request.cursor else { return nil }
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
