import Logging
import SluiceCore
import SluiceTesting
import Synchronization
import Testing

@testable import SluiceDelivery

/// Whoever watches the log alone hears of a destination that fails: once, and not for each job.
@Suite(.timeLimit(.minutes(10))) struct DeliveryLogTests {
    private let store = FakeStore()
    private let clock = TestClock()
    private let first = DestinationID(1)

    private func withLog(_ script: Script, _ body: (DeliveryService, LogLines) async throws -> Void) async throws {
        let lines = LogLines()
        let service = DeliveryService(
            store: store, time: clock, alarms: TestAlarms(), logger: Logger(label: "t") { _ in lines }, random: { 0.5 })
        let target = try destination(1, ScriptedPlan(script: script), retries: [.seconds(1), .hours(1)])
        service.update(destinations: [target], triggers: [TriggerID(1): (name: "orders", uid: "uid1")])
        store.observe(service)
        try await withThrowingTaskGroup(of: Void.self) { group in
            group.addTask { await service.run() }
            defer { service.stop() }
            try await body(service, lines)
            service.stop()
            try await group.waitForAll()
        }
    }

    @Test func aBreakerIsLoggedWhenItOpensAndWhenItCloses() async throws {
        let works = Mutex(false)
        let script = Script(batchMax: 1) { _, parcels in
            parcels.map { _ in works.withLock { $0 } ? CourierAnswer(.delivered) : CourierAnswer(.failed, error: "down\nfor now") }
        }
        for number in 0..<40 { store.commit("k\(number)", to: [first], at: clock.now()) }
        try await withLog(script) { service, lines in
            try await eventually("it opens") { lines.count("warning breaker opened") == 1 }
            let line = try #require(lines.all.first { $0.contains("breaker opened") })
            #expect(line.contains("destination=d1") && line.contains("last_error=down for now") && line.contains("rests_until="), "\(line)")
            // Tried once, and open again for longer: no news.
            let tried = script.batches.count
            try await eventually("no call is under way") { service.inFlight == 0 }
            clock.advance(.seconds(31))
            service.deliveriesIntended()
            try await eventually("one more try") { script.batches.count > tried && service.status(of: first)?.breaker == .open }
            #expect(lines.count("warning breaker opened") == 1 && lines.count("info breaker closed") == 0)
            works.withLock { $0 = true }
            clock.advance(.minutes(16))
            service.deliveriesIntended()
            try await eventually("it closes") { lines.count("info breaker closed") == 1 }
            #expect(lines.count("warning breaker opened") == 1)
        }
    }

    @Test func aPersonWhoLetsItGoOnClosesTheBreaker() async throws {
        let script = Script(batchMax: 1) { _, parcels in parcels.map { _ in CourierAnswer(.failed, error: "down") } }
        for number in 0..<40 { store.commit("k\(number)", to: [first], at: clock.now()) }
        try await withLog(script) { service, lines in
            try await eventually("it opens, and no call is under way") {
                lines.count("warning breaker opened") == 1 && service.inFlight == 0
            }
            service.forgive(first)
            #expect(lines.count("info breaker closed") == 1)
        }
    }

    @Test func aDestinationThatIsGoneIsLoggedOnce() async throws {
        let script = Script(batchMax: 1) { _, parcels in parcels.map { _ in CourierAnswer(.gone, status: 410, error: "it answered 410") } }
        let ids = (0..<20).flatMap { store.commit("k\($0)", to: [first], at: clock.now()) }
        try await withLog(script) { service, lines in
            try await eventually("it is gone") { ids.contains { store.delivery($0).state == .dead } && service.inFlight == 0 }
            #expect(lines.count("warning destination gone") == 1, "\(lines.all)")
            let line = try #require(lines.all.first { $0.contains("destination gone") })
            #expect(line.contains("reason=it answered 410") && line.contains("sluice destination resume d1"), "\(line)")
        }
    }
}
