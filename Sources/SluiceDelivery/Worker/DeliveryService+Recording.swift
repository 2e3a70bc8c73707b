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
        lane.work.withLock { $0.unrecorded += settled.count }
        recorder.add(
            settled.map { settled in
                AttemptRecorder.Entry(attempt: settled.attempt) { isRecorded in
                    if isRecorded { self.follow(settled, destination) }
                    let wasFull = lane.work.withLock { work in
                        work.unrecorded -= 1
                        return work.unrecorded + 1 == self.options.unrecordedMax
                    }
                    if wasFull { lane.signal.wake() }
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
                case .gone: "Nothing more is sent there until its URL changes or the server starts again"
                case .filter: "Mend its filter (`sluice filter try`)"
                default: "Mend the destination"
                }
            alarms.raise(
                Alarm(
                    kind: .deadLetters, subject: "destination \(destination.name)",
                    message: "\(count) deliveries became dead letters since the start; \(last). \(remedy), then replay them."))
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
