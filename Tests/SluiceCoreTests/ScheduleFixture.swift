import SluiceCore

/// A schedule on a clock that is set by hand. Polls take `pollSpan` and succeed unless told otherwise.
struct ScheduleFixture {
    var schedule = Schedule()
    var now = Timestamp(seconds: 1_800_000_000)
    var starts: [(at: Timestamp, start: Schedule.Start)] = []
    private var sequence: Int64 = 0
    private var running: [(endsAt: Timestamp, trigger: TriggerID)] = []
    var pollSpan = Span.milliseconds(200)

    static let connection = ConnectionID(1)
    static let topic = TopicID(1)
    static let trigger = TriggerID(1)

    /// One idle trigger whose last success lies a while back.
    static func idle(lag: Span = .zero, safetyInterval: Span = .hours(12)) -> ScheduleFixture {
        var fixture = ScheduleFixture()
        fixture.put(lag: lag, safetyInterval: safetyInterval)
        return fixture
    }

    mutating func put(
        _ trigger: TriggerID = Self.trigger, connection: ConnectionID = Self.connection, topics: [TopicID] = [Self.topic],
        lag: Span = .zero,
        safetyInterval: Span = .hours(12), stored: TriggerSchedule.Stored? = nil, mode: TriggerSchedule.Mode = .polls
    ) {
        let progress = stored ?? TriggerSchedule.Stored(safetyDueAt: now + safetyInterval, lastCycle: 1)
        schedule.put(
            trigger, connection: connection, topics: topics, stored: progress, mode: mode,
            timing: TriggerSchedule.Timing(visibilityLag: lag, safetyInterval: safetyInterval), at: now)
    }

    mutating func signal(_ topic: TopicID = Self.topic) {
        sequence += 1
        schedule.signal(topic, sequence: InboxSequence(sequence), receivedAt: now, at: now)
        take()
    }

    mutating func take(limit: Int = 1000) {
        for start in schedule.takeReady(limit: limit, at: now) {
            starts.append((now, start))
            running.append((now + pollSpan, start.trigger))
        }
    }

    /// Lets time pass, with polls ending and starting when they are to.
    mutating func run(for span: Span) {
        let end = now + span
        while true {
            take()
            let next = [schedule.nextWake(at: now), running.map(\.endsAt).min()].compactMap { $0 }.min()
            guard let next, next <= end else { break }
            now = max(now, next)
            for poll in running where poll.endsAt <= now { schedule.finish(poll.trigger, .succeeded, at: now) }
            running.removeAll { $0.endsAt <= now }
        }
        now = end
    }

    /// Ends what runs now in this way instead.
    mutating func finish(_ outcome: TriggerSchedule.Outcome, trigger: TriggerID = Self.trigger) {
        running.removeAll { $0.trigger == trigger }
        schedule.finish(trigger, outcome, at: now)
        take()
    }
}
