import SluiceConnectors
import SluiceCore
import SluiceLua
import SluicePolling
import SluiceStore
import SluiceTesting
import Testing

/// What a connector does wrong, and what the trigger's reader is told.
struct ConnectorFault: Sendable, CustomTestStringConvertible {
    var testDescription: String
    var poll: String
    var dedup: String
    var words: [String]

    init(_ name: String, poll: String = feedPoll, dedup: String = "return record.id", _ words: String...) {
        (testDescription, self.poll, self.dedup, self.words) = (name, poll, dedup, words)
    }

    static let all: [ConnectorFault] = [
        ConnectorFault("throws", poll: "error('no such field: total')", "connector.lua:", "no such field: total"),
        ConnectorFault(
            "throws after the answer", poll: "local page = get(connection.url).json return page.nothing.there", "connector.lua:"),
        ConnectorFault("throws with a secret", poll: "error('bad key ' .. connection.api_key)", "connector.lua:", "bad key [api_key]"),
        ConnectorFault("loops for ever", poll: "while true do end", "connector.lua:", "poll"),
        ConnectorFault("eats memory", poll: "local s = 'x' while true do s = s .. s end", "connector.lua:", "memory"),
        ConnectorFault("returns nothing", poll: "return nil", "poll"),
        ConnectorFault("returns nonsense", poll: "return 'tuesday'", "poll"),
        ConnectorFault("returns events that are none", poll: "return { events = 'none' }", "events"),
        ConnectorFault(
            "returns too many", poll: "local e = {} for i = 1, 10001 do e[i] = { id = 'x' .. i } end return { events = e }", "10001",
            "more than 10000"),
        ConnectorFault(
            "returns the same cursor for ever", poll: "return { events = {}, next_poll = { after = 3 }, can_poll_more = true }",
            "next_poll"),
        ConnectorFault("says more without a cursor", poll: "return { events = {}, can_poll_more = true }", "without next_poll"),
        ConnectorFault("asks for no URL", poll: "return get('items')", "URL must begin with"),
        ConnectorFault("asks for ever", poll: "while true do get(connection.url) end", "requests"),
        ConnectorFault(
            "keeps too much in its cursor",
            poll: "return { events = {}, next_poll = { text = ('x'):rep(70000) }, can_poll_more = false }", "65536 bytes"),
    ]
}

@Suite struct ConnectorFaultTests {
    static var limits: LuaLimits {
        var limits = LuaLimits()
        limits.pollRequestsMax = 10
        return limits
    }

