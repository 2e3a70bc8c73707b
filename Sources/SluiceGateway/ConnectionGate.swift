import SluiceConnectors
import SluiceCore
import Synchronization

/// What the gateway remembers of one connection while its routes come and go: its rate, its failed signatures, its counts.
final class ConnectionGate: Sendable {
    private struct State {
        var bucket: TokenBucket
        var watch = VerificationWatch()
        var counters = GatewayConnectionCounters()
    }

    private let state: Mutex<State>

    init(perSecondMax: Int) { state = Mutex(State(bucket: TokenBucket(perSecondMax: perSecondMax))) }

    var counters: GatewayConnectionCounters { state.withLock { $0.counters } }

    func change(perSecondMax: Int) { state.withLock { $0.bucket.change(perSecondMax: perSecondMax) } }

    /// Nil: go ahead; otherwise the seconds to wait.
    func take(at now: Timestamp) -> Int? { state.withLock { $0.bucket.take(at: now) } }

    func verificationFailed(_ reason: Refusal.Reason, at now: Timestamp) -> VerificationWatch.Action {
        state.withLock { $0.watch.failed(reason, at: now) }
    }

    func verificationSucceeded(at now: Timestamp) -> VerificationWatch.Action { state.withLock { $0.watch.succeeded(at: now) } }

    func count(_ answer: GatewayAnswer) {
        state.withLock { state in
            guard answer.isSuccess else {
                state.counters.refused += 1
                if answer.status == 401 { state.counters.unverified += 1 }
                return
            }
            if answer.handshake != nil, answer.sequence == nil {
                state.counters.handshakes += 1
            } else if answer.isRepeated {
                state.counters.repeated += 1
            } else {
                state.counters.accepted += 1
                if answer.unmatchedReason != nil { state.counters.unmatched += 1 }
            }
        }
    }
}

/// A token's connection with its gate; one object, so that a request takes a single reference to it.
final class Route: Sendable {
    let connection: GatewayConnection
    let expiresAt: Timestamp?
    /// Nil for a connection that is not in the snapshot of routes.
    let gate: ConnectionGate?

    init(connection: GatewayConnection, expiresAt: Timestamp? = nil, gate: ConnectionGate?) {
        self.connection = connection
        self.expiresAt = expiresAt
        self.gate = gate
    }
}
