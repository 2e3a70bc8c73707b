import HTTPTypes
import Hummingbird
import HummingbirdCore
import Logging
import NIOCore
import ServiceLifecycle
import SluiceCore

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
        let callers = Callers()
        let responder = CallbackResponder<APIContext> { request, context in
            await respond(to: request, from: callers.caller(context.channel))
        }
        let application = Application(
            responder: responder,
            server: .http1(
                configuration: .init(
                    additionalChannelHandlers: [CallerHandler(callers), UnreadableRequestHandler()], idleTimeout: .seconds(120))),
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

    private func respond(to request: Request, from caller: Caller?) async -> Response {
        var request = request
        let isLong = (request.headers[.contentLength].flatMap { Int($0) } ?? 0) > APIRequest.bodyBytesMax
        let tooLong = SluiceError(.tooLarge, "the body is larger than \(APIRequest.bodyBytesMax) bytes: send it in parts")
        let body: ByteBuffer
        do {
            guard !isLong else { throw tooLong }
            body = try await request.collectBody(upTo: APIRequest.bodyBytesMax)
        } catch let error as SluiceError {
            return Self.response(.failure(error))
        } catch is NIOTooManyBytesError {
            return Self.response(.failure(tooLong))
        } catch {
            return Self.response(.failure(UnreadableRequestHandler.explanation(of: error)))
        }
        var wanted = APIRequest(
            request.method.rawValue, request.uri.path, query: Percent.query(request.uri.query ?? ""),
            authorization: request.headers[.authorization], contentType: request.headers[.contentType],
            body: Array(buffer: body))
        wanted.lastEventID = HTTPField.Name("Last-Event-ID").flatMap { request.headers[$0] }.flatMap { $0.isEmpty ? nil : $0 }
        wanted.caller = caller
        let answer = await api.respond(to: wanted)
        // An answer to HEAD has no body, and would otherwise be taken for the beginning of the next one (RFC 9110, 9.3.2).
        return Self.response(answer, to: caller, hasBody: request.method != .head)
    }

    private static func response(_ answer: APIResponse, to caller: Caller? = nil, hasBody: Bool = true) -> Response {
        var headers: HTTPFields = [.contentType: "application/json", .cacheControl: "no-store"]
        if let name = HTTPField.Name(APIMark.header) { headers[name] = APIMark.value }
        for (name, value) in answer.headers {
            if let name = HTTPField.Name(name) { headers[name] = value }
        }
        let body = hasBody ? body(of: answer, to: caller, &headers) : ResponseBody()
        return Response(status: .init(code: answer.status), headers: headers, body: body)
    }

    private static func body(of answer: APIResponse, to caller: Caller?, _ headers: inout HTTPFields) -> ResponseBody {
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
            // Done once the end of it was handed to the system: until then it may still be lost with its connection.
            caller?.hands(over: handover)
            try await writer.write(bytes)
            try await writer.finish(nil)
            if caller == nil { handover.done() }
        }
    }
}

/// By what a command tells that Sluice answers, and not something else that speaks JSON.
public enum APIMark {
    public static let header = "Sluice-API"
    public static let value = "1"
}

/// One writer at a time: the stream's.
private final class SharedWriter: @unchecked Sendable {
    // `@unchecked`: only the stream's task writes, and nobody else while it runs.
    private var writer: any ResponseBodyWriter
    init(_ writer: any ResponseBodyWriter) { self.writer = writer }
    func write(_ bytes: ByteBuffer) async throws { try await writer.write(bytes) }
}
