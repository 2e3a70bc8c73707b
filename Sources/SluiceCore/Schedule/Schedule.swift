import DequeModule
import HeapModule

/// The schedules of all triggers of a shard: which trigger may poll now, when to look again, and whose turn it is.
///
/// A signal costs one update of its topic, however many triggers listen: only those with nothing to cover yet are woken.
/// Triggers that are due wait in the queue of their connection; connections take turns, and each has a bound on cycles
/// at once and may be blocked for a time by its provider (P12). There are three lanes with bounds and turns of their own, so
/// that none takes the place of another: polls, cycles that read the inbox (which no provider blocks), and held requests.
public struct Schedule: Sendable {
    /// A poll to start.
    public struct Start: Sendable {
        public var trigger: TriggerID
        public var connection: ConnectionID
        public var cause: PollCause
        public var isContinuation: Bool
        public var cycle: OpenCycle
        public var lane: Lane
        /// When it was due.
        public var dueAt: Timestamp
    }

    /// Why a trigger that has something to do does not do it now.
    public enum Waiting: Sendable, Equatable {
        case running
        /// A held request is under way at the provider.
        case holding
        case due(TriggerSchedule.Due)
        /// It is due, and its connection has as many cycles at once as it may have.
        case connectionBusy
        /// The provider asked to wait, or refuses the credentials.
        case connectionBlocked(until: Timestamp)
        case resting
    }

    struct Topic: Sendable {
        var log = SignalLog()
        /// Listeners that have nothing to cover under this topic: the ones to wake. An entry whose slot no longer waits
        /// for this topic is void.
        var clean: [Listener] = []
    }

    /// A trigger's slot, and which of its topics is meant.
    struct Listener: Sendable {
        var slot: Int32
        var place: UInt8
    }

    /// An entry of the heap of due times; void once the slot's version has moved on.
    struct DueEntry: Sendable, Comparable {
        var at: Timestamp
        var slot: Int32
        var version: Int32
        static func < (left: DueEntry, right: DueEntry) -> Bool { left.at < right.at }
        static func == (left: DueEntry, right: DueEntry) -> Bool { left.at == right.at }
    }

    /// What a cycle draws on.
    public enum Lane: Int, Sendable, CaseIterable { case polls, inbox, held }

    struct Slot: Sendable {
        var id: TriggerID
        var connection: Int32
        /// Where it is queued, or runs.
        var lane = Lane.polls
        var topics: [Int32]
        /// Bit n: it waits to be woken by its topic n.
        var waitsFor: UInt8 = 0
        var schedule: TriggerSchedule
        /// Grows with every change of the due time: older entries of the heap are void.
        var version: Int32 = 0
        var isQueued = false
        var isFree = false
    }

    struct Connection: Sendable {
        /// A connection's share of a lane.
        struct Share: Sendable {
            var running = 0
            var runningMax: Int
            var ready: Deque<Int32> = []
            var isInTurn = false
        }
        var id: ConnectionID
        var polls = Share(runningMax: 4)
        var inbox = Share(runningMax: Schedule.inboxCyclesPerConnectionMax)
        var held = Share(runningMax: Schedule.heldPerConnectionMax)
        var blockedUntil: Timestamp?
        /// The provider refuses the credentials: one cycle at a time, as a probe, after `blockedUntil`.
        var isRefused = false
        var triggers = 0

        subscript(lane: Lane) -> Share {
            get {
                switch lane {
                case .polls: polls
                case .inbox: inbox
                case .held: held
                }
            }
            _modify {
                switch lane {
                case .polls: yield &polls
                case .inbox: yield &inbox
                case .held: yield &held
                }
            }
        }
        var running: Int { polls.running + inbox.running + held.running }
    }

    /// Cycles at once that read the inbox for one connection's triggers.
    public static let inboxCyclesPerConnectionMax = 8
    /// Held requests of a connection unless it says otherwise. Where triggers are more, they take turns.
    public static let heldPerConnectionMax = 10_000

    private var slots: [Slot] = []
    private var freeSlots: [Int32] = []
    private var slotOf: [TriggerID: Int32] = [:]
    private var topics: [Topic] = []
    private var topicOf: [TopicID: Int32] = [:]
    private var connections: [Connection] = []
    private var connectionOf: [ConnectionID: Int32] = [:]
    private var heap = Heap<DueEntry>()
    /// Connections with something ready, in the order of their turns, lane by lane.
    private var turns: [Deque<Int32>] = Lane.allCases.map { _ in [] }

