import SluiceConnectors
import SluiceCore
import SluiceLua
import SluiceStore
import SluiceTesting
import Synchronization
import Testing

@testable import SluicePolling

/// Held requests and streams, against a provider that holds, falls silent and breaks off.
@Suite struct HeldPollTests {
    /// `detail`: for each piece of a stream something else is asked for as well, by an ordinary request.
    static func connector(stream: Bool = false, seconds: Double = 60, detail: Bool = false) throws -> LuaConnector {
        let held =
            stream
            ? """
                local lines = get(connection.url:gsub("/items", "/watch"), {
                  params = { after = closure.after }, stream = true, timeout_seconds = \(seconds) }).json
                local last = closure.after
                \(detail ? "if #lines > 0 then get(connection.url, { params = { after = 1000000 } }) end" : "")
                for _, line in ipairs(lines) do last = line.n end
                return { events = lines, next_poll = { after = last } }
            """
            : """
                local page = get(connection.url, { params = { after = closure.after, hold = 1 }, timeout_seconds = \(seconds) }).json
                return { events = page.items, next_poll = { after = page.next } }
            """
        let source = """
            return { name = "feed", title = "Feed", version = "1",
            connection = { fields = { { name = "url" }, { name = "api_key", secret = true } } },
            triggers = { item = {
              dedup = function(record) return record.id end,
              poll = function(connection, input, closure)
                local page = get(connection.url, { params = { after = closure and closure.after or 0 } }).json
                return { events = page.items, next_poll = { after = page.next } }
              end,
              long_poll = function(connection, input, closure)
                \(held)
              end } } }
            """
        return try LuaConnector.load(source: Array(source.utf8), name: "feed", path: "feed/connector.lua")
    }

    static func run(
        stream: Bool = false, seconds: Double = 60, triggers: [String] = ["items"], span: Span = .seconds(20), detail: Bool = false,
        requestsPerSecond: Double? = nil,
        _ body: (Bench, HoldServer) async throws -> Void
    ) async throws {
        let server = HoldServer()
        try await server.with {
            var connection = BenchConnection(
                connector: try connector(stream: stream, seconds: seconds, detail: detail), url: server.url, triggers: triggers)
            connection.settings.requestSpanMax = span
            connection.settings.requestsPerSecondMax = requestsPerSecond
            try await Bench.with([connection], time: ManualTime()) { bench in try await body(bench, server) }
        }
    }

    @Test func newsOfAHeldRequestBecomeJobsAtOnceAndTheNextOneIsHeld() async throws {
        try await HeldPollTests.run { bench, server in
            server.add(3)
            try await waitUntil("a request is held") { server.heldCount == 1 }
            #expect(try await bench.keys() == server.keys)
            for _ in 0..<5 {
                server.add(2)
                try await waitUntil("its news are jobs") { try await bench.keys() == server.keys }
                try await waitUntil("the next request is held") { server.heldCount == 1 }
            }
            #expect(server.requests.count { !$0.contains("hold=") } == 1, "one poll connected")
            let progress = try await bench.trigger().progress
            #expect(progress.pollsByCause[.hold] == 5)
            #expect(bench.service.requestsHeld == 1 && bench.service.cyclesRunning == 0)
        }
    }

    /// All that happened at once comes in one answer, and asking for less is not to be had.
    @Test(arguments: [false, true]) func P7_anAnswerMayHoldMoreThanAPage(stream: Bool) async throws {
        try await HeldPollTests.run(stream: stream) { bench, server in
            server.add(1)
            try await waitUntil("a request is held") { server.heldCount == 1 }
            server.add(12_000)
            try await waitUntil("its news are jobs", seconds: 120) { try await bench.keys().count == 12_001 }
            #expect(try await bench.keys() == server.keys)
            #expect(try await bench.trigger().progress.failures == 0)
            try await waitUntil("the next request is held") { server.heldCount == 1 }
        }
    }

