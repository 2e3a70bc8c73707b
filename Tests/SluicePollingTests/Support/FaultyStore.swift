import FoundationEssentials
import SluiceCore
import SluiceStore
import Synchronization

/// A store whose next page commits, or records of failures, can be made to fail, or to wait.
final class FaultyStore: Store {
    private struct Faults {
        /// The next one last; nil: that commit is made.
        var commits: [SluiceError?] = []
        /// How many records each of the next commits may have, the next one last.
        var sizes: [Int] = []
        /// How many the commits that were made had.
        var committed: [Int] = []
        var records: [SluiceError] = []
        var waits: [Span] = []
        var credentials: [SluiceError] = []
        var callbacks: [SluiceError] = []
        /// Called before the credentials are replaced.
        var beforeCredentials: (@Sendable ([UInt8]) async throws -> Void)?
        var backfills: (@Sendable (BackfillCommit) -> BackfillFault?)?
        /// Called before a backfill's commit is made.
        var beforeBackfill: (@Sendable (BackfillCommit) async throws -> Void)?
        /// Called between the reading of a trigger and its return.
        var afterTrigger: (@Sendable (StoredTrigger?) async throws -> Void)?
    }

    /// What becomes of a backfill's commit: it is not made, or it is and nobody hears of it.
    enum BackfillFault { case notMade, notHeardOf }
    private let inner: any Store
    private let faults = Mutex(Faults())

    init(_ inner: any Store) { self.inner = inner }

    func failCommits(_ errors: [SluiceError?], records: [SluiceError] = []) {
        faults.withLock { $0 = Faults(commits: errors, records: records) }
    }
    /// What fails, and how many records each commit may have, both from the next one on.
    func failCommits(_ errors: [SluiceError?], sizes: [Int]) {
        faults.withLock { $0 = Faults(commits: errors.reversed(), sizes: sizes.reversed()) }
    }
    /// How many records each commit had that was made since.
    var committedSizes: [Int] { faults.withLock { $0.committed } }
    /// Faults that have not struck yet.
    var faultsLeft: Int { faults.withLock { $0.commits.count + $0.records.count } }

    var recordsPerCommit: Int { faults.withLock { $0.sizes.popLast() } ?? inner.recordsPerCommit }
    func commitPage(_ commit: PageCommit) async throws -> PageOutcome {
        if let error = faults.withLock({ $0.commits.popLast() ?? nil }) { throw error }
        let outcome = try await inner.commitPage(commit)
        faults.withLock { $0.committed.append(commit.records.count) }
        return outcome
    }
    func formerJobs(_ trigger: TriggerID, _ records: [FormerLookup], jobsMax: Int) async throws -> [[UInt8]: FormerJob] {
        try await inner.formerJobs(trigger, records, jobsMax: jobsMax)
    }
    func recordFailure(_ failure: CycleFailure) async throws -> PageOutcome {
        faults.withLock { $0.waits.append(failure.retryAt - failure.at) }
        if let error = faults.withLock({ $0.records.popLast() }) { throw error }
        return try await inner.recordFailure(failure)
    }

    /// How long each failed poll let the next one wait.
    var waits: [Span] { faults.withLock { $0.waits } }

    func failCallbacks(_ errors: [SluiceError]) { faults.withLock { $0.callbacks = errors } }
    var callbackFaultsLeft: Int { faults.withLock { $0.callbacks.count } }
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

    func faultBackfills(_ body: (@Sendable (BackfillCommit) -> BackfillFault?)?) { faults.withLock { $0.backfills = body } }

    func beforeBackfill(_ body: (@Sendable (BackfillCommit) async throws -> Void)?) { faults.withLock { $0.beforeBackfill = body } }

    func commitBackfill(_ commit: BackfillCommit) async throws -> BackfillOutcome {
        try await faults.withLock { $0.beforeBackfill }?(commit)
        let fault = faults.withLock { $0.backfills }?(commit)
        let lost = SluiceError(.storage, "the test pulled the plug")
        if fault == .notMade { throw lost }
        let outcome = try await inner.commitBackfill(commit)
        if fault == .notHeardOf { throw lost }
        return outcome
    }

    func afterTrigger(_ body: (@Sendable (StoredTrigger?) async throws -> Void)?) { faults.withLock { $0.afterTrigger = body } }

    // MARK: As it is

