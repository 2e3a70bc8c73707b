/// When may the next poll of a trigger start? One small state machine for each trigger: events in, a due time out.
///
/// The contract (P2, P5, P6, P7), for a trigger that polls:
/// - A signal on an idle trigger makes a poll due at once. Further polls for signals start no sooner than the throttle
///   (20 s) after the start before that was for signals. A poll always starts after the last signal: throttle with a
///   trailing edge.
/// - A cycle that succeeds covers the signals that had arrived by its read bound minus the visibility lag. As long as
///   others remain, a start is due no later than max(first arrival + lag, last start + 20 s), and starts lie at most 25 s
///   apart.
/// - A poll is due at once on start and on resume, at the latest when the safety interval has passed since the start of the
///   last success, and once after a time in which webhooks may have been missed.
/// - A failed cycle is tried again after a growing delay, and goes on where it stopped.
/// - A trigger that reads the inbox asks nobody: its starts are not held apart.
/// - A long-polling trigger polls once to connect (again after each failure, change and safety interval), and from then on a
///   held request is due whenever none is under way. Answers that bring nothing before a second has passed are spaced out.
///
/// ```
///   waiting ──begin──▶ running ──succeeded──▶ waiting (covered rises to what was noted at begin)
///                         ├──quiet──▶ waiting (a held request brought nothing, or was let go: nothing was committed)
///                         ├──yielded──▶ waiting (goes on with the same open cycle)
///                         ├──failed──▶ waiting (retryAt; the open cycle stays)
///                         └──fenced──▶ waiting (the store refused: reload)
/// ```
public struct TriggerSchedule: Sendable {
    /// What its state lets a trigger do.
    public enum Mode: Sendable, Equatable {
        case polls
        /// Failed: one probe each safety interval.
        case probes
        /// Paused, stopping, stopped, created: signals are kept, nothing is started.
        case rests
    }

    /// Where a trigger's news comes from.
    public enum Upstream: Sendable, Equatable {
        /// Requests that are answered at once: polling and hybrid triggers.
        case polls
        /// The inbox: webhook-only triggers.
        case inbox
        /// A request that the provider holds until there is news: long-polling triggers.
        case held
    }

    public struct Timing: Sendable, Equatable {
        public var visibilityLag: Span
        public var safetyInterval: Span
        /// `.safety` or, for a trigger without webhooks, `.interval`.
        public var intervalCause: PollCause
        public var upstream: Upstream
        public init(
            visibilityLag: Span = .zero, safetyInterval: Span = .hours(12), intervalCause: PollCause = .safety, upstream: Upstream = .polls
        ) {
            self.visibilityLag = visibilityLag
            self.safetyInterval = safetyInterval
            self.intervalCause = intervalCause
            self.upstream = upstream
        }

        /// How far apart starts for signals lie.
        var throttle: Span { upstream == .inbox ? .zero : TriggerSchedule.throttle }
    }

    /// What is due, when and why.
    public struct Due: Sendable, Equatable {
        public var at: Timestamp
        public var cause: PollCause
        /// Goes on with an open cycle; not a new start.
        public var isContinuation: Bool
    }

    /// How a cycle, or a slice of it, ended.
    public enum Outcome: Sendable {
        case succeeded
        /// It goes on with this open cycle, not before `notBefore`.
        case yielded(OpenCycle, notBefore: Timestamp)
        /// `openCycle`: as it was last committed; nil to begin again from the cursor. `delay`: until the next try.
        case failed(openCycle: OpenCycle?, delay: Span)
        /// The store refused the commit; what is true is in the store.
        case fenced
        /// A held request brought nothing new, or was let go before its answer.
        case quiet
    }

    public static let throttle = Span.seconds(20)
    /// A held request that brings nothing sooner than this was not held: the next one waits, twice as long each time.
    public static let holdSpanMin = Span.seconds(1)
    public static let holdPauseMax = Span.seconds(30)
    public static let startsApartMax = Span.seconds(25)