    @Test func emptyAnswersCostNoCommit() async throws {
        try await HeldPollTests.run { bench, server in
            server.add(1)
            server.setHold(milliseconds: 50)
            let last = Mutex((asked: 0, at: ContinuousClock.now))
            try await waitUntil("several were answered with nothing", seconds: 60) {
                // Held for less than a second, so they are spaced out on the bench's clock; which moves on once for each, and again
                // only where that was too soon: while this machine is slow, no hours must pass there.
                let asked = server.requests.count { $0.contains("hold=") }
                let isDue = last.withLock { last in
                    let isAnswered = asked > last.asked && server.heldCount == 0
                    guard isAnswered || last.at.duration(to: .now) > .seconds(2) else { return false }
                    last = (asked, ContinuousClock.now)
                    return true
                }
                if isDue { bench.advance(by: .seconds(30)) }
                return asked >= 4
            }
            // The bench's clock may have come to a safety poll meanwhile, which counts as a cycle.
            let commits = try await bench.trigger().progress.pollsByCause[.hold] ?? 0
            #expect(commits <= 1, "now and then one says that all is well: \(commits)")
            #expect(try await bench.keys() == server.keys)
        }
    }

    @Test(arguments: [false, true])
    func P7_aPauseLetsGoOfWhatIsHeldAtOnceAndAResumeLosesNothing(stream: Bool) async throws {
        try await HeldPollTests.run(stream: stream) { bench, server in
            server.add(2)
            try await waitUntil("a request is held") { server.heldCount == 1 }
            try await bench.command(.pause)
            try await waitUntil("it is let go", seconds: 30) { server.heldCount == 0 && bench.service.requestsHeld == 0 }
            server.add(3)
            let paused = try await bench.trigger()
            #expect(paused.state == .paused && paused.progress.failures == 0, "a pause is no failure")
            try await bench.command(.resume)
            try await waitUntil("everything is there") { try await bench.keys() == server.keys }
            try await waitUntil("it holds again") { server.heldCount == 1 }
        }
    }

    @Test func aPollByHandDoesNotWaitForTheHeldRequest() async throws {
        try await HeldPollTests.run { bench, server in
            try await waitUntil("a request is held") { server.heldCount == 1 }
            try await bench.pollNow()
            try await waitUntil("it polls") { try await bench.trigger().progress.pollsByCause[.manual] == 1 }
            try await waitUntil("it holds again") { server.heldCount == 1 }
        }
    }

    @Test func aConnectionThatIsDeadIsNoticedAndAPollFindsWhatItMissed() async throws {
        try await HeldPollTests.run(seconds: 1, span: .seconds(4)) { bench, server in
            // A busy machine may take longer than that for the first poll, which then waits on the bench's clock to be tried again.
            try await bench.advanceUntil("a request is held") { server.heldCount == 1 }
            server.setSilent(true)
            server.add(4)
            try await waitUntil("the deadline passed") { try await bench.trigger().progress.failures > 0 }
            #expect(try await bench.trigger().progress.lastError?.contains("dead") == true)
            server.setSilent(false)
            try await bench.advanceUntil("a poll found them") { try await bench.keys() == server.keys }
            try await bench.advanceUntil("it holds again") { server.heldCount == 1 }
        }
    }

    @Test func aStreamIsCommittedAsItComesAndGoneOnWith() async throws {
        try await HeldPollTests.run(stream: true) { bench, server in
            server.add(2)
            try await waitUntil("the stream is open") { server.heldCount == 1 }
            for count in [1, 5, 40, 1] {
                server.add(count)
                try await waitUntil("its lines are jobs") { try await bench.keys() == server.keys }
            }
            #expect(server.requests.count { $0.contains("/watch") } == 1, "over one connection")
        }
    }

