import SluiceCore
import SluiceStore

/// What people, machines and bad luck do to Sluice.
extension World {
    func mischief(_ kind: Scenario.Mischief) {
        switch kind {
        case .crash: crash(.crash, downFor: random.milliseconds(200...20_000))
        case .downtime: crash(.crash, downFor: random.milliseconds(30_000...600_000))
        case .crashBeforeSignal, .crashBeforeCommit, .crashBetweenChunks, .crashBeforeFinish: crashPoint = kind
        case .pauseInCycle, .failStoreBetweenChunks: commitPoint = kind
        case .leaseLost: loseLease()
        case .pause: interrupt(random.int(0...store.triggers.count - 1), .pause, then: .resume, after: random.milliseconds(1000...600_000))
        case .stop: interrupt(random.int(0...store.triggers.count - 1), .stop, then: .start, after: random.milliseconds(3000...300_000))
        case .changeDefinition: changeDefinition(random.int(0...store.triggers.count - 1))
        case .pollByHand: command(random.int(0...store.triggers.count - 1), .poll)
        case .prune:
            let count = store.prune()
            note("pruned \(count) dedup keys")
            if count > 0 { monitor.occurred(.keysPruned) }
        case .refuseCredentials: refuseCredentials()
        case .breakFeed:
            let resource = random.int(0...scenario.feeds.count - 1)
            guard brokenFeeds.insert(resource).inserted else { return }
            note("feed \(resource) answers nonsense")
            queue.schedule(.mendFeed(resource: resource), at: now + .milliseconds(random.milliseconds(5000...120_000)))
        case .refuseWebhooks:
            guard !refusesWebhooks else { return }
            refusesWebhooks = true
            note("webhooks are refused")
            queue.schedule(.takeWebhooks, at: now + .milliseconds(random.milliseconds(1000...60_000)))
        case .failStore: failStore()
        case .repeatCommit: repeatsNextCommit = true
        case .changeLookback: changeLookback(random.int(0...scenario.feeds.count - 1))
        case .addPartition, .unlistPartition, .refusePartition, .failPartition:
            let resources = provider.resources.indices.filter { !provider.resources[$0].partitions.isEmpty }
            if !resources.isEmpty { troublePartition(random.pick(resources), kind) }
        case .splitFeed: splitFeed(random.int(0...scenario.feeds.count - 1))
        case .changeDedup:
            let resource = random.int(0...scenario.feeds.count - 1)
            let others = Description.Dedup.allCases.filter { $0 != described[resource].description.dedup }
            changeDedup(resource, random.pick(others))
        }
    }

    /// Whether an armed crash happens here.
    func reaches(_ point: Scenario.Mischief, _ fault: Fault) -> Bool {
        guard crashPoint == point, holder != nil else { return false }
        crashPoint = nil
        crash(fault, downFor: random.milliseconds(200...20_000))
        return true
    }

    func crash(_ fault: Fault, downFor milliseconds: Int64) {
        guard let node = holder else { return }
        note("process \(node.number) crashes (\(fault.rawValue)) with \(node.cycles.count) cycles running")
        monitor.occurred(.crash)
        monitor.occurred(fault)
        for other in nodes { other.isAlive = false }
        monitor.crashed(at: now)
        queue.schedule(.restart, at: now + .milliseconds(milliseconds))
    }

    private func loseLease() {
        guard let old = holder else { return }
        monitor.occurred(.leaseLost)
        for zombie in nodes where zombie !== old { zombie.isAlive = false }
        queue.schedule(.endZombie(node: old.number), at: now + .milliseconds(random.milliseconds(1000...40_000)))
        note("another process takes the lease")
        boot()
    }

    private func failStore() {
        guard !isStoreFailing else { return }
        isStoreFailing = true
        isStoreReadable = random.chance(0.5)
        note("the store takes nothing\(isStoreReadable ? ", but can be read" : "")")
        queue.schedule(.mendStore, at: now + .milliseconds(random.milliseconds(100...20_000)))
    }

    /// What was armed for the moment before a commit.
    func reachesCommit(_ chunk: Int, _ trigger: TriggerID) {
        switch commitPoint {
        case .pauseInCycle:
            commitPoint = nil
            monitor.occurred(.pausedInCycle)
            interrupt(Int(trigger.rawValue), .pause, then: .resume, after: random.milliseconds(1000...600_000))
        case .failStoreBetweenChunks where chunk > 0:
            commitPoint = nil
            failStore()
        default: break
        }
    }

    private func interrupt(_ trigger: Int, _ command: TriggerCommand, then next: TriggerCommand, after milliseconds: Int64) {
        guard store.triggers[trigger].state.polls || store.triggers[trigger].state == .failed else { return }
        monitor.occurred(command == .pause ? .paused : .stopped)
        self.command(trigger, command)
        queue.schedule(.command(trigger: trigger, next), at: now + .milliseconds(milliseconds))
    }

