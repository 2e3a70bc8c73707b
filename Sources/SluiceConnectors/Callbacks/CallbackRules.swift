import SluiceCore

/// A status poll as data: where to ask, and what in the answer means that the operation is over.
///
/// ```
/// { "path": "/v1/payments/{input.payment}",
///   "settled": {"path": "status", "is": ["paid", "refunded"]},
///   "failed": {"path": "status", "is": ["declined", "canceled"]},
///   "result": "payment", "retry_after": "retry_in" }
/// ```
/// `base_url`: that of the connection unless given. `result`: the whole answer unless given. An answer that is neither settled nor
/// failed is pending. `retry_after`: where the answer holds the seconds to wait.
public struct CallbackRules: Sendable {
    struct Condition: Sendable {
        var path: JSONPath
        var values: [String]

        func holds(_ answer: JSONView) -> Bool {
            guard let view = path.find(in: answer), let text = view.text ?? view.bool.map({ $0 ? "true" : "false" }) else { return false }
            return values.contains(text)
        }
    }

    public let baseURL: Template?
    let method: String
    let path: Template
    let query: [Incremental.NamedTemplate]
    let headers: [Incremental.NamedTemplate]
    let settled: Condition
    let failed: Condition?
    let result: JSONPath
    let retryAfter: JSONPath?

    /// Throws an error that names the key and what mends it; a key that means nothing is refused.
    public init(json: JSONDocument) throws(SluiceError) {
        var reader = try RuleReader(json.root, at: "status")
        baseURL = try reader.optionalTemplate("base_url")
        method = try reader.choice("method", ["GET", "POST"]) ?? "GET"
        path = try reader.template("path")
        query = try reader.templates("query")
        headers = try reader.templates("headers")
        for header in headers where !HeaderText.isName(header.name) {
            throw reader.fault("headers", "has \(header.name.debugDescription), which cannot be sent: remove it")
        }
        settled = try CallbackRules.condition(try reader.nested("settled"))
        failed = try reader.optionalNested("failed").map { nested throws(SluiceError) in try CallbackRules.condition(nested) }
        result = try reader.optionalPath("result") ?? JSONPath([])
        retryAfter = try reader.optionalPath("retry_after")
        try reader.finish()
    }

    private static func condition(_ nested: RuleReader) throws(SluiceError) -> Condition {
        var reader = nested
        let path = try reader.path("path")
        let view = try reader.required("is", reader.value("is"))
        let values = (view.elements ?? [view]).map { $0.text ?? $0.bool.map { $0 ? "true" : "false" } }
        guard !values.isEmpty, !values.contains(nil) else { throw reader.fault("is", "must be a value, or a list of values") }
        try reader.finish()
        return Condition(path: path, values: values.compactMap(\.self))
    }

    /// `base`: where to ask if the rules do not say it.
    public func status(_ request: CallbackRequest, base: Template?, http: any HTTPSending) async throws -> CallbackAnswer {
        let reply = try await http.send(try plan(request, base: base))
        // An operation may be known a moment after its callback was made: no failure, so that it is asked again when its pauses say.
        if reply.status == 404 { return .pending() }
        guard (200..<300).contains(reply.status) else {
            throw PollFailure(
                .permanent,
                SluiceError(.providerStatus, "the provider answers the status poll with \(reply.status)")
                    .with("status", String(reply.status)))
        }
        let answer = try reply.json().root
        let hasFailed = failed?.holds(answer) ?? false
        if hasFailed || settled.holds(answer) {
            guard let result = result.find(in: answer) else {
                throw PollFailure(.transient, SluiceError(.providerAnswer, "the provider's answer has no result at \(self.result)"))
            }
            return .over(result: Array(result.bytes), failed: hasFailed)
        }
        guard settled.path.find(in: answer) != nil || failed?.path.find(in: answer) != nil else {
            throw PollFailure(.transient, SluiceError(.providerAnswer, "the provider's answer has no status at \(settled.path)"))
        }
        let seconds = retryAfter.flatMap { $0.find(in: answer) }.flatMap { $0.double ?? $0.string.flatMap { Double($0) } }
        guard let seconds, seconds > 0, seconds < 1e8 else { return .pending() }
        return .pending(retryAfter: Span(milliseconds: Int64(seconds * 1000)))
    }

    private func plan(_ request: CallbackRequest, base: Template?) throws -> HTTPRequestPlan {
        let poll = request.asPoll
        guard let base = baseURL ?? base else {
            throw SluiceError(.connector, "a status poll needs base_url, in status or in connection: add it")
        }
        var start = try base.text(poll, for: "the base URL")
        while start.hasSuffix("/") { start.removeLast() }
        guard WebURL.isBase(start) else {
            throw PollFailure(
                .permanent, SluiceError(.invalid, "the base URL must look like https://api.example.com, without user, query or fragment"))
        }
        let path = try path.text(poll, for: "the path", encode: WebURL.encode)
        var plan = HTTPRequestPlan(method: method, url: start + (path.hasPrefix("/") ? path : "/" + path))
        plan.headers.append(HTTPField("Accept", "application/json"))
        for header in headers {
            guard let text = try header.value.optionalText(poll, for: "the header \(header.name)") else { continue }
            plan.headers.set(header.name, try HeaderText.checked(text, header.name))
        }
        let pairs = try query.compactMap { part -> String? in
            guard let text = try part.value.optionalText(poll, for: "the parameter \(part.name)") else { return nil }
            return WebURL.encode(part.name) + "=" + WebURL.encode(text)
        }
        if !pairs.isEmpty { plan.url += (plan.url.contains("?") ? "&" : "?") + pairs.joined(separator: "&") }
        return plan
    }
}

extension ConnectionAccess {
    /// Credentials may go where described status polls go.
    public mutating func addBaseURLs(of rules: [CallbackRules]) {
        if authorization == nil { return }
        baseURLs += rules.compactMap(\.baseURL).filter { !$0.usesInput }
    }
}
