import Logging
import SluiceConnectors
import SluiceCore
import SluiceStore
import Synchronization

/// Accepts webhooks: limits → raw body → verify → append → 2xx.
///
/// - No answer of 2xx exists before `InboxStore.append` has returned (P1).
/// - A webhook that fails verification leaves nothing in the store and no signal; repeated ones raise an alarm (P8).
/// - Whatever is waiting is bounded; beyond the bounds the sender is told to try again, and the observer hears of it (P6, P10).
///
/// This type knows nothing of sockets: `Listener/` reads requests and writes answers.
public final class Gateway: Sendable {
    /// What every request reads or changes, held for a moment only.
    private struct Shared {
        var routes: [String: Route] = [:]
        var gates: [ConnectionID: ConnectionGate] = [:]
        /// Of connections that can be used, for calls to callbacks.
        var callbackRoutes: [ConnectionID: Route] = [:]
        var unusableByToken: [String: ConnectionID] = [:]
        var unusable: Set<ConnectionID> = []
        var bucket: TokenBucket
        var inFlight = 0
        var isShuttingDown = false
        var isStorageFailing = false
        /// Connections whose webhooks wait unread in too great a number.
        var full: Set<ConnectionID> = []
        var counters = GatewayCounters()
    }

    private enum Admission {
        case route(Route?)
        case refused(GatewayAnswer)
    }

    public let limits: GatewayLimits
    let logger: Logger
    private let store: any InboxStore
    private let time: any TimeSource
    let wallTime: any TimeSource
    private let alarms: any AlarmReporting
    private let observer: any GatewayObserver
    let handshakes: (any HandshakeActing)?
    private let callbacks: (any CallbackTaking)?
    let publicURL: @Sendable () -> String?
    private let shared: Mutex<Shared>

    /// `publicURL`: under which scheme and host providers reach this server, for schemes that sign the URL; asked for when one
    /// is verified.
    /// `wallTime`: what signed timestamps are held against; nil: `time`. `handshakes`: does what handshakes need besides an
    /// answer; nil: those are answered 503. `callbacks`: takes what comes to `/callbacks/`; nil: nothing is there.
    public init(
        store: any InboxStore, time: any TimeSource, wallTime: (any TimeSource)? = nil, alarms: any AlarmReporting,
        observer: any GatewayObserver, handshakes: (any HandshakeActing)? = nil, callbacks: (any CallbackTaking)? = nil,
        publicURL: @escaping @Sendable () -> String? = { nil }, limits: GatewayLimits = GatewayLimits(), logger: Logger
    ) {
        self.handshakes = handshakes
        self.callbacks = callbacks
        self.publicURL = publicURL
        self.store = store
        self.time = time
        self.wallTime = wallTime ?? time
        self.alarms = alarms
        self.observer = observer
        self.limits = limits
        self.logger = logger
        shared = Mutex(Shared(bucket: TokenBucket(perSecondMax: limits.requestsPerSecondMax)))
    }

    /// Takes a new snapshot of routes; requests in hand finish with the old one. Counts and rates of a connection live on
    /// as long as it has a route. To be called from one place at a time.
    public func update(_ routes: GatewayRoutes) {
        let gatesBefore = shared.withLock { $0.gates }
        var gates: [ConnectionID: ConnectionGate] = [:]
        var table: [String: Route] = [:]
        table.reserveCapacity(routes.connectionsByToken.count)
        for (token, connection) in routes.connectionsByToken {
            let route = route(token, connection, in: routes, gates[connection.id] ?? gatesBefore[connection.id])
            gates[connection.id] = route.gate
            table[token] = route
        }
        var callbackRoutes: [ConnectionID: Route] = [:]
        for (id, connection) in routes.connections {
            let route = route("", connection, in: routes, gates[id] ?? gatesBefore[id])
            gates[id] = route.gate
            callbackRoutes[id] = route
        }
        shared.withLock { [table, gates, callbackRoutes] shared in
            shared.callbackRoutes = callbackRoutes
            (shared.unusableByToken, shared.unusable) = (routes.unusableByToken, routes.unusable)
            shared.routes = table
            shared.gates = gates
        }
    }