    public init() {}

    public var triggerCount: Int { slotOf.count }
    public func triggerCount(of connection: ConnectionID) -> Int { connectionOf[connection].map { connections[Int($0)].triggers } ?? 0 }
    public var runningCount: Int { connections.reduce(0) { $0 + $1.running } }

    // MARK: Definitions

    /// Sets how many cycles of a connection may run at once, and how many requests it may hold.
    public mutating func setConnection(_ id: ConnectionID, runningMax: Int, heldMax: Int = Schedule.heldPerConnectionMax) {
        let index = Int(connectionIndex(id))
        connections[index].polls.runningMax = max(1, runningMax)
        connections[index].held.runningMax = max(1, heldMax)
    }

    /// What is known of a topic from before.
    public mutating func restoreTopic(_ id: TopicID, sequence: InboxSequence, at time: Timestamp) {
        guard sequence > .zero else { return }
        let index = Int(topicIndex(id))
        if sequence > topics[index].log.last { topics[index].log.restore(sequence, at: time) }
    }

    public func contains(_ id: TriggerID) -> Bool { slotOf[id] != nil }

    /// Adds a trigger, or takes over its changed definition, state or progress.
    public mutating func put(
        _ id: TriggerID, connection: ConnectionID, topics topicIDs: [TopicID], stored: TriggerSchedule.Stored,
        mode: TriggerSchedule.Mode, timing: TriggerSchedule.Timing, at now: Timestamp
    ) {
        let connectionIndex = connectionIndex(connection)
        let topicIndices = topicIDs.map { topicIndex($0) }
        if let index = slotOf[id] {
            leaveQueue(index)
            // Entered anew with each change, the listeners of a topic that nobody signals would only ever grow.
            if slots[Int(index)].topics != topicIndices { slots[Int(index)].waitsFor = 0 }
            if slots[Int(index)].connection != connectionIndex, slots[Int(index)].schedule.isRunning {
                let lane = slots[Int(index)].lane
                connections[Int(slots[Int(index)].connection)][lane].running -= 1
                connections[Int(connectionIndex)][lane].running += 1
            }
            connections[Int(slots[Int(index)].connection)].triggers -= 1
            connections[Int(connectionIndex)].triggers += 1
            slots[Int(index)].connection = connectionIndex
            slots[Int(index)].topics = topicIndices
            slots[Int(index)].schedule.change(mode: mode, timing: timing, stored: stored, at: now)
            listenWhereClean(index)
            refresh(index, at: now)
            return
        }
        let schedule = TriggerSchedule(stored: stored, mode: mode, timing: timing, at: now)
        let slot = Slot(id: id, connection: connectionIndex, topics: topicIndices, schedule: schedule)
        let index: Int32
        if let free = freeSlots.popLast() {
            let version = slots[Int(free)].version
            slots[Int(free)] = slot
            slots[Int(free)].version = version + 1
            index = free
        } else {
            index = Int32(slots.count)
            slots.append(slot)
        }
        slotOf[id] = index
        connections[Int(connectionIndex)].triggers += 1
        listenWhereClean(index)
        refresh(index, at: now)
    }

    /// Forgets a trigger. A cycle that runs is not reported back, or its report is ignored.
    public mutating func remove(_ id: TriggerID) {
        guard let index = slotOf.removeValue(forKey: id) else { return }
        leaveQueue(index)
        connections[Int(slots[Int(index)].connection)].triggers -= 1
        if slots[Int(index)].schedule.isRunning { connections[Int(slots[Int(index)].connection)][slots[Int(index)].lane].running -= 1 }
        slots[Int(index)].isFree = true
        slots[Int(index)].version += 1
        freeSlots.append(index)
    }

    // MARK: Events

