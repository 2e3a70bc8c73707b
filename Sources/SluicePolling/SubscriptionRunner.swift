import SluiceConnectors
import SluiceCore
import SluiceStore

/// What is to be done for one trigger's subscriptions now, step by step, each recorded before it is done.
struct SubscriptionRunner {
    /// A turn ends after this many steps; another one follows.
    private static let stepsMax = 16
    private static let storeRetry = Span.seconds(10)

    let service: SubscriptionService
    let id: TriggerID

    func run() async {
        var isSettled = false
        if service.state.withLock({ $0.held[id]?.needsReload ?? false }) { return await reload() }
        do {
            for _ in 0..<SubscriptionRunner.stepsMax {
                guard let step = try await next() else { break }
                switch step {
                case .create: try await create()
                case .call(let operation, let subscription):
                    if try await call(operation, subscription) { isSettled = true }
                }
            }
            try await settle(isSettled: isSettled)
            rest()
        } catch is CancellationError {
            return
        } catch {
            service.logger.error("a subscription cannot be recorded", metadata: ["trigger": "\(id)", "error": "\(error)"])
            await reload()
        }
    }

    // MARK: Steps

    /// What the machine wants done; everything that was decided is recorded by then.
    private func next() async throws -> SubscriptionMachine.Step? {
        try Task.checkCancellation()
        guard let trigger = service.state.withLock({ $0.held[id].map { $0.trigger } }) else { return nil }
        let want = want(trigger)
        let now = service.time.now()
        let (step, changes) = try service.state.withLock { state -> (SubscriptionMachine.Step?, [SubscriptionChange]) in
            guard var held = state.held[id] else { return (nil, []) }
            held.holdReason = want.reason
            if let traits = want.plan?.traits { held.machine.abilities = traits.abilities }
            held.machine.want(want.key, held: want.reason != nil)
            let step = held.machine.next(at: now)
            let changes = try service.takeChanges(&held)
            state.held[id] = held
            return (step, changes)
        }
        try await record(changes)
        return step
    }

    private struct Want {
        var key: String?
        var plan: SubscriptionPlan?
        /// Why nothing can be made now.
        var reason: String?
    }

    private func want(_ trigger: StoredTrigger?) -> Want {
        guard let trigger, trigger.state.subscribes else { return Want() }
        do {
            guard let plan = try service.catalogue.subscriptionPlan(for: trigger) else { return Want() }
            do {
                return Want(key: try service.catalogue.webhookBaseURL() + "\n" + plan.key, plan: plan)
            } catch {
                return Want(key: plan.key, plan: plan, reason: (error as? SluiceError)?.message ?? "\(error)")
            }
        } catch {
            // A connector that is not loaded must not end what it has made.
            return Want(key: "", reason: (error as? SluiceError)?.message ?? "\(error)")
        }
    }

    private func create() async throws {
        guard let trigger = service.state.withLock({ $0.held[id]?.trigger }), let plan = want(trigger).plan,
            let key = service.state.withLock({ $0.held[id]?.machine.wantedKey })
        else { return service.state.withLock { $0.held[id]?.machine.dropped() } }
        let token = service.newToken()
        let url = try service.catalogue.webhookBaseURL() + token
        let offered = service.newToken()
        let secrets = SubscriptionSecrets(offered: offered, secret: plan.traits.usesOfferedSecret ? offered : nil)
        let new = NewSubscription(
            trigger: id, connection: trigger.connection, triggerType: trigger.type, input: plan.input, token: token, url: url,
            sealed: try service.catalogue.seal(secrets.json, url: url), key: key)
        try await add(new, secrets)
    }

    private func add(_ new: NewSubscription, _ secrets: SubscriptionSecrets) async throws {
        let stored = try await service.store.addSubscription(new, at: service.time.now())
        service.state.withLock { state in
            state.held[id]?.rows[stored.id] = .init(stored: stored, secrets: secrets)
            state.held[id]?.machine.created(stored.state)
        }
        service.publish(id)
    }

