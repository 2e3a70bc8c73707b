import SluiceCore

/// What one page's records say, read in one pass.
struct PageScan {
    private(set) var records: [Record] = []
    private(set) var marks: [Int64] = []
    private(set) var warnings: [String] = []
    private(set) var furthest: CursorValue?
    private(set) var lowestMark: Int64?
    private(set) var isAscending = true
    private(set) var isDescending = true

    /// A record without a usable cursor field: its dedup key is never forgotten for its position.
    static let unknownMark = Int64.max

    /// Throws a permanent failure for times without a zone where none was declared, and nothing shows that they are exceptions.
    init(_ elements: [JSONView], unwrap: String?, cursor: CursorRule?, isFirstEver: Bool = false) throws(PollFailure) {
        let inner = unwrap.map { JSONPath([$0]) }
        let marked = cursor.flatMap { $0.kind.hasMarks ? $0 : nil }
        records.reserveCapacity(elements.count)
        if marked != nil { marks.reserveCapacity(elements.count) }
        var (wrapped, unmarked, zoneless) = (0, 0, 0)
        var furthestMark: (mark: Int64, index: Int)?
        var previous: Int64?
        for element in elements {
            var record = element
            if let inner {
                if let found = inner.find(in: element) { record = found } else { wrapped += 1 }
            }
            records.append(Record(bytes: record.bytes))
            guard let marked else { continue }
            guard case .mark(let mark) = PageScan.reading(record, marked, &zoneless) else {
                unmarked += 1
                marks.append(PageScan.unknownMark)
                continue
            }
            marks.append(mark)
            if let previous {
                if mark < previous { isAscending = false }
                if mark > previous { isDescending = false }
            }
            previous = mark
            if mark > furthestMark?.mark ?? Int64.min || furthestMark == nil { furthestMark = (mark, records.count - 1) }
            lowestMark = min(lowestMark ?? mark, mark)
        }
        if let marked, let (mark, index) = furthestMark {
            furthest = CursorValue(mark: mark, text: marked.field.find(in: records[index].view)?.text ?? String(mark))
        }
        // One such record among others is set aside from the order; a list of nothing else was described wrongly.
        if let marked, zoneless > 0, zoneless == elements.count, zoneless > 1 || isFirstEver { throw PageScan.zonelessFailure(marked) }
        if let cursor, cursor.kind == .text { unmarked = scanTexts(cursor) }
        if wrapped > 0, let unwrap {
            warnings.append("\(wrapped) of \(elements.count) elements hold no \(unwrap); they are taken as they are")
        }
        if unmarked > 0, let cursor {
            warnings.append(
                "\(unmarked) of \(elements.count) records have no readable \(cursor.field); they are kept and do not move the cursor")
        }
    }

    /// Text has no marks: the order is that of its bytes. Gives how many records have none.
    private mutating func scanTexts(_ cursor: CursorRule) -> Int {
        var missing = 0
        var previous: String?
        for record in records {
            guard let text = cursor.field.find(in: record.view)?.text else {
                missing += 1
                continue
            }
            let value = CursorValue(mark: 0, text: text)
            if let previous {
                let last = CursorValue(mark: 0, text: previous)
                if cursor.isBeyond(last, value) { isAscending = false }
                if cursor.isBeyond(value, last) { isDescending = false }
            }
            previous = text
            if furthest.map({ cursor.isBeyond(value, $0) }) ?? true { furthest = value }
        }
        return missing
    }

    private static func reading(_ record: JSONView, _ cursor: CursorRule, _ zoneless: inout Int) -> CursorRule.Reading {
        let reading = record.bytes.withUnsafeBufferPointer { bytes -> CursorRule.Reading in
            guard let range = cursor.field.find(in: bytes) else { return .unreadable }
            return cursor.read(UnsafeBufferPointer(rebasing: bytes[range]))
        }
        if reading == .zoneless { zoneless += 1 }
        return reading
    }

    private static func zonelessFailure(_ cursor: CursorRule) -> PollFailure {
        PollFailure(
            .permanent,
            SluiceError(
                .connector,
                "\(cursor.field) holds a time without a zone: if the provider means UTC, declare zone = \"utc\" in the connector's cursor"
            ))
    }
}
