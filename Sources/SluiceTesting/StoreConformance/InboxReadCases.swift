import SluiceCore
import SluiceStore

/// The inbox as the upstream of webhook-only triggers.
extension StoreConformance {
    static let inboxReads: [ConformanceCase] = [
        ConformanceCase("P2_theInboxIsReadOnInItsOrder", inboxIsReadOn),
        ConformanceCase("P10_readingTheInboxIsBounded", inboxReadIsBounded),
        ConformanceCase("P2_whatWasUnreadOfAFormerTopicIsRead", formerTopicIsRead),
        ConformanceCase("P2_nothingIsPassedOverWhileWebhooksCome", nothingIsPassedOver),
        ConformanceCase("P9_retentionSparesUnreadWebhooks", retentionSparesUnread),
        ConformanceCase("P10_unreadWebhooksAreCounted", unreadAreCounted),
        ConformanceCase("P4_aHeldAnswerNeedNotAgeKeys", heldAnswerAgesNothing),
    ]

    private static func inboxIsReadOn(_ bench: inout StoreBench) async throws {
        let trigger = try await bench.makeTrigger(topicKeys: ["a", "b"])
        try await bench.apply([StoreBench.trigger("other", topicKeys: ["c"]), StoreBench.connection("second")])
        let connection = try await bench.connection()
        let second = try require(try await bench.store.definitions(.default).connections.first { $0.name == "second" }, "second").id
        let (a, b, c) = (try await bench.topic("a").id, try await bench.topic("b").id, try await bench.topic("c").id)
        var sequences: [InboxSequence] = []
        for topics in [[a], [c], [b, c], [], [a, b]] {
            sequences.append(try await bench.store.append(bench.webhook(connection, topics, body: "{\"n\":\(sequences.count)}")).sequence)
        }
        let elsewhere = try await bench.store.append(bench.webhook(second, [a])).sequence
        let read = InboxRead(connection: connection, topics: trigger.topics, after: .zero)
        let first = try await bench.store.readInbox(read)
        try expectEqual(first.items.map(\.sequence), [0, 2, 4].map { sequences[$0] }, "its topics' webhooks")
        try expectEqual(
            first.items.map { String(decoding: $0.entry.body, as: UTF8.self) }, ["{\"n\":0}", "{\"n\":2}", "{\"n\":4}"], "bodies")
        try expectEqual(first.through, elsewhere, "looked at everything")
        try expect(!first.more, "no more")
        var on = read
        on.after = first.through
        try expectEqual(try await bench.store.readInbox(on).items.count, 0, "nothing twice")
        let next = try await bench.store.append(bench.webhook(connection, [a], at: bench.start + .seconds(5))).sequence
        try expectEqual(try await bench.store.readInbox(on).items.map(\.sequence), [next], "what came since")
        var late = read
        late.since = bench.start + .seconds(5)
        try expectEqual(try await bench.store.readInbox(late).items.map(\.sequence), [next], "only what was received since then")
        try await bench.reopen()
        try expectEqual(try await bench.store.readInbox(on).items.map(\.sequence), [next], "after a restart")
        var none = read
        none.topics = []
        try expectEqual(try await bench.store.readInbox(none).items.count, 0, "of no topic")
    }

    /// A reader that listens to another topic from now on has still to read what came for the former one.
    private static func formerTopicIsRead(_ bench: inout StoreBench) async throws {
        var trigger = try await bench.makeTrigger(topicKeys: ["a"])
        try await bench.apply([.readsInbox(trigger: trigger.name, true)])
        let connection = try await bench.connection()
        let a = try await bench.topic("a").id
        func add(_ topic: TopicID) async throws -> InboxSequence {
            try await bench.store.append(bench.webhook(connection, [topic])).sequence
        }
        func read(after: InboxSequence = .zero) async throws -> [InboxSequence] {
            let trigger = try await bench.trigger()
            return try await bench.store.readInbox(
                InboxRead(connection: connection, topics: trigger.topics, formerTopics: trigger.formerTopics, after: after)
            ).items.map(\.sequence)
        }
        let before = [try await add(a), try await add(a), try await add(a)]
        try await bench.apply([StoreBench.trigger(trigger.name, topicKeys: ["b"])])
        trigger = try await bench.trigger()
        let b = try await bench.topic("b").id
        try expectEqual(trigger.topics, [b], "what it listens to")
        try expectEqual(trigger.formerTopics, [FormerTopic(topic: a, through: before[2])], "what it listened to")
        let foreign = try await add(a)
        let own = try await add(b)
        try expectEqual(try await read(), before + [own], "what it has to read, without \(foreign)")
        trigger = try await bench.set(trigger, .paused)
        try expectEqual(try await bench.store.unreadWebhooks(.default, countMax: 100), [connection: 5], "unread")
        try expectEqual(try await bench.prune(at: bench.start + .days(30)).webhooks, 0, "retention spares them")
        try await bench.reopen()
        try expectEqual(try await read(), before + [own], "after a restart")

        // Back to the first one: all of it is its own again, and of the other one what came until then.
        try await bench.apply([StoreBench.trigger(trigger.name, topicKeys: ["a"])])
        try expectEqual(try await read(), before + [foreign, own], "after it went back")
        trigger = try await bench.set(try await bench.trigger(), .running)
        let fence = try await bench.lease()
        var end = bench.end(own)
        end.cursor = Array("\(own.rawValue)".utf8)
        _ = try await bench.store.commitPage(bench.page(trigger, fence, cycle: 1, keys: [], completion: end))
        try await bench.apply([StoreBench.trigger(trigger.name, topicKeys: ["b"])])
        try expectEqual(try await bench.trigger().formerTopics, [], "all was read")
        try expectEqual(try await bench.prune(at: bench.start + .days(30)).webhooks, 5, "and nobody needs it")
        // One that polls from now on needs no webhooks: they are kept for nobody.
        _ = try await add(b)
        try await bench.apply([StoreBench.trigger(trigger.name, topicKeys: ["a"])])
        try expectEqual(try await bench.trigger().formerTopics.count, 1, "unread once more")
        try await bench.apply([.readsInbox(trigger: trigger.name, false)])
        try expectEqual(try await bench.trigger().formerTopics, [], "of one that polls")
    }

