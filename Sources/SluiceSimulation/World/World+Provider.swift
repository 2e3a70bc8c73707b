import SluiceCore
import SluiceStore

/// What happens at the provider and between it and the gateway.
extension World {
    func change() {
        guard !isCalm else { return }
        let resource = random.int(0...scenario.feeds.count - 1)
        let count = random.chance(scenario.burstShare) ? random.int(2...6) : 1
        for _ in 0..<count { changeOnce(resource) }
        queue.schedule(.change, at: now + .milliseconds(random.gap(mean: scenario.changeGapMean)))
    }

    private func changeOnce(_ resource: Int) {
        let lag = scenario.feeds[resource].feed.visibilityLag
        let isHidden = lag > .zero && random.chance(scenario.lateShare)
        let hidden = isHidden ? Span.milliseconds(random.milliseconds(1...Int(lag.milliseconds))) : .zero
        let isNew = random.chance(scenario.newShare)
        guard let change = provider.change(resource, isNew: isNew, hiddenFor: hidden, at: now, random: &random) else { return }
        note(
            "change \(change.number): resource \(resource) record r\(change.id) updated at \(Timestamp(milliseconds: change.updatedAt)), visible at \(change.visibleAt)"
        )
        if isHidden { monitor.occurred(.lateVisibility) }
        if provider.resources[resource].groupCount > 1 { monitor.occurred(.equalTimestamps) }
        if nodes.contains(where: { node in
            node.isAlive && node.cycles.values.contains { $0.resource == resource && $0.slice.cycle.nextPage > 0 }
        }) {
            monitor.occurred(.pagesShifted)
        }
        monitor.changed(change, provider: provider, at: now)
        send(change)
    }

    /// Sends the webhook of a change, or does what providers and networks do instead.
    private func send(_ change: Change) {
        let rates = scenario.webhookRates
        let sentAt = now + .milliseconds(random.milliseconds(0...300))
        var webhook = Webhook(
            change: change.number, connection: scenario.feeds[change.resource].connection, resource: change.resource, sentAt: sentAt)
        if random.chance(rates.forged) {
            var forged = webhook
            forged.isForged = true
            queue.schedule(.webhook(forged), at: sentAt)
        }
        if random.chance(rates.dropped) { return monitor.occurred(.webhookDropped) }
        webhook.isUnreadable = random.chance(rates.unreadable)
        var at = sentAt
        if random.chance(rates.late) {
            at = at + .milliseconds(random.milliseconds(500...rates.lateMillisecondsMax))
            monitor.occurred(.webhookLate)
        }
        queue.schedule(.webhook(webhook), at: at)
        if random.chance(rates.doubled) {
            queue.schedule(.webhook(webhook), at: at + .milliseconds(random.milliseconds(0...30_000)))
            monitor.occurred(.webhookDoubled)
        }
    }

    /// The gateway: verify, append, tell whoever runs.
    func receive(_ webhook: Webhook) {
        if webhook.isForged {
            note("webhook of change \(webhook.change) is forged: 401")
            return monitor.occurred(.webhookForged)
        }
        guard holder != nil else {
            note("webhook of change \(webhook.change) is lost: nobody is here")
            return monitor.occurred(.webhookLostInDowntime)
        }
        if refusesWebhooks || isStoreFailing {
            note("webhook of change \(webhook.change) is refused: 503")
            return monitor.occurred(.webhookRefused)
        }
        if let last = lastWebhookSentAt, webhook.sentAt < last { monitor.occurred(.webhookReordered) }
        lastWebhookSentAt = webhook.sentAt
        if webhook.isUnreadable { monitor.occurred(.webhookUnreadable) }
        let topic = TopicID(Int64(webhook.isUnreadable ? scenario.feeds.count + webhook.connection : webhook.resource))
        let sequence = store.append(topics: [topic], at: now)
        note("webhook of change \(webhook.change) is accepted as \(sequence) under topic \(topic)")
        monitor.accepted(topic, sequence, store: store, at: now)
        if reaches(.crashBeforeSignal, .crashBeforeSignal) { return }
        for node in nodes where node.isAlive {
            queue.schedule(.signal(node: node.number, topic: topic, sequence: sequence, at: now), at: now + scenario.signalDelay)
        }
    }

    func signalled(_ node: Node, _ topic: TopicID, _ sequence: InboxSequence, _ receivedAt: Timestamp) {
        guard node.isAlive else { return }
        if mutant == .debounce {
            for index in store.triggers.indices where store.triggers[index].topics.contains(topic) { postpone(node, index) }
        }
        node.schedule.signal(topic, sequence: sequence, receivedAt: min(receivedAt, now), at: now)
        pump(node)
    }

    /// A mutant's doing: it looks as if a poll had just begun.
    private func postpone(_ node: Node, _ index: Int) {
        guard let known = node.schedule.schedule(of: TriggerID(Int64(index))), !known.isRunning else { return }
        var stored = self.stored(index)
        stored.covered = known.covered
        stored.lastStartAt = now
        // A change keeps the last start; a trigger that is new does not know better.
        node.schedule.remove(TriggerID(Int64(index)))
        put(node, index, stored: stored)
    }
}
