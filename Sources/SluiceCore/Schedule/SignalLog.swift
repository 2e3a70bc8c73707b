/// The signals of one topic, as far as schedules need them: which sequence had arrived by when.
///
/// Webhooks that arrive within a second share an entry, and an entry carries the time of its last webhook, so a reader
/// may believe that a signal came later than it did, never earlier. Its size is bounded.
public struct SignalLog: Sendable {
    struct Entry: Sendable {
        var openedAt: Timestamp
        var firstSequence: InboxSequence
        var arrivedAt: Timestamp
        var sequence: InboxSequence
    }
    private var entries: [Entry] = []

    static let entriesMax = 96
    static let entrySpan = Span.seconds(1)

    public init() {}

    /// The last sequence, or zero.
    public var last: InboxSequence { entries.last?.sequence ?? .zero }

    public mutating func append(_ sequence: InboxSequence, at time: Timestamp) {
        guard let lastEntry = entries.last else {
            entries.append(Entry(openedAt: time, firstSequence: sequence, arrivedAt: time, sequence: sequence))
            return
        }
        guard sequence > lastEntry.sequence else { return }
        let arrivedAt = max(time, lastEntry.arrivedAt)
        if time - lastEntry.openedAt < SignalLog.entrySpan {
            entries[entries.count - 1].arrivedAt = arrivedAt
            entries[entries.count - 1].sequence = sequence
        } else {
            entries.append(Entry(openedAt: time, firstSequence: sequence, arrivedAt: arrivedAt, sequence: sequence))
            if entries.count > SignalLog.entriesMax {
                // The oldest two become one that keeps the earlier opening and the later arrival.
                entries[1].openedAt = entries[0].openedAt
                entries[1].firstSequence = entries[0].firstSequence
                entries.remove(at: 0)
            }
        }
    }

    /// Takes over what a store knows: the last sequence and when it arrived, but not when those before it did.
    public mutating func restore(_ sequence: InboxSequence, at time: Timestamp) {
        entries = [Entry(openedAt: .distantPast, firstSequence: InboxSequence(1), arrivedAt: time, sequence: sequence)]
    }

    /// When the first signal after `covered` arrived, at the latest; where that is not known to a second, at the earliest,
    /// so that nobody waits for what came long ago. Nil if there is none.
    public func firstArrival(after covered: InboxSequence) -> Timestamp? {
        guard last > covered, let entry = entries.first(where: { $0.sequence > covered }) else { return nil }
        return entry.arrivedAt - entry.openedAt < SignalLog.entrySpan ? entry.arrivedAt : entry.openedAt
    }

    /// The first sequence that may have arrived after `time`; nil if all had arrived by then.
    public func firstSequence(arrivedAfter time: Timestamp) -> InboxSequence? {
        entries.first { $0.arrivedAt > time }?.firstSequence
    }

    /// The highest sequence of which it is certain that it had arrived by `time`.
    public func highest(arrivedBy time: Timestamp) -> InboxSequence {
        entries.last { $0.arrivedAt <= time }?.sequence ?? .zero
    }
}
