/// What one destination's worker may do next. A destination that keeps failing is tried with one call at a time, and one
/// that asks for rest gets it, so that it takes nothing from the others (P12) and its jobs keep their attempts.
public struct DeliveryLane: Sendable {
    /// Calls under way.
    public private(set) var inFlight = 0
    public private(set) var breaker = CircuitBreaker()
    /// What the receiver asked for.
    private var askedUntil = Timestamp.distantPast
    /// Whether something may be there to claim.
    public internal(set) var isDue = true
    /// With fewer claimed and not begun than this, more is claimed.
    public internal(set) var lowMark = 1
    /// Attempts made and not recorded yet.
    public internal(set) var unrecorded = 0
    /// Of those, deliveries that others wait behind.
    public internal(set) var unrecordedInOrder = 0
    /// How many calls' worth a claim takes: more while all goes well.
    private var roundsPerClaim = DeliveryLane.roundsPerClaimLeast

    /// From this many failures in a row on, one call at a time.
    public static let failuresTolerated = 3
    /// A claim takes up to this many times what can be in flight: one transaction for several rounds of calls.
    public static let roundsPerClaimLeast = 4
    static let roundsPerClaimMost = 64
    /// A claim takes no more deliveries than this.
    public static let claimMax = 1000

    public enum Result: Sendable, Equatable { case delivered, failed, asksForRest(until: Timestamp) }

    public init() {}

    public var failuresInRow: Int { breaker.failuresInRow }
    public var isFailing: Bool { failuresInRow >= DeliveryLane.failuresTolerated }

    /// Nothing is carried until then: at the receiver's wish, or because the breaker is open.
    public var restsUntil: Timestamp { max(askedUntil, breaker.opensAgainAt ?? .distantPast) }

    public func callsAtOnce(max: Int) -> Int { isFailing ? 1 : Swift.max(1, max) }

    /// How many deliveries to claim now; 0: none. `perCall`: how many one call carries at most.
    public func claimLimit(callsAtOnceMax: Int, perCall: Int = 1, at now: Timestamp) -> Int {
        guard isDue, restsUntil <= now else { return 0 }
        if isFailing { return 1 }
        return min(DeliveryLane.claimMax, max(1, callsAtOnceMax) * max(1, perCall) * roundsPerClaim)
    }

    /// How long a claim is good for at least, with calls of at most so many seconds.
    public func claimSpan(timeoutSeconds: Int) -> Span {
        .seconds(Int64(timeoutSeconds) * Int64(DeliveryLane.roundsPerClaimLeast + 1) + 30)
    }

    public func mayStart(callsAtOnceMax: Int, at now: Timestamp) -> Bool {
        restsUntil <= now && inFlight < callsAtOnce(max: callsAtOnceMax)
    }

    /// Whether one of the calls under way, now at its end, may be followed by another in its place.
    public func mayGoOn(callsAtOnceMax: Int, at now: Timestamp) -> Bool {
        restsUntil <= now && inFlight <= callsAtOnce(max: callsAtOnceMax)
    }

    public mutating func noteDue() { isDue = true }

    public mutating func start() { inFlight += 1 }

    /// What a call came to, as a whole: it failed if it delivered nothing.
    public mutating func note(_ result: Result, at now: Timestamp) {
        switch result {
        case .delivered:
            breaker.noteSuccess()
            roundsPerClaim = min(roundsPerClaim + 1, DeliveryLane.roundsPerClaimMost)
            return
        case .failed: break
        case .asksForRest(let until): rest(until: until)
        }
        breaker.noteFailure(at: now)
        roundsPerClaim = DeliveryLane.roundsPerClaimLeast
    }

    /// What failed before says nothing any more.
    public mutating func forgive() {
        breaker = CircuitBreaker()
        askedUntil = .distantPast
    }

    public mutating func end() { inFlight -= 1 }

    public mutating func rest(until time: Timestamp) { askedUntil = max(askedUntil, time) }
}
