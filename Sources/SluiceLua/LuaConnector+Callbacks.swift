import SluiceConnectors
import SluiceCore

extension LuaConnector {
    /// `status(connection, input)` → `{ settled = true, result = …, failed = … }`, or `{ settled = false, retry_after = … }`. From
    /// the description where there is one (`status = { … }`).
    public func callbackStatus(_ request: CallbackRequest, http: any HTTPSending) async throws -> CallbackAnswer {
        guard let callback = lua.callbacks.first(where: { $0.type.name == request.type }) else {
            throw SluiceError(.notFound, "the connector \(lua.name) has no callback type `\(request.type)`").with("connector", lua.name)
        }
        if let rules = callback.rules {
            return try await rules.status(request, base: lua.access.baseURLs.first, http: signing(http, request.asPoll))
        }
        guard let function = callback.status else {
            throw SluiceError(.connector, "\(path): callbacks.\(request.type) has no status").with("connector", lua.name)
        }
        let answer = try await call(function, [request.connection, request.input], connection: request.connection, http)
        do { return try read(answer, function) } catch { throw redacted(error, request.connection) }
    }

    private func read(_ answer: JSONDocument?, _ function: LuaFunction) throws -> CallbackAnswer {
        let known = ["settled", "failed", "result", "retry_after"]
        guard let root = answer?.root, let members = root.members else {
            throw named(function, "must return a table, such as { settled = false } or { settled = true, result = answer.json }")
        }
        for (key, _) in members where !known.contains(key) {
            throw named(function, "returned an unknown key '\(key)'; known are \(known.joined(separator: ", "))")
        }
        guard let settled = root["settled"]?.bool, let failed = (root["failed"].map { $0.bool } ?? false) else {
            throw named(function, "must return settled = true or settled = false, and failed, if at all, as true or false")
        }
        if settled || failed {
            guard let result = root["result"], !result.isNull else {
                throw named(function, "returned settled = true without a result; return { settled = true, result = answer.json }")
            }
            return .over(result: Array(result.bytes), failed: failed)
        }
        guard let wait = root["retry_after"], !wait.isNull else { return .pending() }
        guard let seconds = wait.double, seconds > 0, seconds < 1e8 else {
            throw named(function, "returned retry_after that is not a number of seconds")
        }
        return .pending(retryAfter: Span(milliseconds: Int64(seconds * 1000)))
    }
}
