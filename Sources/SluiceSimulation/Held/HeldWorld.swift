import SluiceConnectors
import SluiceCore

/// One run of `HeldSimulation`.
struct HeldWorld {
    /// An event as it truly is: which life of the source said it, and its id there.
    struct Event: Hashable {
        var life: Int
        var id: Int64
    }

    /// What survives a crash.
    struct Durable {
        var cursor: [UInt8]?
        var keys: Set<String> = []
        var events: [Event] = []
        var gaps = 0
        var lastHeldCycle: Int64 = 1
        var isPaused = false
        var inboxCursor: Int64 = 0
        var covered = InboxSequence.zero
        var webhookJobs: [Int64] = []
        var lastInboxCycle: Int64 = 1
        /// Webhooks that are kept: number and arrival.
        var inbox: [(number: Int64, at: Timestamp)] = []
        var newestWebhook: Int64 = 0
        var newestWebhookAt = HeldWorld.epoch
    }

    struct Running {
        var start: Schedule.Start
        /// When its answer is there; nil while the source holds the request.
        var answersAt: Timestamp?
        var begun: Timestamp
    }

    static let epoch = Timestamp(milliseconds: 1_800_000_000_000)
    static let (held, reader) = (TriggerID(0), TriggerID(1))
    static let hold = Span.seconds(60)
    private static let connection = ConnectionID(1)
    private static let topic = TopicID(1)

    let seed: UInt64
    let mistake: HeldSimulation.Mistake?
    var random: SimulationRandom
    var now = HeldWorld.epoch
    var durable = Durable()
    var schedule = Schedule()
    var running: [TriggerID: Running] = [:]
    // The source.
    var life = 1
    var newest: Int64 = 0
    let keeps: Int64
    var unreachableUntil = HeldWorld.epoch
    var said: [Int: Int64] = [:]
    var violation: String?
    var (restarts, crashes, startsAtThisMoment) = (0, 0, 0)

    init(seed: UInt64, mistake: HeldSimulation.Mistake?) {
        self.seed = seed
        self.mistake = mistake
        random = SimulationRandom(seed: seed)
        keeps = Int64(random.pick([5, 20, 1000]))
    }

    mutating func run(steps: Int) -> HeldSimulation.Result {
        boot()
        for _ in 0..<steps where violation == nil {
            mischief()
            pass(.milliseconds(random.gap(mean: random.pick([50, 2000, 30_000]))))
        }
        calm()
        return HeldSimulation.Result(
            seed: seed, violation: violation, jobs: durable.events.count + durable.webhookJobs.count, restarts: restarts, crashes: crashes,
            gaps: durable.gaps)
    }

    private mutating func violate(_ what: String) { violation = violation ?? "seed \(seed) at \(now): \(what)" }

    // MARK: What happens

    private mutating func mischief() {
        switch random.int(0...19) {
        case 0...6: say(Int64(random.int(1...4)))
        case 7...10: webhook()
        case 11: restartSource()
        case 12, 13: boot()
        case 14: setPaused(!durable.isPaused)
        case 15: unreachableUntil = now + .milliseconds(random.milliseconds(1...20_000))
        case 16: breakOff()
        case 17: prune()
        default: break
        }
    }

    private mutating func say(_ count: Int64) {
        newest += count
        said[life] = newest
        answerHeld()
    }

    private mutating func answerHeld() {
        if let cycle = running[HeldWorld.held], cycle.answersAt == nil { running[HeldWorld.held]?.answersAt = now }
    }

    private mutating func restartSource() {
        restarts += 1
        life += 1
        // Now and then it has said more than before when we ask the next time.
        newest = random.chance(0.5) ? 0 : Int64(random.int(0...40))
        said[life] = newest
        unreachableUntil = now + .milliseconds(random.milliseconds(0...8000))
        breakOff()
    }

    /// The held request's connection breaks.
    private mutating func breakOff() {
        if let cycle = running[HeldWorld.held], cycle.start.cycle.cause == .hold {
            finish(cycle, .failed(openCycle: nil, delay: .seconds(2)))
        }
    }

    private mutating func webhook() {
        durable.newestWebhook += 1
        durable.newestWebhookAt = now
        durable.inbox.append((durable.newestWebhook, now))
        // Durable, and the process dies before anybody hears of it.
        if random.chance(0.05) { return boot() }
        schedule.signal(HeldWorld.topic, sequence: InboxSequence(durable.newestWebhook), receivedAt: now, at: now)
    }