    /// Adds and removes single routes of the snapshot. To be called from where `update` is.
    public func change(adding routes: GatewayRoutes, removing tokens: [String]) {
        shared.withLock { shared in
            for token in tokens { (shared.routes[token], shared.unusableByToken[token]) = (nil, nil) }
            shared.unusableByToken.merge(routes.unusableByToken) { $1 }
            for (token, connection) in routes.connectionsByToken {
                let route = route(token, connection, in: routes, shared.gates[connection.id])
                shared.gates[connection.id] = route.gate
                shared.routes[token] = route
            }
        }
    }

    /// The route of a token, with the connection's gate if it has one, which keeps its counts and takes the rate that holds now.
    private func route(
        _ token: String, _ connection: GatewayConnection, in routes: GatewayRoutes, _ known: ConnectionGate?
    ) -> Route {
        let perSecondMax = connection.requestsPerSecondMax ?? limits.requestsPerSecondPerConnectionMax
        let gate = known ?? ConnectionGate(perSecondMax: perSecondMax)
        gate.change(perSecondMax: perSecondMax)
        return Route(connection: connection, expiresAt: routes.expiresAtByToken[token], gate: gate)
    }

    public var counters: GatewayCounters {
        let (counters, gates) = shared.withLock { ($0.counters, $0.gates) }
        var result = counters
        result.connections = gates.mapValues(\.counters)
        return result
    }

    /// Webhooks of these connections are answered 503 until their triggers have read what is there: the inbox has a bound, and
    /// nothing unread is thrown away for it. A redelivery that an operator asks for goes through.
    public func setInboxFull(_ connections: Set<ConnectionID>) { shared.withLock { $0.full = connections } }

    /// From now on webhooks are answered 503, so that their senders come again.
    public func beginShutdown() { shared.withLock { $0.isShuttingDown = true } }

    // MARK: - A request to the public listener

    /// Whether a request's body can be for anybody: bodies for URLs that there are not take no room from those of others.
    func mayTakeBody(of target: String) -> Bool {
        let path = String(target.prefix { $0 != "?" })
        if CallbackPath.token(path) != nil { return callbacks != nil }
        guard let token = HookPath.token(path) else { return limits.enablesBaseline && path.hasPrefix(HookPath.baselinePrefix) }
        return shared.withLock { $0.routes[String(token)] != nil }
    }

    /// What is to be done with a request, as far as it can be said without waiting.
    enum Handling: Sendable {
        case answered(GatewayAnswer)
        /// It is to be appended, then answered by `kept`.
        case keep(Keeping)
        /// A handshake that something has to be done for, or a call to a callback.
        case wait(@Sendable () async -> GatewayAnswer)
    }

    /// A verified webhook on its way into the inbox.
    struct Keeping: Sendable {
        let entry: InboxEntry
        var ticket: Ticket
    }

    /// What its answer needs once it is there.
    struct Ticket: Sendable {
        let route: Route
        let at: Timestamp
        let unmatchedReason: String?
        /// Counts among the requests in flight.
        var isAdmitted = false
    }

    /// Takes a whole request, read within the limits, as far as it goes without waiting. Never throws: each failure is an answer.
    func begin(_ request: WebhookRequest) -> Handling {
        if limits.enablesBaseline, request.path.hasPrefix(HookPath.baselinePrefix) { return .answered(.baseline) }
        if let callbacks, let token = CallbackPath.token(request.path) { return begin(request, callback: String(token), callbacks) }
        guard let token = HookPath.token(request.path) else { return .answered(count(.unknown)) }
        let isWebhook = request.method == "POST" || request.method == "PUT"
        guard isWebhook || Gateway.handshakeMethods.contains(request.method) else { return .answered(count(.wrongMethod)) }
        let now = time.now()
        switch admit(String(token), at: now) {
        case .refused(let answer):
            if isWebhook { observer.webhooksRefused(nil, at: now) }
            return .answered(count(answer))
        case .route(nil) where isWebhook && isUnusable(String(token), at: now):
            leave()
            return .answered(count(.notReady))
        case .route(let route):
            let handling = begin(request, isWebhook, route, at: now)
            switch handling {
            case .answered:
                leave()
                return handling
            case .keep(var keeping):
                keeping.ticket.isAdmitted = true
                return .keep(keeping)
            case .wait(let body):
                return .wait {
                    let answer = await body()
                    self.leave()
                    return answer
                }
            }
        }
    }