    func startBackfill(_ new: NewBackfill, at time: Timestamp) async throws -> StoredBackfill {
        try await inner.startBackfill(new, at: time)
    }
    func backfills(_ query: BackfillQuery) async throws -> [StoredBackfill] { try await inner.backfills(query) }
    func backfill(_ namespace: NamespaceID, _ id: BackfillID) async throws -> StoredBackfill? {
        try await inner.backfill(namespace, id)
    }
    func commandBackfill(
        _ namespace: NamespaceID, _ id: BackfillID, _ command: BackfillCommand, at time: Timestamp
    ) async throws -> StoredBackfill { try await inner.commandBackfill(namespace, id, command, at: time) }
    func recordBackfillFailure(_ failure: BackfillFailure) async throws { try await inner.recordBackfillFailure(failure) }
    func backfillDifferences(_ query: BackfillDifferenceQuery) async throws -> [BackfillDifference] {
        try await inner.backfillDifferences(query)
    }
    func removedJobs(_ trigger: TriggerID) async throws -> (through: JobPosition, madeAt: Timestamp)? {
        try await inner.removedJobs(trigger)
    }
    func keepConnectorText(_ text: [UInt8], hash: String, at time: Timestamp) async throws {
        try await inner.keepConnectorText(text, hash: hash, at: time)
    }
    func connectorText(hash: String) async throws -> [UInt8]? { try await inner.connectorText(hash: hash) }

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
    func trigger(_ id: TriggerID) async throws -> StoredTrigger? {
        let found = try await inner.trigger(id)
        try await faults.withLock { $0.afterTrigger }?(found)
        return found
    }
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
    func retryQuarantine(_ retry: QuarantineRetry) async throws -> QuarantineRetryReport { try await inner.retryQuarantine(retry) }
    func quarantine(_ namespace: NamespaceID, trigger: TriggerID, limit: Int) async throws -> [QuarantinedRecord] {
        try await inner.quarantine(namespace, trigger: trigger, limit: limit)
    }
    func claimDeliveries(
        _ destination: DestinationID, limit: Int, at time: Timestamp, hiddenUntil: Timestamp
    ) async throws -> [ClaimedDelivery] {
        try await inner.claimDeliveries(destination, limit: limit, at: time, hiddenUntil: hiddenUntil)
    }
    func releaseClaims(_ namespace: NamespaceID, limit: Int, at time: Timestamp) async throws -> Int {
        try await inner.releaseClaims(namespace, limit: limit, at: time)
    }
    func pendingDestinations(
        _ namespace: NamespaceID
    ) async throws -> [(destination: DestinationID, dueAt: Timestamp, pending: Int)] { try await inner.pendingDestinations(namespace) }
    func backlog(_ destination: DestinationID) async throws -> DeliveryBacklog { try await inner.backlog(destination) }
    func blockedDeliveries(_ namespace: NamespaceID) async throws -> [BlockedDelivery] { try await inner.blockedDeliveries(namespace) }
    func fetchJobs(_ fetch: ConsumerFetch) async throws -> ConsumerBatch { try await inner.fetchJobs(fetch) }
    func settleJobs(_ settlement: LeaseSettlement) async throws -> LeaseAnswer { try await inner.settleJobs(settlement) }
    func leaseJobs(_ consumer: DestinationID, _ lease: LeaseID) async throws -> [StoredJob] { try await inner.leaseJobs(consumer, lease) }
    func consumers(_ namespace: NamespaceID, only consumer: DestinationID?, at time: Timestamp) async throws -> [StoredConsumer] {
        try await inner.consumers(namespace, only: consumer, at: time)
    }
    func seekConsumer(_ consumer: DestinationID, to target: SeekTarget, at time: Timestamp) async throws -> SeekOutcome {
        try await inner.seekConsumer(consumer, to: target, at: time)
    }
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

extension FaultyStore {
    func addCallback(
        _ new: NewCallback, pendingMax: Int, at time: Timestamp
    ) async throws -> (callback: StoredCallback, isNew: Bool) { try await inner.addCallback(new, pendingMax: pendingMax, at: time) }
    func callback(_ namespace: NamespaceID, id: String) async throws -> StoredCallback? { try await inner.callback(namespace, id: id) }
    func callback(tokenHash: [UInt8]) async throws -> StoredCallback? { try await inner.callback(tokenHash: tokenHash) }
    func callbacks(_ query: CallbackQuery) async throws -> [StoredCallback] { try await inner.callbacks(query) }
    func pendingCallbacks(_ namespace: NamespaceID) async throws -> [PendingCallbacks] { try await inner.pendingCallbacks(namespace) }
    func dueCallbacks(
        _ namespace: NamespaceID, connection: ConnectionID, at time: Timestamp, limit: Int
    ) async throws -> [StoredCallback] { try await inner.dueCallbacks(namespace, connection: connection, at: time, limit: limit) }
    func recordCallback(_ change: CallbackChange) async throws -> StoredCallback {
        if let error = faults.withLock({ $0.callbacks.popLast() }) { throw error }
        return try await inner.recordCallback(change)
    }
    func hastenCallbacks(
        _ namespace: NamespaceID, after: Int64, limit: Int, window: Span, at time: Timestamp
    ) async throws -> Int64? { try await inner.hastenCallbacks(namespace, after: after, limit: limit, window: window, at: time) }
}
