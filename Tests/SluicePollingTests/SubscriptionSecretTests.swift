import Logging
import SluiceConnectors
import SluiceCore
import SluiceStore
import SluiceTesting
import Synchronization
import Testing

@testable import SluicePolling

/// Subscriptions whose secret the provider makes: it stands in one answer, and nowhere else.
@Suite struct SubscriptionSecretTests {
    /// A provider of webhooks that may keep its answer to itself.
    final class Provider: Sendable {
        struct Hook: Sendable {
            var id: Int
            var url: String
            var secret: String
        }
        private struct State {
            var hooks: [Hook] = []
            var made = 0
            var isSilent = false
        }
        private let state = Mutex(State())
        let offers: Bool
        init(offers: Bool) { self.offers = offers }
        var hooks: [Hook] { state.withLock { $0.hooks } }
        var made: Int { state.withLock { $0.made } }
        func silence(_ isSilent: Bool) { state.withLock { $0.isSilent = isSilent } }
        func lose() { state.withLock { $0.hooks = [] } }

        func subscribe(_ request: SubscriptionRequest) async throws -> SubscriptionAnswer {
            let (hook, isSilent) = state.withLock { state in
                state.made += 1
                let hook = Hook(id: state.made, url: request.webhookURL, secret: offers ? request.secret : "given \(state.made)")
                state.hooks.append(hook)
                return (hook, state.isSilent)
            }
            // Until the process dies.
            if isSilent { try await Task.sleep(for: .seconds(3600)) }
            return SubscriptionAnswer(output: Array("\(hook.id)".utf8), secret: hook.secret)
        }

        func check(_ request: SubscriptionRequest) -> SubscriptionAnswer {
            let id = request.output.flatMap { Int(String(decoding: $0, as: UTF8.self)) }
            guard let hook = hooks.first(where: { id == nil ? $0.url == request.webhookURL : $0.id == id }) else {
                return SubscriptionAnswer(.missing, others: [])
            }
            return SubscriptionAnswer(output: Array("\(hook.id)".utf8), others: [])
        }

        func unsubscribe(_ request: SubscriptionRequest) {
            let id = request.output.flatMap { Int(String(decoding: $0, as: UTF8.self)) }
            state.withLock { $0.hooks.removeAll { $0.id == id } }
        }

        var connector: ConnectorDescription {
            ConnectorDescription("hooks", title: "Hooks", version: "1") {
                Field("api_key", isSecret: true)
                TriggerType("item", title: "Item") {
                    DynamicWebhook(
                        hasOwnSecret: true, subscribe: { request, _ in try await self.subscribe(request) },
                        check: { request, _ in self.check(request) }, unsubscribe: { request, _ in self.unsubscribe(request) })
                }
            }
        }
    }

    /// Where webhooks come in, and with which secret.
    final class Catalogue: SubscriptionCatalogue {
        private let connector: ConnectorDescription
        private let known = Mutex<[SubscriptionRoute]>([])
        init(_ connector: ConnectorDescription) { self.connector = connector }
        var routes: [SubscriptionRoute] { known.withLock { $0 } }

        func subscriptionPlan(for trigger: StoredTrigger) throws -> SubscriptionPlan? {
            connector.definition.triggers[0].subscription.map { SubscriptionPlan(traits: $0, input: Array("{}".utf8), key: "k") }
        }
        func subscriptionMeans(connection: ConnectionID, triggerType: String) throws -> SubscriptionMeans {
            SubscriptionMeans(
                connector: connector, connectionName: "shop", connection: try JSONDocument(Array("{}".utf8)), canVerify: false)
        }
        func webhookBaseURL() throws -> String { "https://hooks.example.com/hooks/" }
        func seal(_ secret: [UInt8], url: String) throws -> [UInt8] { secret }
        func open(_ sealed: [UInt8], url: String) throws -> [UInt8] { sealed }
        func subscriptionsChanged(of trigger: TriggerID, to routes: [SubscriptionRoute], isSubscribed: Bool) {
            known.withLock { $0 = routes }
        }
    }

