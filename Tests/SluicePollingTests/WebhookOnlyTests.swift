import SluiceConnectors
import SluiceCore
import SluiceLua
import SluiceStore
import SluiceTesting
import Testing

@testable import SluicePolling

/// Webhook-only triggers: the inbox is their upstream.
@Suite struct WebhookOnlyTests {
    static let plain = ConnectorDescription("hooks", title: "Hooks", version: "1") {
        Webhook(scheme: "stripe") { _ in ["k"] }
        TriggerType("item", title: "Item") { WebhookKey { _ in "k" } }
    }

    static func run(_ connector: any Connector = plain, _ body: (Bench, StoredTrigger) async throws -> Void) async throws {
        let connection = BenchConnection(connector: connector, url: "http://127.0.0.1:1")
        try await Bench.with([connection], time: ManualTime()) { bench in
            try await bench.store.apply([.readsInbox(trigger: "items", true)], namespace: .default, at: bench.time.now())
            try await body(bench, try await bench.trigger())
        }
    }

    static func append(
        _ bench: Bench, _ trigger: StoredTrigger, _ body: String, id: String? = nil, isSigned: Bool = true, unmatched: String? = nil
    ) async throws -> InboxSequence {
        let digest = id.map { id in isSigned ? Array((id + body).utf8) + [UInt8](repeating: 0, count: 32) : nil } ?? nil
        return try await bench.store.append(
            InboxEntry(
                connection: trigger.connection, receivedAt: bench.time.now(), headers: Array("X-Kind: a".utf8), body: Array(body.utf8),
                deliveryID: id, deliveryDigest: digest, topics: trigger.topics, unmatchedReason: unmatched)
        ).sequence
    }

    static func records(_ bench: Bench) async throws -> [String] {
        let jobs = try await bench.store.jobs(JobQuery(trigger: try await bench.trigger().id, limit: 10_000)).jobs
        return jobs.map { String(decoding: $0.record, as: UTF8.self) }
    }

