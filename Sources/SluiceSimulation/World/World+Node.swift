import SluiceConnectors
import SluiceCore
import SluiceStore

/// What the polling service does around its schedule, step for step: load, put, wake, start.
extension World {
    /// A process starts: takes the lease and everything that is defined.
    func boot() {
        let fence = store.acquireLease()
        let node = Node(number: nodes.count, fence: fence, connections: scenario.connections)
        nodes.append(node)
        note("process \(node.number) starts with epoch \(fence.epoch)")
        for (index, connection) in scenario.connections.enumerated() {
            node.schedule.setConnection(ConnectionID(Int64(index)), runningMax: connection.runningMax)
            if store.refusedConnections.contains(index) {
                node.schedule.setRefused(ConnectionID(Int64(index)), probeAt: now)
                node.blockedUntil[index] = now
            }
        }
        for (index, topic) in store.topics.enumerated() {
            node.schedule.restoreTopic(TopicID(Int64(index)), sequence: topic.sequence, at: min(topic.signalledAt, now))
        }
        for index in store.triggers.indices {
            put(node, index, stored: stored(index))
            if store.triggers[index].state == .failed { node.schedule.probe(TriggerID(Int64(index)), at: now) }
        }
        monitor.booted(store: store, at: now)
        webhooksMissed(node)
        pump(node)
    }

    func stored(_ index: Int) -> TriggerSchedule.Stored {
        let progress = store.triggers[index].progress
        return TriggerSchedule.Stored(
            covered: progress.coveredSequence, lastStartAt: progress.lastStartAt, safetyDueAt: progress.safetyDueAt,
            failures: progress.failures, retryAt: progress.retryAt, openCycle: progress.openCycle, lastCycle: progress.lastCycle)
    }

    func put(_ node: Node, _ index: Int, stored: TriggerSchedule.Stored) {
        let trigger = store.triggers[index]
        let mode: TriggerSchedule.Mode = trigger.state.polls ? .polls : trigger.state == .failed ? .probes : .rests
        node.schedule.put(
            TriggerID(Int64(index)), connection: ConnectionID(Int64(trigger.connection)), topics: trigger.topics, stored: stored,
            mode: mode,
            timing: timing(index), at: now)
    }

    func timing(_ index: Int) -> TriggerSchedule.Timing {
        let plan = scenario.triggers[index]
        return TriggerSchedule.Timing(
            visibilityLag: described[plan.resource].rules.visibilityLag, safetyInterval: plan.safetyInterval,
            intervalCause: plan.listens ? .safety : .interval)
    }

    /// A trigger was made or changed; with `cause` it polls at once.
    func triggerChanged(_ index: Int, poll cause: PollCause?) {
        guard let node = holder else { return }
        put(node, index, stored: stored(index))
        monitor.reloaded(index, isRunning: node.isRunning(TriggerID(Int64(index))), store: store)
        if let cause { node.schedule.pollNow(TriggerID(Int64(index)), cause: cause, at: now) }
        pump(node)
    }

    /// Webhooks may not have been accepted until now.
    func webhooksMissed(_ node: Node) {
        let spread = scenario.catchUpSpanPerTrigger * Int64(node.schedule.triggerCount)
        let window = min(spread, scenario.catchUpWindowMax)
        node.schedule.missedWebhooks(connection: nil, until: now, window: window, at: now) { id in
            Double(UInt64(bitPattern: id.rawValue) &* 0x9E37_79B9_7F4A_7C15 >> 11) / Double(1 << 53)
        }
        monitor.missedWebhooks(until: now, window: window, store: store)
    }

    /// Starts what may start, and sleeps until the schedule says.
    func pump(_ node: Node) {
        guard node.isAlive else { return }
        let room = scenario.cyclesAtOnceMax - node.runningCount
        let starts = room > 0 ? node.schedule.takeReady(limit: room, at: now) : []
        for start in starts { begin(start, on: node) }
        let wake = node.runningCount < scenario.cyclesAtOnceMax ? node.schedule.nextWake(at: now) : nil
        guard let wake else { return }
        let at = max(wake, now)
        if let known = node.wakeAt, known <= at { return }
        node.wakeToken += 1
        node.wakeAt = at
        queue.schedule(.wake(node: node.number, token: node.wakeToken), at: at)
    }

