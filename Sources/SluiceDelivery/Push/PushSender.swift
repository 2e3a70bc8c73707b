import AsyncHTTPClient
import NIOCore
import NIOHTTP1
import SluiceConnectors
import SluiceCore
import Synchronization

#if canImport(Glibc)
    import Glibc
#elseif canImport(Musl)
    import Musl
#elseif canImport(Darwin)
    import Darwin
#endif

/// Makes one signed POST.
struct PushSender: Sendable {
    let options: DeliveryOptions

    /// `at`: for `webhook-timestamp`. Never throws: what goes wrong is the answer.
    func send(
        _ body: [UInt8], id: String, to destination: PushDestination, with pinned: PinnedClient, at: Timestamp,
        until deadline: NIODeadline, now: @Sendable () -> Timestamp
    ) async -> CourierAnswer {
        do {
            let signature = StandardWebhooksSigner.sign(id: id, timestamp: at, body: body, secrets: destination.secrets)
            guard !signature.isEmpty else {
                throw SluiceError(.invalid, "The secret of a push destination is not whsec_ and base64; create a new one.")
            }
            var request = HTTPClientRequest(url: pinned.target.url)
            request.method = .POST
            request.headers = headers(destination, id: id, at: at, signature: signature)
            request.body = .bytes(ByteBuffer(bytes: body))
            let response = try await pinned.client.execute(request, deadline: deadline)
            let kept = await readBody(response.body, until: deadline)
            let status = Int(response.status.code)
            // Only these two statuses give it a meaning for whoever asks again (RFC 9110, RFC 6585).
            let asksForRest = status == 429 || status == 503
            let retryAfter = asksForRest ? response.headers.first(name: "retry-after").flatMap { RetryAfter.parse($0, now: now()) } : nil
            return CourierAnswer(
                PushSender.result(status), status: status, retryAfter: retryAfter, error: PushSender.complaint(status), response: kept)
        } catch {
            return PushSender.failure(error, timeoutSeconds: destination.timeoutSeconds)
        }
    }

    private static let ownHeaders: Set<String> = [
        "webhook-id", "webhook-timestamp", "webhook-signature", "content-type", "content-length", "transfer-encoding", "host", "connection",
        "expect", "te", "upgrade", "trailer",
    ]

    private func headers(_ destination: PushDestination, id: String, at: Timestamp, signature: String) -> HTTPHeaders {
        var headers = HTTPHeaders()
        for field in destination.headers where !PushSender.ownHeaders.contains(field.name.lowercased()) {
            headers.add(name: field.name, value: field.value)
        }
        if !headers.contains(name: "user-agent") { headers.add(name: "user-agent", value: options.userAgent) }
        headers.add(name: "content-type", value: "application/json")
        headers.add(name: "webhook-id", value: id)
        headers.add(name: "webhook-timestamp", value: String(at.seconds))
        headers.add(name: "webhook-signature", value: signature)
        return headers
    }

    /// The status has decided already: the body is read for people, and so that the connection can be used again. A body
    /// that is too long or too slow costs its connection.
    private func readBody(_ body: HTTPClientResponse.Body, until deadline: NIODeadline) async -> [UInt8] {
        let kept = KeptBytes(max: options.responseBytesKept)
        let bytesMax = options.responseBytesMax
        await withTaskGroup(of: Void.self) { group in
            group.addTask {
                var total = 0
                do {
                    for try await chunk in body {
                        kept.append(chunk)
                        total += chunk.readableBytes
                        if total > bytesMax { break }
                    }
                } catch {
                    // Cut off by the receiver or by the deadline below: what was kept so far is shown.
                }
            }
            group.addTask { try? await Task.sleep(for: .nanoseconds((deadline - .now()).nanoseconds)) }
            await group.next()
            group.cancelAll()
        }
        return kept.bytes
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

/// The first bytes of an answer, also where reading it is given up halfway.
private final class KeptBytes: Sendable {
    private let max: Int
    private let state = Mutex<[UInt8]>([])
    init(max: Int) { self.max = max }
    var bytes: [UInt8] { state.withLock { $0 } }
    func append(_ chunk: ByteBuffer) {
        state.withLock { bytes in
            if bytes.count < max { bytes += chunk.readableBytesView.prefix(max - bytes.count) }
        }
    }
}
