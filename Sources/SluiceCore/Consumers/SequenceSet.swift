/// A set of whole numbers from 0 on, kept as runs: jobs that follow each other cost no more than one of them.
public struct SequenceSet: Sendable, Equatable {
    public struct Run: Sendable, Equatable {
        public var first: Int64
        public var last: Int64
        public init(_ first: Int64, _ last: Int64) {
            self.first = first
            self.last = last
        }
        public var count: Int { Int(last - first + 1) }
    }

    /// Ascending, apart by at least one number.
    public private(set) var runs: [Run] = []
    public private(set) var count = 0

    public init() {}
    public init(_ run: Run) { insert(run) }
    public init(_ numbers: some Sequence<Int64>) { for number in numbers { insert(number) } }

    public var isEmpty: Bool { runs.isEmpty }
    public var first: Int64? { runs.first?.first }
    public var last: Int64? { runs.last?.last }

    public func contains(_ number: Int64) -> Bool {
        let index = index(endingFrom: number)
        return index < runs.count && runs[index].first <= number
    }

    /// The first run that does not end before `number`.
    private func index(endingFrom number: Int64) -> Int {
        if let last = runs.last, last.last < number { return runs.count }
        var (low, high) = (0, runs.count)
        while low < high {
            let middle = (low + high) / 2
            if runs[middle].last < number { low = middle + 1 } else { high = middle }
        }
        return low
    }

    public mutating func insert(_ number: Int64) { insert(Run(number, number)) }

    public mutating func insert(_ run: Run) {
        guard run.first <= run.last else { return }
        // Mostly what comes is new at the end.
        if let last = runs.last, run.first > last.last {
            if run.first == last.last + 1 { runs[runs.count - 1].last = run.last } else { runs.append(run) }
            count += run.count
            return
        }
        let start = index(endingFrom: run.first == 0 ? 0 : run.first - 1)
        var (merged, end) = (run, start)
        while end < runs.count, runs[end].first <= run.last || runs[end].first - 1 == run.last {
            merged.first = min(merged.first, runs[end].first)
            merged.last = max(merged.last, runs[end].last)
            count -= runs[end].count
            end += 1
        }
        count += merged.count
        runs.replaceSubrange(start..<end, with: CollectionOfOne(merged))
    }

    public mutating func insert(_ other: SequenceSet) {
        if isEmpty { self = other } else { for run in other.runs { insert(run) } }
    }

    public mutating func remove(_ number: Int64) { remove(Run(number, number)) }

    public mutating func remove(_ run: Run) {
        let start = index(endingFrom: run.first)
        var left: [Run] = []
        var end = start
        while end < runs.count, runs[end].first <= run.last {
            let found = runs[end]
            count -= found.count
            if found.first < run.first { left.append(Run(found.first, run.first - 1)) }
            if found.last > run.last { left.append(Run(run.last + 1, found.last)) }
            end += 1
        }
        for run in left { count += run.count }
        if end > start { runs.replaceSubrange(start..<end, with: left) }
    }

    public mutating func remove(_ other: SequenceSet) {
        if other == self { self = SequenceSet() } else { for run in other.runs { remove(run) } }
    }

    public func intersection(_ other: SequenceSet) -> SequenceSet {
        if other == self { return self }
        var result = SequenceSet()
        var (left, right) = (0, 0)
        while left < runs.count, right < other.runs.count {
            let (a, b) = (runs[left], other.runs[right])
            let common = Run(max(a.first, b.first), min(a.last, b.last))
            if common.first <= common.last { result.insert(common) }
            if a.last < b.last { left += 1 } else { right += 1 }
        }
        return result
    }

    public func subtracting(_ other: SequenceSet) -> SequenceSet {
        var result = self
        result.remove(other)
        return result
    }

    /// Every number, ascending.
    public var numbers: [Int64] {
        var result: [Int64] = []
        result.reserveCapacity(count)
        for run in runs { result.append(contentsOf: run.first...run.last) }
        return result
    }
}

extension SequenceSet {
    /// Appends the number of runs, then of each the gap before it and its length less one, in LEB128.
    public func encode(into bytes: inout [UInt8]) {
        LEB128.append(Int64(runs.count), to: &bytes)
        var before: Int64 = 0
        for run in runs {
            LEB128.append(run.first - before, to: &bytes)
            LEB128.append(run.last - run.first, to: &bytes)
            before = run.last
        }
    }

    /// Reads what `encode` wrote and leaves what follows it; nil for anything else.
    public init?(decoding bytes: inout ArraySlice<UInt8>) {
        guard let runs = LEB128.read(&bytes), runs <= Int64(bytes.count) else { return nil }
        var before: Int64 = 0
        for index in 0..<runs {
            guard let gap = LEB128.read(&bytes), let length = LEB128.read(&bytes), index == 0 || gap > 0 else { return nil }
            let (first, overflows) = before.addingReportingOverflow(gap)
            let (last, alsoOverflows) = first.addingReportingOverflow(length)
            guard !overflows, !alsoOverflows else { return nil }
            insert(Run(first, last))
            before = last
        }
    }
}

/// Whole numbers from 0 on, seven bits a byte, the lowest first (DWARF 5, 7.6).
public enum LEB128 {
    public static func append(_ value: Int64, to bytes: inout [UInt8]) {
        var rest = UInt64(bitPattern: value)
        while rest >= 0x80 {
            bytes.append(UInt8(rest & 0x7F) | 0x80)
            rest >>= 7
        }
        bytes.append(UInt8(rest))
    }

    /// Nil where no number stands, or one that is too large.
    public static func read(_ bytes: inout ArraySlice<UInt8>) -> Int64? {
        var value: UInt64 = 0
        var shift: UInt64 = 0
        while let byte = bytes.popFirst() {
            guard shift < 63 else { return nil }
            value |= UInt64(byte & 0x7F) << shift
            if byte & 0x80 == 0 { return Int64(value) }
            shift += 7
        }
        return nil
    }
}
