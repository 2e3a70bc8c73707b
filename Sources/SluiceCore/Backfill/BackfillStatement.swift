/// What an audit says at its end, as sentences for people. Every number stands in the counts as well.
public enum BackfillStatement {
    /// - Parameter notes: what was known to be unknowable when it began, as sentences.
    public static func text(_ window: BackfillWindow, _ mode: BackfillMode, _ counts: BackfillCounts, notes: [String] = []) -> String {
        let has = counts[.kept] + counts[.keyOnly]
        var sentences = [
            "From \(window.from) to \(window.to) the provider had \(records(counts[.provider])), Sluice has \(has) of them, "
                + "\(counts[.repaired]) repaired."
        ]
        let lacking = counts[.provider] - has
        if lacking > 0 {
            sentences.append(
                mode.repairs
                    ? "\(lacking) are lacking, which must not be: read the window again, and report it."
                    : "\(lacking) \(lacking == 1 ? "is" : "are") missing: `--repair`, or a backfill with `--mode missing-only`, "
                        + "makes jobs of them."
            )
        } else {
            sentences.append("Nothing is missing.")
        }
        if counts[.keyOnly] > 0 {
            sentences.append("\(counts[.keyOnly]) of them are known by their dedup key only: their jobs were removed after they were made.")
        }
        if counts[.extra] > 0 {
            sentences.append(
                "Sluice has \(counts[.extra]) more jobs of this time that the provider no longer lists in it: those records were changed "
                    + "later, or deleted.")
        }
        if counts[.quarantined] > 0 {
            sentences.append("\(records(counts[.quarantined])) could not be keyed and are in quarantine, outside these numbers.")
        }
        if counts[.unplaced] > 0 {
            sentences.append("\(counts[.unplaced]) of the provider's records have no readable time; they are counted, since it lists them.")
        }
        if counts[.jobsUnplaced] > 0 {
            sentences.append(
                "\(counts[.jobsUnplaced]) jobs have no readable time: whether the provider should list them in this window cannot be known."
            )
        }
        if counts[.redelivered] > 0 { sentences.append("\(counts[.redelivered]) jobs were delivered again.") }
        return (sentences + notes).joined(separator: " ")
    }

    private static func records(_ count: Int64) -> String { count == 1 ? "1 record" : "\(count) records" }
}
