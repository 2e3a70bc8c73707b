import SluiceCore
import SluiceStore
import Synchronization
import Testing

@testable import SluiceDelivery

@Suite(.timeLimit(.minutes(10))) struct DeliveryLoadTests {
    let store = FakeStore()
    let clock = TestClock()

    @Test func P12_hangingDestinationsDoNotHoldUpAHealthyOne() async throws {
        try await Sink.with({ _, _ in .hang }) { dead in
            try await Sink.with({ _, _ in .answer(200) }) { healthy in
                let hanging = try (2...21).map { try destination($0, url: dead.url, timeoutSeconds: 60) }
                for number in 0..<20 { store.commit("dead\(number)", to: hanging.map(\.id), at: clock.now()) }
                try await withThrowingTaskGroup(of: Void.self) { group in
                    // Its requests never end by themselves: this run is cancelled.
                    group.addTask {
                        try await withDelivery(store, hanging + [try destination(1, url: healthy.url)], clock: clock) { service in
                            try await eventually("the shared slots are taken") { service.inFlight == 84 }
                            for number in 0..<300 { store.commit("ok\(number)", to: [DestinationID(1)], at: clock.now()) }
                            try await eventually("the healthy one gets all") { store.count(.delivered) == 300 }
                            try await eventually("the healthy one's calls are over, the others are not") { service.inFlight == 84 }
                            withUnsafeCurrentTask { $0?.cancel() }
                        }
                    }
                    try await group.waitForAll()
                }
                #expect(healthy.requests.count == 300)
                #expect(store.state.withLock { $0.attempts.allSatisfy { $0.status == 200 } })
            }
        }
    }

    @Test func P10_requestsInFlightAreBounded() async throws {
        try await Sink.with({ number, _ in number < 4 ? .hang : .answer(200) }) { sink in
            for number in 0..<100 { store.commit("k\(number)", to: [DestinationID(1)], at: clock.now()) }
            try await withDelivery(
                store, [try destination(url: sink.url, atOnce: 4, timeoutSeconds: 10, retries: Array(repeating: .zero, count: 10))],
                clock: clock
            ) { service in
                try await eventually("four hang") { sink.requests.count == 4 }
                // Time for a fifth, which must not come.
                try await Task.sleep(for: .milliseconds(200))
                #expect(service.inFlight == 4 && sink.openMax == 4)
                try await eventually("all delivered", seconds: 120) { store.count(.delivered) == 100 }
            }
            // What was given up counts there until its end has arrived.
            #expect(sink.openMax <= 8)
            // On a busy machine an answer may take longer than the time it has: then it is asked for again as well.
            let failures = store.state.withLock { $0.attempts.count { $0.status != 200 } }
            #expect(failures >= 4 && sink.requests.count == 100 + failures)
        }
    }

    @Test func attemptsOfManyDestinationsAreEachMadeOnce() async throws {
        try await Sink.with({ _, _ in .answer(200) }) { sink in
            let targets = try (1...8).map { try destination($0, url: sink.url) }
            for number in 0..<250 { store.commit("k\(number)", to: targets.map(\.id), at: clock.now()) }
            store.state.withLock { $0.failingRecords = 2 }
            try await withDelivery(store, targets, clock: clock) { service in
                try await eventually("all delivered", seconds: 60) { store.count(.delivered) == 2000 }
                try await eventually("all counted") { service.counters.delivered == 2000 }
            }
            // Exactly once each, as nothing went wrong but the recording.
            #expect(sink.requests.count == 2000)
            #expect(store.state.withLock(\.claims) < 1000)
        }
    }

    /// The next server gives them back at its start, in as many batches as it takes; retries wait on.
    @Test func P9_claimsOfAKilledServerComeBackAtOnce() async throws {
        try await Sink.with({ _, _ in .answer(200) }) { sink in
            let count = DeliveryService.releasedAtOnceMax + 5
            let ids = (0..<count).map { store.commit("k\($0)", to: [DestinationID(1)], at: clock.now())[0] }
            let now = clock.now()
            let claimed = try await store.claimDeliveries(DestinationID(1), limit: count, at: now, hiddenUntil: now + .seconds(105))
            #expect(claimed.count == count)
            let retry = DeliveryAttempt(
                delivery: ids[0], outcome: .retry(at: now + .hours(1)), status: 500, error: nil, response: [], at: now,
                durationMilliseconds: 1)
            try await store.recordAttempts([retry])
            try await withDelivery(store, [try destination(url: sink.url)], clock: clock, isAlone: true) { _ in
                try await eventually("all but the retry") { store.count(.delivered) == count - 1 }
            }
            #expect(store.delivery(ids[0]).dueAt == now + .hours(1))
            #expect(sink.requests.count == count - 1)
        }
    }

    /// Where nobody gives them back, they run out.
    @Test func P9_claimsRunOut() async throws {
        try await Sink.with({ _, _ in .answer(200) }) { sink in
            let ids = (0..<5).map { store.commit("k\($0)", to: [DestinationID(1)], at: clock.now())[0] }
            // A server claimed them and died.
            let now = clock.now()
            let claimed = try await store.claimDeliveries(DestinationID(1), limit: 100, at: now, hiddenUntil: now + .seconds(105))
            #expect(claimed.count == 5)
            try await withDelivery(store, [try destination(url: sink.url)], clock: clock) { service in
                store.commit("new", to: [DestinationID(1)], at: clock.now())
                try await eventually("the new one") { store.count(.delivered) == 1 }
                #expect(sink.requests.count == 1)
                clock.advance(.seconds(105))
                service.deliveriesIntended()
                try await eventually("those too") { ids.allSatisfy { store.delivery($0).state == .delivered } }
            }
            #expect(sink.requests.count == 6)
        }
    }

    @Test func P9_cancelledAttemptsAreMadeAgain() async throws {
        try await Sink.with({ number, _ in number == 0 ? .hang : .answer(200) }) { sink in
            let id = store.commit("a", to: [DestinationID(1)], at: clock.now())[0]
            let target = try destination(url: sink.url, timeoutSeconds: 60)
            await withTaskGroup(of: Void.self) { group in
                group.addTask {
                    try? await withDelivery(store, [target], clock: clock) { _ in try await Task.sleep(for: .seconds(60)) }
                }
                try? await eventually("in flight") { sink.requests.count == 1 }
                group.cancelAll()
            }
            #expect(store.attempts(id).isEmpty)
            clock.advance(.minutes(10))
            try await withDelivery(store, [target], clock: clock) { _ in
                try await eventually("delivered") { store.delivery(id).state == .delivered }
            }
            #expect(Set(sink.requests.map { $0.header("webhook-id")! }).count == 1)
        }
    }

    @Test func stopWaitsForWhatIsInFlight() async throws {
        try await Sink.with({ _, _ in .answer(200) }) { sink in
            for number in 0..<200 { store.commit("k\(number)", to: [DestinationID(1)], at: clock.now()) }
            try await withDelivery(store, [try destination(url: sink.url)], clock: clock) { service in
                try await eventually("begun") { !sink.requests.isEmpty }
                service.stop()
            }
            // What was answered is recorded; the rest waits for the next start.
            #expect(store.count(.delivered) == sink.requests.count)
            #expect(store.count(.delivered) + store.count(.pending) == 200)
        }
    }

    @Test func recordedAttemptsSurviveOneBadEntry() async throws {
        let recorder = AttemptRecorder(
            store: RefusingStore(refused: 2), trouble: StoreTrouble(alarms: TestAlarms(), subject: "deliveries"), logger: .init(label: "t"))
        let results = Results()
        recorder.add(
            (Int64(1)...3).map { id in
                let attempt = DeliveryAttempt(
                    delivery: id, outcome: .delivered, status: 200, error: nil, response: [], at: Timestamp(seconds: 1),
                    durationMilliseconds: 1)
                return AttemptRecorder.Entry(attempt: attempt) { isRecorded in results.all.withLock { $0[id] = isRecorded } }
            })
        recorder.finish()
        await recorder.run()
        #expect(results.all.withLock { $0 } == [1: true, 2: false, 3: true])
    }
}

private final class Results: Sendable {
    let all = Mutex<[Int64: Bool]>([:])
}

/// Refuses attempts of one delivery for good.
private struct RefusingStore: DeliveryStore {
    let refused: Int64
    func recordAttempts(_ attempts: [DeliveryAttempt]) async throws {
        if attempts.contains(where: { $0.delivery == refused }) { throw SluiceError(.notFound, "no such delivery") }
    }
    func claimDeliveries(
        _ destination: DestinationID, limit: Int, at time: Timestamp, hiddenUntil: Timestamp
    ) async throws -> [ClaimedDelivery] { [] }
    func releaseClaims(_ namespace: NamespaceID, limit: Int, at time: Timestamp) async throws -> Int { 0 }
    func pendingDestinations(_ namespace: NamespaceID) async throws -> [(destination: DestinationID, dueAt: Timestamp, pending: Int)] { [] }
    func deliveries(_ query: DeliveryQuery) async throws -> [StoredDelivery] { [] }
    func replayDeadLetters(_ namespace: NamespaceID, destination: DestinationID?, delivery: Int64?, at time: Timestamp) async throws -> Int
    { 0 }
}
