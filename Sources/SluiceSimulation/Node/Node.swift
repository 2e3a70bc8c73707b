import SluiceConnectors
import SluiceCore
import SluiceStore

/// The memory of one process: what a crash loses. It does what the polling service does, one event at a time.
final class Node {
    let number: Int
    let fence: Fence
    var schedule = Schedule()
    var budgets: [RequestBudget]
    var barrenPages: [TriggerID: Int] = [:]
    /// Cycles that run, by their number among all of the run.
    var cycles: [Int: RunningCycle] = [:]
    var runningByConnection: [Int]
    private var runningTriggers: Set<TriggerID> = []
    var isAlive = true
    /// Only the last call to wake counts.
    var wakeToken = 0
    var wakeAt: Timestamp?
    /// Until when the provider asked a connection to wait, as this process knows it.
    var blockedUntil: [Timestamp?]

    init(number: Int, fence: Fence, connections: [Scenario.Connection]) {
        self.number = number
        self.fence = fence
        budgets = connections.map { RequestBudget(perSecond: $0.requestsPerSecond) }
        runningByConnection = Array(repeating: 0, count: connections.count)
        blockedUntil = Array(repeating: nil, count: connections.count)
    }

    var runningCount: Int { runningByConnection.reduce(0, +) }
    func isRunning(_ trigger: TriggerID) -> Bool { runningTriggers.contains(trigger) }

    func began(_ trigger: TriggerID, connection: Int) {
        runningByConnection[connection] += 1
        runningTriggers.insert(trigger)
    }

    func ended(_ trigger: TriggerID, connection: Int) {
        runningByConnection[connection] -= 1
        runningTriggers.remove(trigger)
    }
}

/// A cycle, or a slice of it, between two steps.
struct RunningCycle {
    enum Phase {
        case open
        case request
        case serve
        case receive(HTTPReply?)
        case commit(chunk: Int)
        case nextPage
        case finish(TriggerSchedule.Outcome)
        case reload
    }
    var start: Schedule.Start
    var connection: Int
    var resource: Int
    var phase = Phase.open
    var generation = Generation.first
    /// As the connector was when the slice began.
    var described: DescribedPoll
    /// The descriptions by which keys were made that may come again.
    var formers: [Incremental] = []
    /// Set where it is not what the store has yet.
    var keyOrigin: KeyOrigin?
    var forgottenBelow: Int64?
    var dedupFloor: Int64?
    var cursor: [UInt8]?
    var storedMark: Int64?
    var slice: CycleSlice
    /// The page that is being asked for.
    var polling: PagePoll?
    var plan: HTTPRequestPlan?
    var page: PollPage?
    var keyed: [KeyedRecord] = []
    var changes: [Int] = []
    /// The open cycle as it was before the page in hand.
    var before: OpenCycle
    var movedCursor = false
    var jobsInPage = 0
    /// How many records of the page in hand are committed.
    var committedRecords = 0
    /// The answer to the next request, which was sent before this page was committed.
    var ahead: HTTPReply??
    var hasCursorCommitted = false
    var budgetWaits = 0

    init(
        start: Schedule.Start, connection: Int, resource: Int, described: DescribedPoll, limits: CycleSlice.Limits, at now: Timestamp
    ) {
        self.start = start
        self.described = described
        self.connection = connection
        self.resource = resource
        slice = CycleSlice(cycle: start.cycle, barrenPages: 0, limits: limits, at: now)
        before = start.cycle
    }
}
