import SluiceCore
import SluiceStore
import Synchronization

/// A delivery and what became of it.
struct Settled: Sendable {
    var claimed: ClaimedDelivery
    var attempt: DeliveryAttempt

    /// Decided without an attempt.
    init(_ claimed: ClaimedDelivery, _ outcome: DeliveryAttempt.Outcome, error: String? = nil, at time: Timestamp) {
        self.claimed = claimed
        attempt = DeliveryAttempt(
            delivery: claimed.id, outcome: outcome, status: nil, error: error, response: [], at: time, durationMilliseconds: 0)
    }

    init(
        _ claimed: ClaimedDelivery, _ decision: DeliveryMachine.Decision, _ answer: CourierAnswer, startedAt: Timestamp,
        durationMilliseconds: Int64
    ) {
        self.claimed = claimed
        attempt = DeliveryAttempt(
            delivery: claimed.id, outcome: DeliveryAttempt.Outcome(decision), status: answer.status, error: answer.error,
            response: answer.response, at: startedAt, durationMilliseconds: durationMilliseconds)
    }
}

extension DeliveryService {
    /// Hands attempts to the recorder. Nobody waits for it, but for the bound of what is not recorded.
    func record(_ settled: [Settled], _ lane: Lane, _ destination: CarriedDestination) {
        guard !settled.isEmpty else { return }
        let inOrder = settled.count { $0.claimed.isOrdered }
        lane.work.withLock { $0.rules.noteMade(settled.count, inOrder: inOrder) }
        recorder.add(
            settled.map { settled in
                AttemptRecorder.Entry(attempt: settled.attempt) { isRecorded in
                    if isRecorded { self.follow(settled, destination) }
                    let isOrdered = settled.claimed.isOrdered
                    let mayGoOn = lane.work.withLock {
                        $0.rules.noteRecorded(isOrdered: isOrdered, unrecordedMax: self.options.unrecordedMax)
                    }
                    if mayGoOn { lane.signal.wake() }
                }
            })
    }

    /// Counts what was recorded and tells people of dead letters.
    private func follow(_ settled: Settled, _ destination: CarriedDestination) {
        switch settled.attempt.outcome {
        case .delivered: state.withLock { $0.counters.delivered += 1 }
        case .filtered: state.withLock { $0.counters.filtered += 1 }
        case .putBack: return
        case .retry(let at):
            state.withLock { $0.counters.retried += 1 }
            lookAgain(at: at)
        case .dead(let reason):
            let count = state.withLock { state in
                state.counters.dead += 1
                state.deadLetters[destination.id, default: 0] += 1
                return state.deadLetters[destination.id, default: 0]
            }
            let last =
                "the last (\(reason), after attempt \(settled.claimed.attempts + 1)): \(settled.attempt.error ?? "no reason given")"
            let remedy =
                switch DeliveryMachine.DeadReason(rawValue: reason) {
                case .gone: "Nothing more goes there until its URL changes or `sluice destination resume \(destination.name)`"
                case .filter: "Mend its filter (`sluice filter try`)"
                default: "Mend the destination"
                }
            let what = count == 1 ? "1 delivery became a dead letter" : "\(count) deliveries became dead letters"
            alarms.raise(
                Alarm(
                    kind: .deadLetters, subject: "destination \(destination.name)",
                    message: "\(what) since the start; \(last). \(remedy), then replay them."))
        }
    }
}

extension DeliveryAttempt.Outcome {
    init(_ decision: DeliveryMachine.Decision) {
        switch decision {
        case .delivered: self = .delivered
        case .retry(let at): self = .retry(at: at)
        case .dead(let reason): self = .dead(reason: reason.rawValue)
        }
    }
}

/// How a destination does, as far as this process knows.
public struct DestinationStatus: Sendable, Equatable {
    public var breaker: CircuitBreaker.State
    public var failuresInRow: Int
    /// Nothing is carried until then: the breaker is open, or the receiver asked for it.
    public var restsUntil: Timestamp?
    public var callsInFlight: Int
    public var lastError: String?
    public var lastFailureAt: Timestamp?
    public var lastDeliveredAt: Timestamp?
}

extension DeliveryService {
    /// Nil where nothing was carried since the start.
    public func status(of destination: DestinationID) -> DestinationStatus? {
        let now = time.now()
        return state.withLock { $0.lanes[destination] }?.work.withLock { work in
            DestinationStatus(
                breaker: work.rules.breaker.state(at: now), failuresInRow: work.rules.failuresInRow,
                restsUntil: work.rules.restsUntil > now ? work.rules.restsUntil : nil, callsInFlight: work.rules.inFlight,
                lastError: work.lastError, lastFailureAt: work.lastFailureAt, lastDeliveredAt: work.lastDeliveredAt)
        }
    }

    /// A person lets it go on: what failed before is forgotten.
    public func forgive(_ destination: DestinationID) {
        let lane = state.withLock { $0.lanes[destination] }
        let news = lane?.work.withLock { work in
            work.rules.forgive()
            return work.breakerNews()
        }
        if let news, let name = state.withLock({ $0.destinations[destination]?.name }) { log(news, of: name) }
        lane?.signal.wake()
    }
}
