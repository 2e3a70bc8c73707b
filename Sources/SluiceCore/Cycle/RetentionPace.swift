/// How much of the writer's time retention takes: little, so that webhooks and polls hardly notice, and more once it has fallen behind,
/// since a disk that fills up would stop them altogether. Pure.
public struct RetentionPace: Sendable {
    /// The part of the time in which it works, while it keeps up.
    public var shareMin: Double
    /// The same once it is `behindMax` behind.
    public var shareMax: Double
    /// From so much on it counts as behind.
    public var behindMin: Span
    public var behindMax: Span
    /// Whoever waits for the writer meanwhile waits about as long.
    public var batchMicroseconds: Int64
    /// Fewer rows a batch would cost more than they bring.
    public static let rowsPerBatchMin = 50
    public static let restMax = Span.seconds(10)

    public init(
        shareMin: Double = 0.1, shareMax: Double = 0.5, behindMin: Span = .minutes(10), behindMax: Span = .hours(2),
        batchMicroseconds: Int64 = 20_000
    ) {
        self.shareMin = min(max(shareMin, 0.01), 1)
        self.shareMax = min(max(shareMax, self.shareMin), 1)
        self.behindMin = behindMin
        self.behindMax = max(behindMax, behindMin + .milliseconds(1))
        self.batchMicroseconds = max(batchMicroseconds, 1000)
    }

    /// The part of the time that it may take. `behind`: how long the oldest of what was removed should have been gone.
    public func share(behind: Span) -> Double {
        let way = Double((behind - behindMin).milliseconds) / Double((behindMax - behindMin).milliseconds)
        return shareMin + (shareMax - shareMin) * min(max(way, 0), 1)
    }

    /// How long to rest after a batch.
    public func rest(afterMicroseconds work: Int64, behind: Span) -> Span {
        let share = share(behind: behind)
        let rest = Double(max(0, work)) / 1000 * (1 - share) / share
        return max(.milliseconds(1), min(Span(milliseconds: Int64(min(rest, 1e9).rounded(.up))), RetentionPace.restMax))
    }

    /// How many rows the next batch looks at, given what the last one took for `rows`.
    public func rows(after rows: Int, microseconds work: Int64, max most: Int) -> Int {
        var next = rows
        if work > batchMicroseconds { next = rows / 2 }
        if work < batchMicroseconds / 4 { next = rows * 2 }
        return min(max(next, min(RetentionPace.rowsPerBatchMin, most)), max(1, most))
    }
}