    /// Three items are jobs; a broken version of the connector is loaded; it says so where people look; the right one is back.
    @Test(arguments: ConnectorFault.all)
    func P2_aBrokenConnectorIsNamedAndLosesNothing(fault: ConnectorFault) async throws {
        let time = ManualTime()
        let server = FeedServer(clock: time)
        server.add(3)
        try await server.with {
            let right = try feed()
            try await Bench.with([BenchConnection(connector: right, url: server.url)], time: time) { bench in
                try await waitUntil("3 jobs") { try await bench.keys() == server.keys }
                let broken = try feed(poll: fault.poll, dedup: fault.dedup, limits: Self.limits)
                bench.catalogue.change("shop") { $0.connector = broken }
                server.add(3)
                try await bench.pollNow()
                try await bench.advanceUntil("a failure", seconds: 30) { try await bench.trigger().progress.failures > 0 }
                try await waitUntil("the alarm") { bench.alarms.message(.triggerFailing, "trigger items") != nil }
                let error = try #require(try await bench.trigger().progress.lastError)
                for word in fault.words { #expect(error.contains(word), "\(error)") }
                #expect(!error.contains(BenchConnection.key), "no secret is told")
                #expect(try await bench.keys() == ["i1", "i2", "i3"])
                bench.catalogue.change("shop") { $0.connector = right }
                try await bench.pollNow()
                try await bench.advanceUntil("6 jobs", seconds: 30) { try await bench.keys().count >= 6 }
                #expect(try await bench.keys() == server.keys)
                try await bench.advanceUntil("all is well") {
                    let trigger = try await bench.trigger()
                    return trigger.state == .running && trigger.progress.lastError == nil
                }
                try await waitUntil("the alarm is gone") { bench.alarms.message(.triggerFailing, "trigger items") == nil }
            }
        }
    }

    /// One record has no identity: it is set aside with the reason, the others go on.
    @Test func P3_aRecordWithoutAnIdentityIsSetAside() async throws {
        let time = ManualTime()
        let server = FeedServer(clock: time)
        server.add(5)
        try await server.with {
            let connector = try feed(dedup: "if record.n == 2 then error('no id in ' .. record.n) end return record.id")
            try await Bench.with([BenchConnection(connector: connector, url: server.url)], time: time) { bench in
                try await waitUntil("4 jobs") { try await bench.keys() == ["i1", "i3", "i4", "i5"] }
                let trigger = try await bench.trigger()
                #expect(trigger.progress.quarantined == 1 && trigger.progress.lastError == nil)
                let aside = try await bench.store.quarantine(.default, trigger: trigger.id, limit: 10)
                #expect(aside.map { String(decoding: $0.bytes, as: UTF8.self) } == ["{\"id\":\"i2\",\"n\":2}"])
                #expect(aside.first?.reason.contains("no id in 2") == true)
                let alarm = try #require(bench.alarms.message(.quarantined, "trigger items"))
                #expect(alarm.contains("no id in 2"))
            }
        }
    }

    /// Two places in turn, for ever and without news: the trigger rests and says so, and a poll that is asked for finds what
    /// came meanwhile.
    @Test func P10_readingInCirclesEndsInARest() async throws {
        let time = ManualTime()
        let server = FeedServer(clock: time)
        let circle = "return { events = {}, next_poll = { after = 0, turn = closure and not closure.turn }, can_poll_more = true }"
        try await server.with {
            let connection = BenchConnection(connector: try feed(poll: circle), url: server.url)
            let limits = PollingService.Limits(slice: CycleSlice.Limits(pagesPerSliceMax: 4, barrenPagesMax: 10))
            try await Bench.with([connection], time: time, limits: limits) { bench in
                try await waitUntil("a rest") { bench.alarms.message(.triggerResting, "trigger items") != nil }
                let alarm = try #require(bench.alarms.message(.triggerResting, "trigger items"))
                #expect(alarm.contains("10 pages in a row without a job"), "\(alarm)")
                let right = try feed()
                bench.catalogue.change("shop") { $0.connector = right }
                server.add(3)
                try await bench.pollNow()
                try await waitUntil("3 jobs") { try await bench.keys() == server.keys }
                try await waitUntil("all is well") { bench.alarms.message(.triggerResting, "trigger items") == nil }
            }
        }
    }

    /// A fault of the connector that does not pass: after five times the trigger is failed, with the reason; resuming it
    /// after the repair revives it.
    @Test func fivePermanentFailuresMakeAFailedTriggerWhichResumeRevives() async throws {
        let time = ManualTime()
        let server = FeedServer(clock: time)
        server.add(3)
        // Four faults of the provider come first: they do not count towards the five.
        server.setFault { _ in .whole("500 Internal Server Error", "{}") }
        try await server.with {
            let broken = try feed(poll: "get(connection.url) error('broken')")
            try await Bench.with([BenchConnection(connector: broken, url: server.url)], time: time) { bench in
                try await bench.advanceUntil("four failures") { try await bench.trigger().progress.failures >= 4 }
                server.setFault(nil)
                let faults = try await bench.trigger().progress.failures
                try await bench.advanceUntil("a failure of the connector") {
                    try await bench.trigger().progress.lastError?.contains("broken") == true
                }
                #expect(try await bench.trigger().state == .running)
                try await bench.advanceUntil("it is failed") { try await bench.trigger().state == .failed }
                let failed = try await bench.trigger()
                #expect(failed.progress.failures == faults + 5)
                #expect(failed.stateReason?.contains("broken") == true)
                try await waitUntil("no cycle runs any more") { bench.service.cyclesRunning == 0 }
                let requests = server.requests.count
                bench.advance(by: .hours(1))
                try await Task.sleep(for: .milliseconds(100))
                #expect(server.requests.count == requests, "a failed trigger rests between its probes")
                let right = try feed()
                bench.catalogue.change("shop") { $0.connector = right }
                try await bench.command(.resume)
                try await waitUntil("3 jobs") { try await bench.keys() == server.keys }
                let revived = try await bench.trigger()
                #expect(revived.state == .running && revived.stateReason == nil)
            }
        }
    }

    /// A failed trigger is probed each safety interval, and a good probe revives it without anybody's help.
    @Test func aProbeRevivesAFailedTrigger() async throws {
        let time = ManualTime()
        let server = FeedServer(clock: time)
        server.add(3)
        try await server.with {
            let broken = try feed(poll: "error('broken')")
            try await Bench.with([BenchConnection(connector: broken, url: server.url)], time: time) { bench in
                try await bench.advanceUntil("it is failed") { try await bench.trigger().state == .failed }
                let right = try feed()
                bench.catalogue.change("shop") { $0.connector = right }
                bench.advance(by: .hours(13))
                try await bench.advanceUntil("3 jobs") { try await bench.keys() == server.keys }
                try await waitUntil("it runs") { try await bench.trigger().state == .running }
            }
        }
    }

    /// Alarms are kept in memory. After a restart what still is wrong is told again, and whoever has failed is tried once: it may have
    /// been mended meanwhile.
    @Test(arguments: [false, true]) func P2_aRestartTellsAgainAndTriesOnce(isMended: Bool) async throws {
        let time = ManualTime()
        let server = FeedServer(clock: time)
        server.add(3)
        try await server.with {
            let right = try feed(dedup: "if record.n == 2 then error('no id') end return record.id")
            try await Bench.with([BenchConnection(connector: right, url: server.url)], time: time) { bench in
                try await waitUntil("2 jobs") { try await bench.keys() == ["i1", "i3"] }
                let broken = try feed(poll: "get(connection.url) error('broken')")
                bench.catalogue.change("shop") { $0.connector = broken }
                try await bench.pollNow()
                try await bench.advanceUntil("it is failed") { try await bench.trigger().state == .failed }
                try await waitUntil("it says so") {
                    bench.alarms.message(.triggerFailing, "trigger items")?.contains("it has failed and rests") == true
                }
                if isMended { bench.catalogue.change("shop") { $0.connector = right } }
                server.add(1)
                let asked = server.requests.count
                bench.alarms.forget()
                try await bench.restarted { bench in
                    #expect(bench.alarms.message(.quarantined, "trigger items")?.contains("no id") == true)
                    if isMended {
                        try await waitUntil("3 jobs") { try await bench.keys() == ["i1", "i3", "i4"] }
                        try await waitUntil("it runs") { try await bench.trigger().state == .running }
                        try await waitUntil("all is well") { bench.alarms.message(.triggerFailing, "trigger items") == nil }
                        return
                    }
                    try await waitUntil("one try") { server.requests.count == asked + 1 }
                    try await waitUntil("its failure") {
                        bench.alarms.message(.triggerFailing, "trigger items")?.contains("it has failed and rests") == true
                    }
                    bench.advance(by: .hours(1))
                    try await Task.sleep(for: .milliseconds(100))
                    #expect(server.requests.count == asked + 1, "one try, not more")
                }
            }
        }
    }

    /// The connector or a secret is missing here: the trigger says so, goes on trying, and is never given up.
    @Test func P2_aConnectionThatCannotBeUsedIsNamed() async throws {
        let time = ManualTime()
        let server = FeedServer(clock: time)
        server.add(3)
        try await server.with {
            let missing = SluiceError(.connector, "the connector `feed` is not loaded: put its file into the connectors directory")
            let connection = BenchConnection(connector: try feed(), url: server.url, problem: missing)
            try await Bench.with([connection], time: time) { bench in
                try await bench.advanceUntil("seven failures") { try await bench.trigger().progress.failures >= 7 }
                let trigger = try await bench.trigger()
                #expect(trigger.state == .running)
                #expect(trigger.progress.lastError?.contains("is not loaded") == true)
                #expect(bench.alarms.message(.triggerFailing, "trigger items")?.contains("is not loaded") == true)
                bench.catalogue.change("shop") { $0.problem = nil }
                try await bench.advanceUntil("3 jobs") { try await bench.keys() == server.keys }
                try await waitUntil("all is well") { bench.alarms.message(.triggerFailing, "trigger items") == nil }
            }
        }
    }
}
