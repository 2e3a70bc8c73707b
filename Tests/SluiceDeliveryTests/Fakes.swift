import Logging
import SluiceConnectors
import SluiceCore
import SluiceStore
import Synchronization
import Testing

@testable import SluiceDelivery

/// A clock that runs on from a made time and can be pushed ahead.
final class TestClock: TimeSource {
    private let start = ContinuousClock.now
    private let ahead = Mutex(Timestamp(milliseconds: 1_767_225_600_000))
    func now() -> Timestamp {
        ahead.withLock { $0 } + .milliseconds(Int64(start.duration(to: .now) / .milliseconds(1)))
    }
    func advance(_ span: Span) { ahead.withLock { $0 = $0 + span } }
}

final class TestAlarms: AlarmReporting {
    private let raised = Mutex<[Alarm]>([])
    private let history = Mutex<[Alarm]>([])
    /// Those that stand.
    var all: [Alarm] { raised.withLock { $0 } }
    /// Those that were raised, whether or not they stand still.
    var ever: [Alarm] { history.withLock { $0 } }
    func raise(_ alarm: Alarm) {
        history.withLock { $0.append(alarm) }
        raised.withLock { $0.append(alarm) }
    }
    func clear(_ kind: Alarm.Kind, subject: String) { raised.withLock { $0.removeAll { $0.kind == kind && $0.subject == subject } } }
}

/// Jobs and deliveries in memory, with the store's rules for claims.
final class FakeStore: JobStore, DeliveryStore {
    struct Delivery {
        var claimed: ClaimedDelivery
        var state = DeliveryState.pending
        var dueAt: Timestamp
        var isClaimed = false
        var reason: String?
    }
    struct State {
        var jobs: [StoredJob] = []
        var deliveries: [Int64: Delivery] = [:]
        var attempts: [DeliveryAttempt] = []
        var recordBatches = 0
        var claims = 0
        var reads = 0
        var failingRecords = 0
        /// What fails until it is mended: `look`, `claim`.
        var failing: Set<String> = []
        var observers: [any StoreObserver] = []
    }
    let state = Mutex(State())
    /// Happens once, after the next read and before its answer arrives.
    let afterRead = Mutex<(@Sendable () -> Void)?>(nil)

    func observe(_ observer: any StoreObserver) { state.withLock { $0.observers.append(observer) } }

    /// Commits a job of a trigger, with its deliveries, and tells.
    @discardableResult
    func commit(_ key: String, trigger: TriggerID = TriggerID(1), to destinations: [DestinationID] = [], at time: Timestamp) -> [Int64] {
        let (ids, observers) = state.withLock { state in
            let number = state.jobs.count + 1
            let job = StoredJob(
                trigger: trigger, position: JobPosition(Int64(number)), token: String(number), dedupKey: Array(key.utf8),
                record: Array("{\"id\": \"\(key)\",  \"n\":1.50}".utf8), isDerived: false, cause: .webhook, createdAt: time)
            state.jobs.append(job)
            let ids = destinations.map { destination in
                let id = Int64(state.deliveries.count + 1)
                state.deliveries[id] = Delivery(
                    claimed: ClaimedDelivery(id: id, destination: destination, job: job, attempts: 0, createdAt: time), dueAt: time)
                return id
            }
            return (ids, state.observers)
        }
        for observer in observers {
            observer.jobsCommitted([trigger], at: time)
            observer.deliveriesIntended()
        }
        return ids
    }

    func delivery(_ id: Int64) -> Delivery { state.withLock { $0.deliveries[id]! } }
    func attempts(_ id: Int64) -> [DeliveryAttempt] { state.withLock { $0.attempts.filter { $0.delivery == id } } }
    func count(_ wanted: DeliveryState) -> Int { state.withLock { $0.deliveries.values.count { $0.state == wanted } } }

    func jobs(_ query: JobQuery) async throws -> JobPage {
        defer {
            let action = afterRead.withLock { action in
                defer { action = nil }
                return action
            }
            action?()
        }
        return state.withLock { state in
            state.reads += 1
            let after = query.after.flatMap { Int($0) } ?? 0
            let all = state.jobs.filter { Int($0.token)! > after && (query.trigger == nil || $0.trigger == query.trigger) }
            let page = Array(all.prefix(query.limit))
            return JobPage(jobs: page, next: page.last?.token ?? query.after ?? "0", more: all.count > page.count)
        }
    }

