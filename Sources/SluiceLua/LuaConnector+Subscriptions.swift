import SluiceConnectors
import SluiceCore

/// Dynamic webhooks: from the description where there is one (`subscription = { … }`), otherwise by the connector's functions.
extension LuaConnector {
    /// `webhook_subscribe(webhook_url, connection, input, secret)` → `{ output, expires_at | expires_in, secret }`.
    public func subscribe(_ request: SubscriptionRequest, http: any HTTPSending) async throws -> SubscriptionAnswer {
        let trigger = try trigger(request.triggerType)
        if let rules = trigger.subscription { return try await rules.subscribe(request, http: http) }
        let function = try required(trigger.webhookSubscribe, "webhook_subscribe", trigger)
        let secret = try Self.document { $0.value(request.secret) }
        guard let answer = try await call(function, [try url(request), request.connection, request.input, secret], request, http) else {
            throw named(function, "returned nothing; return { output = ..., expires_at = ... }")
        }
        return try read(answer, function, request, allows: ["output", "expires_at", "expires_in", "secret"])
    }

    /// `webhook_refresh(webhook_url, connection, input, output)` → `{ output, expires_at | expires_in }`, or `{ status = "missing" }`.
    public func refreshSubscription(_ request: SubscriptionRequest, http: any HTTPSending) async throws -> SubscriptionAnswer {
        let trigger = try trigger(request.triggerType)
        if let rules = trigger.subscription { return try await rules.refreshSubscription(request, http: http) }
        let function = try required(trigger.webhookRefresh, "webhook_refresh", trigger)
        guard let answer = try await call(function, try arguments(request), request, http) else {
            throw named(function, "returned nothing; return { expires_at = ... } or { status = \"missing\" }")
        }
        return try read(answer, function, request, allows: ["status", "output", "expires_at", "expires_in"])
    }

    /// `webhook_check(webhook_url, connection, input, output)` → `{ status, output, expires_at, found = { { id, url, output } } }`.
    public func checkSubscription(_ request: SubscriptionRequest, http: any HTTPSending) async throws -> SubscriptionAnswer {
        let trigger = try trigger(request.triggerType)
        if let rules = trigger.subscription { return try await rules.checkSubscription(request, http: http) }
        let function = try required(trigger.webhookCheck, "webhook_check", trigger)
        guard let answer = try await call(function, try arguments(request), request, http), answer.root["status"] != nil else {
            throw named(
                function, "returned no status; return { status = \"active\" }, or \"missing\", \"disabled\", \"drifted\", \"unknown\"")
        }
        return try read(answer, function, request, allows: ["status", "output", "expires_at", "expires_in", "found"])
    }

    /// `webhook_unsubscribe(webhook_url, connection, input, output)`; what it returns does not matter.
    public func unsubscribe(_ request: SubscriptionRequest, http: any HTTPSending) async throws {
        let trigger = try trigger(request.triggerType)
        if let rules = trigger.subscription { return try await rules.unsubscribe(request, http: http) }
        let function = try required(trigger.webhookUnsubscribe, "webhook_unsubscribe", trigger)
        _ = try await call(function, try arguments(request), request, http)
    }

    // MARK: Calls

    private func required(
        _ function: LuaFunction?, _ name: String, _ trigger: LuaDefinition.Kept<LuaDefinition.Trigger>
    ) throws -> LuaFunction {
        guard let function else { throw SluiceError(.connector, "\(path): triggers.\(trigger.type.name) has no \(name)") }
        return function
    }

    func named(_ function: LuaFunction, _ problem: String) -> SluiceError {
        SluiceError(.connector, "\(LuaState.chunkName):\(function.line): \(function.name) \(problem)").with("connector", lua.name)
    }

    private static func document(_ body: (inout JSONWriter) -> Void) throws -> JSONDocument {
        var writer = JSONWriter()
        body(&writer)
        return try JSONDocument(writer.bytes)
    }