    /// Webhooks were accepted under a topic. Returns whether any trigger was woken by it: if not, those that listen have
    /// something to cover already, and nothing is due earlier than before.
    @discardableResult
    public mutating func signal(_ topic: TopicID, sequence: InboxSequence, receivedAt: Timestamp, at now: Timestamp) -> Bool {
        let index = topicIndex(topic)
        topics[Int(index)].log.append(sequence, at: receivedAt)
        let woken = topics[Int(index)].clean
        if woken.isEmpty { return false }
        topics[Int(index)].clean.removeAll(keepingCapacity: true)
        for listener in woken {
            let slot = slots[Int(listener.slot)]
            guard !slot.isFree, slot.waitsFor & (1 << listener.place) != 0, slot.topics[Int(listener.place)] == index else { continue }
            slots[Int(listener.slot)].waitsFor &= ~(1 << listener.place)
            refresh(listener.slot, at: now)
        }
        return true
    }

    /// Poll at once. False if the trigger is unknown.
    @discardableResult
    public mutating func pollNow(_ id: TriggerID, cause: PollCause, at now: Timestamp) -> Bool {
        guard let index = slotOf[id] else { return false }
        slots[Int(index)].schedule.pollNow(cause)
        refresh(index, at: now)
        return true
    }

    /// Webhooks may have been missed until `time`: by one connection's triggers, or by all. Each polls once, spread over
    /// the window; `phase` gives each its place in it, in 0..<1. Of another number only the fraction counts, so that nobody's
    /// turn can lie beyond the window.
    public mutating func missedWebhooks(
        connection: ConnectionID?, until time: Timestamp, window: Span, at now: Timestamp, phase: (TriggerID) -> Double
    ) {
        let only = connection.map { connectionIndex($0) }
        for index in slots.indices where !slots[index].isFree && (only == nil || slots[index].connection == only) {
            guard !slots[index].topics.isEmpty else { continue }
            let phase = phase(slots[index].id)
            let offset = Span(milliseconds: Int64(Double(window.milliseconds) * (phase - phase.rounded(.down))))
            slots[index].schedule.missedWebhooks(until: time, dueAt: now + offset)
            refresh(Int32(index), at: now)
        }
    }

    /// One trigger may have missed webhooks until `time`: it polls once, now.
    public mutating func missedWebhooks(trigger: TriggerID, until time: Timestamp, at now: Timestamp) {
        guard let index = slotOf[trigger] else { return }
        slots[Int(index)].schedule.missedWebhooks(until: time, dueAt: now)
        refresh(index, at: now)
    }

    /// One that has failed is tried at `time`, if it would be later.
    public mutating func probe(_ trigger: TriggerID, at time: Timestamp) {
        guard let index = slotOf[trigger] else { return }
        slots[Int(index)].schedule.probe(at: time)
        refresh(index, at: time)
    }

    /// The provider asked this connection to wait (429, Retry-After, rate headers).
    public mutating func block(_ connection: ConnectionID, until time: Timestamp) {
        let index = Int(connectionIndex(connection))
        connections[index].blockedUntil = max(connections[index].blockedUntil ?? time, time)
    }

    /// The provider refuses the connection's credentials: nothing is polled but one probe at `probeAt`. `nil`: it takes
    /// them again, and everyone who waited goes on.
    public mutating func setRefused(_ connection: ConnectionID, probeAt: Timestamp?) {
        let index = Int(connectionIndex(connection))
        connections[index].isRefused = probeAt != nil
        connections[index].blockedUntil = probeAt
    }

    /// Cycles of a connection that poll, or could at once if there were a place for them; held requests are not counted.
    public func pollsInHand(of connection: ConnectionID) -> Int {
        connectionOf[connection].map { connections[Int($0)].polls.running + connections[Int($0)].polls.ready.count } ?? 0
    }

    public func isRefused(_ connection: ConnectionID) -> Bool {
        connectionOf[connection].map { connections[Int($0)].isRefused } ?? false
    }

    /// A cycle that `takeReady` started, or a slice of it, ended.
    public mutating func finish(_ id: TriggerID, _ outcome: TriggerSchedule.Outcome, at now: Timestamp) {
        guard let index = slotOf[id], slots[Int(index)].schedule.isRunning else { return }
        connections[Int(slots[Int(index)].connection)][slots[Int(index)].lane].running -= 1
        slots[Int(index)].schedule.finish(outcome, at: now)
        listenWhereClean(index)
        refresh(index, at: now)
    }

    // MARK: Decisions