    public private(set) var timing: Timing
    public private(set) var mode: Mode
    public private(set) var covered: InboxSequence
    public private(set) var lastStartAt: Timestamp?
    public private(set) var safetyDueAt: Timestamp
    public private(set) var failures: Int
    public private(set) var retryAt: Timestamp?
    /// The cycle that runs, or that goes on next.
    public private(set) var openCycle: OpenCycle?
    public private(set) var isRunning = false
    private var lastCycle: Int64
    /// The last start that was for signals; after a restart the last start of all, which is no earlier.
    private var lastSignalStartAt: Timestamp?
    /// A poll of its own that was asked for and has not begun.
    private var urgent: PollCause?
    /// Whoever asked waits for the next slice, whatever was to delay it. It hurries one slice, not those after a failure.
    private var isHurried = false
    /// What the running cycle was asked for, to ask again should a change fence it.
    private var answers: PollCause?
    private var isChangedWhileRunning = false
    /// Fenced cycles in a row that were to answer.
    private var fencedAnswers = 0
    private static let fencedAnswersHurriedMax = 3
    private var continueAt: Timestamp?
    /// Webhooks may have been missed until then, and the poll that makes up for it is due at `catchUpAt`.
    private var missedUntil: Timestamp?
    private var catchUpAt: Timestamp?
    /// A poll has succeeded since the last failure or change, so that held requests miss nothing.
    public private(set) var isConnected = false
    /// Held requests in a row that were not held and brought nothing.
    private var unheldAnswers: Int64 = 0
    /// For triggers whose starts are not held apart: until then nothing starts, so that what fails at once does not go round.
    private var notBefore: Timestamp?

    /// What the store knows of a trigger.
    public struct Stored: Sendable {
        public var covered: InboxSequence
        public var lastStartAt: Timestamp?
        public var safetyDueAt: Timestamp?
        public var failures: Int
        public var retryAt: Timestamp?
        public var openCycle: OpenCycle?
        public var lastCycle: Int64
        public init(
            covered: InboxSequence = .zero, lastStartAt: Timestamp? = nil, safetyDueAt: Timestamp? = nil, failures: Int = 0,
            retryAt: Timestamp? = nil, openCycle: OpenCycle? = nil, lastCycle: Int64 = 0
        ) {
            self.covered = covered
            self.lastStartAt = lastStartAt
            self.safetyDueAt = safetyDueAt
            self.failures = failures
            self.retryAt = retryAt
            self.openCycle = openCycle
            self.lastCycle = lastCycle
        }
    }

    /// A trigger as the store has it. Stored times that lie too far ahead, because a clock was wrong, are clamped.
    public init(stored: Stored, mode: Mode, timing: Timing, at now: Timestamp) {
        self.timing = timing
        self.mode = mode
        covered = stored.covered
        lastStartAt = stored.lastStartAt.map { min($0, now) }
        lastSignalStartAt = lastStartAt
        // Never polled with success: due at once.
        safetyDueAt = min(stored.safetyDueAt ?? now, now + timing.safetyInterval)
        failures = stored.failures
        retryAt = stored.retryAt.map { min($0, now + Backoff.delayMax) }
        lastCycle = stored.lastCycle
        openCycle = TriggerSchedule.standing(stored.openCycle, lastCycle: stored.lastCycle)
        continueAt = openCycle == nil ? nil : now
    }

    /// An open cycle goes on only while it is the last one. The store would take the pages of one that a later cycle has
    /// overtaken for repetitions; the next cycle begins from the cursor instead.
    private static func standing(_ cycle: OpenCycle?, lastCycle: Int64) -> OpenCycle? {
        guard let cycle, cycle.number >= lastCycle else { return nil }
        return cycle
    }

    // MARK: Events

    /// Poll at once: started, resumed, or somebody asked. Overrides a retry delay.
    public mutating func pollNow(_ cause: PollCause) {
        urgent = cause
        isHurried = true
        fencedAnswers = 0
    }

    /// Webhooks may not have been accepted until `time`; the poll that makes up for it is due at `dueAt`.
    public mutating func missedWebhooks(until time: Timestamp, dueAt: Timestamp) {
        missedUntil = max(missedUntil ?? time, time)
        catchUpAt = catchUpAt ?? dueAt
    }

    /// One that has failed is tried no later than at `time`.
    public mutating func probe(at time: Timestamp) {
        if mode == .probes { safetyDueAt = min(safetyDueAt, time) }
    }