    /// Asks the provider and takes what it answers. True: the first attempt to subscribe is over.
    private func call(_ operation: SubscriptionMachine.Operation, _ subscription: SubscriptionID) async throws -> Bool {
        guard let row = service.state.withLock({ $0.held[id]?.rows[subscription] }) else {
            service.state.withLock { $0.held[id]?.machine.dropped() }
            return false
        }
        let answer = await ask(operation, row)
        try Task.checkCancellation()
        let now = service.time.now()
        var found: [String: SubscriptionAnswer.Other] = [:]
        let outcome = outcome(of: operation, answer, row, &found)
        let (consequence, changes) = try service.state.withLock {
            state -> (SubscriptionMachine.Consequence, [SubscriptionChange]) in
            guard var held = state.held[id] else { return (.init(), []) }
            let wasActive = held.machine.entries.contains { $0.id == subscription && $0.phase == .active }
            let consequence = held.machine.finish(outcome, at: now, random: service.random())
            if wasActive, held.machine.entries.contains(where: { $0.id == subscription && $0.phase == .subscribing }) {
                // The next one at its URL gets a secret of its own.
                held.rows[subscription]?.secrets.forgetGiven()
            }
            if case .success(let answer?) = answer, held.rows[subscription]?.isOpen == true,
                let entry = held.machine.entries.first(where: { $0.id == subscription })
            {
                if let output = answer.output { held.rows[subscription]?.secrets.output = output }
                if entry.hasOutput, held.rows[subscription]?.secrets.output == nil {
                    held.rows[subscription]?.secrets.output = Array("null".utf8)
                }
                if let secret = answer.secret { held.rows[subscription]?.secrets.secret = secret }
                if answer.output != nil || answer.secret != nil { held.machine.touch(subscription) }
            }
            let changes = try service.takeChanges(&held)
            state.held[id] = held
            return (consequence, changes)
        }
        try await record(changes)
        for addition in consequence.additions {
            guard let other = found[addition.foundID] else { continue }
            let secrets = SubscriptionSecrets(output: other.output)
            let new = NewSubscription(
                trigger: id, connection: row.stored.connection, triggerType: row.stored.triggerType, input: row.stored.input, token: nil,
                url: other.url, sealed: try service.catalogue.seal(secrets.json, url: other.url), phase: addition.phase,
                key: row.stored.state.key, foundID: addition.foundID, hasOutput: true)
            try await add(new, secrets)
        }
        log(operation, outcome, row)
        if consequence.polls {
            service.publish(id)
            service.listener.webhooksMissed(id)
        }
        return consequence.isSettled
    }

    private func ask(_ operation: SubscriptionMachine.Operation, _ row: SubscriptionService.Row) async -> Result<
        SubscriptionAnswer?, Failed
    > {
        let http = ActingHTTP(service.http(row.stored.connection))
        do {
            let means = try service.catalogue.subscriptionMeans(connection: row.stored.connection, triggerType: row.stored.triggerType)
            let request = SubscriptionRequest(
                triggerType: row.stored.triggerType, connection: means.connection, input: try JSONDocument(row.stored.input),
                webhookURL: row.stored.url, secret: row.secrets.offered ?? "",
                output: row.stored.state.hasOutput ? row.secrets.output : nil,
                now: service.time.now())
            switch operation {
            case .subscribe: return .success(try await means.connector.subscribe(request, http: http))
            case .refresh: return .success(try await means.connector.refreshSubscription(request, http: http))
            case .check: return .success(try await means.connector.checkSubscription(request, http: http))
            case .unsubscribe:
                try await means.connector.unsubscribe(request, http: http)
                return .success(nil)
            }
        } catch {
            let own = SecretScrubber([row.secrets.offered, row.secrets.secret].compactMap { $0 })
            let failure = PollFailure.classify(error).scrubbed(by: service.scrubber(row.stored.connection)).scrubbed(by: own)
            return .failure(Failed(failure: failure, mayHaveActed: http.mayHaveActed))
        }
    }

