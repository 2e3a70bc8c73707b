import SluiceCore

/// Says of a digest that it was certainly never put in, or that it may have been: a Bloom filter in blocks of a cache line
/// (Putze, Sanders, Singler: "Cache-, Hash- and Space-Efficient Bloom Filters", 2007).
///
/// Ten bits a digest: of a hundred that were never put in, about two look as if they had been.
struct DigestFilter {
    private static let bitsPerDigest = 10
    private static let probes: UInt64 = 6
    private static let wordsPerBlock = 8

    /// How many digests it is made for. It takes more, and answers "maybe" more often.
    let capacity: Int
    private(set) var count = 0
    private var words: [UInt64]

    init(capacity: Int) {
        self.capacity = max(1, capacity)
        let blocks = (self.capacity * DigestFilter.bitsPerDigest + 511) / 512
        words = [UInt64](repeating: 0, count: blocks * DigestFilter.wordsPerBlock)
    }

    var byteCount: Int { words.count * 8 }

    mutating func insert(_ namespace: NamespaceID, _ head: Int64) {
        count += 1
        let (place, spread) = position(namespace, head)
        var bits = spread
        for _ in 0..<DigestFilter.probes {
            words[place + Int(bits >> 6 & 7)] |= 1 << (bits & 63)
            bits >>= 9
        }
    }

    /// False: it was never put in.
    func mayContain(_ namespace: NamespaceID, _ head: Int64) -> Bool {
        let (place, spread) = position(namespace, head)
        var bits = spread
        for _ in 0..<DigestFilter.probes {
            if words[place + Int(bits >> 6 & 7)] & 1 << (bits & 63) == 0 { return false }
            bits >>= 9
        }
        return true
    }

    /// The block, and the bits within it, nine a probe.
    private func position(_ namespace: NamespaceID, _ head: Int64) -> (Int, UInt64) {
        let key = DigestFilter.mixed(UInt64(bitPattern: head) ^ UInt64(bitPattern: namespace.rawValue) &* 0x9E37_79B9_7F4A_7C15)
        let blocks = UInt64(words.count / DigestFilter.wordsPerBlock)
        return (Int(key.multipliedFullWidth(by: blocks).high) * DigestFilter.wordsPerBlock, DigestFilter.mixed(key))
    }

    /// The end of splitmix64 (Steele, Lea, Flood, 2014): spreads what lies close together.
    private static func mixed(_ value: UInt64) -> UInt64 {
        var value = value &+ 0x9E37_79B9_7F4A_7C15
        value = (value ^ value >> 30) &* 0xBF58_476D_1CE4_E5B9
        value = (value ^ value >> 27) &* 0x94D0_49BB_1331_11EB
        return value ^ value >> 31
    }
}

/// A filter over a whole table, which is read for it a piece at a time: what was put in since it began is in it at once, what
/// was there before comes with the pieces. Until the last of them, everything may be in the table.
struct TableFilter {
    /// Where a piece ends, in the order of the table's key.
    struct Place: Hashable, Comparable {
        var namespace: NamespaceID
        var head: Int64
        var sequence: InboxSequence

        static let start = Place(namespace: NamespaceID(.min), head: .min, sequence: InboxSequence(.min))

        static func < (one: Place, other: Place) -> Bool {
            (one.namespace, one.head, one.sequence) < (other.namespace, other.head, other.sequence)
        }
    }

    static let capacityMin = 1 << 16
    /// 10 MiB. A table with more is filtered less well, and an answer never wrong.
    static let capacityMax = 1 << 23

    private var complete: DigestFilter?
    private var next: (filter: DigestFilter, after: Place)?
    /// Rows of the table that went since `complete` began: it still takes them for possible.
    private var removed = 0

    /// Where the next piece begins, after which one has to go on reading; nil: nothing is to be read.
    var reading: Place? { next?.after }

    func mayContain(_ namespace: NamespaceID, _ head: Int64) -> Bool { complete?.mayContain(namespace, head) ?? true }

    mutating func insert(_ namespace: NamespaceID, _ head: Int64) {
        complete?.insert(namespace, head)
        next?.filter.insert(namespace, head)
    }

    mutating func remove() { removed += 1 }

    /// Whether a new one should be begun: there is none, or it is too small, or half of it is gone.
    var isWorn: Bool {
        guard next == nil, let complete else { return next == nil }
        let isFull = complete.count > complete.capacity && complete.capacity < TableFilter.capacityMax
        return isFull || removed > TableFilter.capacityMin && removed > complete.count / 2
    }

    /// Begins to read the table, which has about so many rows.
    mutating func begin(rows: Int) {
        let capacity = min(max(TableFilter.capacityMin, min(rows, TableFilter.capacityMax) * 2), TableFilter.capacityMax)
        next = (DigestFilter(capacity: capacity), .start)
        removed = 0
    }

    /// What followed `reading`, in order.
    mutating func add(_ piece: [Place], isLast: Bool) {
        for place in piece { next?.filter.insert(place.namespace, place.head) }
        if let last = piece.last { next?.after = last }
        guard isLast, let next else { return }
        complete = next.filter
        self.next = nil
    }

    /// Reads from the beginning again, if it was reading: rows that were gone may be back.
    mutating func restart() { next = nil }
}
