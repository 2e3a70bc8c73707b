import SluiceConnectors
import SluiceCore
import SluiceLua
import SluiceStore
import Testing

@testable import SluiceServer

/// Records that could not become jobs are made into jobs once the connector is mended.
@Suite struct QuarantineTests {
    private static func connector(dedup: String, kind: String = "poll") throws -> any Connector {
        let source = """
            return { name = "shop", title = "Shop", version = "1",
            connection = { fields = { { name = "site" }, { name = "api_key", secret = true } } },
            webhook = { scheme = "basic-auth" }, webhook_keys = function(request) return { request.json.kind } end,
            triggers = {
              record = { input_fields = { { name = "resource" }, { name = "code", optional = true } },
                poll = function(connection, input, closure) return { events = {}, next_poll = { n = 1 } } end,
                dedup = function(record) \(dedup) end },
              note = { webhook_key = function(input) return "note" end,
                webhook_notification = function(request) return request.json.items end, dedup = function(record) \(dedup) end },
              parted = { incremental = { base_url = "https://x.test", path = "/{partition}", partitions = { values = { "a" } },
                dedup = { id = "id" } } } } }
            """
        return try LuaConnector.load(source: Array(source.utf8), name: "shop", path: "shop/connector.lua")
    }

    private static let manifest = """
        connections:
          main: {connector: shop, fields: {site: acme, api_key: "${env:KEY}"}, webhook: {secrets: ["${env:HOOK}"]}}
        triggers:
          orders: {connection: main, type: record, input: {resource: order}, destinations: [out]}
          notes: {connection: main, type: note}
          parts: {connection: main, type: parted}
        destinations:
          out: {kind: push, url: "https://example.com/in", secret: "${env:PUSH}"}
        """

    /// Sets parts aside as a cycle of this trigger would.
    private static func setAside(_ parts: [(bytes: String, reason: String)], of trigger: StoredTrigger, _ store: any Store) async throws {
        let fence = try await store.acquireLease(shard: 0, holder: "test", at: Timestamp(seconds: 1))
        let end = CycleEnd(cause: .start, startedAt: Timestamp(seconds: 1), coveredSequence: .zero, safetyDueAt: Timestamp(seconds: 100))
        let quarantined = parts.enumerated().map { index, part in
            QuarantinedRecord(bytes: Array(part.bytes.utf8), reason: part.reason, digest: [UInt8](repeating: UInt8(index + 1), count: 32))
        }
        _ = try await store.commitPage(
            PageCommit(
                fence: fence, trigger: trigger.id, generation: trigger.generation, cycle: 1, page: 0, chunk: 0, cause: .start, records: [],
                quarantined: quarantined, completion: PageCompletion(end: end), at: Timestamp(seconds: 2)))
    }

    private static func with(_ dedup: String, _ body: (API, any Store) async throws -> Void) async throws {
        try await Fixture.withAPI(connectors: ["shop": try connector(dedup: dedup)]) { api, store in
            #expect(await api.apply(manifest).status == 200)
            try await body(api, store)
        }
    }

