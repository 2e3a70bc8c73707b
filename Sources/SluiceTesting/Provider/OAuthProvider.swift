import HTTPTypes
import Hummingbird
import Logging
import NIOCore
import SluiceCore
import Synchronization

/// A stand-in for a provider with OAuth 2: `POST /token` gives access tokens and rotates refresh tokens, `GET /items?after=N`
/// lists numbered items two at a time and `GET /me` says who asks, both for a valid access token only. It listens on
/// 127.0.0.1 and keeps the time that it is given.
public final class OAuthProvider: Sendable {
    public struct Settings: Sendable {
        /// Each refresh gives a new refresh token and revokes the one that was used.
        public var rotates = true
        /// A revoked refresh token is taken for so long after its first use; nil: never again.
        public var grace: Span?
        /// An access token holds for so long.
        public var lifetime = Span.hours(1)
        public var clientID = "client"
        public var clientSecret = "client-secret-canary"
        public init() {}
    }

    /// What the token endpoint does instead of what it should.
    public enum Fault: Sendable {
        case status(Int, body: String = "{}", headers: [String: String] = [:])
        /// The tokens are changed, and nobody hears of it.
        case loseAnswer
    }

    private struct State {
        var settings: Settings
        var number = 0
        /// Refresh tokens and when each was first used.
        var refreshTokens: [String: Timestamp?] = [:]
        var accessTokens: [String: Timestamp] = [:]
        var faults: [Fault] = []
        var tokenFault: Fault?
        var forms: [[String: String]] = []
        var granted = 0
        var apiTokens: [String] = []
        var refusedCount = 0
        var itemCount = 0
        var apiHeaders: [String: String] = [:]
        var port = 0
    }

    private let clock: any TimeSource
    private let state: Mutex<State>

    public init(clock: any TimeSource, settings: Settings = Settings()) {
        self.clock = clock
        state = Mutex(State(settings: settings))
    }

    // MARK: What a test does and asks

    public var baseURL: String { "http://127.0.0.1:\(state.withLock { $0.port })" }
    /// The members of each token request's form, and its header under `authorization`.
    public var forms: [[String: String]] { state.withLock { $0.forms } }
    /// Token requests that were granted.
    public var granted: Int { state.withLock { $0.granted } }
    /// The access tokens of API requests that were answered, in their order.
    public var apiTokens: [String] { state.withLock { $0.apiTokens } }
    /// API requests that were refused with 401.
    public var refusedCount: Int { state.withLock { $0.refusedCount } }
    /// The dedup keys of all items.
    public var keys: [String] { (0..<state.withLock { $0.itemCount }).map { "i\($0 + 1)" } }

    public func add(_ items: Int) { state.withLock { $0.itemCount += items } }
    /// What somebody who authorized in a browser holds.
    public func authorize() -> String {
        state.withLock { state in
            state.number += 1
            let token = "refresh-\(state.number)-canary"
            state.refreshTokens[token] = .some(nil)
            return token
        }
    }
    public func revokeRefreshTokens() { state.withLock { $0.refreshTokens = [:] } }
    public func revokeAccessTokens() { state.withLock { $0.accessTokens = [:] } }
    /// For the next token requests, one each.
    public func fail(_ faults: [Fault]) { state.withLock { $0.faults = faults } }
    /// For every token request from now on.
    public func failAlways(_ fault: Fault?) { state.withLock { $0.tokenFault = fault } }
    /// Headers of every answer of the API from now on.
    public func answerWith(_ headers: [String: String]) { state.withLock { $0.apiHeaders = headers } }

    /// Listens for as long as `body` takes.
    public func with(_ body: () async throws -> Void) async throws {
        var logger = Logger(label: "stand-in-oauth-provider")
        logger.logLevel = .critical
        let (ready, continuation) = AsyncStream.makeStream(of: Void.self, bufferingPolicy: .bufferingNewest(1))
        let application = Application(
            responder: CallbackResponder<BasicRequestContext> { request, _ in try await self.respond(to: request) },
            configuration: .init(address: .hostname("127.0.0.1", port: 0), serverName: "stand-in-oauth-provider"),
            onServerRunning: { channel in
                self.state.withLock { $0.port = channel.localAddress?.port ?? 0 }
                continuation.yield()
            }, logger: logger)
        try await withThrowingTaskGroup(of: Void.self) { group in
            group.addTask {
                defer { continuation.finish() }
                try await application.run()
            }
            for await _ in ready { break }
            defer { group.cancelAll() }
            try await body()
        }
    }

