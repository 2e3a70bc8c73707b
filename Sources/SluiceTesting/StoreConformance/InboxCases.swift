import SluiceCore
import SluiceStore

extension StoreConformance {
    static let inbox: [ConformanceCase] = [
        ConformanceCase("P1_anAppendedWebhookSurvivesReopening", appendSurvivesReopening),
        ConformanceCase("P1_manyAppendsAtOnceAreAllKept", manyAppendsAtOnce),
        ConformanceCase("P1_aRepeatedDeliveryIsNotStoredAgain", repeatedDelivery),
        ConformanceCase("P1_repeatedDeliveriesAtOnceAreStoredOnce", repeatedAtOnce),
        ConformanceCase("P1_aForcedDeliveryIsStoredAgain", forcedDelivery),
        ConformanceCase("P1_aRepetitionIsKnownHoweverFarBack", repetitionFarBack),
        ConformanceCase("P2_signalsAreMergedByTopicAndTold", signalsAreMerged),
        ConformanceCase("inboxListsNewestFirstAndFilters", inboxLists),
        ConformanceCase("P10_aListOfWebhooksNeedNotReadTheirBodies", listWithoutContent),
        ConformanceCase("P2_retentionSparesUncoveredWebhooks", inboxSparesUncovered),
        ConformanceCase("P1_sequencesAreNeverUsedAgain", sequencesNeverReused),
    ]

    private static func appendSurvivesReopening(_ bench: inout StoreBench) async throws {
        let trigger = try await bench.makeTrigger(topicKeys: ["a", "b"])
        var entry = bench.webhook(try await bench.connection(), trigger.topics, body: "{\"n\":9007199254740993}", digest: 7)
        entry.method = "PUT"
        entry.path = "/h/ü"
        entry.query = "a=1&b="
        entry.headers = StoreBench.bytes("Host: x\nX: y")
        entry.unmatchedReason = "why not"
        let receipt = try await bench.store.append(entry)
        try expectEqual(receipt.isRepeated, false, "a first delivery")
        try await bench.reopen()
        let stored = try require(try await bench.store.inboxItem(.default, receipt.sequence), "the webhook").entry
        try expectEqual(stored.body, entry.body, "body")
        try expectEqual(stored.headers, entry.headers, "headers")
        try expectEqual([stored.method, stored.path, stored.query], ["PUT", "/h/ü", "a=1&b="], "request line")
        try expectEqual(stored.topics, trigger.topics, "topics")
        try expectEqual(stored.receivedAt, entry.receivedAt, "time")
        try expectEqual(stored.deliveryID, "delivery-7", "delivery id")
        try expectEqual(stored.deliveryDigest, entry.deliveryDigest, "digest")
        try expectEqual(stored.unmatchedReason, "why not", "reason")
        try expectEqual(try await bench.topic("b").signalSequence, receipt.sequence, "the topic's signal")
        try expect(try await bench.store.inboxItem(NamespaceID(2), receipt.sequence) == nil, "another namespace sees the webhook")
    }

    private static func manyAppendsAtOnce(_ bench: inout StoreBench) async throws {
        let trigger = try await bench.makeTrigger()
        let connection = try await bench.connection()
        let here = bench
        let receipts = try await withThrowingTaskGroup(of: InboxReceipt.self) { group in
            for number in 0..<500 {
                group.addTask { try await here.store.append(here.webhook(connection, trigger.topics, body: "\(number)")) }
            }
            return try await group.reduce(into: []) { $0.append($1) }
        }
        let sequences = Set(receipts.map(\.sequence))
        try expectEqual(sequences.count, 500, "different sequences")
        try await bench.reopen()
        let items = try await bench.store.inbox(InboxQuery(limit: 1000))
        try expectEqual(Set(items.map(\.sequence)), sequences, "what is kept")
        try expectEqual(Set(items.map(\.entry.body)).count, 500, "different bodies")
        try expectEqual(try await bench.topic("a").signalSequence, sequences.max() ?? .zero, "the signal is the last webhook's")
    }

    private static func repeatedDelivery(_ bench: inout StoreBench) async throws {
        let trigger = try await bench.makeTrigger()
        let connection = try await bench.connection()
        let first = try await bench.store.append(bench.webhook(connection, trigger.topics, digest: 1))
        let other = try await bench.store.append(bench.webhook(connection, trigger.topics, digest: 2))
        try await bench.reopen()
        let observer = RecordingObserver()
        bench.store.observe(observer)
        let again = try await bench.store.append(bench.webhook(connection, trigger.topics, digest: 1))
        try expectEqual(again, InboxReceipt(sequence: first.sequence, isRepeated: true), "the receipt names the first copy")
        try expectEqual(try await bench.topic("a").signalSequence, other.sequence, "a repetition raises no signal")
        let unsigned = try await bench.store.append(bench.webhook(connection, trigger.topics))
        let unsignedAgain = try await bench.store.append(bench.webhook(connection, trigger.topics))
        try expect(!unsignedAgain.isRepeated, "without a digest nothing is a repetition")
        let heard = try await observer.wait("the unsigned webhooks") { $0.signals.last?.last?.sequence == unsignedAgain.sequence }
        try expect(heard.signals.joined().allSatisfy { $0.sequence >= unsigned.sequence }, "a repetition was told: \(heard.signals)")
        try expectEqual(try await bench.store.inbox(InboxQuery()).count, 4, "webhooks kept")
    }

