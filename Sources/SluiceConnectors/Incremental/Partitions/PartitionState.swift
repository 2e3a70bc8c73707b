import SluiceCore

/// Where an open cycle over partitions stands.
///
/// ```
/// listing ──pages of the list──▶ reading ──pages of the first in the queue──▶ its end: the next ──▶ the queue is empty: the end
///                                  ├─ it fails for good: a warning, behind the others; skipped if one of them could be read
///                                  └─ it fails in passing: behind the others; once more, then the whole cycle begins anew
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

    /// The first partition failed: it waits behind the others.
    mutating func putBack(_ trouble: Trouble) {
        var waiting = queue.removeFirst()
        waiting.trouble = trouble
        queue.append(waiting)
        inner = nil
        skipRefused()
    }

    /// Where others could be read, those that were refused are done with: a warning was given.
    private mutating func skipRefused() {
        guard done > 0 else { return }
        while queue.first?.trouble == .refused { queue.removeFirst() }
    }
}