    struct Failed: Error {
        var failure: PollFailure
        var mayHaveActed: Bool
    }

    private func outcome(
        of operation: SubscriptionMachine.Operation, _ answer: Result<SubscriptionAnswer?, Failed>, _ row: SubscriptionService.Row,
        _ found: inout [String: SubscriptionAnswer.Other]
    ) -> SubscriptionMachine.Outcome {
        switch answer {
        case .failure(let failed):
            let failure = failed.failure
            let isPermanent = failure.kind == .permanent || failure.kind == .badCursor
            return .failed(
                .init(
                    failure.error.message, retryAfter: failure.retryAfter, isPermanent: isPermanent, mayHaveActed: failed.mayHaveActed))
        case .success(nil): return .unsubscribed
        case .success(let answer?):
            if let output = answer.output, output.count > SubscriptionAnswer.outputBytesMax {
                let message = "the connector returned an output of \(output.count) bytes, more than \(SubscriptionAnswer.outputBytesMax)"
                return .failed(.init(message, isPermanent: true, mayHaveActed: true))
            }
            switch operation {
            case .subscribe: return .subscribed(expiresAt: answer.expiresAt)
            case .refresh where answer.status == .active: return .refreshed(expiresAt: answer.expiresAt)
            case .refresh: return .checked(.init(answer.status, expiresAt: answer.expiresAt))
            case .check, .unsubscribe:
                return .checked(
                    .init(
                        answer.status, expiresAt: answer.expiresAt, others: answer.others.map { others($0, row, &found) },
                        lacksSecret: answer.secret == nil && lacksSecret(row)))
            }
        }
    }

    /// Each subscription of its type has a secret, and this one's is not known. A handshake may have told it meanwhile.
    private func lacksSecret(_ row: SubscriptionService.Row) -> Bool {
        guard service.state.withLock({ $0.held[id]?.rows[row.stored.id]?.secrets.secret }) == nil,
            let means = try? service.catalogue.subscriptionMeans(connection: row.stored.connection, triggerType: row.stored.triggerType)
        else { return false }
        return means.connector.definition.trigger(row.stored.triggerType)?.subscription?.hasOwnSecret ?? false
    }

    /// Whose the others are: their URLs are unguessable, so each is ours.
    private func others(
        _ others: [SubscriptionAnswer.Other], _ row: SubscriptionService.Row, _ found: inout [String: SubscriptionAnswer.Other]
    ) -> [SubscriptionMachine.Other] {
        for other in others { found[other.id] = other }
        return service.state.withLock { state in
            let urls = Set(state.held.values.flatMap { $0.rows.values.compactMap { $0.stored.token == nil ? nil : $0.stored.url } })
            let taken = Set(
                state.held.filter { $0.key != id }.values.flatMap { held in
                    held.rows.values.filter { $0.stored.connection == row.stored.connection }.compactMap(\.stored.state.foundID)
                })
            return others.map { other in
                let isTaken = taken.contains(other.id) || urls.contains(other.url)
                return .init(foundID: other.id, url: other.url == row.stored.url ? .thisOne : isTaken ? .anotherKnown : .unknown)
            }
        }
    }

    private func log(_ operation: SubscriptionMachine.Operation, _ outcome: SubscriptionMachine.Outcome, _ row: SubscriptionService.Row) {
        let name = service.state.withLock { $0.held[id]?.trigger?.name } ?? "\(id)"
        switch outcome {
        case .failed(let failure):
            service.logger.warning(
                "a subscription call failed",
                metadata: ["trigger": "\(name)", "call": "\(operation.rawValue)", "error": "\(failure.message)"])
        case .checked(let check) where check.status != .active:
            service.logger.notice(
                "a subscription was checked",
                metadata: ["trigger": "\(name)", "subscription": "\(row.stored.id)", "found": "\(check.status.rawValue)"])
        default:
            service.logger.info(
                "a subscription call succeeded", metadata: ["trigger": "\(name)", "call": "\(operation.rawValue)"])
        }
    }

