import SluiceConnectors
import SluiceCore
import SluiceStore

/// One run: a provider, a store and the processes of one shard, on simulated time. Everything follows from the seed.
final class World {
    enum Event {
        case change
        case webhook(Webhook)
        case signal(node: Int, topic: TopicID, sequence: InboxSequence, at: Timestamp)
        case wake(node: Int, token: Int)
        case cycle(node: Int, cycle: Int)
        case mischief
        case restart
        case endZombie(node: Int)
        case command(trigger: Int, TriggerCommand)
        case report(trigger: Int, TriggerEvent)
        case mendCredentials(connection: Int, tellsSluice: Bool)
        case mendFeed(resource: Int)
        case listPartition(resource: Int, partition: Int)
        case takeWebhooks
        case mendStore
    }

    struct Webhook {
        var change: Int
        var connection: Int
        var resource: Int
        var sentAt: Timestamp
        var isForged = false
        var isUnreadable = false
    }

    let seed: UInt64
    let mutant: Mutant?
    var random: SimulationRandom
    let scenario: Scenario
    var provider: ProviderModel
    var store: StoreModel
    /// How each list is described now, and all descriptions that there were.
    var described: [DescribedPoll]
    var descriptions: [[String: DescribedPoll]]
    let connectionFields: JSONDocument
    let input: JSONDocument
    var queue = EventQueue<Event>()
    var monitor: Monitor
    var now: Timestamp
    var step = 0
    var isCalm = false
    var nodes: [Node] = []
    var nextCycle = 0
    /// Armed by mischief: the next time this place is reached, the process crashes.
    var crashPoint: Scenario.Mischief?
    /// Armed likewise, for the moment before a commit.
    var commitPoint: Scenario.Mischief?
    var repeatsNextCommit = false
    var refusedCredentials: Set<Int> = []
    var brokenFeeds: Set<Int> = []
    var refusesWebhooks = false
    var isStoreFailing = false
    /// A full disk can still be read.
    var isStoreReadable = true
    var lastWebhookSentAt: Timestamp?
    var trace: [String]?

    static let epoch = Timestamp(milliseconds: 1_800_000_000_000)

    init(seed: UInt64, stepsMin: Int, mutant: Mutant?, traces: Bool) {
        self.seed = seed
        self.mutant = mutant
        random = SimulationRandom(seed: seed)
        scenario = Scenario(seed: seed, stepsMin: stepsMin, random: &random)
        now = World.epoch
        let scenario = scenario
        provider = ProviderModel(feeds: scenario.feeds, skew: scenario.skew)
        described = scenario.feeds.map { World.describe(Description(of: $0.feed), of: $0.feed, mutant) }
        descriptions = described.map { [$0.description.hash: $0] }
        connectionFields = World.document("{}")
        input = World.document("{\"resource\":\"list\",\"since\":\"\(World.since)\"}")
        let triggers = scenario.triggers.map { plan in
            let connection = scenario.feeds[plan.resource].connection
            let topics = plan.listens ? [TopicID(Int64(plan.resource)), TopicID(Int64(scenario.feeds.count + connection))] : []
            return StoreModel.Trigger(connection: connection, resource: plan.resource, topics: topics)
        }
        store = StoreModel(topics: scenario.feeds.count + scenario.connections.count, triggers: triggers)
        store.ignoresEpoch = mutant == .skipEpochCheck
        monitor = Monitor(scenario: scenario, signalDelay: scenario.signalDelay)
        trace = traces ? [] : nil
        if scenario.skew != .zero { monitor.occurred(.clockSkew) }
    }

    private static let since = World.epoch - .hours(1)

    static func describe(_ description: Description, of feed: Feed, _ mutant: Mutant?) -> DescribedPoll {
        DescribedPoll(description, of: feed, overlap: mutant == .noOverlap ? 0 : nil, since: since.seconds)
    }

    static func document(_ text: String) -> JSONDocument {
        do { return try JSONDocument(Array(text.utf8)) } catch { preconditionFailure("\(error)") }
    }

    func note(_ text: @autoclosure () -> String) {
        if trace != nil { trace?.append("\(now) step \(step): \(text())") }
    }

