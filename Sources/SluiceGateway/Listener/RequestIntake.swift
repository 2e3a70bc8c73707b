/// Decides, for one TCP connection, how far a request may be read. Knows no socket and no clock: events with the
/// monotonic time in, actions out. A request reaches the responder whole or not at all, so one that was cut off can
/// store nothing.
///
///     idle ──first bytes──▶ head ──headers──▶ body ──end──▶ idle (deliver)
///       │                    │                 │
///       └──────── deadline, limit, garbage ────┴──▶ refused ──▶ closing (linger, then close)
struct RequestIntake {
    enum Phase: Equatable { case idle, head, body(received: Int), closing }

    enum Action: Equatable {
        case none
        /// Keep the part that came.
        case hold
        /// Hand the request over.
        case deliver
        /// Answer now and read no further.
        case refuse(GatewayRefusal)
        case close
    }

    struct Bounds {
        var bodyBytesMax: Int
        var headerDeadline: Int64
        var bodyDeadline: Int64
        var idleDeadline: Int64
        var linger: Int64
    }

    private let bounds: Bounds
    private(set) var phase = Phase.head
    /// When the phase began, in nanoseconds of a monotonic clock.
    private var since: Int64
    /// Requests handed over and not yet answered (a client may pipeline).
    private(set) var unanswered = 0
    private var closesWhenAnswered = false
    /// Since when the client takes no more of its answers; nil while it does.
    private var stuckSince: Int64?
    private var hasPartsSinceRead = false

    /// A new connection counts as the start of its first request: one that never speaks must not stay.
    init(bounds: Bounds, now: Int64) {
        self.bounds = bounds
        since = now
    }

    private mutating func enter(_ phase: Phase, _ now: Int64) {
        self.phase = phase
        since = now
    }

    private mutating func refuse(_ status: Int, _ reason: String, _ now: Int64) -> Action {
        if phase == .closing { return .none }
        enter(.closing, now)
        // An answer out of order would be taken for that of an earlier request.
        guard unanswered == 0 else {
            closesWhenAnswered = true
            return .none
        }
        return .refuse(GatewayRefusal(status: status, reason: reason))
    }

    mutating func head(contentLength: Int?, keepsAlive: Bool, at now: Int64) -> Action {
        guard phase != .closing else { return .none }
        hasPartsSinceRead = true
        enter(.body(received: 0), now)
        if !keepsAlive { closesWhenAnswered = true }
        guard contentLength ?? 0 <= bounds.bodyBytesMax else { return refuse(413, "body_too_large", now) }
        return .hold
    }

    mutating func body(byteCount: Int, at now: Int64) -> Action {
        guard case .body(let received) = phase else { return .none }
        guard received + byteCount <= bounds.bodyBytesMax else { return refuse(413, "body_too_large", now) }
        phase = .body(received: received + byteCount)
        return .hold
    }

    mutating func end(at now: Int64) -> Action {
        guard case .body = phase else { return .none }
        hasPartsSinceRead = true
        enter(closesWhenAnswered ? .closing : .idle, now)
        unanswered += 1
        return .deliver
    }

    /// All bodies together take too much memory.
    mutating func bodiesTooLarge(at now: Int64) -> Action { refuse(503, "overloaded", now) }

    /// Bytes were read from the socket. If no part came of them, a request has begun whose headers are not complete yet.
    mutating func readCompleted(at now: Int64) {
        if phase == .idle, !hasPartsSinceRead { enter(.head, now) }
        hasPartsSinceRead = false
    }

    mutating func headersTooLarge(at now: Int64) -> Action { refuse(431, "headers_too_large", now) }

    /// What came is not HTTP, or ended in the middle.
    mutating func malformed(at now: Int64) -> Action {
        if case .body = phase { return refuse(400, "truncated", now) }
        return refuse(400, "malformed", now)
    }

    /// The connection is gone. Returns whether it cut a request off.
    mutating func disconnected(at now: Int64) -> Bool {
        defer { enter(.closing, now) }
        if case .body = phase { return true }
        return false
    }

    mutating func answered(at now: Int64) -> Action {
        unanswered = max(0, unanswered - 1)
        if phase == .idle { since = now }
        return unanswered == 0 && closesWhenAnswered ? .close : .none
    }

    /// No further request is to come: the client said so, or the server ends. What has begun is finished.
    mutating func noMore(at now: Int64) -> Action {
        switch phase {
        case .closing: return .none
        case .body:
            closesWhenAnswered = true
            return .none
        case .idle, .head:
            closesWhenAnswered = true
            enter(.closing, now)
            return unanswered == 0 ? .close : .none
        }
    }

    /// Whether answers still go out, or fill the memory of this connection.
    mutating func writable(_ isWritable: Bool, at now: Int64) { stuckSince = isWritable ? nil : stuckSince ?? now }

    mutating func tick(at now: Int64) -> Action {
        if let stuckSince, now - stuckSince >= bounds.bodyDeadline { return closeNow(now) }
        let age = now - since
        switch phase {
        case .idle: return unanswered == 0 && age >= bounds.idleDeadline ? closeNow(now) : .none
        case .head: return age >= bounds.headerDeadline ? refuse(408, "headers_too_slow", now) : .none
        case .body: return age >= bounds.bodyDeadline ? refuse(408, "body_too_slow", now) : .none
        case .closing: return unanswered == 0 && age >= bounds.linger ? .close : .none
        }
    }

    private mutating func closeNow(_ now: Int64) -> Action {
        enter(.closing, now)
        return .close
    }
}