    private static func repeatedAtOnce(_ bench: inout StoreBench) async throws {
        let trigger = try await bench.makeTrigger()
        let connection = try await bench.connection()
        let here = bench
        let receipts = try await withThrowingTaskGroup(of: InboxReceipt.self) { group in
            for _ in 0..<50 { group.addTask { try await here.store.append(here.webhook(connection, trigger.topics, digest: 9)) } }
            return try await group.reduce(into: []) { $0.append($1) }
        }
        try expectEqual(receipts.count { !$0.isRepeated }, 1, "first copies among fifty deliveries at once")
        try expectEqual(Set(receipts.map(\.sequence)).count, 1, "sequences named")
    }

    /// Twelve thousand deliveries, reopened half-way; then the first, middle and last of them again, as long as they are kept.
    private static func repetitionFarBack(_ bench: inout StoreBench) async throws {
        let trigger = try await bench.makeTrigger()
        let connection = try await bench.connection()
        let deliver: @Sendable (StoreBench, Range<Int>) async throws -> [Int: InboxReceipt] = { bench, numbers in
            try await withThrowingTaskGroup(of: (Int, InboxReceipt).self) { group in
                for number in numbers {
                    var entry = bench.webhook(connection, trigger.topics)
                    // Spread over the range as digests are: a multiplication by an odd number is one-to-one.
                    let head = UInt64(number) &* 0x9E37_79B9_7F4A_7C15
                    entry.deliveryDigest = (0..<32).map { UInt8(truncatingIfNeeded: head >> (56 - 8 * UInt64($0 % 8))) }
                    group.addTask { [entry] in (number, try await bench.store.append(entry)) }
                }
                return try await group.reduce(into: [:]) { $0[$1.0] = $1.1 }
            }
        }
        var first: [Int: InboxReceipt] = [:]
        for start in stride(from: 0, to: 12_000, by: 1000) {
            if start == 6000 {
                try await bench.reopen()
                _ = try await bench.store.append(bench.webhook(connection, trigger.topics, digest: 1, isForced: true))
            }
            try await first.merge(deliver(bench, start..<start + 1000)) { $1 }
        }
        try expect(first.values.allSatisfy { !$0.isRepeated }, "a first delivery was taken for a repetition")
        for round in 0..<2 {
            for start in [0, 5500, 6000, 11_000] {
                for (number, receipt) in try await deliver(bench, start..<start + 500) {
                    let wanted = InboxReceipt(sequence: first[number]?.sequence ?? .zero, isRepeated: true)
                    try expectEqual(receipt, wanted, "delivery \(number) again, in round \(round)")
                }
            }
            try await bench.reopen()
        }
        let fence = try await bench.lease()
        try await bench.cycle(trigger, fence, 1, keys: [], covered: InboxSequence(12_001))
        try expectEqual(try await bench.prune(at: bench.start + .days(30)).webhooks, 12_001, "webhooks removed")
        let anew = try await deliver(bench, 0..<2000)
        try expect(anew.values.allSatisfy { !$0.isRepeated }, "a delivery whose first copy is gone was not stored")
    }

    private static func listWithoutContent(_ bench: inout StoreBench) async throws {
        let trigger = try await bench.makeTrigger()
        _ = try await bench.store.append(bench.webhook(try await bench.connection(), trigger.topics, body: "{\"n\":1}"))
        let item = try require(try await bench.store.inbox(InboxQuery(includesContent: false)).first, "the webhook")
        try expect(item.entry.body.isEmpty && item.entry.headers.isEmpty, "headers and body were read")
        try expectEqual(item.bodyBytes, 7, "the body's length")
        try expectEqual(try await bench.store.inbox(InboxQuery()).first?.bodyBytes, 7, "the length of a body that was read")
    }

    private static func forcedDelivery(_ bench: inout StoreBench) async throws {
        let trigger = try await bench.makeTrigger()
        let connection = try await bench.connection()
        let first = try await bench.store.append(bench.webhook(connection, trigger.topics, digest: 1))
        let forced = try await bench.store.append(bench.webhook(connection, trigger.topics, digest: 1, isForced: true))
        try expect(!forced.isRepeated && forced.sequence > first.sequence, "a forced delivery was not stored")
        try expectEqual(try await bench.topic("a").signalSequence, forced.sequence, "its signal")
        let again = try await bench.store.append(bench.webhook(connection, trigger.topics, digest: 1))
        try expectEqual(again.sequence, first.sequence, "a later repetition names the first copy")
    }

