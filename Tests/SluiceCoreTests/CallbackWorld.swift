import SluiceCore

/// One operation at a provider, a store with a generation, and a process that may die at any step, around the machine alone.
struct CallbackWorld {
    enum Mistake: String, CaseIterable, Sendable {
        /// A call's content counts although the provider can be asked.
        case believesCalls
        /// What was read is recorded over what somebody else has recorded meanwhile.
        case ignoresGenerations
        /// Its time is up, and nobody asks once more.
        case expiresUnasked
        /// A call is answered before it is recorded.
        case forgetsCalls
    }

    typealias Random = SubscriptionWorld.Random

    let mistake: Mistake?
    var random: Random
    var now = Timestamp(seconds: 1_700_000_000)
    let asks: Bool
    /// When the operation ends at the provider, nil: never; and whether it comes to nothing.
    let truthAt: Timestamp?
    let truthFails: Bool
    let trouble: Double

    /// What is recorded.
    var stored: Callback
    var generation = 0
    var ends: [(state: CallbackState, at: Timestamp)] = []
    var results: [String] = []
    /// Calls that are on their way: when, and whether they are genuine.
    var calls: [(at: Timestamp, isGenuine: Bool)] = []
    /// A poll under way: what it has read of the callback, what it covers, when it began, what it saw.
    var underWay: (callback: Callback, generation: Int, covers: Int64, startedAt: Timestamp, sees: Bool)?
    var cancelAt: Timestamp?
    /// When genuine or forged calls were answered 2xx; polls that began.
    var accepted: [Timestamp] = []
    var begun: [Timestamp] = []
    var problems: [String] = []

    init(seed: UInt64, mistake: Mistake? = nil) {
        self.mistake = mistake
        var random = Random(state: seed &* 0x9E37_79B9 &+ 1)
        asks = random.happens(0.7)
        let lifetime = Span.seconds(Int64(30 + random.below(7200)))
        let start = now
        truthAt = random.happens(0.8) ? start + .seconds(Int64(random.below(7000))) : nil
        truthFails = random.happens(0.3)
        trouble = random.happens(0.5) ? random.unit() * 0.6 : 0
        stored = CallbackMachine(asks: asks, at: start, expiresAt: start + lifetime, random: random.unit()).callback
        cancelAt = random.happens(0.15) ? start + .seconds(Int64(random.below(3000))) : nil
        // Some providers never call, others several times, late or early; and anybody may call who has found the URL.
        if let truthAt, random.happens(0.7) {
            for _ in 0...random.below(3) { calls.append((truthAt + .seconds(Int64(random.below(300))), true)) }
        }
        for _ in 0..<random.below(4) { calls.append((start + .seconds(Int64(random.below(8000))), false)) }
        if random.happens(0.1) {
            let from = start + .seconds(Int64(random.below(600)))
            for index in 0..<300 { calls.append((from + .milliseconds(Int64(index) * 500), false)) }
        }
        calls.sort { $0.at < $1.at }
        self.random = random
    }

    mutating func run() {
        var steps = 0
        while steps < 5000, !stored.state.isOver || !calls.isEmpty || underWay != nil {
            steps += 1
            step()
        }
        if !stored.state.isOver { problems.append("it never ends: \(stored)") }
        judge()
    }

    private mutating func step() {
        // A crash forgets what is under way, and nothing else.
        if random.happens(trouble * 0.1) { underWay = nil }
        if underWay != nil, random.happens(0.6) { return finishPoll() }
        let due = stored.nextAt
        let call = calls.first?.at ?? .distantFuture
        let cancel = stored.state.isOver ? .distantFuture : cancelAt ?? .distantFuture
        let next = min(underWay == nil ? due : .distantFuture, call, cancel)
        // No request lasts longer than ten seconds here.
        if let poll = underWay, next > poll.startedAt + .seconds(10) {
            now = max(now, min(next, poll.startedAt + .seconds(10)))
            return finishPoll()
        }
        if next == .distantFuture { return }
        now = max(now, next)
        if next == call { return takeCall() }
        if next == cancel { return takeCancel() }
        act()
    }

    private mutating func act() {
        var machine = CallbackMachine(stored)
        switch machine.due(at: now) {
        case .nothing: now = now + .milliseconds(1)
        case .expire: if machine.expire(at: now) { record(machine.callback, generation, result: nil) }
        case .poll(let covers):
            if mistake == .expiresUnasked, now >= stored.expiresAt {
                // As if the provider had said so.
                _ = machine.answered(.pending(), covers: covers, startedAt: now, at: now)
                return record(machine.callback, generation, result: nil)
            }
            begun.append(now)
            underWay = (stored, generation, covers, now, truthAt.map { $0 <= now } ?? false)
            now = now + .milliseconds(Int64(random.below(8000)))
        }
    }

