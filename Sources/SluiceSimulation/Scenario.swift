import SluiceCore

/// What a seed makes of the world: how large it is, how it behaves, and what goes wrong how often.
struct Scenario {
    struct Connection {
        var runningMax: Int
        var requestsPerSecond: Double?
    }
    struct Trigger {
        var resource: Int
        /// Whether it hears of webhooks; otherwise it polls by interval.
        var listens: Bool
        var safetyInterval: Span
    }
    var connections: [Connection] = []
    var feeds: [(feed: Feed, connection: Int)] = []
    var triggers: [Trigger] = []
    var skew = Span.zero
    /// Steps with faults.
    var steps: Int

    var changeGapMean: Double
    var burstShare: Double
    var newShare: Double
    var lateShare: Double
    var webhookRates: WebhookRates
    /// Share of requests that the provider answers badly.
    var requestFaultShare: Double
    var mischiefGapMean: Double
    /// What may be done to Sluice in this run.
    var mischiefs: [Mischief]

    var recordsPerCommitMax: Int
    /// The store takes more at once at one time than at another, as ours does while webhooks come.
    var changesRecordsPerCommit: Bool
    var slice: CycleSlice.Limits
    var catchUpSpanPerTrigger: Span
    var catchUpWindowMax: Span
    var cyclesAtOnceMax: Int
    var signalDelay: Span

    struct WebhookRates {
        var dropped = 0.0
        var doubled = 0.0
        var late = 0.0
        var forged = 0.0
        var unreadable = 0.0
        var lateMillisecondsMax = 1000
    }

    enum Mischief: CaseIterable {
        case crash, crashBeforeSignal, crashBeforeCommit, crashBetweenChunks, crashBeforeFinish, downtime
        case leaseLost, pause, pauseInCycle, stop, changeDefinition, pollByHand, prune
        case refuseCredentials, breakFeed, refuseWebhooks, failStore, failStoreBetweenChunks, repeatCommit
        case changeLookback, changeDedup
        case addPartition, unlistPartition, refusePartition, failPartition, splitFeed

        static let ofPartitions: [Mischief] = [
            .addPartition, .unlistPartition, .unlistPartition, .refusePartition, .failPartition, .prune,
        ]
    }

    init(seed: UInt64, stepsMin: Int, random: inout SimulationRandom) {
        steps = stepsMin + random.int(0...stepsMin / 2)
        changeGapMean = random.pick([400, 1500, 5000, 15_000, 40_000])
        burstShare = random.pick([0, 0.2, 0.5])
        newShare = random.pick([0.3, 0.6, 0.9])
        lateShare = random.pick([0, 0.3, 0.8])
        requestFaultShare = random.pick([0, 0.05, 0.15, 0.3])
        mischiefGapMean = random.pick([4000, 12_000, 40_000])
        var rates = WebhookRates()
        rates.dropped = random.pick([0, 0.1, 0.3, 0.9])
        rates.doubled = random.pick([0, 0.3])
        rates.late = random.pick([0, 0.2, 0.5])
        rates.lateMillisecondsMax = random.pick([2000, 15_000, 90_000])
        rates.forged = random.pick([0, 0.1])
        rates.unreadable = random.pick([0, 0.1])
        webhookRates = rates
        mischiefs = Mischief.allCases.filter { _ in random.chance(0.5) }
        // What goes wrong with partitions takes several of their faults to meet.
        let isOfPartitions = random.chance(0.2)
        if isOfPartitions { mischiefs = Mischief.ofPartitions + mischiefs.filter { _ in random.chance(0.3) } }
        recordsPerCommitMax = random.int(1...4)
        changesRecordsPerCommit = random.chance(0.5)
        let rests = random.chance(0.5)
        slice = CycleSlice.Limits(
            pagesPerSliceMax: random.pick([1, 2, 5, 50]), sliceSpanMax: .seconds(random.pick([1, 10])),
            barrenPagesMax: rests ? random.int(3...10) : 600, restSpan: rests ? .seconds(20) : .minutes(5))
        catchUpSpanPerTrigger = random.pick([.milliseconds(20), .seconds(5)])
        catchUpWindowMax = .minutes(10)
        cyclesAtOnceMax = random.pick([1, 2, 64])
        signalDelay = .milliseconds(random.milliseconds(0...40))
        if random.chance(0.5) { skew = .milliseconds(random.milliseconds(-90_000...90_000)) }
        drawDefinitions(isOfPartitions ? [.first] : [.none, .none, .first, .later], &random)
    }

    private mutating func drawDefinitions(_ partitioning: [Feed.Partitioning], _ random: inout SimulationRandom) {
        for index in 0..<random.int(1...2) {
            connections.append(Connection(runningMax: random.int(1...3), requestsPerSecond: random.pick([nil, nil, 1, 5])))
            for _ in 0..<random.int(1...2) {
                let kind = random.pick(FeedKind.allCases)
                // A list that is read whole has no cursor to hold back, and declares no lag.
                let lag = kind == .whole ? Span.zero : Span.milliseconds(random.pick([0, 0, 1500, 5000, 12_000, 24_000]))
                var feed = Feed(
                    kind: kind, pageSize: random.int(kind.pagesByOffset ? 4...8 : 2...8), visibilityLag: lag,
                    lookbackSeconds: random.pick([0, 0, 5, 60]), partitioning: random.pick(partitioning))
                feed.hasBeginning = random.chance(0.7)
                feeds.append((feed, index))
            }
        }
        // Of one order, so that none polls thousands of times while another waits.
        let intervals: [Span] = random.pick([[.seconds(30), .minutes(2)], [.minutes(5), .minutes(20)], [.hours(1), .hours(12)]])
        for _ in 0..<random.int(1...4) {
            let listens = random.chance(0.9)
            let interval = random.pick(intervals)
            triggers.append(Trigger(resource: random.int(0...feeds.count - 1), listens: listens, safetyInterval: interval))
        }
    }
}