    // MARK: Ends

    private func record(_ changes: [SubscriptionChange]) async throws {
        if !changes.isEmpty {
            try await service.store.recordSubscriptions(changes)
            service.publish(id)
        }
    }

    /// A starting trigger runs once the first attempt is over, a stopping one is stopped once nothing is left to remove.
    private func settle(isSettled: Bool) async throws {
        service.publish(id)
        let now = service.time.now()
        let (held, changedTiming) = service.state.withLock { state -> (SubscriptionService.Held?, Bool) in
            guard var held = state.held[id] else { return (nil, false) }
            let before = held.isSubscribed
            held.isSubscribed = held.machine.isSubscribed(at: now)
            state.held[id] = held
            return (held, held.isSubscribed != before)
        }
        guard let held, let trigger = held.trigger else { return }
        var event: TriggerEvent?
        if trigger.state == .starting, isSettled || held.holdReason != nil || held.isSubscribed { event = .subscribed }
        if trigger.state == .stopping, held.machine.isOver { event = .unsubscribed }
        for _ in 0..<5 {
            guard event != nil || changedTiming, let current = try await service.store.trigger(id) else { return }
            let next = event.map { current.state.after($0) } ?? current.state
            guard next != current.state else { return told(current) }
            do {
                let change = StateChange(trigger: id, generation: current.generation, state: next, reason: nil, at: now)
                return told(try await service.store.setState(change))
            } catch let error as SluiceError where error.code == .conflict {
                continue
            }
        }
    }

    private func told(_ trigger: StoredTrigger) {
        service.state.withLock { state in
            // Whoever changed it meanwhile has told already.
            if let known = state.held[id]?.trigger, known.generation <= trigger.generation { state.held[id]?.trigger = trigger }
        }
        service.listener.triggerChanged(trigger)
    }

    private func rest() {
        service.state.withLock { state in
            let wake = state.held[id]?.machine.wake()
            state.held[id]?.wakeAt = wake
        }
    }

    /// What is true is in the store; what was under way is uncertain now.
    private func reload() async {
        let later = service.time.now() + SubscriptionRunner.storeRetry
        do {
            let rows = try await service.store.subscriptions(.default).filter { $0.trigger == id }
            let trigger = try await service.store.trigger(id)
            service.state.withLock { state in
                guard let before = state.held[id] else { return }
                var held = service.hold(trigger, rows, at: service.time.now())
                (held.isBusy, held.isCalled, held.alarms, held.wakeAt) = (before.isBusy, false, before.alarms, later)
                state.held[id] = held
            }
        } catch {
            service.state.withLock { state in
                state.held[id]?.isCalled = false
                state.held[id]?.wakeAt = later
                state.held[id]?.needsReload = true
            }
        }
    }
}

extension SubscriptionService {
    /// What the machine decided, as changes to be recorded, and in the rows.
    func takeChanges(_ held: inout Held) throws -> [SubscriptionChange] {
        let (changed, removed) = held.machine.takeChanges()
        var changes: [SubscriptionChange] = []
        for entry in removed {
            guard let row = held.rows.removeValue(forKey: entry.id) else { continue }
            changes.append(.remove(entry.id, row.stored.generation))
        }
        for entry in changed {
            guard var row = held.rows[entry.id] else { continue }
            if !entry.hasOutput { row.secrets.output = nil }
            let sealed = row.isOpen ? try catalogue.seal(row.secrets.json, url: row.stored.url) : row.stored.sealed
            changes.append(.update(entry.id, row.stored.generation, state: entry, sealed: sealed))
            row.stored.state = entry
            row.stored.sealed = sealed
            row.stored.generation = row.stored.generation.next
            held.rows[entry.id] = row
        }
        return changes
    }
}
