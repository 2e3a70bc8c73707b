import NIOCore
import NIOHTTP1
import NIOPosix
import Synchronization

#if canImport(Glibc)
    import Glibc
#elseif canImport(Musl)
    import Musl
#endif

/// A receiver on a free loopback port that answers, hangs or misbehaves as the test says.
final class Sink: Sendable {
    struct Request: Sendable {
        var path: String
        var headers: HTTPHeaders
        var body: [UInt8]
        func header(_ name: String) -> String? { headers.first(name: name) }
    }
    enum Reaction: Sendable {
        case answer(Int, [(String, String)] = [], [UInt8] = [])
        case hang
        case reset
        /// 200 and a body without end.
        case endless
        /// 200, one byte, and then nothing.
        case dribble
    }

    private struct State {
        var requests: [Request] = []
        var bytesSent = 0
        var open = 0
        var openMax = 0
    }
    private let state = Mutex(State())
    private let channel: any Channel
    private let react: @Sendable (Int, Request) -> Reaction
    private let box: SinkBox

    private init(channel: any Channel, box: SinkBox, react: @escaping @Sendable (Int, Request) -> Reaction) {
        self.box = box
        self.channel = channel
        self.react = react
    }

    /// `react` gets the number of the request, from 0.
    static func with(
        host: String = "127.0.0.1", port: Int = 0, _ react: @escaping @Sendable (Int, Request) -> Reaction,
        _ body: (Sink) async throws -> Void
    ) async throws {
        let box = SinkBox()
        let channel = try await ServerBootstrap(group: MultiThreadedEventLoopGroup.singleton)
            .serverChannelOption(.backlog, value: 256)
            .childChannelInitializer { channel in
                box.connections.withLock { $0 += 1 }
                return channel.pipeline.configureHTTPServerPipeline().flatMapThrowing {
                    try channel.pipeline.syncOperations.addHandler(SinkHandler(sink: box))
                }
            }
            .bind(host: host, port: port).get()
        let sink = Sink(channel: channel, box: box, react: react)
        box.sink.withLock { $0 = sink }
        do {
            try await body(sink)
        } catch {
            try? await channel.close()
            throw error
        }
        try await channel.close()
    }

    var port: Int { channel.localAddress!.port! }
    /// Connections that were opened, also those that said nothing.
    var connections: Int { box.connections.withLock { $0 } }
    var url: String { "http://127.0.0.1:\(port)/hook?a=b" }
    var requests: [Request] { state.withLock { $0.requests } }
    var bytesSent: Int { state.withLock { $0.bytesSent } }
    /// The most requests that were unanswered at the same time.
    var openMax: Int { state.withLock { $0.openMax } }

    fileprivate func take(_ request: Request) -> Reaction {
        let number = state.withLock { state in
            state.requests.append(request)
            state.open += 1
            state.openMax = max(state.openMax, state.open)
            return state.requests.count - 1
        }
        return react(number, request)
    }
    fileprivate func ended() { state.withLock { $0.open -= 1 } }
    fileprivate func sent(_ bytes: Int) { state.withLock { $0.bytesSent += bytes } }
}

private final class SinkBox: Sendable {
    let sink = Mutex<Sink?>(nil)
    let connections = Mutex(0)
}

private final class SinkHandler: ChannelInboundHandler {
    typealias InboundIn = HTTPServerRequestPart
    typealias OutboundOut = HTTPServerResponsePart
    private let box: SinkBox
    private var head: HTTPRequestHead?
    private var body: [UInt8] = []
    private var isOpen = false

    init(sink: SinkBox) { box = sink }

    func channelRead(context: ChannelHandlerContext, data: NIOAny) {
        switch unwrapInboundIn(data) {
        case .head(let head): (self.head, body) = (head, [])
        case .body(let chunk): body += chunk.readableBytesView
        case .end:
            guard let head, let sink = box.sink.withLock({ $0 }) else { return }
            isOpen = true
            perform(sink.take(.init(path: head.uri, headers: head.headers, body: body)), sink, context)
        }
    }

    func channelInactive(context: ChannelHandlerContext) { end() }

    private func end() {
        if isOpen { box.sink.withLock { $0 }?.ended() }
        isOpen = false
    }

    private func perform(_ reaction: Sink.Reaction, _ sink: Sink, _ context: ChannelHandlerContext) {
        switch reaction {
        case .hang: return
        case .reset:
            let linger = linger(l_onoff: 1, l_linger: 0)
            let channel = context.channel
            (channel as! any SocketOptionProvider).setSoLinger(linger).whenComplete { _ in channel.close(promise: nil) }
        case .answer(let status, let headers, let bytes):
            end()
            writeHead(status, headers + [("content-length", String(bytes.count))], context)
            context.write(wrapOutboundOut(.body(.byteBuffer(ByteBuffer(bytes: bytes)))), promise: nil)
            context.writeAndFlush(wrapOutboundOut(.end(nil)), promise: nil)
        case .endless:
            writeHead(200, [("transfer-encoding", "chunked")], context)
            pour(context.channel, sink, left: 4096)
        case .dribble:
            writeHead(200, [("content-length", "1000")], context)
            context.writeAndFlush(wrapOutboundOut(.body(.byteBuffer(ByteBuffer(string: "x")))), promise: nil)
        }
    }

    private func writeHead(_ status: Int, _ headers: [(String, String)], _ context: ChannelHandlerContext) {
        let head = HTTPResponseHead(version: .http1_1, status: .init(statusCode: status), headers: HTTPHeaders(headers))
        context.write(wrapOutboundOut(.head(head)), promise: nil)
    }

    /// At most 64 MiB, a chunk whenever the last one went out.
    private func pour(_ channel: any Channel, _ sink: Sink, left: Int) {
        guard left > 0 else { return }
        Pourer.pour(channel, sink, left: left)
    }
}

private enum Pourer {
    static func pour(_ channel: any Channel, _ sink: Sink, left: Int) {
        guard left > 0 else { return }
        let chunk = ByteBuffer(repeating: UInt8(ascii: "z"), count: 16 * 1024)
        channel.writeAndFlush(HTTPServerResponsePart.body(.byteBuffer(chunk))).whenSuccess {
            sink.sent(16 * 1024)
            pour(channel, sink, left: left - 1)
        }
    }
}
