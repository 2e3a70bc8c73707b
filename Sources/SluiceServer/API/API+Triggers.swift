import SluiceCore
import SluiceStore

extension API {
    func listTriggers(_ call: APICall) async throws -> APIResponse {
        let definitions = try await definitions()
        let slice = try ListSlice(definitions.triggers, after: call.query("after"), limit: call.limit()) { $0.name }
        let known = Known(definitions)
        return APIResponse.object { writer in
            writer.list("triggers", slice.elements) { self.summary(&$0, $1, known) }
            writer.member("next", slice.next)
        }
    }

    /// What a list of triggers looks up for each of them.
    private struct Known {
        var connections: [ConnectionID: StoredConnection]
        var topics: [TopicID: StoredTopic]

        init(_ definitions: Definitions) {
            connections = Dictionary(definitions.connections.map { ($0.id, $0) }) { first, _ in first }
            topics = Dictionary(definitions.topics.map { ($0.id, $0) }) { first, _ in first }
        }

        /// The last signal on any topic of a trigger.
        func signal(_ trigger: StoredTrigger) -> InboxSequence {
            trigger.topics.compactMap { topics[$0]?.signalSequence }.max() ?? .zero
        }
    }

    private func summary(_ writer: inout JSONWriter, _ trigger: StoredTrigger, _ known: Known) {
        let connection = known.connections[trigger.connection]
        let type = connection.flatMap { parts.connectors[$0.connector]?.definition.trigger(trigger.type) }
        let signal = known.signal(trigger)
        writer.member("name", trigger.name)
        writer.member("connection", connection?.name)
        writer.member("type", trigger.type)
        writer.member("kind", trigger.isCallbackSource ? StoredTrigger.callbackType : type?.kind.rawValue)
        writer.member("state", trigger.state.rawValue)
        writer.member("reason", trigger.stateReason)
        writer.member("jobs", trigger.progress.lastPosition.rawValue)
        writer.member("news_waiting", trigger.state.listens && signal > trigger.progress.coveredSequence)
        writer.member("last_success_at", trigger.progress.lastSuccessAt)
        writer.member("last_error", trigger.progress.lastError)
        let polls = trigger.progress.pollsByCause.sorted { $0.key.rawValue < $1.key.rawValue }
        writer.key("polls_by_cause")
        writer.object { writer in for (cause, count) in polls { writer.member(cause.rawValue, count) } }
    }

    func showTrigger(_ call: APICall) async throws -> APIResponse {
        let definitions = try await definitions()
        let name = call.parameter("name")
        guard let trigger = definitions.triggers.first(where: { $0.name == name }) else { throw API.noTrigger(name) }
        let known = Known(definitions)
        let runtime = await parts.control.runtimeStatus(of: trigger)
        let subscriptions = try await parts.store.subscriptions(.default)
        let blocked = try await parts.store.blockedDeliveries(.default).filter { $0.trigger == trigger.id }
        return APIResponse.object { writer in
            summary(&writer, trigger, known)
            writer.member("uid", trigger.uid)
            writer.member("generation", trigger.generation.rawValue)
            writer.member("input", json: trigger.input)
            writer.member("settings", json: trigger.settings)
            writer.key("webhook_keys")
            writer.array { writer in
                for topic in definitions.topics
                where trigger.topics.contains(topic.id) && !topic.key.isEmpty && !DynamicTopic.isOne(topic.key) {
                    writer.value(topic.key)
                }
            }
            let connector = known.connections[trigger.connection].flatMap { parts.connectors[$0.connector] }
            let isDynamic = connector?.definition.trigger(trigger.type)?.subscription != nil
            subscription(&writer, of: trigger, subscriptions, isDynamic: isDynamic)
            writer.key("destinations")
            writer.array { writer in
                for attachment in definitions.attachments where attachment.trigger == trigger.id {
                    if let destination = definitions.destinations.first(where: { $0.id == attachment.destination }) {
                        writer.value(destination.name)
                    }
                }
            }
            self.blocked(&writer, blocked, definitions)
            progress(&writer, trigger, signal: known.signal(trigger))
            due(&writer, trigger, runtime, known)
        }
    }

