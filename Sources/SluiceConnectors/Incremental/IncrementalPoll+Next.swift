import SluiceCore

/// An answer as it was read.
struct PageAnswer {
    var reply: HTTPReply
    /// Nil if the answer has no body, or one that is not JSON.
    var document: JSONDocument?
    var scan: PageScan
}

/// Where the next page is. A page ends a cycle because the answer says so, because nothing follows, or because a descending
/// feed was read back to the mark; never because it is short, unless the description says that a short page is the last.
extension IncrementalPoll {
    /// How often a cycle steps back before it gives up on moving the cursor.
    private static let backsMax: Int64 = 8
    /// Records of a page that are looked for on the next one.
    private static let anchorsKept = 5

    /// Nil after the last page.
    func next(_ answer: PageAnswer, _ state: inout PageState, _ request: PollRequest) throws(PollFailure) -> PageState.Position? {
        if answer.reply.status == 204 || isReadBack(answer.scan, state) { return nil }
        let position = try follow(answer, &state, request)
        if position != nil, state.position != .first, state.isRepeating(answer.scan.records, id: rules.dedup.id) {
            throw PollFailure(
                .permanent,
                SluiceError(
                    .providerAnswer,
                    "no progress: five pages in a row are the same; the provider ignores what asks for the next page: check pagination"
                ).with("page", String(state.pages)))
        }
        return position
    }

    private func follow(_ answer: PageAnswer, _ state: inout PageState, _ request: PollRequest) throws(PollFailure) -> PageState.Position? {
        switch rules.pagination {
        case .none: return nil
        case .token(let rule): return try token(rule, answer, &state, request)
        case .link:
            guard let link = LinkHeader.next(in: answer.reply.headers) else { return nil }
            let url = try stored(link, request)
            return restarts(state) ? .first : .url(url)
        case .nextURL(let place):
            guard let link = try text(at: place, in: answer, "next page")?.text else { return nil }
            let url = try stored(link, request)
            return restarts(state) ? .first : .url(url)
        case .keyset(let rule): return try nextKey(rule, answer, &state, request)
        case .offset(let rule): return try nextOffset(rule, answer, &state, request)
        case .page(let rule): return try nextNumber(rule, answer, &state, request)
        }
    }

    /// A next URL as it is kept: whole, on the same host, and without a key that stands in the query.
    func stored(_ link: String, _ request: PollRequest, _ what: String = "next page") throws(PollFailure) -> String {
        let url = try WebURL(try nextRequest(request).url).sameOrigin(link, what)
        if case .query(let name, _) = rules.authentication { return WebURL.removing(name, from: url) }
        return url
    }

    // MARK: What the answer says

    /// A token or URL of the answer; nil if there is none.
    func text(at place: Incremental.AnswerPlace, in answer: PageAnswer, _ what: String) throws(PollFailure) -> RequestValue? {
        switch place {
        case .header(let name):
            guard let text = answer.reply.headers.first(name), !text.isEmpty else { return nil }
            return RequestValue(text)
        case .body(let path):
            guard let document = answer.document, let view = path.find(in: document.root), !view.isNull, view.bool != false else {
                return nil
            }
            guard let text = view.text else {
                throw PollFailure(
                    .permanent, SluiceError(.providerAnswer, "the \(what) at \"\(path)\" is neither text nor a number"))
            }
            return text.isEmpty ? nil : RequestValue(text, isNumber: view.kind == .number)
        }
    }

    /// Whether there is more, in the answer's own words; nil if the description names none.
    private func saysMore(_ answer: PageAnswer, read: Int64?, number: Int64?) throws(PollFailure) -> Bool? {
        let end = rules.pageEnd
        if let path = end.hasMore { return try flag(at: path, answer) }
        if let path = end.isLast { return try !flag(at: path, answer) }
        if let path = end.totalPages, let number { return number < (try count(at: path, answer)) }
        if let path = end.total, let read { return read < (try count(at: path, answer)) }
        return nil
    }

    private func flag(at path: JSONPath, _ answer: PageAnswer) throws(PollFailure) -> Bool {
        let view = answer.document.flatMap { path.find(in: $0.root) }
        if let flag = view?.bool { return flag }
        switch view?.text {
        case "true", "1": return true
        case "false", "0": return false
        default:
            throw PollFailure(.permanent, SluiceError(.providerAnswer, "the answer does not say at \"\(path)\" whether there is more"))
        }
    }

    private func count(at path: JSONPath, _ answer: PageAnswer) throws(PollFailure) -> Int64 {
        guard let text = answer.document.flatMap({ path.find(in: $0.root) })?.text, let count = Int64(text), count >= 0 else {
            throw PollFailure(.permanent, SluiceError(.providerAnswer, "the answer has no number at \"\(path)\" to tell the last page by"))
        }
        return count
    }

    /// Whether this page is the last by its length alone.
    private func endsByLength(_ answer: PageAnswer, _ request: PollRequest, fresh: Int, always: Bool) -> Bool {
        let end = rules.pageEnd
        if fresh == 0, always || end.endsEmpty || end.endsShort { return true }
        return end.endsShort && answer.scan.records.count < min(rules.pageSize?.value ?? 1, request.recordsMax)
    }

    // MARK: Each form

