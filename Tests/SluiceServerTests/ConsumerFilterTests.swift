import SluiceCore
import SluiceDelivery
import SluiceStore
import Synchronization
import Testing

@testable import SluiceServer

/// What filters leave of the jobs that a worker fetches.
@Suite struct ConsumerFilterTests {
    /// Skips `s…`; `body` first.
    private struct Sieve: JobSieve {
        var body: @Sendable () -> Void = {}
        func sift(_ job: StoredJob) throws(SluiceError) -> Sifted {
            body()
            return job.dedupKey.first == UInt8(ascii: "s") ? .skip : .pass(record: Array("{}".utf8), isProjected: true)
        }
    }

    private static func withSieve<Value>(_ body: (API, any Store) async throws -> Value) async throws -> Value {
        try await ConsumerTests.withConsumers { api, store in
            let settings = AttachmentSettings(filter: "true").json
            try await store.apply(
                [.setAttachment(trigger: "orders", destination: "billing", settings: settings)], namespace: .default,
                at: api.parts.clock.now())
            return try await body(api, store)
        }
    }

    private static func keys(_ fetched: FetchedJobs) -> [String] { fetched.jobs.map { String(decoding: $0.job.dedupKey, as: UTF8.self) } }

    /// Nobody told the shelf of this attachment: its settings come with the jobs, from the moment in which they are handed out.
    @Test func P9_aFilterHoldsForWhatIsHandedOutAfterIt() async throws {
        func manifest(_ attachment: String) -> String {
            ConsumerTests.manifest.replacingAll("destinations: [billing, stock]", "destinations: [\(attachment)]")
        }
        try await ConsumerTests.withConsumers { api, store in
            let record = { (key: String) in "{\"n\":\(key),\"secret\":1}" }
            func fetch() async throws -> [String] {
                // It waits: one that does not reads on past what is left out for two seconds only, which a busy machine may need.
                let fetched = try await ConsumerTests.fetch(api, #"{"max":1,"wait":60,"visibility":600}"#)
                return fetched.jobs.map { $0["record"].map { String(decoding: $0.bytes, as: UTF8.self) } ?? "" }
            }
            let filtered = #"{name: billing, filter: "job.trigger == 'orders' and record.n > 1", fields: [n]}"#
            #expect(await api.apply(manifest(filtered)).status == 200)
            try await ConsumerTests.commit(store, cycle: 1, keys: ["1", "2", "3", "4"], record: record)
            #expect(try await fetch() == ["{\"n\":2}"])
            #expect(await api.apply(manifest("billing")).status == 200)
            #expect(try await fetch() == ["{\"n\":3,\"secret\":1}"])
            #expect(await api.apply(manifest(filtered)).status == 200)
            #expect(try await fetch() == ["{\"n\":4}"])
        }
    }

    /// A backlog of which nothing is wanted does not hold up a worker that did not want to wait, nor is it read in one request.
    @Test func P10_aFetchOfWhichFiltersLeaveNothingEnds() async throws {
        try await Self.withSieve { api, store in
            let consumers = ConsumerService(
                store: store, time: api.parts.clock, alarms: AlarmBoard(clock: api.parts.clock), sieves: { _, _, _, _ in Sieve() },
                overtimeMax: .zero)
            try await ConsumerTests.commit(store, cycle: 1, keys: ["s1", "s2", "s3", "p1"])
            for _ in 0..<3 {
                let none = try await consumers.fetch("billing", FetchOrder(jobsMax: 1))
                #expect(none.jobs.isEmpty && none.more, "it is to ask again")
            }
            #expect(Self.keys(try await consumers.fetch("billing", FetchOrder(jobsMax: 1))) == ["p1"])
            let last = try await consumers.fetch("billing", FetchOrder(jobsMax: 1))
            #expect(last.jobs.isEmpty && !last.more)
        }
    }

    /// Filters that are slower than the visibility: the lease is extended while they look.
    @Test func P9_aLeaseLastsWhileItsJobsAreSifted() async throws {
        try await Self.withSieve { api, store in
            let clock = SteppedClock(api.parts.clock.now())
            let sieve = Sieve {
                clock.step(.seconds(20))
                // So that it is one of the slow ones.
                let begun = ContinuousClock.now
                while begun.duration(to: .now) < .milliseconds(6) {}
            }
            let consumers = ConsumerService(
                store: store, time: clock, alarms: AlarmBoard(clock: clock), sieves: { _, _, _, _ in sieve })
            try await ConsumerTests.commit(store, cycle: 1, keys: ["p1", "s1", "p2", "p3"])
            let fetched = try await consumers.fetch("billing", FetchOrder(waitSeconds: 60, visibility: .seconds(30)))
            #expect(Self.keys(fetched) == ["p1", "p2", "p3"])
            #expect(fetched.expiresAt >= clock.now() + .seconds(10), "its worker has time left")
            let lease = try #require(fetched.lease)
            let answer = try await consumers.settle("billing", lease: lease.text, jobs: nil, .ack)
            #expect(answer.settled == .init(jobs: 3, repeated: 0, inHand: 0))
        }
    }

    /// Another worker took some of it meanwhile: no job is handed out twice at once, and the fetch goes on with what there is.
    @Test(arguments: [["s1", "p1", "p2"], ["p0", "p1", "s2"]])
    func P9_aLeaseThatRanOutWhileItWasSiftedIsAskedForAgain(_ jobs: [String]) async throws {
        try await Self.withSieve { api, store in
            let id = try #require(try await store.definitions(.default).destinations.first { $0.name == "billing" }).id
            let raced = RacedStore(inner: store, consumer: id)
            let consumers = ConsumerService(
                store: raced, time: api.parts.clock, alarms: AlarmBoard(clock: api.parts.clock), sieves: { _, _, _, _ in Sieve() })
            try await ConsumerTests.commit(store, cycle: 1, keys: jobs)
            let fetched = try await consumers.fetch("billing", FetchOrder(waitSeconds: 60))
            #expect(raced.taken.withLock { $0 } == [jobs[0]], "what the other got")
            #expect(Self.keys(fetched) == jobs.dropFirst().filter { $0.hasPrefix("p") })
            #expect(fetched.jobs.allSatisfy { $0.attempt == 1 }, "what no worker saw is no attempt")
        }
    }
}

/// A clock that is set forward by hand.
private final class SteppedClock: TimeSource {
    private let time: Mutex<Timestamp>
    init(_ time: Timestamp) { self.time = Mutex(time) }
    func now() -> Timestamp { time.withLock { $0 } }
    func step(_ span: Span) { time.withLock { $0 = $0 + span } }
}

/// Before the first batch is sifted its time runs out, and somebody else takes one job of it.
private final class RacedStore: ConsumerStore, DefinitionStore {
    let inner: any Store
    let consumer: DestinationID
    let taken = Mutex<[String]>([])
    private let isRaced = Mutex(false)

