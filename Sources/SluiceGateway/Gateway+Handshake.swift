import SluiceConnectors
import SluiceCore

/// Does what a handshake needs besides an answer.
public protocol HandshakeActing: Sendable {
    /// Keeps the secret that a provider gave to the address of this token. Returns once it is on disk; throws if it is not,
    /// or if the address has another one by now.
    func learn(secret: String, token: String, connection: ConnectionID) async throws
    /// Asks for a URL once, later and within bounds. Must return at once.
    func confirm(url: String, connection: ConnectionID)
}

/// Handshakes: on addresses of connections that have one, and nowhere else. They leave no inbox row and no signal.
extension Gateway {
    /// Methods that only handshakes come with.
    static let handshakeMethods: Set<String> = ["GET", "HEAD", "OPTIONS"]

    /// What a request comes to as a handshake.
    enum HandshakeStep: Sendable {
        case none
        case answer(GatewayAnswer)
        /// Something must be done first, and may fail.
        case act(HandshakeAction, then: GatewayAnswer)
    }

    /// Those that need no signature are asked before it is verified (`isVerified` false), the others after that.
    func handshake(
        _ asked: HandshakeRequest, _ request: WebhookRequest, _ connection: GatewayConnection, isVerified: Bool
    ) -> HandshakeStep {
        let outcome = Handshake.outcome(
            asked, among: connection.handshakes, isVerified: isVerified, context(request, connection, isVerified: isVerified))
        switch outcome {
        case .notAHandshake: return .none
        case .refused(let status, let reason):
            logger.info("handshake refused", metadata: ["connection": "\(connection.name)", "reason": "\(reason)"])
            return .answer(GatewayAnswer(status: status, reason: "handshake_refused", message: "The \(reason)."))
        case .answer(let answer, nil):
            logger.info("handshake answered", metadata: ["connection": "\(connection.name)"])
            return .answer(GatewayAnswer(handshake: answer))
        case .answer(let answer, let action?): return .act(action, then: GatewayAnswer(handshake: answer))
        }
    }

    /// The answer of a handshake once what it asks for is done.
    func perform(
        _ action: HandshakeAction, then answer: GatewayAnswer, _ request: WebhookRequest, _ connection: GatewayConnection
    ) async -> GatewayAnswer {
        guard await perform(action, request, connection) else { return .notLearned }
        logger.info("handshake answered", metadata: ["connection": "\(connection.name)"])
        return answer
    }

    private func perform(_ action: HandshakeAction, _ request: WebhookRequest, _ connection: GatewayConnection) async -> Bool {
        guard let handshakes, let token = HookPath.token(request.path) else { return false }
        switch action {
        case .confirm(let url): handshakes.confirm(url: url, connection: connection.id)
        case .learnSecret(let secret):
            do {
                try await handshakes.learn(secret: secret, token: String(token), connection: connection.id)
            } catch {
                let reason = (error as? SluiceError)?.message ?? "it could not be stored"
                logger.warning(
                    "webhook secret not learned", metadata: ["connection": "\(connection.name)", "reason": "\(reason)"])
                return false
            }
        }
        return true
    }

    private func context(_ request: WebhookRequest, _ connection: GatewayConnection, isVerified: Bool) -> HandshakeContext {
        var secrets = connection.secrets
        if isVerified, secrets.count > 1 {
            // During a rotation the provider answers to the secret that it signs with.
            secrets = secrets.filter { verify(request, connection, secrets: [$0]) == .valid }
        }
        let perSecond = connection.requestsPerSecondMax ?? limits.requestsPerSecondPerConnectionMax
        return HandshakeContext(
            secrets: secrets, fields: connection.handshakeFields, mayLearnSecret: connection.mayLearnSecret,
            requestsPerMinuteMax: perSecond * 60)
    }
}

extension GatewayConnection {
    /// Whether one of its handshakes comes with this method.
    func takes(_ method: String) -> Bool { handshakes.contains { $0.methods.contains(method) } }

    var wantsEmptyAnswers: Bool { handshakes.contains { $0.wantsEmptyAnswers } }
}
