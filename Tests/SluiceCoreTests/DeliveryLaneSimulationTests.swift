import SluiceCore
import Testing

/// The worker of a destination, its coordinator, the store and the recorder of attempts as one machine whose steps come in any order:
/// whatever is due and may be carried is under way before time goes on. So no wake-up is lost, and nothing waits for a pause to end
/// that was only meant to bound it.
@Suite struct DeliveryLaneSimulationTests {
    @Test(arguments: 0..<40) func P9_whatIsDueAndMayStartStarts(_ block: UInt64) {
        for seed in block * 50..<(block + 1) * 50 {
            var world = LaneWorld(seed: seed)
            if let problem = world.run(steps: 600) {
                Issue.record("seed \(seed): \(problem)")
                return
            }
        }
    }

    /// A rate that would allow more is no reason to look while calls are in flight as many as may be: the end of one is.
    @Test func P12_aBusyWorkerWithARateWaitsForItsCalls() {
        let now = Timestamp(seconds: 1000)
        func pause(_ lane: DeliveryLane, queued: Int, nextInRate: Timestamp?) -> DeliveryLane.Pause {
            lane.pause(queued: queued, nextInRate: nextInRate, callsAtOnceMax: 4, unrecordedMax: 100, at: now)
        }
        var lane = DeliveryLane()
        lane.note(.delivered, at: now)
        #expect(pause(lane, queued: 9, nextInRate: now + .milliseconds(300)) == .wait(atMost: .milliseconds(300), putsBack: false))
        for _ in 0..<4 { lane.start() }
        #expect(pause(lane, queued: 9, nextInRate: now - .milliseconds(5)) == .wait(atMost: .seconds(5), putsBack: false))
        lane.end()
        #expect(pause(lane, queued: 9, nextInRate: now - .milliseconds(5)) == .wait(atMost: .milliseconds(1), putsBack: false))
        #expect(pause(lane, queued: 9, nextInRate: nil) == .wait(atMost: .seconds(5), putsBack: false), "it waits for a slot")
    }

    /// Each is a way in which a wake-up could be lost; the simulation has to see it.
    @Test(arguments: LaneWorld.Mistake.allCases) func aLostWakeUpIsSeen(_ mistake: LaneWorld.Mistake) {
        let seen = (0..<2000 as Range<UInt64>).contains { seed in
            var world = LaneWorld(seed: seed, mistake: mistake)
            return world.run(steps: 600) != nil
        }
        #expect(seen, "\(mistake) went unseen in 2000 histories")
    }
}

struct LaneWorld {
    enum Mistake: CaseIterable {
        /// The end of a call wakes nobody.
        case endsInSilence
        /// The coordinator looks again only when it meant to before a retry was recorded.
        case retriesInSilence
        /// Calls go one by one although the destination works again.
        case staysNarrow
        /// Nobody looks when the next one is due, behind those that were due already.
        case emptiesInSilence
        /// The next in an order is not asked for.
        case orderInSilence
    }

    struct Delivery {
        var dueAt: Timestamp
        /// When the store learnt of that.
        var knownAt: Timestamp
        var isPending = true
        var attempts = 0
    }
    struct Claimed {
        var id: Int
        var hiddenUntil: Timestamp
    }
    struct Attempt {
        var id: Int
        /// Nil: settled.
        var waitsUntil: Timestamp?
        var isPutBack: Bool
    }
    enum Worker { case none, round, claiming(limit: Int, hiddenUntil: Timestamp), claimed([Claimed]), paused(until: Timestamp) }
    enum Coordinator { case round, reading, read([Int: Timestamp]), gap(until: Timestamp), waiting(until: Timestamp) }

    var random: UInt64
    let mistake: Mistake?
    let isOrdered: Bool
    let callsMax: Int
    let unrecordedMax = 6
    var now = Timestamp(seconds: 1_800_000_000)
    var works = true
    var deliveries: [Int: Delivery] = [:]
    var count = 0
    var lane = DeliveryLane()
    var isWorking = false
    var queue: [Claimed] = []
    var calls: [Int: Claimed] = [:]
    var worker = Worker.none
    var isWoken = false
    var coordinator = Coordinator.round
    var isCoordinatorWoken = false
    var nextRoundAt = Timestamp.distantPast
    var recorder: [Attempt] = []

    init(seed: UInt64, mistake: Mistake? = nil) {
        random = seed &* 0x9E37_79B9_7F4A_7C15 | 1
        self.mistake = mistake
        isOrdered = seed % 5 == 0
        callsMax = [1, 2, 4][Int(seed % 3)]
    }

    mutating func next(_ bound: Int) -> Int {
        random ^= random << 13
        random ^= random >> 7
        random ^= random << 17
        return Int(random % UInt64(bound))
    }

