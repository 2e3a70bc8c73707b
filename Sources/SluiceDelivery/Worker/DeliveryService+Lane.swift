import Logging
import SluiceCore
import SluiceStore
import Synchronization

/// A destination's worker: claims what is due, and keeps calls going for as long as there is something.
extension DeliveryService {
    /// Time for an attempt to be recorded after its time-out.
    static let recordingMargin = Span.seconds(5)
    /// The longest that a worker leaves a destination alone at its wish, while other jobs wait: a Retry-After of a day
    /// holds for the job that got it.
    static let restMax = Span.minutes(15)

    /// Works off what is due for a destination, then ends.
    func work(_ lane: Lane) async {
        var hasLeft = false
        await withDiscardingTaskGroup { group in
            while !hasLeft, !isStopping, let destination = destination(lane.id) {
                if needsMore(lane) { await claim(lane, destination) }
                let hasSlots = start(lane, destination, in: &group)
                if lane.work.withLock({ $0.queue.isEmpty }) { hasLeft = leave(lane) }
                if !hasLeft, let pause = pause(lane, destination, hasSlots: hasSlots) { await lane.signal.wait(atMost: pause) }
            }
        }
        putBack(lane, dueAt: time.now())
        guard !hasLeft else { return }
        // Stopped or disabled in the middle; it may have been enabled again while the last calls were answered.
        state.withLock { state in
            lane.work.withLock { $0.isWorking = false }
            if state.destinations[lane.id] == nil { state.lanes[lane.id] = nil }
        }
        wakeCoordinator()
    }

    // MARK: - Claiming

    /// Less is left than the calls in flight will soon ask for.
    private func needsMore(_ lane: Lane) -> Bool {
        lane.work.withLock { $0.rules.wantsMore(queued: $0.queue.count, unrecordedMax: options.unrecordedMax) }
    }

    private func claim(_ lane: Lane, _ destination: CarriedDestination) async {
        let now = time.now()
        let perCall = perCall(destination)
        let (limit, hiddenUntil) = lane.work.withLock { work in
            let bounded = work.bounded
            let limit = work.rules.beginClaim(
                callsAtOnceMax: destination.callsAtOnceMax, perCall: perCall, atMost: bounded, at: now)
            return (limit, now + work.rules.claimSpan(timeoutSeconds: destination.plan.timeoutSeconds))
        }
        guard limit > 0 else { return }
        do {
            let claimed = try await store.claimDeliveries(lane.id, limit: limit, at: now, hiddenUntil: hiddenUntil)
            trouble.worked(.claim(lane.id))
            let sifted = await sift(claimed, hiddenUntil, at: now)
            lane.work.withLock { work in
                work.rules.endClaim(of: claimed.count)
                work.queue.append(sifted.parcels)
            }
            record(sifted.settled, lane, destination)
            // The coordinator saw what was due first, and nothing behind it: it has to look when the next one is.
            if claimed.isEmpty { wakeCoordinator() }
        } catch {
            logger.warning("deliveries could not be claimed", metadata: ["destination": "\(destination.name)", "error": "\(error)"])
            trouble.failed(.claim(lane.id), "deliveries to \(destination.name) cannot be taken from the store", error)
            lane.work.withLock { $0.rules.failClaim(at: now) }
        }
    }

    private func perCall(_ destination: CarriedDestination) -> Int {
        guard let held = courier(of: destination) else { return 1 }
        defer { end(held) }
        return max(1, held.courier.batchMax)
    }

    /// Filters of one destination may take this long in one go.
    private static let siftingMax = Duration.milliseconds(5)

    /// Asks the filters: what they leave out, and what they fail on, is settled without being carried. Slow ones let others go
    /// first now and then (P12).
    private func sift(
        _ claimed: [ClaimedDelivery], _ hiddenUntil: Timestamp, at now: Timestamp
    ) async -> (parcels: [QueuedParcel], settled: [Settled]) {
        guard !claimed.isEmpty else { return ([], []) }
        let triggers = state.withLock(\.triggers)
        var parcels: [QueuedParcel] = []
        var settled: [Settled] = []
        parcels.reserveCapacity(claimed.count)
        var begun = ContinuousClock.now
        for delivery in claimed {
            if begun.duration(to: .now) > DeliveryService.siftingMax {
                await Task.yield()
                begun = .now
            }
            guard let names = triggers[delivery.job.trigger] else {
                logger.warning("a delivery of an unknown trigger waits", metadata: ["trigger": "\(delivery.job.trigger)"])
                continue
            }
            var parcel = Parcel(
                delivery: delivery.id, id: JobIdentity.id(uid: names.uid, dedupKey: delivery.job.dedupKey), job: delivery.job,
                trigger: names, attempt: delivery.attempts + 1)
            do throws(SluiceError) {
                switch try sieve(delivery)?.sift(delivery.job) {
                case .skip: settled.append(Settled(delivery, .filtered, at: now))
                case .pass(let record, let isProjected):
                    (parcel.job.record, parcel.isProjected) = (record, isProjected)
                    parcels.append(QueuedParcel(parcel: parcel, claimed: delivery, hiddenUntil: hiddenUntil))
                case nil: parcels.append(QueuedParcel(parcel: parcel, claimed: delivery, hiddenUntil: hiddenUntil))
                }
            } catch {
                let reason = DeliveryMachine.DeadReason.filter.rawValue
                settled.append(Settled(delivery, .dead(reason: reason), error: error.message, at: now))
            }
        }
        return (parcels, settled)
    }

