import SluiceConnectors
import SluiceCore
import SluiceStore

/// Subscriptions at providers. Secrets and what providers gave never leave.
extension API {
    func listSubscriptions(_ call: APICall) async throws -> APIResponse {
        let definitions = try await definitions()
        let triggers = Dictionary(definitions.triggers.map { ($0.id, $0.name) }) { first, _ in first }
        let connections = Dictionary(definitions.connections.map { ($0.id, $0.name) }) { first, _ in first }
        var phase: Subscription.Phase?
        if let word = call.query("state") {
            guard let known = Subscription.Phase(rawValue: word) else {
                throw SluiceError(.invalid, "`state` is one of \(Subscription.Phase.allCases.map(\.rawValue).joined(separator: ", "))")
            }
            phase = known
        }
        let trigger = call.query("trigger")
        let after = try call.number("after", 0...Int64.max) ?? 0
        let limit = try call.limit()
        let all = try await parts.store.subscriptions(.default).filter { stored in
            stored.id.rawValue > after && (phase.map { $0 == stored.state.phase } ?? true)
                && (trigger.map { $0 == triggers[stored.trigger] } ?? true)
        }
        let shown = all.prefix(limit)
        return APIResponse.object { writer in
            writer.list("subscriptions", shown) { writer, stored in
                writer.member("number", stored.id.rawValue)
                writer.member("trigger", triggers[stored.trigger])
                writer.member("connection", connections[stored.connection])
                writer.member("type", stored.triggerType)
                self.subscription(&writer, stored)
                writer.member("created_at", stored.createdAt)
            }
            writer.member("next", shown.count < all.count ? shown.last.map { String($0.id.rawValue) } : nil)
        }
    }

    private func subscription(_ writer: inout JSONWriter, _ stored: StoredSubscription) {
        let state = stored.state
        writer.member("state", state.phase.rawValue)
        writer.member("since", state.phaseSince)
        writer.member("url", stored.url)
        writer.member("expires_at", state.expiresAt)
        writer.member("refresh_at", state.refreshAt)
        writer.member("checked_at", state.checkedAt)
        writer.member("last_check", state.lastCheck)
        writer.member("attempts", Int64(state.attempts))
        writer.member("next_attempt_at", state.attempts > 0 && state.phase != .leftBehind ? state.nextAt : nil)
        writer.member("last_error", state.lastError)
        writer.member("uncertain", state.isUncertain)
        writer.member("to_be_replaced", state.mustReplace)
        writer.member("may_be_doubled", state.mayBeDoubled)
        writer.member("provider_id", state.foundID)
    }

    /// Part of `trigger show`: the subscription that is used or will be; null where webhooks are static.
    func subscription(_ writer: inout JSONWriter, of trigger: StoredTrigger, _ all: [StoredSubscription], isDynamic: Bool) {
        let own = all.filter { $0.trigger == trigger.id }
        writer.key("subscription")
        guard isDynamic || !own.isEmpty else { return writer.null() }
        let newest = own.last { $0.state.isLive } ?? own.last { $0.state.phase == .unsubscribing }
        writer.object { writer in
            writer.member("number", newest?.id.rawValue)
            if let newest { subscription(&writer, newest) } else { writer.member("state", "none") }
            writer.member("problem", trigger.state.subscribes ? parts.control.subscriptionProblem(of: trigger.id) : nil)
            writer.member("others", Int64(own.count - (newest == nil ? 0 : 1)))
        }
    }

    func checkSubscriptions(_ call: APICall) async throws -> APIResponse {
        let definitions = try await definitions()
        var triggers = definitions.triggers
        if let name = try call.object()["trigger"]?.string {
            guard let trigger = triggers.first(where: { $0.name == name }) else { throw API.noTrigger(name) }
            triggers = [trigger]
        }
        let isOne = triggers.count == 1
        var asked: [String] = []
        for trigger in triggers where try parts.control.checkSubscription(of: trigger.id) { asked.append(trigger.name) }
        if asked.isEmpty, isOne {
            throw SluiceError(.conflict, "trigger \(triggers[0].name) has no subscription").with("trigger", triggers[0].name)
        }
        let names = asked
        return APIResponse.object(status: 202) { writer in
            writer.key("checking")
            writer.array { writer in for name in names { writer.value(name) } }
        }
    }

    func removeLeftBehind(_ call: APICall) async throws -> APIResponse {
        guard let number = Int64(call.parameter("number")) else { throw SluiceError(.invalid, "a subscription is named by its number") }
        let known = try await parts.store.subscriptions(.default).first { $0.id.rawValue == number }
        try parts.control.removeLeftBehind(SubscriptionID(number))
        return APIResponse.object(status: 202) { writer in
            writer.member("number", number)
            writer.member("asks_provider", known?.state.hasOutput ?? false)
            writer.member(
                "note",
                known?.state.hasOutput ?? false
                    ? "the provider is asked to remove it; `sluice subscription list` shows what comes of it"
                    : "it is forgotten here: how the provider calls it is not known")
        }
    }
}