    private mutating func setPaused(_ isPaused: Bool) {
        durable.isPaused = isPaused
        put(HeldWorld.held)
        put(HeldWorld.reader)
        if !isPaused { for trigger in [HeldWorld.held, HeldWorld.reader] { schedule.pollNow(trigger, cause: .resume, at: now) } }
        // What is held is let go.
        if let cycle = running[HeldWorld.held], cycle.start.cycle.cause == .hold { finish(cycle, .quiet) }
    }

    /// Retention: what is older than two minutes, and read.
    private mutating func prune() {
        let covered = mistake == .pruneByAge ? Int64.max : durable.covered.rawValue
        durable.inbox.removeAll { $0.at < now - .minutes(2) && $0.number <= covered }
    }

    /// A crash, or the first start.
    private mutating func boot() {
        if now > HeldWorld.epoch { crashes += 1 }
        running = [:]
        schedule = Schedule()
        schedule.setConnection(HeldWorld.connection, runningMax: 2)
        schedule.restoreTopic(HeldWorld.topic, sequence: InboxSequence(durable.newestWebhook), at: durable.newestWebhookAt)
        put(HeldWorld.held)
        put(HeldWorld.reader)
    }

    private mutating func put(_ trigger: TriggerID) {
        let isHeld = trigger == HeldWorld.held
        let stored = TriggerSchedule.Stored(
            covered: isHeld ? .zero : durable.covered, safetyDueAt: now + .hours(12),
            lastCycle: isHeld ? durable.lastHeldCycle : durable.lastInboxCycle)
        schedule.put(
            trigger, connection: HeldWorld.connection, topics: isHeld ? [] : [HeldWorld.topic], stored: stored,
            mode: durable.isPaused ? .rests : .polls, timing: .init(upstream: isHeld ? .held : .inbox), at: now)
    }

    // MARK: Time

    private mutating func pass(_ span: Span) {
        let end = now + span
        while violation == nil {
            start()
            let wakes = [schedule.nextWake(at: now)] + running.values.map { $0.answersAt ?? $0.begun + HeldWorld.hold }
            guard let next = wakes.compactMap({ $0 }).min(), next <= end else { break }
            if next > now { startsAtThisMoment = 0 }
            now = max(now, next)
            for cycle in running.values.sorted(by: { $0.start.trigger.rawValue < $1.start.trigger.rawValue }) {
                guard let answers = cycle.answersAt ?? (cycle.begun + HeldWorld.hold <= now ? now : nil), answers <= now else { continue }
                answered(cycle)
            }
        }
        now = max(now, end)
        startsAtThisMoment = 0
    }

    private mutating func start() {
        for start in schedule.takeReady(limit: 4, at: now) {
            startsAtThisMoment += 1
            if startsAtThisMoment > 50 { return violate("50 cycles started without time passing") }
            if running[start.trigger] != nil { return violate("two cycles of one trigger at once") }
            if durable.isPaused { return violate("a paused trigger starts a cycle") }
            let isHeld = start.cycle.cause == .hold
            // What it asks for may be there already.
            let answersAt = isHeld && !hasNews ? nil : now + .milliseconds(random.milliseconds(1...300))
            running[start.trigger] = Running(start: start, answersAt: answersAt, begun: now)
        }
    }

    private var hasNews: Bool { newest > position }
    private var position: Int64 {
        guard let cursor = durable.cursor, let at = try? JSONDocument(cursor).root["at"]?.int64 else { return 0 }
        return at
    }

    private mutating func answered(_ cycle: Running) {
        if cycle.start.lane == .inbox { return readInbox(cycle) }
        if now < unreachableUntil { return finish(cycle, .failed(openCycle: nil, delay: .seconds(2))) }
        poll(cycle)
    }

    // MARK: The long-polling trigger

    private mutating func poll(_ cycle: Running) {
        let isHeld = cycle.start.cycle.cause == .hold
        let empty = World.document("{}")
        let request = PollRequest(
            triggerType: "event", connection: empty, input: empty, cursor: durable.cursor, pageState: nil, readBound: now)
        guard var watch = try? IDWatch(request) else { return violate("the cursor cannot be read") }
        if !isHeld, mistake != .noQuestion { watch.heard(token: "life \(life)") }
        let after = watch.at.flatMap { try? JSONDocument($0).root.int64 } ?? 0
        let ids = Array(max(after, newest - keeps, 0)..<max(after, newest)).map { $0 + 1 }
        let raw = PollPage(
            records: ids.map { Record(bytes: Array("{\"id\":\($0)}".utf8)[...]) }, marks: ids,
            cursor: ids.last.map { Array(String($0).utf8) }, more: false)
        commit(watch.read(raw, consecutive: true, now: now), ids: raw.marks, cycle, isHeld: isHeld)
    }

