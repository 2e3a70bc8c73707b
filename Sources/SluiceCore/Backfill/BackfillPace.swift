/// How fast a backfill goes: what it must leave to the live polls, to the writer and to those who get the jobs.
///
/// A piece of work (a page, or a batch of jobs) is followed by a rest at least as long as the work took, so that a backfill never
/// has more than half of anything. A live poll of the same connection goes first, for a while: one that never ends must not keep
/// a backfill from ever ending.
public struct BackfillPace: Sendable {
    /// The part of the time in which it works.
    public var shareMax: Double
    /// Jobs a second that are delivered again.
    public var redeliveriesPerSecondMax: Double
    /// How long a piece of work waits for live polls.
    public var liveWaitMax: Span
    /// How long without any progress until it is given up: what it keeps from being forgotten is not kept for ever.
    public var patience: Span
    /// The same while it is paused.
    public var pauseMax: Span

    public init(
        shareMax: Double = 0.5, redeliveriesPerSecondMax: Double = 200, liveWaitMax: Span = .seconds(5), patience: Span = .days(7),
        pauseMax: Span = .days(30)
    ) {
        self.shareMax = min(max(shareMax, 0.01), 1)
        self.redeliveriesPerSecondMax = max(redeliveriesPerSecondMax, 0.1)
        self.liveWaitMax = liveWaitMax
        self.patience = patience
        self.pauseMax = pauseMax
    }

    /// How long to rest after a piece of work.
    public func rest(after work: Span, redelivered: Int64) -> Span {
        let working = max(0, Double(work.milliseconds))
        let share = working * (1 - shareMax) / shareMax
        let replays = Double(max(0, redelivered)) / redeliveriesPerSecondMax * 1000 - working
        return Span(milliseconds: Int64(min(max(share, replays, 0), 60_000).rounded(.up)))
    }

    /// Whether the next piece of work waits, because the connection polls for news.
    public func waits(liveRunning: Int, waited: Span) -> Bool { liveRunning > 0 && waited < liveWaitMax }

    /// What a backfill may ask a second, of what its connection may.
    public func requestsPerSecond(of connection: Double?) -> Double? { connection.map { $0 * shareMax } }

    /// Whether it is time to give up.
    public func isGivenUp(_ state: BackfillState, progressAt: Timestamp, now: Timestamp) -> Bool {
        switch state {
        case .running: now - progressAt > patience
        case .paused: now - progressAt > pauseMax
        case .done, .failed, .cancelled: false
        }
    }

    /// When that will be.
    public func givenUpAt(_ state: BackfillState, progressAt: Timestamp) -> Timestamp {
        progressAt + (state == .paused ? pauseMax : patience)
    }
}