    private func begin(_ start: Schedule.Start, on node: Node) {
        var start = start
        let index = Int(start.trigger.rawValue)
        if mutant == .noteAnewOnResume, start.isContinuation {
            start.cycle.notedSequence = max(start.cycle.notedSequence, node.schedule.lastSignal(start.trigger))
        }
        let connection = Int(start.connection.rawValue)
        let cycle = RunningCycle(
            start: start, connection: connection, resource: store.triggers[index].resource,
            described: described[store.triggers[index].resource], limits: scenario.slice, at: now)
        if node === holder {
            note(
                "trigger \(index) \(start.isContinuation ? "goes on with" : "starts") cycle \(start.cycle.number), cause \(start.cause.rawValue), noted \(start.cycle.notedSequence), due \(start.dueAt)"
            )
            monitor.started(start, on: node, connectionMax: scenario.connections[connection].runningMax, store: store, at: now)
        }
        node.began(start.trigger, connection: connection)
        nextCycle += 1
        node.cycles[nextCycle] = cycle
        queue.schedule(.cycle(node: node.number, cycle: nextCycle), at: now)
    }
}

extension World {
    /// What the next poll from a trigger's committed cursor asks for, in the provider's milliseconds; nil for everything. `partition`: nil
    /// where all are read as one.
    func lowerBound(_ index: Int, _ partition: Int?) -> Int64? {
        let trigger = store.triggers[index]
        var request = PollRequest(
            triggerType: "list", connection: connectionFields, input: input, cursor: trigger.progress.cursor,
            pageState: partition.map { Array("{\"count\":1,\"done\":0,\"queue\":[{\"id\":\"p\($0)\"}]}".utf8) }, readBound: now)
        (request.forgottenBelow, request.dedupFloor) = (trigger.progress.forgottenBelow, trigger.progress.dedupFloor)
        let feed = scenario.feeds[trigger.resource].feed
        guard var poll = try? PagePoll(described[trigger.resource].rules, request), let url = try? poll.nextRequest()?.url else {
            return nil
        }
        return ProviderModel.query(url)[feed.kind.isExclusive ? "after" : "from"].flatMap { feed.bound($0) }
    }

    /// What it asks for of each partition that it reads, or of all as one. What rests begins elsewhere once it is listed again.
    func lowerBounds(_ index: Int) -> [Int: Int64] {
        let trigger = store.triggers[index]
        guard described[trigger.resource].description.isPartitioned else { return lowerBound(index, nil).map { [Watch.all: $0] } ?? [:] }
        let resting = storedCursor(index)?["resting"]?.members?.map(\.0) ?? []
        var bounds: [Int: Int64] = [:]
        for (number, partition) in provider.resources[trigger.resource].partitions.enumerated() {
            guard partition.listedSince != nil, !resting.contains("p\(number)") else { continue }
            bounds[number] = lowerBound(index, number)
        }
        return bounds
    }

    private func storedCursor(_ index: Int) -> JSONView? { store.triggers[index].progress.cursor.flatMap { try? JSONDocument($0).root } }

    /// Whether the committed cursor says how far a partition was read.
    func hasPosition(_ index: Int, _ partition: Int) -> Bool { storedCursor(index)?["partitions"]?["p\(partition)"]?["mark"] != nil }

    /// How far those partitions were read whose keys are let go of, in the provider's milliseconds; of all as one, under `Watch.all`.
    func restingMarks(_ index: Int) -> [Int: Int64] {
        guard let cursor = storedCursor(index) else { return [:] }
        let unit: Int64 = [.fineOffsets, .textTimes].contains(scenario.feeds[store.triggers[index].resource].feed.kind) ? 1 : 1000
        var marks: [Int: Int64] = [:]
        for (name, position) in cursor["resting"]?.members ?? [] {
            if let number = Int(name.dropFirst()), let mark = position["mark"]?.int64 { marks[number] = mark * unit }
        }
        if cursor["split"] != nil, let mark = cursor["origin"]?["mark"]?.int64 { marks[Watch.all] = mark * unit }
        return marks
    }
}