    /// What went wrong; nil if nothing did.
    mutating func run(steps: Int) -> String? {
        for step in 0..<steps {
            if next(60) == 0 { works.toggle() }
            let isBusy = step < steps / 2
            if isBusy, next(6) == 0 { commit() }
            let ready = enabled()
            // Only calls and the recorder may take their time.
            let mayTakeTime = ready.allSatisfy { $0 == .call || $0 == .record }
            if !ready.isEmpty, !(mayTakeTime && next(10) == 0) {
                perform(ready[next(ready.count)])
                continue
            }
            if let problem = problem() { return "\(problem) at step \(step)" }
            guard let time = nextTime() else { continue }
            now = time
        }
        return drain()
    }

    /// Without news, on a destination that works, everything is delivered.
    private mutating func drain() -> String? {
        works = true
        for _ in 0..<20_000 {
            let ready = enabled()
            if let first = ready.isEmpty ? nil : ready[next(ready.count)] {
                perform(first)
                continue
            }
            if let problem = problem() { return problem }
            if deliveries.values.allSatisfy({ !$0.isPending }), case .none = worker { return nil }
            guard let time = nextTime() else { return "nobody will ever look again" }
            now = time
        }
        return "\(deliveries.values.count { $0.isPending }) deliveries never end"
    }

    /// Whatever is due and may start has started by now.
    private func problem() -> String? {
        guard lane.restsUntil <= now, lane.unrecorded < unrecordedMax, calls.count < lane.callsAtOnce(max: callsMax) else { return nil }
        if queue.contains(where: { $0.hiddenUntil >= now + .seconds(20) }) { return "something claimed waits although it may start" }
        // The coordinator leaves 10 ms between its rounds.
        let due = deliveries.contains {
            $0.value.isPending && max($0.value.dueAt, $0.value.knownAt) + .milliseconds(15) < now && isFirst($0.key)
        }
        return due && queue.isEmpty ? "something is due and nobody claims it" : nil
    }

    private func isFirst(_ id: Int) -> Bool { !isOrdered || !deliveries.contains { $0.key < id && $0.value.isPending } }

    // MARK: Steps

    enum Step { case worker, coordinator, call, record }

    private func enabled() -> [Step] {
        var steps: [Step] = []
        switch worker {
        case .none: break
        case .paused(let until): if isWoken || until <= now { steps.append(.worker) }
        case .round, .claiming, .claimed: steps.append(.worker)
        }
        switch coordinator {
        case .gap(let until): if until <= now { steps.append(.coordinator) }
        case .waiting(let until): if isCoordinatorWoken || until <= now { steps.append(.coordinator) }
        case .round, .reading, .read: steps.append(.coordinator)
        }
        if !calls.isEmpty { steps.append(.call) }
        if !recorder.isEmpty { steps.append(.record) }
        return steps
    }

    private mutating func nextTime() -> Timestamp? {
        var times: [Timestamp] = []
        if case .paused(let until) = worker { times.append(until) }
        switch coordinator {
        case .gap(let until), .waiting(let until): times.append(until)
        default: break
        }
        guard let first = times.min() else { return nil }
        // News may come before. Calls and the recorder take far less time than a claim is good for.
        var time = next(3) == 0 ? min(first, now + .milliseconds(Int64(next(4000)))) : first
        if !calls.isEmpty || !recorder.isEmpty { time = min(time, now + .milliseconds(1500)) }
        return max(now + .milliseconds(1), time)
    }

    private mutating func perform(_ step: Step) {
        switch step {
        case .worker: work()
        case .coordinator: coordinate()
        case .call: endCall()
        case .record: record()
        }
    }

    private mutating func commit() {
        count += 1
        let waits = isOrdered && deliveries.contains { $0.value.isPending }
        deliveries[count] = Delivery(dueAt: waits ? .distantFuture : now, knownAt: now)
        isCoordinatorWoken = true
    }

    // MARK: The worker, step by step as `DeliveryService+Lane` has it

    private mutating func work() {
        switch worker {
        case .none: return
        case .paused:
            isWoken = false
            worker = .round
        case .round:
            if lane.wantsMore(queued: queue.count, unrecordedMax: unrecordedMax) {
                let limit = lane.beginClaim(callsAtOnceMax: callsMax, perCall: 1, atMost: { min($0, 5) }, at: now)
                if limit > 0 {
                    worker = .claiming(limit: limit, hiddenUntil: now + lane.claimSpan(timeoutSeconds: 15))
                    return
                }
            }
            startAndPause()
        case .claiming(let limit, let hiddenUntil):
            if next(20) == 0 {
                lane.failClaim(at: now)
                return startAndPause()
            }
            let due = deliveries.filter { $0.value.isPending && $0.value.dueAt <= now && isFirst($0.key) }.keys.sorted().prefix(limit)
            for id in due { deliveries[id]!.dueAt = hiddenUntil }
            worker = .claimed(due.map { Claimed(id: $0, hiddenUntil: hiddenUntil) })
        case .claimed(let claimed):
            lane.endClaim(of: claimed.count)
            if claimed.isEmpty, mistake != .emptiesInSilence { isCoordinatorWoken = true }
            queue += claimed
            startAndPause()
        }
    }

