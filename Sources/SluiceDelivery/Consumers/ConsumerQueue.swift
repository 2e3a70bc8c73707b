/// Who of a consumer's workers asks the store now, and who waits for news.
///
/// ```
///  fetch ─▶ is there news? ─no─▶ waits in line ──news: the first in line is woken──┐
///             │ yes, and a place is free                                           │
///             ▼                                                                    ▼
///          asks the store ─ found nothing, and no news since: there is none ─▶ waits in line
///                          └ found some: the next in line is woken
/// ```
/// News wakes one worker, who wakes the next if there is more: ten thousand that wait cost a commit one wake-up. A worker
/// that asks where nothing is new does not touch the store.
struct ConsumerQueue {
    /// Workers that ask the store at once: as many as share a commit well.
    static let placesMax = 16

    /// In their order; those that left the line are passed over when their turn comes.
    private var line: [Int] = []
    private var head = 0
    private var waiting: Set<Int> = []
    private(set) var asking = 0
    /// Whether something may be there.
    private(set) var hasNews = true
    /// Raised by each news, so that news that comes while the store is asked is not taken for what it found.
    private(set) var version = 0
    /// The last answer was that too many jobs are unacked.
    private(set) var isAtBound = false

    enum Turn: Equatable {
        /// Ask the store, and say what it said with `done`.
        case ask(version: Int)
        /// There is nothing.
        case nothing
        /// Something may be there, but enough others ask already.
        case wait
    }

    mutating func turn() -> Turn {
        guard hasNews else { return .nothing }
        guard asking < ConsumerQueue.placesMax else { return .wait }
        asking += 1
        return .ask(version: version)
    }

    mutating func join(_ worker: Int) {
        line.append(worker)
        waiting.insert(worker)
    }

    /// A worker goes its way. Returns who is to be woken in its stead, if it was woken and did not use it.
    mutating func leave(_ worker: Int) -> Int? {
        if waiting.remove(worker) == nil { return next() }
        tidy()
        return nil
    }

    /// A worker that was woken asks for its turn again; one that woke by itself leaves the line before it does.
    mutating func stays(_ worker: Int) -> Int? {
        waiting.remove(worker)
        tidy()
        return nil
    }

    /// The store was asked. Returns who is to be woken.
    mutating func done(version seen: Int, more: Bool, isAtBound: Bool) -> Int? {
        asking -= 1
        self.isAtBound = isAtBound
        if !more, seen == version { hasNews = false }
        return next()
    }

    /// The store failed: nobody knows what is there.
    mutating func failed() -> Int? {
        asking -= 1
        return next()
    }

    /// Something may be there. Returns who is to be woken.
    mutating func news() -> Int? {
        version += 1
        hasNews = true
        return next()
    }

    private mutating func next() -> Int? {
        guard hasNews, asking < ConsumerQueue.placesMax else { return nil }
        while head < line.count {
            let worker = line[head]
            head += 1
            guard waiting.remove(worker) != nil else { continue }
            tidy()
            return worker
        }
        tidy()
        return nil
    }

    private mutating func tidy() {
        guard line.count > 2 * waiting.count + 64 else { return }
        line = line[head...].filter { waiting.contains($0) }
        head = 0
    }
}
