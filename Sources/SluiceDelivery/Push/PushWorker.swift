import Logging
import SluiceCore
import SluiceStore
import Synchronization

/// A destination's worker, as others see it.
final class Lane: Sendable {
    let id: DestinationID
    let signal = WakeSignal()
    let rules = Mutex(PushLane())
    init(id: DestinationID) { self.id = id }
}

/// Claimed deliveries that wait for a slot.
private struct ClaimedQueue {
    var entries: [(claimed: ClaimedDelivery, hiddenUntil: Timestamp)] = []

    /// Drops what could not be answered before its claim runs out and others may take it: it comes back then.
    mutating func dropExpiring(at now: Timestamp, timeoutSeconds: Int) {
        let needed = Span.seconds(Int64(timeoutSeconds)) + PushService.recordingMargin
        entries.removeAll { $0.hiddenUntil < now + needed }
    }
}

extension PushService {
    /// Time for an attempt to be recorded after its time-out.
    static let recordingMargin = Span.seconds(5)
    /// The longest that a worker leaves a destination alone at its wish, while other jobs wait: a Retry-After of a day
    /// holds for the job that got it.
    static let restMax = Span.minutes(15)

    /// Works off what is due for a destination, then ends.
    func work(_ lane: Lane) async {
        var queue = ClaimedQueue()
        var hasLeft = false
        await withDiscardingTaskGroup { group in
            while !hasLeft, !isStopping, let destination = destination(lane.id) {
                queue.dropExpiring(at: time.now(), timeoutSeconds: destination.timeoutSeconds)
                if queue.entries.isEmpty { await claim(into: &queue, lane, destination) }
                await start(&queue, lane, destination, in: &group)
                if queue.entries.isEmpty { hasLeft = leave(lane) }
                if !hasLeft, let pause = pause(lane, destination, queue.entries.isEmpty) { await lane.signal.wait(atMost: pause) }
            }
        }
        guard !hasLeft else { return }
        // Stopped or disabled in the middle; it may have been enabled again while the last requests were answered.
        state.withLock { $0.lanes[lane.id] = nil }
        wakeCoordinator()
    }

    private func claim(into queue: inout ClaimedQueue, _ lane: Lane, _ destination: PushDestination) async {
        let now = time.now()
        let limit = lane.rules.withLock { $0.claimLimit(atOnceMax: destination.attemptsAtOnceMax, at: now) }
        guard limit > 0 else { return }
        let rounds = Int64(PushLane.roundsPerClaim + 1)
        let hiddenUntil = now + .seconds(Int64(destination.timeoutSeconds) * rounds) + .seconds(30)
        // Before the claim: news that comes while it runs must not be taken for what it found.
        lane.rules.withLock { $0.noteClaim(of: 0, limit: limit) }
        do {
            let claimed = try await store.claimDeliveries(lane.id, limit: limit, at: now, hiddenUntil: hiddenUntil)
            if claimed.count >= limit { lane.rules.withLock { $0.noteDue() } }
            queue.entries = claimed.map { ($0, hiddenUntil) }
        } catch {
            logger.warning("deliveries could not be claimed", metadata: ["destination": "\(destination.name)", "error": "\(error)"])
            lane.rules.withLock { rules in
                rules.noteDue()
                rules.rest(until: now + .seconds(1))
            }
        }
    }

    private func start(
        _ queue: inout ClaimedQueue, _ lane: Lane, _ destination: PushDestination, in group: inout DiscardingTaskGroup
    ) async {
        var started = 0
        while started < queue.entries.count, !isStopping {
            let now = time.now()
            guard lane.rules.withLock({ $0.mayStart(atOnceMax: destination.attemptsAtOnceMax, at: now) }),
                state.withLock({ $0.slots.take(lane.id) })
            else { break }
            lane.rules.withLock { $0.start() }
            let claimed = queue.entries[started].claimed
            started += 1
            let route = await route(to: destination)
            group.addTask {
                let result = await self.attempt(claimed, destination, route)
                self.state.withLock { $0.slots.release(lane.id) }
                lane.rules.withLock { $0.end(result) }
                lane.signal.wake()
            }
        }
        queue.entries.removeFirst(started)
    }

    private func route(to destination: PushDestination) async -> Result<PinnedClient, SluiceError> {
        do {
            return .success(try await routes.client(for: destination))
        } catch {
            return .failure(error)
        }
    }

