import GRDB
import GRDBSQLite
import SluiceCore
import SluiceStore

/// What a commit may have changed for others; told after it.
struct Effects {
    var signals: [TopicID: TopicSignal] = [:]
    var triggers: Set<TriggerID> = []
    var at = Timestamp.distantPast
    var hasDeliveries = false
    var consumers: Set<DestinationID> = []

    mutating func committed(_ trigger: TriggerID, at time: Timestamp) {
        triggers.insert(trigger)
        at = max(at, time)
    }

    mutating func signal(_ topic: TopicID, _ sequence: InboxSequence, _ time: Timestamp) {
        let before = signals[topic]
        signals[topic] = TopicSignal(topic: topic, sequence: sequence, at: max(before?.at ?? time, time))
    }
}

/// The write transaction in hand, on the writer's thread.
final class Transaction {
    let db: Database
    let digests: DigestIndex
    let consumers: ConsumerCache
    var effects = Effects()
    private var counters = [Int64?](repeating: nil, count: Counter.allCases.count)

    /// Rows of the table `counter`.
    enum Counter: Int, CaseIterable {
        case inbox, job, delivery, space

        var name: String {
            switch self {
            case .inbox: "inbox"
            case .job: "job"
            case .delivery: "delivery"
            case .space: "space"
            }
        }
    }

    init(_ db: Database, _ digests: DigestIndex, _ consumers: ConsumerCache) {
        self.db = db
        self.digests = digests
        self.consumers = consumers
    }

    func prepare(_ sql: String) throws(SluiceError) -> Prepared { try Prepared(db, sql) }
    func run(_ sql: String) throws(SluiceError) { try Prepared(db, sql).run() }
    /// False once SQLite has rolled back by itself, as it may where the disk is full.
    var isActive: Bool { sqlite3_get_autocommit(db.sqliteConnection) == 0 }

    /// A number that was never given out.
    @inline(__always)
    func allocate(_ counter: Counter) throws -> Int64 {
        let value = try (counters[counter.rawValue] ?? current(counter)) + 1
        counters[counter.rawValue] = value
        return value
    }

    /// The first of `count` numbers in a row that were never given out.
    func allocate(_ counter: Counter, _ count: Int) throws -> Int64 {
        let last = try lastNumber(counter)
        counters[counter.rawValue] = last + Int64(count)
        return last + 1
    }

    /// The last number that was given out.
    func lastNumber(_ counter: Counter) throws -> Int64 { try counters[counter.rawValue] ?? current(counter) }

    private func current(_ counter: Counter) throws -> Int64 {
        let query = try prepare("SELECT value FROM counter WHERE name = ?")
        query.bind(1, counter.name)
        guard let value = try query.first({ $0.int(0) }) else {
            throw SluiceError(.storage, "the database is damaged: it has no counter \(counter)")
        }
        return value
    }

    /// Writes the counters down: once, just before the commit.
    func saveCounters() throws {
        for counter in Counter.allCases {
            guard let value = counters[counter.rawValue] else { continue }
            let update = try prepare("UPDATE counter SET value = ? WHERE name = ?")
            update.bind(1, value)
            update.bind(2, counter.name)
            try update.run()
        }
    }

    /// Makes the body's changes, or none of them. Counters may advance all the same: a gap among them means nothing.
    func savepoint(_ body: () throws -> Void) throws {
        let before = (effects: effects, removals: digests.removals)
        try run("SAVEPOINT change")
        do {
            try body()
            try run("RELEASE change")
        } catch {
            effects = before.effects
            if digests.removals != before.removals { digests.forget() }
            consumers.forget()
            if isActive {
                try run("ROLLBACK TO change")
                try run("RELEASE change")
            }
            throw error
        }
    }
}
