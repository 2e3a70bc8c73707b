import SluiceCore
import SluicePolling
import SluiceStore
import SluiceTesting
import Testing

/// Faults between the provider and the store: nothing is lost, and nobody holds up others.
@Suite struct LossTests {
    static let full = SluiceError(.diskFull, "the disk of the data directory is full, nothing was stored: make room")

    /// The commit of a page fails, whichever one: it is made again. `records`: the failure cannot be recorded either.
    @Test(arguments: [0, 1, 2], [false, true])
    func P3_aCommitThatFailsIsMadeAgain(page: Int, records: Bool) async throws {
        let time = ManualTime()
        let server = FeedServer(clock: time)
        server.add(6)
        let late = server
        try await server.with {
            let connection = BenchConnection(connector: try feed(), url: server.url)
            try await Bench.with([connection], time: time) { bench in
                try await waitUntil("6 jobs") { try await bench.keys() == server.keys }
                // The fault strikes when the provider is asked for the page in question.
                late.add(6)
                late.setFault { request in
                    if request.after == 6 + page * FeedServer.pageSize {
                        bench.store.failCommits([Self.full], records: records ? [Self.full] : [])
                        late.setFault(nil)
                    }
                    return nil
                }
                try await bench.pollNow()
                try await bench.advanceUntil("12 jobs") { try await bench.keys().count >= 12 }
                #expect(try await bench.keys() == server.keys)
                #expect(bench.store.faultsLeft == 0, "the fault struck")
                try await bench.advanceUntil("all is well") { try await bench.trigger().progress.lastError == nil }
                #expect(bench.alarms.message(.triggerFailing, "trigger items") == nil)
            }
        }
    }

    /// A page is committed in chunks of whatever size the store takes at the time: another one after a failure in its middle.
    @Test func P3_aPageInChunksOfChangingSizeIsWhole() async throws {
        let time = ManualTime()
        let server = FeedServer(clock: time)
        try await server.with {
            try await Bench.with([BenchConnection(connector: try feed(), url: server.url)], time: time) { bench in
                try await waitUntil("the first cycle has ended") { try await bench.trigger().progress.cyclesCompleted > 0 }
                server.setFault { request in
                    let items = (1...12).map { "{\"id\":\"i\($0)\",\"n\":\($0)}" }.joined(separator: ",")
                    return request.after == 0 ? .whole("200 OK", "{\"items\":[\(items)],\"next\":12,\"more\":false}") : nil
                }
                server.add(12)
                bench.store.failCommits([nil, Self.full], sizes: [5, 2, 3, 1, 0, 4, 9])
                try await bench.pollNow()
                try await bench.advanceUntil("12 jobs") { try await bench.keys().count >= 12 }
                // Jobs can be seen before their commit has returned to whoever counts it.
                try await waitUntil("the last commit has returned") { bench.store.committedSizes.reduce(0, +) >= 17 }
                #expect(try await bench.keys() == server.keys)
                #expect(bench.store.committedSizes == [5, 3, 1, 1, 4, 3], "after the failure the page begins anew")
                #expect(bench.store.faultsLeft == 0, "the fault struck")
            }
        }
    }

    /// While the disk is full the trigger says so and stays running, however long it takes.
    @Test func P2_aFullDiskIsNamedAndNeverFailsATrigger() async throws {
        let time = ManualTime()
        let server = FeedServer(clock: time)
        server.add(3)
        try await server.with {
            try await Bench.with([BenchConnection(connector: try feed(), url: server.url)], time: time) { bench in
                try await waitUntil("3 jobs") { try await bench.keys() == server.keys }
                bench.store.failCommits(Array(repeating: Self.full, count: 8))
                server.add(3)
                try await bench.pollNow()
                try await bench.advanceUntil("seven failures") { try await bench.trigger().progress.failures >= 7 }
                let trigger = try await bench.trigger()
                #expect(trigger.state == .running)
                #expect(trigger.progress.lastError?.contains("make room") == true)
                #expect(bench.alarms.message(.triggerFailing, "trigger items")?.contains("make room") == true)
                try await bench.advanceUntil("6 jobs") { try await bench.keys() == server.keys }
            }
        }
    }