    @Test func eachWebhookIsAJobByteForByteAndADeliveryCountsOnce() async throws {
        try await WebhookOnlyTests.run { bench, trigger in
            let body = "{\"big\": 9007199254740993, \"x\":1.0}"
            _ = try await WebhookOnlyTests.append(bench, trigger, body, id: "d1")
            _ = try await WebhookOnlyTests.append(bench, trigger, body, id: "d2")
            // The provider's second try of d1 says so in its body.
            _ = try await WebhookOnlyTests.append(bench, trigger, "{\"attempt\":2}", id: "d1")
            // Ids that nobody signed prove nothing. The number counts with the time: a store that was restored gives it out again.
            let at = bench.time.now().milliseconds
            let unsigned = try await WebhookOnlyTests.append(bench, trigger, body, id: "d1", isSigned: false)
            let bare = try await WebhookOnlyTests.append(bench, trigger, "plain text")
            try await waitUntil("they are jobs") { try await bench.keys().count >= 4 }
            #expect(
                try await bench.keys() == [
                    "delivery:d1", "delivery:d2", "inbox:\(unsigned.rawValue)@\(at)", "inbox:\(bare.rawValue)@\(at)",
                ])
            #expect(try await WebhookOnlyTests.records(bench) == [body, body, body, "\"plain text\""])
            let progress = try await bench.trigger().progress
            #expect(progress.coveredSequence == bare && progress.cursor == Array("\(bare.rawValue)".utf8))
        }
    }

    @Test func whatIsParsedKeepsItsBytesAndWhatCannotBeIsQuarantined() async throws {
        let source = """
            return { name = "hooks", title = "Hooks", version = "1", webhook = { scheme = "stripe" },
            webhook_keys = function(request) return { "k" } end,
            triggers = { item = {
              webhook_key = function(input) return "k" end,
              webhook_notification = function(request, input, output)
                if request.headers["x-kind"] ~= "a" then error("another kind") end
                return request.json.items
              end } } }
            """
        let connector = try LuaConnector.load(source: Array(source.utf8), name: "hooks", path: "hooks/connector.lua")
        try await WebhookOnlyTests.run(connector) { bench, trigger in
            _ = try await WebhookOnlyTests.append(bench, trigger, "{\"items\":[{\"id\": 1.0},{\"id\":2}]}", id: "d1")
            _ = try await WebhookOnlyTests.append(bench, trigger, "no JSON", id: "d2")
            _ = try await WebhookOnlyTests.append(bench, trigger, "{\"items\":[]}", id: "d3")
            _ = try await WebhookOnlyTests.append(bench, trigger, "{\"items\":{\"id\":3}}", id: "d4")
            let unmatched = try await WebhookOnlyTests.append(bench, trigger, "{}", id: "d5", unmatched: "webhook_keys failed")
            try await waitUntil("all are read") { try await bench.trigger().progress.coveredSequence == unmatched }
            #expect(try await bench.keys() == ["delivery:d1#0", "delivery:d1#1", "delivery:d4"])
            #expect(try await WebhookOnlyTests.records(bench) == ["{\"id\": 1.0}", "{\"id\":2}", "{\"id\":3}"])
            let aside = try await bench.store.quarantine(.default, trigger: trigger.id, limit: 10)
            #expect(aside.count == 2)
            #expect(aside.contains { String(decoding: $0.bytes, as: UTF8.self) == "no JSON" && $0.reason.contains("webhook 2") })
            #expect(aside.contains { $0.reason.contains("sluice inbox redeliver \(unmatched.rawValue)") })
            #expect(bench.alarms.message(.quarantined, "trigger items") != nil)
        }
    }

    @Test func P3_aCommitThatFailsIsMadeAgain() async throws {
        try await WebhookOnlyTests.run { bench, trigger in
            bench.store.failCommits([LossTests.full, LossTests.full])
            for number in 0..<20 { _ = try await WebhookOnlyTests.append(bench, trigger, "{\"n\":\(number)}", id: "d\(number)") }
            try await bench.advanceUntil("they are jobs") { try await bench.keys().count >= 20 }
            #expect(try await bench.keys() == (0..<20).map { "delivery:d\($0)" })
            #expect(bench.store.faultsLeft == 0)
        }
    }

    @Test func aStreamOfWebhooksIsReadInBatchesAndLosesNothing() async throws {
        try await WebhookOnlyTests.run { bench, trigger in
            try await withThrowingTaskGroup(of: Void.self) { group in
                for writer in 0..<4 {
                    group.addTask {
                        for number in 0..<500 {
                            _ = try await WebhookOnlyTests.append(bench, trigger, "{\"n\":\(number)}", id: "d\(writer)-\(number)")
                        }
                    }
                }
                try await group.waitForAll()
            }
            try await waitUntil("they are jobs", seconds: 60) { try await bench.keys().count >= 2000 }
            #expect(Set(try await bench.keys()).count == 2000)
            let cycles = try await bench.trigger().progress.cyclesCompleted
            #expect(cycles < 2000, "commits batch under load")
        }
    }

    @Test func P7_webhooksOfAPausedTriggerWait() async throws {
        try await WebhookOnlyTests.run { bench, trigger in
            try await bench.command(.pause)
            for number in 0..<3 { _ = try await WebhookOnlyTests.append(bench, trigger, "{\"n\":\(number)}", id: "d\(number)") }
            let pruned = try await bench.store.prune(RetentionPolicy(), at: bench.time.now() + .days(60))
            #expect(pruned.webhooks == 0, "and retention leaves them")
            try await bench.command(.resume)
            try await waitUntil("they are jobs") { try await bench.keys() == ["delivery:d0", "delivery:d1", "delivery:d2"] }
        }
    }

    @Test func aTriggerBeginsWithWhatCameSinceItWasMade() async throws {
        try await WebhookOnlyTests.run { bench, trigger in
            // Nobody reads with this one's cursor: another trigger is made later, on the same topic.
            let old = try await WebhookOnlyTests.append(bench, trigger, "{\"n\":0}", id: "old")
            try await waitUntil("the first has it") { try await bench.keys().count == 1 }
            bench.time.advance(by: .seconds(5))
            let later = StoredTrigger.copy(trigger, createdAt: bench.time.now())
            let plan = try bench.catalogue.plan(for: trigger)
            let new = try await WebhookOnlyTests.append(bench, trigger, "{\"n\":1}", id: "new")
            let page = try await InboxPoll(store: bench.store, trigger: later, plan: plan).page(cursor: nil)
            #expect(try page.keys?.map { String(decoding: try $0.get(), as: UTF8.self) } == ["delivery:new"])
            #expect(page.cursor == Array("\(new.rawValue)".utf8) && old < new)
        }
    }
}

extension StoredTrigger {
    fileprivate static func copy(_ trigger: StoredTrigger, createdAt: Timestamp) -> StoredTrigger {
        var copy = trigger
        copy.createdAt = createdAt
        return copy
    }
}