    /// Whether the worker may end: nothing in flight and nothing new. Decided under one lock with `wakeOrMake`, so that
    /// news finds either a worker that stays or none.
    private func leave(_ lane: Lane) -> Bool {
        state.withLock { state in
            let isIdle = lane.rules.withLock { $0.inFlight == 0 && !$0.isDue }
            if isIdle { state.lanes[lane.id] = nil }
            return isIdle
        }
    }

    /// How long to wait for a wake-up at most; nil where the next claim can be made at once.
    private func pause(_ lane: Lane, _ destination: PushDestination, _ isQueueEmpty: Bool) -> Span? {
        let now = time.now()
        return lane.rules.withLock { rules in
            if rules.restsUntil > now { return min(rules.restsUntil - now, .seconds(30)) }
            let canClaim = isQueueEmpty && rules.isDue && rules.mayStart(atOnceMax: destination.attemptsAtOnceMax, at: now)
            return canClaim ? nil : .seconds(5)
        }
    }

    // MARK: - One attempt

    private func attempt(
        _ claimed: ClaimedDelivery, _ destination: PushDestination, _ route: Result<PinnedClient, SluiceError>
    ) async -> PushLane.Result {
        defer { if case .success(let client) = route { client.end() } }
        guard let trigger = state.withLock({ $0.triggers[claimed.job.trigger] }) else {
            logger.warning("a delivery of an unknown trigger waits", metadata: ["trigger": "\(claimed.job.trigger)"])
            return .failed
        }
        let startedAt = time.now()
        let begun = ContinuousClock.now
        let answer = await answer(claimed, trigger, destination, route)
        // Broken off by the stop of the server: nobody knows what came of it, so nothing is noted.
        if answer.status == nil, Task.isCancelled { return .failed }
        let machine = DeliveryMachine(schedule: destination.retrySchedule)
        let facts = DeliveryMachine.Attempt(
            status: answer.status, retryAfter: answer.retryAfter, attemptsBefore: claimed.attempts, createdAt: claimed.createdAt)
        let now = time.now()
        let decision = machine.decide(facts, at: now, random: random())
        if decision.disablesDestination { await disable(destination) }
        let milliseconds = Int64((begun.duration(to: .now) / .milliseconds(1)).rounded())
        let isRecorded = await recorder.record(
            DeliveryAttempt(
                delivery: claimed.id, outcome: DeliveryAttempt.Outcome(decision), status: answer.status, error: answer.error,
                response: answer.response, at: startedAt, durationMilliseconds: milliseconds))
        if isRecorded { follow(decision, claimed, destination, answer) }
        if decision == .delivered { return .delivered }
        guard let rest = machine.askedRest(answer.status, answer.retryAfter) else { return .failed }
        return .asksForRest(until: now + min(rest, PushService.restMax))
    }

    private func answer(
        _ claimed: ClaimedDelivery, _ trigger: JobJSON.TriggerNames, _ destination: PushDestination,
        _ route: Result<PinnedClient, SluiceError>
    ) async -> PushAnswer {
        switch route {
        case .failure(let error): return PushAnswer(error: error.message)
        case .success(let client):
            let id = JobIdentity.id(uid: trigger.uid, dedupKey: claimed.job.dedupKey)
            let body = JobJSON.pushBody(claimed.job, triggerName: trigger.name, uid: trigger.uid)
            let answer = await sender.send(body, id: id, to: destination, with: client, at: wallTime.now(), now: { self.wallTime.now() })
            if answer.isConnectFailure { routes.connectFailed(destination, with: client) }
            return answer
        }
    }

    private func disable(_ destination: PushDestination) async {
        let isNew = state.withLock { $0.gone.updateValue(destination.url, forKey: destination.id) == nil }
        if isNew { await destinationGone(destination.id) }
    }

    /// Counts what was recorded and tells people of dead letters.
    private func follow(
        _ decision: DeliveryMachine.Decision, _ claimed: ClaimedDelivery, _ destination: PushDestination, _ answer: PushAnswer
    ) {
        switch decision {
        case .delivered: state.withLock { $0.counters.delivered += 1 }
        case .retry(let at):
            state.withLock { $0.counters.retried += 1 }
            lookAgain(at: at)
        case .dead(let reason):
            let count = state.withLock { state in
                state.counters.dead += 1
                state.deadLetters[destination.id, default: 0] += 1
                return state.deadLetters[destination.id, default: 0]
            }
            let last = "the last (\(reason.rawValue), after attempt \(claimed.attempts + 1)): \(answer.error ?? "no reason given")"
            let remedy =
                reason == .gone ? "Nothing more is sent there until its URL changes or the server starts again" : "Mend the destination"
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
