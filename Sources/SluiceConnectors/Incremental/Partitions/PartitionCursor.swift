import SluiceCore

/// The cursors of all partitions as the trigger's one cursor:
///
/// ```
/// {"origin":{"mark":…,"value":…},"noted":0,"partitions":{"octo/hello":{"mark":…,"value":…},…},"removed":{"octo/gone":1700000000000},
///  "resting":{"octo/gone":{"mark":…,"value":…}},"below":{"octo/late":[1700000000,1690000000]}}
/// ```
/// A partition that was begun and has no position yet holds null. `removed` says since when a partition is no longer listed;
/// `resting`, where those were read to that have been gone for long: no dedup keys are held for them any more.
///
/// `below` names those that were read from below what is forgotten of the others, with that mark and the one from which their own keys are
/// known: until the first rises, the second holds. `noted`: up to this mark it is not known which partitions were.
///
/// `split` stands where the origin is how far one feed was read before the connector had partitions, and says since when; true before the
/// first list was whole. What of it belongs to a partition that is found later is known by its dedup keys, until they are let go of and
/// `split` is 0.
struct PartitionCursor: Equatable, Sendable {
    /// Where the trigger began: where partitions begin that are found later. Nil: with everything.
    var origin: [UInt8]?
    private(set) var splitSince: Int64?
    var positions: [String: [UInt8]] = [:]
    var removedSince: [String: Int64] = [:]
    var resting: [String: [UInt8]] = [:]
    private var readFromBelow: [String: Known] = [:]
    private var noted: Int64?

    /// Keys of the trigger were forgotten below `since` when a partition was read from below that; its own are known from `from` on.
    private struct Known: Equatable, Sendable {
        var since: Int64
        var from: Int64
    }

    /// So many are remembered; of more, those that have been gone longest are not.
    static let restingMax = 200

    init() {}

