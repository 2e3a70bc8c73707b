import AsyncHTTPClient
import Crypto
import HTTPTypes
import Hummingbird
import Logging
import NIOCore
import ServiceLifecycle
import SluiceCore
import Synchronization

/// A provider of webhook subscriptions that end, over real HTTP on 127.0.0.1, with a list of records to read.
///
///     POST   /hooks      {"url","secret","topic"} → 201 {"hook": {"id","url","topic","active","expires_at"}}
///     GET    /hooks      {"hooks": [ … ]}
///     PATCH  /hooks/ID   makes it last from now on; 404 if there is none
///     DELETE /hooks/ID   204; 404 if there is none
///     GET    /records?after=N   {"records": [{"id","seq"}, …]}
///
/// Requests can be refused, and held before or after they take effect, so that a test can pull the plug at that very moment.
public final class SubscriptionProvider: Sendable {
    public struct Hook: Sendable, Equatable {
        public var id: Int
        public var url: String
        public var secret: String
        public var topic: String
        public var isActive = true
        /// Nil: it does not end.
        public var expiresAt: Timestamp?
    }

    /// What a request asks for.
    public enum Call: String, Sendable { case create, list, refresh, delete }
    /// A moment in a request.
    public struct Moment: Sendable, Hashable, CustomStringConvertible {
        public var call: Call
        /// The request has taken effect, and is not answered yet.
        public var isAfter: Bool
        public static func before(_ call: Call) -> Moment { Moment(call: call, isAfter: false) }
        public static func after(_ call: Call) -> Moment { Moment(call: call, isAfter: true) }
        public var description: String { (isAfter ? "after " : "before ") + call.rawValue }
    }

    private struct State {
        var hooks: [Int: Hook] = [:]
        var idsGiven = 0
        var records = 0
        var lifetime: Span?
        var refused: Set<Call> = []
        var heldAt: Moment?
        var waiting = 0
        var counts: [Call: Int] = [:]
        var port = 0
        var isStopping = false
    }

    private let state: Mutex<State>
    public static let apiKey = "hooks-key-canary"

    public init(lifetime: Span? = nil) { state = Mutex(State(lifetime: lifetime)) }

    /// Runs one for as long as `body` takes.
    public static func with<Result: Sendable>(
        lifetime: Span? = nil, _ body: @Sendable (SubscriptionProvider) async throws -> Result
    ) async throws -> Result {
        let provider = SubscriptionProvider(lifetime: lifetime)
        var logger = Logger(label: "subscription-provider")
        logger.logLevel = .critical
        let (ready, continuation) = AsyncStream.makeStream(of: Int.self, bufferingPolicy: .bufferingNewest(1))
        let application = Application(
            responder: CallbackResponder<BasicRequestContext> { request, _ in await provider.respond(to: request) },
            configuration: .init(address: .hostname("127.0.0.1", port: 0), serverName: "subscription-provider"),
            onServerRunning: { channel in
                continuation.yield(channel.localAddress?.port ?? 0)
                continuation.finish()
            }, logger: logger)
        var configuration = ServiceGroupConfiguration(services: [.init(service: application)], gracefulShutdownSignals: [], logger: logger)
        configuration.maximumGracefulShutdownDuration = .seconds(3)
        let group = ServiceGroup(configuration: configuration)
        return try await withThrowingTaskGroup(of: Void.self) { tasks in
            tasks.addTask { try await group.run() }
            for await port in ready { provider.state.withLock { $0.port = port } }
            do {
                let result = try await body(provider)
                provider.state.withLock { $0.isStopping = true }
                await group.triggerGracefulShutdown()
                try await tasks.waitForAll()
                return result
            } catch {
                provider.state.withLock { $0.isStopping = true }
                await group.triggerGracefulShutdown()
                throw error
            }
        }
    }

    // MARK: What tests ask and do

    public var baseURL: String { "http://127.0.0.1:\(state.withLock { $0.port })" }
    /// Those that have not ended, the oldest first.
    public var hooks: [Hook] {
        let now = SystemTime.now()
        return state.withLock { state in
            state.hooks = state.hooks.filter { $0.value.expiresAt.map { $0 > now } ?? true }
            return state.hooks.values.sorted { $0.id < $1.id }
        }
    }
    /// How often something was asked for, refused or not.
    public func count(_ call: Call) -> Int { state.withLock { $0.counts[call, default: 0] } }
    public func setLifetime(_ span: Span?) { state.withLock { $0.lifetime = span } }
    /// These are answered 503 from now on.
    public func refuse(_ calls: Set<Call>) { state.withLock { $0.refused = calls } }
    /// The next request that comes to this moment stays there until `letGo`.
    public func hold(_ moment: Moment?) { state.withLock { $0.heldAt = moment } }
    public var isHolding: Bool { state.withLock { $0.waiting > 0 } }
    public func letGo() { state.withLock { $0.heldAt = nil } }

    /// Somebody deletes, disables or makes one by hand.
    public func remove(_ id: Int) { state.withLock { $0.hooks[id] = nil } }
    public func disable(_ id: Int) { state.withLock { $0.hooks[id]?.isActive = false } }
    @discardableResult public func add(url: String, topic: String = "all") -> Int {
        state.withLock { state in
            state.idsGiven += 1
            state.hooks[state.idsGiven] = Hook(id: state.idsGiven, url: url, secret: "by-hand", topic: topic)
            return state.idsGiven
        }
    }

