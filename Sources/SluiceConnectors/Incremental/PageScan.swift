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

    /// Throws a permanent failure for times without a zone where none was declared.
    init(_ elements: [JSONView], unwrap: String?, cursor: CursorRule?) throws(PollFailure) {
        let inner = unwrap.map { JSONPath([$0]) }
        records.reserveCapacity(elements.count)
        if cursor != nil { marks.reserveCapacity(elements.count) }
        var wrapped = 0
        var unmarked = 0
        var furthestMark: (mark: Int64, index: Int)?
        var previous: Int64?
        for element in elements {
            var record = element
            if let inner {
                if let found = inner.find(in: element) { record = found } else { wrapped += 1 }
            }
            records.append(Record(bytes: record.bytes))
            guard let cursor else { continue }
            guard let mark = try PageScan.mark(record, cursor) else {
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
        if let cursor, let (mark, index) = furthestMark {
            furthest = CursorValue(mark: mark, text: cursor.field.find(in: records[index].view)?.text ?? String(mark))
        }
        if wrapped > 0, let unwrap {
            warnings.append("\(wrapped) of \(elements.count) elements hold no \(unwrap); they are taken as they are")
        }
        if unmarked > 0, let cursor {
            warnings.append(
                "\(unmarked) of \(elements.count) records have no readable \(cursor.field); they are kept and do not move the cursor")
        }
    }

    private static func mark(_ record: JSONView, _ cursor: CursorRule) throws(PollFailure) -> Int64? {
        let reading = record.bytes.withUnsafeBufferPointer { bytes -> CursorRule.Reading? in
            guard let range = cursor.field.find(in: bytes) else { return nil }
            return cursor.read(UnsafeBufferPointer(rebasing: bytes[range]))
        }
        switch reading {
        case .mark(let mark): return mark
        case .unreadable, nil: return nil
        case .zoneless:
            throw PollFailure(
                .permanent,
                SluiceError(
                    .connector,
                    "\(cursor.field) holds a time without a zone: if the provider means UTC, declare zone = \"utc\" in the connector's cursor"
                ))
        }
    }
}
