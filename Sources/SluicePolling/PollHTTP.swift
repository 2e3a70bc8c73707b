import AsyncHTTPClient
import FoundationEssentials
import NIOCore
import NIOHTTP1
import NIOPosix
import SluiceConnectors
import SluiceCore
import SluiceOutgoing
import Synchronization

/// A connection's way to its provider: keeps its budget, its limits and its address guard.
final class PollHTTP: HTTPSending {
    private let client: HTTPClient
    let settings: ConnectionPollSettings
    let time: any TimeSource
    let guardAddress: AddressCheck
    let pageBytesMax: Int
    private let routes: OutgoingRoutes?
    /// For requests that are held: very many to one host may be open.
    let heldClient: HTTPClient
    let heldRoutes: OutgoingRoutes?
    private let budget: Mutex<RequestBudget>
    private let authorization: LaneAuthorization?
    private let rateLimit: RateLimitRule
    private let tellBlocked: @Sendable (Timestamp) -> Void

    /// Throws `PollFailure` if a host may not be reached.
    typealias AddressCheck = @Sendable (_ host: String, _ allowed: AddressAllowance) async throws -> Void

    static let redirectsMax = 5
    static let retryAfterMax = Span.hours(24)

    init(
        client: HTTPClient, settings: ConnectionPollSettings, time: any TimeSource, pageBytesMax: Int,
        guardAddress: @escaping AddressCheck, routes: OutgoingRoutes? = nil, heldClient: HTTPClient? = nil,
        heldRoutes: OutgoingRoutes? = nil,
        authorization: LaneAuthorization? = nil, rateLimit: RateLimitRule = RateLimitRule(),
        blocked: @escaping @Sendable (Timestamp) -> Void = { _ in }
    ) {
        self.authorization = authorization
        self.rateLimit = rateLimit
        tellBlocked = blocked
        self.routes = routes
        self.heldClient = heldClient ?? client
        self.heldRoutes = heldRoutes ?? routes
        self.client = client
        self.pageBytesMax = pageBytesMax
        self.settings = settings
        self.time = time
        self.guardAddress = guardAddress
        budget = Mutex(RequestBudget(perSecond: settings.requestsPerSecondMax))
    }

    /// Until when nothing is asked, and why; nil if something may be.
    func blocked(at now: Timestamp) -> (until: Timestamp, reason: RequestBudget.Reason)? { budget.withLock { $0.blocked(at: now) } }

    /// The same, and while what the provider has left is spread: nothing is left for what can wait.
    func shortage(at now: Timestamp) -> (until: Timestamp, reason: RequestBudget.Reason)? { budget.withLock { $0.shortage(at: now) } }

    /// Until when nothing is asked.
    var blockedUntil: Timestamp? { budget.withLock { $0.blockedUntil } }

    @inline(never)
    func send(_ request: HTTPRequestPlan) async throws -> HTTPReply {
        if request.holdSpan != nil {
            throw PollFailure(
                .permanent, SluiceError(.connector, "a poll asks for a request to be held: timeout_seconds and stream are for long_poll"))
        }
        let reply = try await authorized(request) { try await follow($0) }
        try check(reply, of: request)
        return reply
    }

    /// Makes an exchange with the connection's credentials. Where the access token is refused, by a reply or by a failure, once
    /// more with another one: a token that was given a moment ago is refused for another reason.
    @inline(never)
    func authorized(
        _ request: HTTPRequestPlan, _ exchange: (HTTPRequestPlan) async throws -> HTTPReply
    ) async throws -> HTTPReply {
        guard let authorization, authorization.covers(request) else { return try await exchange(request) }
        guard let keeper = authorization.keeper else { return try await exchange(try authorization.applied(to: request, nil)) }
        return try await tokened(request, authorization, keeper, exchange)
    }

    @inline(never)
    private func tokened(
        _ request: HTTPRequestPlan, _ authorization: LaneAuthorization, _ keeper: TokenKeeper,
        _ exchange: (HTTPRequestPlan) async throws -> HTTPReply
    ) async throws -> HTTPReply {
        let token = try await keeper.token()
        let refused: Result<HTTPReply, any Error>
        do {
            let reply = try await exchange(try authorization.applied(to: request, token))
            if !isRefusal(reply) { return reply }
            refused = .success(reply)
        } catch let failure as PollFailure where failure.kind == .unauthorized && !failure.isFinal {
            refused = .failure(failure)
        }
        if time.now() - token.obtainedAt >= TokenDesk.renewedApartMin {
            let renewed = try await keeper.token(insteadOf: token)
            if renewed != token { return try await exchange(try authorization.applied(to: request, renewed)) }
        }
        return try refused.get()
    }

