import FoundationEssentials
import SluiceCore
import SluiceStore
import Synchronization

/// A store whose next page commits, or records of failures, can be made to fail, or to wait.
final class FaultyStore: Store {
    private struct Faults {
        var commits: [SluiceError] = []
        var records: [SluiceError] = []
        var credentials: [SluiceError] = []
        /// Called before the credentials are replaced.
        var beforeCredentials: (@Sendable ([UInt8]) async throws -> Void)?
    }
    private let inner: any Store
    private let faults = Mutex(Faults())

    init(_ inner: any Store) { self.inner = inner }

    func failCommits(_ errors: [SluiceError], records: [SluiceError] = []) {
        faults.withLock { $0 = Faults(commits: errors, records: records) }
    }
    /// Faults that have not struck yet.
    var faultsLeft: Int { faults.withLock { $0.commits.count + $0.records.count } }

    func commitPage(_ commit: PageCommit) async throws -> PageOutcome {
        if let error = faults.withLock({ $0.commits.popLast() }) { throw error }
        return try await inner.commitPage(commit)
    }
    func recordFailure(_ failure: CycleFailure) async throws -> PageOutcome {
        if let error = faults.withLock({ $0.records.popLast() }) { throw error }
        return try await inner.recordFailure(failure)
    }

    func failCredentials(_ errors: [SluiceError]) { faults.withLock { $0.credentials = errors } }
    func beforeCredentials(_ body: (@Sendable ([UInt8]) async throws -> Void)?) { faults.withLock { $0.beforeCredentials = body } }

    func credentials(_ connection: ConnectionID) async throws -> StoredCredentials { try await inner.credentials(connection) }
    func replaceCredentials(
        _ connection: ConnectionID, version: Int64, sealed: [UInt8], at time: Timestamp
    ) async throws -> Int64? {
        let (error, before) = faults.withLock { ($0.credentials.popLast(), $0.beforeCredentials) }
        if let error { throw error }
        try await before?(sealed)
        return try await inner.replaceCredentials(connection, version: version, sealed: sealed, at: time)
    }

    // MARK: As it is

    func observe(_ observer: any StoreObserver) { inner.observe(observer) }
    func close() async { await inner.close() }
    func subscriptions(_ namespace: NamespaceID) async throws -> [StoredSubscription] { try await inner.subscriptions(namespace) }
    func addSubscription(_ new: NewSubscription, at time: Timestamp) async throws -> StoredSubscription {
        try await inner.addSubscription(new, at: time)
    }
    func recordSubscriptions(_ changes: [SubscriptionChange]) async throws { try await inner.recordSubscriptions(changes) }
    func append(_ webhook: InboxEntry) async throws -> InboxReceipt { try await inner.append(webhook) }
    func append(_ webhook: InboxEntry, then: @escaping @Sendable (Result<InboxReceipt, SluiceError>) -> Void) {
        inner.append(webhook, then: then)
    }
    func inbox(_ query: InboxQuery) async throws -> [InboxItem] { try await inner.inbox(query) }
    func inboxItem(_ namespace: NamespaceID, _ sequence: InboxSequence) async throws -> InboxItem? {
        try await inner.inboxItem(namespace, sequence)
    }
    func readInbox(_ query: InboxRead) async throws -> InboxBatch { try await inner.readInbox(query) }
    func unreadWebhooks(_ namespace: NamespaceID, countMax: Int) async throws -> [ConnectionID: Int] {
        try await inner.unreadWebhooks(namespace, countMax: countMax)
    }
    func definitions(_ namespace: NamespaceID) async throws -> Definitions { try await inner.definitions(namespace) }
    func trigger(_ id: TriggerID) async throws -> StoredTrigger? { try await inner.trigger(id) }
    func trigger(_ namespace: NamespaceID, named name: String) async throws -> StoredTrigger? {
        try await inner.trigger(namespace, named: name)
    }
    func apply(_ changes: [DefinitionChange], namespace: NamespaceID, at time: Timestamp) async throws {
        try await inner.apply(changes, namespace: namespace, at: time)
    }
    func setState(_ change: StateChange) async throws -> StoredTrigger { try await inner.setState(change) }
    func setCursor(_ trigger: TriggerID, generation: Generation, cursor: [UInt8]?, at time: Timestamp) async throws -> StoredTrigger {
        try await inner.setCursor(trigger, generation: generation, cursor: cursor, at: time)
    }
    func acquireLease(shard: Int, holder: String, at time: Timestamp) async throws -> Fence {
        try await inner.acquireLease(shard: shard, holder: holder, at: time)
    }
    func jobs(_ query: JobQuery) async throws -> JobPage { try await inner.jobs(query) }
    func quarantine(_ namespace: NamespaceID, trigger: TriggerID, limit: Int) async throws -> [QuarantinedRecord] {
        try await inner.quarantine(namespace, trigger: trigger, limit: limit)
    }
    func claimDeliveries(
        _ destination: DestinationID, limit: Int, at time: Timestamp, hiddenUntil: Timestamp
    ) async throws -> [ClaimedDelivery] {
        try await inner.claimDeliveries(destination, limit: limit, at: time, hiddenUntil: hiddenUntil)
    }
    func pendingDestinations(
        _ namespace: NamespaceID
    ) async throws -> [(destination: DestinationID, dueAt: Timestamp, pending: Int)] { try await inner.pendingDestinations(namespace) }
    func recordAttempts(_ attempts: [DeliveryAttempt]) async throws { try await inner.recordAttempts(attempts) }
    func deliveries(_ query: DeliveryQuery) async throws -> [StoredDelivery] { try await inner.deliveries(query) }
    func deadLetters(_ query: DeadLetterQuery) async throws -> DeadLetterPage { try await inner.deadLetters(query) }
    func deliveryDetail(_ namespace: NamespaceID, _ delivery: Int64, attemptsMax: Int) async throws -> DeliveryDetail? {
        try await inner.deliveryDetail(namespace, delivery, attemptsMax: attemptsMax)
    }
    func replayDeadLetters(
        _ selection: DeadLetterSelection, after: DeadLetterMark?, limit: Int, at time: Timestamp
    ) async throws -> DeadLetterBatch {
        try await inner.replayDeadLetters(selection, after: after, limit: limit, at: time)
    }
    func discardDeadLetters(
        _ selection: DeadLetterSelection, by who: String, because note: String, after: DeadLetterMark?, limit: Int, at time: Timestamp
    ) async throws -> DeadLetterBatch {
        try await inner.discardDeadLetters(selection, by: who, because: note, after: after, limit: limit, at: time)
    }
    func catchUp(limit: Int, at time: Timestamp) async throws -> CatchUpReport { try await inner.catchUp(limit: limit, at: time) }
    func createToken(name: String, hash: [UInt8], at time: Timestamp) async throws {
        try await inner.createToken(name: name, hash: hash, at: time)
    }
    func revokeToken(name: String) async throws { try await inner.revokeToken(name: name) }
    func tokens() async throws -> [StoredToken] { try await inner.tokens() }
    func prune(_ retention: RetentionPolicy, at time: Timestamp) async throws -> PruneReport { try await inner.prune(retention, at: time) }
    func fact(_ name: String) async throws -> [UInt8]? { try await inner.fact(name) }
    func setFact(_ name: String, _ value: [UInt8]) async throws { try await inner.setFact(name, value) }
}

func removeDirectory(_ path: String) throws { try FileManager.default.removeItem(atPath: path) }