    @Test func recordsBecomeJobsOnceTheConnectorCanKeyThem() async throws {
        try await Self.with("return record.id or record.name") { api, store in
            let bodies = [#"{"name":"n1","price":1.50}"#, #"{"id":"a"}"#, #"{"other":1}"#]
            try await Self.setAside(bodies.map { ($0, "no id") }, of: try await store.orders(), store)
            api.parts.alarms.raise(Alarm(kind: .quarantined, subject: "trigger orders", message: "3 records"))
            let listed = await api.ask("GET", "/v1/triggers/orders/quarantine")
            #expect(listed.text.contains(#""total":3"#))

            // One by the beginning of its digest; the alarm stands for the others.
            let one = await api.ask("POST", "/v1/triggers/orders/quarantine/retry", #"{"digests":["020202020202"]}"#)
            #expect(one.status == 200 && one.text.contains(#""jobs":1,"removed":1,"left":[]"#), "\(one)")
            #expect(api.parts.alarms.standing().count == 1)
            let rest = await api.ask("POST", "/v1/triggers/orders/quarantine/retry")
            #expect(rest.text.contains(#""jobs":1,"removed":1"#) && rest.text.contains(#""digest":"03030303"#), "\(rest)")
            let jobs = try await store.jobs(JobQuery(trigger: try await store.orders().id)).jobs
            #expect(jobs.map { String(decoding: $0.dedupKey, as: UTF8.self) } == ["a", "n1"])
            #expect(jobs.last.map { String(decoding: $0.record, as: UTF8.self) } == bodies[0], "byte for byte")
            #expect(try await store.deliveries(DeliveryQuery(limit: 10)).count == 2)
            #expect(try await store.orders().progress.quarantined == 1)
            #expect(await api.ask("GET", "/v1/triggers/orders/quarantine").text.contains(#""total":1"#))
        }
    }

    /// What nobody can key is given up by name, and is not set aside again.
    @Test func recordsAreDiscardedOnlyByNameOrAll() async throws {
        try await Self.with("return record.id") { api, store in
            let bodies = [#"{"name":"n1"}"#, #"{"name":"n2"}"#, #"{"name":"n3"}"#]
            try await Self.setAside(bodies.map { ($0, "no id") }, of: try await store.orders(), store)
            api.parts.alarms.raise(Alarm(kind: .quarantined, subject: "trigger orders", message: "3 records"))
            let path = "/v1/triggers/orders/quarantine/discard"
            for body in ["", "{}", #"{"all":false}"#, #"{"all":true,"digests":["020202020202"]}"#, #"{"digests":["xyz"]}"#] {
                #expect(await api.ask("POST", path, body).status == 400, "\(body)")
            }
            #expect(await api.ask("POST", path, #"{"digests":["ffffffffffff"]}"#).status == 404)
            let one = await api.ask("POST", path, #"{"digests":["020202020202"]}"#)
            #expect(one.status == 200 && one.text.contains(#""discarded":1,"left":2"#), "\(one)")
            #expect(api.parts.alarms.standing().count == 1)
            #expect(await !api.ask("GET", "/v1/triggers/orders/quarantine").text.contains("n2"))
            let rest = await api.ask("POST", path, #"{"all":true}"#)
            #expect(rest.text.contains(#""discarded":2,"left":0"#), "\(rest)")
            #expect(api.parts.alarms.standing().isEmpty)
            #expect(try await store.orders().progress.lastPosition == .zero)
        }
    }

    @Test func whatCannotBeSaidIsRefusedWithTheRemedy() async throws {
        try await Self.with("return record.id") { api, store in
            let path = "/v1/triggers/orders/quarantine/retry"
            #expect(await api.ask("POST", path, #"{"digests":["ffffffffffff"]}"#).status == 404)
            #expect(await api.ask("POST", path, #"{"digests":["xyz"]}"#).status == 400)
            #expect(await api.ask("POST", path, #"{"digests":"all"}"#).status == 400)
            #expect(await api.ask("POST", "/v1/triggers/nobody/quarantine/retry").status == 404)
            let parts = await api.ask("POST", "/v1/triggers/parts/quarantine/retry")
            #expect(parts.status == 409 && parts.text.contains("sluice backfill start parts"), "\(parts)")
            #expect(await api.ask("POST", path).text.contains(#""jobs":0,"removed":0,"left":[]"#))
        }
    }

    @Test func aWebhookThatCouldNotBeReadBecomesItsRecords() async throws {
        try await Self.with("return record.id") { api, store in
            let definitions = try await store.definitions(.default)
            let connection = try #require(definitions.connections.first?.id)
            func keep(_ body: String) async throws -> Int64 {
                let entry = InboxEntry(
                    connection: connection, receivedAt: Timestamp(seconds: 5), body: Array(body.utf8), deliveryID: nil, deliveryDigest: nil,
                    isForced: false, topics: [])
                return try await store.append(entry).sequence.rawValue
            }
            let read = try await keep(#"{"kind":"note","items":[{"id":"x"},{"id":"y"}]}"#)
            let others = try await keep(#"{"kind":"invoice","items":[{"id":"z"}]}"#)
            let garbled = try await keep(#"{"kind":"note","items":[{"nr":1}]}"#)
            let trigger = try #require(try await store.trigger(.default, named: "notes"))
            try await Self.setAside(
                [
                    ("{}", "webhook \(read): it was not matched"), ("{}", "webhook \(others): it was not matched"),
                    ("{}", "webhook \(garbled): x"),
                    ("{}", "webhook 4711: gone"),
                ], of: trigger, store)
            let answer = await api.ask("POST", "/v1/triggers/notes/quarantine/retry")
            #expect(answer.text.contains(#""jobs":2,"removed":2"#), "\(answer)")
            #expect(answer.text.contains("webhook 4711 is not in the inbox any more"))
            let jobs = try await store.jobs(JobQuery(trigger: trigger.id)).jobs
            #expect(jobs.map { String(decoding: $0.dedupKey, as: UTF8.self) } == ["x", "y"])
        }
    }

    /// A webhook that goes its way once more under another number is not waited for under its former one.
    @Test func whatWasRedeliveredLeavesTheQuarantine() async throws {
        try await Self.with("return record.id") { api, store in
            let trigger = try #require(try await store.trigger(.default, named: "notes"))
            try await Self.setAside(
                [("{}", "webhook 3: it was not matched"), ("{}", "webhook 31: x"), ("{}", "no id")], of: trigger, store)
            api.parts.alarms.raise(Alarm(kind: .quarantined, subject: "trigger notes", message: "3 records"))
            func left() async throws -> [String] {
                try await store.quarantine(.default, trigger: trigger.id, limit: 10).map { String($0.reason.prefix(10)) }
            }
            try await api.discardQuarantine(ofWebhook: 3, connection: ConnectionID(99))
            #expect(try await left().count == 3, "of another connection")
            try await api.discardQuarantine(ofWebhook: 3, connection: trigger.connection)
            #expect(try await left() == ["no id", "webhook 31"] && api.parts.alarms.standing().count == 1)
            #expect(await api.ask("POST", "/v1/triggers/notes/quarantine/discard", #"{"all":true}"#).text.contains(#""left":0"#))
            #expect(api.parts.alarms.standing().isEmpty)
        }
    }
}
