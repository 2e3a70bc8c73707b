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
    /// Claimed and not begun, oldest first.
    var queue = ParcelQueue()
    /// With fewer left than this, more is claimed.
    var lowMark = 1
    /// Attempts made and not yet recorded.
    var unrecorded = 0
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
