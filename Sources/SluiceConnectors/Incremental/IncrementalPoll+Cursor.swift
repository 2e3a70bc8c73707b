import SluiceCore

/// The cursor's further forms: positions that the answer hands out, and what is kept beside a mark.
extension IncrementalPoll {
    /// The committed cursor. Where only new records are wanted, the trigger's beginning is kept beside the mark for good.
    func json(_ value: CursorValue, _ request: PollRequest, _ now: Timestamp) throws(PollFailure) -> [UInt8] {
        guard rules.dedup.created != nil, let beginning = try beginning(request, now) else { return value.json }
        var writer = JSONWriter()
        writer.object {
            $0.member("mark", value.mark)
            $0.member("value", value.text)
            $0.member("began", beginning)
        }
        return writer.bytes
    }

    /// The mark from which a record counts as new; nil: all do.
    private func beginning(_ request: PollRequest, _ now: Timestamp) throws(PollFailure) -> Int64? {
        if let json = request.cursor { return (try? JSONDocument(json))?.root["began"]?.int64 }
        return try start(request, now: now)?.mark
    }

    /// A source that takes no bound shows what lies below it too. That was read before, and its dedup keys may be forgotten by
    /// now: it is left out here.
    func reread(_ page: PollPage, _ lower: CursorValue?) -> PollPage {
        guard !rules.isBoundedBelow, let lower, page.marks.contains(where: { $0 < lower.mark }) else { return page }
        var page = page
        page.records = zip(page.records, page.marks).compactMap { $1 < lower.mark ? nil : $0 }
        page.marks.removeAll { $0 < lower.mark }
        return page
    }

    /// Leaves out what was created before the trigger began and merely changed since.
    func newOnly(_ page: PollPage, _ request: PollRequest, _ now: Timestamp) throws(PollFailure) -> PollPage {
        guard let created = rules.dedup.created, let rule = rules.cursor, let beginning = try beginning(request, now) else { return page }
        let kept = page.records.map { record in
            record.bytes.withUnsafeBufferPointer { bytes in
                guard let range = created.find(in: bytes), case .mark(let mark) = rule.read(UnsafeBufferPointer(rebasing: bytes[range]))
                else { return true }
                return mark >= beginning
            }
        }
        if !kept.contains(false) { return page }
        var page = page
        page.records = zip(page.records, kept).compactMap { $1 ? $0 : nil }
        if !page.marks.isEmpty { page.marks = zip(page.marks, kept).compactMap { $1 ? $0 : nil } }
        return page
    }

    // MARK: Positions that the answer hands out

    /// Keeps the position for the next cycle, which the last page holds, or every one.
    func takeHandedOut(_ answer: PageAnswer, _ state: inout PageState, _ request: PollRequest) throws(PollFailure) {
        guard let rule = rules.cursor, rule.kind == .opaque, let place = rule.answer,
            let text = try text(at: place, in: answer, "position")?.text
        else { return }
        if rule.isURL {
            state.handedOut = try stored(text, request, "position")
        } else if WebURL.origin(text) != nil {
            throw PollFailure(
                .permanent,
                SluiceError(.connector, "the position at \(place) is a URL: say url = true in the cursor, in place of parameter"))
        } else {
            state.handedOut = text
        }
    }

    /// So often in a row a position may be refused before that counts as a mistake of the description.
    private static let restartsMax: Int64 = 3

    /// How often in a row a position was refused, up to the one that this cycle begins with.
    func restarts(_ request: PollRequest) -> (count: Int64, isOne: Bool) {
        guard let root = request.cursor.flatMap({ try? JSONDocument($0).root }) else { return (0, false) }
        return (root["mark"]?.int64 ?? 0, root["value"]?.string?.isEmpty == true)
    }

    /// A position that the source no longer knows is cleared, and everything is read again: dedup drops what was seen.
    func beginsAnew(_ reply: HTTPReply, _ request: PollRequest, _ state: PageState) throws(PollFailure) -> PollPage? {
        guard let rule = rules.cursor, rule.kind == .opaque, state.pages == 0, [400, 404, 410].contains(reply.status),
            try start(request, now: request.readBound) != nil
        else { return nil }
        let count = restarts(request).count + 1
        guard count <= Self.restartsMax else {
            throw PollFailure(
                .permanent,
                SluiceError(
                    .badCursor,
                    "the provider has refused \(count) positions in a row that it handed out itself (status \(reply.status)): check cursor.from, "
                        + "and where the position is sent back"
                ).with("status", String(reply.status)))
        }
        var warning = "the provider no longer knows the position that it handed out (status \(reply.status)); everything is read again"
        if rules.shape.tombstone != nil { warning = "gap: \(warning), and what was deleted in between is not told" }
        return PollPage(
            records: [], cursor: CursorValue(mark: count, text: "").json, pageState: PageState().json, more: true, warnings: [warning])
    }

    // MARK: The end of a cycle

    /// What a cycle may have missed, or will pay for.
    func endWarnings(_ answer: PageAnswer, _ state: PageState, _ request: PollRequest) throws(PollFailure) -> [String] {
        var warnings: [String] = []
        if state.isHeld {
            warnings.append("the list shifted faster than it could be read; the cursor stays, and the next cycle reads the same again")
        }
        if let rule = rules.cursor, rule.kind == .opaque, state.handedOut == nil {
            // Of a list that goes on elsewhere, too: then only its beginning would ever be read.
            if !answer.scan.records.isEmpty {
                throw PollFailure(
                    .permanent,
                    SluiceError(
                        .providerAnswer,
                        "a page has records, no position at \(rule.answer?.description ?? "") to go on from, and no next page: check cursor.from "
                            + "and pagination (a key that holds a point is written in braces: { \"@odata.nextLink\" })"))
            }
            warnings.append("the answer hands out no position at \(rule.answer?.description ?? ""); the next cycle reads the same again")
        }
        // A list of one page, newest first: what was pushed off it between two polls was never seen.
        if case .none = rules.pagination, let rule = rules.cursor, rule.order == .descending, !rules.isBoundedBelow,
            request.cursor != nil, let size = rules.pageSize?.value, answer.scan.records.count >= size, let lower = state.lower,
            let lowest = answer.scan.lowestMark, lowest > lower.mark
        {
            warnings.append(
                "gap: the list holds \(size) records only, and all of them are newer than the last poll: older ones may be missing")
        }
        return warnings
    }
}

extension Incremental {
    /// How far behind the server's clock the mark of an idle feed stays; nil: where its last record left it.
    var idleDistance: Span? {
        guard cursor?.unitsPerSecond != nil else { return nil }
        if partitions != nil { return min(.days(1), retention.map { Span(milliseconds: $0.milliseconds / 2) } ?? .days(1)) }
        return retention.map { Span(milliseconds: $0.milliseconds / 2) }
    }

    /// What a request for a page is made of, without its credentials.
    var requestTemplates: [Template] {
        [path] + query.map(\.value) + headers.map(\.value) + (shape.body?.templates ?? [])
    }

    /// Whether a template of the request speaks of the cursor.
    var mentionsCursor: Bool { requestTemplates.contains { $0.mentions("cursor") } }
}
