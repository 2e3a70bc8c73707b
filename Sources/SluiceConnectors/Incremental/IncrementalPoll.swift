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

    public init(_ incremental: Incremental) { rules = incremental }

    /// The request for the page that `request` stands at. Throws a permanent failure where the connection or the input lacks
    /// something, and `badCursor` for a cursor that cannot be read.
    public func nextRequest(_ request: PollRequest) throws(PollFailure) -> HTTPRequestPlan {
        let state = try pageState(of: request)
        var plan = HTTPRequestPlan(method: rules.method, url: try endpoint(request))
        if case .url(let url) = state.position {
            plan.url = try WebURL(plan.url).sameOrigin(url)
        } else {
            let parameters = try parameters(request, state)
            let encoded = parameters.map { WebURL.encode($0.0) + "=" + WebURL.encode($0.1) }
            if !encoded.isEmpty { plan.url += "?" + encoded.joined(separator: "&") }
        }
        if case .query(let name, let value) = rules.authentication {
            plan.url = WebURL.setting(name, try value.text(request, for: "authentication"), in: plan.url)
        }
        plan.headers = try headers(request)
        if let body = rules.shape.body { try add(body, to: &plan, request, state) }
        return plan
    }

    /// Puts a body into a POST, with the words that say where the cycle stands.
    private func add(_ body: RequestBody, to plan: inout HTTPRequestPlan, _ request: PollRequest, _ state: PageState) throws(PollFailure) {
        var request = request
        func word(_ text: String) -> TemplateScope.Word {
            TemplateScope.Word(text: text, isNumber: rules.cursor?.kind != .rfc3339 && JSONNumber.isOne(text))
        }
        if let lower = try lower(request, state) { request.scope["cursor"] = word(lower.text) }
        if let upper = request.scope.upper { request.scope["upper"] = word(upper) }
        let (bytes, type) = try body.render(request)
        plan.body = bytes
        if plan.headers.first("Content-Type") == nil { plan.headers.append(HTTPField("Content-Type", type)) }
    }

    func pageState(of request: PollRequest) throws(PollFailure) -> PageState {
        guard let json = request.pageState else { return PageState() }
        return try PageState(json: json)
    }

    /// Where this cycle begins: the committed cursor, else what the input says, else the default by `now`.
    func start(_ request: PollRequest, now: Timestamp) throws(PollFailure) -> CursorValue? {
        guard let cursor = rules.cursor else { return nil }
        if let json = request.cursor { return try CursorValue(json: json, rule: cursor) }
        if let text = try rules.since?.optionalText(request, for: "since") {
            guard let value = cursor.value(ofText: text) else {
                let form = cursor.unitsPerSecond == nil ? "a number" : "a time such as 2026-01-31T09:00:00Z"
                throw PollFailure(.permanent, SluiceError(.invalid, "since is \(text.debugDescription), but must be \(form)"))
            }
            return value
        }
        guard let seconds = rules.defaultSinceSecondsAgo, let mark = cursor.mark(of: now - .seconds(seconds)) else { return nil }
        return CursorValue(mark: mark, text: cursor.text(of: mark))
    }

    /// The start by the clock that was passed in, some seconds early. A default start is only a guess until the server's
    /// Date has confirmed it: see `page`.
    func guessedStart(_ request: PollRequest) throws(PollFailure) -> CursorValue? {
        try start(request, now: request.readBound - .seconds(5))
    }

    /// The lower bound of the open cycle.
    func lower(_ request: PollRequest, _ state: PageState) throws(PollFailure) -> CursorValue? {
        if let lower = state.lower { return lower }
        guard let start = try guessedStart(request), let rule = rules.cursor else { return nil }
        return rule.lowerBound(from: start)
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

    private func parameters(_ request: PollRequest, _ state: PageState) throws(PollFailure) -> [(String, String)] {
        var result: [(String, String)] = []
        for parameter in rules.query {
            if let text = try parameter.value.optionalText(request, for: "the parameter \(parameter.name)") {
                result.append((parameter.name, text))
            }
        }
        if let size = rules.pageSize { result.append((size.parameter, String(min(size.value, request.recordsMax)))) }
        if let parameter = rules.cursor?.parameter, let lower = try lower(request, state) { result.append((parameter, lower.text)) }
        if let upper = request.scope.upper, let name = rules.cursor?.upperParameter { result.append((name, upper)) }
        switch (state.position, rules.pagination) {
        case (.token(let token), .token(_, let parameter, _)): result.append((parameter, token))
        case (.after(let id), .keyset(_, let parameter, _)):
            result.append((parameter, id))
            if request.scope.upper == nil, let upper = upper(state) { result.append(upper) }
        default: break
        }
        return result
    }

    /// The frozen upper bound of a keyset cycle's further pages.
    private func upper(_ state: PageState) -> (String, String)? {
        guard let cursor = rules.cursor, let name = cursor.upperParameter, let now = state.firstNow, let mark = cursor.mark(of: now)
        else { return nil }
        return (name, cursor.text(of: mark))
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
        case .none: break
        case .basic(let user, let password):
            let pair = try user.text(request, for: "basic authentication") + ":" + password.text(request, for: "basic authentication")
            result.append(HTTPField("Authorization", "Basic " + Base64.encode(pair.utf8)))
        case .bearer(let token):
            result.append(HTTPField("Authorization", "Bearer " + (try token.text(request, for: "bearer authentication"))))
        case .header(let name, let value): result.set(name, try value.text(request, for: "authentication"))
        case .query: break
        }
        for field in result where field.value.utf8.contains(where: { $0 < 0x20 && $0 != 0x09 || $0 == 0x7F }) {
            throw PollFailure(.permanent, SluiceError(.invalid, "the header \(field.name) would hold a control character: check its field"))
        }
        return result
    }
}