    // MARK: Answers

    private func respond(to request: Request) async throws -> Response {
        if request.uri.path == "/token" {
            let body = try await request.body.collect(upTo: 1 << 20)
            return token(String(buffer: body), request.headers[.authorization])
        }
        return api(request)
    }

    private func token(_ body: String, _ authorization: String?) -> Response {
        var form = Dictionary(QueryText.parse(body)) { first, _ in first }
        if let authorization { form["authorization"] = authorization }
        let now = clock.now()
        let (status, answer, headers) = state.withLock { state -> (Int, String, [String: String]) in
            state.forms.append(form)
            let fault = state.faults.isEmpty ? state.tokenFault : state.faults.removeFirst()
            if case .status(let status, let body, let headers) = fault { return (status, body, headers) }
            let (status, answer) = OAuthProvider.grant(form, &state, now)
            if case .loseAnswer = fault { return (0, "", [:]) }
            return (status, answer, [:])
        }
        // As from a proxy before it.
        if status == 0 { return OAuthProvider.response(502, "") }
        return OAuthProvider.response(status, answer, headers)
    }

    private static func grant(_ form: [String: String], _ state: inout State, _ now: Timestamp) -> (Int, String) {
        if form["grant_type"] == "refresh_token" {
            let used = form["refresh_token"] ?? ""
            guard let firstUse = state.refreshTokens[used] else { return refusal("invalid_grant", "unknown token \(used)") }
            if let firstUse, state.settings.grace.map({ now - firstUse > $0 }) ?? true { return refusal("invalid_grant", "spent token") }
            if state.settings.rotates { state.refreshTokens[used] = .some(firstUse ?? now) }
        }
        state.number += 1
        state.granted += 1
        let access = "access-\(state.number)-canary"
        state.accessTokens[access] = now + state.settings.lifetime
        var answer = #"{"access_token":"\#(access)","token_type":"Bearer","expires_in":\#(state.settings.lifetime.milliseconds / 1000)"#
        if form["grant_type"] == "refresh_token", state.settings.rotates {
            let refresh = "refresh-\(state.number)-canary"
            state.refreshTokens[refresh] = .some(nil)
            answer += #","refresh_token":"\#(refresh)""#
        }
        return (200, answer + "}")
    }

    private static func refusal(_ error: String, _ description: String) -> (Int, String) {
        (400, #"{"error":"\#(error)","error_description":"\#(description)"}"#)
    }

    private func api(_ request: Request) -> Response {
        let now = clock.now()
        let token = request.headers[.authorization].map { $0.hasPrefix("Bearer ") ? String($0.dropFirst(7)) : $0 } ?? ""
        let (isKnown, count, headers) = state.withLock { state -> (Bool, Int, [String: String]) in
            let isKnown = state.accessTokens[token].map { now < $0 } ?? false
            if isKnown { state.apiTokens.append(token) } else { state.refusedCount += 1 }
            return (isKnown, state.itemCount, state.apiHeaders)
        }
        if !isKnown { return OAuthProvider.response(401, #"{"error":"invalid_token"}"#, headers) }
        if request.uri.path == "/me" { return OAuthProvider.response(200, #"{"name":"stand-in"}"#, headers) }
        guard request.uri.path == "/items" else { return OAuthProvider.response(404, "{}", headers) }
        let after = QueryText.parse(request.uri.query ?? "").first { $0.0 == "after" }.flatMap { Int($0.1) } ?? 0
        let last = max(after, min(after + 2, count))
        let items = (after..<last).map { "{\"id\":\"i\($0 + 1)\"}" }.joined(separator: ",")
        return OAuthProvider.response(200, "{\"items\":[\(items)],\"next\":\(last),\"more\":\(last < count)}", headers)
    }

    private static func response(_ status: Int, _ body: String, _ headers: [String: String] = [:]) -> Response {
        var fields: HTTPFields = [.contentType: "application/json"]
        for (name, value) in headers { if let name = HTTPField.Name(name) { fields[name] = value } }
        return Response(status: .init(code: status), headers: fields, body: .init(byteBuffer: ByteBuffer(string: body)))
    }
}