    private func begin(_ request: WebhookRequest, _ isWebhook: Bool, _ route: Route?, at now: Timestamp) -> Handling {
        guard let route, now < route.expiresAt ?? .distantFuture else { return .answered(count(isWebhook ? .unknown : .wrongMethod)) }
        // Whether a token is known shows in no method that its connection does not take.
        if !isWebhook, !route.connection.takes(request.method) { return .answered(count(.wrongMethod)) }
        if let seconds = take(route, at: now) {
            if isWebhook { observer.webhooksRefused(route.connection.id, at: now) }
            return .answered(count(.rateLimited(retryAfterSeconds: seconds), route))
        }
        if isWebhook {
            let handling = verify(request, route, isForced: false, at: now)
            return route.connection.wantsEmptyAnswers ? Gateway.withoutBody(handling) : handling
        }
        // No provider signs these: what they show is checked by the handshake itself.
        let asked = HandshakeRequest(request, for: route.connection.handshakes)
        return handling(of: handshake(asked, request, route.connection, isVerified: false), request, route)
            ?? .answered(count(.wrongMethod, route))
    }

    /// A call to a callback, within the bounds that all requests share.
    private func begin(_ request: WebhookRequest, callback token: String, _ callbacks: any CallbackTaking) -> Handling {
        let isWebhook = request.method == "POST" || request.method == "PUT"
        guard isWebhook || Gateway.handshakeMethods.contains(request.method) else { return .answered(count(.wrongMethod)) }
        let now = time.now()
        // No hook has an empty token.
        if case .refused(let answer) = admit("", at: now) { return .answered(count(answer)) }
        return .wait {
            let answer = await self.callback(request, token: token, callbacks, at: now)
            self.leave()
            return answer
        }
    }

    /// Whether a token leads to a connection that cannot be used now. Its triggers look for what is turned away meanwhile.
    private func isUnusable(_ token: String, at now: Timestamp) -> Bool {
        guard let connection = shared.withLock({ $0.unusableByToken[token] }) else { return false }
        observer.webhooksRefused(connection, at: now)
        return true
    }

    func isUsable(_ connection: ConnectionID) -> Bool { shared.withLock { !$0.unusable.contains(connection) } }

    func callbackRoute(_ connection: ConnectionID) -> Route? { shared.withLock { $0.callbackRoutes[connection] } }

    func noteRefusal(_ refusal: Refusal, _ route: Route, at now: Timestamp) {
        act(on: route.gate?.verificationFailed(refusal.reason, at: now) ?? .none, route.connection, refusal.reason)
    }

    /// Of what is to be kept, `kept` leaves the body out.
    private static func withoutBody(_ handling: Handling) -> Handling {
        switch handling {
        case .answered(let answer): .answered(answer.withoutBody())
        case .keep: handling
        case .wait(let body): .wait { await body().withoutBody() }
        }
    }

    /// One lock for the bounds that all connections share. An admitted request must be given back (`leave`).
    private func admit(_ token: String, at now: Timestamp) -> Admission {
        shared.withLock { shared in
            if shared.isShuttingDown { return .refused(.shuttingDown) }
            if shared.inFlight >= limits.requestsInFlightMax { return .refused(.tooManyInFlight) }
            if let seconds = shared.bucket.take(at: now) { return .refused(.rateLimited(retryAfterSeconds: seconds)) }
            shared.inFlight += 1
            return .route(shared.routes[token])
        }
    }

    /// Nil: go ahead; otherwise the seconds to wait. What a connection asks for beyond its own rate is not charged to all (P12).
    func take(_ route: Route, at now: Timestamp) -> Int? {
        let seconds = route.gate?.take(at: now)
        if seconds != nil { shared.withLock { $0.bucket.giveBack() } }
        return seconds
    }