    /// What was claimed and will not be carried now is there for others at once, or when the destination's rest is over.
    private func putBack(_ lane: Lane, dueAt: Timestamp) {
        let now = time.now()
        let left = lane.work.withLock { $0.queue.takeAll() }.filter { $0.hiddenUntil > now }
        recorder.add(
            left.map { entry in
                let attempt = DeliveryAttempt(
                    delivery: entry.claimed.id, outcome: .putBack(at: dueAt), status: nil, error: nil, response: [], at: now,
                    durationMilliseconds: 0)
                return AttemptRecorder.Entry(attempt: attempt) { if $0 { self.lookAgain(at: dueAt) } }
            })
    }

    // MARK: - Calls

    /// Returns false where calls that others make are all that keeps it from making more.
    private func start(_ lane: Lane, _ destination: CarriedDestination, in group: inout DiscardingTaskGroup) -> Bool {
        while !isStopping {
            let now = time.now()
            let mayStart = lane.work.withLock { work in
                !work.queue.isEmpty && work.rules.unrecorded < options.unrecordedMax
                    && work.rules.mayStart(callsAtOnceMax: destination.callsAtOnceMax, at: now)
            }
            guard mayStart else { return true }
            guard state.withLock({ $0.slots.take(lane.id) }) else { return false }
            guard let held = courier(of: destination) else {
                // It changed just now: round again with what it has become.
                lane.signal.wake()
                freeSlot(lane)
                return true
            }
            // One call may empty the queue: no more slots are taken than calls are needed.
            let first = take(lane, destination, held)
            guard !first.isEmpty else {
                release(lane, held)
                return true
            }
            lane.work.withLock { $0.rules.start() }
            group.addTask { await self.keepCalling(lane, destination, held, first) }
        }
        return true
    }

    /// One call after the other in the same slot.
    private func keepCalling(_ lane: Lane, _ destination: CarriedDestination, _ held: HeldCourier, _ first: [QueuedParcel]) async {
        let version = state.withLock(\.version)
        var batch = first
        while !batch.isEmpty {
            await call(lane, destination, held, batch)
            batch = mayGoOn(lane, destination, version) ? take(lane, destination, held) : []
        }
        lane.work.withLock { $0.rules.end() }
        release(lane, held)
        lane.signal.wake()
    }

    private func release(_ lane: Lane, _ held: HeldCourier) {
        freeSlot(lane)
        end(held)
    }

    private func freeSlot(_ lane: Lane) {
        let other = state.withLock { state in state.slots.release(lane.id).flatMap { state.lanes[$0] } }
        other?.signal.wake()
    }

    private func mayGoOn(_ lane: Lane, _ destination: CarriedDestination, _ version: Int) -> Bool {
        let isAsBefore = state.withLock { !$0.isStopping && $0.version == version && $0.gone[destination.id] == nil }
        guard isAsBefore, !Task.isCancelled else { return false }
        let now = time.now()
        return lane.work.withLock { work in
            work.rules.unrecorded < options.unrecordedMax && work.rules.mayGoOn(callsAtOnceMax: destination.callsAtOnceMax, at: now)
        }
    }

    private func take(_ lane: Lane, _ destination: CarriedDestination, _ held: HeldCourier) -> [QueuedParcel] {
        let needed = Span.seconds(Int64(destination.plan.timeoutSeconds)) + DeliveryService.recordingMargin
        let now = time.now()
        let heldUntil = now + needed
        let (batch, isLow) = lane.work.withLock { work in
            let before = work.queue.count
            let batch = work.take(max(1, held.courier.batchMax), heldUntil: heldUntil, at: now)
            return (batch, work.rules.isDue && before >= work.rules.lowMark && work.queue.count < work.rules.lowMark)
        }
        // The next claim overlaps with what is left.
        if isLow { lane.signal.wake() }
        return batch
    }

