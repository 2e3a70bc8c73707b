import AsyncHTTPClient
import FoundationEssentials
import NIOCore
import NIOHTTP1
import SluiceConnectors
import SluiceCore
import SluiceOutgoing

/// The way to the provider for a held request. What is not to be held goes the way of polls.
struct HeldHTTP: HTTPSending {
    let polls: PollHTTP
    let slot: HeldSlot

    func send(_ request: HTTPRequestPlan) async throws -> HTTPReply {
        guard let span = request.holdSpan else { return try await polls.send(request) }
        if request.isStream, let stream = slot.openStream { return try await polls.read(stream, silence: span, slot) }
        return try await polls.authorized(request) { try await polls.hold($0, for: span, slot) }
    }
}

extension PollHTTP {
    /// Beyond the time a provider holds a request: then the connection is dead, whatever it looks like.
    static let holdSlack = Span.seconds(15)

    /// Sends a request that the provider may hold. It draws on no budget, but keeps to what the provider asked for. In steps of
    /// their own, so that what waits for the answer holds no more than it needs for it.
    @inline(never)
    fileprivate func hold(_ request: HTTPRequestPlan, for span: Span, _ slot: HeldSlot) async throws -> HTTPReply {
        let host = try PollHTTP.address(of: request).host() ?? ""
        let answer = try await answer(to: request, host, slot)
        let timer = begin(request, answer, span)
        defer { timer.cancel() }
        do {
            let head = try await answer.head()
            if request.isStream {
                timer.cancel()
                if (200..<300).contains(head.status.code) { return try await read(answer, silence: span, slot) }
            }
            return try reply(to: request, head, try await answer.body(), answer, slot)
        } catch {
            throw brokenOff(answer, host, error, span, slot)
        }
    }

    /// What will hold the answer, in its slot.
    @inline(never)
    private func answer(to request: HTTPRequestPlan, _ host: String, _ slot: HeldSlot) async throws -> HeldAnswer {
        try await guardAddress(host, settings.addresses)
        if let until = blockedUntil, until > time.now() {
            var failure = PollFailure(
                .rateLimited, SluiceError(.rateLimited, "the provider asked this connection to wait"), retryAfter: until - time.now())
            failure.isHeldBack = true
            throw failure
        }
        let pinned = try await heldRoutes?.client(for: host, allowed: settings.addresses, within: resolvingMax)
        let answer = HeldAnswer(client: pinned?.client ?? heldClient, isStream: request.isStream, bytesMax: pageBytesMax) { pinned?.end() }
        try slot.hold(answer, isStream: request.isStream)
        return answer
    }

    /// Sends the request; what comes back ends the answer if nothing has come in time.
    @inline(never)
    private func begin(_ request: HTTPRequestPlan, _ answer: HeldAnswer, _ span: Span) -> Scheduled<Void> {
        do {
            answer.began(answer.client.execute(request: try PollHTTP.outgoing(request), delegate: answer))
        } catch {
            answer.end(error)
        }
        let slack = min(PollHTTP.holdSlack, settings.requestSpanMax)
        return heldClient.eventLoopGroup.any().scheduleTask(in: .milliseconds((span + slack).milliseconds)) {
            answer.end(HTTPClientError.deadlineExceeded)
        }
    }

    @inline(never)
    private func reply(
        to request: HTTPRequestPlan, _ head: HTTPResponseHead, _ body: [UInt8], _ answer: HeldAnswer, _ slot: HeldSlot
    ) throws -> HTTPReply {
        let reply = HTTPReply(status: Int(head.status.code), headers: head.headers.map { HTTPField($0.name, $0.value) }, body: body)
        slot.done(answer)
        try PollHTTP.refuseRedirect(reply)
        try check(reply, of: request)
        return reply
    }

    @inline(never)
    private func brokenOff(_ answer: HeldAnswer, _ host: String, _ error: any Error, _ span: Span, _ slot: HeldSlot) -> any Error {
        slot.done(answer)
        answer.end(error)
        let failure = failure(of: error, span)
        if (failure as? PollFailure)?.kind == .transient { heldRoutes?.failed(answer.client, at: host) }
        return failure
    }

    /// The next lines of a stream. One that has ended, or says nothing, gives none, and the next request opens it anew.
    fileprivate func read(_ stream: HeldAnswer, silence: Span, _ slot: HeldSlot) async throws -> HTTPReply {
        do {
            if let lines = try await stream.lines(silence: silence, on: heldClient.eventLoopGroup.any()) {
                return HTTPReply(status: 200, headers: [HTTPField("Content-Type", "application/json")], body: lines)
            }
        } catch is HeldAnswer.Silence {
        } catch {
            slot.done(stream)
            throw failure(of: error, silence)
        }
        slot.done(stream)
        return HTTPReply(status: 200, headers: [HTTPField("Content-Type", "application/json")], body: Array("[]".utf8))
    }

    private func failure(of error: any Error, _ span: Span) -> any Error {
        switch error {
        case is PollFailure, is CancellationError, is HeldSlot.Released, is SluiceError: return error
        case is NIOTooManyBytesError:
            return PollFailure(
                .permanent,
                SluiceError(.providerAnswer, "the provider's answer is larger than \(pageBytesMax >> 20) MB; let it say less at once"))
        case let error as HTTPClientError where error == .deadlineExceeded:
            return PollFailure(
                .transient,
                SluiceError(
                    .providerUnreachable,
                    "the provider was to hold the request for \(span) at most and has not answered: the connection is dead"))
        default:
            return PollFailure(
                .transient,
                SluiceError(.providerUnreachable, "a held request was broken off: \(NoHTTP.isCause(of: error) ? NoHTTP.words : "\(error)")")
            )
        }
    }

    private static func outgoing(_ plan: HTTPRequestPlan) throws -> HTTPClient.Request {
        var headers = HTTPHeaders(plan.headers.map { ($0.name, $0.value) })
        if headers["user-agent"].isEmpty { headers.add(name: "user-agent", value: "Sluice") }
        return try HTTPClient.Request(
            url: plan.url, method: HTTPMethod(rawValue: plan.method), headers: headers, body: plan.body.isEmpty ? nil : .bytes(plan.body))
    }

    private static func refuseRedirect(_ reply: HTTPReply) throws {
        guard (300..<400).contains(reply.status), reply.status != 304 else { return }
        throw PollFailure(
            .permanent,
            SluiceError(.providerAnswer, "the provider redirects a held request; use its final address").with(
                "status", String(reply.status)))
    }
}
