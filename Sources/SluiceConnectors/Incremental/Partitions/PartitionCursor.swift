import SluiceCore

/// The cursors of all partitions as the trigger's one cursor:
///
/// ```
/// {"origin":{"mark":…,"value":…},"partitions":{"octo/hello":{"mark":…,"value":…},…},"removed":{"octo/gone":1700000000000}}
/// ```
/// A partition that was begun and has no position yet holds null. `removed` says since when a partition is no longer listed.
struct PartitionCursor: Equatable, Sendable {
    /// Where the trigger began: where partitions begin that are found later. Nil: with everything.
    var origin: [UInt8]?
    var positions: [String: [UInt8]] = [:]
    var removedSince: [String: Int64] = [:]

    init() {}

    /// A cursor of one feed, from before the connector had partitions, is where all of them begin.
    init(json: [UInt8]) throws(PollFailure) {
        guard let root = try? JSONDocument(json).root else { throw PartitionCursor.fault }
        guard root.kind == .object, let members = root["partitions"]?.members else {
            guard root.kind != .object || root["value"] != nil || root["mark"] != nil else { throw PartitionCursor.fault }
            origin = json
            return
        }
        origin = root["origin"].map { Array($0.bytes) }
        for (id, value) in members { positions[id] = Array(value.bytes) }
        for (id, value) in root["removed"]?.members ?? [] { removedSince[id] = value.int64 }
    }

    private static let fault = PollFailure(
        .badCursor,
        SluiceError(
            .badCursor,
            "the cursor is not one of a trigger with partitions: it should look like {\"partitions\":{\"ID\":{\"mark\":…,\"value\":…}}}; "
                + "set or reset it"))

    /// In the order of the ids, so that the same cursor is the same bytes.
    var json: [UInt8] {
        var writer = JSONWriter()
        writer.object { writer in
            if let origin {
                writer.key("origin")
                writer.raw(origin)
            }
            writer.key("partitions")
            writer.object { writer in
                for id in positions.keys.sorted() {
                    writer.key(id)
                    writer.raw(positions[id] ?? PartitionCursor.null)
                }
            }
            guard !removedSince.isEmpty else { return }
            writer.key("removed")
            writer.object { writer in for id in removedSince.keys.sorted() { writer.member(id, removedSince[id]) } }
        }
        return writer.bytes
    }

    private static let null = Array("null".utf8)

    /// The cursor of one partition, nil before its first.
    subscript(id: String) -> [UInt8]? {
        get { positions[id].flatMap { $0 == PartitionCursor.null ? nil : $0 } }
        set { positions[id] = newValue ?? PartitionCursor.null }
    }

    /// Whether a partition was begun, so that dedup keys of its records may be kept.
    func hasBegun(_ id: String) -> Bool { positions[id] != nil }

    /// Takes over which partitions there are now. What has been gone for longer than `keep` is forgotten.
    mutating func meet(_ listed: Set<String>, at now: Timestamp, keep: Span) {
        for id in positions.keys.sorted() {
            guard !listed.contains(id) else {
                removedSince[id] = nil
                continue
            }
            let since = removedSince[id] ?? now.milliseconds
            removedSince[id] = since
            guard now.milliseconds - since > keep.milliseconds else { continue }
            positions[id] = nil
            removedSince[id] = nil
        }
    }

    /// The lowest mark of all, below which no partition reads again; `Int64.min` while one has begun and has no mark, so that
    /// nothing is forgotten; nil without partitions.
    func lowestMark(_ rule: CursorRule) -> Int64? {
        var lowest: Int64?
        for json in positions.values {
            guard let mark = (try? CursorValue(json: json, rule: rule))?.mark else { return Int64.min }
            lowest = min(lowest ?? mark, mark)
        }
        return lowest
    }
}
