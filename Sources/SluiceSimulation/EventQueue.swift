import SluiceCore

/// What happens next, by time and, at one moment, in the order of scheduling. A binary heap.
struct EventQueue<Kind> {
    struct Event {
        var at: Timestamp
        var order: UInt64
        var kind: Kind
    }
    private var heap: [Event] = []
    private var scheduled: UInt64 = 0

    var isEmpty: Bool { heap.isEmpty }
    var nextAt: Timestamp? { heap.first?.at }

    mutating func schedule(_ kind: Kind, at time: Timestamp) {
        scheduled += 1
        heap.append(Event(at: time, order: scheduled, kind: kind))
        var child = heap.count - 1
        while child > 0, precedes(child, (child - 1) / 2) {
            heap.swapAt(child, (child - 1) / 2)
            child = (child - 1) / 2
        }
    }

    mutating func popFirst() -> Event? {
        guard let first = heap.first else { return nil }
        let last = heap.removeLast()
        if !heap.isEmpty {
            heap[0] = last
            var parent = 0
            while true {
                var least = parent
                for child in [2 * parent + 1, 2 * parent + 2] where child < heap.count && precedes(child, least) { least = child }
                if least == parent { break }
                heap.swapAt(parent, least)
                parent = least
            }
        }
        return first
    }

    private func precedes(_ left: Int, _ right: Int) -> Bool {
        (heap[left].at.milliseconds, heap[left].order) < (heap[right].at.milliseconds, heap[right].order)
    }
}
