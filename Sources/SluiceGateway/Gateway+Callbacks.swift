import SluiceConnectors
import SluiceCore
import SluiceStore

/// Takes calls to the URLs of callbacks.
public protocol CallbackTaking: Sendable {
    /// What a token stands for; nil: nothing that is known. Throws `SluiceError` where that cannot be told now.
    func callback(token: String) async throws -> StoredCallback?
    /// A call whose sender was verified, where that is needed. Returns what the callback is then, once all that follows from it is
    /// on disk.
    func called(_ callback: StoredCallback, _ request: WebhookRequest) async throws -> CallbackState
}

/// The shape of a callback's URL: `/callbacks/TOKEN`.
enum CallbackPath {
    static let prefix = "/callbacks/"
    static let tokenBytesMax = 64

    static func token(_ path: String) -> Substring? {
        guard path.hasPrefix(prefix) else { return nil }
        let token = path.dropFirst(prefix.count)
        let isToken = (1...tokenBytesMax).contains(token.utf8.count)
        return isToken && token.utf8.allSatisfy { (0x30...0x39).contains($0) || (0x61...0x7A).contains($0) } ? token : nil
    }
}

/// Calls to callbacks: verified as the connection's webhooks are, its handshakes answered as there. They leave no inbox row.
///
/// | the token is | the call | the answer |
/// |---|---|---|
/// | unknown | any | 404 |
/// | of one that has expired | any | 410: what it carries is not kept |
/// | of another that is over | any | 200, and nothing changes |
/// | of one whose connection cannot be used now | any | 503 |
/// | of one whose provider can be asked | unverified, and the connection has a scheme | 401 |
/// | | verified, or no scheme | 200 once it is recorded; asked soon |
/// | of another | unverified | 401 |
/// | | verified, or scheme `none` | 200 once its body is recorded as the result |
extension Gateway {
    func callback(_ request: WebhookRequest, token: String, _ callbacks: any CallbackTaking, at now: Timestamp) async -> GatewayAnswer {
        let target: StoredCallback
        do {
            guard let found = try await callbacks.callback(token: token) else { return count(.unknown) }
            target = found
        } catch {
            return count(.notStored(error))
        }
        let route = callbackRoute(target.connection)
        if let seconds = route.flatMap({ take($0, at: now) }) {
            return count(.rateLimited(retryAfterSeconds: seconds), route)
        }
        if request.method != "POST", request.method != "PUT" {
            guard let connection = route?.connection, connection.takes(request.method) else { return count(.wrongMethod) }
            let asked = HandshakeRequest(request, for: connection.handshakes)
            let step = handshake(asked, request, connection, isVerified: false)
            return count(await answer(of: step, request, connection) ?? .wrongMethod, route)
        }
        if target.state.state == .expired { return count(.expired, route) }
        if target.state.state.isOver { return .called }
        if let route {
            if let refusal = await refusal(request, route, at: now) { return refusal }
        } else if !target.state.asks || !isUsable(target.connection) {
            // Nothing can be verified.
            return count(.notReady)
        }
        do {
            // Its time may have been up meanwhile.
            if try await callbacks.called(target, request) == .expired { return count(.expired, route) }
            return route?.connection.wantsEmptyAnswers ?? false ? GatewayAnswer.called.withoutBody() : .called
        } catch let error as SluiceError where error.code == .invalid {
            let answer = GatewayAnswer(status: 413, reason: "too_large", message: "The result is too large.")
            return count(answer, route)
        } catch let error as SluiceError where error.code == .notFound {
            return count(.unknown)
        } catch {
            return count(.notStored(error), route)
        }
    }

    /// The answer to a handshake, or to a call that is not verified; nil: it may go on.
    private func refusal(_ request: WebhookRequest, _ route: Route, at now: Timestamp) async -> GatewayAnswer? {
        let connection = route.connection
        let asked = connection.handshakes.isEmpty ? nil : HandshakeRequest(request, for: connection.handshakes)
        if let asked {
            let step = handshake(asked, request, connection, isVerified: false)
            if let answer = await answer(of: step, request, connection) { return count(answer, route) }
        }
        if case .refused(let refusal) = verify(request, connection, secrets: connection.secrets) {
            noteRefusal(refusal, route, at: now)
            let answer = GatewayAnswer(status: 401, reason: "unauthorized", message: refusal.description)
            return count(answer, route, detail: refusal.reason.rawValue)
        }
        if let asked {
            let step = handshake(asked, request, connection, isVerified: true)
            if let answer = await answer(of: step, request, connection) { return count(answer, route) }
        }
        return nil
    }

    /// Nil: the request is no handshake.
    private func answer(of step: HandshakeStep, _ request: WebhookRequest, _ connection: GatewayConnection) async -> GatewayAnswer? {
        switch step {
        case .none: nil
        case .answer(let answer): answer
        case .act(let action, let answer): await perform(action, then: answer, request, connection)
        }
    }
}

extension GatewayAnswer {
    static let called = GatewayAnswer(status: 200, reason: "ok", message: "")
    static let expired = GatewayAnswer(
        status: 410, reason: "callback_expired", message: "Nobody waits for this any more: the time of the callback was up.")
    static let notReady = GatewayAnswer(
        status: 503, reason: "not_ready", message: "The call cannot be verified now; send it again.", retryAfterSeconds: 60)
}
