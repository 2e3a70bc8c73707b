import SluiceCore
import SluiceStore
import Testing

@testable import SluiceDelivery

/// Where the store keeps jobs from being delivered, people are told, for as long as it does.
@Suite(.timeLimit(.minutes(10))) struct StoreTroubleTests {
    private let store = FakeStore()
    private let clock = TestClock()
    private let first = DestinationID(1)

    private static func storage(_ alarms: TestAlarms) -> [String] {
        alarms.all.filter { $0.kind == .storage && $0.subject == "deliveries" }.map(\.message)
    }

    @Test(arguments: [("look", "a page is damaged"), ("claim", "the disk is full")])
    func P2_aStoreThatHandsNothingOutIsTold(act: String, words: String) async throws {
        let alarms = TestAlarms()
        try await Sink.with({ _, _ in .answer(204) }) { sink in
            store.fail(act, true)
            let id = store.commit("a", to: [first], at: clock.now())[0]
            try await withDelivery(store, [try destination(url: sink.url)], clock: clock, alarms: alarms) { _ in
                try await eventually("the alarm") { !Self.storage(alarms).isEmpty }
                #expect(Self.storage(alarms).allSatisfy { $0.contains(words) && $0.contains("jobs wait") }, "\(Self.storage(alarms))")
                store.fail(act, false)
                try await eventually("delivered") { store.delivery(id).state == .delivered }
                try await eventually("all is well") { Self.storage(alarms).isEmpty }
            }
        }
    }

    @Test func P2_attemptsThatCannotBeRecordedAreTold() async throws {
        let alarms = TestAlarms()
        try await Sink.with({ _, _ in .answer(204) }) { sink in
            store.state.withLock { $0.failingRecords = 4 }
            let id = store.commit("a", to: [first], at: clock.now())[0]
            try await withDelivery(store, [try destination(url: sink.url)], clock: clock, alarms: alarms) { _ in
                // It stands for a moment only.
                try await eventually("the alarm") { alarms.ever.contains { $0.kind == .storage && $0.subject == "deliveries" } }
                try await eventually("recorded") { store.delivery(id).state == .delivered }
                try await eventually("all is well") { Self.storage(alarms).isEmpty }
            }
        }
    }

    /// What passes by itself is not told, one act's success says nothing of another's, and refusals are no trouble of the store.
    @Test func onlyWhatLastsIsTold() {
        let alarms = TestAlarms()
        let trouble = StoreTrouble(alarms: alarms, subject: "deliveries")
        let full = SluiceError(.diskFull, "the disk is full")
        for _ in 0..<10 {
            for _ in 1..<StoreTrouble.failuresTold { trouble.failed(.look, "x", full) }
            trouble.worked(.look)
        }
        for _ in 0..<10 { trouble.failed(.record, "x", SluiceError(.conflict, "changed meanwhile")) }
        for _ in 0..<10 { trouble.failed(.record, "x", CancellationError()) }
        #expect(alarms.all.isEmpty)
        for _ in 0..<StoreTrouble.failuresTold { trouble.failed(.claim(first), "x", full) }
        trouble.worked(.look)
        trouble.worked(.claim(DestinationID(2)))
        trouble.keep { $0 == first }
        #expect(!alarms.all.isEmpty)
        // Nothing waits there any more, so nothing is tried.
        trouble.keep { $0 != first }
        #expect(alarms.all.isEmpty)
    }
}
