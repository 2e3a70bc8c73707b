import SluiceCore
import SluiceStore
import Synchronization

/// A store and short ways to fill it.
struct StoreBench: Sendable {
    let suite: StoreConformance
    var store: any Store
    let start = Timestamp(seconds: 1_700_000_000)

    mutating func reopen() async throws { store = try await suite.reopen(store) }

    // MARK: Definitions

    func apply(_ changes: [DefinitionChange]) async throws { try await store.apply(changes, namespace: .default, at: start) }

    static func connection(_ name: String = "shop") -> DefinitionChange {
        .putConnection(name: name, connector: "demo", fields: bytes("{}"), sealedSecrets: [1, 0, 255], settings: bytes("{}"))
    }

    static func trigger(
        _ name: String, connection: String = "shop", type: String = "new_event", input: String = "{}", topicKeys: [String] = ["a"],
        resets: Bool = false
    ) -> DefinitionChange {
        .putTrigger(
            name: name, uid: "uid-\(name)", connection: connection, type: type, input: bytes(input), settings: bytes("{}"),
            topicKeys: topicKeys, resets: resets)
    }

    static func destination(_ name: String, kind: String = "push") -> DefinitionChange {
        .putDestination(name: name, kind: kind, settings: bytes("{}"), sealedSecrets: [])
    }

    /// A running trigger of the connection `shop`.
    func makeTrigger(_ name: String = "orders", topicKeys: [String] = ["a"]) async throws -> StoredTrigger {
        try await apply([Self.connection(), Self.trigger(name, topicKeys: topicKeys)])
        return try await set(try await trigger(name), .running)
    }

    func trigger(_ name: String = "orders") async throws -> StoredTrigger {
        try require(try await store.trigger(.default, named: name), "the trigger \(name)")
    }

    func set(_ trigger: StoredTrigger, _ state: TriggerState) async throws -> StoredTrigger {
        try await store.setState(
            StateChange(trigger: trigger.id, generation: trigger.generation, state: state, reason: nil, at: start))
    }

    func connection() async throws -> ConnectionID {
        try require(try await store.definitions(.default).connections.first { $0.name == "shop" }, "the connection").id
    }

    func destination(_ name: String) async throws -> DestinationID {
        try require(try await store.definitions(.default).destinations.first { $0.name == name }, "the destination \(name)").id
    }

    func topic(_ key: String) async throws -> StoredTopic {
        try require(try await store.definitions(.default).topics.first { $0.key == key }, "the topic \(key)")
    }

    /// Replays all that are selected, in small batches; returns how many.
    func replay(_ selection: DeadLetterSelection, limit: Int = 2, at time: Timestamp) async throws -> Int {
        var (changed, mark): (Int, DeadLetterMark?) = (0, nil)
        for _ in 0..<10_000 {
            let batch = try await store.replayDeadLetters(selection, after: mark, limit: limit, at: time)
            changed += batch.changed
            mark = batch.next
            if mark == nil { return changed }
        }
        throw ConformanceFailure(description: "a replay never came to an end")
    }

    // MARK: Webhooks and pages

    func lease() async throws -> Fence { try await store.acquireLease(shard: 0, holder: "suite", at: start) }

    func end(
        _ covered: InboxSequence = .zero, cause: PollCause = .webhook, floor: Int64? = nil, at time: Timestamp? = nil
    ) -> PageCompletion {
        let time = time ?? start
        return PageCompletion(
            cursor: StoreBench.bytes("{\"at\":1}"), cursorMark: nil, openCycle: nil,
            end: CycleEnd(
                cause: cause, startedAt: time, coveredSequence: covered, safetyDueAt: time + .hours(12), dedupFloor: floor))
    }

    func page(
        _ trigger: StoredTrigger, _ fence: Fence, cycle: Int64, page: Int = 0, chunk: Int = 0, keys: [String], mark: Int64? = nil,
        completion: PageCompletion? = nil, at time: Timestamp? = nil
    ) -> PageCommit {
        PageCommit(
            fence: fence, trigger: trigger.id, generation: trigger.generation, cycle: cycle, page: page, chunk: chunk, cause: .webhook,
            records: keys.map { StoreBench.record($0, mark: mark) }, completion: completion, at: time ?? start)
    }

