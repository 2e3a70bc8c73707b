import SluiceCore
import SluiceStore
import Testing

@testable import SluiceServer

/// What a person does when something is wrong must leave nothing of it behind.
@Suite struct RemedyTests {
    @Test func correctedCredentialsForgetTheRefusal() async throws {
        try await Fixture.withAPI { api, store in
            _ = await api.apply(Fixture.manifest)
            let problem = "the provider refuses the credentials"
            try await store.apply(
                [.setConnectionProblem(name: "main", problem: problem)], namespace: .default, at: Timestamp(seconds: 1))
            api.parts.alarms.raise(Alarm(kind: .connectionRefused, subject: "connection main", message: problem))
            _ = await api.apply(Fixture.manifest)
            #expect(try await store.definitions(.default).connections.first?.problem == problem, "nothing was corrected")
            #expect(api.parts.alarms.standing().count == 1)

            let changed = Fixture.manifest.replacingAll("connector:", "requests_per_second: 7\n    connector:")
            #expect(await api.apply(changed).status == 200)
            #expect(try await store.definitions(.default).connections.first?.problem == nil)
            #expect(api.parts.alarms.standing().isEmpty)
        }
    }

    @Test func P4_aSecondResetStillKnowsWhichKeysWerePruned() async throws {
        try await Fixture.withAPI { api, store in
            _ = await api.apply(Fixture.manifest)
            try await Jobs.make(3, floor: 100, store)
            #expect(await api.ask("PUT", "/v1/triggers/orders/cursor", #"{"cursor":99,"confirm":true}"#).status == 200)
            #expect(await api.ask("DELETE", "/v1/triggers/orders/cursor").status == 409)
            #expect(await api.ask("GET", "/v1/triggers/orders/cursor").text.contains("from mark 100 on"))
        }
    }
}
