import AsyncHTTPClient
import Logging
import SluiceCore
import SluiceDelivery
import SluiceGateway
import SluiceSQLite
import SluiceStore
import Synchronization
import Testing

@testable import SluicePolling
@testable import SluiceServer

/// Definitions are read, and a command comes before they are told.
@Suite struct StaleNewsTests {
    /// What happens between the reading of definitions and their return.
    private final class Between: Sendable {
        private let body = Mutex<(@Sendable () async throws -> Void)?>(nil)
        func set(_ body: @escaping @Sendable () async throws -> Void) { self.body.withLock { $0 = body } }
        func run() async throws {
            let body = body.withLock { body in
                defer { body = nil }
                return body
            }
            try await body?()
        }
    }

    private struct Parts: Sendable {
        let api: API
        let control: ServerControl
        let polling: PollingService
        let subscriptions: SubscriptionService
        let store: any Store
        let between: Between
    }

    /// An API whose commands reach the services, of which none runs.
    private static func with(_ body: (Parts) async throws -> Void) async throws {
        try await Fixture.withDirectory { directory in
            let store = try SQLiteStore.open(SQLiteOptions(directory: directory, synchronous: .off))
            let client = HTTPClient(eventLoopGroupProvider: .singleton)
            let outcome: Result<Void, any Error>
            do { outcome = .success(try await body(try parts(store, client))) } catch { outcome = .failure(error) }
            await store.close()
            try await client.shutdown()
            try outcome.get()
        }
    }

    private static func parts(_ store: any Store, _ client: HTTPClient) throws -> Parts {
        let clock = AnchoredClock(wallMillisecondsAtStart: 1_800_000_000_000)
        let alarms = AlarmBoard(clock: clock)
        var logger = Logger(label: "stale news")
        logger.logLevel = .critical
        let sealer = try SecretSealer(key: Fixture.key, source: "test")
        let shelf = ConnectorShelf(["shop": SubscriptionAPITests.connector()])
        let address = PublicAddress("https://hooks.example.com/")
        let catalogue = RuntimeCatalogue(store: store, shelf: shelf, sealer: sealer, alarms: alarms, address: address)
        let polling = PollingService(
            store: store, catalogue: catalogue, time: clock, alarms: alarms, client: client, logger: logger, random: { 0 },
            guardAddress: { _, _ in })
        let subscriptions = SubscriptionService(
            store: store, catalogue: catalogue, time: clock, alarms: alarms, polling: polling, logger: logger, random: { 0 },
            newToken: { "token" })
        let gateway = Gateway(store: store, time: clock, alarms: alarms, observer: RefusalCollector(), logger: logger)
        let between = Between()
        let control = ServerControl(
            catalogue: catalogue, polling: polling, subscriptions: subscriptions, gateway: gateway,
            backfills: BackfillService(polling: polling), time: clock
        ) {
            let definitions = try await catalogue.refresh()
            try await between.run()
            return definitions
        }
        let api = API(
            API.Parts(
                store: store, shelf: shelf, sealer: sealer, clock: clock, alarms: alarms, control: control,
                lifecycle: TriggerLifecycle(store: store, clock: clock, control: control, isServing: true), jobs: JobFeed(store: store),
                address: address, isServing: true, places: DestinationPlaces(files: "/data/files", commands: "/opt/commands")),
            localTokenHash: nil)
        return Parts(
            api: api, control: control, polling: polling, subscriptions: subscriptions, store: store, between: between)
    }

    private static let changed = SubscriptionAPITests.manifest.replacingAll("{connector:", "{requests_per_second: 7, connector:")

