import GRDB
import SluiceCore
import SluiceStore

/// The embedded store: one directory, one process, one writer.
///
/// Intentions wait in a bounded queue for the writer's thread, which makes one transaction of whatever waits; reads run on
/// GRDB's reader queues, each in a snapshot of its own. Neither touches Swift's cooperative pool.
public final class SQLiteStore: Store {
    let pool: DatabasePool
    let queue: WriteQueue
    private let writer: Writer

    init(pool: DatabasePool, queue: WriteQueue, writer: Writer) {
        self.pool = pool
        self.queue = queue
        self.writer = writer
    }

    /// A store that nobody holds any more ends as if it had been closed.
    deinit { queue.close {} }

    public func observe(_ observer: any StoreObserver) { writer.observe(observer) }

    public func close() async {
        await withCheckedContinuation { continuation in
            queue.close { continuation.resume() }
        }
    }

    /// Waits in the queue, then runs on the writer's thread in a savepoint of its own; returns after the commit.
    func write<Value: Sendable>(
        bytes: Int = 256, records: Int = 0, _ body: @escaping @Sendable (Transaction) throws -> Value
    ) async throws -> Value {
        try await withCheckedThrowingContinuation { continuation in
            if let refusal = queue.add(Change(bytes: bytes, records: records, body, continuation)) {
                continuation.resume(throwing: refusal)
            }
        }
    }

    /// One consistent read.
    func read<Value: Sendable>(_ body: @Sendable (Database) throws -> Value) async throws -> Value {
        guard queue.isOpen else { throw SluiceError.closed }
        do {
            return try await pool.read(body)
        } catch let error as CancellationError {
            throw error
        } catch {
            throw SluiceError.storage(error)
        }
    }

    // MARK: Inbox

    public func append(_ webhook: InboxEntry) async throws -> InboxReceipt {
        try await withCheckedThrowingContinuation { continuation in
            append(webhook) { continuation.resume(with: $0.mapError { $0 as any Error }) }
        }
    }

    public func append(_ webhook: InboxEntry, then: @escaping @Sendable (Result<InboxReceipt, SluiceError>) -> Void) {
        if let refusal = queue.add(WaitingAppend(entry: webhook, then: then)) { then(.failure(refusal)) }
    }

    public func inbox(_ query: InboxQuery) async throws -> [InboxItem] { try await read { try InboxRows.list($0, query) } }

    public func inboxItem(_ namespace: NamespaceID, _ sequence: InboxSequence) async throws -> InboxItem? {
        try await read { try InboxRows.item($0, namespace, sequence) }
    }

    public func readInbox(_ query: InboxRead) async throws -> InboxBatch { try await read { try InboxRows.batch($0, query) } }

    public func unreadWebhooks(_ namespace: NamespaceID, countMax: Int) async throws -> [ConnectionID: Int] {
        try await read { try InboxRows.unread($0, namespace, countMax: countMax) }
    }

    // MARK: Definitions

    public func definitions(_ namespace: NamespaceID) async throws -> Definitions {
        try await read { try DefinitionRows.all($0, namespace) }
    }

    public func trigger(_ id: TriggerID) async throws -> StoredTrigger? {
        try await read { db in try TriggerRow.fetch(db, where: "t.id = ?") { $0.bind(1, id) }.first }
    }

    public func trigger(_ namespace: NamespaceID, named name: String) async throws -> StoredTrigger? {
        try await read { db in
            try TriggerRow.fetch(db, where: "t.ns = ? AND t.name = ?") {
                $0.bind(1, namespace)
                $0.bind(2, name)
            }.first
        }
    }

    public func apply(_ changes: [DefinitionChange], namespace: NamespaceID, at time: Timestamp) async throws {
        try await write(bytes: 1024 * changes.count) { try $0.apply(changes, namespace, at: time) }
    }

    public func setState(_ change: StateChange) async throws -> StoredTrigger { try await write { try $0.setState(change) } }

    public func setCursor(
        _ trigger: TriggerID, generation: Generation, cursor: [UInt8]?, at time: Timestamp
    ) async throws -> StoredTrigger {
        try await write { try $0.setCursor(trigger, generation, cursor) }
    }

    // MARK: Subscriptions

    public func subscriptions(_ namespace: NamespaceID) async throws -> [StoredSubscription] {
        try await read { try SubscriptionRows.all($0, namespace) }
    }

    public func addSubscription(_ new: NewSubscription, at time: Timestamp) async throws -> StoredSubscription {
        try await write(bytes: 1024 + new.input.count + new.sealed.count) { try $0.addSubscription(new, at: time) }
    }

    public func recordSubscriptions(_ changes: [SubscriptionChange]) async throws {
        try await write(bytes: 1024 * changes.count) { try $0.recordSubscriptions(changes) }
    }

    // MARK: Credentials

    public func credentials(_ connection: ConnectionID) async throws -> StoredCredentials {
        try await read { try CredentialRows.credentials($0, connection) }
    }

    public func replaceCredentials(
        _ connection: ConnectionID, version: Int64, sealed: [UInt8], at time: Timestamp
    ) async throws -> Int64? {
        try await write(bytes: sealed.count + 256) { try $0.replaceCredentials(connection, version, sealed, at: time) }
    }

    // MARK: Polls

    public var recordsPerCommit: Int { queue.recordsPerCommit }

    public func acquireLease(shard: Int, holder: String, at time: Timestamp) async throws -> Fence {
        try await write { try $0.acquireLease(shard: shard, holder: holder, at: time) }
    }

    public func commitPage(_ commit: PageCommit) async throws -> PageOutcome {
        let bytes = commit.records.reduce(256) { $0 + $1.record.bytes.count + $1.dedupKey.count + 64 }
        return try await write(bytes: bytes, records: max(1, commit.records.count)) { try $0.commitPage(commit) }
    }

