import HTTPTypes
import Hummingbird
import HummingbirdCore
import Logging
import NIOCore
import ServiceLifecycle
import SluiceCore
import Synchronization

/// Puts the API behind HTTP, on a listener of its own.
struct APIServer: Service {
    let api: API
    let host: String
    let port: Int
    /// Long polls and streams hold a connection each.
    var connectionsMax = 2000
    let logger: Logger
    /// Called once with the port that was bound.
    let onBound: @Sendable (Int) async -> Void
    /// Called when the server is told to stop, to end long polls.
    let onShutdown: @Sendable () -> Void

    func run() async throws {
        let responder = CallbackResponder<BasicRequestContext> { request, _ in await respond(to: request) }
        let application = Application(
            responder: responder,
            server: .http1(configuration: .init(idleTimeout: .seconds(120))),
            configuration: ApplicationConfiguration(
                address: .hostname(host, port: port), availableConnectionsDelegate: MaximumAvailableConnections(connectionsMax)),
            onServerRunning: { channel in await onBound(channel.localAddress?.port ?? port) },
            logger: logger)
        try await withGracefulShutdownHandler {
            try await application.run()
        } onGracefulShutdown: {
            onShutdown()
        }
    }

    private func respond(to request: Request) async -> Response {
        var request = request
        let isLong = (request.headers[.contentLength].flatMap { Int($0) } ?? 0) > APIRequest.bodyBytesMax
        guard !isLong, let body = try? await request.collectBody(upTo: APIRequest.bodyBytesMax) else {
            return Self.response(.failure(SluiceError(.tooLarge, "the body is larger than \(APIRequest.bodyBytesMax) bytes, or broke off")))
        }
        var wanted = APIRequest(
            request.method.rawValue, request.uri.path, query: Percent.query(request.uri.query ?? ""),
            authorization: request.headers[.authorization], contentType: request.headers[.contentType],
            body: Array(buffer: body))
        wanted.lastEventID = HTTPField.Name("Last-Event-ID").flatMap { request.headers[$0] }.flatMap { $0.isEmpty ? nil : $0 }
        let answer = await api.respond(to: wanted)
        // An answer to HEAD has no body, and would otherwise be taken for the beginning of the next one (RFC 9110, 9.3.2).
        return request.method == .head ? Self.response(answer, hasBody: false) : Self.response(answer)
    }

    private static func response(_ answer: APIResponse, hasBody: Bool = true) -> Response {
        var headers: HTTPFields = [.contentType: "application/json", .cacheControl: "no-store"]
        for (name, value) in answer.headers {
            if let name = HTTPField.Name(name) { headers[name] = value }
        }
        let body = hasBody ? body(of: answer, &headers) : ResponseBody()
        return Response(status: .init(code: answer.status), headers: headers, body: body)
    }

    private static func body(of answer: APIResponse, _ headers: inout HTTPFields) -> ResponseBody {
        if let stream = answer.stream {
            headers[.contentType] = "text/event-stream"
            // Proxies that gather an answer before they pass it on are asked not to.
            if let name = HTTPField.Name("X-Accel-Buffering") { headers[name] = "no" }
            return ResponseBody { writer in
                let shared = SharedWriter(writer)
                try await stream { try await shared.write(ByteBuffer(bytes: $0)) }
                try await writer.finish(nil)
            }
        }
        let bytes = ByteBuffer(bytes: answer.body + [0x0A])
        guard let undelivered = answer.undelivered else { return ResponseBody(byteBuffer: bytes) }
        let handover = Handover(undelivered)
        return ResponseBody(contentLength: bytes.readableBytes) { writer in
            try await writer.write(bytes)
            try await writer.finish(nil)
            handover.isDone.store(true, ordering: .relaxed)
        }
    }
}

/// Notices that an answer was let go of before it was written, also where not even its head could be.
private final class Handover: Sendable {
    let isDone = Atomic(false)
    private let undelivered: @Sendable () -> Void
    init(_ undelivered: @escaping @Sendable () -> Void) { self.undelivered = undelivered }
    deinit { if !isDone.load(ordering: .relaxed) { undelivered() } }
}

/// One writer at a time: the stream's.
private final class SharedWriter: @unchecked Sendable {
    // `@unchecked`: only the stream's task writes, and nobody else while it runs.
    private var writer: any ResponseBodyWriter
    init(_ writer: any ResponseBodyWriter) { self.writer = writer }
    func write(_ bytes: ByteBuffer) async throws { try await writer.write(bytes) }
}