    private mutating func startAndPause() {
        while !queue.isEmpty, lane.unrecorded < unrecordedMax, lane.mayStart(callsAtOnceMax: callsMax, at: now) {
            guard let first = take() else { break }
            lane.start()
            calls[first.id] = first
        }
        if queue.isEmpty, lane.mayLeave(queued: queue.count) {
            (worker, isWorking) = (.none, false)
            return
        }
        switch lane.pause(queued: queue.count, nextInRate: nil, callsAtOnceMax: callsMax, unrecordedMax: unrecordedMax, at: now) {
        case .none: worker = .round
        case .wait(let span, let putsBack):
            if putsBack {
                recorder += queue.filter { $0.hiddenUntil > now }.map {
                    Attempt(id: $0.id, waitsUntil: lane.restsUntil, isPutBack: true)
                }
                queue = []
            }
            worker = .paused(until: now + span)
        }
    }

    private mutating func take() -> Claimed? {
        let before = queue.count
        var taken: Claimed?
        while taken == nil, !queue.isEmpty {
            let first = queue.removeFirst()
            if first.hiddenUntil >= now + .seconds(20) { taken = first }
        }
        if lane.isDue, before >= lane.lowMark, queue.count < lane.lowMark { isWoken = true }
        return taken
    }

    private mutating func endCall() {
        let ids = calls.keys.sorted()
        let id = ids[next(ids.count)]
        calls[id] = nil
        let wasFailing = lane.isFailing
        let attempts = deliveries[id]!.attempts
        let asksForRest = !works && next(6) == 0
        if asksForRest {
            lane.note(.asksForRest(until: now + .seconds(Int64(next(40)))), at: now)
        } else {
            lane.note(works ? .delivered : .failed, at: now)
        }
        if wasFailing, !lane.isFailing, mistake != .staysNarrow { isWoken = true }
        let retryAt = now + .milliseconds(Int64(min(attempts + 1, 6) * 1000 + next(3000)))
        recorder.append(Attempt(id: id, waitsUntil: works ? nil : retryAt, isPutBack: false))
        lane.noteMade(1, inOrder: isOrdered ? 1 : 0)
        if lane.unrecorded < unrecordedMax, lane.mayGoOn(callsAtOnceMax: callsMax, at: now), let following = take() {
            calls[following.id] = following
            return
        }
        lane.end()
        if mistake != .endsInSilence { isWoken = true }
    }

    // MARK: The recorder

    private mutating func record() {
        let attempt = recorder.removeFirst()
        // The store would not: the claim runs out.
        let isRecorded = attempt.isPutBack || next(30) != 0
        if isRecorded {
            deliveries[attempt.id]!.knownAt = now
            if let time = attempt.waitsUntil {
                deliveries[attempt.id]!.dueAt = time
                if !attempt.isPutBack { deliveries[attempt.id]!.attempts += 1 }
                if attempt.isPutBack || mistake != .retriesInSilence { lookAgain(at: time) }
            } else {
                deliveries[attempt.id]!.isPending = false
                if isOrdered, let following = deliveries.filter(\.value.isPending).keys.min() {
                    (deliveries[following]!.dueAt, deliveries[following]!.knownAt) = (min(deliveries[following]!.dueAt, now), now)
                    if mistake != .orderInSilence { isCoordinatorWoken = true }
                }
            }
        }
        guard !attempt.isPutBack else { return }
        let wakes = lane.noteRecorded(isOrdered: isOrdered && mistake != .orderInSilence, unrecordedMax: unrecordedMax)
        if wakes { isWoken = true }
    }

    // MARK: The coordinator, as `DeliveryService` has it

    private mutating func lookAgain(at time: Timestamp) {
        guard time < nextRoundAt else { return }
        nextRoundAt = time
        isCoordinatorWoken = true
    }

    private mutating func coordinate() {
        switch coordinator {
        case .gap: coordinator = .round
        case .waiting:
            isCoordinatorWoken = false
            coordinator = .gap(until: now + .milliseconds(10))
        case .round:
            nextRoundAt = .distantFuture
            coordinator = .reading
        case .reading:
            coordinator = .read(deliveries.filter(\.value.isPending).mapValues(\.dueAt))
        case .read(let pending):
            var following = now + .seconds(30)
            if let first = pending.values.min() {
                if first > now { following = min(following, first) } else { wakeOrMake() }
            }
            nextRoundAt = min(nextRoundAt, following)
            coordinator = .waiting(until: following)
        }
    }

    private mutating func wakeOrMake() {
        lane.noteDue()
        if isWorking {
            isWoken = true
        } else {
            isWorking = true
            worker = .round
        }
    }
}
