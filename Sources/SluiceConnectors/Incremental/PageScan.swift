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
    /// So many records without the cursor's field, and none with it, on the first page of all are a mistake of the description.
    private static let unnamedMin = 5

    /// Throws a permanent failure for times without a zone where none was declared, and nothing shows that they are exceptions.
    init(_ elements: [JSONView], unwrap: String?, cursor: CursorRule?, isFirstEver: Bool = false) throws(PollFailure) {
        let inner = unwrap.map { JSONPath([$0]) }
        records.reserveCapacity(elements.count)
        var (wrapped, unmarked) = (0, 0)
        for element in elements {
            var record = element
            if let inner {
                if let found = inner.find(in: element) { record = found } else { wrapped += 1 }
            }
            records.append(Record(bytes: record.bytes))
        }
        if let cursor, cursor.kind.hasMarks {
            var zoneless = 0
            (unmarked, zoneless) = scanMarks(cursor)
            // Records without their time are kept, some among others: what was never changed may lack it. Where none of many has the field,
            // it has another name.
            if isFirstEver, unmarked == elements.count, unmarked >= PageScan.unnamedMin,
                records.allSatisfy({ cursor.field.find(in: $0.view) == nil })
            {
                throw PollFailure(
                    .permanent,
                    SluiceError(.connector, "none of the \(elements.count) records has the field \(cursor.field): check cursor.field"))
            }
            // One such record among others is set aside from the order; a list of nothing else was described wrongly.
            if zoneless > 0, zoneless == elements.count, zoneless > 1 || isFirstEver { throw PageScan.zonelessFailure(cursor) }
        }
        if let cursor, cursor.kind == .text { unmarked = scanTexts(cursor) }
        if wrapped > 0, let unwrap {
            warnings.append("\(wrapped) of \(elements.count) elements hold no \(unwrap); they are taken as they are")
        }
        if unmarked > 0, let cursor {
            warnings.append(
                "\(unmarked) of \(elements.count) records have no readable \(cursor.field); they are kept and do not move the cursor")
        }
    }

    /// Reads the mark of each record. Gives how many have none, and of how many that is for want of a zone.
    private mutating func scanMarks(_ cursor: CursorRule) -> (unmarked: Int, zoneless: Int) {
        marks.reserveCapacity(records.count)
        var (unmarked, zoneless) = (0, 0)
        var furthestMark: (mark: Int64, index: Int)?
        var previous: Int64?
        for index in records.indices {
            let reading = PageScan.reading(records[index].bytes, cursor)
            guard case .mark(let mark) = reading else {
                unmarked += 1
                if reading == .zoneless { zoneless += 1 }
                marks.append(PageScan.unknownMark)
                continue
            }
            marks.append(mark)
            if let previous {
                if mark < previous { isAscending = false }
                if mark > previous { isDescending = false }
            }
            previous = mark
            if mark > furthestMark?.mark ?? Int64.min || furthestMark == nil { furthestMark = (mark, index) }
            lowestMark = min(lowestMark ?? mark, mark)
        }
        if let (mark, index) = furthestMark {
            furthest = CursorValue(mark: mark, text: cursor.field.find(in: records[index].view)?.text ?? String(mark))
        }
        return (unmarked, zoneless)
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

    private static func reading(_ record: ArraySlice<UInt8>, _ cursor: CursorRule) -> CursorRule.Reading {
        record.withUnsafeBufferPointer { bytes in
            guard let range = cursor.field.find(in: bytes) else { return .unreadable }
            return cursor.read(UnsafeBufferPointer(rebasing: bytes[range]))
        }
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