    /// Paused while a page is under way: it commits nothing; resumed, everything is there once.
    @Test func P7_pausedInTheMiddleOfACycle() async throws {
        let time = ManualTime()
        let server = FeedServer(clock: time)
        server.add(8)
        server.setFault { $0.after == 4 ? .silence : nil }
        try await server.with {
            var connection = BenchConnection(connector: try feed(), url: server.url)
            connection.settings.requestSpanMax = .seconds(20)
            try await Bench.with([connection], time: time) { bench in
                try await waitUntil("the third page is asked for") { server.requests.contains { $0.after == 4 } }
                try await waitUntil("4 jobs") { try await bench.keys().count == 4 }
                try await bench.command(.pause)
                server.setFault(nil)
                try await waitUntil("the cycle ended", seconds: 60) { bench.service.cyclesRunning == 0 }
                let asked = server.requests.count
                bench.advance(by: .hours(24))
                try await Task.sleep(for: .milliseconds(100))
                #expect(server.requests.count == asked, "a paused trigger asks for nothing")
                let paused = try await bench.trigger()
                #expect(paused.state == .paused && paused.progress.failures == 0, "a pause is no failure")
                try await bench.command(.resume)
                try await bench.advanceUntil("8 jobs") { try await bench.keys().count >= 8 }
                #expect(try await bench.keys() == server.keys)
            }
        }
    }

    /// A provider that hangs, asked by many triggers, does not hold up another connection.
    @Test func P12_aHangingProviderHoldsUpNobodyElse() async throws {
        let time = ManualTime()
        let (hanging, healthy) = (FeedServer(clock: time), FeedServer(clock: time))
        hanging.setFault { _ in .silence }
        healthy.add(3)
        try await hanging.with {
            try await healthy.with {
                var slow = BenchConnection(
                    name: "slow", connector: try feed(), url: hanging.url, triggers: (1...200).map { "slow\($0)" })
                slow.settings.requestSpanMax = .seconds(120)
                let fast = BenchConnection(name: "fast", connector: try feed(), url: healthy.url, triggers: ["items"])
                try await Bench.with([slow, fast], time: time) { bench in
                    try await waitUntil("3 jobs", seconds: 20) { try await bench.keys() == healthy.keys }
                    try await waitUntil("four polls hang") { hanging.requests.count == 4 }
                    for _ in 0..<5 {
                        healthy.add(3)
                        try await bench.pollNow()
                        try await waitUntil("the next jobs", seconds: 20) { try await bench.keys() == healthy.keys }
                    }
                    #expect(hanging.requests.count == slow.settings.pollsAtOnceMax, "and it never has more than its share")
                }
            }
        }
    }

    /// Many connections to one host, all hanging: the one whose requests are answered there is not held up.
    @Test func P12_aHostThatHangsForSomeServesOthers() async throws {
        let time = ManualTime()
        let server = FeedServer(clock: time)
        server.setFault { $0.target.hasPrefix("/items-slow") ? .silence : nil }
        server.add(3)
        try await server.with {
            var connections = try (1...5).map { number in
                BenchConnection(
                    name: "slow\(number)", connector: try feed(), url: server.url + "-slow", triggers: (1...6).map { "slow\(number)-\($0)" }
                )
            }
            for index in connections.indices { connections[index].settings.requestSpanMax = .seconds(120) }
            connections.append(BenchConnection(name: "fast", connector: try feed(), url: server.url))
            try await Bench.with(connections, time: time) { bench in
                try await waitUntil("3 jobs") { try await bench.keys() == server.keys }
                try await waitUntil("each has its share of polls that hang") {
                    server.requests.count { $0.target.hasPrefix("/items-slow") } == 20
                }
                server.add(3)
                try await bench.pollNow()
                try await waitUntil("the next jobs", seconds: 20) { try await bench.keys() == server.keys }
            }
        }
    }
}
