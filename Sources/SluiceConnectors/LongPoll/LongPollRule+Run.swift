import SluiceCore

extension LongPollRule {
    /// One page of the plain poll that connects: before the first held request and after each failure.
    public func poll(_ request: PollRequest, _ rules: Incremental, http: any HTTPSending) async throws -> PollPage {
        guard watchesIDs else { return try await rules.run(request, http: http) }
        var watch = try IDWatch(request)
        if request.pageState == nil, let epoch { try await ask(epoch, &watch, request, rules, http) }
        return try await page(&watch, request, rules, http)
    }

    /// One held request.
    public func longPoll(_ request: PollRequest, _ rules: Incremental, http: any HTTPSending) async throws -> PollPage {
        if watchesIDs { return try await watched(request, rules, http) }
        return try await rules.exactlyAfterCursor.run(request, http: HoldingHTTP(inner: http, rule: self))
    }

    @inline(never)
    private func watched(_ request: PollRequest, _ rules: Incremental, _ http: any HTTPSending) async throws -> PollPage {
        let holding = HoldingHTTP(inner: http, rule: self)
        var watch = try IDWatch(request)
        let page = try await page(&watch, request, rules, holding)
        guard page.records.isEmpty, page.cursor == nil, request.pageState == nil, let epoch else { return page }
        return try await askedWhether(page, still: watch.epoch, epoch, request, rules, http)
    }

    /// Nothing came. Perhaps because nothing will: a source that was restarted between two requests, so that no connection broke,
    /// has nothing to say about ids that it has not reached again.
    @inline(never)
    private func askedWhether(
        _ page: PollPage, still before: String?, _ epoch: EpochQuestion, _ request: PollRequest, _ rules: Incremental,
        _ http: any HTTPSending
    ) async throws -> PollPage {
        var asked = try IDWatch(request)
        try await ask(epoch, &asked, request, rules, http)
        guard asked.epoch != before else { return page }
        return asked.read(PollPage(records: [], more: false), consecutive: false, now: request.readBound)
    }

    @inline(never)
    private func page(
        _ watch: inout IDWatch, _ request: PollRequest, _ rules: Incremental, _ http: any HTTPSending
    ) async throws -> PollPage {
        var inner = request
        (inner.cursor, inner.pageState) = (watch.at, watch.pageState)
        let page = try await rules.exactlyAfterCursor.run(inner, http: http)
        return watch.read(page, consecutive: areIDsConsecutive, now: request.readBound)
    }

    @inline(never)
    private func ask(
        _ question: EpochQuestion, _ watch: inout IDWatch, _ request: PollRequest, _ rules: Incremental, _ http: any HTTPSending
    ) async throws {
        var asking = rules
        if let path = question.path { asking.path = path }
        (asking.query, asking.cursor, asking.pageSize, asking.pagination) = (question.query, nil, nil, .none)
        var inner = request
        (inner.cursor, inner.pageState) = (nil, nil)
        let reply = try await http.send(try IncrementalPoll(asking).nextRequest(inner))
        guard reply.status == 200 else {
            throw PollFailure(
                .transient,
                SluiceError(.providerStatus, "the provider does not say whether its ids still count on (long_poll.epoch)")
                    .with("status", String(reply.status)))
        }
        let root = try reply.json().root
        switch question.answer {
        case .token:
            guard let token = question.field.find(in: root)?.text, !token.isEmpty, token.utf8.count <= 200 else {
                throw PollFailure(
                    .permanent, SluiceError(.providerAnswer, "the answer to long_poll.epoch has no text at \"\(question.field)\""))
            }
            watch.heard(token: token)
        case .newestID:
            let list = rules.records.find(in: root)?.elements ?? root.elements ?? []
            watch.heard(newest: list.last.flatMap { question.field.find(in: $0)?.int64 }, now: request.readBound)
        }
    }
}

/// Adds the wish to be held to each request.
private struct HoldingHTTP: HTTPSending {
    let inner: any HTTPSending
    let rule: LongPollRule

    func send(_ request: HTTPRequestPlan) async throws -> HTTPReply {
        var request = request
        request.holdSpan = rule.hold
        if let parameter = rule.parameter {
            let value = rule.countsMilliseconds ? rule.hold.milliseconds : rule.hold.milliseconds / 1000
            request.url = WebURL.setting(parameter, to: String(value), in: request.url)
        }
        return try await inner.send(request)
    }
}

extension WebURL {
    /// The URL with this parameter, and no other of its name.
    static func setting(_ name: String, to value: String, in url: String) -> String {
        let halves = url.split(separator: "?", maxSplits: 1, omittingEmptySubsequences: false)
        let pair = encode(name) + "=" + encode(value)
        let others = (halves.count > 1 ? halves[1] : "").split(separator: "&").filter { $0.prefix { $0 != "=" } != encode(name)[...] }
        return halves[0] + "?" + (others.map(String.init) + [pair]).joined(separator: "&")
    }
}