    private static func inboxReadIsBounded(_ bench: inout StoreBench) async throws {
        let trigger = try await bench.makeTrigger()
        let connection = try await bench.connection()
        for number in 0..<25 {
            _ = try await bench.store.append(
                bench.webhook(connection, trigger.topics, body: String(repeating: "x", count: 100) + "\(number)"))
        }
        for (limit, bytesMax) in [(10, 1 << 20), (1000, 1050), (3, 1)] {
            var read = InboxRead(connection: connection, topics: trigger.topics, after: .zero, limit: limit, bytesMax: bytesMax)
            var found: [InboxSequence] = []
            for _ in 0..<100 {
                let batch = try await bench.store.readInbox(read)
                try expect(batch.items.count <= max(1, min(limit, bytesMax / 100)), "a batch of \(batch.items.count)")
                found += batch.items.map(\.sequence)
                read.after = batch.through
                if !batch.more { break }
            }
            try expectEqual(found.count, 25, "webhooks in all batches of \(limit), \(bytesMax) bytes")
            try expectEqual(found, found.sorted(), "their order")
        }
    }

    /// A reader beside writers, which commit in batches: each webhook is met once.
    private static func nothingIsPassedOver(_ bench: inout StoreBench) async throws {
        let trigger = try await bench.makeTrigger()
        let connection = try await bench.connection()
        let here = bench
        let found = try await withThrowingTaskGroup(of: [InboxSequence].self) { group in
            group.addTask {
                var found: [InboxSequence] = []
                var after = InboxSequence.zero
                for _ in 0..<100_000 where found.count < 1000 {
                    let batch = try await here.store.readInbox(
                        InboxRead(connection: connection, topics: trigger.topics, after: after, limit: 7))
                    found += batch.items.map(\.sequence)
                    after = batch.through
                }
                return found
            }
            for _ in 0..<4 {
                group.addTask {
                    for _ in 0..<250 { _ = try await here.store.append(here.webhook(connection, trigger.topics)) }
                    return []
                }
            }
            return try await group.reduce(into: []) { $0 += $1 }
        }
        try expectEqual(found.count, 1000, "webhooks read")
        try expectEqual(Set(found).count, 1000, "each once")
    }

    private static func retentionSparesUnread(_ bench: inout StoreBench) async throws {
        var trigger = try await bench.makeTrigger()
        try await bench.apply([.readsInbox(trigger: trigger.name, true)])
        let connection = try await bench.connection()
        let fence = try await bench.lease()
        var sequences: [InboxSequence] = []
        for _ in 0..<4 { sequences.append(try await bench.store.append(bench.webhook(connection, trigger.topics)).sequence) }
        try await bench.cycle(trigger, fence, 1, keys: [], covered: sequences[1])
        let later = bench.start + .days(30)
        for state in [TriggerState.paused, .failed] {
            trigger = try await bench.set(try await bench.trigger(), state)
            _ = try await bench.prune(at: later)
            try expectEqual(
                try await bench.store.inbox(InboxQuery()).map(\.sequence), [sequences[3], sequences[2]], "unread by a \(state) trigger")
        }
        _ = try await bench.set(try await bench.trigger(), .stopped)
        try expectEqual(try await bench.prune(at: later).webhooks, 2, "a stopped trigger reads no more")
    }

    private static func unreadAreCounted(_ bench: inout StoreBench) async throws {
        let trigger = try await bench.makeTrigger()
        let connection = try await bench.connection()
        let fence = try await bench.lease()
        var last = InboxSequence.zero
        for _ in 0..<5 { last = try await bench.store.append(bench.webhook(connection, trigger.topics)).sequence }
        try expectEqual(try await bench.store.unreadWebhooks(.default, countMax: 100), [:], "of triggers that poll")
        try await bench.apply([.readsInbox(trigger: trigger.name, true)])
        try expectEqual(try await bench.store.unreadWebhooks(.default, countMax: 100), [connection: 5], "unread")
        try expectEqual(try await bench.store.unreadWebhooks(.default, countMax: 3), [connection: 3], "counted so far")
        try await bench.cycle(trigger, fence, 1, keys: [], covered: InboxSequence(last.rawValue - 1))
        try expectEqual(try await bench.store.unreadWebhooks(.default, countMax: 100), [connection: 1], "left")
        try await bench.cycle(trigger, fence, 2, keys: [], covered: last)
        try expectEqual(try await bench.store.unreadWebhooks(.default, countMax: 100), [:], "all read")
    }

    private static func heldAnswerAgesNothing(_ bench: inout StoreBench) async throws {
        let trigger = try await bench.makeTrigger()
        let fence = try await bench.lease()
        for number in 1...3 {
            var completion = bench.end()
            completion.end?.agesKeys = number == 2
            let page = bench.page(trigger, fence, cycle: Int64(number), keys: ["k\(number)"], completion: completion)
            guard case .committed = try await bench.store.commitPage(page) else {
                throw ConformanceFailure(description: "cycle \(number) was not committed")
            }
        }
        try expectEqual(try await bench.trigger().progress.cyclesCompleted, 1, "cycles that count")
    }
}
