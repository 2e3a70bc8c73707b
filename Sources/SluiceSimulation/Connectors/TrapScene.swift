import SluiceConnectors
import SluiceCore

/// What became of one trap with one seed.
struct TrapOutcome: Sendable {
    var lost: [String] = []
    var doubled: [String] = []
    /// Why the reader cannot go on, or what else is wrong.
    var fault: String?
    /// Something that was seen, by the name of a lint.
    var observations: Set<String> = []

    var isGood: Bool { lost.isEmpty && doubled.isEmpty && fault == nil }
}

/// One trap as it is sprung: a run, what is expected of it, and the chance that varies it.
struct TrapScene {
    var run: TrapRun
    var random: SimulationRandom
    let subject: SimulatedTrigger
    private(set) var outcome = TrapOutcome()
    /// Versions that must have become jobs by the end, with what to call them.
    private var expected: [Int: String] = [:]
    /// Records that were there before the reader begins: it may read them or not.
    private(set) var old: Set<Int> = []
    /// What showed up from then on must be read; nil until the first cycle of a reader that says not where it begins.
    private var expectsFrom: Int64?

    init(_ subject: SimulatedTrigger, seed: UInt64) {
        self.subject = subject
        expectsFrom = subject.saysWhereItBegins ? Int64.min : nil
        random = SimulationRandom(seed: seed)
        var feed = StandInFeed(
            subject.rules, subject.places, pageCap: subject.pageCap, now: SimulatedTrigger.startMilliseconds,
            seed: seed ^ 0x5EED)
        feed.dialect = subject.dialect
        run = TrapRun(
            subject.connector, subject.type, StandIn(feed), connection: subject.connection, input: subject.input,
            recordsMax: subject.recordsMax, holds: subject.dialect != nil && subject.type.kind == .longPolling)
    }

    /// How the fault begins of a reader that cannot go on.
    static let stuckPrefix = "it is stuck: "
    /// The same of a cycle that never ended.
    static let endlessPrefix = "it reads on for ever: "
    /// The same where no record has a dedup key.
    static let setAsidePrefix = "every record is set aside: "
    /// Seen where `version_seconds` has no time to go by.
    static let undatedObservation = "record-time-unread"

    var pageSize: Int { subject.pageSize }

    @discardableResult
    func feed<Result: Sendable>(_ body: @Sendable (inout StandInFeed) -> Result) async -> Result { await run.standIn.change(body) }

    func pass(seconds: Double) async { await feed { $0.now += Int64(seconds * 1000) } }

    /// New records, so many seconds apart, the last one now.
    func add(_ count: Int, everySeconds seconds: Double = 1) async {
        for _ in 0..<count {
            await pass(seconds: seconds)
            await feed { $0.add() }
        }
    }

    /// Lets the reader begin: something old is there, and its first cycle succeeds.
    mutating func begin() async -> Bool {
        await add(1)
        await pass(seconds: 2)
        return await read()
    }

    /// Records from long before the reader begins, however far back it does.
    mutating func addOld(_ count: Int) async {
        await add(count)
        old.formUnion(await feed { $0.latest.keys })
        await pass(seconds: Double(subject.rules.defaultSinceSecondsAgo ?? 0) + subject.toleranceSeconds + 7200)
    }

    /// A cycle with nothing in its way: everything that was listed when it began must have become a job by the end. False
    /// where the reader is stuck.
    @discardableResult
    mutating func read(dying crash: TrapRun.Crash? = nil) async -> Bool {
        if let from = expectsFrom {
            let listed = await feed { feed in feed.items.filter { feed.isListed($0) && $0.fault == nil && $0.visibleAt >= from } }
                .filter { !old.contains($0.id) }
            for item in listed { expected[item.version] = "record \(item.id), version \(item.version)" }
        }
        return await follow(dying: crash)
    }

    /// A cycle while things happen: what it must find is not decided here.
    @discardableResult
    mutating func follow(dying crash: TrapRun.Crash? = nil) async -> Bool {
        switch await run.cycle(dying: crash) {
        case .done, .crashed:
            if expectsFrom == nil { expectsFrom = await feed { $0.now } }
            return true
        case .failed(let message):
            outcome.fault = outcome.fault ?? TrapScene.stuckPrefix + message
            return false
        case .repeats(let message):
            outcome.fault = outcome.fault ?? TrapScene.endlessPrefix + message
            outcome.observations.insert("paging-never-ends")
            return false
        case .endless:
            outcome.fault = outcome.fault ?? TrapScene.endlessPrefix + "\(run.pagesMax) pages in one cycle"
            outcome.observations.insert("paging-never-ends")
            return false
        }
    }

    mutating func fail(_ message: String) { outcome.fault = outcome.fault ?? message }
    mutating func observe(_ lint: String) { outcome.observations.insert(lint) }

    /// The faults end, time passes, and the list is read twice more: what is missing now is lost.
    mutating func settled() async -> TrapOutcome {
        await feed { feed in
            let before = feed.mischief
            feed.mischief = StandInFeed.Mischief()
            // How it writes times, and what it keeps, stays as it is.
            (feed.mischief.isFine, feed.mischief.isZoneless) = (before.isFine, before.isZoneless)
            (feed.mischief.zoneChangesAt, feed.mischief.validator) = (before.zoneChangesAt, before.validator)
            feed.mischief.retentionMilliseconds = before.retentionMilliseconds
        }
        await pass(seconds: subject.toleranceSeconds + 2)
        if await read() {
            await pass(seconds: 2)
            await read()
        }
        let items = await feed { $0.items }
        // Of a trigger on new records each record counts once, whatever it was like then.
        let found = Set(run.jobs.keys.compactMap { items.indices.contains($0) ? items[$0].id : nil })
        for (version, name) in expected.sorted(by: { $0.key < $1.key }) where run.jobs[version] == nil {
            if !subject.isAboutNew || !found.contains(items[version].id) { outcome.lost.append(name) }
        }
        outcome.doubled = run.jobs.filter { $0.value > 1 }.keys.sorted().map { "version \($0)" }
        if run.keyed == 0, run.quarantined > 0, let reason = run.setAsideReason {
            outcome.fault = TrapScene.setAsidePrefix + reason
            return outcome
        }
        // Times without a zone are refused with good reason.
        if run.toBeDated > 0, run.dated == 0, await !feed({ $0.mischief.isZoneless }) { observe(TrapScene.undatedObservation) }
        if run.endedEarly > 0, !outcome.lost.isEmpty { observe("paging-stops-early") }
        if run.unrecognised > 0, run.jobs.isEmpty {
            fail("its jobs cannot be recognised: keep \(StandInFeed.versionKey) in the records that you build anew")
        }
        return outcome
    }
}
