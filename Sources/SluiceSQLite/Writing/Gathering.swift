/// Whether the writer should let more webhooks gather before it begins a transaction.
///
/// Alone, a webhook is written at once. Under load the commit in flight forms the next batch; but where senders wait for
/// their answers, it forms too small a one: half of them are answered while the other half is only beginning to ask
/// again, and the machine spends itself on syncs. So while many are on their way, the writer rests for a moment, never
/// longer than half a millisecond, which costs them less than the extra sync would.
struct Gathering {
    /// Fewer senders than this at once are never waited for.
    static let sendersMin = 16
    static let microsecondsMax: UInt32 = 500
    /// After so long without a webhook nobody is expected.
    static let quietMicroseconds: Int64 = 5000

    /// How many webhooks were under way at about the same time lately: a batch and those that came while it was written.
    private(set) var senders = 0
    private var batch = 0

    /// How long to rest, in microseconds, when `waiting` webhooks have come; nil: begin now.
    /// `quiet`: for how long, before these, there was nothing to do.
    mutating func rest(waiting: Int, quiet: Int64) -> UInt32? {
        if quiet > Gathering.quietMicroseconds { self = Gathering() }
        let seen = batch + waiting
        // At once up, slowly down: one thin batch is no sign that the others have gone.
        senders = seen >= senders ? seen : senders - max(1, (senders - seen) / 4)
        guard senders >= Gathering.sendersMin, waiting * 3 < senders * 2 else { return nil }
        return Gathering.microsecondsMax
    }

    mutating func begins(batch count: Int) { batch = count }
}
