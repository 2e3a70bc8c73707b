/// What a destination's worker does next. It goes round:
///
/// ```
///  ┌▶ wants more? claim ─▶ start calls ─▶ may leave? ends
///  │                                          │ no
///  └──────── woken, or the pause is over ◀────┘
/// ```
/// The worker is woken by news, by the end of a call, when what it claimed runs low, when something that others wait behind is
/// recorded or the store has caught up, and when calls may go out again side by side. Nothing waits for a pause to end but what is
/// to be made at that time.
extension DeliveryLane {
    /// Less is claimed than the calls in flight will soon ask for. `queued`: claimed and not begun.
    public func wantsMore(queued: Int, unrecordedMax: Int) -> Bool { unrecorded < unrecordedMax && queued < lowMark }

    /// How many deliveries to claim now; 0: none. News that comes while the claim runs must not be taken for what it found, so until it
    /// ends with something nothing is due.
    public mutating func beginClaim(callsAtOnceMax: Int, perCall: Int, atMost: (Int) -> Int = { $0 }, at now: Timestamp) -> Int {
        let limit = atMost(claimLimit(callsAtOnceMax: callsAtOnceMax, perCall: perCall, at: now))
        if limit > 0 { isDue = false }
        lowMark = callsAtOnce(max: callsAtOnceMax) * perCall
        return limit
    }

    /// A claim that found nothing emptied what is due. Less than asked for says nothing: large records end a claim, too.
    public mutating func endClaim(of count: Int) { if count > 0 { isDue = true } }

    /// The store would not.
    public mutating func failClaim(at now: Timestamp) {
        isDue = true
        rest(until: now + .seconds(1))
    }

    /// So many attempts are on their way to the store.
    public mutating func noteMade(_ count: Int, inOrder: Int) {
        unrecorded += count
        unrecordedInOrder += inOrder
    }

    /// One of them is recorded, or never will be. Returns whether the worker is to be woken.
    public mutating func noteRecorded(isOrdered: Bool, unrecordedMax: Int) -> Bool {
        unrecorded -= 1
        if isOrdered {
            unrecordedInOrder -= 1
            // The next in its order may be claimed now.
            isDue = true
        }
        return isOrdered || unrecorded + 1 == unrecordedMax
    }

    /// Whether the worker may end: nothing is in hand, and nothing new is there.
    public func mayLeave(queued: Int) -> Bool { inFlight == 0 && !isDue && queued == 0 && unrecordedInOrder == 0 }

    public enum Pause: Sendable, Equatable {
        /// The next claim can be made at once.
        case none
        /// `putsBack`: what is claimed goes back to the store until the rest is over.
        case wait(atMost: Span, putsBack: Bool)
    }

    /// How long a worker that does not leave waits for a wake-up at most. `nextInRate`: when the rate allows another delivery; nil where
    /// it has none, or where something else was in the way (a slot, whose release wakes it).
    public func pause(queued: Int, nextInRate: Timestamp?, callsAtOnceMax: Int, unrecordedMax: Int, at now: Timestamp) -> Pause {
        let rest = restsUntil
        if rest > now { return .wait(atMost: min(rest - now, .seconds(30)), putsBack: queued > 0 && rest > now + .seconds(1)) }
        if queued == 0, isDue, unrecorded < unrecordedMax, mayStart(callsAtOnceMax: callsAtOnceMax, at: now) { return .none }
        // While calls are in flight as many as may be, the end of one wakes it: what the rate would allow meanwhile is no reason to look.
        let waitsForRate = queued > 0 && unrecorded < unrecordedMax && mayStart(callsAtOnceMax: callsAtOnceMax, at: now)
        let next = waitsForRate ? nextInRate : nil
        return .wait(atMost: min(.seconds(5), next.map { max($0 - now, .milliseconds(1)) } ?? .seconds(5)), putsBack: false)
    }
}
