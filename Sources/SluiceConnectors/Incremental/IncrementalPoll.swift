import SluiceCore

/// One poll of an `Incremental` as two pure steps: `nextRequest`, send it, `page`. Nothing else is kept between pages than
/// what the page returns.
///
/// ```
/// cursor, no page state ──nextRequest──▶ first page ──page──▶ page state ──▶ … ──▶ last page: the cursor moves, no page state
///                                                       └─ token expired: pageStateExpired, begin again from the cursor
/// ```
/// The cursor moves past a record only when everything below it was read, never past the server's clock, never back.
public struct IncrementalPoll: Sendable {
    let rules: Incremental
    /// Where a feed without a cursor of its own begins, instead of where the description says: a partition that was found later.
    var origin: CursorValue?

    public init(_ incremental: Incremental) { rules = incremental }

    /// The request for the page that `request` stands at. Throws a permanent failure where the connection or the input lacks
    /// something, and `badCursor` for a cursor that cannot be read.
    @inline(never)
    public func nextRequest(_ request: PollRequest) throws(PollFailure) -> HTTPRequestPlan {
        let state = try pageState(of: request)
        var request = request
        let lower = try lower(request, state)
        if let lower { request.scope["cursor"] = word(lower.text) }
        if request.scope.upper == nil { request.scope.upper = windowEnd(request) }
        if let upper = request.scope.upper { request.scope["upper"] = word(upper) }
        var plan = HTTPRequestPlan(method: rules.method, url: try endpoint(request))
        plan.headers = try headers(request)
        let parameters = position(state, request)
        if case .url(let url) = state.position {
            plan.url = try WebURL(plan.url).sameOrigin(url)
        } else if rules.cursor?.isURL == true, state.position == .first, let lower {
            plan.url = try WebURL(plan.url).sameOrigin(lower.text, "position")
        } else {
            var pairs = try query(request)
            if case .query(let name)? = rules.pageSize?.parameter, let size = sizeAsked(request) { pairs.append((name, String(size))) }
            if let parameter = rules.cursor?.parameter, let lower { pairs.append((parameter, lower.text)) }
            if let upper = request.scope.upper, let name = rules.cursor?.upperParameter { pairs.append((name, upper)) }
            for case (.query(let name), let value) in parameters { pairs.append((name, value.text)) }
            let encoded = pairs.map { WebURL.encode($0.0) + "=" + WebURL.encode($0.1) }
            if !encoded.isEmpty { plan.url += "?" + encoded.joined(separator: "&") }
        }
        if case .query(let name, let value) = rules.authentication {
            plan.url = WebURL.setting(name, try value.text(request, for: "authentication"), in: plan.url)
        }
        if let body = rules.shape.body {
            let (bytes, type) = try body.render(request)
            plan.body = bytes
            if plan.headers.first("Content-Type") == nil { plan.headers.append(HTTPField("Content-Type", type)) }
        }
        for (place, value) in parameters { try plan.place(value, at: place) }
        return plan
    }

    /// A bound as templates name it: a number where it is one, except where times are text.
    private func word(_ text: String) -> TemplateScope.Word {
        let isText = rules.cursor.map { $0.kind == .rfc3339 || !$0.kind.hasMarks || $0.pattern != nil } ?? true
        return TemplateScope.Word(text: text, isNumber: !isText && JSONNumber.isOne(text))
    }

    func pageState(of request: PollRequest) throws(PollFailure) -> PageState {
        guard let json = request.pageState else { return PageState() }
        return try PageState(json: json)
    }

    /// Where this cycle begins: the committed cursor, else what the input says, else the default by `now`.
    func start(_ request: PollRequest, now: Timestamp) throws(PollFailure) -> CursorValue? {
        guard let cursor = rules.cursor else { return nil }
        if let json = request.cursor {
            let value = try CursorValue(json: json, rule: cursor)
            // A position that the source handed out and no longer knows was cleared.
            return cursor.kind == .opaque && value.text.isEmpty ? nil : value
        }
        if let origin { return origin }
        if let text = try rules.since?.optionalText(request, for: "since") {
            guard let value = cursor.value(ofText: text) else {
                let form = cursor.unitsPerSecond == nil ? "a number" : "a time such as 2026-01-31T09:00:00Z"
                throw PollFailure(.permanent, SluiceError(.invalid, "since is \(text.debugDescription), but must be \(form)"))
            }
            return value
        }
        guard let seconds = rules.defaultSinceSecondsAgo, let mark = cursor.mark(of: now - .seconds(seconds)) else { return nil }
        return cursor.value(of: mark)
    }

    /// The start by the clock that was passed in, some seconds early. A default start is only a guess until the server's
    /// Date has confirmed it: see `page`.
    func guessedStart(_ request: PollRequest) throws(PollFailure) -> CursorValue? {
        try start(request, now: request.readBound - .seconds(5))
    }

    /// The lower bound of the open cycle.
    func lower(_ request: PollRequest, _ state: PageState) throws(PollFailure) -> CursorValue? {
        // Later pages are asked for as the first was, also if that had no bound: the cursor may have moved since.
        if state.lower != nil || state.pages > 0 { return state.lower }
        guard let start = try guessedStart(request), let rule = rules.cursor else { return nil }
        let lower = rule.lowerBound(from: start)
        // A lookback that was made longer reaches below what is forgotten, until the mark has moved on as far.
        guard let kept = request.forgottenBelow, request.window == nil, rule.kind.hasMarks, lower.mark < kept,
            kept <= start.mark
        else { return lower }
        return rule.lowerBound(from: start, notBelow: kept)
    }

    private func endpoint(_ request: PollRequest) throws(PollFailure) -> String {
        var base = try rules.baseURL.text(request, for: "the URL")
        while base.hasSuffix("/") { base.removeLast() }
        let path = try rules.path.text(request, for: "the path") { WebURL.encode($0) }
        guard WebURL.isBase(base) else {
            throw PollFailure(
                .permanent,
                SluiceError(
                    .invalid,
                    "the base URL must look like https://api.example.com, without user, query or fragment"))
        }
        if path.split(separator: "/").contains(where: { $0 == "." || $0 == ".." }) {
            throw PollFailure(
                .permanent, SluiceError(.invalid, "a value in the path is . or .., which would lead elsewhere: correct the field"))
        }
        return path.isEmpty || path.hasPrefix("/") ? base + path : base + "/" + path
    }

    private func query(_ request: PollRequest) throws(PollFailure) -> [(String, String)] {
        var result: [(String, String)] = []
        for parameter in rules.query {
            if let text = try parameter.value.optionalText(request, for: "the parameter \(parameter.name)") {
                result.append((parameter.name, text))
            }
        }
        return result
    }

    private func headers(_ request: PollRequest) throws(PollFailure) -> [HTTPField] {
        var result: [HTTPField] = []
        for header in rules.headers {
            if let text = try header.value.optionalText(request, for: "the header \(header.name)") {
                result.append(HTTPField(header.name, text))
            }
        }
        if result.first("Accept") == nil { result.append(HTTPField("Accept", "application/json")) }
        switch rules.authentication {
        case .query: break
        case .header(let name, let value): result.set(name, try value.text(request, for: "authentication"))
        case .none: break
        case .basic(let user, let password):
            let pair = try user.text(request, for: "basic authentication") + ":" + password.text(request, for: "basic authentication")
            result.append(HTTPField("Authorization", "Basic " + Base64.encode(pair.utf8)))
        case .bearer(let token):
            result.append(HTTPField("Authorization", "Bearer " + (try token.text(request, for: "bearer authentication"))))
        }
        try HeaderText.check(result)
        return result
    }
}
