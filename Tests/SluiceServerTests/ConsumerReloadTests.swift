import SluiceCore
import SluiceDelivery
import SluiceStore
import Synchronization
import Testing

@testable import SluiceServer

/// Consumers' definitions are read twice at a time, and the older reading ends last.
@Suite struct ConsumerReloadTests {
    @Test func anOlderReadingNeverReplacesANewerOne() async throws {
        try await ConsumerTests.withConsumers { api, store in
            let slow = SlowStore(inner: store)
            let consumers = ConsumerService(
                store: slow, time: api.parts.clock, alarms: AlarmBoard(clock: api.parts.clock), sieves: { _, _, _, _ in nil })
            async let older = consumers.consumer("billing")
            for await _ in slow.hasRead {}
            #expect(await api.apply(ConsumerTests.manifest.replacingAll("attempts_max: 3", "attempts_max: 7")).status == 200)
            consumers.definitionsChanged()
            #expect(try await consumers.consumer("billing").settings.attemptsMax == 7)
            slow.mayReturn.finish()
            #expect(try await older.name == "billing")
            #expect(try await consumers.consumer("billing").settings.attemptsMax == 7, "what was read before the change is not shown")
            let all = try await consumers.all()
            #expect(all.map(\.settings.attemptsMax) == [7, nil])
        }
    }
}

/// Holds its first reading of definitions until it may return.
private final class SlowStore: ConsumerStore, DefinitionStore {
    let inner: any Store
    let hasRead: AsyncStream<Void>
    let mayReturn: AsyncStream<Void>.Continuation
    private let reading: AsyncStream<Void>.Continuation
    private let returning: AsyncStream<Void>
    private let readings = Mutex(0)

    init(inner: any Store) {
        self.inner = inner
        (hasRead, reading) = AsyncStream.makeStream()
        (returning, mayReturn) = AsyncStream.makeStream()
    }

    func definitions(_ namespace: NamespaceID) async throws -> Definitions {
        let number = readings.withLock { readings in
            readings += 1
            return readings
        }
        let found = try await inner.definitions(namespace)
        guard number == 1 else { return found }
        reading.finish()
        for await _ in returning {}
        return found
    }

    func settleJobs(_ settlement: LeaseSettlement) async throws -> LeaseAnswer { try await inner.settleJobs(settlement) }
    func fetchJobs(_ fetch: ConsumerFetch) async throws -> ConsumerBatch { try await inner.fetchJobs(fetch) }
    func leaseJobs(_ consumer: DestinationID, _ lease: LeaseID) async throws -> [StoredJob] { try await inner.leaseJobs(consumer, lease) }
    func consumers(_ namespace: NamespaceID, only consumer: DestinationID?, at time: Timestamp) async throws -> [StoredConsumer] {
        try await inner.consumers(namespace, only: consumer, at: time)
    }
    func seekConsumer(_ consumer: DestinationID, to target: SeekTarget, at time: Timestamp) async throws -> SeekOutcome {
        try await inner.seekConsumer(consumer, to: target, at: time)
    }
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
}
