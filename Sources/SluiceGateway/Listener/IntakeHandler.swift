import NIOCore
import NIOHTTP1

/// Carries out for one connection what `RequestIntake` decides: holds back a request until it is whole, answers what
/// breaks a limit itself, and closes what cannot go on. Sits directly behind the HTTP decoder.
final class IntakeHandler: ChannelDuplexHandler, RemovableChannelHandler {
    typealias InboundIn = HTTPServerRequestPart
    typealias InboundOut = HTTPServerRequestPart
    typealias OutboundIn = HTTPServerResponsePart
    typealias OutboundOut = HTTPServerResponsePart

    private let gateway: Gateway
    private let budget: MemoryBudget
    private let tickInterval: TimeAmount
    private var intake: RequestIntake
    private var ticker: Scheduled<Void>?
    private var hasEnded = false

    private var head: HTTPRequestHead?
    private var body: ByteBuffer?
    /// Bytes taken from the budget: by the request being read, and by each that waits for its answer.
    private var bytesReading = 0
    private var bytesWaiting: [Int] = []

    init(gateway: Gateway, budget: MemoryBudget) {
        let limits = gateway.limits
        let bounds = RequestIntake.Bounds(
            bodyBytesMax: limits.bodyBytesMax, headerDeadline: Self.nanoseconds(limits.headerDeadlineSeconds),
            bodyDeadline: Self.nanoseconds(limits.bodyDeadlineSeconds), idleDeadline: Self.nanoseconds(limits.idleDeadlineSeconds),
            linger: Self.nanoseconds(limits.lingerSeconds))
        self.gateway = gateway
        self.budget = budget
        intake = RequestIntake(bounds: bounds, now: Self.now())
        // One timer a connection instead of one a request: a deadline is kept to within a quarter of the shortest one.
        let shortest = [bounds.headerDeadline, bounds.bodyDeadline, bounds.idleDeadline, bounds.linger].min() ?? 0
        tickInterval = .nanoseconds(max(10_000_000, shortest / 4))
    }

    private static func nanoseconds(_ seconds: Double) -> Int64 { Int64(seconds * 1_000_000_000) }
    private static func now() -> Int64 { Int64(truncatingIfNeeded: NIODeadline.now().uptimeNanoseconds) }

    func handlerAdded(context: ChannelHandlerContext) { scheduleTick(context) }

    func handlerRemoved(context: ChannelHandlerContext) {
        end()
        budget.give(bytesReading + bytesWaiting.reduce(0, +))
        bytesReading = 0
        bytesWaiting = []
    }

    private func end() {
        hasEnded = true
        ticker?.cancel()
        ticker = nil
    }

    private func scheduleTick(_ context: ChannelHandlerContext) {
        ticker = context.eventLoop.assumeIsolated().scheduleTask(in: tickInterval) {
            self.perform(self.intake.tick(at: Self.now()), context)
            // Not "while the channel is active": on a busy machine the first tick can come before it is.
            if !self.hasEnded { self.scheduleTick(context) }
        }
    }

    // MARK: - In

    func channelRead(context: ChannelHandlerContext, data: NIOAny) {
        switch unwrapInboundIn(data) {
        case .head(let head):
            let length = head.headers.first(name: "content-length").flatMap { Int($0) }
            let action = intake.head(contentLength: length, keepsAlive: head.isKeepAlive, at: Self.now())
            if action == .hold {
                self.head = head
                inviteBody(head, context)
            }
            perform(action, context)
        case .body(let part):
            let action = intake.body(byteCount: part.readableBytes, at: Self.now())
            if action == .hold { hold(part, context) } else { perform(action, context) }
        case .end(let trailers):
            if intake.end(at: Self.now()) == .deliver { deliver(trailers, context) }
        }
    }

    /// Some clients send a large body only when asked to (RFC 9110, 10.1.1).
    private func inviteBody(_ head: HTTPRequestHead, _ context: ChannelHandlerContext) {
        guard intake.unanswered == 0, head.headers.first(name: "expect")?.lowercased() == "100-continue" else { return }
        context.writeAndFlush(wrapOutboundOut(.head(HTTPResponseHead(version: .http1_1, status: .continue))), promise: nil)
    }