    private static func signalsAreMerged(_ bench: inout StoreBench) async throws {
        _ = try await bench.makeTrigger(topicKeys: ["a", "b"])
        let connection = try await bench.connection()
        let (a, b) = (try await bench.topic("a").id, try await bench.topic("b").id)
        let observer = RecordingObserver()
        bench.store.observe(observer)
        let here = bench
        try await withThrowingTaskGroup(of: Void.self) { group in
            for number in 0..<200 {
                let topics = number % 2 == 0 ? [a] : [a, b]
                group.addTask {
                    _ = try await here.store.append(here.webhook(connection, topics, at: here.start + .milliseconds(Int64(number))))
                }
            }
            try await group.waitForAll()
        }
        let (lastA, lastB) = (try await bench.topic("a"), try await bench.topic("b"))
        let heard = try await observer.wait("all signals") { heard in
            let all = heard.signals.joined()
            return all.contains { $0.topic == a && $0.sequence == lastA.signalSequence }
                && all.contains { $0.topic == b && $0.sequence == lastB.signalSequence }
        }
        for batch in heard.signals { try expectEqual(Set(batch.map(\.topic)).count, batch.count, "one entry a topic in a batch") }
        try expectEqual(heard.signals.joined().filter { $0.topic == a }.map(\.sequence).max(), lastA.signalSequence, "signals of a")
        try expectEqual(lastA.signalledAt, bench.start + .milliseconds(199), "the latest arrival")
    }

    private static func inboxLists(_ bench: inout StoreBench) async throws {
        let trigger = try await bench.makeTrigger()
        try await bench.apply([StoreBench.connection("other")])
        let shop = try await bench.connection()
        let other = try require(try await bench.store.definitions(.default).connections.first { $0.name == "other" }, "other").id
        var sequences: [InboxSequence] = []
        for number in 0..<10 {
            var entry = bench.webhook(number % 2 == 0 ? shop : other, trigger.topics)
            if number % 5 == 0 { entry.unmatchedReason = "key unknown" }
            sequences.append(try await bench.store.append(entry).sequence)
        }
        try expectEqual(
            try await bench.store.inbox(InboxQuery(limit: 3)).map(\.sequence), sequences.reversed().prefix(3).map { $0 }, "newest")
        try expectEqual(
            try await bench.store.inbox(InboxQuery(before: sequences[2])).map(\.sequence), [sequences[1], sequences[0]], "before the third")
        try expectEqual(
            try await bench.store.inbox(InboxQuery(connection: other)).map(\.sequence),
            [9, 7, 5, 3, 1].map { sequences[$0] }, "of the other connection")
        try expectEqual(
            try await bench.store.inbox(InboxQuery(unmatchedOnly: true)).map(\.sequence), [sequences[5], sequences[0]], "unmatched")
        try expectEqual(try await bench.store.inbox(InboxQuery(namespace: NamespaceID(2))).count, 0, "of another namespace")
    }

    private static func inboxSparesUncovered(_ bench: inout StoreBench) async throws {
        let trigger = try await bench.makeTrigger()
        let fence = try await bench.lease()
        let connection = try await bench.connection()
        var sequences: [InboxSequence] = []
        for _ in 0..<4 { sequences.append(try await bench.store.append(bench.webhook(connection, trigger.topics)).sequence) }
        try await bench.cycle(trigger, fence, 1, keys: [], covered: sequences[1])
        let later = bench.start + .days(8)
        try expectEqual(try await bench.prune(at: bench.start + .days(6)).webhooks, 0, "webhooks younger than the retention")
        try expectEqual(try await bench.prune(at: later).webhooks, 2, "covered webhooks older than the retention")
        try expectEqual(
            try await bench.store.inbox(InboxQuery()).map(\.sequence), [sequences[3], sequences[2]], "uncovered webhooks are spared")
        try await bench.cycle(trigger, fence, 2, keys: [], covered: sequences[3])
        try expectEqual(try await bench.prune(at: later).webhooks, 2, "once covered")
    }

    private static func sequencesNeverReused(_ bench: inout StoreBench) async throws {
        let trigger = try await bench.makeTrigger()
        let fence = try await bench.lease()
        let connection = try await bench.connection()
        let last = try await bench.store.append(bench.webhook(connection, trigger.topics)).sequence
        try await bench.cycle(trigger, fence, 1, keys: ["k"], covered: last)
        let token = try await bench.store.jobs(JobQuery()).next
        let report = try await bench.prune(at: bench.start + .days(60))
        try expectEqual([report.webhooks, report.jobs], [1, 1], "everything was removed")
        try await bench.reopen()
        let again = try await bench.lease()
        let next = try await bench.store.append(bench.webhook(connection, trigger.topics)).sequence
        try expect(next > last, "a sequence was used again: \(next) after \(last)")
        try await bench.cycle(trigger, again, 2, keys: ["l"])
        let page = try await bench.store.jobs(JobQuery(after: token))
        try expectEqual(page.jobs.map(\.position), [JobPosition(2)], "a reader goes on where all before was removed")
    }
}
