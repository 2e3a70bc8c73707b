import DequeModule
import NIOCore
import NIOExtras
import NIOHTTP1
import SluiceCore

/// Carries out for one connection what `RequestIntake` decides: holds back a request until it is whole, answers what
/// breaks a limit itself, and closes what cannot go on. A whole request goes to the gateway; requests of one connection are
/// answered one after the other, in their order. Sits directly behind the HTTP decoder.
final class IntakeHandler: ChannelDuplexHandler, RemovableChannelHandler {
    typealias InboundIn = HTTPServerRequestPart
    typealias OutboundIn = HTTPServerResponsePart
    typealias OutboundOut = HTTPServerResponsePart

    /// A request that waits for those before it.
    private struct Waiting {
        var head: HTTPRequestHead
        var body: ByteBuffer?
        var bytes: Int
    }

    private let gateway: Gateway
    private let budget: MemoryBudget
    private let mailbox: LoopMailbox
    /// What a request has to wait for, done by the connection's own task.
    private let slowWork: AsyncStream<@Sendable () async -> Void>.Continuation
    private let tickInterval: TimeAmount
    private var intake: RequestIntake
    private var ticker: Scheduled<Void>?
    private var hasEnded = false

    private var head: HTTPRequestHead?
    private var body: ByteBuffer?
    private var waiting: Deque<Waiting> = []
    private var isAnswering = false
    private var hasReadToAsk = false
    /// Whether the client takes its answers. While it does not, none is made and nothing is read.
    private var isWritable = true
    /// Whether the body of the request being read is for anybody; otherwise it is dropped as it comes.
    private var keepsBody = true
    /// Bytes taken from the budget: by the request being read, and by the one that is being answered.
    private var bytesReading = 0
    private var bytesAnswering = 0

    init(
        gateway: Gateway, budget: MemoryBudget, mailbox: LoopMailbox, slowWork: AsyncStream<@Sendable () async -> Void>.Continuation
    ) {
        let limits = gateway.limits
        let bounds = RequestIntake.Bounds(
            bodyBytesMax: limits.bodyBytesMax, headerDeadline: Self.nanoseconds(limits.headerDeadlineSeconds),
            bodyDeadline: Self.nanoseconds(limits.bodyDeadlineSeconds), idleDeadline: Self.nanoseconds(limits.idleDeadlineSeconds),
            linger: Self.nanoseconds(limits.lingerSeconds))
        self.gateway = gateway
        self.budget = budget
        self.mailbox = mailbox
        self.slowWork = slowWork
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
        budget.give(bytesReading + bytesAnswering + waiting.reduce(0) { $0 + $1.bytes })
        (bytesReading, bytesAnswering, waiting) = (0, 0, [])
    }

    private func end() {
        hasEnded = true
        slowWork.finish()
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
                keepsBody = (length ?? Int.max) <= Self.uncheckedBytesMax || gateway.mayTakeBody(of: head.uri)
                inviteBody(head, context)
            }
            perform(action, context)
        case .body(let part):
            let action = intake.body(byteCount: part.readableBytes, at: Self.now())
            if action != .hold { perform(action, context) } else if keepsBody { hold(part, context) }
        case .end:
            if intake.end(at: Self.now()) == .deliver { deliver(context) }
        }
    }

    /// Bodies up to this length are held without asking whom they are for: it takes tens of thousands of them to fill the budget.
    private static let uncheckedBytesMax = 4096

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

    private func deliver(_ context: ChannelHandlerContext) {
        guard let head else { return }
        waiting.append(Waiting(head: head, body: body, bytes: bytesReading))
        self.head = nil
        body = nil
        bytesReading = 0
        answerNext(context)
    }

    func channelReadComplete(context: ChannelHandlerContext) {
        intake.readCompleted(at: Self.now())
    }

    func errorCaught(context: ChannelHandlerContext, error: any Error) {
        switch error {
        case HTTPParserError.headerOverflow: perform(intake.headersTooLarge(at: Self.now()), context)
        case is HTTPParserError: perform(intake.malformed(at: Self.now()), context)
        default: context.close(promise: nil)
        }
    }

    func userInboundEventTriggered(context: ChannelHandlerContext, event: Any) {
        switch event {
        case ChannelEvent.inputClosed, is ChannelShouldQuiesceEvent: perform(intake.noMore(at: Self.now()), context)
        default: break
        }
    }

    func channelInactive(context: ChannelHandlerContext) {
        end()
        if intake.disconnected(at: Self.now()) { gateway.refusedWhileReading(GatewayRefusal(status: 400, reason: "truncated")) }
    }

    // MARK: - Answers

    /// Requests that may wait behind the one being answered before nothing more is read.
    private static let waitingMax = 2

    /// Whoever sends without waiting for answers is read no further than this.
    func read(context: ChannelHandlerContext) {
        if mayRead { context.read() } else { hasReadToAsk = true }
    }

    private var mayRead: Bool { waiting.count < Self.waitingMax && isWritable }

    func channelWritabilityChanged(context: ChannelHandlerContext) {
        isWritable = context.channel.isWritable
        intake.writable(isWritable, at: Self.now())
        if isWritable { answerNext(context) }
        context.fireChannelWritabilityChanged()
    }

    private func answerNext(_ context: ChannelHandlerContext) {
        while !isAnswering, !hasEnded, isWritable, let next = waiting.popFirst() {
            isAnswering = true
            bytesAnswering = next.bytes
            let isHead = next.head.method == .HEAD
            switch gateway.begin(GatewayHTTP.webhook(next.head, next.body)) {
            case .answered(let answer): write(answer, isHead: isHead, context)
            case .keep(let keeping): keep(keeping, isHead: isHead, context)
            case .wait(let body): wait(body, isHead: isHead, context)
            }
        }
        if hasReadToAsk, mayRead {
            hasReadToAsk = false
            context.read()
        }
    }

    private func keep(_ keeping: Gateway.Keeping, isHead: Bool, _ context: ChannelHandlerContext) {
        let here = NIOLoopBound((self, context), eventLoop: context.eventLoop)
        gateway.keep(keeping.entry) { [gateway, mailbox, ticket = keeping.ticket] result in
            mailbox.post {
                let answer = gateway.kept(ticket, result)
                let (handler, context) = here.value
                handler.write(answer, isHead: isHead, context)
                handler.answerNext(context)
            }
        }
    }

    private func wait(_ body: @escaping @Sendable () async -> GatewayAnswer, isHead: Bool, _ context: ChannelHandlerContext) {
        let here = NIOLoopBound((self, context), eventLoop: context.eventLoop)
        slowWork.yield { [mailbox] in
            let answer = await body()
            mailbox.post {
                let (handler, context) = here.value
                handler.write(answer, isHead: isHead, context)
                handler.answerNext(context)
            }
        }
    }

    private func write(_ answer: GatewayAnswer, isHead: Bool, _ context: ChannelHandlerContext) {
        isAnswering = false
        budget.give(bytesAnswering)
        bytesAnswering = 0
        // The client has gone: what it sent is kept all the same.
        if hasEnded { return }
        let action = intake.answered(at: Self.now())
        context.write(wrapOutboundOut(.head(GatewayHTTP.head(answer, isLast: action == .close))), promise: nil)
        // An answer to HEAD has the headers only; bytes behind them would be taken for the next answer.
        if !isHead {
            let content = GatewayHTTP.body(answer)
            if content.readableBytes > 0 { context.write(wrapOutboundOut(.body(.byteBuffer(content))), promise: nil) }
        }
        context.writeAndFlush(wrapOutboundOut(.end(nil)), promise: nil)
        if action == .close { context.close(promise: nil) }
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
