import Foundation
import NIOCore
import NIOPosix
import Synchronization

/// A provider on loopback whose answers a test writes. One request a connection.
final class ScriptedServer: Sendable {
    struct Request: Sendable {
        /// Request line and headers, as they came.
        var head: String
        var body: String
        var line: String { String(head.prefix { $0 != "\r\n" }) }
        var path: String { line.split(separator: " ").dropFirst().first.map { String($0.prefix { $0 != "?" }) } ?? "" }
        func header(_ name: String) -> String? {
            head.split(separator: "\r\n").first { $0.lowercased().hasPrefix(name.lowercased() + ":") }.map {
                $0.dropFirst(name.count + 1).trimmingCharacters(in: .whitespaces)
            }
        }
    }
    struct Answer: Sendable {
        var status = 200
        var headers: [String] = []
        var body = "{}"
    }
    /// Nil: the request is held until the test is over.
    typealias Script = @Sendable (Request) -> Answer?

    private let script: Script
    private let kept = Mutex<[Request]>([])
    var requests: [Request] { kept.withLock { $0 } }

    init(_ script: @escaping Script) { self.script = script }

    /// Listens for as long as `body` takes, which is given its URL.
    func with<Value>(_ body: (String) async throws -> Value) async throws -> Value {
        let bootstrap = ServerBootstrap(group: MultiThreadedEventLoopGroup.singleton)
            .childChannelInitializer { channel in
                channel.eventLoop.makeCompletedFuture { try channel.pipeline.syncOperations.addHandler(ScriptedHandler(self)) }
            }
        let channel = try await bootstrap.bind(host: "127.0.0.1", port: 0).get()
        do {
            let value = try await body("http://127.0.0.1:\(channel.localAddress?.port ?? 0)")
            try await channel.close()
            return value
        } catch {
            try? await channel.close()
            throw error
        }
    }

    fileprivate func answer(_ request: Request) -> String? {
        kept.withLock { $0.append(request) }
        guard let answer = script(request) else { return nil }
        let lines =
            ["HTTP/1.1 \(answer.status) Scripted", "Content-Length: \(answer.body.utf8.count)", "Connection: close"]
            + (answer.headers.contains { $0.lowercased().hasPrefix("content-type") } ? [] : ["Content-Type: application/json"])
            + answer.headers
        return lines.joined(separator: "\r\n") + "\r\n\r\n" + answer.body
    }
}

private final class ScriptedHandler: ChannelInboundHandler {
    typealias InboundIn = ByteBuffer
    private let server: ScriptedServer
    private var received = Data()

    init(_ server: ScriptedServer) { self.server = server }

    func channelRead(context: ChannelHandlerContext, data: NIOAny) {
        received.append(contentsOf: unwrapInboundIn(data).readableBytesView)
        guard let end = received.range(of: Data("\r\n\r\n".utf8)) else { return }
        let head = String(decoding: received[..<end.lowerBound], as: UTF8.self)
        let request = ScriptedServer.Request(head: head, body: String(decoding: received[end.upperBound...], as: UTF8.self))
        guard request.body.utf8.count >= Int(request.header("Content-Length") ?? "0") ?? 0, let text = server.answer(request) else {
            return
        }
        let channel = context.channel
        channel.writeAndFlush(ByteBuffer(string: text)).whenComplete { _ in channel.close(promise: nil) }
    }
}
