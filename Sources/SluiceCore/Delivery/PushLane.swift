/// What one destination's worker may do next. A destination that keeps failing is asked with one request at a time, and
/// one that asks for rest gets it, so that it takes nothing from the others (P12) and its jobs keep their attempts.
public struct PushLane: Sendable {
    public private(set) var inFlight = 0
    public private(set) var failuresInRow = 0
    public private(set) var restsUntil = Timestamp.distantPast
    /// Whether something may be there to claim.
    public private(set) var isDue = true

    /// From this many failures in a row on, one request at a time.
    public static let failuresTolerated = 3
    /// A claim takes up to this many times what can be in flight: one transaction for several rounds of requests.
    public static let roundsPerClaim = 4

    public enum Result: Sendable { case delivered, failed, asksForRest(until: Timestamp) }

    public init() {}

    public func attemptsAtOnce(max: Int) -> Int { failuresInRow >= PushLane.failuresTolerated ? 1 : Swift.max(1, max) }

    /// How many deliveries to claim now; 0: none.
    public func claimLimit(atOnceMax: Int, at now: Timestamp) -> Int {
        guard isDue, restsUntil <= now else { return 0 }
        let atOnce = attemptsAtOnce(max: atOnceMax)
        return atOnce == 1 && failuresInRow > 0 ? 1 : atOnce * PushLane.roundsPerClaim
    }

    public func mayStart(atOnceMax: Int, at now: Timestamp) -> Bool {
        restsUntil <= now && inFlight < attemptsAtOnce(max: atOnceMax)
    }

    public mutating func noteDue() { isDue = true }

    /// A claim that got less than it asked for emptied what is due.
    public mutating func noteClaim(of count: Int, limit: Int) { isDue = count >= limit }

    public mutating func start() { inFlight += 1 }

    public mutating func end(_ result: Result) {
        inFlight -= 1
        switch result {
        case .delivered: failuresInRow = 0
        case .failed: failuresInRow += 1
        case .asksForRest(let until):
            failuresInRow += 1
            rest(until: until)
        }
    }

    public mutating func rest(until time: Timestamp) { restsUntil = max(restsUntil, time) }
}

/// The requests in flight over all destinations. The first of each destination is always granted; only what goes beyond
/// draws on what is shared. So any number of hanging destinations together cannot keep a healthy one waiting (P12), and
/// there are never more than `sharedMax` plus one for each destination.
public struct PushSlots: Sendable {
    public let sharedMax: Int
    public private(set) var sharedUsed = 0
    private var byDestination: [DestinationID: Int] = [:]

    public init(sharedMax: Int) { self.sharedMax = sharedMax }

    public mutating func take(_ destination: DestinationID) -> Bool {
        let taken = byDestination[destination] ?? 0
        if taken > 0 {
            guard sharedUsed < sharedMax else { return false }
            sharedUsed += 1
        }
        byDestination[destination] = taken + 1
        return true
    }

    public mutating func release(_ destination: DestinationID) {
        guard let taken = byDestination[destination] else { return }
        if taken > 1 { sharedUsed -= 1 }
        byDestination[destination] = taken > 1 ? taken - 1 : nil
    }

    public var total: Int { byDestination.values.reduce(0, +) }
}