    /// A cursor of one feed, from before the connector had partitions, is where all of them begin.
    init(json: [UInt8]) throws(PollFailure) {
        guard let root = try? JSONDocument(json).root else { throw PartitionCursor.fault }
        guard root.kind == .object, let members = root["partitions"]?.members else {
            // None was read from further back than that list.
            noted = 0
            // It was empty so far.
            if root.kind == .object, root["value"] == nil, root["mark"] == nil, root["validator"] != nil { return }
            guard root.kind != .object || root["value"] != nil || root["mark"] != nil else { throw PartitionCursor.fault }
            (origin, splitSince) = (json, Int64.max)
            return
        }
        splitSince = root["split"].map { $0.bool == true ? Int64.max : $0.int64 ?? 0 }
        noted = root["noted"]?.int64
        origin = root["origin"].map { Array($0.bytes) }
        for (id, value) in members { positions[id] = Array(value.bytes) }
        for (id, value) in root["removed"]?.members ?? [] { removedSince[id] = value.int64 }
        for (id, value) in root["resting"]?.members ?? [] { resting[id] = Array(value.bytes) }
        for (id, value) in root["below"]?.members ?? [] {
            guard let marks = value.elements?.map(\.int64), marks.count == 2, let since = marks[0], let from = marks[1] else { continue }
            readFromBelow[id] = Known(since: since, from: from)
        }
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
            if let splitSince {
                if splitSince == Int64.max { writer.member("split", true) } else { writer.member("split", splitSince) }
            }
            if let noted { writer.member("noted", noted) }
            writer.key("partitions")
            PartitionCursor.write(positions, to: &writer)
            if !removedSince.isEmpty {
                writer.key("removed")
                writer.object { writer in for id in removedSince.keys.sorted() { writer.member(id, removedSince[id]) } }
            }
            if !resting.isEmpty {
                writer.key("resting")
                PartitionCursor.write(resting, to: &writer)
            }
            guard !readFromBelow.isEmpty else { return }
            writer.key("below")
            writer.object { writer in
                for id in readFromBelow.keys.sorted() {
                    guard let known = readFromBelow[id] else { continue }
                    writer.key(id)
                    writer.array { writer in for mark in [known.since, known.from] { writer.value(mark) } }
                }
            }
        }
        return writer.bytes
    }

    private static func write(_ positions: [String: [UInt8]], to writer: inout JSONWriter) {
        writer.object { writer in
            for id in positions.keys.sorted() {
                writer.key(id)
                writer.raw(positions[id] ?? null)
            }
        }
    }

    private static let null = Array("null".utf8)

    /// The cursor of one partition, nil before its first.
    subscript(id: String) -> [UInt8]? {
        get { positions[id].flatMap { $0 == PartitionCursor.null ? nil : $0 } }
        set { positions[id] = newValue ?? PartitionCursor.null }
    }

    /// Whether a partition was begun, so that dedup keys of its records may be kept.
    func hasBegun(_ id: String) -> Bool { positions[id] != nil }

    /// Below which mark keys of this partition are forgotten, where they are of the trigger below `mark`; nil: nowhere, or nobody knows.
    func forgottenBelow(_ id: String, of mark: Int64?) -> Int64? {
        guard let mark else { return nil }
        if let known = readFromBelow[id], mark <= known.since { return known.from }
        return noted.map { mark > $0 } ?? false ? mark : nil
    }

    /// A cycle begins: keys may have been forgotten below `floor` since the last one, and of the trigger they are below `mark`.
    mutating func noteFloor(_ floor: Int64?, forgottenBelow mark: Int64?) {
        noted = noted ?? mark ?? 0
        readFromBelow = readFromBelow.filter { $0.value.since >= mark ?? .max && hasBegun($0.key) }
        guard let floor else { return }
        readFromBelow = readFromBelow.mapValues { Known(since: $0.since, from: max($0.from, floor)) }
    }

    /// A partition was read on from `start`, nil: from the first record there is, while keys of the trigger were forgotten below `mark`.
    mutating func noteRead(_ id: String, from start: CursorValue?, _ rule: CursorRule, forgottenBelow mark: Int64?) {
        guard let mark, start?.mark ?? .min < mark, readFromBelow[id]?.since ?? .min < mark else { return }
        readFromBelow[id] = Known(since: mark, from: start.map { rule.lowerBound(from: $0).mark } ?? .min)
    }

    /// Makes room: nothing is held back for what is not known, until more is forgotten.
    mutating func forgetReads(_ mark: Int64?) {
        if !readFromBelow.isEmpty { noted = [noted, mark].compactMap(\.self).max() }
        readFromBelow = [:]
    }

    /// What people should know of a partition that begins at the origin; nil: nothing.
    func newsOfBeginning(_ id: String) -> String? {
        guard splitSince == 0, !hasBegun(id) else { return nil }
        return "partition \(id) is found after the dedup keys were forgotten of what was read before there were partitions: "
            + "some of it may come again"
    }

    /// Takes over which partitions there are now. What has been gone for longer than `keep` comes to rest; what is listed again
    /// after that goes on behind what was read, since the dedup keys may be forgotten. Returns what people should know.
    mutating func meet(_ listed: Set<String>, at now: Timestamp, keep: Span, _ rule: CursorRule?) -> [String] {
        var news: [String] = []
        if let since = splitSince, since > 0 {
            splitSince = since != Int64.max && PartitionCursor.isPast(since, now, keep) ? 0 : min(since, now.milliseconds)
        }
        for id in positions.keys.sorted() {
            guard !listed.contains(id) else {
                removedSince[id] = nil
                continue
            }
            let since = removedSince[id] ?? now.milliseconds
            removedSince[id] = since
            guard PartitionCursor.isPast(since, now, keep) else { continue }
            if rule != nil, let position = self[id] { resting[id] = position } else { removedSince[id] = nil }
            positions[id] = nil
        }
        for id in resting.keys.sorted() where listed.contains(id) {
            guard let position = resting.removeValue(forKey: id), let rule else { continue }
            removedSince[id] = nil
            let (resumed, isExact) = rule.resumed(position)
            positions[id] = resumed
            let reach =
                isExact ? "it goes on behind what was read" : "it goes on with what may have shown up late, so some of it may come again"
            news.append("partition \(id) is listed again after its dedup keys were forgotten: \(reach)")
        }
        while resting.count > PartitionCursor.restingMax { news += forgetOne() }
        return news
    }

    /// A time that no clock shows is one that has long passed.
    private static func isPast(_ since: Int64, _ now: Timestamp, _ keep: Span) -> Bool {
        let (gone, overflow) = now.milliseconds.subtractingReportingOverflow(since)
        return overflow || gone > keep.milliseconds
    }

    /// Forgets the one that has been gone longest; what people should know. Nothing if none rests.
    mutating func forgetOne() -> [String] {
        let oldest = resting.keys.min { (removedSince[$0] ?? 0, $0) < (removedSince[$1] ?? 0, $1) }
        guard let oldest else { return [] }
        (resting[oldest], removedSince[oldest]) = (nil, nil)
        return ["partition \(oldest) has been gone for long and is forgotten: if it comes back, all of it is read again"]
    }

    /// The lowest mark of all, below which no partition reads again; `Int64.min` while one has begun and has no mark, so that
    /// nothing is forgotten; nil without partitions.
    func lowestMark(_ rule: CursorRule) -> Int64? {
        var lowest: Int64?
        let known = splitSince.map { $0 > 0 } == true ? [origin].compactMap(\.self) : []
        for json in known + positions.values {
            guard let mark = (try? CursorValue(json: json, rule: rule))?.mark else { return Int64.min }
            lowest = min(lowest ?? mark, mark)
        }
        return lowest
    }
}

extension CursorRule {
    /// Where a feed goes on of which everything up to a position was read, and whose dedup keys are gone: one number further, so
    /// that nothing comes twice. Where records may show up late, or share a mark, nothing is passed over instead, and `isExact` is false.
    fileprivate func resumed(_ position: [UInt8]) -> (position: [UInt8], isExact: Bool) {
        guard kind.hasMarks else { return (position, kind == .opaque || isExclusive) }
        guard let step = exactStep, let root = try? JSONDocument(position).root, let known = try? CursorValue(json: position, rule: self)
        else { return (position, false) }
        let (mark, overflow) = known.mark.addingReportingOverflow(step)
        if overflow { return (position, false) }
        let next = value(of: mark)
        var writer = JSONWriter()
        writer.object { writer in
            writer.member("mark", next.mark)
            writer.member("value", next.text)
            for (key, value) in root.members ?? [] where !["mark", "value", "validator"].contains(key) {
                writer.key(key)
                writer.raw(value.bytes)
            }
        }
        return (writer.bytes, true)
    }
}