    /// Lines were read, and before they could be committed the connection's budget was used up: they are asked for again.
    @Test func P3_linesThatWereTakenAndNotCommittedAreReadAgain() async throws {
        try await HeldPollTests.run(stream: true, detail: true, requestsPerSecond: 1.0 / 60) { bench, server in
            // With the one request that there is; the clock stands still, so that there is no other.
            try await waitUntil("the stream is open", seconds: 60) { server.heldCount == 1 }
            server.add(3)
            // What comes later must not hide them.
            try await waitUntil("it is held back", seconds: 60) { bench.service.requestsHeld == 0 || server.heldCount == 0 }
            server.add(2)
            try await bench.advanceUntil("all lines are jobs", seconds: 60) { try await bench.keys() == server.keys }
            #expect(try await bench.trigger().progress.failures == 0, "waiting for one's turn is no failure")
        }
    }

    @Test func aStreamThatBreaksOffIsOpenedAgainWhereTheCursorStands() async throws {
        try await HeldPollTests.run(stream: true) { bench, server in
            try await waitUntil("the stream is open") { server.heldCount == 1 }
            server.cutStreams(afterLines: 7)
            server.add(30)
            try await bench.advanceUntil("all lines are jobs, once") { try await bench.keys() == server.keys }
            server.cutStreams(afterLines: nil)
            try await bench.advanceUntil("it is open again") { server.heldCount == 1 }
        }
    }

    @Test func aStreamThatSaysNothingIsOpenedAnewWithoutAFailure() async throws {
        try await HeldPollTests.run(stream: true, seconds: 0.2) { bench, server in
            try await waitUntil("it was opened three times") {
                bench.advance(by: .seconds(30))
                return server.requests.count { $0.contains("/watch") } >= 3
            }
            #expect(try await bench.trigger().progress.failures == 0)
            server.add(3)
            try await bench.advanceUntil("its lines are jobs") { try await bench.keys() == server.keys }
        }
    }

    @Test func P12_heldRequestsTakeNoPlaceOfPolls() async throws {
        let (holding, polled) = (HoldServer(), FeedServer(clock: ManualTime()))
        polled.add(3)
        try await holding.with {
            try await polled.with {
                let held = BenchConnection(
                    name: "held", connector: try HeldPollTests.connector(), url: holding.url, triggers: (1...100).map { "h\($0)" })
                let fast = BenchConnection(name: "fast", connector: try feed(), url: polled.url)
                var limits = PollingService.Limits()
                (limits.cyclesAtOnceMax, limits.firstCyclesMax) = (2, 2)
                try await Bench.with([held, fast], time: ManualTime(), limits: limits) { bench in
                    try await waitUntil("all are held", seconds: 60) { holding.heldCount == 100 }
                    polled.add(3)
                    try await bench.pollNow()
                    try await waitUntil("a poll has its place") { try await bench.keys() == polled.keys }
                }
            }
        }
        // Ending the service lets go of all of them.
        try await waitUntil("nothing is held", seconds: 30) { holding.heldCount == 0 }
    }

    // MARK: Lines

    @Test(arguments: [1, 2, 3, 7, 1000])
    func linesAreHandedOverWhole(size: Int) {
        let text = "{\"a\":1}\n\n{\"b\":[1,2]}\r\n{\"c\":\"x\"}\n{\"d\""
        var buffer = LineBuffer()
        var found: [String] = []
        var rest = Array(text.utf8)[...]
        while !rest.isEmpty {
            buffer.append(rest.prefix(size))
            rest = rest.dropFirst(size)
            while let lines = buffer.take(bytesMax: 1) { found.append(String(decoding: lines, as: UTF8.self).filter { $0 != "\r" }) }
        }
        #expect(found == ["[{\"a\":1}]", "[{\"b\":[1,2]}]", "[{\"c\":\"x\"}]"].map { $0.replacing("\r", with: "") })
        #expect(buffer.count == 4 && !buffer.hasLine)
        #expect(buffer.take(bytesMax: 1000, atEnd: true).map { String(decoding: $0, as: UTF8.self) } == "[{\"d\"]")
    }
}
