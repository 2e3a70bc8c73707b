import Logging
import SluiceConnectors
import SluiceCore
import SluiceStore
import Synchronization
import Testing

@testable import SluiceServer

/// What handshakes leave behind, and what they make us do.
@Suite struct ServerHandshakeTests {
    static func withShop<Value>(_ body: (API, any Store) async throws -> Value) async throws -> Value {
        var connector = FakeConnector()
        connector.definition.webhook = WebhookDescription(scheme: "github", handshakes: ["asana"])
        return try await Fixture.withAPI(connectors: ["shop": connector], body)
    }

    static let manifest = """
        connections:
          main: {connector: shop, fields: {site: acme, api_key: "${env:KEY}"}}
        triggers:
          orders: {connection: main, type: record, input: {resource: order}}
        """

    static func secrets(_ store: any Store) async throws -> ConnectionSecrets {
        let stored = try #require(await store.definitions(.default).connections.first)
        let sealer = try SecretSealer(key: Fixture.key, source: "test")
        return ConnectionSecrets(json: try sealer.open(stored.sealedSecrets, owner: SecretOwner.connection(stored.name)))
    }

    @Test func aSecretThatAProviderGaveIsSealedAndOutlivesAnApply() async throws {
        try await ServerHandshakeTests.withShop { api, store in
            // No secret in the file: the provider will give one.
            #expect(await api.apply(ServerHandshakeTests.manifest).status == 200)
            let definitions = try await store.definitions(.default)
            let connection = try #require(definitions.connections.first?.id)
            let token = try #require(definitions.endpoints.first?.token)
            try await api.learn(secret: "canary-learned", token: token, connection: connection)
            #expect(try await ServerHandshakeTests.secrets(store).learnedSecrets == [token: "canary-learned"])
            let stored = try #require(await store.definitions(.default).connections.first)
            #expect(stored.sealedSecrets.firstRange(of: Array("canary".utf8)) == nil)

            // The address has one: nobody gives it another.
            let again = await #expect(throws: SluiceError.self) {
                try await api.learn(secret: "intruder", token: token, connection: connection)
            }
            #expect(again?.code == .conflict)
            let unknown = await #expect(throws: SluiceError.self) {
                try await api.learn(secret: "x", token: "other", connection: ConnectionID(4711))
            }
            #expect(unknown?.code == .notFound)

            // The file does not know it; applying the file keeps it, and changes nothing.
            let answer = await api.apply(ServerHandshakeTests.manifest)
            #expect(String(decoding: answer.body, as: UTF8.self).contains(#""changes":false"#))
            let changed = ServerHandshakeTests.manifest.replacing("acme", with: "apex")
            #expect(await api.apply(changed).status == 200)
            #expect(try await ServerHandshakeTests.secrets(store).learnedSecrets == [token: "canary-learned"])

            // A new address learns its own, beside the former one.
            #expect(await api.ask("POST", "/v1/connections/main/rotate-endpoint", "{}").status == 201)
            let newer = try #require(await store.definitions(.default).endpoints.first { $0.token != token }?.token)
            try await api.learn(secret: "second", token: newer, connection: connection)
            #expect(try await ServerHandshakeTests.secrets(store).learnedSecrets == [token: "canary-learned", newer: "second"])
        }
    }

    /// A topic is set as a field of the connection or as a parameter of the scheme; either holds for the confirmation and for messages.
    @Test(arguments: [true, false]) func theTopicOfSNSHoldsWhereverItIsSet(asField: Bool) async throws {
        var connector = FakeConnector()
        connector.definition.webhook = WebhookDescription(scheme: "aws-sns", handshakes: ["aws-sns", "asana"])
        connector.definition.connectionFields.append(Field("topic_arn", isOptional: true))
        connector.definition.connectionFields.append(Field("email", isOptional: true))
        let manifest = """
            connections:
              main:
                connector: shop
                fields: {site: acme, api_key: "${env:KEY}", email: me@example.com\(asField ? ", topic_arn: \"arn:t\"" : "")}
                \(asField ? "" : "webhook: {parameters: {topic_arn: \"arn:t\"}}")
            triggers:
              orders: {connection: main, type: record, input: {resource: order}}
            """
        let known = connector
        try await Fixture.withAPI(connectors: ["shop": known]) { api, store in
            let answer = await api.apply(manifest)
            #expect(answer.status == 200, "\(String(decoding: answer.body, as: UTF8.self))")
            let sealer = try SecretSealer(key: Fixture.key, source: "test")
            let catalogue = Catalogue(try await store.definitions(.default), connectors: ["shop": known], sealer: sealer)
            let route = try #require(catalogue.gatewayRoutes().connectionsByToken.values.first)
            #expect(route.schemeOptions.parameters == ["topic_arn": "arn:t"])
            #expect(route.handshakeFields["topic_arn"] == "arn:t")
        }
    }

    @Test func aSecretGoesToItsOwnAddressOnly() async throws {
        try await ServerHandshakeTests.withShop { api, store in
            #expect(await api.apply(ServerHandshakeTests.manifest).status == 200)
            #expect(await api.ask("POST", "/v1/connections/main/rotate-endpoint", "{}").status == 201)
            let definitions = try await store.definitions(.default)
            let tokens = definitions.endpoints.map(\.token)
            try #require(tokens.count == 2)
            try await api.learn(secret: "first", token: tokens[0], connection: definitions.connections[0].id)
            var connector = FakeConnector()
            connector.definition.webhook = WebhookDescription(scheme: "github", handshakes: ["asana"])
            let sealer = try SecretSealer(key: Fixture.key, source: "test")
            let catalogue = Catalogue(try await store.definitions(.default), connectors: ["shop": connector], sealer: sealer)
            let routes = catalogue.gatewayRoutes().connectionsByToken
            #expect(routes[tokens[0]]?.secrets == ["first"] && routes[tokens[0]]?.mayLearnSecret == false)
            #expect(routes[tokens[1]]?.secrets == [] && routes[tokens[1]]?.mayLearnSecret == true)
            #expect(routes[tokens[0]]?.handshakes.map(\.name) == ["asana"])
        }
    }

    @Test func P10_confirmationsAreFewAndBounded() async throws {
        let asked = Mutex<[String]>([])
        let clock = AnchoredClock(wallMillisecondsAtStart: 0)
        let desk = HandshakeDesk(time: clock, logger: Logger(label: "test") { _ in SwiftLogNoOpLogHandler() }) { url in
            asked.withLock { $0.append(url) }
            if url.hasSuffix("1") { throw SluiceError(.providerUnreachable, "gone") }
            return 200
        }
        for number in 1...20 { desk.confirm(url: "https://a.example/\(number)", connection: ConnectionID(1)) }
        desk.confirm(url: "https://b.example/1", connection: ConnectionID(2))
        await withTaskGroup(of: Void.self) { group in
            group.addTask { await desk.run() }
            for _ in 0..<6000 where asked.withLock({ $0.count }) < HandshakeDesk.perMinuteMax + 1 {
                try? await Task.sleep(for: .milliseconds(5))
            }
            group.cancelAll()
        }
        #expect(
            Set(asked.withLock { $0 })
                == Set((1...HandshakeDesk.perMinuteMax).map { "https://a.example/\($0)" } + ["https://b.example/1"]))
    }
}
