import SluiceCore
import SluiceStore
import Testing

@testable import SluiceServer

@Suite struct RemovalAPITests {
    private static let discard = [(name: "discard_undelivered", value: "true")]

    @Test func aTriggerIsStoppedBeforeItIsRemoved() async throws {
        try await Fixture.withAPI { api, store in
            #expect(await api.ask("DELETE", "/v1/triggers/orders").status == 404)
            #expect(await api.apply(Fixture.manifest).status == 200)
            let before = try await store.orders()
            let running = await api.ask("DELETE", "/v1/triggers/orders", query: RemovalAPITests.discard)
            #expect(running.status == 409 && running.text.contains("sluice trigger stop orders"))
            #expect(await api.ask("POST", "/v1/triggers/orders/stop").status == 200)
            for subject in ["trigger orders", "trigger orders2"] {
                api.parts.alarms.raise(Alarm(kind: .gap, subject: subject, message: "gap: the provider keeps 7 days"))
            }
            #expect(await api.ask("DELETE", "/v1/triggers/orders").status == 200)
            #expect(api.parts.alarms.standing().map(\.alarm.subject) == ["trigger orders2"], "what is gone misses nothing")
            #expect(await api.ask("GET", "/v1/triggers/orders").status == 404)
            #expect(await api.ask("DELETE", "/v1/triggers/orders").status == 404)
            // The file still names it: another trigger of that name.
            #expect(await api.apply(Fixture.manifest).status == 200)
            #expect(try await store.orders().id != before.id)
        }
    }

    @Test func whatWasNotDeliveredIsSaidBeforeItGoes() async throws {
        try await Fixture.withAPI { api, store in
            #expect(await api.apply(Fixture.manifest).status == 200)
            try await Jobs.make(3, floor: nil, store)
            #expect(await api.ask("POST", "/v1/triggers/orders/stop").status == 200)
            let refused = await api.ask("DELETE", "/v1/triggers/orders")
            #expect(refused.status == 409 && refused.text.contains("out") && refused.text.contains("discard_undelivered"))
            #expect(try await store.orders().progress.lastPosition == JobPosition(3))
            #expect(await api.ask("DELETE", "/v1/triggers/orders", query: RemovalAPITests.discard).status == 200)
            let jobs = try JSONDocument(Array(await api.ask("GET", "/v1/jobs").text.utf8)).root
            #expect(jobs["jobs"]?.elements?.isEmpty == true)
        }
    }

    @Test func aDestinationThatGetsJobsStays() async throws {
        try await Fixture.withAPI { api, _ in
            #expect(await api.ask("DELETE", "/v1/destinations/out").status == 404)
            #expect(await api.apply(Fixture.manifest).status == 200)
            let refused = await api.ask("DELETE", "/v1/destinations/out")
            #expect(refused.status == 409 && refused.text.contains("orders"))
            #expect(await api.apply(Fixture.manifest.replacingAll("destinations: [out]", "destinations: []")).status == 200)
            #expect(await api.ask("DELETE", "/v1/destinations/out").status == 200)
            #expect(await api.ask("GET", "/v1/destinations/out").status == 404)
        }
    }

    @Test func aConnectionGoesAfterItsTriggers() async throws {
        try await Fixture.withAPI { api, store in
            #expect(await api.ask("DELETE", "/v1/connections/main").status == 404)
            #expect(await api.apply(Fixture.manifest).status == 200)
            let refused = await api.ask("DELETE", "/v1/connections/main", query: RemovalAPITests.discard)
            #expect(refused.status == 409 && refused.text.contains("orders"))
            #expect(await api.ask("POST", "/v1/triggers/orders/stop").status == 200)
            #expect(await api.ask("DELETE", "/v1/triggers/orders").status == 200)
            #expect(await api.ask("DELETE", "/v1/connections/main").status == 200)
            let left = try await store.definitions(.default)
            #expect(left.endpoints.isEmpty && left.connections.isEmpty)
        }
    }

    @Test func aWordThatIsNotDescribedIsRefused() async throws {
        try await Fixture.withAPI { api, _ in
            #expect(await api.apply(Fixture.manifest).status == 200)
            #expect(await api.ask("DELETE", "/v1/destinations/out", query: [("discard_undelivered", "yes")]).status == 400)
            #expect(await api.ask("DELETE", "/v1/destinations/out", query: [("force", "true")]).status == 400)
        }
    }
}
