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

/// Hummingbird's server, which accepts, counts connections and shuts down; a connection is served by handlers of its event
/// loop, since a webhook needs no router, no middleware and no task.
struct GatewayListener: Service {
    let gateway: Gateway
    let host: String
    let port: Int
    let eventLoopGroup: any EventLoopGroup
    let onBound: @Sendable (Int) async -> Void

    func run() async throws {
        let channel = GatewayChannel(
            gateway: gateway, budget: MemoryBudget(bytesMax: gateway.limits.bodiesInFlightBytesMax),
            mailboxes: LoopMailboxes(eventLoopGroup))
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

/// HTTP/1.1 with the intake's limits, and the gateway behind it.
struct GatewayChannel: ServerChildChannel {
    struct Value: ServerChildChannelValue {
        let channel: any Channel
        /// At most one at a time: a connection's requests are answered one after the other.
        let slowWork: AsyncStream<@Sendable () async -> Void>
    }

    let gateway: Gateway
    let budget: MemoryBudget
    let mailboxes: LoopMailboxes

    func setup(channel: any Channel, logger: Logger) -> EventLoopFuture<Value> {
        channel.eventLoop.makeCompletedFuture {
            let limits = gateway.limits
            var decoding = NIOHTTPDecoderLimitConfiguration()
            decoding.maxHeaderFieldSize = limits.headerBytesMax
            decoding.maxHeaderListSize = limits.headerBytesMax
            decoding.maxHeaderFieldCount = limits.headersMax
            let pipeline = channel.pipeline.syncOperations
            // Order is kept and errors are answered by the intake; every header that is sent is checked or our own.
            try pipeline.configureHTTPServerPipeline(
                withPipeliningAssistance: false, withErrorHandling: false, withOutboundHeaderValidation: false,
                withEncoderConfiguration: .init(), withDecoderLimitConfiguration: decoding)
            let (slowWork, continuation) = AsyncStream.makeStream(of: (@Sendable () async -> Void).self)
            try pipeline.addHandler(
                IntakeHandler(gateway: gateway, budget: budget, mailbox: mailboxes[channel.eventLoop], slowWork: continuation))
            return Value(channel: channel, slowWork: slowWork)
        }
    }

    /// The handlers do the work but for what takes longer; this holds the connection's place until it is closed.
    func handle(value: Value, logger: Logger) async {
        await withTaskCancellationHandler {
            for await work in value.slowWork { await work() }
            try? await value.channel.closeFuture.get()
        } onCancel: {
            value.channel.close(promise: nil)
        }
    }
}

/// Between HTTP and the gateway.
enum GatewayHTTP {
    private static let success = ByteBuffer(bytes: GatewayAnswer.successBody)
    private static let successLength = String(GatewayAnswer.successBody.count)

    static func webhook(_ head: HTTPRequestHead, _ body: ByteBuffer?) -> WebhookRequest {
        let target = head.uri
        let mark = target.utf8.firstIndex(of: UInt8(ascii: "?"))
        return WebhookRequest(
            method: head.method.rawValue, path: mark.map { String(target[..<$0]) } ?? target,
            query: mark.map { String(target[target.utf8.index(after: $0)...]) } ?? "",
            headers: head.headers.map { HTTPField($0.name, $0.value) }, body: body.map { Array($0.readableBytesView) } ?? [])
    }

    /// `isLast`: the connection is closed after this answer.
    static func head(_ answer: GatewayAnswer, isLast: Bool) -> HTTPResponseHead {
        var headers: HTTPHeaders
        if let handshake = answer.handshake {
            headers = HTTPHeaders()
            // They may hold what a request asked to have reflected.
            for header in handshake.headers where isToken(header.name) && isValue(header.value) {
                headers.add(name: header.name, value: header.value)
            }
            // RFC 9110, 8.6: an answer 204 has no length.
            if handshake.status != 204 { headers.replaceOrAdd(name: "Content-Length", value: String(handshake.body.count)) }
        } else {
            headers = HTTPHeaders([
                ("Content-Type", "application/json"),
                ("Content-Length", answer.isSuccess ? successLength : String(answer.body.count)),
            ])
            if answer.status == 405 { headers.add(name: "Allow", value: "POST, PUT") }
        }
        if let sequence = answer.sequence { headers.add(name: "Sluice-Inbox", value: String(sequence.rawValue)) }
        if let seconds = answer.retryAfterSeconds { headers.add(name: "Retry-After", value: String(seconds)) }
        if isLast { headers.replaceOrAdd(name: "Connection", value: "close") }
        return HTTPResponseHead(version: .http1_1, status: HTTPResponseStatus(statusCode: answer.status), headers: headers)
    }

    static func body(_ answer: GatewayAnswer) -> ByteBuffer {
        answer.isSuccess && answer.handshake == nil ? success : ByteBuffer(bytes: answer.body)
    }

    /// RFC 9110, 5.6.2.
    private static func isToken(_ name: String) -> Bool {
        !name.isEmpty
            && name.utf8.allSatisfy { byte in
                (0x30...0x39).contains(byte) || (0x41...0x5A).contains(byte) || (0x61...0x7A).contains(byte)
                    || "!#$%&'*+-.^_`|~".utf8.contains(byte)
            }
    }

    /// RFC 9110, 5.5: nothing that could end the line.
    private static func isValue(_ value: String) -> Bool { value.utf8.allSatisfy { $0 >= 0x20 && $0 != 0x7F || $0 == 0x09 } }
}
