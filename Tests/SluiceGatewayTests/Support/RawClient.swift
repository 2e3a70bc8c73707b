import NIOCore
import NIOPosix
import SluiceCore
import Synchronization

/// One TCP connection that sends and receives bytes exactly as told, which no HTTP client would do.
final class RawClient: Sendable {
    private let channel: any Channel
    private let inbound: Inbound

    /// What came, and whether the server has closed.
    private final class Inbound: ChannelInboundHandler, Sendable {
        typealias InboundIn = ByteBuffer
        let state = Mutex<(bytes: [UInt8], isClosed: Bool)>(([], false))
        func channelRead(context: ChannelHandlerContext, data: NIOAny) {
            let part = unwrapInboundIn(data)
            state.withLock { $0.bytes.append(contentsOf: part.readableBytesView) }
        }
        func userInboundEventTriggered(context: ChannelHandlerContext, event: Any) {
            if case .inputClosed? = event as? ChannelEvent { state.withLock { $0.isClosed = true } }
        }
        func channelInactive(context: ChannelHandlerContext) { state.withLock { $0.isClosed = true } }
        func errorCaught(context: ChannelHandlerContext, error: any Error) { state.withLock { $0.isClosed = true } }
    }

    init(port: Int) async throws {
        let inbound = Inbound()
        self.inbound = inbound
        channel = try await ClientBootstrap(group: MultiThreadedEventLoopGroup.singleton)
            .channelOption(.allowRemoteHalfClosure, value: true)
            .channelInitializer { channel in
                channel.eventLoop.makeCompletedFuture { try channel.pipeline.syncOperations.addHandler(inbound) }
            }
            .connect(host: "127.0.0.1", port: port).get()
    }

    func send(_ text: String) async throws { try await send(Array(text.utf8)) }
    func send(_ bytes: [UInt8]) async throws { try await channel.writeAndFlush(ByteBuffer(bytes: bytes)) }
    func closeOutput() async throws { try await channel.close(mode: .output) }
    func close() async { try? await channel.close() }

    var received: [UInt8] { inbound.state.withLock { $0.bytes } }
    var isClosedByServer: Bool { inbound.state.withLock { $0.isClosed } }

    /// Takes one whole answer (they all have a Content-Length) off what was received.
    func answer() async throws -> Answer {
        try await eventually("an answer") { Answer(self.received) != nil }
        return inbound.state.withLock { state in
            let answer = Answer(state.bytes)!
            state.bytes.removeFirst(answer.byteCount)
            return answer
        }
    }

    func answer(to request: String) async throws -> Answer {
        try await send(request)
        return try await answer()
    }

    struct Answer: Sendable {
        var status: Int
        var headers: [String: String]
        var body: String
        var byteCount: Int

        init?(_ bytes: [UInt8]) {
            let text = String(decoding: bytes, as: UTF8.self)
            guard let (head, _) = text.splitOnce("\r\n\r\n") else { return nil }
            let lines = head.split(separator: "\r\n")
            status = Int(lines[0].split(separator: " ")[1])!
            headers = [:]
            for line in lines.dropFirst() {
                guard let (name, value) = String(line).splitOnce(": ") else { return nil }
                headers[name.lowercased()] = value
            }
            let start = head.utf8.count + 4
            let length = Int(headers["content-length"] ?? "0") ?? 0
            guard bytes.count >= start + length else { return nil }
            body = String(decoding: bytes[start..<start + length], as: UTF8.self)
            byteCount = start + length
        }
    }
}

extension String {
    func splitOnce(_ separator: String) -> (String, String)? {
        let wanted = Array(separator.utf8)
        let bytes = Array(utf8)
        guard bytes.count >= wanted.count else { return nil }
        for start in 0...(bytes.count - wanted.count) where bytes[start..<start + wanted.count].elementsEqual(wanted) {
            return (String(decoding: bytes[..<start], as: UTF8.self), String(decoding: bytes[(start + wanted.count)...], as: UTF8.self))
        }
        return nil
    }
}
