import SluiceCore
import SluiceStore
import Synchronization
import Testing

@testable import SluiceDelivery

@Suite(.timeLimit(.minutes(10))) struct AttemptRecorderTests {
    /// What comes in while one batch is being recorded forms the next.
    @Test func attemptsShareTransactions() async throws {
        let store = SlowStore()
        let recorder = AttemptRecorder(
            store: store, trouble: StoreTrouble(alarms: TestAlarms(), subject: "deliveries"), logger: .init(label: "t"))
        let recorded = Count()
        func add(_ count: Int) {
            for id in 0..<count {
                let attempt = DeliveryAttempt(
                    delivery: Int64(id), outcome: .delivered, status: 200, error: nil, response: [], at: Timestamp(seconds: 1),
                    durationMilliseconds: 1)
                recorder.add([AttemptRecorder.Entry(attempt: attempt) { if $0 { recorded.value.withLock { $0 += 1 } } }])
            }
        }
        add(1)
        async let run: Void = recorder.run()
        await store.isRecording.wait(atMost: .minutes(1))
        // Each by itself, as calls end, while the first is not on disk yet.
        add(2000)
        recorder.finish()
        store.mayGoOn.wake()
        await run
        #expect(recorded.value.withLock { $0 } == 2001)
        #expect(store.batches.withLock { $0 } == [1, AttemptRecorder.batchMax, 2000 - AttemptRecorder.batchMax])
    }
}

private final class Count: Sendable {
    let value = Mutex(0)
}

/// Holds the first batch until it is told to go on.
private final class SlowStore: DeliveryStore {
    let batches = Mutex<[Int]>([])
    let isRecording = WakeSignal()
    let mayGoOn = WakeSignal()

    func recordAttempts(_ attempts: [DeliveryAttempt]) async throws {
        let count = batches.withLock { batches in
            batches.append(attempts.count)
            return batches.count
        }
        guard count == 1 else { return }
        isRecording.wake()
        await mayGoOn.wait(atMost: .minutes(1))
    }

    func claimDeliveries(
        _ destination: DestinationID, limit: Int, at time: Timestamp, hiddenUntil: Timestamp
    ) async throws -> [ClaimedDelivery] { [] }
    func releaseClaims(_ namespace: NamespaceID, limit: Int, at time: Timestamp) async throws -> Int { 0 }
    func pendingDestinations(_ namespace: NamespaceID) async throws -> [(destination: DestinationID, dueAt: Timestamp, pending: Int)] { [] }
    func deliveries(_ query: DeliveryQuery) async throws -> [StoredDelivery] { [] }
}
