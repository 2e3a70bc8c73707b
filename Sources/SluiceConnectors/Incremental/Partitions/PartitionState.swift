import SluiceCore

/// Where an open cycle over partitions stands.
///
/// ```
/// listing ──pages of the list──▶ reading ──pages of the first in the queue──▶ its end: the next ──▶ the queue is empty: the end
///                                  ├─ the provider refuses it: behind the others; left out if one of them could be read, and the end says so
///                                  └─ it fails otherwise: behind the others; once more, then the whole cycle begins anew
/// ```
struct PartitionState: Equatable, Sendable {
    enum Phase: Equatable, Sendable { case listing, reading }

    /// A partition that waits for its turn.
    struct Waiting: Equatable, Sendable {
        var partition: Partition
        /// What came of its turns in this cycle so far.
        var trouble = Trouble.none
    }

    enum Trouble: String, Sendable { case none, passing, refused }

    var phase = Phase.listing
    var queue: [Waiting] = []
    /// The page state of the list, or of the first partition in the queue.
    var inner: [UInt8]?
    /// Partitions in all, and those read to their end.
    var count: Int64 = 0
    var done: Int64 = 0
    /// Those that were left out, the first few by name, and what the provider said of the last one that it refused.
    var leftOut: [String] = []
    var leftOutCount: Int64 = 0
    var refusal: String?

    private static let leftOutMax = 10
    static let refusalCharactersMax = 300

    init() {}

    /// A state that cannot be read means that the cycle begins again.
    init(json: [UInt8]) throws(PollFailure) {
        guard let root = try? JSONDocument(json).root, let queue = root["queue"]?.elements, let count = root["count"]?.int64 else {
            throw PollFailure(.pageStateExpired, SluiceError(.connector, "the stored page state cannot be read; the cycle begins again"))
        }
        phase = root["listing"]?.bool == true ? .listing : .reading
        for element in queue {
            guard let id = element["id"]?.string else { continue }
            let fields = element["is"].map { Array($0.bytes) } ?? Array("{}".utf8)
            self.queue.append(
                Waiting(partition: Partition(id: id, fields: fields), trouble: element["trouble"]?.string.flatMap(Trouble.init) ?? .none))
        }
        inner = root["at"].map { Array($0.bytes) }
        (self.count, done) = (count, root["done"]?.int64 ?? 0)
        leftOut = root["left_out"]?["names"]?.elements?.compactMap(\.string) ?? []
        leftOutCount = root["left_out"]?["count"]?.int64 ?? 0
        refusal = root["refusal"]?.string
    }

    var json: [UInt8] {
        var writer = JSONWriter()
        writer.object { writer in
            if phase == .listing { writer.member("listing", true) }
            writer.member("count", count)
            writer.member("done", done)
            writer.key("queue")
            writer.array { writer in
                for waiting in queue {
                    writer.object { writer in
                        writer.member("id", waiting.partition.id)
                        if waiting.partition.fields.count > 2 {
                            writer.key("is")
                            writer.raw(waiting.partition.fields)
                        }
                        if waiting.trouble != .none { writer.member("trouble", waiting.trouble.rawValue) }
                    }
                }
            }
            if leftOutCount > 0 {
                writer.key("left_out")
                writer.object { writer in
                    writer.member("count", leftOutCount)
                    writer.key("names")
                    writer.array { writer in for name in leftOut { writer.value(name) } }
                }
            }
            if let refusal { writer.member("refusal", refusal) }
            if let inner {
                writer.key("at")
                writer.raw(inner)
            }
        }
        return writer.bytes
    }

    // MARK: Turns

    /// The list is whole.
    mutating func begin() {
        (phase, inner) = (.reading, nil)
        count = Int64(queue.count)
        done = 0
    }

    /// The first partition was read to its end. If it had been refused, as all had been, the others get another try: what was
    /// wrong with all of them is mended.
    mutating func finished() {
        let wasRefused = queue[0].trouble == .refused
        if done == 0, wasRefused { for index in queue.indices where queue[index].trouble == .refused { queue[index].trouble = .none } }
        done += 1
        queue.removeFirst()
        inner = nil
        skipRefused()
    }

    /// Whether one of those behind the first was not refused so far.
    var othersMayPass: Bool { queue.dropFirst().contains { $0.trouble != .refused } }

    /// The first partition failed: it waits behind the others.
    mutating func putBack(_ trouble: Trouble) {
        var waiting = queue.removeFirst()
        waiting.trouble = trouble
        queue.append(waiting)
        inner = nil
        skipRefused()
    }

    /// Where others could be read, those that were refused are done with: the cycle's end tells of them.
    private mutating func skipRefused() {
        guard done > 0 else { return }
        while let first = queue.first, first.trouble == .refused {
            if leftOut.count < Self.leftOutMax { leftOut.append(first.partition.id) }
            leftOutCount += 1
            queue.removeFirst()
        }
    }

    /// What the end of a cycle says of those that were left out; nil if all were read.
    var leftOutWarning: String? {
        guard leftOutCount > 0 else { return nil }
        let names =
            leftOut.joined(separator: ", ") + (leftOutCount > leftOut.count ? " and \(leftOutCount - Int64(leftOut.count)) more" : "")
        return
            "\(PollPage.leftOutPrefix) the provider refuses \(leftOutCount) of \(count) partitions, and what they hold is not read: \(names)"
            + (refusal.map { " (\($0))" } ?? "")
            + ". Take them off the list, or correct what the credentials may read: each cycle tries them again from where they stood"
    }
}