    /// Starts what is due, at most `limit` cycles, connections in turn. Beyond the limit, up to `firsts` more, but only for
    /// connections of which nothing runs: others that hang cannot take every place (P12). Cycles that read the inbox and held
    /// requests have limits of their own.
    public mutating func takeReady(limit: Int, firsts: Int = 0, inbox: Int = .max, held: Int = .max, at now: Timestamp) -> [Start] {
        while let due = heap.min, due.at <= now {
            heap.removeMin()
            if isCurrent(due), !slots[Int(due.slot)].isQueued { enqueue(due.slot, at: now) }
        }
        var starts = take(.inbox, limit: inbox, firsts: 0, at: now)
        starts += take(.polls, limit: limit, firsts: firsts, at: now)
        starts += take(.held, limit: held, firsts: 0, at: now)
        return starts
    }

    private mutating func take(_ lane: Lane, limit: Int, firsts: Int, at now: Timestamp) -> [Start] {
        var starts: [Start] = []
        var passedOver = 0
        while starts.count - firsts < limit, passedOver < turns[lane.rawValue].count, let index = turns[lane.rawValue].popFirst() {
            let hasPlace = starts.count < limit || connections[Int(index)][lane].running == 0
            guard hasPlace, mayStart(connections[Int(index)], lane, at: now) else {
                passedOver += 1
                turns[lane.rawValue].append(index)
                continue
            }
            passedOver = 0
            if let slot = dequeue(index, lane), let start = begin(slot, at: now) { starts.append(start) }
            if connections[Int(index)][lane].ready.isEmpty {
                connections[Int(index)][lane].isInTurn = false
            } else {
                turns[lane.rawValue].append(index)
            }
        }
        return starts
    }

    /// When `takeReady` can next return something that it does not return now, unless an event comes before.
    public func nextWake(at now: Timestamp) -> Timestamp? {
        var wake = heap.min?.at
        for lane in [Lane.polls, .held] {
            for index in turns[lane.rawValue] {
                let connection = connections[Int(index)]
                guard let until = connection.blockedUntil, until > now, connection[lane].running < connection[lane].runningMax else {
                    continue
                }
                wake = min(wake ?? until, until)
            }
        }
        return wake
    }

    public func schedule(of id: TriggerID) -> TriggerSchedule? { slotOf[id].map { slots[Int($0)].schedule } }

    /// What a trigger waits for, for people.
    public func waiting(_ id: TriggerID, at now: Timestamp) -> Waiting? {
        guard let index = slotOf[id] else { return nil }
        let slot = slots[Int(index)]
        if slot.schedule.isRunning { return slot.lane == .held ? .holding : .running }
        guard let due = slot.schedule.nextDue(signals: source(slot), at: now) else { return .resting }
        let connection = connections[Int(slot.connection)]
        let lane = lane(of: due, slot)
        if lane != .inbox, let until = connection.blockedUntil, until > now { return .connectionBlocked(until: until) }
        if due.at <= now, !mayStart(connection, lane, at: now) { return .connectionBusy }
        return .due(due)
    }

    /// The last signal on the trigger's topics.
    public func lastSignal(_ id: TriggerID) -> InboxSequence {
        guard let index = slotOf[id] else { return .zero }
        return slots[Int(index)].topics.map { topics[Int($0)].log.last }.max() ?? .zero
    }

    // MARK: Inside

    private struct Source: SignalSource {
        let logs: [SignalLog]
        func firstArrival(after covered: InboxSequence) -> Timestamp? { logs.compactMap { $0.firstArrival(after: covered) }.min() }
        func highest(arrivedBy time: Timestamp) -> InboxSequence {
            // The sequence runs over all topics, so a signal counts as arrived only if everything before it that this
            // trigger listens to has: the lower of the topics that still hold back something.
            let highest = logs.map { $0.highest(arrivedBy: time) }.max() ?? .zero
            let heldBack = logs.compactMap { $0.firstSequence(arrivedAfter: time) }.min()
            guard let heldBack else { return highest }
            return min(highest, InboxSequence(heldBack.rawValue - 1))
        }
    }

    private func source(_ slot: Slot) -> Source { Source(logs: slot.topics.map { topics[Int($0)].log }) }