    private func hold(_ part: ByteBuffer, _ context: ChannelHandlerContext) {
        guard budget.take(part.readableBytes) else {
            perform(intake.bodiesTooLarge(at: Self.now()), context)
            return
        }
        bytesReading += part.readableBytes
        if body == nil { body = part } else { body?.writeImmutableBuffer(part) }
    }

    private func deliver(_ trailers: HTTPHeaders?, _ context: ChannelHandlerContext) {
        guard let head else { return }
        let body = self.body
        self.head = nil
        self.body = nil
        bytesWaiting.append(bytesReading)
        bytesReading = 0
        context.fireChannelRead(wrapInboundOut(.head(head)))
        if let body { context.fireChannelRead(wrapInboundOut(.body(body))) }
        context.fireChannelRead(wrapInboundOut(.end(trailers)))
    }

    func channelReadComplete(context: ChannelHandlerContext) {
        intake.readCompleted(at: Self.now())
        context.fireChannelReadComplete()
    }

    func errorCaught(context: ChannelHandlerContext, error: any Error) {
        switch error {
        case HTTPParserError.headerOverflow: perform(intake.headersTooLarge(at: Self.now()), context)
        case is HTTPParserError: perform(intake.malformed(at: Self.now()), context)
        default: context.fireErrorCaught(error)
        }
    }

    func channelInactive(context: ChannelHandlerContext) {
        end()
        if intake.disconnected(at: Self.now()) { gateway.refusedWhileReading(GatewayRefusal(status: 400, reason: "truncated")) }
        context.fireChannelInactive()
    }

    // MARK: - Out

    func write(context: ChannelHandlerContext, data: NIOAny, promise: EventLoopPromise<Void>?) {
        guard case .end = unwrapOutboundIn(data) else {
            context.write(data, promise: promise)
            return
        }
        if !bytesWaiting.isEmpty { budget.give(bytesWaiting.removeFirst()) }
        let action = intake.answered(at: Self.now())
        context.write(data, promise: promise)
        guard action == .close else { return }
        context.flush()
        context.close(promise: nil)
    }

    private func perform(_ action: RequestIntake.Action, _ context: ChannelHandlerContext) {
        switch action {
        case .none, .hold, .deliver: break
        case .close: context.close(promise: nil)
        case .refuse(let refusal):
            head = nil
            body = nil
            budget.give(bytesReading)
            bytesReading = 0
            gateway.refusedWhileReading(refusal)
            answer(refusal, context)
        }
    }

    /// Answers and says no more. What still comes is dropped until the client closes or the linger ends: closing at once
    /// would make the kernel reset the connection, and the client might never see the answer.
    private func answer(_ refusal: GatewayRefusal, _ context: ChannelHandlerContext) {
        let answer = GatewayAnswer(
            status: refusal.status, reason: refusal.reason, message: Self.message(refusal.reason),
            retryAfterSeconds: refusal.status == 503 ? 1 : nil)
        let bytes = answer.body
        var headers = HTTPHeaders([("content-type", "application/json"), ("content-length", String(bytes.count)), ("connection", "close")])
        if let seconds = answer.retryAfterSeconds { headers.add(name: "retry-after", value: String(seconds)) }
        let head = HTTPResponseHead(version: .http1_1, status: HTTPResponseStatus(statusCode: answer.status), headers: headers)
        context.write(wrapOutboundOut(.head(head)), promise: nil)
        context.write(wrapOutboundOut(.body(.byteBuffer(ByteBuffer(bytes: bytes)))), promise: nil)
        context.writeAndFlush(wrapOutboundOut(.end(nil)), promise: nil)
        context.close(mode: .output, promise: nil)
    }

    private static func message(_ reason: String) -> String {
        switch reason {
        case "body_too_large": "The body is larger than this server takes."
        case "headers_too_large": "The headers are larger or more than this server takes."
        case "headers_too_slow", "body_too_slow": "The request took too long to arrive."
        case "overloaded": "Too many webhooks are waiting; send it again."
        case "truncated": "The request ended before its body was complete."
        default: "This is not an HTTP request."
        }
    }
}