    struct Fixture: Sendable {
        let bench: Bench
        let provider: Provider
        let catalogue: Catalogue
        let tokens: TokenCount

        /// A process that lives for as long as `body` takes, and is killed then.
        func process(_ body: (SubscriptionService) async throws -> Void) async throws {
            var logger = Logger(label: "subscription tests")
            logger.logLevel = .critical
            let tokens = tokens
            let service = SubscriptionService(
                store: bench.store, catalogue: catalogue, time: bench.time, alarms: bench.alarms, polling: bench.service, logger: logger,
                random: { 0 }, newToken: { tokens.next() })
            service.load(try await bench.store.definitions(.default), try await bench.store.subscriptions(.default))
            try await withThrowingTaskGroup(of: Void.self) { group in
                group.addTask { await service.run() }
                defer { group.cancelAll() }
                try await body(service)
            }
        }

        /// Waits until the provider has one subscription whose webhooks we can verify.
        func waitForOne(_ service: SubscriptionService, _ what: String) async throws {
            let trigger = try await bench.trigger()
            try await waitUntil("one subscription \(what)", seconds: 30) {
                // A call that is under way, and its record in the store, take none of that time.
                if service.state.withLock({ $0.callsRunning == 0 }) { bench.time.advance(by: .seconds(1)) }
                service.triggerChanged(trigger)
                let rows = try await bench.store.subscriptions(.default)
                guard let hook = provider.hooks.first, provider.hooks.count == 1, rows.map(\.state.phase) == [.active] else { return false }
                return catalogue.routes.contains { hook.url.hasSuffix("/" + $0.token) && $0.secret == hook.secret }
            }
        }
    }

    final class TokenCount: Sendable {
        private let count = Mutex(0)
        func next() -> String {
            count.withLock { count in
                count += 1
                return "token\(count)"
            }
        }
    }

    private func with(offers: Bool = false, _ body: (Fixture) async throws -> Void) async throws {
        let provider = Provider(offers: offers)
        let connection = BenchConnection(connector: provider.connector, url: "http://127.0.0.1:1")
        try await Bench.with([connection], time: ManualTime()) { bench in
            try await body(Fixture(bench: bench, provider: provider, catalogue: Catalogue(provider.connector), tokens: TokenCount()))
        }
    }

    @Test func P11_aSecretThatDiedWithTheAnswerIsNotMissedForEver() async throws {
        try await with { fixture in
            fixture.provider.silence(true)
            try await fixture.process { _ in try await waitUntil("a subscription without an answer") { fixture.provider.made == 1 } }
            fixture.provider.silence(false)
            try await fixture.process { try await fixture.waitForOne($0, "after the crash") }
            #expect(fixture.provider.made == 2, "the one that was found has a secret that nobody knows")
        }
    }

    /// The secret of one that is gone is not that of the next one at its URL.
    @Test func P11_aSecretGoesWithItsSubscription() async throws {
        try await with { fixture in
            try await loseAndCrash(fixture)
            #expect(fixture.provider.made == 3)
        }
    }

    /// What we offered once, and the provider took, it takes again.
    @Test func P11_anOfferedSecretOutlivesItsSubscription() async throws {
        try await with(offers: true) { fixture in
            try await loseAndCrash(fixture)
            #expect(fixture.provider.made == 2, "it is adopted")
        }
    }

    /// The provider loses the subscription and makes another one, whose answer dies with us.
    private func loseAndCrash(_ fixture: Fixture) async throws {
        try await fixture.process { service in
            try await fixture.waitForOne(service, "at first")
            fixture.provider.lose()
            fixture.provider.silence(true)
            service.checkNow(try await fixture.bench.trigger().id)
            try await waitUntil("another one without an answer") { fixture.provider.made == 2 }
        }
        fixture.provider.silence(false)
        try await fixture.process { try await fixture.waitForOne($0, "after the crash") }
    }
}
