import SluiceConnectors
import SluiceCore

extension LuaConnector {
    /// `sign(request, connection)`: the way out where `sign = { hmac = … }` cannot say how a provider wants its requests signed.
    /// It is given `{ method, url, path, query, headers, body, timestamp }` and returns headers by their names, or nil.
    func signing(_ http: any HTTPSending, _ request: PollRequest) -> any HTTPSending {
        guard let function = lua.sign else { return http }
        return LuaSigningHTTP(inner: http, connector: self, function: function, connection: request.connection, now: request.now)
    }

    fileprivate func sign(
        _ plan: inout HTTPRequestPlan, _ function: LuaFunction, connection: JSONDocument, now: Timestamp
    ) throws {
        var own = limits
        (own.pollInstructionsMax, own.pollMillisecondsMax) = (limits.callInstructionsMax, limits.callMillisecondsMax)
        let state = try pool.take()
        defer { pool.giveBack(state) }
        do {
            let step = try state.start(function, arguments: [try LuaConnector.description(of: plan, now), connection], own)
            guard case .done(let result) = step else { throw state.error("cannot send requests", function) }
            guard let json = result.next else { return }
            let root = try JSONDocument(json).root
            if root.elements?.isEmpty == true { return }
            guard let members = root.members else { throw state.error("must return headers, as in { [\"X-Signature\"] = code }", function) }
            for (name, value) in members {
                guard let text = value.text, LuaRequestPlan.isHeader(name, text) else {
                    throw state.error(
                        "returned a header '\(name)' that cannot be sent: its value must be a string without line ends", function)
                }
                plan.headers.removeAll { ASCII.equalIgnoringCase($0.name, name) }
                plan.headers.append(HTTPField(name, text))
            }
        } catch {
            throw redacted(error, connection)
        }
    }

    private static func description(of plan: HTTPRequestPlan, _ now: Timestamp) throws(JSONError) -> JSONDocument {
        let parts = HTTPRequestPlan.parts(ofURL: plan.url)
        var writer = JSONWriter()
        writer.object { writer in
            writer.member("method", plan.method)
            writer.member("url", plan.url)
            writer.member("host", parts.host)
            writer.member("path", parts.path)
            writer.member("query", parts.query)
            writer.key("headers")
            writer.object { writer in for field in plan.headers { writer.member(field.name, field.value) } }
            writer.member("body", String(decoding: plan.body, as: UTF8.self))
            writer.member("timestamp", now.seconds)
        }
        return try JSONDocument(writer.bytes)
    }
}

/// Sends each request with the headers that the connector's `sign` gives it.
private struct LuaSigningHTTP: HTTPSending {
    let inner: any HTTPSending
    let connector: LuaConnector
    let function: LuaFunction
    let connection: JSONDocument
    let now: Timestamp

    func send(_ request: HTTPRequestPlan) async throws -> HTTPReply {
        var plan = request
        try connector.sign(&plan, function, connection: connection, now: now)
        return try await inner.send(plan)
    }
}
