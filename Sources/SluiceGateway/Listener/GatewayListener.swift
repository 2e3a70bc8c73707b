import HTTPTypes
import Hummingbird
import HummingbirdCore
import Logging
import NIOCore
import NIOHTTP1
import NIOPosix
import ServiceLifecycle
import SluiceConnectors

extension Gateway {
    /// The loops of public listeners: one core is left to the thread that writes, without which nothing is answered.
    public static let loops = MultiThreadedEventLoopGroup(numberOfThreads: max(1, System.coreCount - 1))

    /// The public listener as a service: accepts until it is shut down gracefully, then finishes what it has in hand and
    /// answers 503 to what still comes.
    ///
    /// - Parameters:
    ///   - port: 0 lets the kernel choose.
    ///   - onBound: called once, with the port that was bound, before the first request is answered.
    public func application(
        host: String, port: Int, eventLoopGroup: any EventLoopGroup = Gateway.loops,
        onBound: @escaping @Sendable (Int) async -> Void = { _ in }
    ) -> some Service {
        GatewayListener(gateway: self, host: host, port: port, eventLoopGroup: eventLoopGroup, onBound: onBound)
    }
}

/// Hummingbird's server with a plain function as its responder: one route needs no router, no middleware and no request id.
struct GatewayListener: Service {
    let gateway: Gateway
    let host: String
    let port: Int
    let eventLoopGroup: any EventLoopGroup
    let onBound: @Sendable (Int) async -> Void

    func run() async throws {
        let responder = GatewayResponder(gateway: gateway)
        let channel = GatewayChannel(
            gateway: gateway, budget: MemoryBudget(bytesMax: gateway.limits.bodiesInFlightBytesMax),
            executors: LoopExecutors(eventLoopGroup)
        ) { request, writer, _ in
            try await responder.respond(to: request, writer)
        }
        let server = channel.server(
            configuration: ServerConfiguration(
                address: .hostname(host, port: port), backlog: 1024,
                availableConnectionsDelegate: MaximumAvailableConnections(gateway.limits.connectionsMax)),
            onServerRunning: { [onBound, port] channel in await onBound(channel.localAddress?.port ?? port) },
            eventLoopGroup: eventLoopGroup, logger: gateway.logger)
        try await withGracefulShutdownHandler {
            try await server.run()
        } onGracefulShutdown: {
            gateway.beginShutdown()
        }
    }
}

/// Hummingbird's HTTP/1.1 channel with the intake's limits put behind its decoder.
struct GatewayChannel: ServerChildChannel {
    typealias Value = HTTP1Channel.Value

    private let gateway: Gateway
    private let budget: MemoryBudget
    private let executors: LoopExecutors
    private let http1: HTTP1Channel

    init(gateway: Gateway, budget: MemoryBudget, executors: LoopExecutors, responder: @escaping HTTPChannelHandler.Responder) {
        let limits = gateway.limits
        self.gateway = gateway
        self.budget = budget
        self.executors = executors
        http1 = HTTP1Channel(
            responder: responder,
            configuration: HTTP1Channel.Configuration(
                httpDecoderConfiguration: .init(
                    maxHeaderFieldSize: limits.headerBytesMax, maxHeaderListSize: limits.headerBytesMax,
                    maxHeaderFieldCount: limits.headersMax)))
    }

    func setup(channel: any Channel, logger: Logger) -> EventLoopFuture<Value> {
        http1.setup(channel: channel, logger: logger).flatMapThrowing { value in
            let pipeline = channel.pipeline.syncOperations
            let decoder = try pipeline.handler(type: ByteToMessageHandler<HTTPRequestDecoder>.self)
            try pipeline.addHandler(IntakeHandler(gateway: gateway, budget: budget), position: .after(decoder))
            return value
        }
    }

    func handle(value: Value, logger: Logger) async {
        await withTaskExecutorPreference(executors[value.channel.eventLoop]) { await http1.handle(value: value, logger: logger) }
    }
}

/// Between Hummingbird's request and response and the gateway's. Each request is whole when it comes here.
struct GatewayResponder: Sendable {
    let gateway: Gateway

    private static let success = ByteBuffer(bytes: GatewayAnswer.successBody)
    private static let successLength = String(GatewayAnswer.successBody.count)
    private static let inbox = HTTPTypes.HTTPField.Name("Sluice-Inbox")!

    func respond(to request: Request, _ writer: consuming ResponseWriter) async throws {
        var body: [UInt8] = []
        for try await part in request.body {
            part.withUnsafeReadableBytes { body.append(contentsOf: $0) }
        }
        let answer = await gateway.respond(to: GatewayResponder.webhook(request.head, body))
        // An answer to HEAD has the headers only; bytes behind them would be taken for the next answer.
        let content = request.method == .head ? ResponseBody() : GatewayResponder.body(answer)
        try await writer.write(response: GatewayResponder.head(answer), body: content)
    }

    static func webhook(_ head: HTTPRequest, _ body: [UInt8]) -> WebhookRequest {
        let target = head.path ?? "/"
        let mark = target.utf8.firstIndex(of: UInt8(ascii: "?"))
        var headers: [SluiceConnectors.HTTPField] = []
        headers.reserveCapacity(head.headerFields.count + 1)
        // HTTPTypes takes the host out of the headers.
        if let host = head.authority { headers.append(SluiceConnectors.HTTPField("Host", host)) }
        for field in head.headerFields { headers.append(SluiceConnectors.HTTPField(field.name.rawName, field.value)) }
        return WebhookRequest(
            method: head.method.rawValue, path: mark.map { String(target[..<$0]) } ?? target,
            query: mark.map { String(target[target.utf8.index(after: $0)...]) } ?? "", headers: headers, body: body)
    }

    private static func head(_ answer: GatewayAnswer) -> HTTPResponse {
        var fields = HTTPFields()
        if let handshake = answer.handshake { return head(answer, handshake) }
        fields[.contentType] = "application/json"
        fields[.contentLength] = answer.isSuccess ? successLength : String(answer.body.count)
        if let sequence = answer.sequence { fields[inbox] = String(sequence.rawValue) }
        if let seconds = answer.retryAfterSeconds { fields[.retryAfter] = String(seconds) }
        if answer.status == 405 { fields[.allow] = "POST, PUT" }
        return HTTPResponse(status: HTTPResponse.Status(code: answer.status), headerFields: fields)
    }

    private static func head(_ answer: GatewayAnswer, _ handshake: HandshakeAnswer) -> HTTPResponse {
        var fields = HTTPFields()
        for header in handshake.headers {
            if let name = HTTPTypes.HTTPField.Name(header.name) { fields[name] = header.value }
        }
        // RFC 9110, 8.6: an answer 204 has no length.
        if handshake.status != 204 { fields[.contentLength] = String(handshake.body.count) }
        if let sequence = answer.sequence { fields[inbox] = String(sequence.rawValue) }
        if let seconds = answer.retryAfterSeconds { fields[.retryAfter] = String(seconds) }
        return HTTPResponse(status: HTTPResponse.Status(code: handshake.status), headerFields: fields)
    }

    private static func body(_ answer: GatewayAnswer) -> ResponseBody {
        if answer.handshake != nil { return ResponseBody(byteBuffer: ByteBuffer(bytes: answer.body)) }
        return ResponseBody(byteBuffer: answer.isSuccess ? success : ByteBuffer(bytes: answer.body))
    }
}