    // MARK: The run

    func run() -> SimulationResult {
        begin()
        while step < scenario.steps, monitor.violation == nil { next() }
        if monitor.violation == nil { calm() }
        let deadline = now + convergenceSpanMax
        while monitor.violation == nil, !monitor.hasSettled(provider: provider, store: store, at: now) {
            if now > deadline {
                monitor.violateUnsettled(provider: provider, store: store, deadline: deadline)
            } else if step > scenario.steps + World.calmStepsMax {
                monitor.violate(
                    .P10_noBusyLoop, "the run did not settle within \(World.calmStepsMax) steps after the faults stopped", at: now)
            } else {
                next()
            }
        }
        if monitor.violation == nil { monitor.checkEnd(store: store, at: now) }
        if var violation = monitor.violation {
            violation.seed = seed
            violation.step = step
            note("VIOLATION of \(violation.invariant.rawValue): \(violation.message)")
            monitor.violation = violation
        }
        return SimulationResult(
            seed: seed, steps: step, violation: monitor.violation, faults: monitor.faults, jobs: monitor.jobCount, trace: trace ?? [])
    }

    static let calmStepsMax = 60_000

    /// How long it may take from the last fault until everything is a job: a trigger that failed is probed once a safety
    /// interval, and so is a connection that was refused; a retry waits at most 15 minutes.
    private var convergenceSpanMax: Span {
        let safety = scenario.triggers.map { $0.safetyInterval }.max() ?? .zero
        return safety * 3 + .hours(1)
    }

    private func begin() {
        queue.schedule(.change, at: now)
        queue.schedule(.mischief, at: now + .milliseconds(random.gap(mean: scenario.mischiefGapMean)))
        for trigger in store.triggers.indices {
            queue.schedule(.command(trigger: trigger, .start), at: now + .milliseconds(random.milliseconds(0...3000)))
        }
        boot()
    }

    private func next() {
        guard let event = queue.popFirst() else {
            monitor.violate(.final_converged, "nothing is left to happen, and records are missing", at: now)
            return
        }
        step += 1
        if event.at > now {
            monitor.timePasses(to: event.at)
            now = event.at
            monitor.stepsAtThisMoment = 0
        } else {
            monitor.stepsAtThisMoment += 1
            if monitor.stepsAtThisMoment > 5000 { monitor.violate(.P10_noBusyLoop, "5000 steps without time moving on", at: now) }
        }
        perform(event.kind)
        monitor.look(at: self)
    }

    private func perform(_ event: Event) {
        switch event {
        case .change: change()
        case .webhook(let webhook): receive(webhook)
        case .signal(let node, let topic, let sequence, let at): signalled(nodes[node], topic, sequence, at)
        case .wake(let node, let token):
            guard nodes[node].isAlive, nodes[node].wakeToken == token else { return }
            nodes[node].wakeAt = nil
            pump(nodes[node])
        case .cycle(let node, let cycle): if nodes[node].isAlive { advance(nodes[node], cycle) }
        case .mischief:
            guard !isCalm else { return }
            if !scenario.mischiefs.isEmpty { mischief(random.pick(scenario.mischiefs)) }
            queue.schedule(.mischief, at: now + .milliseconds(random.gap(mean: scenario.mischiefGapMean)))
        case .restart: if holder == nil { boot() }
        case .endZombie(let node): nodes[node].isAlive = false
        case .command(let trigger, let command): self.command(trigger, command)
        case .report(let trigger, let event): report(trigger, event)
        case .mendCredentials(let connection, let tellsSluice): mendCredentials(connection, tellsSluice: tellsSluice)
        case .mendFeed(let resource): brokenFeeds.remove(resource)
        case .listPartition(let resource, let partition): listPartition(resource, partition)
        case .takeWebhooks: takeWebhooks()
        case .mendStore: mendStore()
        }
    }

    /// The process that holds the lease, if one lives.
    var holder: Node? {
        guard let last = nodes.last, last.isAlive, last.fence.epoch == store.epoch else { return nil }
        return last
    }
}
