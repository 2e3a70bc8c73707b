import AsyncHTTPClient
import NIOCore
import NIOHTTP1
import SluiceConnectors
import SluiceCore
import SluiceOutgoing
import Synchronization

#if canImport(Glibc)
    import Glibc
#elseif canImport(Musl)
    import Musl
#elseif canImport(Darwin)
    import Darwin
#endif

/// Makes signed POSTs to one destination.
struct PushSender: Sendable {
    private let options: DeliveryOptions
    private let timeoutSeconds: Int
    /// What is the same for each request; the URL is read once. Or what is wrong with it.
    private let request: Result<HTTPClient.Request, any Error>

    init(_ destination: PushDestination, options: DeliveryOptions) {
        self.options = options
        timeoutSeconds = destination.timeoutSeconds
        var headers = HTTPHeaders()
        for field in destination.headers where !PushHeaders.own.contains(field.name.lowercased()) {
            headers.add(name: field.name, value: field.value)
        }
        if !headers.contains(name: "user-agent") { headers.add(name: "user-agent", value: options.userAgent) }
        headers.add(name: "content-type", value: "application/json")
        request = Result { try HTTPClient.Request(url: WebAddress(destination.url).url, method: .POST, headers: headers) }
    }

    /// `at`: for `webhook-timestamp`. `now`: what a date in Retry-After is counted from. Never throws: what goes wrong is the answer.
    func send(
        _ body: [UInt8], id: String, signedBy signer: WebhookSigner, with pinned: PinnedClient, at: Timestamp, until deadline: NIODeadline,
        now: () -> Timestamp
    ) async -> CourierAnswer {
        let exchange = PushExchange(keptMax: options.responseBytesKept, bytesMax: options.responseBytesMax)
        var failure: (any Error)?
        do {
            var request = try self.request.get()
            request.headers.add(name: "webhook-id", value: id)
            request.headers.add(name: "webhook-timestamp", value: String(at.seconds))
            request.headers.add(name: "webhook-signature", value: signer.sign(id: id, timestamp: at, body: body))
            request.body = .byteBuffer(ByteBuffer(bytes: body))
            let task = pinned.client.execute(request: request, delegate: exchange, deadline: deadline)
            try await withTaskCancellationHandler {
                try await task.futureResult.get()
            } onCancel: {
                task.cancel()
            }
        } catch {
            failure = error
        }
        // The status has decided already, even where the body was too long or too slow to be read: that costs its connection only.
        let (head, kept) = exchange.answer
        if let head {
            let status = Int(head.status.code)
            // Only these two statuses give it a meaning for whoever asks again (RFC 9110, RFC 6585).
            let asksForRest = status == 429 || status == 503
            let retryAfter = asksForRest ? head.headers.first(name: "retry-after").flatMap { RetryAfter.parse($0, now: now()) } : nil
            return CourierAnswer(
                PushSender.result(status), status: status, retryAfter: retryAfter, error: PushSender.complaint(status), response: kept)
        }
        return PushSender.failure(failure ?? ChannelError.eof, timeoutSeconds: timeoutSeconds)
    }

    static func result(_ status: Int) -> CourierAnswer.Result {
        switch status {
        case 200..<300: .delivered
        case 410: .gone
        default: .failed
        }
    }

    private static func complaint(_ status: Int) -> String? {
        switch status {
        case 200..<300: nil
        case 300..<400: "the destination answered \(status), a redirect, and redirects are not followed; set its final URL"
        case 410: "the destination answered 410: it wants no more deliveries"
        default: "the destination answered \(status)"
        }
    }

    /// Says what went wrong without the URL and without header values.
    private static func failure(_ error: any Error, timeoutSeconds: Int) -> CourierAnswer {
        switch error {
        case let error as SluiceError: return CourierAnswer(.failed, error: error.message)
        case is CancellationError: return CourierAnswer(.failed, error: "the server was stopped")
        case _ where NoHTTP.isCause(of: error): return CourierAnswer(.failed, error: NoHTTP.words)
        case let error as HTTPClientError: return failure(error, timeoutSeconds)
        case let error as IOError:
            let code = error.errnoCode
            let isConnect = [ECONNREFUSED, ENETUNREACH, EHOSTUNREACH, EADDRNOTAVAIL, ETIMEDOUT].contains(code)
            let words =
                switch code {
                case ECONNREFUSED: "the connection was refused"
                case ECONNRESET, EPIPE: "the connection was reset"
                case ENETUNREACH, EHOSTUNREACH: "the network cannot reach the destination"
                default: "the connection failed: \(String(cString: strerror(code)))"
                }
            return CourierAnswer(.failed, error: words, isConnectFailure: isConnect)
        case let error as ChannelError:
            if case .connectTimeout = error {
                return CourierAnswer(.failed, error: "no connection within the time-out", isConnectFailure: true)
            }
            return CourierAnswer(.failed, error: "the connection was closed before an answer came")
        default: return CourierAnswer(.failed, error: "the request failed: \(String(describing: error).prefix(200))")
        }
    }

    private static func failure(_ error: HTTPClientError, _ timeoutSeconds: Int) -> CourierAnswer {
        switch error {
        case .connectTimeout, .tlsHandshakeTimeout:
            CourierAnswer(.failed, error: "no connection within the time-out", isConnectFailure: true)
        case .deadlineExceeded, .readTimeout, .getConnectionFromPoolTimeout:
            CourierAnswer(.failed, error: "no answer within \(timeoutSeconds) s")
        case .remoteConnectionClosed: CourierAnswer(.failed, error: "the connection was closed before an answer came")
        default: CourierAnswer(.failed, error: "the request failed: \(error.shortDescription)")
        }
    }
}

/// What comes back for one request, also where reading it is given up halfway.
private final class PushExchange: HTTPClientResponseDelegate {
    typealias Response = Void
    private struct State {
        var head: HTTPResponseHead?
        var kept: [UInt8] = []
        var total = 0
    }
    private struct TooMuch: Error {}
    private let keptMax: Int
    private let bytesMax: Int
    private let state = Mutex(State())

    init(keptMax: Int, bytesMax: Int) {
        self.keptMax = keptMax
        self.bytesMax = bytesMax
    }

    var answer: (head: HTTPResponseHead?, kept: [UInt8]) { state.withLock { ($0.head, $0.kept) } }

    func didReceiveHead(task: HTTPClient.Task<Void>, _ head: HTTPResponseHead) -> EventLoopFuture<Void> {
        state.withLock { $0.head = head }
        return task.eventLoop.makeSucceededVoidFuture()
    }

    func didReceiveBodyPart(task: HTTPClient.Task<Void>, _ buffer: ByteBuffer) -> EventLoopFuture<Void> {
        let isTooMuch = state.withLock { state in
            state.total += buffer.readableBytes
            if state.kept.count < keptMax { state.kept += buffer.readableBytesView.prefix(keptMax - state.kept.count) }
            return state.total > bytesMax
        }
        return isTooMuch ? task.eventLoop.makeFailedFuture(TooMuch()) : task.eventLoop.makeSucceededVoidFuture()
    }

    func didFinishRequest(task: HTTPClient.Task<Void>) throws {}
}