    /// A command of the API, which only a running process takes.
    func command(_ trigger: Int, _ command: TriggerCommand) {
        guard let node = holder else {
            if command == .start || command == .resume { queue.schedule(.command(trigger: trigger, command), at: now + .seconds(1)) }
            return
        }
        do throws(SluiceError) {
            let (state, effects) = try store.triggers[trigger].state.after(command)
            note("\(command.rawValue) trigger \(trigger): \(store.triggers[trigger].state.rawValue) becomes \(state.rawValue)")
            if state != store.triggers[trigger].state { store.setState(trigger, state) }
            var cause: PollCause?
            for effect in effects {
                switch effect {
                case .poll(let asked): cause = asked
                case .subscribe:
                    queue.schedule(.report(trigger: trigger, .subscribed), at: now + .milliseconds(random.milliseconds(0...1500)))
                case .unsubscribe:
                    queue.schedule(.report(trigger: trigger, .unsubscribed), at: now + .milliseconds(random.milliseconds(0...2000)))
                }
            }
            if cause == .manual { monitor.occurred(.polledByHand) }
            monitor.commanded(trigger, state: state, poll: cause, store: store, at: now)
            let connection = store.triggers[trigger].connection
            if cause == .manual, node.schedule.isRefused(ConnectionID(Int64(connection))) {
                node.schedule.setRefused(ConnectionID(Int64(connection)), probeAt: now)
                node.blockedUntil[connection] = now
            }
            triggerChanged(trigger, poll: cause)
        } catch {
            note("\(command.rawValue) trigger \(trigger) is refused: \(error.message)")
            // Stopping takes a moment; who wants to start asks again.
            if command == .start { queue.schedule(.command(trigger: trigger, command), at: now + .seconds(1)) }
        }
    }

    /// What the server finds out about a trigger.
    func report(_ trigger: Int, _ event: TriggerEvent) {
        guard holder != nil else {
            queue.schedule(.report(trigger: trigger, event), at: now + .seconds(1))
            return
        }
        let state = store.triggers[trigger].state.after(event)
        guard state != store.triggers[trigger].state else { return }
        note("trigger \(trigger): \(store.triggers[trigger].state.rawValue) becomes \(state.rawValue)")
        store.setState(trigger, state)
        triggerChanged(trigger, poll: nil)
    }

    private func changeDefinition(_ trigger: Int) {
        guard holder != nil else { return }
        monitor.occurred(.definitionChanged)
        note("the definition of trigger \(trigger) changes")
        store.setState(trigger, store.triggers[trigger].state)
        triggerChanged(trigger, poll: nil)
    }

    /// Where the provider lags as long as the lookback says, it is not for the connector to say something else.
    private func changeLookback(_ resource: Int) {
        let feed = scenario.feeds[resource].feed
        guard feed.kind.hasCursor, feed.isLagDeclared else { return }
        var description = described[resource].description
        description.lookbackSeconds = random.pick([0, 5, 60, 600].filter { $0 != description.lookbackSeconds })
        monitor.occurred(.lookbackChanged)
        describe(resource, as: description)
    }

    private func changeDedup(_ resource: Int, _ dedup: Description.Dedup) {
        var description = described[resource].description
        description.dedup = dedup
        monitor.occurred(.dedupChanged)
        describe(resource, as: description)
        monitor.described(resource, ignoresChanges: dedup.ignoresChanges, provider: provider)
    }

    // MARK: Partitions

    private func troublePartition(_ resource: Int, _ kind: Scenario.Mischief) {
        switch kind {
        case .addPartition: addPartition(resource)
        case .unlistPartition: unlistPartition(resource)
        default: troublePartition(resource, isRefused: kind == .refusePartition)
        }
    }

    /// A channel is made; that it is there shows a while later.
    private func addPartition(_ resource: Int) {
        guard let number = provider.addPartition(resource) else { return }
        note("resource \(resource) has a partition p\(number)")
        monitor.occurred(.partitionFound)
        queue.schedule(.listPartition(resource: resource, partition: number), at: now + .milliseconds(random.milliseconds(0...120_000)))
    }

    func listPartition(_ resource: Int, _ number: Int) {
        guard provider.resources[resource].partitions[number].listedSince == nil else { return }
        note("partition p\(number) of resource \(resource) is listed")
        let since = now
        provider.changePartition(resource, number) { $0.listedSince = since }
    }

