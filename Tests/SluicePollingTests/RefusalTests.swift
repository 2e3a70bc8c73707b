import SluiceCore
import SluiceLua
import SluicePolling
import SluiceStore
import SluiceTesting
import Synchronization
import Testing

/// Providers that say no: wait, wrong credentials, go elsewhere; and addresses that may not be asked.
@Suite struct RefusalTests {
    /// 429: the whole connection keeps quiet for as long as it was told, then all its triggers go on.
    @Test func P12_tooManyRequestsSilencesTheWholeConnection() async throws {
        let time = ManualTime()
        let server = FeedServer(clock: time)
        server.add(3)
        server.setFault { _ in .whole("429 Too Many Requests", "{}", headers: ["Retry-After: 120"]) }
        try await server.with {
            var connection = BenchConnection(connector: try feed(), url: server.url, triggers: ["one", "two", "three"])
            connection.settings.pollsAtOnceMax = 1
            try await Bench.with([connection], time: time) { bench in
                let start = time.now()
                try await waitUntil("a failure") { try await Self.errors(bench).count == 1 }
                let error = try #require(try await Self.errors(bench).first)
                #expect(error.contains("limits our requests") && error.contains("status=429"), "\(error)")
                server.setFault(nil)
                for name in connection.triggers { try await bench.pollNow(name) }
                bench.advance(by: .seconds(119))
                try await Task.sleep(for: .milliseconds(200))
                #expect(server.requests.count == 1, "nobody asks before the time")
                bench.advance(by: .seconds(1))
                for name in connection.triggers {
                    try await bench.advanceUntil("3 jobs of \(name)") { try await bench.keys(name) == server.keys }
                }
                #expect(server.requests.dropFirst().allSatisfy { $0.at >= start + .seconds(120) })
            }
        }
    }

    private static let tokened = """
        return { name = "feed", title = "Feed", version = "1",
          connection = { fields = { { name = "url" }, { name = "api_key", secret = true } } },
          triggers = { item = { incremental = {
            base_url = "{connection.url}", path = "/list", records = "items",
            cursor = { field = "n", type = "integer", parameter = "from", order = "asc" },
            pagination = { token = { from = "next", parameter = "page" } }, dedup = { id = "id" } } } } }
        """