    private func leave() { shared.withLock { $0.inFlight -= 1 } }

    /// Appends what `begin` said is to be kept; `then` is called once it is on disk, or refused.
    func keep(_ entry: InboxEntry, then: @escaping @Sendable (Result<InboxReceipt, SluiceError>) -> Void) {
        store.append(entry, then: then)
    }

    /// The answer to a webhook once the store has said what became of it. Exactly once for each `Ticket`.
    func kept(_ ticket: Ticket, _ result: Result<InboxReceipt, SluiceError>) -> GatewayAnswer {
        if ticket.isAdmitted { leave() }
        let answer = count(outcome(ticket, result), ticket.route)
        return ticket.isAdmitted && ticket.route.connection.wantsEmptyAnswers ? answer.withoutBody() : answer
    }

    private func outcome(_ ticket: Ticket, _ result: Result<InboxReceipt, SluiceError>) -> GatewayAnswer {
        switch result {
        case .success(let receipt):
            return GatewayAnswer(receipt: receipt.sequence, isRepeated: receipt.isRepeated, unmatchedReason: ticket.unmatchedReason)
        case .failure(let error):
            observer.webhooksRefused(ticket.route.connection.id, at: ticket.at)
            let answer = GatewayAnswer.notStored(error)
            if answer.reason != "overloaded" { storageFailed(error) }
            return answer
        }
    }

    // MARK: - A webhook of a known connection

    /// Verifies a webhook and keeps it; an `isForced` one is kept even if it is a repetition.
    public func accept(_ request: WebhookRequest, connection: GatewayConnection, isForced: Bool) async -> GatewayAnswer {
        await answer(verify(request, route(of: connection), isForced: isForced, at: time.now()))
    }

    /// Keeps a webhook that was verified before, for example one that an operator sends through again from the inbox.
    public func keep(_ verified: WebhookRequest, connection: GatewayConnection, isForced: Bool) async -> GatewayAnswer {
        await answer(draft(verified, route(of: connection), isForced: isForced, at: time.now()))
    }

    func answer(_ handling: Handling) async -> GatewayAnswer {
        switch handling {
        case .answered(let answer): return answer
        case .wait(let body): return await body()
        case .keep(let keeping):
            return kept(
                keeping.ticket, await withCheckedContinuation { continuation in keep(keeping.entry) { continuation.resume(returning: $0) } }
            )
        }
    }

    /// Of a request that came by no URL.
    private func route(of connection: GatewayConnection) -> Route {
        Route(connection: connection, gate: shared.withLock { $0.gates[connection.id] })
    }

    private func verify(_ request: WebhookRequest, _ route: Route, isForced: Bool, at now: Timestamp) -> Handling {
        // Read from the route each time: a connection has many parts, and a copy of it counts a reference to each.
        let asked = route.connection.handshakes.isEmpty ? nil : HandshakeRequest(request, for: route.connection.handshakes)
        if let asked {
            let step = handshake(asked, request, route.connection, isVerified: false)
            if let handling = handling(of: step, request, route) { return handling }
        }
        let verdict = verify(request, route.connection, secrets: route.connection.secrets)
        if case .refused(let refusal) = verdict {
            noteRefusal(refusal, route, at: now)
            let answer = GatewayAnswer(status: 401, reason: "unauthorized", message: refusal.description)
            return .answered(count(answer, route, detail: refusal.reason.rawValue))
        }
        // Scheme `none` proves nothing, so it must not clear an alarm that stands from a safer scheme before.
        if route.connection.scheme.isSafe, let action = route.gate?.verificationSucceeded(at: now), action != .none {
            act(on: action, route.connection, nil)
        }
        if let asked {
            let step = handshake(asked, request, route.connection, isVerified: true)
            if let handling = handling(of: step, request, route) { return handling }
        }
        return draft(request, route, isForced: isForced, at: now)
    }

