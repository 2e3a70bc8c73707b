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
                address: .hostname(host, port: port), availableConnectionsDelegate: MaximumAvailableConnections(2000)),
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
        let answer = await api.respond(
            to: APIRequest(
                request.method.rawValue, request.uri.path, query: Percent.query(request.uri.query ?? ""),
                authorization: request.headers[.authorization], contentType: request.headers[.contentType],
                body: Array(buffer: body)))
        // An answer to HEAD has no body, and would otherwise be taken for the beginning of the next one (RFC 9110, 9.3.2).
        return request.method == .head ? Self.response(answer, hasBody: false) : Self.response(answer)
    }

    private static func response(_ answer: APIResponse, hasBody: Bool = true) -> Response {
        var headers: HTTPFields = [.contentType: "application/json", .cacheControl: "no-store"]
        for (name, value) in answer.headers {
            if let name = HTTPField.Name(name) { headers[name] = value }
        }
        return Response(
            status: .init(code: answer.status), headers: headers,
            body: hasBody ? .init(byteBuffer: ByteBuffer(bytes: answer.body + [0x0A])) : .init())
    }
}
