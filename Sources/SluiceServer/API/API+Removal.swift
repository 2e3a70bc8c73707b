import SluiceCore
import SluiceStore

/// Triggers, destinations and connections are removed by name. What still hangs on them is said, with what to do about it.
extension API {
    func removeTrigger(_ call: APICall) async throws -> APIResponse {
        let name = call.parameter("name")
        let trigger = try await trigger(name)
        if trigger.isCallbackSource {
            throw SluiceError(.conflict, "\(name) stands for the callbacks of its connection, and goes with that connection")
        }
        switch trigger.state {
        case .created, .stopped: break
        case .stopping:
            throw SluiceError(
                .conflict,
                "the trigger \(name) is stopping: wait until its provider has removed its subscription (`sluice trigger show \(name)`)"
            ).with("trigger", name)
        default:
            throw SluiceError(
                .conflict, "the trigger \(name) is \(trigger.state.rawValue): stop it first with `sluice trigger stop \(name)`"
            ).with("trigger", name)
        }
        return try await remove(.removeTrigger(name: name, discardsUndelivered: call.discardsUndelivered), "trigger", name)
    }

    func removeDestination(_ call: APICall) async throws -> APIResponse {
        let name = call.parameter("name")
        _ = try API.destination(named: name, try await definitions())
        return try await remove(.removeDestination(name: name, discardsUndelivered: call.discardsUndelivered), "destination", name)
    }

    func removeConnection(_ call: APICall) async throws -> APIResponse {
        let name = call.parameter("name")
        _ = try API.connection(name, try await definitions())
        return try await remove(.removeConnection(name: name, discardsUndelivered: call.discardsUndelivered), "connection", name)
    }

    private func remove(_ change: DefinitionChange, _ kind: String, _ name: String) async throws -> APIResponse {
        try await changes.run {
            try await self.parts.store.apply([change], namespace: .default, at: self.parts.clock.now())
            try await self.parts.control.definitionsChanged()
            self.parts.alarms.forget(subject: "\(kind) \(name)")
            return APIResponse.object { $0.member("removed", name) }
        }
    }
}

extension APICall {
    /// Whether jobs that were not delivered may go as well.
    fileprivate var discardsUndelivered: Bool { flag("discard_undelivered") }
}