    /// A page token that is refused for good, in words that do not say that it has expired: the cycle begins again from the cursor.
    @Test func P10_aDeadPageTokenIsNotAskedWithForEver() async throws {
        let time = ManualTime()
        let server = FeedServer(clock: time)
        let beginnings = Mutex(0)
        // The token is dead for as long as the cycle does not begin again.
        server.setFault { request in
            guard request.target.contains("page=p2") else {
                beginnings.withLock { $0 += 1 }
                return .whole("200 OK", #"{"items": [{"id": "a", "n": 1}, {"id": "b", "n": 2}], "next": "p2"}"#)
            }
            let isDead = beginnings.withLock { $0 < 2 }
            return isDead ? .whole("422 Unprocessable Content", "{}") : .whole("200 OK", #"{"items": [{"id": "c", "n": 3}]}"#)
        }
        try await server.with {
            let connector = try LuaConnector.load(source: Array(Self.tokened.utf8), name: "feed", path: "feed/connector.lua")
            try await Bench.with([BenchConnection(connector: connector, url: server.url)], time: time) { bench in
                try await bench.advanceUntil("3 jobs") { try await bench.keys().count == 3 }
                // Perhaps once more, where a page was fetched ahead and its failure was not waited for.
                let tries = server.requests.dropFirst().prefix { $0.target.contains("page=p2") }.count
                #expect((3...4).contains(tries), "\(server.requests.map(\.target))")
            }
        }
    }

    /// A 400 may come from whatever stands in between: the trigger goes on. A cursor that is refused in each of three polls stops it.
    @Test(arguments: [1, 2, 3]) func P2_aCursorIsRefusedThreeTimesBeforeTheTriggerFails(refusals: Int) async throws {
        let time = ManualTime()
        let server = FeedServer(clock: time)
        let left = Mutex(refusals)
        server.setFault { request in
            guard request.target.contains("from=") else { return .whole("200 OK", #"{"items": [{"id": "a", "n": 1}]}"#) }
            let isRefused = left.withLock { left in
                left -= 1
                return left >= 0
            }
            return isRefused ? .whole("400 Bad Request", "{}") : .whole("200 OK", #"{"items": [{"id": "b", "n": 2}]}"#)
        }
        try await server.with {
            let connector = try LuaConnector.load(source: Array(Self.tokened.utf8), name: "feed", path: "feed/connector.lua")
            let connection = BenchConnection(connector: connector, url: server.url.replacing("/items", with: ""))
            try await Bench.with([connection], time: time) { bench in
                try await waitUntil("the first poll", seconds: 30) { try await bench.trigger().progress.cursor != nil }
                try await bench.pollNow()
                try await bench.advanceUntil("its end") {
                    let trigger = try await bench.trigger()
                    return trigger.state == .failed || trigger.progress.cursor.map { $0.contains(UInt8(ascii: "2")) } == true
                }
                let trigger = try await bench.trigger()
                let asked = server.requests.count { $0.target.contains("from=") }
                if refusals < 3 {
                    #expect(trigger.state == .running)
                    #expect(try await bench.keys() == ["a", "b"])
                } else {
                    #expect(trigger.state == .failed && asked == 3)
                    let words = "bad_cursor: the provider does not take the cursor: show it, then set or reset it"
                    #expect(trigger.stateReason?.hasPrefix(words) == true, "\(trigger.stateReason ?? "")")
                    #expect(trigger.progress.cursor != nil, "it is kept")
                }
            }
        }
    }

    /// A remaining quota of 0 counts as much as a 429.
    @Test func anExhaustedQuotaIsHeeded() async throws {
        let time = ManualTime()
        let server = FeedServer(clock: time)
        server.add(5)
        server.setFault { request in
            guard request.after == 0 else { return nil }
            let body = FeedServer.pageBody(after: 0, of: 5)
            return .whole("200 OK", body, headers: ["X-RateLimit-Remaining: 0", "X-RateLimit-Reset: 60"])
        }
        try await server.with {
            try await Bench.with([BenchConnection(connector: try feed(), url: server.url)], time: time) { bench in
                let start = time.now()
                try await waitUntil("a page") { try await bench.keys().count == 2 }
                bench.advance(by: .seconds(59))
                try await Task.sleep(for: .milliseconds(200))
                #expect(server.requests.count == 1, "nobody asks before the time")
                try await bench.advanceUntil("5 jobs") { try await bench.keys() == server.keys }
                #expect(server.requests.dropFirst().allSatisfy { $0.at >= start + .seconds(60) }, "\(server.requests.map(\.at))")
            }
        }
    }

    /// 401 twice: the connection is marked and says so; nobody asks any more; a poll by hand after the repair clears it, and
    /// all its triggers go on.
    @Test func refusedCredentialsMarkTheConnectionUntilAPollSucceeds() async throws {
        let time = ManualTime()
        let server = FeedServer(clock: time)
        server.add(3)
        server.setFault { _ in .whole("401 Unauthorized", "{}") }
        try await server.with {
            let connection = BenchConnection(connector: try feed(), url: server.url, triggers: ["one", "two"])
            try await Bench.with([connection], time: time) { bench in
                try await bench.advanceUntil("the alarm") { bench.alarms.message(.connectionRefused, "connection shop") != nil }
                let alarm = try #require(bench.alarms.message(.connectionRefused, "connection shop"))
                #expect(alarm.contains("correct them and apply again"), "\(alarm)")
                try await waitUntil("the connection is marked") { try await Self.problem(bench)?.contains("credentials") == true }
                // What began before the mark may still end.
                try await waitUntil("nothing runs") { bench.service.cyclesRunning == 0 }
                let asked = server.requests.count
                bench.advance(by: .hours(1))
                try await Task.sleep(for: .milliseconds(200))
                #expect(server.requests.count == asked, "nobody asks with credentials that are refused")
                #expect(bench.service.status(of: try await bench.trigger("one")).isConnectionRefused)
                server.setFault(nil)
                try await bench.pollNow("one")
                try await waitUntil("3 jobs") { try await bench.keys("one") == server.keys }
                try await bench.advanceUntil("3 jobs of the other") { try await bench.keys("two") == server.keys }
                #expect(bench.alarms.message(.connectionRefused, "connection shop") == nil)
                try await waitUntil("the mark is gone") { try await Self.problem(bench) == nil }
            }
        }
    }

    /// A path for each trigger, as a repository each.
    private static let ownPath = """
        local answer = get(connection.url .. "/" .. input.trigger, { params = { after = closure and closure.after or 0 } })
        if answer.status ~= 200 then error("the list answered " .. answer.status) end
        return { events = answer.json.items, next_poll = { after = answer.json.next }, can_poll_more = answer.json.more }
        """

    /// 403 for what one trigger reads: it fails by itself and says what to check; the other goes on, also after days without news.
    @Test(arguments: [["barred", "open"], ["open", "barred"]])
    func P12_aTriggerThatMayNotReadItsOwnDoesNotSilenceTheOthers(names: [String]) async throws {
        let time = ManualTime()
        let server = FeedServer(clock: time)
        server.add(3)
        server.setFault { $0.target.contains("barred") ? .whole("403 Forbidden", "{}") : nil }
        try await server.with {
            let connection = BenchConnection(connector: try feed(poll: Self.ownPath), url: server.url, triggers: names)
            try await Bench.with([connection], time: time) { bench in
                try await waitUntil("3 jobs") { try await bench.keys("open") == server.keys }
                try await bench.advanceUntil("it has failed") { try await bench.trigger("barred").state == .failed }
                let reason = try #require(try await bench.trigger("barred").stateReason)
                #expect(reason.contains("status=403") && reason.contains("check what its credentials may do"), "\(reason)")
                #expect(bench.alarms.message(.connectionRefused, "connection shop") == nil)
                #expect(try await Self.problem(bench) == nil)
                server.add(2)
                try await bench.pollNow("open")
                try await waitUntil("5 jobs") { try await bench.keys("open") == server.keys }
                // It is tried again at the safety interval, and works once it may read.
                server.setFault(nil)
                bench.advance(by: .hours(14))
                try await bench.advanceUntil("it runs again") { try await bench.keys("barred") == server.keys }
                try await waitUntil("it is revived") { try await bench.trigger("barred").state == .running }
            }
        }
    }

    /// 403 for everything, after it worked: two triggers that it concerns are enough, and nobody else asks.
    @Test func credentialsThatLostTheirRightsMarkTheConnection() async throws {
        let time = ManualTime()
        let server = FeedServer(clock: time)
        server.add(3)
        let names = (0..<6).map { "t\($0)" }
        try await server.with {
            let connection = BenchConnection(connector: try feed(poll: Self.ownPath), url: server.url, triggers: names)
            try await Bench.with([connection], time: time) { bench in
                for name in names { try await waitUntil("jobs of \(name)") { try await bench.keys(name) == server.keys } }
                server.setFault { _ in .whole("403 Forbidden", "{}") }
                for name in names.prefix(2) { try await bench.pollNow(name) }
                try await bench.advanceUntil("the alarm") { bench.alarms.message(.connectionRefused, "connection shop") != nil }
                try await waitUntil("nothing runs") { bench.service.cyclesRunning == 0 }
                let asked = server.requests.count
                bench.advance(by: .hours(1))
                try await Task.sleep(for: .milliseconds(200))
                #expect(server.requests.count == asked, "nobody asks with credentials that lost their rights")
                server.setFault(nil)
                server.add(1)
                try await bench.pollNow("t5")
                for name in names { try await bench.advanceUntil("jobs of \(name)") { try await bench.keys(name) == server.keys } }
                #expect(bench.alarms.message(.connectionRefused, "connection shop") == nil)
            }
        }
    }

    /// 403 of a connection's only trigger says as much as 401.
    @Test func aConnectionsOnlyTriggerSpeaksForIt() async throws {
        let time = ManualTime()
        let server = FeedServer(clock: time)
        server.setFault { _ in .whole("403 Forbidden", "{}") }
        try await server.with {
            try await Bench.with([BenchConnection(connector: try feed(), url: server.url)], time: time) { bench in
                try await bench.advanceUntil("the alarm") { bench.alarms.message(.connectionRefused, "connection shop") != nil }
            }
        }
    }

    static func errors(_ bench: Bench) async throws -> [String] {
        try await bench.store.definitions(.default).triggers.compactMap(\.progress.lastError)
    }

    static func problem(_ bench: Bench) async throws -> String? { try await bench.store.definitions(.default).connections.first?.problem }

    /// Another host: the credentials never arrive there, and the error names it.
    @Test(arguments: [301, 302, 303, 307, 308])
    func P10_aRedirectToAnotherHostIsNotFollowed(status: Int) async throws {
        let time = ManualTime()
        let (server, other) = (FeedServer(clock: time), FeedServer(clock: time))
        server.add(3)
        try await other.with(host: "127.0.0.2") {
            let target = other.url
            server.setFault { _ in .whole("\(status) Moved", "", headers: ["Location: \(target)"]) }
            try await server.with {
                try await Bench.with([BenchConnection(connector: try feed(), url: server.url)], time: time) { bench in
                    try await waitUntil("a failure") { try await bench.trigger().progress.failures > 0 }
                    let error = try #require(try await bench.trigger().progress.lastError)
                    #expect(error.contains("127.0.0.2") && error.contains("correct the base URL"), "\(error)")
                    #expect(other.requests.isEmpty, "the other host hears nothing")
                    server.setFault(nil)
                    try await bench.advanceUntil("3 jobs") { try await bench.keys() == server.keys }
                }
            }
        }
    }

    /// The same host at another port is another party.
    @Test func P10_aRedirectToAnotherPortIsNotFollowed() async throws {
        let time = ManualTime()
        let (server, other) = (FeedServer(clock: time), FeedServer(clock: time))
        try await other.with {
            let target = other.url
            server.setFault { _ in .whole("302 Found", "", headers: ["Location: \(target)"]) }
            try await server.with {
                try await Bench.with([BenchConnection(connector: try feed(), url: server.url)], time: time) { bench in
                    try await waitUntil("a failure") { try await bench.trigger().progress.failures > 0 }
                    #expect(other.requests.isEmpty)
                }
            }
        }
    }

    /// The same host: followed, with the credentials.
    @Test func aRedirectOnTheSameHostIsFollowed() async throws {
        let time = ManualTime()
        let server = FeedServer(clock: time)
        server.add(5)
        server.setFault { request in
            guard request.target.hasPrefix("/items?") else { return nil }
            return .whole("307 Temporary Redirect", "", headers: ["Location: /v2\(request.target)"])
        }
        try await server.with {
            try await Bench.with([BenchConnection(connector: try feed(), url: server.url)], time: time) { bench in
                try await waitUntil("5 jobs") { try await bench.keys() == server.keys }
                let followed = server.requests.filter { $0.target.hasPrefix("/v2") }
                #expect(!followed.isEmpty && followed.allSatisfy { $0.head.contains("Bearer \(BenchConnection.key)") })
            }
        }
    }

    /// A private address where the connection does not say `allow_private`: nothing is sent.
    @Test func P10_aPrivateAddressIsRefusedUnlessAllowed() async throws {
        let time = ManualTime()
        let server = FeedServer(clock: time)
        server.add(3)
        try await server.with {
            var connection = BenchConnection(connector: try feed(), url: server.url)
            connection.settings.allowsPrivate = false
            try await Bench.with([connection], time: time) { bench in
                try await waitUntil("a failure") { try await bench.trigger().progress.failures > 0 }
                let error = try #require(try await bench.trigger().progress.lastError)
                #expect(error.hasPrefix("forbidden_address") && error.contains("allow_private: true"), "\(error)")
                #expect(server.requests.isEmpty)
                bench.catalogue.change("shop") { $0.settings.allowsPrivate = true }
                bench.service.connectionChanged(try await bench.trigger().connection)
                try await bench.pollNow()
                try await bench.advanceUntil("3 jobs") { try await bench.keys() == server.keys }
            }
        }
    }
}
