import SluiceCore
import SluicePolling
import SluiceStore
import SluiceTesting
import Testing

/// Another process takes the lease over.
@Suite struct LeaseTests {
    @Test(arguments: [false, true]) func P10_whoLostTheLeaseAsksTheProviderNoMore(_ fails: Bool) async throws {
        let time = ManualTime()
        let server = FeedServer(clock: time)
        server.add(2)
        try await server.with {
            let connection = BenchConnection(connector: try feed(), url: server.url, triggers: ["one", "two"])
            try await Bench.with([connection], time: time) { bench in
                for name in connection.triggers {
                    try await waitUntil("the jobs of \(name)") { try await bench.keys(name) == server.keys }
                }
                _ = try await bench.store.acquireLease(shard: 0, holder: "another", at: time.now())
                server.add(1)
                if fails { server.setFault { _ in .whole("503 Service Unavailable", "{}") } }
                try await bench.pollNow("one")
                try await waitUntil("the alarm") { bench.alarms.message(.leaseLost, "polls") != nil }
                let asked = server.requests.count
                for name in connection.triggers { try await bench.pollNow(name) }
                bench.advance(by: .hours(13))
                try await Task.sleep(for: .milliseconds(300))
                #expect(server.requests.count == asked, "nobody is asked in vain")
                #expect(try await bench.keys("one").count == 2, "what was refused made no job")
            }
        }
    }
}
