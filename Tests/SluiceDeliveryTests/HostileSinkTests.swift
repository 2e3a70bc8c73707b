import Logging
import SluiceCore
import SluiceStore
import Synchronization
import Testing

@testable import SluiceDelivery

/// A clock that stands until it is moved.
final class StandingClock: TimeSource {
    private let time = Mutex(Timestamp(milliseconds: 1_767_225_600_000))
    func now() -> Timestamp { time.withLock { $0 } }
    func move(to later: Timestamp) { time.withLock { $0 = max($0, later) } }
}

/// Show a: a sink that fails, hangs, resets, redirects and asks for rest, and the service between it and the store.
@Suite(.timeLimit(.minutes(10))) struct HostileSinkTests {
    let store = FakeStore()
    let clock = StandingClock()

    /// Moves the clock from one due time to the next for as long as something is pending for these destinations.
    private func play(_ service: DeliveryService, _ destinations: [DestinationID], stepsMax: Int = 3000) async throws {
        for _ in 0..<stepsMax {
            try await eventually("the service has done what is due", seconds: 60) {
                let now = clock.now()
                let isDue = store.state.withLock { state in
                    state.deliveries.values.contains {
                        $0.state == .pending && destinations.contains($0.claimed.destination) && $0.dueAt <= now
                    }
                }
                let rests = destinations.contains { service.status(of: $0)?.restsUntil != nil }
                return isQuiet(service, destinations) && (!isDue || rests)
            }
            let now = clock.now()
            let dues = store.state.withLock { state in
                state.deliveries.values.filter { $0.state == .pending && destinations.contains($0.claimed.destination) }.map(\.dueAt)
            }
            if dues.isEmpty { return }
            let rests = destinations.compactMap { service.status(of: $0)?.restsUntil }
            guard let next = (dues + rests).filter({ $0 > now }).min() else { continue }
            clock.move(to: next)
            service.deliveriesIntended()
        }
        Issue.record("it takes more than \(stepsMax) steps")
    }

    /// Nothing is under way, claimed or unrecorded.
    private func isQuiet(_ service: DeliveryService, _ destinations: [DestinationID]) -> Bool {
        let now = clock.now()
        let lanes = service.state.withLock { state in destinations.compactMap { state.lanes[$0] } }
        return lanes.allSatisfy { lane in
            lane.work.withLock { work in
                let isStill = work.rules.inFlight == 0 && work.queue.isEmpty && work.rules.unrecorded == 0
                return isStill && (!work.isWorking || work.rules.restsUntil > now)
            }
        }
    }

    private func withService(
        _ destinations: [CarriedDestination], _ alarms: TestAlarms = TestAlarms(),
        _ body: (DeliveryService) async throws -> Void
    ) async throws {
        let service = DeliveryService(
            store: store, time: clock, alarms: alarms, logger: .init(label: "t") { _ in SwiftLogNoOpLogHandler() }, random: { 0.5 })
        service.update(destinations: destinations, triggers: [TriggerID(1): (name: "orders", uid: "uid1")])
        store.observe(service)
        try await withThrowingTaskGroup(of: Void.self) { group in
            group.addTask { await service.run() }
            defer { service.stop() }
            try await body(service)
            service.stop()
            try await group.waitForAll()
        }
    }

    @Test func a_attemptsMatchTheSchedule() async throws {
        try await Sink.with({ _, _ in .answer(500) }) { sink in
            let id = store.commit("a", to: [DestinationID(1)], at: clock.now())[0]
            let plan = pushDestination(url: sink.url)
            let begun = clock.now()
            try await withService([CarriedDestination(id: DestinationID(1), name: "d1", plan: plan)]) { service in
                try await play(service, [DestinationID(1)])
            }
            // 5 s, 5 min, 30 min, 2 h, 5 h, 10 h, 10 h, without jitter to the millisecond.
            let waits: [Int64] = [5, 300, 1800, 7200, 18_000, 36_000, 36_000]
            let times = store.attempts(id).map(\.at)
            #expect(times.first == begun)
            #expect(zip(times, times.dropFirst()).map { ($1 - $0).milliseconds } == waits.map { $0 * 1000 })
            #expect(store.delivery(id).state == .dead)
            #expect(store.delivery(id).reason == "exhausted")
            #expect(Set(sink.requests.map { $0.header("webhook-id")! }).count == 1)
            #expect(Set(sink.requests.map { $0.header("webhook-timestamp")! }).count == 8)
            #expect(Set(sink.requests.map(\.body)).count == 1)
        }
    }

    @Test func a_aHostileSinkLosesNothing() async throws {
        let state = Mutex<UInt64>(20_261_122)
        @Sendable func random() -> UInt64 {
            state.withLock { state in
                state = state &* 6_364_136_223_846_793_005 &+ 1_442_695_040_888_963_407
                return state >> 33
            }
        }
        let accepted = Mutex<[String: Int]>([:])
        let hangs = Mutex(0)
        try await Sink.with({ _, request in
            let id = request.header("webhook-id")!
            // Some jobs are refused for ever: they must end as dead letters.
            if request.body.count % 7 == 3 { return .answer(422, [], Array("never".utf8)) }
            switch random() % 100 {
            case 0..<18: return .answer([500, 502, 503, 400, 404][Int(random() % 5)])
            case 18..<22: return .answer(302, [("location", "/elsewhere")])
            case 22..<26: return .reset
            case 26..<28: return .answer(429, [("retry-after", "90")])
            case 28..<30
            where hangs.withLock({ hangs in
                hangs += 1
                return hangs <= 3
            }):
                return .hang
            case 30:
                return accepted.withLock { accepted in
                    accepted[id, default: 0] += 1
                    return .answer(200, [], [UInt8](repeating: 0x78, count: 300_000))
                }
            default:
                accepted.withLock { $0[id, default: 0] += 1 }
                return .answer(200)
            }
        }) { sink in
            try await Sink.with({ number, _ in number < 5 ? .answer(200) : .answer(410) }) { ending in
                let (hostile, gone) = (DestinationID(1), DestinationID(2))
                var jobs: [(key: String, delivery: Int64)] = []
                for number in 0..<120 {
                    let key = String(repeating: "k", count: number % 11) + "\(number)"
                    jobs.append((key, store.commit(key, to: [hostile, gone], at: clock.now())[0]))
                }
                let alarms = TestAlarms()
                let plans = [
                    CarriedDestination(id: hostile, name: "hostile", plan: pushDestination(1, url: sink.url, timeoutSeconds: 5)),
                    CarriedDestination(id: gone, name: "gone", plan: pushDestination(2, url: ending.url), callsAtOnceMax: 1),
                ]
                try await withService(plans, alarms) { service in
                    try await play(service, [hostile])
                    try await eventually("everything is counted") { service.counters.dead >= 1 && service.inFlight == 0 }
                }
                // Every job arrived at least once, or is a dead letter that says why.
                var dead = 0
                for job in jobs {
                    let id = JobIdentity.id(uid: "uid1", dedupKey: Array(job.key.utf8))
                    let delivery = store.delivery(job.delivery)
                    if delivery.state == .dead {
                        dead += 1
                        #expect(delivery.reason == "exhausted")
                        #expect(store.attempts(job.delivery).count == 8)
                    } else {
                        #expect(delivery.state == .delivered)
                        #expect(accepted.withLock { $0[id] ?? 0 } >= 1, "\(job.key) was recorded as delivered and never arrived")
                    }
                }
                #expect(dead > 0 && dead < 60)
                #expect(alarms.all.contains { $0.kind == .deadLetters && $0.subject == "destination hostile" })
                // Ids never change, nor does what is sent under one.
                let ids = Set(jobs.map { JobIdentity.id(uid: "uid1", dedupKey: Array($0.key.utf8)) })
                #expect(Set(sink.requests.compactMap { $0.header("webhook-id") }) == ids)
                for (_, requests) in Dictionary(grouping: sink.requests, by: { $0.header("webhook-id")! }) {
                    #expect(Set(requests.map(\.body)).count == 1)
                }
                #expect(sink.requests.allSatisfy { $0.path == "/hook?a=b" }, "no redirect was followed")
                // Never sooner than the schedule, nor than the receiver asked.
                let waits: [Int64] = [5, 300, 1800, 7200, 18_000, 36_000, 36_000]
                for job in jobs {
                    let attempts = store.attempts(job.delivery)
                    for (index, pair) in zip(attempts, attempts.dropFirst()).enumerated() {
                        let wait = max(waits[index], pair.0.status == 429 ? 90 : 0)
                        #expect((pair.1.at - pair.0.at).milliseconds >= wait * 1000)
                    }
                    #expect(attempts.allSatisfy { $0.response.count <= 4096 })
                }
                // 410: stopped after one dead letter, the others wait.
                #expect(ending.requests.count == 6)
                #expect(
                    store.state.withLock { $0.deliveries.values.count { $0.claimed.destination == gone && $0.state == .pending } } == 114)
            }
        }
    }

    @Test func anOpenBreakerSparesAttempts() async throws {
        let works = Mutex(false)
        let script = Script(batchMax: 1) { _, parcels in
            parcels.map { _ in
                works.withLock { $0 } ? CourierAnswer(.delivered) : CourierAnswer(.failed, error: "down", isConnectFailure: true)
            }
        }
        let first = DestinationID(1)
        for number in 0..<200 { store.commit("k\(number)", to: [first], at: clock.now()) }
        try await withService([try destination(1, ScriptedPlan(script: script), retries: [.minutes(1), .hours(1)])]) { service in
            try await eventually("it opens") { service.status(of: first)?.breaker == .open }
            try await eventually("what is under way ends, and the rest is put back") { isPutBack(service, first) }
            let burnt = script.batches.count
            #expect(burnt <= CircuitBreaker.failuresToOpen + 8)
            #expect(service.status(of: first)?.lastError == "down")
            let until = try #require(service.status(of: first)?.restsUntil)
            #expect(until == clock.now() + .seconds(30))
            // One try, and open again for twice as long.
            clock.move(to: until)
            service.deliveriesIntended()
            try await eventually("one try") { script.batches.count == burnt + 1 && service.status(of: first)?.breaker == .open }
            try await eventually("it is open and all is put back") { isPutBack(service, first) }
            #expect(script.batches.count == burnt + 1)
            let next = try #require(service.status(of: first)?.restsUntil)
            #expect(next == until + .minutes(1))
            works.withLock { $0 = true }
            clock.move(to: next)
            service.deliveriesIntended()
            // The clock stands still: nothing but what is woken carries the rest.
            let waits = store.state.withLock { $0.deliveries.values.count { $0.state == .pending && $0.dueAt > next } }
            try await eventually("closed, and all that is due is delivered") { store.count(.delivered) == 200 - waits }
            #expect(service.status(of: first)?.breaker == .closed)
            #expect(waits <= burnt + 1)
            try await play(service, [first])
            #expect(store.count(.delivered) == 200)
            let spared = store.state.withLock { $0.deliveries.values.count { $0.claimed.attempts == 1 } }
            #expect(spared >= 200 - burnt - 1)
        }
    }

    /// Nothing is under way, and nothing claimed: it is all in the store, due when the rest is over or later.
    private func isPutBack(_ service: DeliveryService, _ destination: DestinationID) -> Bool {
        let isClaimed = store.state.withLock { $0.deliveries.values.contains { $0.isClaimed && $0.state == .pending } }
        return service.inFlight == 0 && isQuiet(service, [destination]) && !isClaimed
    }

    @Test func aPersonOpensTheWayAgain() async throws {
        let works = Mutex(false)
        let script = Script(batchMax: 1) { _, parcels in
            parcels.map { _ in works.withLock { $0 } ? CourierAnswer(.delivered) : CourierAnswer(.failed, error: "down") }
        }
        let first = DestinationID(1)
        for number in 0..<30 { store.commit("k\(number)", to: [first], at: clock.now()) }
        try await withService([try destination(1, ScriptedPlan(script: script), retries: [.hours(1)])]) { service in
            try await eventually("it opens") { service.status(of: first)?.breaker == .open && service.inFlight == 0 }
            works.withLock { $0 = true }
            service.forgive(first)
            #expect(service.status(of: first)?.breaker == .closed)
            // What was put back until the breaker's time comes at that time at the latest.
            clock.move(to: clock.now() + .seconds(30))
            service.deliveriesIntended()
            try await eventually("those that were spared") { store.count(.delivered) >= 12 }
        }
    }

    @Test func aRateIsKept() async throws {
        let script = Script(batchMax: 1) { _, parcels in parcels.map { _ in CourierAnswer(.delivered) } }
        let first = DestinationID(1)
        var plan = try destination(1, ScriptedPlan(script: script))
        plan.rate = DeliveryRate("10/s")
        for number in 0..<35 { store.commit("k\(number)", to: [first], at: clock.now()) }
        let begun = clock.now()
        try await withService([plan]) { service in
            try await eventually("a second's worth at once") { script.batches.count == 10 }
            for step in 1...25 {
                clock.move(to: begun + .milliseconds(Int64(step) * 100))
                service.deliveriesIntended()
                try await eventually("one more") { script.batches.count == 10 + step }
            }
        }
        #expect(script.batches.count == 35)
    }
}
