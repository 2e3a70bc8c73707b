import Foundation
import Logging
import SluiceCore
import SluiceSQLite
import SluiceStore
import SluiceTesting
import Synchronization
import Testing

@testable import SluiceDelivery

/// `ordered: true` with the real store between.
@Suite(.timeLimit(.minutes(10))) struct OrderedDeliveryTests {
    @Test func P9_inOrderWhateverFails() async throws {
        try await withTemporaryDirectory("sluice-ordered") { directory in
            let store = try SQLiteStore.open(SQLiteOptions(directory: directory, synchronous: .off))
            let clock = TestClock()
            let trigger = try await Self.define(store, at: clock.now())
            let fence = try await store.acquireLease(shard: 0, holder: "test", at: clock.now())
            let arrived = Mutex<[TriggerID: [Int64]]>([:])
            let script = Script(batchMax: 4) { number, parcels in
                parcels.enumerated().map { index, parcel in
                    if (number * 7 + index) % 10 < 3, parcel.attempt < 4 { return CourierAnswer(.failed, error: "now and then") }
                    arrived.withLock { $0[parcel.job.trigger, default: []].append(parcel.job.position.rawValue) }
                    return CourierAnswer(.delivered)
                }
            }
            let service = DeliveryService(
                store: store, time: clock, alarms: TestAlarms(), logger: .init(label: "t") { _ in SwiftLogNoOpLogHandler() })
            let destination = try #require(try await store.definitions(.default).destinations.first)
            let carried = CarriedDestination(
                id: destination.id, name: "books", plan: ScriptedPlan(script: script),
                retrySchedule: try RetrySchedule(delays: Array(repeating: .milliseconds(5), count: 8)))
            service.update(
                destinations: [carried], triggers: [trigger[0].id: (name: "ledger", uid: "u1"), trigger[1].id: (name: "loose", uid: "u2")])
            store.observe(service)
            try await withThrowingTaskGroup(of: Void.self) { group in
                group.addTask { await service.run() }
                defer { service.stop() }
                for cycle in Int64(1)...5 {
                    for one in trigger { try await Self.commit(store, one, fence, cycle, count: 12, at: clock.now()) }
                }
                try await eventually("everything arrives", seconds: 60) { service.counters.delivered == 120 }
                service.stop()
                try await group.waitForAll()
            }
            let orders = arrived.withLock { $0 }
            #expect(orders[trigger[0].id] == Array(1...60))
            #expect(Set(orders[trigger[1].id] ?? []) == Set(1...60))
            #expect(orders[trigger[1].id] != Array(1...60), "without order retries come later, or this shows nothing")
            #expect(try await store.blockedDeliveries(.default).isEmpty)
            await store.close()
        }
    }

    private static func define(_ store: SQLiteStore, at time: Timestamp) async throws -> [StoredTrigger] {
        let none: [UInt8] = Array("{}".utf8)
        var changes: [DefinitionChange] = [
            .putConnection(name: "bank", connector: "demo", fields: none, sealedSecrets: [], settings: none),
            .putDestination(name: "books", kind: "push", settings: none, sealedSecrets: []),
        ]
        for name in ["ledger", "loose"] {
            changes += [
                .putTrigger(
                    name: name, uid: "uid-\(name)", connection: "bank", type: "entry", input: none, settings: none, topicKeys: [],
                    resets: false),
                .attach(trigger: name, destination: "books", from: nil),
            ]
        }
        changes.append(.setOrdered(trigger: "ledger", true))
        try await store.apply(changes, namespace: .default, at: time)
        var triggers: [StoredTrigger] = []
        for name in ["ledger", "loose"] { triggers.append(try #require(try await store.trigger(.default, named: name))) }
        return triggers
    }

    private static func commit(
        _ store: SQLiteStore, _ trigger: StoredTrigger, _ fence: Fence, _ cycle: Int64, count: Int, at time: Timestamp
    ) async throws {
        let records = (0..<count).map { index in
            KeyedRecord(record: Record(bytes: Array("{\"n\":\(index)}".utf8)[...]), dedupKey: Array("\(cycle)-\(index)".utf8), mark: nil)
        }
        let end = CycleEnd(cause: .start, startedAt: time, coveredSequence: .zero, safetyDueAt: time + .hours(1))
        let outcome = try await store.commitPage(
            PageCommit(
                fence: fence, trigger: trigger.id, generation: trigger.generation, cycle: cycle, page: 0, chunk: 0, cause: .start,
                records: records, completion: PageCompletion(end: end), at: time))
        #expect(outcome == .committed(jobs: count, lastPosition: JobPosition(cycle * Int64(count))))
    }
}