    private func url(_ request: SubscriptionRequest) throws -> JSONDocument { try Self.document { $0.value(request.webhookURL) } }

    private func arguments(_ request: SubscriptionRequest) throws -> [JSONDocument?] {
        [try url(request), request.connection, request.input, try request.output.map { try JSONDocument($0) }]
    }

    /// The same coroutine, limits and slots as a poll; nil where the function returned nil.
    private func call(
        _ function: LuaFunction, _ arguments: [JSONDocument?], _ request: SubscriptionRequest, _ http: any HTTPSending
    ) async throws -> JSONDocument? {
        try await call(function, arguments, connection: request.connection, http)
    }

    /// For any function that may send requests and returns one value.
    func call(
        _ function: LuaFunction, _ arguments: [JSONDocument?], connection: JSONDocument, _ http: any HTTPSending
    ) async throws -> JSONDocument? {
        try await slots.acquire()
        defer { slots.release() }
        let state = try pool.take()
        defer { pool.giveBack(state) }
        do {
            var step = try state.start(function, arguments: arguments, limits)
            for _ in 0..<limits.pollRequestsMax {
                guard case .request(let plan) = step else { break }
                try Task.checkCancellation()
                step = try state.resume(function, try await http.send(plan))
            }
            guard case .done(let result) = step else {
                throw state.error("sent more than \(limits.pollRequestsMax) requests", function)
            }
            return try result.next.map { try JSONDocument($0) }
        } catch {
            throw redacted(error, connection)
        }
    }

    // MARK: Answers

    private func read(
        _ document: JSONDocument, _ function: LuaFunction, _ request: SubscriptionRequest, allows: Set<String>
    ) throws -> SubscriptionAnswer {
        let root = document.root
        // An empty table can be either.
        guard let members = root.members ?? (root.elements?.isEmpty == true ? [] : nil) else {
            throw named(function, "must return a table")
        }
        for (key, _) in members where !allows.contains(key) {
            throw named(function, "returned an unknown key '\(key)'; known are \(allows.sorted().joined(separator: ", "))")
        }
        var answer = SubscriptionAnswer()
        if let status = root["status"] {
            guard let known = status.string.flatMap(SubscriptionAnswer.Status.init) else {
                let words = SubscriptionAnswer.Status.allCases.map(\.rawValue).joined(separator: ", ")
                throw named(function, "returned a status that is none of \(words)")
            }
            answer.status = known
        }
        if let output = root["output"], !output.isNull { answer.output = Array(output.bytes) }
        answer.secret = root["secret"]?.text
        if let end = root["expires_at"], !end.isNull {
            guard let time = SubscriptionTime.read(end) else {
                throw named(function, "returned expires_at that is neither seconds since 1970 nor RFC 3339")
            }
            answer.expiresAt = time
        } else if let seconds = root["expires_in"]?.double {
            guard seconds > 0, seconds < 1e10 else { throw named(function, "returned expires_in that is not a number of seconds") }
            answer.expiresAt = request.now + .milliseconds(Int64(seconds * 1000))
        }
        if let found = root["found"], !found.isNull { answer.others = try others(found, function) }
        return answer
    }

    private func others(_ found: JSONView, _ function: LuaFunction) throws -> [SubscriptionAnswer.Other] {
        let elements = found.elements ?? (found.members?.isEmpty == true ? [] : nil)
        guard let elements, elements.count <= SubscriptionAnswer.othersMax else {
            throw named(function, "must return found as a list of at most \(SubscriptionAnswer.othersMax)")
        }
        return try elements.map { element in
            guard let id = element["id"], let text = id.text, let url = element["url"]?.string else {
                throw named(function, "must return found as a list of { id = ..., url = ..., output = ... }")
            }
            let fallback = try Self.document { writer in
                writer.object { writer in
                    writer.key("id")
                    writer.raw(id.bytes)
                }
            }
            return .init(id: text, url: url, output: Array((element["output"] ?? fallback.root).bytes))
        }
    }
}