    /// Nil: the request is no handshake.
    private func handling(of step: HandshakeStep, _ request: WebhookRequest, _ route: Route) -> Handling? {
        switch step {
        case .none: nil
        case .answer(let answer): .answered(count(answer, route))
        case .act(let action, let answer):
            .wait { self.count(await self.perform(action, then: answer, request, route.connection), route) }
        }
    }

    func verify(_ request: WebhookRequest, _ connection: GatewayConnection, secrets: [String]) -> Verdict {
        var options = connection.schemeOptions
        if connection.scheme.signsURL, options.publicURL == nil { options.publicURL = publicURL() }
        return connection.scheme.verify(request, secrets: secrets, now: wallTime.now(), options: options)
    }

    private func draft(_ request: WebhookRequest, _ route: Route, isForced: Bool, at now: Timestamp) -> Handling {
        if !isForced, shared.withLock({ $0.full.contains(route.connection.id) }) {
            observer.webhooksRefused(route.connection.id, at: now)
            return .answered(count(.inboxFull, route))
        }
        let entry = InboxDraft.entry(
            for: request, connection: route.connection, jsonDepthMax: limits.jsonDepthMax, isForced: isForced, at: now)
        return .keep(Keeping(entry: entry, ticket: Ticket(route: route, at: now, unmatchedReason: entry.unmatchedReason)))
    }

    // MARK: - Alarms

    private func act(on action: VerificationWatch.Action, _ connection: GatewayConnection, _ reason: Refusal.Reason?) {
        let subject = "connection \(connection.name)"
        switch action {
        case .none: break
        case .clear(let wasRaised):
            alarms.clear(.verificationFailing, subject: subject)
            // What was refused since may have been the provider's own, signed with a secret that one of the two did not have yet.
            if wasRaised { observer.webhooksRefused(connection.id, at: time.now()) }
        case .raise(let failures):
            alarms.raise(
                Alarm(
                    kind: .verificationFailing, subject: subject,
                    message: """
                        \(failures) webhooks in a row failed verification (scheme \(connection.scheme.name)), the last with \
                        \(reason?.rawValue ?? "unknown"): compare the webhook secret with the provider's; until then only \
                        safety polls find changes.
                        """))
        }
    }

    private func storageFailed(_ error: any Error) {
        shared.withLock { $0.isStorageFailing = true }
        let message = (error as? SluiceError)?.message ?? "the inbox does not take webhooks"
        alarms.raise(Alarm(kind: .storage, subject: "store", message: "Webhooks are answered 503: \(message)"))
    }

    // MARK: - Counting

    /// Counts what the listener turned away before it became a whole request.
    func refusedWhileReading(_ refusal: GatewayRefusal) {
        if refusal.status == 503 { observer.webhooksRefused(nil, at: time.now()) }
        shared.withLock { $0.counters.refused[refusal, default: 0] += 1 }
        logger.debug("request refused", metadata: ["status": "\(refusal.status)", "reason": "\(refusal.reason)"])
    }

    @discardableResult
    func count(_ answer: GatewayAnswer, _ route: Route? = nil, detail: String? = nil) -> GatewayAnswer {
        route?.gate?.count(answer)
        let storageRecovered = shared.withLock { shared in
            guard answer.isSuccess else {
                shared.counters.refused[GatewayRefusal(status: answer.status, reason: detail ?? answer.reason), default: 0] += 1
                return false
            }
            if answer.handshake != nil {
                shared.counters.handshakes += 1
                return false
            }
            if answer.isRepeated {
                shared.counters.repeated += 1
            } else {
                shared.counters.accepted += 1
                if answer.unmatchedReason != nil { shared.counters.unmatched += 1 }
            }
            defer { shared.isStorageFailing = false }
            return shared.isStorageFailing
        }
        if storageRecovered { alarms.clear(.storage, subject: "store") }
        if !answer.isSuccess {
            logger.debug(
                "webhook refused",
                metadata: [
                    "connection": "\(route?.connection.name ?? "")", "status": "\(answer.status)", "reason": "\(detail ?? answer.reason)",
                ])
        }
        return answer
    }
}