    public func formerJobs(_ trigger: TriggerID, _ records: [FormerLookup], jobsMax: Int) async throws -> [[UInt8]: FormerJob] {
        try await read { try FormerJobRows.fetch($0, trigger, records, jobsMax: jobsMax) }
    }

    public func recordFailure(_ failure: CycleFailure) async throws -> PageOutcome { try await write { try $0.recordFailure(failure) } }

    // MARK: What connectors were before

    public func keepConnectorText(_ text: [UInt8], hash: String, at time: Timestamp) async throws {
        try await write(bytes: text.count + 256) { try $0.keepConnectorText(text, hash, at: time) }
    }

    public func connectorText(hash: String) async throws -> [UInt8]? { try await read { try ConnectorTextRows.text($0, hash) } }

    // MARK: Jobs

    public func jobs(_ query: JobQuery) async throws -> JobPage { try await read { try JobRows.page($0, query) } }

    public func quarantine(_ namespace: NamespaceID, trigger: TriggerID, limit: Int) async throws -> [QuarantinedRecord] {
        try await read { try JobRows.quarantine($0, namespace, trigger, limit: limit) }
    }

    public func retryQuarantine(_ retry: QuarantineRetry) async throws -> QuarantineRetryReport {
        let keyed = retry.records.flatMap { $0.keyed }
        let bytes = keyed.reduce(256) { $0 + $1.record.bytes.count + $1.dedupKey.count + 64 }
        return try await write(bytes: bytes, records: max(1, keyed.count)) { try $0.retryQuarantine(retry) }
    }

    // MARK: Deliveries

    public func claimDeliveries(
        _ destination: DestinationID, limit: Int, at time: Timestamp, hiddenUntil: Timestamp
    ) async throws -> [ClaimedDelivery] {
        try await write { try $0.claim(destination, limit: limit, at: time, hiddenUntil: hiddenUntil) }
    }

    public func releaseClaims(_ namespace: NamespaceID, limit: Int, at time: Timestamp) async throws -> Int {
        try await write { try $0.releaseClaims(namespace, limit: limit, at: time) }
    }

    public func pendingDestinations(
        _ namespace: NamespaceID
    ) async throws -> [(destination: DestinationID, dueAt: Timestamp, pending: Int)] {
        try await read { try DeliveryRows.pending($0, namespace) }
    }

    public func recordAttempts(_ attempts: [DeliveryAttempt]) async throws {
        let bytes = attempts.reduce(0) { $0 + $1.response.count + 256 }
        try await write(bytes: bytes) { try $0.record(attempts) }
    }

    public func deliveries(_ query: DeliveryQuery) async throws -> [StoredDelivery] {
        try await read { try DeliveryRows.list($0, query) }
    }

    public func backlog(_ destination: DestinationID) async throws -> DeliveryBacklog {
        try await read { try BacklogRows.backlog($0, destination) }
    }

    public func blockedDeliveries(_ namespace: NamespaceID) async throws -> [BlockedDelivery] {
        try await read { try BacklogRows.blocked($0, namespace) }
    }

    // MARK: Consumers

    public func fetchJobs(_ fetch: ConsumerFetch) async throws -> ConsumerBatch {
        let selection = try await write { try $0.fetch(fetch) }
        guard let lease = selection.lease else { return selection.empty }
        do {
            return try await read { try ConsumerRows.batch($0, selection, lease, of: fetch.consumer) }
        } catch {
            // They come again at once rather than when their time runs out.
            let id = LeaseID(number: lease.number, nonce: lease.nonce)
            _ = try? await settleJobs(LeaseSettlement(consumer: fetch.consumer, lease: id, action: .giveBack, at: fetch.at))
            throw error
        }
    }

    public func settleJobs(_ settlement: LeaseSettlement) async throws -> LeaseAnswer {
        try await write(bytes: 256 + (settlement.jobs?.count ?? 0) * 64) { try $0.settle(settlement) }.get()
    }

    public func leaseJobs(_ consumer: DestinationID, _ lease: LeaseID) async throws -> [StoredJob] {
        try await read { try ConsumerRows.jobs($0, of: consumer, lease) }
    }

    public func consumers(_ namespace: NamespaceID, only consumer: DestinationID?, at time: Timestamp) async throws -> [StoredConsumer] {
        try await read { try ConsumerRows.list($0, namespace, only: consumer, at: time) }
    }

    public func seekConsumer(_ consumer: DestinationID, to target: SeekTarget, at time: Timestamp) async throws -> SeekOutcome {
        let seeking = try await write { try $0.seek(consumer, to: target, at: time) }
        return try await read { try ConsumerRows.outcome($0, seeking) }
    }

    // MARK: Tokens and upkeep

    public func createToken(name: String, hash: [UInt8], at time: Timestamp) async throws {
        try await write { try $0.createToken(name: name, hash: hash, at: time) }
    }

    public func revokeToken(name: String) async throws { try await write { try $0.revokeToken(name: name) } }

    public func tokens() async throws -> [StoredToken] { try await read { try UpkeepRows.tokens($0) } }

    public func prune(_ retention: RetentionPolicy, at time: Timestamp) async throws -> PruneReport {
        try await write { [writer] transaction in
            let begun = ContinuousClock.now
            var report = try writer.sweep.run(transaction, retention, at: time)
            report.workMicroseconds = Int64(begun.duration(to: .now) / .microseconds(1))
            return report
        }
    }

    public func fact(_ name: String) async throws -> [UInt8]? { try await read { try UpkeepRows.fact($0, name) } }

    public func setFact(_ name: String, _ value: [UInt8]) async throws {
        try await write(bytes: value.count) { try $0.setFact(name, value) }
    }
}
