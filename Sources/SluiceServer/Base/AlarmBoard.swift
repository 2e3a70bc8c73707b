import SluiceCore
import Synchronization

/// The alarms that stand. Bounded: at the limit the oldest one goes, and the board says how many went.
public final class AlarmBoard: AlarmReporting {
    /// An alarm with the time since which it stands.
    public struct Standing: Sendable, Equatable {
        public var alarm: Alarm
        public var since: Timestamp
    }

    private struct Key: Hashable {
        var kind: Alarm.Kind
        var subject: String
    }

    private struct State {
        var standing: [Key: Standing] = [:]
        var dropped = 0
    }

    private let clock: any TimeSource
    private let alarmsMax: Int
    private let state = Mutex(State())

    public init(clock: any TimeSource, alarmsMax: Int = 1000) {
        self.clock = clock
        self.alarmsMax = max(1, alarmsMax)
    }

    public func raise(_ alarm: Alarm) {
        let now = clock.now()
        state.withLock { state in
            let key = Key(kind: alarm.kind, subject: alarm.subject)
            if state.standing[key] == nil, state.standing.count >= alarmsMax,
                let oldest = state.standing.min(by: { $0.value.since < $1.value.since })?.key
            {
                state.standing[oldest] = nil
                state.dropped += 1
            }
            state.standing[key] = Standing(alarm: alarm, since: state.standing[key]?.since ?? now)
        }
    }

    public func clear(_ kind: Alarm.Kind, subject: String) {
        state.withLock { $0.standing[Key(kind: kind, subject: subject)] = nil }
    }

    /// Oldest first.
    public func standing() -> [Standing] {
        state.withLock { $0.standing.values.sorted { ($0.since, $0.alarm.subject) < ($1.since, $1.alarm.subject) } }
    }

    /// How many alarms the bound has pushed out.
    public var dropped: Int { state.withLock { $0.dropped } }
}
