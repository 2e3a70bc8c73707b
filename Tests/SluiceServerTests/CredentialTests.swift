import SluiceConnectors
import SluiceCore
import SluicePolling
import SluiceSQLite
import SluiceStore
import Testing

@testable import SluiceServer

/// Rotated tokens beside `apply`, and that nobody reads them.
@Suite struct CredentialTests {
    static let chain = TokenChain(
        seed: [1, 2, 3], tokens: ["rotated-canary", "former-canary"],
        access: AccessToken(value: "access-canary", obtainedAt: Timestamp(seconds: 5), expiresAt: Timestamp(seconds: 3605)))

    static func kept(_ api: API, _ store: any Store) throws -> SealedCredentials {
        SealedCredentials(store: store, sealer: api.parts.sealer)
    }

    static func connection(_ store: any Store) async throws -> ConnectionID {
        try #require(try await store.definitions(.default).connections.first { $0.name == "main" }).id
    }

    /// The same file again, and another file with the same secret, leave what the provider rotated as it is; another secret
    /// is another authorization.
    @Test func applyLeavesARotatedTokenAlone() async throws {
        try await Fixture.withAPI { api, store in
            #expect(await api.apply(Fixture.manifest).status == 200)
            let (credentials, id) = (try Self.kept(api, store), try await Self.connection(store))
            let version = try await credentials.replace(id, name: "main", version: 0, by: Self.chain, at: Timestamp(seconds: 9))
            #expect(version == 1)
            let text = PlanText.text(await api.apply(Fixture.manifest).body)
            #expect(text.contains("Nothing changes."), "\(text)")
            let faster = Fixture.manifest.replacingFirst("connector:", "requests_per_second: 7\n    connector:")
            #expect(await api.apply(faster).status == 200)
            var order = ApplyRequest(manifest: faster, references: Fixture.references, file: "sluice.yaml")
            order.references["env:KEY"] = "canary-other"
            #expect(await api.respond(to: order.request).status == 200)
            let now = try await credentials.load(id, name: "main")
            #expect(now.chain == Self.chain && now.version == 1, "whether it is still good is told by its digest of the file's value")
        }
    }

    @Test func rotatedTokensAreSealedForTheirConnection() async throws {
        try await Fixture.withAPI { api, store in
            _ = await api.apply(Fixture.manifest)
            let (credentials, id) = (try Self.kept(api, store), try await Self.connection(store))
            #expect(try await credentials.load(id, name: "main").chain == nil)
            _ = try await credentials.replace(id, name: "main", version: 0, by: Self.chain, at: Timestamp(seconds: 9))
            let sealed = try #require(try await store.credentials(id).sealed)
            #expect(sealed.firstRange(of: Array("canary".utf8)) == nil)
            let error = await #expect(throws: SluiceError.self) { _ = try await credentials.load(id, name: "other") }
            #expect(error?.code == .storage)
            #expect(try await credentials.replace(id, name: "main", version: 0, by: Self.chain, at: Timestamp(seconds: 9)) == nil)
        }
    }

    @Test func aTestWithoutAServerSaysSo() async throws {
        try await Fixture.withAPI { api, _ in
            _ = await api.apply(Fixture.manifest)
            let answer = await api.ask("POST", "/v1/connections/main/test")
            #expect(answer.status == 409 && answer.text.contains("sluice serve"), "\(answer.text)")
            #expect(await api.ask("POST", "/v1/connections/none/test").status == 404)
        }
    }

    /// A connector with an authorization: what the server's catalogue gives the polling service.
    @Test func theCatalogueGivesTheRulesAndTheValues() async throws {
        try await Fixture.withAPI { api, store in
            _ = await api.apply(Fixture.manifest)
            var connector = FakeConnector()
            connector.definition.access.baseURLs = ["https://{connection.site}.example.com"]
            connector.definition.access.authorization = Authorization(
                .apiKey(.init(place: .header("X-Key"), value: "{connection.api_key}")))
            let catalogue = RuntimeCatalogue(
                store: store, shelf: ConnectorShelf(["shop": connector]), sealer: api.parts.sealer, alarms: api.parts.alarms)
            try await catalogue.refresh()
            let found = try #require(catalogue.authorization(of: try await Self.connection(store)))
            #expect(found.name == "main" && found.secretFields == ["api_key"])
            #expect(found.access.origins(values: found.values) == ["https://acme.example.com:443"])
            let plan = try #require(found.access.authorization).applied(
                to: HTTPRequestPlan(url: "https://acme.example.com/x"), values: found.values, accessToken: nil)
            #expect(plan.headers == [HTTPField("X-Key", "canary-key")])
        }
    }

    @Test func showTellsOfTheAuthorizationAndNoSecret() async throws {
        try await Fixture.withAPI { api, store in
            _ = await api.apply(Fixture.manifest)
            let credentials = try Self.kept(api, store)
            _ = try await credentials.replace(
                try await Self.connection(store), name: "main", version: 0, by: Self.chain, at: Timestamp(seconds: 9))
            for path in ["/v1/connections", "/v1/connections/main"] {
                let text = await api.ask("GET", path).text
                #expect(text.contains(#""authorization":null"#) && !text.contains("canary"), "\(text)")
            }
        }
    }
}

extension String {
    fileprivate func replacingFirst(_ part: String, _ other: String) -> String {
        guard let range = firstRange(of: part) else { return self }
        return String(self[..<range.lowerBound]) + other + String(self[range.upperBound...])
    }
}
