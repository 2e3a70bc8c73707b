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

    @Test func replayedDeadLettersClearTheirAlarm() async throws {
        try await Fixture.withAPI { api, store in
            _ = await api.apply(Fixture.manifest)
            try await Jobs.make(1, floor: nil, store)
            let out = try #require(try await store.definitions(.default).destinations.first)
            let (now, later) = (Timestamp(seconds: 10), Timestamp(seconds: 100))
            let claimed = try #require(try await store.claimDeliveries(out.id, limit: 1, at: now, hiddenUntil: later).first)
            try await store.recordAttempts([
                DeliveryAttempt(
                    delivery: claimed.id, outcome: .dead(reason: "gone"), status: 410, error: nil, response: [], at: now,
                    durationMilliseconds: 1)
            ])
            api.parts.alarms.raise(Alarm(kind: .deadLetters, subject: "destination out", message: "1 delivery"))
            #expect(await api.ask("POST", "/v1/dead-letters/replay", #"{"deliveries":[999999]}"#).status == 404)
            #expect(api.parts.alarms.standing().count == 1)
            #expect(await api.ask("POST", "/v1/dead-letters/replay", #"{"destination":"out"}"#).text.contains(#""replayed":1"#))
            #expect(api.parts.alarms.standing().isEmpty)
        }
    }
}
