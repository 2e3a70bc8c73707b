import Logging
import SluiceCore
import Synchronization

/// The alarms that stand. Bounded: at the limit the oldest one goes, and the board says how many went. The log has a line when
/// one begins to stand and one when it is cleared, and none where one that stands is raised again.
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
        var lines = LinesInMinute()
    }

    private let clock: any TimeSource
    private let alarmsMax: Int
    private let logger: Logger?
    private let state = Mutex(State())

    public init(clock: any TimeSource, alarmsMax: Int = 1000, logger: Logger? = nil) {
        self.clock = clock
        self.alarmsMax = max(1, alarmsMax)
        self.logger = logger
    }

    public func raise(_ alarm: Alarm) {
        let now = clock.now()
        let line = state.withLock { state in
            let key = Key(kind: alarm.kind, subject: alarm.subject)
            let isNew = state.standing[key] == nil
            if isNew, state.standing.count >= alarmsMax,
                let oldest = state.standing.min(by: { $0.value.since < $1.value.since })?.key
            {
                state.standing[oldest] = nil
                state.dropped += 1
            }
            state.standing[key] = Standing(alarm: alarm, since: state.standing[key]?.since ?? now)
            return isNew ? state.lines.next(at: now) : .none
        }
        log(.warning, "alarm raised", line, alarm.kind, alarm.subject, AlarmBoard.plain(alarm.message))
    }

    public func clear(_ kind: Alarm.Kind, subject: String) {
        let now = clock.now()
        let line = state.withLock { state in
            state.standing.removeValue(forKey: Key(kind: kind, subject: subject)) == nil ? .none : state.lines.next(at: now)
        }
        log(.info, "alarm cleared", line, kind, subject, nil)
    }

    /// What it was about was removed: nothing of it stands any more.
    func forget(subject: String) {
        for kind in state.withLock({ $0.standing.keys.filter { $0.subject == subject }.map(\.kind) }) { clear(kind, subject: subject) }
    }

    /// Oldest first.
    public func standing() -> [Standing] {
        state.withLock { $0.standing.values.sorted { ($0.since, $0.alarm.subject) < ($1.since, $1.alarm.subject) } }
    }

    /// How many alarms the bound has pushed out.
    public var dropped: Int { state.withLock { $0.dropped } }

    // MARK: - The log

    private static let messageLengthMax = 500

    private func log(
        _ level: Logger.Level, _ text: Logger.Message, _ line: LinesInMinute.Line, _ kind: Alarm.Kind, _ subject: String, _ message: String?
    ) {
        guard let logger else { return }
        switch line {
        case .none: return
        case .last: logger.warning("more alarms come and go than the log takes: see `sluice status`")
        case .full:
            var metadata: Logger.Metadata = ["alarm": "\(kind.rawValue)", "subject": "\(AlarmBoard.plain(subject))"]
            if let message { metadata["message"] = "\(message)" }
            logger.log(level: level, text, metadata: metadata)
        }
    }

    /// One line, of bounded length: parts of it may be what others sent.
    private static func plain(_ text: String) -> String {
        var plain = String.UnicodeScalarView()
        for scalar in text.unicodeScalars.prefix(messageLengthMax) {
            plain.append(scalar.value < 0x20 || (0x7F...0x9F).contains(scalar.value) ? " " : scalar)
        }
        return String(plain)
    }
}

/// Bounds what alarms that come and go write into the log.
private struct LinesInMinute {
    enum Line { case full, last, none }
    static let max = 200
    private var minute: Int64 = -1
    private var count = 0

    mutating func next(at now: Timestamp) -> Line {
        if now.seconds / 60 != minute { (minute, count) = (now.seconds / 60, 0) }
        count += 1
        return count < LinesInMinute.max ? .full : count == LinesInMinute.max ? .last : .none
    }
}