    init(inner: any Store, consumer: DestinationID) {
        self.inner = inner
        self.consumer = consumer
    }

    func settleJobs(_ settlement: LeaseSettlement) async throws -> LeaseAnswer {
        if case .sift = settlement.action {
            let isFirst = isRaced.withLock { isRaced in
                defer { isRaced = true }
                return !isRaced
            }
            if isFirst {
                let other = try await inner.fetchJobs(
                    ConsumerFetch(consumer: consumer, limit: 1, nonce: 1, worker: "other", at: settlement.at + .hours(1)))
                taken.withLock { $0 = other.jobs.map { String(decoding: $0.job.dedupKey, as: UTF8.self) } }
            }
        }
        return try await inner.settleJobs(settlement)
    }

    func fetchJobs(_ fetch: ConsumerFetch) async throws -> ConsumerBatch { try await inner.fetchJobs(fetch) }
    func leaseJobs(_ consumer: DestinationID, _ lease: LeaseID) async throws -> [StoredJob] { try await inner.leaseJobs(consumer, lease) }
    func consumers(_ namespace: NamespaceID, only consumer: DestinationID?, at time: Timestamp) async throws -> [StoredConsumer] {
        try await inner.consumers(namespace, only: consumer, at: time)
    }
    func seekConsumer(_ consumer: DestinationID, to target: SeekTarget, at time: Timestamp) async throws -> SeekOutcome {
        try await inner.seekConsumer(consumer, to: target, at: time)
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
}