    private func token(
        _ rule: Incremental.TokenPages, _ answer: PageAnswer, _ state: inout PageState, _ request: PollRequest
    ) throws(PollFailure) -> PageState.Position? {
        let saysMore = try saysMore(answer, read: nil, number: nil)
        if saysMore == false { return nil }
        guard let token = try text(at: rule.from, in: answer, "page token") else {
            guard saysMore == true else { return nil }
            throw PollFailure(
                .permanent,
                SluiceError(.providerAnswer, "no progress: the answer says that there is more, and holds no page token at \(rule.from)"))
        }
        if saysMore == nil, endsByLength(answer, request, fresh: answer.scan.records.count, always: false) { return nil }
        if restarts(state) { return .first }
        state.isNumber = token.isNumber
        return .token(token.text)
    }

    private func nextKey(
        _ rule: Incremental.KeysetPages, _ answer: PageAnswer, _ state: inout PageState, _ request: PollRequest
    ) throws(PollFailure) -> PageState.Position? {
        let records = answer.scan.records
        let first = records.first.flatMap { rule.from.find(in: $0.view)?.text }
        let last = records.last.flatMap { rule.from.find(in: $0.view) }
        // An unknown key makes some sources begin anew without a word. With the key still there, they ignore it.
        if case .after(let sent) = state.position, let first, first == state.firstID, last?.text != sent {
            throw PollFailure(
                .pageStateExpired,
                SluiceError(.providerAnswer, "the provider began again at its first page: the record that marked the place is gone"))
        }
        state.firstID = state.firstID ?? first
        switch try saysMore(answer, read: nil, number: nil) {
        case false: return nil
        case true: break
        case nil: if endsByLength(answer, request, fresh: records.count, always: true) { return nil }
        }
        guard let last, let text = last.text else {
            throw PollFailure(
                .permanent,
                SluiceError(
                    .providerAnswer, "no progress: there is more, but the page's last record has no \"\(rule.from)\" to go on from"))
        }
        state.isNumber = last.kind == .number
        return .after(text)
    }

    private func nextOffset(
        _ rule: Incremental.OffsetPages, _ answer: PageAnswer, _ state: inout PageState, _ request: PollRequest
    ) throws(PollFailure) -> PageState.Position? {
        let records = answer.scan.records
        let count = Int64(records.count)
        let offset = if case .offset(let value) = state.position { value } else { Int64(0) }
        var fresh = records.count
        if offset > 0, rule.overlap > 0, let known = records.lastIndex(where: { isAnchor($0, state) }) { fresh -= known + 1 }
        switch try saysMore(answer, read: offset + count, number: nil) {
        case false: return nil
        case true: break
        case nil:
            // Where records have come in before this page it may show nothing new and not be the last.
            let isLast = fresh == 0 && count <= rule.overlap
            if endsByLength(answer, request, fresh: isLast ? 0 : records.count, always: true) { return nil }
        }
        if restarts(state) { return .first }
        // Pages that are no larger than the overlap cannot share records and go on.
        let overlaps = rule.overlap > 0 && count > rule.overlap
        state.anchors = overlaps ? records.suffix(Self.anchorsKept).compactMap { rules.dedup.id.find(in: $0.view)?.text } : []
        if count == 0 {
            guard let size = rules.pageSize?.value else {
                throw PollFailure(
                    .permanent, SluiceError(.providerAnswer, "no progress: there is more, but the page is empty and has no declared size"))
            }
            return .offset(offset + Int64(size))
        }
        return .offset(offset + (overlaps ? count - rule.overlap : count))
    }

    private func nextNumber(
        _ rule: Incremental.NumberedPages, _ answer: PageAnswer, _ state: inout PageState, _ request: PollRequest
    ) throws(PollFailure) -> PageState.Position? {
        let number = if case .page(let value) = state.position { value } else { rule.first }
        let read = (number - rule.first + 1) * Int64(min(rules.pageSize?.value ?? 1, request.recordsMax))
        switch try saysMore(answer, read: read, number: number - rule.first + 1) {
        case false: return nil
        case true: break
        case nil: if endsByLength(answer, request, fresh: answer.scan.records.count, always: true) { return nil }
        }
        if restarts(state) { return .first }
        return .page(number + 1)
    }

    // MARK: Lists that shift

    private func isAnchor(_ record: Record, _ state: PageState) -> Bool {
        rules.dedup.id.find(in: record.view)?.text.map { state.anchors.contains($0) } ?? false
    }

    /// Where to read again, since records have left the pages before this one and others slid past its edge; nil if none did.
    func stepBack(_ answer: PageAnswer, _ state: inout PageState, _ request: PollRequest) throws(PollFailure) -> PageState.Position? {
        switch (state.position, rules.pagination) {
        case (.offset(let offset), .offset(let rule)) where offset > 0 && rule.overlap > 0 && !state.anchors.isEmpty:
            if answer.scan.records.contains(where: { isAnchor($0, state) }) { return nil }
            let size = max(rules.pageSize?.value ?? 1, answer.scan.records.count, 1)
            return back(to: .offset(max(0, offset - Int64(size))), &state)
        case (let position, .page(let rule)):
            guard let path = rule.end.total else { return nil }
            let (before, total) = (state.total, try count(at: path, answer))
            state.total = total
            guard position != .first, let before, total < before else { return nil }
            return back(to: .page(rule.first), &state)
        default: return nil
        }
    }

    private func back(to position: PageState.Position, _ state: inout PageState) -> PageState.Position? {
        if state.backs >= Self.backsMax {
            state.isHeld = true
            return nil
        }
        state.backs += 1
        (state.signature, state.sameCount) = (nil, 0)
        return position
    }

    private func restarts(_ state: PageState) -> Bool { rules.restartsFromMark && restartBound(state) != nil }

    /// The mark to go on from instead of a token; nil where the pages have not moved past the bound they were asked with.
    func restartBound(_ state: PageState) -> CursorValue? {
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
}