    private func progress(_ writer: inout JSONWriter, _ trigger: StoredTrigger, signal: InboxSequence) {
        let progress = trigger.progress
        writer.member("cursor", json: progress.cursor)
        writer.member("signal_sequence", signal.rawValue)
        writer.member("covered_sequence", progress.coveredSequence.rawValue)
        writer.key("open_cycle")
        if let cycle = progress.openCycle {
            writer.object { writer in
                writer.member("number", cycle.number)
                writer.member("cause", cycle.cause.rawValue)
                writer.member("started_at", cycle.startedAt)
                writer.member("next_page", Int64(cycle.nextPage))
                writer.member("jobs", Int64(cycle.jobs))
                writer.member("connector", cycle.connector)
            }
        } else {
            writer.null()
        }
        writer.member("cycles_completed", progress.cyclesCompleted)
        writer.member("last_start_at", progress.lastStartAt)
        writer.member("failures", Int64(progress.failures))
        writer.member("quarantined", progress.quarantined)
        writer.member("created_at", trigger.createdAt)
    }

    /// When the next poll is due, and what it waits for (P2). Without pollers: what is stored.
    private func due(_ writer: inout JSONWriter, _ trigger: StoredTrigger, _ runtime: RuntimeTriggerStatus?, _ known: Known) {
        let progress = trigger.progress
        var status = runtime ?? RuntimeTriggerStatus()
        if status.nextDueAt == nil, let until = status.waitsUntil {
            (status.nextDueAt, status.nextCause) = (until, .retry)
        } else if status.nextDueAt == nil, trigger.state.polls {
            status.nextDueAt = progress.retryAt ?? progress.safetyDueAt
            status.nextCause = progress.retryAt != nil ? .retry : progress.safetyDueAt != nil ? .safety : nil
        }
        if status.waitsFor == nil { status.waitsFor = standingStill(trigger) }
        if status.waitsFor == nil, progress.failures > 0, trigger.state.polls, !status.isPolling {
            status.waitsFor =
                "its next try: \(progress.failures) in a row failed, the last with \(progress.lastError ?? "an unknown error")"
            status.waitsUntil = status.nextDueAt
        }
        let hasNews = known.signal(trigger) > progress.coveredSequence
        if status.waitsFor == nil, hasNews, trigger.state.polls {
            status.waitsFor = status.isPolling ? "the poll that runs now" : waitForNews(trigger, known)
            status.waitsUntil = status.isPolling ? nil : status.nextDueAt
        }
        writer.member("polling_now", status.isPolling)
        writer.member("next_due_at", status.nextDueAt)
        writer.member("next_cause", status.nextCause?.rawValue)
        writer.member("waits_for", status.waitsFor)
        writer.member("waits_until", status.waitsUntil)
    }

    /// Why news waits although nothing is wrong: polls keep their distance, and a poll covers only what the provider shows by then.
    private func waitForNews(_ trigger: StoredTrigger, _ known: Known) -> String {
        let connector = known.connections[trigger.connection]?.connector
        let type = connector.flatMap { parts.connectors[$0]?.definition.trigger(trigger.type) }
        if type?.kind == .webhook { return "its turn to read the inbox" }
        let lag = type?.visibilityLag ?? .zero
        let sentence = "its next poll: polls that webhooks cause start at least 20 s apart"
        return lag == .zero ? sentence : sentence + ", and a webhook counts as covered by a poll that starts \(Words.text(lag)) after it"
    }

    private func standingStill(_ trigger: StoredTrigger) -> String? {
        if trigger.isCallbackSource { return "callbacks of its connection to end: see `sluice callback list`" }
        return switch trigger.state {
        case .created, .stopped: "somebody to start it: `sluice trigger start \(trigger.name)`"
        case .paused: "somebody to resume it: `sluice trigger resume \(trigger.name)`; webhooks are kept meanwhile"
        case .failed: "the next probe: \(trigger.stateReason ?? "its polls failed for good")"
        case .starting, .running: parts.isServing ? nil : "a server: `sluice serve`"
        case .stopping: parts.isServing ? "its provider to remove its subscription" : "a server: `sluice serve`"
        }
    }

    func commandTrigger(_ call: APICall) async throws -> APIResponse {
        let word = call.parameter("command")
        guard let command = TriggerCommand(rawValue: word) else {
            throw SluiceError(.notFound, "triggers take no `\(word)`: \(Words.hint(word, among: TriggerCommand.allCases.map(\.rawValue)))")
        }
        let name = call.parameter("name")
        let known = try await trigger(name)
        if known.isCallbackSource { throw API.takesNoCommands(name) }
        let before = known.state
        let trigger = try await parts.lifecycle.command(command, trigger: name)
        return APIResponse.object { writer in
            writer.member("name", trigger.name)
            writer.member("state", trigger.state.rawValue)
            writer.member("state_before", before.rawValue)
            if command == .poll, !parts.isServing { writer.member("note", "no server runs: it polls as soon as one starts") }
        }
    }

    static func takesNoCommands(_ name: String) -> SluiceError {
        SluiceError(.conflict, "\(name) stands for the callbacks of its connection, and takes no commands: see `sluice callback`")
    }
}