    func fail(_ act: String, _ fails: Bool) {
        _ = state.withLock { fails ? $0.failing.insert(act).inserted : $0.failing.remove(act) != nil }
    }

    func claimDeliveries(
        _ destination: DestinationID, limit: Int, at time: Timestamp, hiddenUntil: Timestamp
    ) async throws -> [ClaimedDelivery] {
        try state.withLock { state in
            state.claims += 1
            if state.failing.contains("claim") { throw SluiceError(.diskFull, "the disk is full") }
            let due = state.deliveries.values.filter {
                $0.claimed.destination == destination && $0.state == .pending && $0.dueAt <= time
            }.sorted { $0.claimed.id < $1.claimed.id }.prefix(limit)
            for delivery in due {
                state.deliveries[delivery.claimed.id]!.dueAt = hiddenUntil
                state.deliveries[delivery.claimed.id]!.isClaimed = true
            }
            return due.map(\.claimed)
        }
    }

    func releaseClaims(_ namespace: NamespaceID, limit: Int, at time: Timestamp) async throws -> Int {
        state.withLock { state in
            let claimed = state.deliveries.values.filter { $0.isClaimed && $0.state == .pending && $0.dueAt > time }.prefix(limit)
            for delivery in claimed {
                state.deliveries[delivery.claimed.id]!.dueAt = delivery.claimed.createdAt
                state.deliveries[delivery.claimed.id]!.isClaimed = false
            }
            return claimed.count
        }
    }

    func pendingDestinations(_ namespace: NamespaceID) async throws -> [(destination: DestinationID, dueAt: Timestamp, pending: Int)] {
        try state.withLock { state in
            if state.failing.contains("look") { throw SluiceError(.storage, "a page is damaged") }
            return Dictionary(grouping: state.deliveries.values.filter { $0.state == .pending }, by: \.claimed.destination)
                .map { ($0.key, $0.value.map(\.dueAt).min()!, $0.value.count) }
        }
    }

    func recordAttempts(_ attempts: [DeliveryAttempt]) async throws {
        let observers = try state.withLock { state in
            if state.failingRecords > 0 {
                state.failingRecords -= 1
                throw SluiceError(.storage, "made to fail")
            }
            state.recordBatches += 1
            for attempt in attempts {
                state.deliveries[attempt.delivery]!.isClaimed = false
                switch attempt.outcome {
                case .filtered:
                    state.deliveries[attempt.delivery]!.state = .filtered
                    continue
                case .putBack(let at):
                    state.deliveries[attempt.delivery]!.dueAt = at
                    continue
                default: break
                }
                state.attempts.append(attempt)
                state.deliveries[attempt.delivery]!.claimed.attempts += 1
                switch attempt.outcome {
                case .filtered, .putBack: break
                case .delivered: state.deliveries[attempt.delivery]!.state = .delivered
                case .retry(let at): state.deliveries[attempt.delivery]!.dueAt = at
                case .dead(let reason):
                    state.deliveries[attempt.delivery]!.state = .dead
                    state.deliveries[attempt.delivery]!.reason = reason
                }
            }
            return attempts.contains { $0.waitsAgain } ? state.observers : []
        }
        for observer in observers { observer.deliveriesIntended() }
    }

    func deliveries(_ query: DeliveryQuery) async throws -> [StoredDelivery] { [] }
    func replayDeadLetters(_ namespace: NamespaceID, destination: DestinationID?, delivery: Int64?, at time: Timestamp) async throws -> Int
    {
        let (count, observers) = state.withLock { state in
            var count = 0
            for (id, entry) in state.deliveries where entry.state == .dead && (delivery == nil || delivery == id) {
                state.deliveries[id]!.state = .pending
                state.deliveries[id]!.dueAt = time
                state.deliveries[id]!.claimed.attempts = 0
                count += 1
            }
            return (count, state.observers)
        }
        for observer in observers { observer.deliveriesIntended() }
        return count
    }
}

extension DeliveryAttempt {
    fileprivate var waitsAgain: Bool {
        switch outcome {
        case .retry, .putBack: true
        case .delivered, .dead, .filtered: false
        }
    }
}

