import SluiceConnectors
import SluiceCore
import Synchronization

/// Notes whether the provider may have done something, whatever became of the answer: a request to subscribe that was cut off
/// may have made a subscription.
final class ActingHTTP: HTTPSending {
    private let inner: any HTTPSending
    private let acted = Mutex(false)

    init(_ inner: any HTTPSending) { self.inner = inner }

    var mayHaveActed: Bool { acted.withLock { $0 } }

    func send(_ request: HTTPRequestPlan) async throws -> HTTPReply {
        if request.method == "GET" || request.method == "HEAD" { return try await inner.send(request) }
        do {
            let reply = try await inner.send(request)
            if reply.status < 400 || reply.status >= 500 { note() }
            return reply
        } catch {
            if !ActingHTTP.wasNeverMade(error) { note() }
            throw error
        }
    }

    private func note() { acted.withLock { $0 = true } }

    private static func wasNeverMade(_ error: any Error) -> Bool {
        guard let failure = error as? PollFailure else { return error is SluiceError }
        switch failure.kind {
        case .rateLimited, .unauthorized: return true
        case .permanent: return failure.error.code == .connector || failure.error.code == .forbiddenAddress
        default: return failure.error.context["request"] == "not sent"
        }
    }
}
