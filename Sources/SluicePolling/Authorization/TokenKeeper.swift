import Crypto
import NIOCore
import SluiceConnectors
import SluiceCore
import SluiceStore
import Synchronization

/// A connection's access token: gives it out, and has it renewed by one refresh at a time, however many ask. `TokenDesk` decides
/// who waits, `TokenRefresh` how a refresh goes; this performs it.
final class TokenKeeper: Sendable {
    struct Parts: Sendable {
        var connection: ConnectionID
        var name: String
        var request: TokenRequest
        /// Nil: rotated refresh tokens cannot be kept, and are refused.
        var credentials: (any CredentialKeeping)?
        /// Sends one request to the token endpoint, following no redirect.
        var send: @Sendable (HTTPRequestPlan) async throws -> HTTPReply
        /// The lease that polls run under, or nil before there is one.
        var fence: @Sendable () -> Fence?
        var time: any TimeSource
        /// What times are read from that others see or name, such as those of signed assertions; nil: `time`.
        var wallTime: (any TimeSource)?
        var random: @Sendable () -> Double
        /// Names this process.
        var node: String
        /// Sees to it that `refresh` is called soon. False: nobody would.
        var begin: @Sendable (TokenKeeper) -> Bool
        /// Calls the body once so much time has passed, unless what it returns was called before.
        var after: @Sendable (Span, @escaping @Sendable () -> Void) -> @Sendable () -> Void
        /// Hears of each access token before anybody uses it.
        var gives: @Sendable (AccessToken) -> Void = { _ in }
    }

    private struct Waiter {
        var refused: AccessToken?
        var continuation: CheckedContinuation<AccessToken, any Error>
        var endTimer: (@Sendable () -> Void)?
    }

    private struct State {
        var desk = TokenDesk()
        var waiters: [Int: Waiter] = [:]
        var nextWaiter = 0
        var unsaved: TokenRefresh.Unsaved?
    }

    private static let waitersMax = 10_000
    /// Longer than a refresh takes that waits for another node's claim and tries every token there is. Whoever waited so long is
    /// told; the refresh goes on, since its answer may hold the only refresh token that still works.
    static let waitSpanMax = Span.seconds(240)
    private static let stepsMax = 1000

    private let parts: Parts
    private let state = Mutex(State())

    init(_ parts: Parts) { self.parts = parts }

    var desk: TokenDesk { state.withLock { $0.desk } }

    /// Somebody mended something, or asks by hand: the provider is asked again, whatever failed before.
    func forgetFailure() { state.withLock { $0.desk.forgetFailure() } }

    // MARK: Giving out

    /// The access token; waits for a refresh where one is needed. `refused`: the one that the provider just refused. Throws
    /// `PollFailure`.
    func token(insteadOf refused: AccessToken? = nil) async throws -> AccessToken {
        let number = state.withLock { state in
            state.nextWaiter += 1
            return state.nextWaiter
        }
        return try await withTaskCancellationHandler {
            try await withCheckedThrowingContinuation { ask(number, refused, $0) }
        } onCancel: {
            leave(number, CancellationError())
        }
    }

    private func leave(_ number: Int, _ error: any Error) {
        let waiter = state.withLock { $0.waiters.removeValue(forKey: number) }
        waiter?.endTimer?()
        waiter?.continuation.resume(throwing: error)
    }

    /// Bounds how long this one waits.
    private func setTimer(_ number: Int) {
        let end = parts.after(TokenKeeper.waitSpanMax) { [weak self] in self?.leave(number, TokenKeeper.waitedTooLong) }
        let isOver = state.withLock { state in
            state.waiters[number]?.endTimer = end
            return state.waiters[number] == nil
        }
        if isOver { end() }
    }

    private static let waitedTooLong = pollFailure(
        TokenFailure(
            .transient,
            SluiceError(
                .overloaded,
                "no access token came within \(TokenKeeper.waitSpanMax): a refresh is under way and does not end; `sluice connection test` "
                    + "says what the token endpoint answers")))

    private func ask(_ number: Int, _ refused: AccessToken?, _ continuation: CheckedContinuation<AccessToken, any Error>) {
        if Task.isCancelled { return continuation.resume(throwing: CancellationError()) }
        let now = parts.time.now()
        let answer = state.withLock { state -> TokenDesk.Answer in
            if state.waiters.count >= TokenKeeper.waitersMax {
                return .fail(TokenFailure(.transient, SluiceError(.overloaded, "too many polls wait for this connection's access token")))
            }
            let answer = state.desk.ask(refused: refused, at: now)
            if case .wait = answer { state.waiters[number] = Waiter(refused: refused, continuation: continuation) }
            return answer
        }
        switch answer {
        case .use(let token): continuation.resume(returning: token)
        case .fail(let failure): continuation.resume(throwing: TokenKeeper.pollFailure(failure))
        case .wait(let begins):
            setTimer(number)
            if begins, !parts.begin(self) {
                finish(
                    .failure(
                        TokenFailure(.transient, SluiceError(.overloaded, "no access token can be asked for: the server is not running"))))
            }
        }
    }

    private static func pollFailure(_ failure: TokenFailure) -> PollFailure {
        let kind: PollFailure.Kind = failure.kind == .transient ? .transient : .unauthorized
        // Whoever subscribes must know whether the provider can have heard of it.
        var result = PollFailure(kind, failure.error.with("request", "not sent"), retryAfter: failure.retryAfter)
        result.isFinal = failure.kind != .transient
        return result
    }