    /// Commits one whole cycle; returns the number of new jobs.
    @discardableResult
    func cycle(
        _ trigger: StoredTrigger, _ fence: Fence, _ number: Int64, keys: [String], mark: Int64? = nil, floor: Int64? = nil,
        covered: InboxSequence = .zero, at time: Timestamp? = nil, file: StaticString = #fileID, line: UInt = #line
    ) async throws -> Int {
        let outcome = try await store.commitPage(
            page(trigger, fence, cycle: number, keys: keys, mark: mark, completion: end(covered, floor: floor, at: time), at: time))
        guard case .committed(let jobs, _) = outcome else {
            throw ConformanceFailure(description: "cycle \(number) was not committed: \(outcome) (\(file):\(line))")
        }
        return jobs
    }

    static func record(_ key: String, mark: Int64? = nil) -> KeyedRecord {
        KeyedRecord(record: Record(bytes: bytes("{\"id\":\"\(key)\"}")[...]), dedupKey: bytes(key), mark: mark)
    }

    func webhook(
        _ connection: ConnectionID, _ topics: [TopicID], body: String = "{}", digest: UInt8? = nil, isForced: Bool = false,
        at time: Timestamp? = nil
    ) -> InboxEntry {
        InboxEntry(
            connection: connection, receivedAt: time ?? start, body: StoreBench.bytes(body), deliveryID: digest.map { "delivery-\($0)" },
            deliveryDigest: digest.map { [UInt8](repeating: $0, count: 32) }, isForced: isForced, topics: topics)
    }

    static func bytes(_ text: String) -> [UInt8] { Array(text.utf8) }

    // MARK: Reading

    /// All jobs that a reader following tokens gets, oldest first.
    func allJobs(_ trigger: TriggerID? = nil, limit: Int = 7) async throws -> [StoredJob] {
        var jobs: [StoredJob] = []
        var after: String?
        for _ in 0..<10_000 {
            let page = try await store.jobs(JobQuery(trigger: trigger, after: after, limit: limit))
            jobs += page.jobs
            after = page.next
            if !page.more { return jobs }
        }
        throw ConformanceFailure(description: "a reader never came to the end of the jobs")
    }

    func keys(_ trigger: TriggerID? = nil) async throws -> [String] {
        try await allJobs(trigger).map { String(decoding: $0.dedupKey, as: UTF8.self) }
    }

    /// Prunes until nothing more is to be had.
    func prune(_ retention: RetentionPolicy = RetentionPolicy(rowsPerBatchMax: 100), at time: Timestamp) async throws -> PruneReport {
        var sum = PruneReport()
        for _ in 0..<1000 {
            let report = try await store.prune(retention, at: time)
            sum.webhooks += report.webhooks
            sum.jobs += report.jobs
            sum.dedupKeys += report.dedupKeys
            sum.expiredDeliveries += report.expiredDeliveries
            if !report.isPartial { return sum }
        }
        throw ConformanceFailure(description: "pruning never came to an end")
    }
}

/// Remembers what a store tells.
final class RecordingObserver: StoreObserver {
    struct Heard: Sendable {
        var signals: [[TopicSignal]] = []
        var triggers: [[TriggerID]] = []
        var deliveries = 0
        var consumers: [[DestinationID]] = []
    }
    private let heard = Mutex(Heard())
    var all: Heard { heard.withLock { $0 } }

    func signalled(_ signals: [TopicSignal]) { heard.withLock { $0.signals.append(signals) } }
    func jobsCommitted(_ triggers: [TriggerID], at time: Timestamp) { heard.withLock { $0.triggers.append(triggers) } }
    func deliveriesIntended() { heard.withLock { $0.deliveries += 1 } }
    func consumersChanged(_ consumers: [DestinationID]) { heard.withLock { $0.consumers.append(consumers) } }

    /// What was heard once it satisfies `isEnough`. Observers are told after the caller may already go on.
    func wait(_ what: String, _ isEnough: (Heard) -> Bool) async throws -> Heard {
        for _ in 0..<5000 {
            let now = all
            if isEnough(now) { return now }
            try await Task.sleep(nanoseconds: 1_000_000)
        }
        throw ConformanceFailure(description: "the store never told of \(what)")
    }
}