    private mutating func commit(_ page: PollPage, ids: [Int64], _ cycle: Running, isHeld: Bool) {
        if isHeld, page.records.isEmpty, page.cursor == nil { return finish(cycle, .quiet) }
        if mistake == .cursorFirst { durable.cursor = page.cursor ?? durable.cursor }
        // Before the commit all is lost, after it all is kept.
        if random.chance(0.05), !isCalm { return boot() }
        let before = durable.events.count
        for (index, id) in ids.enumerated() where index < page.records.count {
            let key = mistake == .noEpochInKeys ? "\(id)" : "\(page.epoch ?? "")/\(id)"
            if durable.keys.insert(key).inserted { durable.events.append(Event(life: life, id: id)) }
        }
        let moved = page.cursor != nil
        durable.cursor = page.cursor ?? durable.cursor
        durable.gaps += page.warnings.count { $0.hasPrefix("gap:") }
        durable.lastHeldCycle = cycle.start.cycle.number
        if random.chance(0.05), !isCalm { return boot() }
        finish(cycle, isHeld && !moved && durable.events.count == before ? .quiet : .succeeded)
    }

    // MARK: The webhook-only trigger

    private mutating func readInbox(_ cycle: Running) {
        let unread = durable.inbox.filter { $0.number > durable.inboxCursor }.map(\.number)
        if mistake == .cursorFirst { durable.inboxCursor = durable.newestWebhook }
        if random.chance(0.05), !isCalm { return boot() }
        durable.webhookJobs += unread
        durable.inboxCursor = durable.newestWebhook
        durable.covered = max(durable.covered, cycle.start.cycle.notedSequence)
        durable.lastInboxCycle = cycle.start.cycle.number
        if random.chance(0.05), !isCalm { return boot() }
        finish(cycle, .succeeded)
    }

    private mutating func finish(_ cycle: Running, _ outcome: TriggerSchedule.Outcome) {
        running[cycle.start.trigger] = nil
        if mistake == .neverReconnect, cycle.start.lane != .inbox, case .failed = outcome {
            return schedule.finish(cycle.start.trigger, .quiet, at: now)
        }
        schedule.finish(cycle.start.trigger, outcome, at: now)
    }

    // MARK: The end

    private var isCalm = false

    private mutating func calm() {
        isCalm = true
        if durable.isPaused { setPaused(false) }
        pass(.hours(1))
        for _ in 0..<20 where violation == nil {
            say(1)
            webhook(in: &self)
            pass(.seconds(20))
            if running[HeldWorld.held]?.start.cycle.cause != .hold { violate("no request is held although all is well") }
        }
        if violation == nil { judge() }
    }

    private func webhook(in world: inout HeldWorld) {
        world.durable.newestWebhook += 1
        world.durable.newestWebhookAt = now
        world.durable.inbox.append((world.durable.newestWebhook, now))
        world.schedule.signal(HeldWorld.topic, sequence: InboxSequence(world.durable.newestWebhook), receivedAt: now, at: now)
    }

    private mutating func judge() {
        let jobs = Set(durable.events)
        if jobs.count != durable.events.count { return violate("\(durable.events.count - jobs.count) events are jobs twice") }
        var lost = 0
        for (life, last) in said where last > 0 { lost += (1...last).count { !jobs.contains(Event(life: life, id: $0)) } }
        let current = (max(1, newest - keeps + 1)...max(1, newest)).filter { !jobs.contains(Event(life: life, id: $0)) && $0 <= newest }
        if !current.isEmpty { return violate("\(current.count) events that the source still lists are no jobs, such as \(current[0])") }
        if lost > 0, durable.gaps == 0 { return violate("\(lost) events are lost and nobody was told") }
        if Set(durable.webhookJobs).count != durable.webhookJobs.count { return violate("webhooks are jobs twice") }
        if durable.webhookJobs.sorted() != Array(1...max(1, durable.newestWebhook)) {
            violate("\(Int(durable.newestWebhook) - durable.webhookJobs.count) webhooks are no jobs")
        }
    }
}