    private func finish(_ result: Result<AccessToken, TokenFailure>) {
        if case .success(let token) = result { parts.gives(token) }
        let now = parts.time.now()
        let random = parts.random()
        let (waiters, desk) = state.withLock { state in
            switch result {
            case .success(let token): state.desk.succeeded(token, at: now)
            case .failure(let failure): state.desk.failed(failure, at: now, random: random)
            }
            defer { state.waiters = [:] }
            return (state.waiters.values, state.desk)
        }
        for waiter in waiters {
            waiter.endTimer?()
            switch result {
            case .success(let token): waiter.continuation.resume(returning: token)
            case .failure(let failure):
                if let usable = desk.usable(insteadOf: waiter.refused, at: now) {
                    waiter.continuation.resume(returning: usable)
                } else {
                    waiter.continuation.resume(throwing: TokenKeeper.pollFailure(failure))
                }
            }
        }
    }

    // MARK: Refreshing

    /// One refresh, for everybody who waits. Never throws: they are told.
    func refresh() async {
        do {
            finish(.success(try await obtain()))
        } catch let failure as TokenFailure {
            finish(.failure(failure))
        } catch let failure as PollFailure {
            finish(.failure(TokenKeeper.tokenFailure(failure)))
        } catch let error as SluiceError {
            finish(.failure(TokenFailure(.transient, error)))
        } catch {
            finish(.failure(TokenFailure(.transient, SluiceError(.overloaded, "the server is stopping"))))
        }
    }

    /// What kept the request from the endpoint, or its answer from us.
    private static func tokenFailure(_ failure: PollFailure) -> TokenFailure {
        let error = SluiceError(failure.error.code, "no access token: " + failure.error.message, context: failure.error.context)
        return TokenFailure(failure.kind == .permanent ? .refused : .transient, error, retryAfter: failure.retryAfter)
    }

    private func obtain() async throws -> AccessToken {
        let clocks = clocks()
        if let token = try parts.request.selfMade(at: clocks.wall, nonce: nonce()) { return token.counted(ahead: clocks.ahead) }
        guard let seed = try parts.request.seedToken() else { return try await exchange(nil).get().access }
        guard let credentials = parts.credentials, let fence = parts.fence() else {
            throw TokenFailure(.transient, SluiceError(.overloaded, "no access token can be asked for: the server is not running"))
        }
        return try await rotate(seed, credentials, fence)
    }

    private func rotate(_ seed: String, _ credentials: any CredentialKeeping, _ fence: Fence) async throws -> AccessToken {
        let (refused, unsaved) = state.withLock { ($0.desk.refused, $0.unsaved) }
        let setting = TokenRefresh.Setting(
            seedToken: seed, seed: Array(SHA256.hash(data: Array(seed.utf8))), refused: refused, node: parts.node,
            fence: (fence.shard, fence.epoch), unsaved: unsaved)
        var refresh = TokenRefresh(setting, at: parts.time.now())
        // Also where the task is cancelled in between: the next refresh offers it again.
        defer {
            let unsaved = refresh.unsaved
            state.withLock { $0.unsaved = unsaved }
        }
        var action = TokenRefresh.Action.load
        for _ in 0..<TokenKeeper.stepsMax {
            switch action {
            case .finish(let token): return token
            case .fail(let failure): throw failure
            default: action = refresh.handle(try await perform(action, credentials), at: parts.time.now())
            }
        }
        throw TokenFailure(.transient, SluiceError(.internalError, "a token refresh took too many steps"))
    }

    private func perform(_ action: TokenRefresh.Action, _ credentials: any CredentialKeeping) async throws -> TokenRefresh.Event {
        switch action {
        case .load:
            do {
                let (chain, version) = try await credentials.load(parts.connection, name: parts.name)
                return .loaded(chain, version: version)
            } catch let error as SluiceError {
                return .storeFailed(error)
            }
        case .store(let chain, let version):
            do {
                let stored = try await credentials.replace(
                    parts.connection, name: parts.name, version: version, by: chain, at: parts.time.now())
                return stored.map { .stored(version: $0) } ?? .conflicted
            } catch let error as SluiceError {
                return .storeFailed(error)
            }
        case .send(let token):
            do {
                switch try await exchange(token) {
                case .success(let answer): return .answered(answer)
                case .failure(let failure): return .failed(failure)
                }
            } catch let failure as PollFailure {
                return .failed(TokenKeeper.tokenFailure(failure))
            }
        case .wait(let span):
            try await Task.sleep(for: .milliseconds(span.milliseconds))
            return .waited
        case .finish, .fail: return .waited
        }
    }

    /// One request to the token endpoint.
    private func exchange(_ refreshToken: String?) async throws -> Result<TokenAnswer, TokenFailure> {
        let plan = try parts.request.plan(refreshToken: refreshToken, at: clocks().wall, nonce: nonce())
        let reply = try await parts.send(plan)
        let clocks = clocks()
        return parts.request.outcome(of: reply, spent: refreshToken, at: clocks.wall).map { answer in
            var answer = answer
            answer.access = answer.access.counted(ahead: clocks.ahead)
            return answer
        }
    }

    /// The machine's clock as it is set now, and how far ours is ahead of it: a token's life is counted by ours, which nobody sets.
    private func clocks() -> (wall: Timestamp, ahead: Span) {
        let now = parts.time.now()
        let wall = parts.wallTime?.now() ?? now
        return (wall, now - wall)
    }

    private func nonce() -> String { String(UInt64.random(in: 0...UInt64.max), radix: 36) }
}

extension TokenKeeper {
    /// Timers of an event loop: they cost nothing while they run.
    static func timer(on eventLoop: any EventLoop) -> @Sendable (Span, @escaping @Sendable () -> Void) -> @Sendable () -> Void {
        { span, body in
            let timer = eventLoop.scheduleTask(in: .milliseconds(max(0, span.milliseconds)), body)
            return { timer.cancel() }
        }
    }
}