    /// It is archived for a while.
    private func unlistPartition(_ resource: Int) {
        guard let number = listedPartition(resource) else { return }
        note("partition p\(number) of resource \(resource) is no longer listed")
        monitor.occurred(.partitionGone)
        monitor.unlisted(resource, number, provider: provider)
        provider.changePartition(resource, number) { $0.listedSince = nil }
        let keep = Int(ProviderModel.keepRemoved.milliseconds)
        let isWatched = random.chance(0.6)
        let gone = random.milliseconds(isWatched ? keep + 2500...keep * 5 : 2000...keep * 60)
        queue.schedule(.listPartition(resource: resource, partition: number), at: now + .milliseconds(gone))
        // Somebody looks while it is gone, and after that.
        guard isWatched else { return }
        for index in store.triggers.indices where store.triggers[index].resource == resource {
            for delay in [1000, gone - 1000, gone + 1000] {
                queue.schedule(.command(trigger: index, .poll), at: now + .milliseconds(delay))
            }
        }
    }

    private func troublePartition(_ resource: Int, isRefused: Bool) {
        guard let number = listedPartition(resource) else { return }
        let until = now + .milliseconds(random.milliseconds(20_000...240_000))
        note("the provider \(isRefused ? "refuses" : "fails to show") partition p\(number) of resource \(resource) until \(until)")
        provider.changePartition(resource, number) { partition in
            if isRefused { partition.refusedUntil = until } else { partition.failingUntil = until }
        }
    }

    private func listedPartition(_ resource: Int) -> Int? {
        let listed = provider.resources[resource].partitions.indices.filter {
            provider.resources[resource].partitions[$0].listedSince != nil
        }
        return listed.isEmpty ? nil : random.pick(listed)
    }

    /// The connector reads by partitions from now on.
    private func splitFeed(_ resource: Int) {
        var description = described[resource].description
        guard scenario.feeds[resource].feed.partitioning == .later, !description.isPartitioned else { return }
        description.isPartitioned = true
        monitor.occurred(.feedSplit)
        describe(resource, as: description)
    }

    /// Another file of the connector: slices that run go on with the former one.
    private func describe(_ resource: Int, as description: Description) {
        note(
            "the connector of resource \(resource) becomes: dedup by \(description.dedup.rawValue), lookback \(description.lookbackSeconds) s\(description.isPartitioned ? ", by partitions" : "")"
        )
        let made = World.describe(description, of: scenario.feeds[resource].feed, mutant)
        described[resource] = made
        descriptions[resource][description.hash] = made
        for index in store.triggers.indices where store.triggers[index].resource == resource { triggerChanged(index, poll: nil) }
    }

    private func refuseCredentials() {
        let connection = random.int(0...scenario.connections.count - 1)
        guard refusedCredentials.insert(connection).inserted else { return }
        note("the provider refuses the credentials of connection \(connection)")
        let at = now + .milliseconds(random.milliseconds(5000...300_000))
        queue.schedule(.mendCredentials(connection: connection, tellsSluice: random.chance(0.5)), at: at)
    }

    func mendCredentials(_ connection: Int, tellsSluice: Bool) {
        refusedCredentials.remove(connection)
        note("the provider takes the credentials of connection \(connection) again")
        guard tellsSluice, let node = holder else { return }
        let isRefused = node.schedule.isRefused(ConnectionID(Int64(connection)))
        node.schedule.setRefused(ConnectionID(Int64(connection)), probeAt: isRefused ? now : nil)
        node.blockedUntil[connection] = nil
        pump(node)
    }

    func takeWebhooks() {
        refusesWebhooks = false
        missed()
    }

    func mendStore() {
        (isStoreFailing, isStoreReadable) = (false, true)
        note("the store takes commits again")
        missed()
    }

    private func missed() {
        guard let node = holder else { return }
        webhooksMissed(node)
        pump(node)
    }

    /// The faults stop: everything that was broken is mended, and everything that was interrupted goes on.
    func calm() {
        note("the faults stop")
        isCalm = true
        (crashPoint, commitPoint) = (nil, nil)
        repeatsNextCommit = false
        brokenFeeds = []
        for resource in provider.resources.indices {
            for number in provider.resources[resource].partitions.indices {
                listPartition(resource, number)
                provider.changePartition(resource, number) {
                    ($0.refusedUntil, $0.failingUntil) = (min($0.refusedUntil, now), .distantPast)
                }
            }
        }
        for resource in described.indices where described[resource].description.dedup.ignoresChanges { changeDedup(resource, .version) }
        for connection in refusedCredentials.sorted() { mendCredentials(connection, tellsSluice: random.chance(0.5)) }
        for node in nodes where node !== holder { node.isAlive = false }
        if holder == nil { boot() }
        if refusesWebhooks { takeWebhooks() }
        if isStoreFailing { mendStore() }
        for trigger in store.triggers.indices {
            switch store.triggers[trigger].state {
            case .paused: command(trigger, .resume)
            case .stopping, .stopped, .created: command(trigger, .start)
            case .starting, .running, .failed: break
            }
        }
    }
}
