import SluiceCore
import SluiceLua
import SluiceTesting
import Testing

/// Partitions that cannot be read, as who runs Sluice sees them.
@Suite struct PartitionAlarmTests {
    private static func described() throws -> LuaConnector {
        let source = """
            return { name = "feed", title = "Feed", version = "1",
            connection = { fields = { { name = "url" }, { name = "api_key", secret = true } } },
            triggers = { item = { incremental = { base_url = "{connection.url}", records = "items",
              partitions = { values = { "a", "b" } }, query = { list = "{partition}" },
              cursor = { field = "at", parameter = "from", type = "rfc3339", order = "asc", lookback_seconds = 60 },
              dedup = { id = "id" } } } } }
            """
        return try LuaConnector.load(source: Array(source.utf8), name: "feed", path: "feed/connector.lua")
    }

    private static func items(_ id: String, zone: String = "Z") -> FeedServer.Answer {
        .whole("200 OK", "{\"items\":[{\"id\":\"\(id)\",\"at\":\"2023-11-01T00:00:00\(zone)\"}]}")
    }

    /// What the provider refuses stands in an alarm until a cycle has read all of it.
    @Test func P12_aRefusedPartitionRaisesAnAlarm() async throws {
        let time = ManualTime()
        let server = FeedServer(clock: time)
        server.setFault { $0.target.contains("list=a") ? .whole("404 Not Found", "{}") : Self.items("i1") }
        try await server.with {
            try await Bench.with([BenchConnection(connector: try Self.described(), url: server.url)], time: time) { bench in
                try await waitUntil("the alarm") { bench.alarms.message(.partitionsLeftOut, "trigger items") != nil }
                let alarm = try #require(bench.alarms.message(.partitionsLeftOut, "trigger items"))
                #expect(alarm.contains("refuses 1 of 2 partitions") && alarm.contains(": a ("), "\(alarm)")
                try await waitUntil("b is read") { try await bench.keys().count == 1 }
                server.setFault { $0.target.contains("list=a") ? Self.items("i2") : Self.items("i1") }
                try await bench.pollNow()
                try await bench.advanceUntil("a is read", seconds: 30) { try await bench.keys().count == 2 }
                try await waitUntil("the alarm is gone") { bench.alarms.message(.partitionsLeftOut, "trigger items") == nil }
            }
        }
    }

    /// What cannot be read is no refusal: the trigger fails, where people look, and the others go on being read.
    @Test func P2_aPartitionThatCannotBeReadFailsTheTrigger() async throws {
        let time = ManualTime()
        let server = FeedServer(clock: time)
        server.setFault { $0.target.contains("list=a") ? Self.items("i2", zone: "") : Self.items("i1") }
        try await server.with {
            try await Bench.with([BenchConnection(connector: try Self.described(), url: server.url)], time: time) { bench in
                try await bench.advanceUntil("a failure", seconds: 30) { try await bench.trigger().progress.failures > 1 }
                try await waitUntil("the alarm") { bench.alarms.message(.triggerFailing, "trigger items") != nil }
                let alarm = try #require(bench.alarms.message(.triggerFailing, "trigger items"))
                #expect(alarm.contains("partition a fails, the others were read"), "\(alarm)")
                #expect(try await bench.keys().count == 1)
            }
        }
    }
}