/// Looks again until it holds; fails after `seconds`.
func eventually(
    _ what: Comment, seconds: Int = 60, sourceLocation: SourceLocation = #_sourceLocation, _ condition: () async throws -> Bool
) async throws {
    let deadline = ContinuousClock.now + .seconds(seconds)
    while ContinuousClock.now < deadline {
        if try await condition() { return }
        try await Task.sleep(for: .milliseconds(5))
    }
    try #require(Bool(false), what, sourceLocation: sourceLocation)
}

let testSecret = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"

func pushDestination(
    _ number: Int64 = 1, url: String, secrets: [String] = [testSecret], allowsPrivate: Bool = true, atOnce: Int = 8,
    timeoutSeconds: Int = 15
) -> PushDestination {
    PushDestination(
        name: "d\(number)", url: url, secrets: secrets.map { SigningSecret($0) },
        addresses: AddressAllowance(allowsPrivate: allowsPrivate), connectionsMax: atOnce,
        timeoutSeconds: timeoutSeconds)
}

func destination(
    _ number: Int64 = 1, url: String, secrets: [String] = [testSecret], allowsPrivate: Bool = true, atOnce: Int = 8,
    timeoutSeconds: Int = 15,
    retries: [Span] = [.milliseconds(10)]
) throws -> CarriedDestination {
    let plan = pushDestination(
        number, url: url, secrets: secrets, allowsPrivate: allowsPrivate, atOnce: atOnce, timeoutSeconds: timeoutSeconds)
    return try destination(number, plan, atOnce: atOnce, retries: retries)
}

func destination(
    _ number: Int64 = 1, _ plan: any CourierPlan, atOnce: Int = 8, retries: [Span] = [.milliseconds(10)]
) throws -> CarriedDestination {
    CarriedDestination(
        id: DestinationID(number), name: "d\(number)", plan: plan, callsAtOnceMax: atOnce,
        retrySchedule: try RetrySchedule(delays: retries))
}

/// A courier that answers as the test says, for whole batches.
struct ScriptedPlan: CourierPlan {
    let script: Script
    var target = "script"
    var timeoutSeconds = 15
    func validate() {}
    func makeCourier(_ tools: CourierTools) -> any Courier { script }
    static func == (left: ScriptedPlan, right: ScriptedPlan) -> Bool { left.script === right.script && left.target == right.target }
}

final class Script: Courier {
    let batchMax: Int
    private let calls = Mutex<[[Parcel]]>([])
    private let closes = Mutex(0)
    private let answer: @Sendable (Int, [Parcel]) async -> [CourierAnswer]

    /// `answer` gets the number of the call, from 0.
    init(batchMax: Int, _ answer: @escaping @Sendable (Int, [Parcel]) async -> [CourierAnswer]) {
        self.batchMax = batchMax
        self.answer = answer
    }

    var batches: [[Parcel]] { calls.withLock { $0 } }
    var closed: Int { closes.withLock { $0 } }
    func carry(_ parcels: [Parcel]) async -> [CourierAnswer] {
        let number = calls.withLock { calls in
            calls.append(parcels)
            return calls.count - 1
        }
        return await answer(number, parcels)
    }
    func close() async { closes.withLock { $0 += 1 } }
}

/// A delivery service that runs while `body` does.
func withDelivery(
    _ store: FakeStore, _ destinations: [CarriedDestination], clock: TestClock = TestClock(), alarms: TestAlarms = TestAlarms(),
    options: DeliveryOptions = DeliveryOptions(), sieve: @escaping DeliveryService.SieveSource = { _ in nil },
    gone: @escaping DeliveryService.DestinationGone = { _, _, _ in }, isAlone: Bool = false,
    _ body: (DeliveryService) async throws -> Void
) async throws {
    let service = DeliveryService(
        store: store, time: clock, alarms: alarms, options: options, logger: Logger(label: "test") { _ in SwiftLogNoOpLogHandler() },
        random: { 0.5 }, sieve: sieve, destinationGone: gone)
    service.update(
        destinations: destinations, triggers: [TriggerID(1): (name: "orders", uid: "uid1"), TriggerID(2): (name: "two", uid: "uid2")])
    store.observe(service)
    if isAlone { try await service.releaseFormerClaims() }
    try await withThrowingTaskGroup(of: Void.self) { group in
        group.addTask { await service.run() }
        defer { service.stop() }
        try await body(service)
        service.stop()
        try await group.waitForAll()
    }
}
