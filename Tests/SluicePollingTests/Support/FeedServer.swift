import NIOCore
import NIOPosix
import SluiceCore
import SluiceTesting
import Synchronization

/// A provider of numbered items, byte by byte under the test's control: `GET /…?after=N` answers the next two of them, or
/// whatever `fault` says.
final class FeedServer: Sendable {
    struct Request: Sendable {
        var target: String
        var head: String
        /// By the test's clock.
        var at: Timestamp
        var after: Int { target.split(separator: "after=").dropFirst().first.flatMap { Int($0.prefix { $0.isNumber }) } ?? 0 }
    }

    enum Answer: Sendable {
        /// These bytes, and then either the end of the connection or silence.
        case raw(String, closes: Bool)
        /// A head, and then a body that never ends by itself.
        case endless(String)

        static func whole(_ status: String, _ body: String, headers: [String] = [], type: String = "application/json") -> Answer {
            let lines = ["HTTP/1.1 \(status)", "Content-Type: \(type)", "Content-Length: \(body.utf8.count)"] + headers
            return .raw(lines.joined(separator: "\r\n") + "\r\n\r\n" + body, closes: false)
        }
        static let silence = Answer.raw("", closes: false)
    }

    private struct State {
        var count = 0
        var fault: (@Sendable (Request) -> Answer?)?
        var requests: [Request] = []
    }

    private let state = Mutex(State())
    private let clock: any TimeSource
    private let channel = Mutex<(any Channel)?>(nil)
    static let pageSize = 2

    init(clock: any TimeSource) { self.clock = clock }

    var requests: [Request] { state.withLock { $0.requests } }
    var count: Int { state.withLock { $0.count } }
    var port: Int { channel.withLock { $0?.localAddress?.port ?? 0 } }
    var url: String { channel.withLock { "http://\($0?.localAddress?.ipAddress ?? "?"):\($0?.localAddress?.port ?? 0)/items" } }

    /// The dedup keys of all items, in order.
    var keys: [String] { (0..<count).map { "i\($0 + 1)" } }

    func add(_ count: Int) { state.withLock { $0.count += count } }
    func setFault(_ fault: (@Sendable (Request) -> Answer?)?) { state.withLock { $0.fault = fault } }

    /// Listens for as long as `body` takes.
    func with(host: String = "127.0.0.1", _ body: () async throws -> Void) async throws {
        let bootstrap = ServerBootstrap(group: MultiThreadedEventLoopGroup.singleton)
            .serverChannelOption(.socketOption(.so_reuseaddr), value: 1)
            .childChannelInitializer { channel in
                channel.eventLoop.makeCompletedFuture { try channel.pipeline.syncOperations.addHandler(FeedHandler(self)) }
            }
        let bound = try await bootstrap.bind(host: host, port: 0).get()
        channel.withLock { $0 = bound }
        do {
            try await body()
            try await bound.close()
        } catch {
            try? await bound.close()
            throw error
        }
    }

    func answer(_ head: String) -> Answer {
        let words = head.split(separator: " ", maxSplits: 2)
        let request = Request(target: words.count > 1 ? String(words[1]) : "", head: head, at: clock.now())
        let (fault, count) = state.withLock { state in
            state.requests.append(request)
            return (state.fault, state.count)
        }
        return fault?(request) ?? FeedServer.page(after: request.after, of: count)
    }

    static func page(after: Int, of count: Int) -> Answer { .whole("200 OK", pageBody(after: after, of: count)) }

    static func pageBody(after: Int, of count: Int) -> String {
        let last = max(after, min(after + pageSize, count))
        let items = (after..<last).map { "{\"id\":\"i\($0 + 1)\",\"n\":\($0 + 1)}" }.joined(separator: ",")
        return "{\"items\":[\(items)],\"next\":\(last),\"more\":\(last < count)}"
    }
}

/// Reads heads of GETs, one after the other, and writes answers.
private final class FeedHandler: ChannelInboundHandler {
    typealias InboundIn = ByteBuffer
    typealias OutboundOut = ByteBuffer
    private static let endlessWritesMax = 10_000
    private let server: FeedServer
    private var received = ""

    init(_ server: FeedServer) { self.server = server }

    func channelRead(context: ChannelHandlerContext, data: NIOAny) {
        received += String(buffer: unwrapInboundIn(data))
        guard let end = received.range(of: "\r\n\r\n") else { return }
        let head = String(received[..<end.lowerBound])
        received = String(received[end.upperBound...])
        switch server.answer(head) {
        case .raw(let text, let closes):
            let channel = context.channel
            let written =
                text.isEmpty ? context.eventLoop.makeSucceededVoidFuture() : context.channel.writeAndFlush(ByteBuffer(string: text))
            if closes { written.whenComplete { _ in channel.close(promise: nil) } }
        case .endless(let head): FeedHandler.write(head, context.channel, left: FeedHandler.endlessWritesMax)
        }
    }

    private static func write(_ text: String, _ channel: any Channel, left: Int) {
        guard left > 0 else { return }
        channel.writeAndFlush(ByteBuffer(string: text)).whenSuccess {
            write(String(repeating: "x", count: 8192), channel, left: left - 1)
        }
    }
}

extension String {
    fileprivate func range(of text: String) -> Range<String.Index>? { ranges(of: text).first }
}
