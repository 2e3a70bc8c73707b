import Synchronization

/// A bound on the bytes that all connections hold together.
final class MemoryBudget: Sendable {
    private let bytesMax: Int
    private let used = Atomic<Int>(0)

    init(bytesMax: Int) { self.bytesMax = bytesMax }

    var bytesInUse: Int { used.load(ordering: .relaxed) }

    /// False: nothing was taken, there is too little left.
    func take(_ byteCount: Int) -> Bool {
        if used.add(byteCount, ordering: .relaxed).newValue <= bytesMax { return true }
        give(byteCount)
        return false
    }

    func give(_ byteCount: Int) { used.subtract(byteCount, ordering: .relaxed) }
}
