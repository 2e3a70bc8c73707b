/// How webhooks and the records of pages share the writer while both wait: after a transaction that held webhooks up they have
/// it for as long as that took. So a burst of webhooks is answered in time beside polls that read a million records, and takes
/// no more than half of the writer from them.
struct Turns {
    /// For how long records are still left out while webhooks wait, in microseconds.
    private(set) var owed: Int64 = 0

    /// A transaction and what the writer did behind it took so long. `heldUp`: it had records, or the log was copied.
    mutating func ended(after microseconds: Int64, heldUp: Bool) {
        owed = heldUp ? max(1, microseconds) : max(0, owed - microseconds)
    }

    /// Whether the next transaction, of so many webhooks, leaves records out.
    func leavesRecordsOut(webhooks: Int) -> Bool { webhooks > 0 && owed > 0 }
}
