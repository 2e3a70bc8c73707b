/// How webhooks and the records of pages share the writer while both wait: after a transaction that held webhooks up they have
/// it for as long as that took. So a burst of webhooks is answered in time beside polls that read a million records, and takes
/// no more than half of the writer from them.
struct Turns {
    /// For how long records are still left out while webhooks wait, in microseconds.
    private(set) var owed: Int64 = 0
    /// Until when webhooks count as coming.
    private var crowdedUntil = Int64.min

    /// Records of a transaction while webhooks come: a fifth of the 1,000 that it may have otherwise halves what the slowest webhooks
    /// wait beside polls, and leaves records three fifths of their rate (decision 75).
    static let recordsWhileCrowded = 200
    /// For so long after a webhook had to wait for records, in microseconds.
    static let crowdedSpan: Int64 = 1_000_000

    /// A transaction and what the writer did behind it took so long, until `now`. `heldUp`: it had records, or the log was copied.
    /// `webhooksWait`: some came meanwhile.
    mutating func ended(after microseconds: Int64, heldUp: Bool, webhooksWait: Bool = false, at now: Int64 = 0) {
        owed = heldUp ? max(1, microseconds) : max(0, owed - microseconds)
        if heldUp, webhooksWait { crowdedUntil = now + Turns.crowdedSpan }
    }

    /// How many records the next transaction may have, of so many at most.
    func records(upTo max: Int, at now: Int64) -> Int { now < crowdedUntil ? min(max, Turns.recordsWhileCrowded) : max }

    /// Whether the next transaction, of so many webhooks, leaves records out.
    func leavesRecordsOut(webhooks: Int) -> Bool { webhooks > 0 && owed > 0 }
}
