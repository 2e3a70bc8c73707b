/// One stretch of a poll cycle: pages until there are no more, or until it is another trigger's turn.
///
/// ```
///   page ──more──▶ page ──more──▶ … ──no more──▶ ended
///     └─ too many pages or too long ─▶ yields, goes on later with the same open cycle
///     └─ the same place twice, no job between ─▶ fails
///     └─ 600 pages without a job and without moving the cursor ─▶ rests five minutes
/// ```
public struct CycleSlice: Sendable {
    public struct Limits: Sendable {
        public var pagesPerSliceMax: Int
        public var sliceSpanMax: Span
        public var barrenPagesMax: Int
        public var restSpan: Span
        public init(
            pagesPerSliceMax: Int = 50, sliceSpanMax: Span = .seconds(10), barrenPagesMax: Int = 600, restSpan: Span = .minutes(5)
        ) {
            self.pagesPerSliceMax = pagesPerSliceMax
            self.sliceSpanMax = sliceSpanMax
            self.barrenPagesMax = barrenPagesMax
            self.restSpan = restSpan
        }
    }

    public enum Step: Sendable, Equatable {
        case nextPage
        case yield(notBefore: Timestamp)
        /// As `yield`, and people should know.
        case rest(until: Timestamp)
        case end
    }

    /// As it stands after the pages so far; committed with each of them.
    public private(set) var cycle: OpenCycle
    /// Pages in a row without a job and without moving the cursor, over all slices.
    public private(set) var barrenPages: Int
    private let limits: Limits
    private let startedAt: Timestamp
    private var pagesInSlice = 0
    private var samePlace = 0

    public init(cycle: OpenCycle, barrenPages: Int, limits: Limits = Limits(), at now: Timestamp) {
        self.cycle = cycle
        self.barrenPages = barrenPages
        self.limits = limits
        startedAt = now
    }

    /// A page was read. Moves the open cycle past it; throws if the provider or the connector keeps handing out the same place.
    public mutating func read(pageState: [UInt8]?, more: Bool) throws(SluiceError) {
        if more, let pageState, pageState == cycle.pageState, cycle.nextPage > 0 {
            samePlace += 1
            if samePlace >= 2 {
                throw SluiceError(
                    .connector,
                    "no progress: three pages in a row end at the same place and say that there is more; "
                        + "the poll must return a new next_poll, or can_poll_more = false")
            }
        } else {
            samePlace = 0
        }
        cycle.pageState = more ? pageState : nil
        cycle.nextPage += 1
    }

    /// The page was committed: what comes next.
    public mutating func committed(jobs: Int, movedCursor: Bool, more: Bool, at now: Timestamp) -> Step {
        cycle.jobs += jobs
        barrenPages = jobs > 0 || movedCursor ? 0 : barrenPages + 1
        pagesInSlice += 1
        guard more else { return .end }
        if barrenPages >= limits.barrenPagesMax {
            barrenPages = 0
            return .rest(until: now + limits.restSpan)
        }
        if pagesInSlice >= limits.pagesPerSliceMax || now - startedAt >= limits.sliceSpanMax { return .yield(notBefore: now) }
        return .nextPage
    }
}