    /// One request and its answer, whatever it is: no redirect is followed, no budget charged, nothing added.
    func exchangeOnce(_ request: HTTPRequestPlan) async throws -> HTTPReply {
        let host = try PollHTTP.address(of: request).host() ?? ""
        do {
            try await guardAddress(host, settings.addresses)
            return try await exchange(request, host)
        } catch let error as SluiceError {
            throw PollFailure.classify(error)
        }
    }

    /// 401, or 403 for another reason than too many requests.
    private func isRefusal(_ reply: HTTPReply) -> Bool {
        reply.status == 401 || reply.status == 403 && !isRateRefusal(reply)
    }

    /// Some say 403 where others say 429.
    private func isRateRefusal(_ reply: HTTPReply) -> Bool {
        let report = rateLimit.report(reply.headers, now: time.now())
        return report.retryAfter != nil || report.remaining == 0 && report.resetAfter != nil
    }

    /// Sends it, and goes where redirects on the same host lead.
    private func follow(_ request: HTTPRequestPlan) async throws -> HTTPReply {
        var request = request
        for _ in 0...PollHTTP.redirectsMax {
            let url = try PollHTTP.address(of: request)
            let host = url.host() ?? ""
            try await guardAddress(host, settings.addresses)
            try await waitForBudget()
            let reply = try await exchange(request, host)
            guard [301, 302, 303, 307, 308].contains(reply.status), !request.acceptsAnyStatus else { return reply }
            request = try redirected(request, from: url, by: reply)
        }
        throw PollFailure(.permanent, SluiceError(.providerAnswer, "the provider redirects more than \(PollHTTP.redirectsMax) times"))
    }

    static func address(of request: HTTPRequestPlan) throws -> URL {
        guard let url = URL(string: request.url), let scheme = url.scheme, scheme == "http" || scheme == "https", url.host() != nil else {
            throw PollFailure(
                .permanent,
                SluiceError(.connector, "the connector asks for an address that is not a full http or https URL; check its base URL"))
        }
        return url
    }

    private func waitForBudget() async throws {
        for _ in 0..<1000 {
            guard let (wait, reason) = budget.withLock({ $0.takeOrReason(at: time.now()) }) else { return }
            if wait > .seconds(5) { throw PollHTTP.heldBack(wait, reason) }
            try await Task.sleep(for: .milliseconds(wait.milliseconds))
        }
        throw PollHTTP.heldBack(.seconds(5), .ownLimit)
    }

    private static func heldBack(_ wait: Span, _ reason: RequestBudget.Reason) -> PollFailure {
        var failure = PollFailure(.rateLimited, SluiceError(.rateLimited, "the connection waits: \(reason.rawValue)"), retryAfter: wait)
        failure.isHeldBack = true
        return failure
    }

    /// For the name service.
    var resolvingMax: Duration { .milliseconds(settings.requestSpanMax.milliseconds) }

    private func exchange(_ plan: HTTPRequestPlan, _ host: String) async throws -> HTTPReply {
        guard let routes else { return try await exchange(plan, with: client) }
        let pinned = try await routes.client(for: host, allowed: settings.addresses, within: resolvingMax)
        defer { pinned.end() }
        do {
            return try await exchange(plan, with: pinned.client)
        } catch let failure as PollFailure where failure.kind == .transient {
            routes.failed(pinned)
            throw failure
        }
    }

    private func exchange(_ plan: HTTPRequestPlan, with client: HTTPClient) async throws -> HTTPReply {
        var request = HTTPClientRequest(url: plan.url)
        request.method = HTTPMethod(rawValue: plan.method)
        for field in plan.headers { request.headers.add(name: field.name, value: field.value) }
        if request.headers["user-agent"].isEmpty { request.headers.add(name: "user-agent", value: "Sluice") }
        if !plan.body.isEmpty { request.body = .bytes(plan.body) }
        do {
            return try await read(request, with: client)
        } catch let failure as PollFailure {
            throw failure
        } catch is CancellationError {
            throw CancellationError()
        } catch is NIOTooManyBytesError {
            throw PollFailure(
                .permanent,
                SluiceError(
                    .providerAnswer,
                    "the provider's answer is larger than \(PollHTTP.size(pageBytesMax)); let the connector ask for smaller pages"))
        } catch {
            // The client's errors name no URL and no header, so nothing secret is in them.
            let isTLS = ["NIOSSL", "TLS", "tls", "handshake"].contains { "\(String(reflecting: type(of: error))) \(error)".contains($0) }
            var failure = SluiceError(
                .providerUnreachable, "no whole answer from the provider: \(NoHTTP.isCause(of: error) ? NoHTTP.words : "\(error)")")
            if isTLS { failure = failure.with("cause", "tls") }
            // No connection came about, so the provider has not heard of it.
            let wasSent = !(error is NIOConnectionError) && (error as? HTTPClientError) != .connectTimeout
            throw PollFailure(.transient, wasSent ? failure : failure.with("request", "not sent"))
        }
    }

