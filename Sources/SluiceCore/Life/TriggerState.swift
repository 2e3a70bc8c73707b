/// The life of a trigger.
///
/// ```
///            start                 subscribed, first poll
///  created ─────────▶ starting ─────────────────────────▶ running ◀──────────┐
///                        │  ▲                              │   │ ▲           │ a probe succeeds,
///                   stop │  └──────────── start ───────────┼───┼─┼── stopped │ or resume
///                        ▼                          pause  ▼   │ │ resume    │
///                     stopping ◀──── stop ─────────────  paused┘ └──────── failed      (start: back to starting)
///                        │ unsubscribed, or given up
///                        ▼
///                     stopped
/// ```
/// Webhooks are accepted and marked in every state but created and stopped; polls run in starting and running, and as
/// probes in failed. Every change of state raises the generation, so that work begun before it cannot commit after it.
public enum TriggerState: String, Sendable, Codable, CaseIterable {
    case created, starting, running, paused, failed, stopping, stopped

    /// Whether cycles may be started, apart from the probes of a failed trigger.
    public var polls: Bool { self == .starting || self == .running }
    /// Whether signals on its topics are kept for it.
    public var listens: Bool { self != .created && self != .stopped }
    /// Whether a dynamic subscription is kept for it.
    public var subscribes: Bool { listens && self != .stopping }
}

/// What people ask for.
public enum TriggerCommand: String, Sendable, CaseIterable { case start, pause, resume, poll, stop }

/// What the server reports.
public enum TriggerEvent: Sendable, Equatable {
    /// Subscribed, or nothing to subscribe to, or the first attempt failed: it polls meanwhile, and others follow.
    case subscribed
    /// A cycle failed in a way that asking again soon will not mend.
    case failedForGood(reason: String)
    /// A probe of a failed trigger succeeded.
    case recovered
    /// Unsubscribed, nothing to unsubscribe from, or given up visibly.
    case unsubscribed
}

/// What follows from a change of state.
public enum TriggerEffect: Sendable, Equatable {
    case subscribe
    case unsubscribe
    /// Poll at once, with this cause.
    case poll(PollCause)
}

extension TriggerState {
    /// The state after a command and what to do, or an error that says which commands this state takes.
    /// A command that is fulfilled already changes nothing.
    public func after(_ command: TriggerCommand) throws(SluiceError) -> (state: TriggerState, effects: [TriggerEffect]) {
        switch (self, command) {
        // Stopping only unsubscribes, which goes on beside whatever is subscribed anew.
        case (.created, .start), (.stopped, .start), (.stopping, .start): return (.starting, [.subscribe, .poll(.start)])
        case (.starting, .start), (.running, .start): return (self, [])
        case (.starting, .pause), (.running, .pause), (.failed, .pause): return (.paused, [])
        case (.paused, .pause): return (self, [])
        case (.paused, .resume), (.failed, .resume), (.paused, .start), (.failed, .start): return (.running, [.poll(.resume)])
        case (.running, .resume), (.starting, .resume): return (self, [])
        case (.starting, .poll), (.running, .poll), (.failed, .poll): return (self, [.poll(.manual)])
        case (.created, .stop): return (.stopped, [])
        case (.starting, .stop), (.running, .stop), (.paused, .stop), (.failed, .stop): return (.stopping, [.unsubscribe])
        case (.stopping, .stop), (.stopped, .stop): return (self, [])
        case (.created, .pause), (.created, .resume), (.created, .poll): throw refusal(of: command, instead: "start it first")
        case (.paused, .poll): throw refusal(of: command, instead: "resume it first; resuming polls at once")
        case (.stopping, _): throw refusal(of: command, instead: "start it again")
        case (.stopped, .pause), (.stopped, .resume), (.stopped, .poll): throw refusal(of: command, instead: "start it again")
        }
    }

    /// The state after something happened; unchanged where the event no longer matters.
    public func after(_ event: TriggerEvent) -> TriggerState {
        switch (self, event) {
        case (.starting, .subscribed): .running
        case (.starting, .failedForGood), (.running, .failedForGood): .failed
        case (.failed, .recovered): .running
        case (.stopping, .unsubscribed): .stopped
        default: self
        }
    }

    private func refusal(of command: TriggerCommand, instead: String) -> SluiceError {
        SluiceError(.conflict, "a \(rawValue) trigger takes no \(command.rawValue): \(instead)")
    }
}