    /// The trigger's definition or state changed. What runs now will be fenced by the store.
    public mutating func change(mode: Mode, timing: Timing, stored: Stored, at now: Timestamp) {
        let before = self
        self = TriggerSchedule(stored: stored, mode: mode, timing: timing, at: now)
        (isRunning, urgent, missedUntil, catchUpAt) = (before.isRunning, before.urgent, before.missedUntil, before.catchUpAt)
        // What runs has told the store nothing before its first commit. Its number must not be given out again, or the store
        // would take the next cycle's pages for repetitions; and its start counts for the throttle.
        lastCycle = max(lastCycle, before.lastCycle)
        openCycle = TriggerSchedule.standing(openCycle, lastCycle: lastCycle)
        if let start = before.lastStartAt { lastStartAt = max(lastStartAt ?? start, start) }
        lastSignalStartAt = before.lastSignalStartAt
        notBefore = before.notBefore
        // A delay that was over before the cycle began must not come back from the store and outlive its success.
        if isRunning { (openCycle, retryAt) = (before.openCycle, nil) }
        // A failure that the store could not take still counts.
        if !isRunning, before.failures > failures, let retry = before.retryAt { (failures, retryAt) = (before.failures, retry) }
        (isHurried, answers, fencedAnswers) = (before.isHurried, before.answers, before.fencedAnswers)
        isChangedWhileRunning = isRunning
    }

    /// Starts what is due, or goes on with the open cycle. `signals` are those of the trigger's topics.
    public mutating func begin(cause: PollCause, signals: some SignalSource, at now: Timestamp) -> OpenCycle {
        precondition(!isRunning, "a trigger runs one cycle at a time")
        isRunning = true
        continueAt = nil
        retryAt = nil
        isHurried = false
        isChangedWhileRunning = false
        if let openCycle { return openCycle }
        (answers, urgent) = (urgent, nil)
        lastStartAt = now
        if cause == .webhook || cause == .catchUp { lastSignalStartAt = now }
        lastCycle += 1
        let noted = max(covered, signals.highest(arrivedBy: now - timing.visibilityLag))
        let cycle = OpenCycle(number: lastCycle, cause: cause, startedAt: now, readBound: now, notedSequence: noted)
        openCycle = cycle
        return cycle
    }

    /// The cycle that `begin` returned, or a slice of it, ended.
    public mutating func finish(_ outcome: Outcome, at now: Timestamp) {
        isRunning = false
        switch outcome {
        case .succeeded:
            (answers, fencedAnswers) = (nil, 0)
            isHurried = urgent != nil
            // A change while it ran means that the new definition has not been polled with.
            isConnected = !isChangedWhileRunning
            (unheldAnswers, notBefore) = (0, nil)
            guard let cycle = openCycle else { return }
            covered = max(covered, cycle.notedSequence)
            openCycle = nil
            failures = 0
            // Held requests find what is new; that nothing was missed is for a poll to find.
            if cycle.cause != .hold { safetyDueAt = cycle.startedAt + timing.safetyInterval }
            if let missed = missedUntil, cycle.readBound > missed + timing.visibilityLag { (missedUntil, catchUpAt) = (nil, nil) }
        case .yielded(let cycle, let notBefore):
            openCycle = cycle
            continueAt = notBefore
        case .failed(let cycle, let delay):
            isConnected = false
            openCycle = TriggerSchedule.standing(cycle, lastCycle: lastCycle)
            // What was dropped here may stand in the store still, if that could not take the failure. With its number spent,
            // a reload does not bring it back.
            if openCycle == nil { lastCycle += 1 }
            // Who asked is answered by a success only.
            urgent = urgent ?? answers
            (answers, fencedAnswers) = (nil, 0)
            failures += 1
            if mode == .probes { safetyDueAt = now + timing.safetyInterval } else { retryAt = now + delay }
        case .fenced:
            isConnected = false
            if timing.upstream != .polls { notBefore = now + TriggerSchedule.holdSpanMin }
            openCycle = nil
            askAgain()
        case .quiet:
            openCycle = nil
            urgent = urgent ?? answers
            answers = nil
            spaceHolds(at: now)
        }
    }

    private mutating func spaceHolds(at now: Timestamp) {
        guard let start = lastStartAt, now - start < TriggerSchedule.holdSpanMin else {
            (unheldAnswers, notBefore) = (0, nil)
            return
        }
        unheldAnswers = min(unheldAnswers + 1, 6)
        let pause = TriggerSchedule.holdSpanMin * (1 << (unheldAnswers - 1))
        notBefore = now + min(pause, TriggerSchedule.holdPauseMax)
    }