    /// Makes a record, and sends a signed webhook for it to every active subscription. Returns the statuses of the answers.
    @discardableResult
    public func makeRecord(sendsWebhooks: Bool = true) async -> [Int] {
        let number = state.withLock { state in
            state.records += 1
            return state.records
        }
        var statuses: [Int] = []
        for hook in hooks where hook.isActive && sendsWebhooks {
            let body = Array(#"{"seq":\#(number)}"#.utf8)
            let code = HMAC<SHA256>.authenticationCode(for: body, using: SymmetricKey(data: Array(hook.secret.utf8)))
            let hex = code.map { String($0 >> 4, radix: 16) + String($0 & 15, radix: 16) }.joined()
            var request = HTTPClientRequest(url: hook.url)
            request.method = .POST
            request.headers.add(name: "Content-Type", value: "application/json")
            request.headers.add(name: "X-Hub-Signature-256", value: "sha256=" + hex)
            request.body = .bytes(body)
            guard let answer = try? await HTTPClient.shared.execute(request, timeout: .seconds(10)) else { continue }
            _ = try? await answer.body.collect(upTo: 1 << 20)
            statuses.append(Int(answer.status.code))
        }
        return statuses
    }

    // MARK: The API

    private func respond(to request: Request) async -> Response {
        guard request.headers[.authorization] == "Bearer " + SubscriptionProvider.apiKey else { return answer(401, "{}") }
        var request = request
        let body = (try? await request.collectBody(upTo: 1 << 20)).map { Array(buffer: $0) } ?? []
        let parts = request.uri.path.split(separator: "/").map(String.init)
        switch (request.method, parts.first ?? "", parts.count) {
        case (.post, "hooks", 1): return await perform(.create) { self.create(body) }
        case (.get, "hooks", 1): return await perform(.list) { self.list() }
        case (.patch, "hooks", 2): return await perform(.refresh) { self.refresh(Int(parts[1]) ?? 0) }
        case (.delete, "hooks", 2): return await perform(.delete) { self.delete(Int(parts[1]) ?? 0) }
        case (.get, "records", 1): return records(after: request.uri.queryParameters["after"].flatMap { Int($0) } ?? 0)
        default: return answer(404, #"{"error":"there is no such page"}"#)
        }
    }

    private func perform(_ call: Call, _ body: () -> Response) async -> Response {
        let isRefused = state.withLock { state in
            state.counts[call, default: 0] += 1
            return state.refused.contains(call)
        }
        await wait(at: .before(call))
        if isRefused { return answer(503, "{}") }
        let response = body()
        await wait(at: .after(call))
        return response
    }

    /// Until somebody lets go, or the one who asked is surely gone.
    private func wait(at moment: Moment) async {
        guard state.withLock({ $0.heldAt == moment }) else { return }
        state.withLock { $0.waiting += 1 }
        for _ in 0..<3000 where state.withLock({ $0.heldAt == moment && !$0.isStopping }) { try? await Task.sleep(for: .milliseconds(20)) }
        state.withLock { $0.waiting -= 1 }
    }

    private func create(_ body: [UInt8]) -> Response {
        guard let root = (try? JSONDocument(body))?.root, let url = root["url"]?.string else { return answer(422, #"{"error":"no url"}"#) }
        let now = SystemTime.now()
        let hook = state.withLock { state in
            state.idsGiven += 1
            let hook = Hook(
                id: state.idsGiven, url: url, secret: root["secret"]?.string ?? "", topic: root["topic"]?.string ?? "",
                expiresAt: state.lifetime.map { now + $0 })
            state.hooks[hook.id] = hook
            return hook
        }
        return answer(201, #"{"hook":\#(SubscriptionProvider.json(hook))}"#)
    }

    private func list() -> Response {
        answer(200, #"{"hooks":[\#(hooks.map(SubscriptionProvider.json).joined(separator: ","))]}"#)
    }

    private func refresh(_ id: Int) -> Response {
        let now = SystemTime.now()
        guard hooks.contains(where: { $0.id == id }) else { return answer(404, "{}") }
        let hook = state.withLock { state in
            state.hooks[id]?.expiresAt = state.lifetime.map { now + $0 }
            return state.hooks[id]
        }
        return hook.map { answer(200, #"{"hook":\#(SubscriptionProvider.json($0))}"#) } ?? answer(404, "{}")
    }

    private func delete(_ id: Int) -> Response {
        guard hooks.contains(where: { $0.id == id }) else { return answer(404, "{}") }
        state.withLock { $0.hooks[id] = nil }
        return answer(204, "")
    }

    private func records(after: Int) -> Response {
        let count = state.withLock { $0.records }
        let records = after < count ? (max(1, after + 1)...count).map { #"{"id":"r\#($0)","seq":\#($0)}"# } : []
        return answer(200, #"{"records":[\#(records.joined(separator: ","))]}"#)
    }

    private static func json(_ hook: Hook) -> String {
        let end = hook.expiresAt.map { "\"\($0)\"" } ?? "null"
        return #"{"id":\#(hook.id),"url":"\#(hook.url)","topic":"\#(hook.topic)","active":\#(hook.isActive),"expires_at":\#(end)}"#
    }

    private func answer(_ status: Int, _ body: String) -> Response {
        Response(
            status: .init(code: status), headers: [.contentType: "application/json"], body: .init(byteBuffer: ByteBuffer(string: body)))
    }
}
