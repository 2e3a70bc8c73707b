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
}
