/// How webhooks and the records of pages share the writer while both wait: after a transaction with records webhooks have it for as
/// long as the records took, and what they take beyond that, records have in turn. So a burst of webhooks is answered in time beside
/// polls that read a million records, and polls go on beside webhooks without end: with small ones they have half of the writer; where
/// one transaction of webhooks takes longer than one of records, each of them has records as well.
struct Turns {
    /// What the writer did from one look into the queue to the next. Times in microseconds.
    struct Turn {
        /// Writing the webhooks.
        var webhooks: Int64 = 0
        /// Everything else in the transaction: the changes and the sync.
        var changes: Int64 = 0
        /// Copying the log into the database afterwards; 0: it was not copied.
        var copy: Int64 = 0
        var hadRecords = false
        /// Records waited and were left out for the sake of webhooks.
        var leftRecordsOut = false
    }

    /// For how long records are still left out while webhooks wait, in microseconds; below 0: for how long records are due.
    private(set) var owed: Int64 = 0
    /// What the last transaction with records took for them.
    private var recordsTook: Int64 = 0
    /// Until when webhooks count as coming.
    private var crowdedUntil = Int64.min

    /// Records of a transaction while webhooks come: a fifth of the 1,000 that it may have otherwise halves what the slowest webhooks
    /// wait beside polls, and leaves records three fifths of their rate (decision 75).
    static let recordsWhileCrowded = 200
    /// For so long after a webhook had to wait for records, in microseconds. Where they come more rarely than that, one that meets a
    /// whole page is cheaper than pages in pieces for ever.
    static let crowdedSpan: Int64 = 100_000

    /// `webhooksWait`: some came meanwhile, until `now`.
    mutating func ended(_ turn: Turn, webhooksWait: Bool = false, at now: Int64 = 0) {
        if turn.hadRecords {
            recordsTook = max(1, turn.changes)
            // Where it was owed already no webhook waited, or records would have been left out.
            owed = min(owed, 0) + recordsTook + turn.copy
            if webhooksWait { crowdedUntil = now + Turns.crowdedSpan }
        } else if turn.leftRecordsOut {
            // Both wait for the log: it counts for neither.
            owed -= max(1, turn.webhooks + turn.changes)
        } else {
            owed = max(turn.copy, owed - turn.webhooks - turn.changes)
        }
    }

    /// Nobody waits: nobody is owed anything.
    mutating func rested() { owed = 0 }

    /// How many records the next transaction may have, of so many at most. Few only while webhooks have no less than their share.
    func records(upTo max: Int, at now: Int64) -> Int {
        now < crowdedUntil && owed + recordsTook > 0 ? min(max, Turns.recordsWhileCrowded) : max
    }

    /// Whether the next transaction, of so many webhooks, leaves records out.
    func leavesRecordsOut(webhooks: Int) -> Bool { webhooks > 0 && owed > 0 }
}