    /// The client's own deadline ends with the answer's head; this one holds until the last byte of the body.
    private func read(_ request: HTTPClientRequest, with client: HTTPClient) async throws -> HTTPReply {
        let span = settings.requestSpanMax
        return try await withThrowingTaskGroup(of: HTTPReply?.self) { group in
            defer { group.cancelAll() }
            group.addTask { [pageBytesMax] in
                let response = try await client.execute(request, timeout: .milliseconds(span.milliseconds + 1000))
                let body = try await response.body.collect(upTo: pageBytesMax)
                let headers = response.headers.map { HTTPField($0.name, $0.value) }
                return HTTPReply(status: Int(response.status.code), headers: headers, body: Array(buffer: body))
            }
            // A timer of the loop goes when it is cancelled; one of Task.sleep would stay until its time, and there is one a poll.
            let timer = client.eventLoopGroup.any().scheduleTask(in: .milliseconds(span.milliseconds)) {}
            group.addTask {
                try await withTaskCancellationHandler {
                    do { try await timer.futureResult.get() } catch { throw CancellationError() }
                } onCancel: {
                    timer.cancel()
                }
                return nil
            }
            guard let first = try await group.next(), let reply = first else {
                throw PollFailure(
                    .transient,
                    SluiceError(.providerUnreachable, "no whole answer from the provider within \(span): it hangs or is too slow"))
            }
            return reply
        }
    }

    private static func size(_ bytes: Int) -> String { bytes >= 1 << 20 ? "\(bytes >> 20) MB" : "\(bytes) bytes" }

    private func redirected(_ request: HTTPRequestPlan, from url: URL, by reply: HTTPReply) throws -> HTTPRequestPlan {
        guard let location = reply.headers.first("location"), let target = URL(string: location, relativeTo: url)?.absoluteURL else {
            throw PollFailure(.permanent, SluiceError(.providerAnswer, "the provider redirects without saying where to"))
        }
        guard target.host() == url.host(), target.scheme == url.scheme, target.port == url.port else {
            throw PollFailure(
                .permanent,
                SluiceError(
                    .providerAnswer,
                    "the provider redirects to another host (\(target.host() ?? "?")); credentials are never sent there: correct the base URL"
                ).with("status", String(reply.status)))
        }
        guard request.method == "GET" || request.method == "HEAD" else {
            throw PollFailure(.permanent, SluiceError(.providerAnswer, "the provider redirects a \(request.method); use its final address"))
        }
        var next = request
        next.url = target.absoluteString
        return next
    }

    /// Takes heed of what an answer says about the rate. Returns how long the connection waits now, if it does.
    @discardableResult
    private func heed(_ reply: HTTPReply) -> Span? {
        let now = time.now()
        var report = rateLimit.report(reply.headers, now: now)
        report.retryAfter = report.retryAfter.map { min($0, PollHTTP.retryAfterMax) }
        let blocked = budget.withLock { budget in
            budget.heed(report, reserve: rateLimit.reserve, at: now)
            return budget.blocked(at: now)
        }
        guard let blocked else { return nil }
        tellBlocked(blocked.until)
        return blocked.until - now
    }

    /// Turns statuses that mean the same everywhere into failures, and takes heed of rate headers.
    func check(_ reply: HTTPReply, of request: HTTPRequestPlan) throws {
        let wait = heed(reply)
        if request.acceptsAnyStatus { return }
        let status = String(reply.status)
        switch reply.status {
        case 429:
            let error = SluiceError(.rateLimited, "the provider limits our requests").with("status", status)
            throw PollFailure(.rateLimited, error, retryAfter: wait)
        case 403 where isRateRefusal(reply):
            let error = SluiceError(.rateLimited, "the provider limits our requests").with("status", status)
            throw PollFailure(.rateLimited, error, retryAfter: wait)
        case 401, 403:
            let error = SluiceError(.providerAuth, "the provider refuses the connection's credentials; correct them and apply again")
            throw PollFailure(.unauthorized, error.with("status", status))
        case 408, 425, 500...599:
            var error = SluiceError(.providerStatus, "the provider answers with a fault of its own").with("status", status)
            // SOAP says whatever is wrong with a request in this way.
            if !reply.body.isEmpty { error = error.with("answer", reply.beginning) }
            throw PollFailure(.transient, error, retryAfter: wait)
        default: break
        }
    }
}