    /// The cycle that was to answer was fenced. By a change of the trigger, as a rule, and then whoever asked still waits.
    /// If the lease is lost, asking at once would go round for ever: then the throttle holds.
    private mutating func askAgain() {
        guard let asked = answers else { return }
        answers = nil
        fencedAnswers += 1
        if urgent == nil { urgent = asked }
        if isChangedWhileRunning, fencedAnswers <= TriggerSchedule.fencedAnswersHurriedMax { isHurried = true }
    }

    // MARK: Questions

    /// When the next poll is due and why; nil while one runs or the trigger rests.
    public func nextDue(signals: some SignalSource, at now: Timestamp) -> Due? {
        if isRunning { return nil }
        switch mode {
        case .rests: return nil
        case .probes:
            if urgent != nil, isHurried { return Due(at: now, cause: .manual, isContinuation: false) }
            // One that rests in the middle of its cycle goes on when the rest is over.
            let rest = openCycle == nil ? nil : continueAt
            return Due(at: max(safetyDueAt, rest ?? safetyDueAt), cause: .probe, isContinuation: false)
        case .polls: break
        }
        if let openCycle, let due = continuation(of: openCycle, at: now) { return due }
        if let urgent, isHurried { return Due(at: now, cause: urgent, isContinuation: false) }
        if let retryAt { return Due(at: retryAt, cause: .retry, isContinuation: false) }
        if let urgent { return Due(at: throttleEnd(at: now), cause: urgent, isContinuation: false) }
        var due = Due(at: safetyDueAt, cause: timing.intervalCause, isContinuation: false)
        if let catchUp = catchUpAt {
            let at = max(catchUp, throttleEnd(at: now))
            if at < due.at { due = Due(at: at, cause: .catchUp, isContinuation: false) }
        }
        if let first = signals.firstArrival(after: covered) {
            let at = max(signalDue(firstArrival: first, at: now), notBefore ?? .distantPast)
            if at <= due.at { due = Due(at: at, cause: .webhook, isContinuation: false) }
        }
        if timing.upstream == .held, due.at > now { return earlier(due, holdDue(at: now)) }
        return due
    }

    /// Whoever is not connected polls first: between the last answer and the next held request news may have been missed.
    private func holdDue(at now: Timestamp) -> Due {
        guard isConnected else { return Due(at: throttleEnd(at: now), cause: .catchUp, isContinuation: false) }
        return Due(at: max(now, notBefore ?? now), cause: .hold, isContinuation: false)
    }

    private func earlier(_ left: Due, _ right: Due) -> Due { right.at < left.at ? right : left }

    /// Whether there is a signal that no successful cycle has covered.
    public func isDirty(signals: some SignalSource) -> Bool { signals.firstArrival(after: covered) != nil }

    private func continuation(of cycle: OpenCycle, at now: Timestamp) -> Due? {
        if isHurried { return Due(at: now, cause: cycle.cause, isContinuation: true) }
        if let retryAt { return Due(at: retryAt, cause: .retry, isContinuation: true) }
        return Due(at: continueAt ?? now, cause: cycle.cause, isContinuation: true)
    }

    private func throttleEnd(at now: Timestamp) -> Timestamp {
        lastStartAt.map { $0 + timing.throttle } ?? now
    }

    private func signalDue(firstArrival: Timestamp, at now: Timestamp) -> Timestamp {
        guard let lastSignalStartAt else { return now }
        let throttled = lastSignalStartAt + timing.throttle
        // An idle trigger does not wait.
        if firstArrival >= throttled { return throttled }
        // Waiting a little longer can make this poll the one that covers.
        let coverable = firstArrival + timing.visibilityLag
        return coverable > throttled && coverable <= lastSignalStartAt + TriggerSchedule.startsApartMax ? coverable : throttled
    }
}

/// The signals of all topics that a trigger listens to.
public protocol SignalSource {
    func firstArrival(after covered: InboxSequence) -> Timestamp?
    func highest(arrivedBy time: Timestamp) -> InboxSequence
}

extension SignalLog: SignalSource {}

/// How long to wait after failures in a row.
public enum Backoff {
    public static let delayFirst = Span.seconds(2)
    public static let delayMax = Span.minutes(15)

    /// Doubles from 2 s to 15 min, jittered down by up to a quarter. `random` lies in 0..<1.
    public static func delay(failures: Int, random: Double) -> Span {
        let doubled = delayFirst.milliseconds << Int64(min(max(failures - 1, 0), 12))
        let capped = min(doubled, delayMax.milliseconds)
        return Span(milliseconds: capped - Int64(Double(capped) * 0.25 * random))
    }
}
