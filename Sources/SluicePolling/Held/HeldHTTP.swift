import AsyncHTTPClient
import FoundationEssentials
import NIOCore
import NIOHTTP1
import SluiceConnectors
import SluiceCore

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

    /// Sends a request that the provider may hold. It draws on no budget, but keeps to what the provider asked for.
    fileprivate func hold(_ request: HTTPRequestPlan, for span: Span, _ slot: HeldSlot) async throws -> HTTPReply {
        let url = try PollHTTP.address(of: request)
        let host = url.host() ?? ""
        try await guardAddress(host, settings.addresses)
        if let until = blockedUntil, until > time.now() {
            var failure = PollFailure(
                .rateLimited, SluiceError(.rateLimited, "the provider asked this connection to wait"), retryAfter: until - time.now())
            failure.isHeldBack = true
            throw failure
        }
        let pinned = try await heldRoutes?.client(for: host, allowed: settings.addresses, within: resolvingMax)
        let answer = HeldAnswer(isStream: request.isStream, bytesMax: pageBytesMax) { pinned?.end() }
        try slot.hold(answer, isStream: request.isStream)
        do {
            let slack = min(PollHTTP.holdSlack, settings.requestSpanMax)
            let task = (pinned?.client ?? heldClient).execute(request: try PollHTTP.outgoing(request), delegate: answer)
            answer.began(task)
            let timer = heldClient.eventLoopGroup.any().scheduleTask(in: .milliseconds((span + slack).milliseconds)) {
                answer.end(HTTPClientError.deadlineExceeded)
            }
            defer { timer.cancel() }
            let head = try await answer.head()
            if request.isStream { timer.cancel() }
            guard request.isStream, (200..<300).contains(head.status.code) else {
                let reply = HTTPReply(
                    status: Int(head.status.code), headers: head.headers.map { HTTPField($0.name, $0.value) }, body: try await answer.body()
                )
                slot.done(answer)
                try PollHTTP.refuseRedirect(reply)
                try check(reply, of: request)
                return reply
            }
            return try await read(answer, silence: span, slot)
        } catch {
            slot.done(answer)
            answer.end(error)
            let failure = failure(of: error, span)
            if let pinned, (failure as? PollFailure)?.kind == .transient { heldRoutes?.failed(pinned) }
            throw failure
        }
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
            return PollFailure(.transient, SluiceError(.providerUnreachable, "a held request was broken off: \(error)"))
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