    @Test func P7_aResumeDuringAnApplyIsNotUndone() async throws {
        try await Self.with { parts in
            #expect(await parts.api.apply(SubscriptionAPITests.manifest).status == 200)
            #expect(await parts.api.ask("POST", "/v1/triggers/orders/pause").status == 200)
            let paused = try await parts.store.orders()
            #expect(await parts.control.runtimeStatus(of: paused)?.nextDueAt == nil)
            parts.between.set { #expect(await parts.api.ask("POST", "/v1/triggers/orders/resume").status == 200) }
            #expect(await parts.api.apply(Self.changed).status == 200)

            let trigger = try await parts.store.orders()
            #expect(trigger.state == .running && trigger.generation > paused.generation)
            #expect(await parts.control.runtimeStatus(of: trigger)?.nextDueAt != nil, "what the store calls running is polled")
            #expect(parts.subscriptions.state.withLock { $0.held[trigger.id]?.trigger?.state } == .running)
        }
    }

    @Test func aPauseDuringAnApplyIsNotUndone() async throws {
        try await Self.with { parts in
            #expect(await parts.api.apply(SubscriptionAPITests.manifest).status == 200)
            parts.between.set { #expect(await parts.api.ask("POST", "/v1/triggers/orders/pause").status == 200) }
            #expect(await parts.api.apply(Self.changed).status == 200)
            let trigger = try await parts.store.orders()
            #expect(trigger.state == .paused)
            #expect(await parts.control.runtimeStatus(of: trigger)?.nextDueAt == nil)
            #expect(parts.subscriptions.state.withLock { $0.held[trigger.id]?.trigger?.state } == .paused)
        }
    }

    /// Readings that were asked for while one was under way are answered by one.
    @Test func manyAskForNewsAndEachHearsOfItsOwn() async throws {
        try await Self.with { parts in
            #expect(await parts.api.apply(SubscriptionAPITests.manifest).status == 200)
            try await withThrowingDiscardingTaskGroup { group in
                for _ in 0..<100 { group.addTask { try await parts.control.definitionsChanged() } }
            }
            parts.between.set { throw SluiceError(.storage, "the test pulled the plug") }
            await #expect(throws: SluiceError.self) { try await parts.control.definitionsChanged() }
            try await parts.control.definitionsChanged()
            let trigger = try await parts.store.orders()
            #expect(await parts.control.runtimeStatus(of: trigger)?.nextDueAt != nil)
        }
    }

    /// Has the trigger wait: after a failure for a quarter of an hour, or for its safety poll.
    private static func wait(_ parts: Parts, failures: Int) async throws {
        let trigger = try await parts.store.orders()
        let fence = try await parts.store.acquireLease(shard: 0, holder: "test", at: Timestamp(seconds: 1))
        let now = Timestamp(milliseconds: 1_800_000_000_000)
        let end = CycleEnd(cause: .start, startedAt: now, coveredSequence: .zero, safetyDueAt: now + .hours(12))
        _ = try await parts.store.commitPage(
            PageCommit(
                fence: fence, trigger: trigger.id, generation: trigger.generation, cycle: 1, page: 0, chunk: 0, cause: .start, records: [],
                completion: PageCompletion(end: end), at: now))
        if failures > 0 {
            let failure = CycleFailure(
                fence: fence, trigger: trigger.id, generation: trigger.generation, cause: .safety, startedAt: now,
                error: SluiceError(.providerStatus, "the provider answered 404"), failures: failures, retryAt: now + .minutes(15),
                dropsOpenCycle: true, at: now)
            let outcome = try await parts.store.recordFailure(failure)
            #expect(outcome == .committed(jobs: 0, lastPosition: .zero))
        }
        _ = try await parts.store.setState(
            StateChange(trigger: trigger.id, generation: trigger.generation, state: .running, reason: nil, at: now))
        // Nobody runs here who would make the poll of its start.
        parts.polling.triggerRemoved(trigger.id)
        await parts.polling.readAgain(trigger.id)
    }

    private static let main = "main: {connector: shop, fields: {site: acme, api_key: \"${env:KEY}\"}"

    /// A field of the connection may be what was wrong: those that wait after a failure poll at once, the others when they are due.
    @Test(arguments: [0, 4]) func P2_aMendedConnectionIsNotWaitedFor(failures: Int) async throws {
        try await Self.with { parts in
            #expect(await parts.api.apply(SubscriptionAPITests.manifest).status == 200)
            try await Self.wait(parts, failures: failures)
            let before = await parts.control.runtimeStatus(of: try await parts.store.orders())
            #expect(before?.nextCause == (failures > 0 ? .retry : .interval), "\(String(describing: before))")
            if failures > 0 {
                let shown = await parts.api.ask("GET", "/v1/triggers/orders")
                #expect(shown.text.contains("its next try: 4 in a row failed") && shown.text.contains("answered 404"), "\(shown.text)")
            }
            let mended = SubscriptionAPITests.manifest.replacingAll("site: acme", "site: acne")
            #expect(await parts.api.apply(mended).status == 200)
            let after = await parts.control.runtimeStatus(of: try await parts.store.orders())
            #expect((after?.nextCause == .manual) == (failures > 0), "\(String(describing: after))")
        }
    }

    /// Until the secret was mended, webhooks were refused: what they spoke of is read.
    @Test func P6_anotherWebhookSecretLetsItsTriggersPoll() async throws {
        try await Self.with { parts in
            #expect(await parts.api.apply(SubscriptionAPITests.manifest).status == 200)
            try await Self.wait(parts, failures: 0)
            let other = SubscriptionAPITests.manifest.replacingAll(
                Self.main, Self.main.replacingAll("main: {", "main: {webhook: {secrets: [\"${env:HOOK}\"]}, "))
            #expect(other != SubscriptionAPITests.manifest)
            #expect(await parts.api.apply(other).status == 200)
            let after = await parts.control.runtimeStatus(of: try await parts.store.orders())
            #expect(after?.nextCause == .catchUp, "\(String(describing: after))")
        }
    }
}