    private func call(_ lane: Lane, _ destination: CarriedDestination, _ held: HeldCourier, _ batch: [QueuedParcel]) async {
        let startedAt = time.now()
        let begun = ContinuousClock.now
        let answers = await held.courier.carry(batch.map(\.parcel))
        let milliseconds = Int64((begun.duration(to: .now) / .milliseconds(1)).rounded())
        // Broken off by the stop of the server: what did not succeed is not known. It is made again after the next start.
        let isBrokenOff = Task.isCancelled
        let machine = DeliveryMachine(schedule: destination.retrySchedule)
        let now = time.now()
        var settled: [Settled] = []
        settled.reserveCapacity(batch.count)
        for (entry, answer) in zip(batch, answers) {
            if isBrokenOff, answer.result != .delivered {
                settled.append(Settled(entry.claimed, .putBack(at: now), at: now))
                continue
            }
            let facts = DeliveryMachine.Attempt(
                result: answer.result, retryAfter: answer.retryAfter, attemptsBefore: entry.claimed.attempts,
                createdAt: entry.claimed.createdAt)
            let decision = machine.decide(facts, at: now, random: random())
            settled.append(
                Settled(entry.claimed, decision, answer, startedAt: startedAt, durationMilliseconds: milliseconds))
        }
        if let gone = answers.first(where: { $0.result == .gone }) { await disable(destination, gone.error) }
        note(answers, lane, destination, machine, at: now)
        record(settled, lane, destination)
    }

    /// One answer that delivers shows that the destination works. What the former target said is not held against the new one.
    private func note(
        _ answers: [CourierAnswer], _ lane: Lane, _ destination: CarriedDestination, _ machine: DeliveryMachine, at now: Timestamp
    ) {
        let asked = answers.compactMap { $0.result == .failed ? machine.askedRest($0.retryAfter) : nil }.max()
        let works = answers.contains { answer in
            switch answer.result {
            case .delivered, .refused: true
            case .failed, .gone: false
            }
        }
        let failure = answers.last { $0.result != .delivered }
        let (mayWiden, news) = lane.work.withLock { work -> (Bool, BreakerNews?) in
            guard work.leads(to: destination.plan.target) else { return (false, nil) }
            let wasFailing = work.rules.isFailing
            if let asked {
                work.rules.note(.asksForRest(until: now + min(asked, DeliveryService.restMax)), at: now)
            } else {
                work.rules.note(works ? .delivered : .failed, at: now)
            }
            if works { work.lastDeliveredAt = now }
            if let failure { (work.lastError, work.lastFailureAt) = (failure.error, now) }
            return (wasFailing && !work.rules.isFailing, work.breakerNews())
        }
        if let news { log(news, of: destination.name) }
        // Others may go out beside this one again.
        if mayWiden { lane.signal.wake() }
    }

    /// As the log has it: one line when a breaker opens, and one when it closes.
    func log(_ news: BreakerNews, of name: String) {
        switch news {
        case .opened(let failures, let until, let error):
            logger.warning(
                "breaker opened",
                metadata: [
                    "destination": "\(name)", "failures_in_row": "\(failures)", "rests_until": "\(until)",
                    "last_error": "\(Self.brief(error))",
                ])
        case .closed: logger.info("breaker closed", metadata: ["destination": "\(name)"])
        }
    }

    /// One line of bounded length: parts of it may be what a receiver said.
    static func brief(_ error: String?) -> String {
        String((error ?? "no reason given").map { $0.isNewline ? " " : $0 }.prefix(300))
    }

    private func disable(_ destination: CarriedDestination, _ reason: String?) async {
        let target = destination.plan.target
        let isNew = state.withLock { state in
            // Led elsewhere meanwhile: the new target said nothing.
            guard let now = state.destination(destination.id), now.plan.target == target else { return false }
            state.gone[destination.id] = target
            return true
        }
        guard isNew else { return }
        logger.warning(
            "destination gone: nothing more is sent there",
            metadata: [
                "destination": "\(destination.name)", "reason": "\(Self.brief(reason))",
                "mend": "change its URL, or `sluice destination resume \(destination.name)`",
            ])
        await destinationGone(destination.id, target, reason ?? "the destination takes nothing more")
    }

    // MARK: - The worker's end and pauses

    /// Whether the worker may end: nothing in flight and nothing new. Decided under one lock with `wakeOrMake`, so that
    /// news finds either a worker that stays or none.
    private func leave(_ lane: Lane) -> Bool {
        state.withLock { _ in
            lane.work.withLock { work in
                let isIdle = work.rules.mayLeave(queued: work.queue.count)
                if isIdle { work.isWorking = false }
                return isIdle
            }
        }
    }

    /// How long to wait for a wake-up at most; nil where the next claim can be made at once.
    private func pause(_ lane: Lane, _ destination: CarriedDestination, hasSlots: Bool) -> Span? {
        let now = time.now()
        let (pause, rest) = lane.work.withLock { work in
            let pause = work.rules.pause(
                queued: work.queue.count, nextInRate: hasSlots ? work.bucket?.nextAt : nil, callsAtOnceMax: destination.callsAtOnceMax,
                unrecordedMax: options.unrecordedMax, at: now)
            return (pause, work.rules.restsUntil)
        }
        guard case .wait(let span, let putsBack) = pause else { return nil }
        if putsBack { putBack(lane, dueAt: rest) }
        return span
    }
}