    private mutating func finishPoll() {
        guard let poll = underWay else { return }
        underWay = nil
        now = now + .milliseconds(1)
        let answer: CallbackMachine.Answer
        if random.happens(trouble) {
            answer = .none(reason: "trouble", retryAfter: random.happens(0.3) ? .seconds(30) : nil, isHeldBack: random.happens(0.2))
        } else if poll.sees {
            answer = .over(failed: truthFails)
        } else {
            answer = .pending(retryAfter: random.happens(0.1) ? .minutes(2) : nil)
        }
        // What was read may be out of date by now: it is read again.
        var machine = CallbackMachine(mistake == .ignoresGenerations ? poll.callback : stored)
        guard machine.answered(answer, covers: poll.covers, startedAt: poll.startedAt, at: now, random: random.unit()) else { return }
        if random.happens(trouble * 0.1) { return }
        record(machine.callback, generation, result: machine.callback.state.isOver && poll.sees ? truthFails ? "failed" : "paid" : nil)
    }

    private mutating func takeCall() {
        let call = calls.removeFirst()
        // One that is not verified settles nothing where a call would; it never comes this far.
        if !asks, !call.isGenuine { return }
        var machine = CallbackMachine(stored)
        if asks, mistake == .forgetsCalls, !stored.state.isOver { return accepted.append(now) }
        if asks, mistake == .believesCalls, !stored.state.isOver {
            _ = machine.answered(.over(failed: false), covers: 0, startedAt: now, at: now)
            return record(machine.callback, generation, result: call.isGenuine ? truthFails ? "failed" : "paid" : "forged")
        }
        let isChanged = asks ? machine.called(covering: underWay?.covers, at: now) : machine.brought(at: now)
        // Killed before it was recorded: no 2xx, so the provider calls again.
        if isChanged, random.happens(trouble * 0.2) {
            underWay = nil
            if call.isGenuine {
                calls.append((now + .seconds(Int64(1 + random.below(60))), true))
                calls.sort { $0.at < $1.at }
            }
            return
        }
        if isChanged { record(machine.callback, generation, result: asks ? nil : truthFails ? "failed" : "paid") }
        if !stored.state.isOver { accepted.append(now) }
    }

    private mutating func takeCancel() {
        cancelAt = nil
        var machine = CallbackMachine(stored)
        if machine.cancel(reason: "by hand", at: now) { record(machine.callback, generation, result: nil) }
    }

    private mutating func record(_ callback: Callback, _ read: Int, result: String?) {
        guard read == generation || mistake == .ignoresGenerations else { return }
        generation += 1
        stored = callback
        if callback.state.isOver { ends.append((callback.state, now)) }
        if let result { results.append(result) }
    }

    private mutating func judge() {
        if ends.count != 1 { problems.append("it ended \(ends.count) times: \(ends)") }
        if results.contains("forged") { problems.append("a forged call settled it") }
        guard let end = ends.first else { return }
        if stored.state == .settled || stored.state == .failed {
            guard let truthAt, truthAt <= end.at else { return problems.append("it ended before the operation did") }
            if asks, (stored.state == .failed) != truthFails { problems.append("it is \(stored.state), the operation is not") }
        }
        // Where nothing goes wrong, an operation that was over in its time is no expired callback.
        if stored.state == .expired, trouble == 0, asks, let truthAt, truthAt <= stored.expiresAt {
            problems.append("it expired although the operation was over")
        }
        if asks, trouble == 0 { judgeCalls(end.at) }
        for index in begun.indices {
            let window = begun[index...].prefix { $0 < begun[index] + .seconds(200) }
            let scheduled = trouble == 0 ? 4 : 40
            if window.count > 2 + 200 / 20 + scheduled { problems.append("\(window.count) polls in 200 s") }
        }
    }

    /// Each accepted call is followed by a poll that begins later, within 20 s and the time of the one under way.
    private mutating func judgeCalls(_ end: Timestamp) {
        for call in accepted where call < stored.expiresAt - .minutes(1) && call + .minutes(1) < end {
            let isFollowed = begun.contains { $0 >= call && $0 <= call + .seconds(20 + 10) }
            if !isFollowed { problems.append("no poll followed the call at \(call)") }
        }
    }
}
