import SluiceConnectors
import SluiceCore
import SluiceStore
import Testing

@testable import SluiceServer

/// Dynamic webhooks in manifests and in the API, without a provider.
@Suite struct SubscriptionAPITests {
    static func connector(hasOwnSecret: Bool = true) -> FakeConnector {
        var connector = FakeConnector()
        connector.definition.webhook = WebhookDescription(scheme: "github")
        let traits = SubscriptionTraits(abilities: .init(), hasOwnSecret: hasOwnSecret)
        connector.definition.triggers = [
            TriggerTypeDefinition(name: "record", title: "Record", kind: .hybrid, inputFields: [Field("resource")], subscription: traits)
        ]
        return connector
    }

    static let manifest = """
        connections:
          main: {connector: shop, fields: {site: acme, api_key: "${env:KEY}"}}
        triggers:
          orders: {connection: main, type: record, input: {resource: order}}
        """

    @Test func aConnectionOfSubscriptionsNeedsNeitherASecretNorAnAddress() async throws {
        try await Fixture.withAPI(connectors: ["shop": Self.connector()]) { api, store in
            let answer = await api.apply(Self.manifest)
            #expect(answer.status == 200, "\(String(decoding: answer.body, as: UTF8.self))")
            let definitions = try await store.definitions(.default)
            #expect(definitions.endpoints.isEmpty)
            let trigger = try #require(definitions.triggers.first)
            let topics = definitions.topics.filter { trigger.topics.contains($0.id) }.map(\.key)
            #expect(topics == ["dynamic:\(trigger.uid)"], "it hears what comes to its own URL only")
            let again = await api.apply(Self.manifest)
            #expect(String(decoding: again.body, as: UTF8.self).contains(#""changes":false"#))
            let shown = await api.ask("GET", "/v1/triggers/orders")
            #expect(shown.text.contains(#""webhook_keys":[]"#) && shown.text.contains(#""subscription":{"number":null,"state":"none""#))
        }
        try await Fixture.withAPI(connectors: ["shop": Self.connector(hasOwnSecret: false)]) { api, _ in
            let refused = String(decoding: await api.apply(Self.manifest).body, as: UTF8.self)
            #expect(refused.contains("needs `webhook: {secrets: [...]}`"), "nothing else could verify its webhooks")
        }
    }

    @Test func subscriptionsAreListedWithoutWhatIsSealed() async throws {
        try await Fixture.withAPI(connectors: ["shop": Self.connector()]) { api, store in
            _ = await api.apply(Self.manifest)
            let trigger = try #require(await store.definitions(.default).triggers.first)
            let sealed = Array("canary".utf8)
            for (token, phase) in [("t1", Subscription.Phase.active), (nil, .leftBehind)] {
                _ = try await store.addSubscription(
                    NewSubscription(
                        trigger: trigger.id, connection: trigger.connection, triggerType: "record", input: trigger.input, token: token,
                        url: "https://hooks.example.com/hooks/\(token ?? "stray")", sealed: sealed, phase: phase, key: "k",
                        foundID: token == nil ? "theirs" : nil, hasOutput: true), at: Timestamp(seconds: 1))
            }
            let all = await api.ask("GET", "/v1/subscriptions")
            #expect(all.status == 200 && all.text.contains(#""number":1,"trigger":"orders","connection":"main""#), "\(all.text)")
            #expect(!all.text.contains("canary"))
            let left = await api.ask("GET", "/v1/subscriptions", query: [("state", "left_behind")])
            #expect(left.text.contains(#""provider_id":"theirs""#) && !left.text.contains(#""number":1,"#))
            #expect(await api.ask("GET", "/v1/subscriptions", query: [("state", "lost")]).status == 400)
            #expect(await api.ask("GET", "/v1/subscriptions", query: [("limit", "1")]).text.contains(#""next":"1""#))
            // No server asks the provider here.
            #expect(await api.ask("POST", "/v1/subscriptions/check", "{}").status == 409)
            #expect(await api.ask("POST", "/v1/subscriptions/check", #"{"trigger":"nobody"}"#).status == 404)
            #expect(await api.ask("POST", "/v1/subscriptions/2/remove-left-behind").status == 409)
            #expect(await api.ask("POST", "/v1/subscriptions/two/remove-left-behind").status == 400)
        }
    }

    @Test func addressesThatOnlyThisMachineReachesAreNotGivenToProviders() {
        for url in ["http://127.0.0.1:8080", "http://localhost:1", "http://0.0.0.0:80", "http://[::1]:80", "http://[::]:80"] {
            let address = PublicAddress(nil)
            address.bound(url)
            #expect(address.urlForProviders == nil, "\(url)")
            #expect(PublicAddress(url).urlForProviders == url, "somebody said so")
        }
        let reachable = PublicAddress(nil)
        reachable.bound("http://203.0.113.5:8080")
        #expect(reachable.urlForProviders == "http://203.0.113.5:8080")
    }
}