    private mutating func begin(_ index: Int32, at now: Timestamp) -> Start? {
        let slot = slots[Int(index)]
        let due = slot.schedule.nextDue(signals: source(slot), at: now)
        // What is due may have become another thing while it waited, and then it waits in another lane.
        guard let due, due.at <= now, lane(of: due, slot) == slot.lane else {
            refresh(index, at: now)
            return nil
        }
        let refused = connections[Int(slot.connection)].isRefused && slot.lane != .inbox
        let cause: PollCause = refused ? .probe : due.cause
        let cycle = slots[Int(index)].schedule.begin(cause: cause, signals: source(slot), at: now)
        slots[Int(index)].version += 1
        connections[Int(slot.connection)][slot.lane].running += 1
        return Start(
            trigger: slot.id, connection: connections[Int(slot.connection)].id, cause: cause, isContinuation: due.isContinuation,
            cycle: cycle, lane: slot.lane, dueAt: due.at)
    }

    private func lane(of due: TriggerSchedule.Due, _ slot: Slot) -> Lane {
        if slot.schedule.timing.upstream == .inbox { return .inbox }
        let cause = due.isContinuation ? slot.schedule.openCycle?.cause ?? due.cause : due.cause
        return cause == .hold ? .held : .polls
    }

    private func mayStart(_ connection: Connection, _ lane: Lane, at now: Timestamp) -> Bool {
        let share = connection[lane]
        if lane == .inbox { return share.running < share.runningMax }
        if let until = connection.blockedUntil, until > now { return false }
        return connection.isRefused ? connection.polls.running + connection.held.running < 1 : share.running < share.runningMax
    }

    private func isCurrent(_ due: DueEntry) -> Bool {
        let slot = slots[Int(due.slot)]
        return !slot.isFree && slot.version == due.version
    }

    /// Computes the due time anew and enters it into the heap.
    private mutating func refresh(_ index: Int32, at now: Timestamp) {
        let slot = slots[Int(index)]
        guard !slot.isQueued, let due = slot.schedule.nextDue(signals: source(slot), at: now) else { return }
        slots[Int(index)].version += 1
        heap.insert(DueEntry(at: due.at, slot: index, version: slots[Int(index)].version))
        // Void entries never make up more than three quarters of the heap.
        if heap.count > 4 * slots.count + 1024 { heap = Heap(heap.unordered.filter { isCurrent($0) }) }
    }

    private mutating func enqueue(_ index: Int32, at now: Timestamp) {
        guard let due = slots[Int(index)].schedule.nextDue(signals: source(slots[Int(index)]), at: now) else { return }
        let lane = lane(of: due, slots[Int(index)])
        let connection = slots[Int(index)].connection
        slots[Int(index)].isQueued = true
        slots[Int(index)].lane = lane
        connections[Int(connection)][lane].ready.append(index)
        if !connections[Int(connection)][lane].isInTurn {
            connections[Int(connection)][lane].isInTurn = true
            turns[lane.rawValue].append(connection)
        }
    }

    /// The next of a connection's queue.
    private mutating func dequeue(_ connection: Int32, _ lane: Lane) -> Int32? {
        guard let slot = connections[Int(connection)][lane].ready.popFirst() else { return nil }
        slots[Int(slot)].isQueued = false
        return slot
    }

    private mutating func leaveQueue(_ index: Int32) {
        guard slots[Int(index)].isQueued else { return }
        slots[Int(index)].isQueued = false
        connections[Int(slots[Int(index)].connection)][slots[Int(index)].lane].ready.removeAll { $0 == index }
    }

    /// Asks to be woken by the topics that hold nothing for this trigger to cover.
    private mutating func listenWhereClean(_ index: Int32) {
        for (place, topic) in slots[Int(index)].topics.prefix(8).enumerated() {
            let bit = UInt8(1) << UInt8(place)
            guard slots[Int(index)].waitsFor & bit == 0, topics[Int(topic)].log.last <= slots[Int(index)].schedule.covered else { continue }
            slots[Int(index)].waitsFor |= bit
            topics[Int(topic)].clean.append(Listener(slot: index, place: UInt8(place)))
        }
    }

    private mutating func topicIndex(_ id: TopicID) -> Int32 {
        if let index = topicOf[id] { return index }
        topics.append(Topic())
        topicOf[id] = Int32(topics.count - 1)
        return Int32(topics.count - 1)
    }

    private mutating func connectionIndex(_ id: ConnectionID) -> Int32 {
        if let index = connectionOf[id] { return index }
        connections.append(Connection(id: id))
        connectionOf[id] = Int32(connections.count - 1)
        return Int32(connections.count - 1)
    }
}
