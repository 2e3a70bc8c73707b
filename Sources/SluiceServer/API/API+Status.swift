import SluiceCore
import SluiceStore

extension API {
    func health(_ call: APICall) async throws -> APIResponse {
        APIResponse.object { writer in
            writer.member("ok", true)
            writer.member("version", API.version)
        }
    }

    /// Counts, alarms, and whether anything is being missed.
    func status(_ call: APICall) async throws -> APIResponse {
        let definitions = try await definitions()
        let lastWebhook = try await parts.store.inbox(InboxQuery(limit: 1, includesContent: false)).first
        let alarms = parts.alarms.standing()
        let states = Dictionary(grouping: definitions.triggers, by: \.state).mapValues(\.count)
        let missing =
            API.missing(definitions, alarms.map(\.alarm), isServing: parts.isServing) + troubledDestinations(definitions)
        return APIResponse.object { writer in
            writer.member("version", API.version)
            writer.member("serving", parts.isServing)
            writer.member("time", parts.clock.now())
            writer.member("public_url", parts.address.url)
            writer.member("connectors", Int64(parts.connectors.count))
            writer.member("connections", Int64(definitions.connections.count))
            writer.member("destinations", Int64(definitions.destinations.count))
            writer.key("triggers")
            writer.object { writer in
                for state in TriggerState.allCases { writer.member(state.rawValue, Int64(states[state] ?? 0)) }
            }
            writer.member("webhooks", lastWebhook?.sequence.rawValue ?? 0)
            writer.member("last_webhook_at", lastWebhook?.entry.receivedAt)
            writer.member("jobs", definitions.triggers.reduce(0) { $0 + $1.progress.lastPosition.rawValue })
            writer.member("alarms", Int64(alarms.count))
            writer.key("being_missed")
            writer.array { writer in for sentence in missing { writer.value(sentence) } }
        }
    }

    /// Those that take nothing at the moment: long before their jobs are dead letters.
    private func troubledDestinations(_ definitions: Definitions) -> [String] {
        definitions.destinations.compactMap { destination in
            guard destination.state == .active, let status = parts.delivery?.status(of: destination.id), status.breaker != .closed else {
                return nil
            }
            return "destination \(destination.name): \(status.failuresInRow) calls in a row failed: "
                + (status.lastError ?? "unknown reason")
        }
    }

    /// What the destinations of this server do not hear of at the moment, one sentence each; empty if all is well.
    static func missing(_ definitions: Definitions, _ alarms: [Alarm], isServing: Bool) -> [String] {
        var sentences: [String] = []
        var told: Set<String> = []
        if !isServing { sentences.append("no server runs: nothing is accepted and nothing polls") }
        for trigger in definitions.triggers {
            let before = sentences.count
            defer { if sentences.count > before { told.insert("trigger \(trigger.name)") } }
            switch trigger.state {
            case .failed:
                sentences.append("trigger \(trigger.name) failed: \(trigger.stateReason ?? trigger.progress.lastError ?? "unknown reason")")
            case .paused: sentences.append("trigger \(trigger.name) is paused")
            case .starting, .running:
                if trigger.progress.failures > 0 {
                    sentences.append("trigger \(trigger.name) fails and tries again: \(trigger.progress.lastError ?? "unknown reason")")
                }
            case .created, .stopping, .stopped: break
            }
        }
        for destination in definitions.destinations {
            switch destination.state {
            case .active: break
            case .paused: sentences.append("destination \(destination.name) is paused: its jobs wait")
            case .gone:
                sentences.append(
                    "destination \(destination.name) is gone (\(destination.stateReason ?? "it answered 410")): its jobs wait. Change its URL, "
                        + "or `sluice destination resume \(destination.name)`")
            }
        }
        let telling: [Alarm.Kind] = [
            .gap, .verificationFailing, .storage, .inboxFull, .connectionRefused, .deadLetters, .quarantined, .notRunnable,
            .connectorBroken, .subscriptionFailing, .subscriptionLapsed,
        ]
        // Where the store takes nothing, it does not know of failures either.
        let untold = alarms.filter { $0.kind == .triggerFailing && !told.contains($0.subject) }
        sentences += (untold + alarms.filter { telling.contains($0.kind) }).map { "\($0.subject): \($0.message)" }
        return sentences
    }

    func listAlarms(_ call: APICall) async throws -> APIResponse {
        let alarms = parts.alarms.standing()
        let limit = try call.limit()
        let start = Int(try call.number("after", 0...1_000_000) ?? 0)
        let shown = alarms.dropFirst(start).prefix(limit)
        return APIResponse.object { writer in
            writer.list("alarms", shown) { writer, standing in
                writer.member("kind", standing.alarm.kind.rawValue)
                writer.member("subject", standing.alarm.subject)
                writer.member("message", standing.alarm.message)
                writer.member("since", standing.since)
            }
            writer.member("dropped", Int64(parts.alarms.dropped))
            writer.member("next", start + shown.count < alarms.count ? String(start + shown.count) : nil)
        }
    }
}
