/// The calls in flight over all destinations. The first of each destination is always granted; only what goes beyond
/// draws on what is shared. So any number of hanging destinations together cannot keep a healthy one waiting (P12), and
/// there are never more than `sharedMax` plus one for each destination.
public struct DeliverySlots: Sendable {
    public let sharedMax: Int
    public private(set) var sharedUsed = 0
    private var byDestination: [DestinationID: Int] = [:]
    /// Those that were refused one since they were told of one last, in their order.
    private var refused: [DestinationID] = []

    public init(sharedMax: Int) { self.sharedMax = sharedMax }

    public mutating func take(_ destination: DestinationID) -> Bool {
        let taken = byDestination[destination] ?? 0
        if taken > 0 {
            guard sharedUsed < sharedMax else {
                if !refused.contains(destination) { refused.append(destination) }
                return false
            }
            sharedUsed += 1
        }
        byDestination[destination] = taken + 1
        refused.removeAll { $0 == destination }
        return true
    }

    /// Returns who was refused a slot that is free now: it is to ask again.
    public mutating func release(_ destination: DestinationID) -> DestinationID? {
        guard let taken = byDestination[destination] else { return nil }
        if taken > 1 { sharedUsed -= 1 }
        byDestination[destination] = taken > 1 ? taken - 1 : nil
        guard sharedUsed < sharedMax, !refused.isEmpty else { return nil }
        return refused.removeFirst()
    }

    public var total: Int { byDestination.values.reduce(0, +) }
}
