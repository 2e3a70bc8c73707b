import SluiceCore
import SluiceStore
import Synchronization

/// A destination's worker, as others see it.
final class Lane: Sendable {
    let id: DestinationID
    let signal = WakeSignal()
    let work = Mutex(LaneWork())
    init(id: DestinationID) { self.id = id }
}

struct LaneWork {
    var rules = DeliveryLane()
    /// Whether its worker runs.
    var isWorking = false
    private var target: String?
    private var rate: DeliveryRate?
    private(set) var bucket: RateBucket?
    /// For people: what the last failure said.
    var lastError: String?
    var lastFailureAt: Timestamp?
    var lastDeliveredAt: Timestamp?
    /// Whether the log says of its breaker that it is open.
    private var isOpenInLog = false
    /// Claimed and not begun, oldest first.
    var queue = ParcelQueue()

    /// Takes over what the destination has become. Another target is not blamed for what the former did.
    mutating func adapt(to destination: CarriedDestination, at now: Timestamp) {
        if let target, target != destination.plan.target {
            rules.forgive()
            (lastError, lastFailureAt, lastDeliveredAt) = (nil, nil, nil)
        }
        target = destination.plan.target
        if rate != destination.rate {
            rate = destination.rate
            bucket = rate.map { RateBucket($0, at: now) }
        }
    }

    /// Whether this is where it leads by now.
    func leads(to other: String) -> Bool { target == nil || target == other }

    /// What the log is to say of the breaker now: that it has opened or closed, once each however often it opens again.
    mutating func breakerNews() -> BreakerNews? {
        let isOpen = rules.breaker.opensAgainAt != nil
        guard isOpen != isOpenInLog else { return nil }
        isOpenInLog = isOpen
        return isOpen ? .opened(failuresInRow: rules.failuresInRow, until: rules.restsUntil, lastError: lastError) : .closed
    }

    /// Takes what one call carries, within the rate.
    mutating func take(_ max: Int, heldUntil: Timestamp, at now: Timestamp) -> [QueuedParcel] {
        let allowed = bucket?.take(min(max, queue.count), at: now) ?? max
        let batch = queue.take(allowed, heldUntil: heldUntil)
        bucket?.giveBack(allowed - batch.count)
        return batch
    }

    /// Bounds a claim: no more than goes out in the time that it is good for.
    var bounded: @Sendable (Int) -> Int {
        guard let rate else { return { $0 } }
        return { min($0, max(1, Int(min(rate.perMillisecond * 10_000, 1_000_000)))) }
    }
}

enum BreakerNews: Equatable {
    case opened(failuresInRow: Int, until: Timestamp, lastError: String?)
    case closed
}

struct QueuedParcel: Sendable {
    var parcel: Parcel
    var claimed: ClaimedDelivery
    var hiddenUntil: Timestamp
}

/// A queue whose front is cheap to take from.
struct ParcelQueue: Sendable {
    private var entries: [QueuedParcel] = []
    private var begun = 0

    var count: Int { entries.count - begun }
    var isEmpty: Bool { count == 0 }

    mutating func append(_ more: [QueuedParcel]) {
        entries.removeFirst(begun)
        begun = 0
        entries += more
    }

    /// Takes up to so many whose claims hold until `time`; those that run out before come back by themselves.
    mutating func take(_ max: Int, heldUntil time: Timestamp) -> [QueuedParcel] {
        var taken: [QueuedParcel] = []
        while taken.count < max, begun < entries.count {
            if entries[begun].hiddenUntil >= time { taken.append(entries[begun]) }
            begun += 1
        }
        return taken
    }

    mutating func takeAll() -> [QueuedParcel] {
        defer { (entries, begun) = ([], 0) }
        return Array(entries[begun...])
    }
}
