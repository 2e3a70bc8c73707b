/// When a dedup key may be forgotten (P4): by position, never by age alone.
public enum DedupRetention {
    /// Without marks a key is kept for this many completed cycles after it was last returned.
    public static let cyclesKept: Int64 = 200

    /// The lowest mark that a later cycle can return again; nil where the feed has none, and the lowest there is where all may come
    /// again. Taken when a cycle has succeeded, so that an unfinished one never loses the keys it may still return.
    ///
    /// - Parameters:
    ///   - committedMark: the committed cursor in the unit of the marks; nil where the feed has none.
    ///   - lookback: how far below its mark a poll reads again, in the same unit.
    ///   - granularity: one granule of the cursor: an exclusive API is queried one granule lower.
    public static func floor(committedMark: Int64?, lookback: Int64, granularity: Int64 = 1) -> Int64? {
        guard let committedMark else { return nil }
        let (below, overflow) = committedMark.subtractingReportingOverflow(max(0, lookback) + 2 * max(1, granularity))
        return overflow ? Int64.min : below
    }

    /// Whether a key may go.
    public static func forgets(mark: Int64?, lastCycle: Int64, floor: Int64?, cyclesCompleted: Int64) -> Bool {
        if let mark {
            guard let floor else { return false }
            return mark < floor
        }
        return lastCycle + cyclesKept < cyclesCompleted
    }
}
