import SluiceCore
import SluiceStore

/// Carries out commands to triggers: the decision is `TriggerState`'s, this stores it and tells the pollers.
///
/// Static webhooks have nothing to subscribe to at the provider: a starting trigger runs, and a stopping one is stopped, as
/// soon as somebody serves. With dynamic ones the subscription service says when.
public struct TriggerLifecycle: Sendable {
    private static let conflictsMax = 5

    private let store: any Store
    private let clock: any TimeSource
    private let control: any TriggerControl
    /// Whether a server runs that subscribes and polls. Without one, starting and stopping are settled when one starts.
    private let isServing: Bool
    /// Whether somebody else settles a trigger's start and stop, once its provider has answered.
    private let isSettledElsewhere: @Sendable (StoredTrigger) -> Bool

    public init(
        store: any Store, clock: any TimeSource, control: any TriggerControl, isServing: Bool,
        isSettledElsewhere: @escaping @Sendable (StoredTrigger) -> Bool = { _ in false }
    ) {
        self.isSettledElsewhere = isSettledElsewhere
        self.store = store
        self.clock = clock
        self.control = control
        self.isServing = isServing
    }

    /// Throws `.notFound`, or `.conflict` with the commands that the trigger's state takes.
    public func command(_ command: TriggerCommand, trigger name: String) async throws -> StoredTrigger {
        let (trigger, effects) = try await change(name) { state throws(SluiceError) in try state.after(command) }
        let settled = isServing ? try await settle(trigger) : trigger
        let causes = effects.compactMap { effect -> PollCause? in if case .poll(let cause) = effect { cause } else { nil } }
        await control.triggerChanged(settled, poll: causes.first)
        return settled
    }

    /// `apply` has stored a trigger's new state: what follows from it is done.
    public func applied(_ effects: [TriggerEffect], trigger name: String) async throws {
        guard let trigger = try await store.trigger(.default, named: name) else { throw API.noTrigger(name) }
        let settled = isServing ? try await settle(trigger) : trigger
        let causes = effects.compactMap { effect -> PollCause? in if case .poll(let cause) = effect { cause } else { nil } }
        await control.triggerChanged(settled, poll: causes.first)
    }

    /// Finishes what a process before this one began: called once when a server starts, before anything polls. True: something
    /// was changed.
    public func settleAll(_ triggers: [StoredTrigger]) async throws -> Bool {
        var isChanged = false
        for trigger in triggers where try await settle(trigger).state != trigger.state { isChanged = true }
        return isChanged
    }

    private func settle(_ trigger: StoredTrigger) async throws -> StoredTrigger {
        let event: TriggerEvent
        if isSettledElsewhere(trigger) { return trigger }
        switch trigger.state {
        case .starting: event = .subscribed
        case .stopping: event = .unsubscribed
        default: return trigger
        }
        return try await change(trigger.name) { state throws(SluiceError) in (state.after(event), []) }.trigger
    }

    /// Reads, decides and stores; begins again if somebody else was faster.
    private func change(
        _ name: String, _ decide: @Sendable (TriggerState) throws(SluiceError) -> (state: TriggerState, effects: [TriggerEffect])
    ) async throws -> (trigger: StoredTrigger, effects: [TriggerEffect]) {
        for _ in 0..<TriggerLifecycle.conflictsMax {
            guard let trigger = try await store.trigger(.default, named: name) else { throw API.noTrigger(name) }
            let (state, effects): (TriggerState, [TriggerEffect])
            do { (state, effects) = try decide(trigger.state) } catch { throw error.with("trigger", name) }
            if state == trigger.state { return (trigger, effects) }
            do {
                let change = StateChange(trigger: trigger.id, generation: trigger.generation, state: state, reason: nil, at: clock.now())
                return (try await store.setState(change), effects)
            } catch let error as SluiceError where error.code == .conflict {
                continue
            }
        }
        throw SluiceError(.conflict, "trigger \(name) is being changed by others: try again").with("trigger", name)
    }
}
