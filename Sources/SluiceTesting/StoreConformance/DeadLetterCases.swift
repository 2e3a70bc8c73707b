import SluiceCore
import SluiceStore

extension StoreConformance {
    static let deadLetters: [ConformanceCase] = [
        ConformanceCase("P9_deadLettersAreListedByWhenTheyDied", listed),
        ConformanceCase("P9_deadLettersAreReplayedInBatches", replayedInBatches),
        ConformanceCase("P9_onlyDeadLettersAreReplayed", onlyDeadOnes),
        ConformanceCase("P9_whatDiesAgainIsNotReplayedAgain", diesAgain),
        ConformanceCase("P9_aDeadLetterIsDiscardedAndStaysVisible", discarded),
        ConformanceCase("P9_eachAttemptOfADeliveryIsKept", history),
        ConformanceCase("P9_whatIsNoLongerAttachedIsNotReplayed", unattached),
    ]

    /// A trigger, destinations, and dead letters: job i of `hook` dies i seconds after the start, with the reasons in turn.
    private static func makeDead(
        _ bench: StoreBench, _ count: Int, reasons: [String] = ["exhausted"]
    ) async throws -> (destination: DestinationID, claimed: [ClaimedDelivery]) {
        let trigger = try await bench.makeTrigger()
        try await bench.apply([StoreBench.destination("hook"), .attach(trigger: "orders", destination: "hook", from: nil)])
        try await bench.cycle(trigger, try await bench.lease(), 1, keys: (0..<count).map { "k\($0)" })
        let destination = try await bench.destination("hook")
        let claimed = try await claim(bench, destination, limit: count)
        try expectEqual(claimed.count, count, "claimed")
        try await bench.store.recordAttempts(
            claimed.enumerated().map { index, delivery in
                dead(delivery.id, reasons[index % reasons.count], at: bench.start + .seconds(Int64(index)))
            })
        return (destination, claimed)
    }

    private static func claim(
        _ bench: StoreBench, _ destination: DestinationID, limit: Int = 1000, at time: Timestamp? = nil
    ) async throws -> [ClaimedDelivery] {
        let time = time ?? bench.start
        return try await bench.store.claimDeliveries(destination, limit: limit, at: time, hiddenUntil: time + .hours(1))
    }

    private static func dead(_ delivery: Int64, _ reason: String, at time: Timestamp) -> DeliveryAttempt {
        DeliveryAttempt(
            delivery: delivery, outcome: .dead(reason: reason), status: 503, error: "answered 503 \(delivery)", response: [0x6E, 0x6F],
            at: time, durationMilliseconds: 12)
    }

    private static func list(_ bench: StoreBench, _ query: DeadLetterQuery = DeadLetterQuery()) async throws -> [Int64] {
        try await bench.store.deadLetters(query).letters.map(\.delivery.position.rawValue)
    }

    private static func listed(_ bench: inout StoreBench) async throws {
        let (destination, claimed) = try await makeDead(bench, 7, reasons: ["exhausted", "filter"])
        try await bench.apply([StoreBench.destination("other")])
        try await bench.reopen()
        try expectEqual(try await list(bench), [7, 6, 5, 4, 3, 2, 1], "the ones that died last first")
        var (pages, before): ([[Int64]], DeadLetterMark?) = ([], nil)
        for _ in 0..<9 {
            let page = try await bench.store.deadLetters(DeadLetterQuery(before: before, limit: 3))
            pages.append(page.letters.map(\.delivery.position.rawValue))
            before = page.next
            if before == nil { break }
        }
        try expectEqual(pages, [[7, 6, 5], [4, 3, 2], [1]], "pages")
        let here = bench
        func select(_ selection: DeadLetterSelection) async throws -> [Int64] { try await list(here, DeadLetterQuery(selection)) }
        try expectEqual(try await select(DeadLetterSelection(reason: "filter")), [6, 4, 2], "by reason")
        try expectEqual(try await select(DeadLetterSelection(destination: destination)), [7, 6, 5, 4, 3, 2, 1], "by destination")
        let other = try await bench.destination("other")
        try expectEqual(try await select(DeadLetterSelection(destination: other)), [], "of another destination")
        let trigger = try await bench.trigger().id
        try expectEqual(try await select(DeadLetterSelection(trigger: trigger, reason: "filter")), [6, 4, 2], "by trigger and reason")
        try expectEqual(try await select(DeadLetterSelection(trigger: TriggerID(999))), [], "of another trigger")
        let range = DeadLetterSelection(since: bench.start + .seconds(2), until: bench.start + .seconds(5))
        try expectEqual(try await select(range), [5, 4, 3], "by time: from then on, and before")
        try expectEqual(try await select(DeadLetterSelection(namespace: NamespaceID(2))), [], "of another namespace")
        let letter = try require(try await bench.store.deadLetters(DeadLetterQuery(limit: 1)).letters.first, "the newest")
        try expectEqual(letter.diedAt, bench.start + .seconds(6), "died")
        try expectEqual(letter.lastError, "answered 503 \(claimed[6].id)", "what the last attempt said")
        try expectEqual(String(decoding: letter.dedupKey, as: UTF8.self), "k6", "its job")
        try expectEqual(letter.delivery.reason, "exhausted", "why")
        try expectEqual(letter.discard, nil, "not discarded")
    }

    private static func replayedInBatches(_ bench: inout StoreBench) async throws {
        let (destination, _) = try await makeDead(bench, 25, reasons: ["exhausted", "filter", "gone"])
        let observer = RecordingObserver()
        bench.store.observe(observer)
        let later = bench.start + .days(1)
        let selection = DeadLetterSelection(destination: destination, reason: "filter", until: later)
        var (batches, mark): ([DeadLetterBatch], DeadLetterMark?) = ([], nil)
        for _ in 0..<100 {
            let batch = try await bench.store.replayDeadLetters(selection, after: mark, limit: 6, at: later)
            batches.append(batch)
            mark = batch.next
            // A crash in between loses nothing of what was replayed, and the rest is still there.
            if batches.count == 2 { try await bench.reopen() }
            if mark == nil { break }
        }
        try expectEqual(batches.map(\.changed), [2, 2, 2, 2, 0], "each batch looks at six")
        try expectEqual(mark, nil, "the end")
        let again = try await claim(bench, destination, at: later)
        try expectEqual(again.map(\.job.position.rawValue), [2, 5, 8, 11, 14, 17, 20, 23], "what died of the filter, and nothing else")
        try expectEqual(Set(again.map(\.attempts)), [0], "the schedule begins anew")
        try expectEqual(Set(again.map(\.createdAt)), [later], "as young as a new one")
        let range = DeadLetterSelection(since: bench.start + .seconds(9), until: bench.start + .seconds(13))
        try expectEqual(try await bench.replay(range, at: later), 3, "a time range: what died at 9, 11 and 12 s")
        try expectEqual(try await claim(bench, destination, at: later).map(\.job.position.rawValue), [10, 12, 13], "those")
        _ = try await observer.wait("a replay") { $0.deliveries > 0 }
        try expectEqual(try await bench.replay(DeadLetterSelection(), at: later), 25 - 8 - 3, "all the others")
        try expectEqual(try await list(bench), [], "no dead letters are left")
    }

    private static func onlyDeadOnes(_ bench: inout StoreBench) async throws {
        let trigger = try await bench.makeTrigger()
        try await bench.apply([StoreBench.destination("hook"), .attach(trigger: "orders", destination: "hook", from: nil)])
        try await bench.cycle(trigger, try await bench.lease(), 1, keys: ["pending", "delivered", "dead"])
        let destination = try await bench.destination("hook")
        let claimed = try await claim(bench, destination)
        try await bench.store.recordAttempts([
            DeliveryAttempt(
                delivery: claimed[1].id, outcome: .delivered, status: 200, error: nil, response: [], at: bench.start,
                durationMilliseconds: 1), dead(claimed[2].id, "gone", at: bench.start),
        ])
        let later = bench.start + .minutes(1)
        let numbers = claimed.map(\.id) + [999_999]
        let batch = try await bench.store.replayDeadLetters(
            DeadLetterSelection(deliveries: numbers), after: nil, limit: 10, at: later)
        try expectEqual(batch, DeadLetterBatch(changed: 1, refused: [claimed[0].id, claimed[1].id, 999_999]), "only the dead one")
        try expectEqual(try await claim(bench, destination, at: later).map(\.id), [claimed[2].id], "it is pending again, the other in hand")
        let foreign = DeadLetterSelection(namespace: NamespaceID(2), deliveries: [claimed[2].id])
        try expectEqual(
            try await bench.store.replayDeadLetters(foreign, after: nil, limit: 10, at: later).changed, 0, "in another namespace")
    }

    /// Whoever replays all that died until now comes to an end, however fast they die again.
    private static func diesAgain(_ bench: inout StoreBench) async throws {
        let (destination, _) = try await makeDead(bench, 10)
        let now = bench.start + .minutes(10)
        let selection = DeadLetterSelection(until: now)
        var (changed, mark): (Int, DeadLetterMark?) = (0, nil)
        for _ in 0..<50 {
            let batch = try await bench.store.replayDeadLetters(selection, after: mark, limit: 4, at: now)
            changed += batch.changed
            mark = batch.next
            let failing = try await claim(bench, destination, at: now)
            try await bench.store.recordAttempts(failing.map { dead($0.id, "filter", at: now) })
            if mark == nil { break }
        }
        try expectEqual(mark, nil, "the end")
        try expectEqual(changed, 10, "each once")
        try expectEqual(try await list(bench).count, 10, "and each dead again")
    }

    private static func discarded(_ bench: inout StoreBench) async throws {
        let (destination, claimed) = try await makeDead(bench, 4)
        let later = bench.start + .days(1)
        let first = DeadLetterSelection(deliveries: [claimed[0].id])
        let done = try await bench.store.discardDeadLetters(
            first, by: "anna", because: "a test order", after: nil, limit: 10, at: later)
        try expectEqual(done.changed, 1, "discarded")
        let twice = try await bench.store.discardDeadLetters(first, by: "bert", because: "too", after: nil, limit: 10, at: later)
        try expectEqual(twice, DeadLetterBatch(refused: [claimed[0].id]), "discarded twice")
        try await bench.reopen()
        try expectEqual(try await list(bench), [4, 3, 2], "dead letters that wait")
        let shown = try require(try await bench.store.deadLetters(DeadLetterQuery(isDiscarded: true)).letters.first, "the discarded one")
        try expectEqual(shown.discard, DeadLetter.Discard(at: later, by: "anna", note: "a test order"), "who, when and why")
        try expectEqual(shown.delivery.state, .discarded, "state")
        try expectEqual(shown.delivery.reason, "exhausted", "why it died stays")
        try expectEqual(try await bench.replay(DeadLetterSelection(), at: later), 3, "all that wait are replayed, not the discarded one")
        try expectEqual(try await claim(bench, destination, at: later).count, 3, "those")
        let named = try await bench.store.replayDeadLetters(first, after: nil, limit: 1, at: later)
        try expectEqual(named.changed, 1, "by its number, a discarded one is replayed as well")
        try expectEqual(try await claim(bench, destination, at: later).map(\.id), [claimed[0].id], "and pending again")
        try expectEqual(
            try await bench.store.deliveryDetail(.default, claimed[0].id, attemptsMax: 9)?.discard, nil, "it is discarded no more")
        // Retention counts from the discard.
        try await bench.store.recordAttempts(claimed.map { dead($0.id, "gone", at: later) })
        _ = try await bench.store.discardDeadLetters(
            DeadLetterSelection(), by: "anna", because: "over", after: nil, limit: 10, at: bench.start + .days(20))
        let policy = RetentionPolicy(jobs: .days(10), pendingDeliveries: .days(40), rowsPerBatchMax: 4)
        try expectEqual(try await bench.prune(policy, at: bench.start + .days(29)).jobs, 0, "kept as long again")
        try expectEqual(try await list(bench, DeadLetterQuery(isDiscarded: true)).count, 4, "visible")
        try expectEqual(try await bench.prune(policy, at: bench.start + .days(31)).jobs, 4, "then they go with their jobs")
        try expectEqual(try await list(bench, DeadLetterQuery(isDiscarded: true)), [], "gone")
    }

    /// With the attachment went its filter and its projection: nobody knows what of the record may go out.
    private static func unattached(_ bench: inout StoreBench) async throws {
        let (destination, claimed) = try await makeDead(bench, 3)
        try await bench.cycle(try await bench.trigger(), try await bench.lease(), 2, keys: ["pending"])
        try await bench.apply([.detach(trigger: "orders", destination: "hook")])
        let later = bench.start + .minutes(1)
        try expectEqual(try await list(bench).count, 4, "three that died, one that was not delivered")
        let named = DeadLetterSelection(deliveries: [claimed[0].id, 999_999])
        try expectEqual(
            try await bench.store.replayDeadLetters(named, after: nil, limit: 10, at: later),
            DeadLetterBatch(refused: [claimed[0].id, 999_999], detached: 1), "by its number")
        try expectEqual(
            try await bench.store.replayDeadLetters(DeadLetterSelection(destination: destination), after: nil, limit: 10, at: later),
            DeadLetterBatch(detached: 4), "all of a destination")
        try expectEqual(try await claim(bench, destination, at: later).count, 0, "handed to a courier")
        let discarded = try await bench.store.discardDeadLetters(
            DeadLetterSelection(deliveries: [claimed[0].id]), by: "anna", because: "over", after: nil, limit: 1, at: later)
        try expectEqual(discarded, DeadLetterBatch(changed: 1), "it can be discarded")
        let filter = StoreBench.bytes("{\"filter\":\"record.a\"}")
        try await bench.apply([
            .attach(trigger: "orders", destination: "hook", from: nil),
            .setAttachment(trigger: "orders", destination: "hook", settings: filter),
        ])
        try await bench.reopen()
        try expectEqual(try await bench.replay(DeadLetterSelection(destination: destination), at: later), 3, "attached again")
        try expectEqual(
            try await claim(bench, destination, at: later).map(\.attachmentSettings), [filter, filter, filter],
            "with the filter there is now")
    }

    private static func history(_ bench: inout StoreBench) async throws {
        let (destination, claimed) = try await makeDead(bench, 1)
        let later = bench.start + .hours(5)
        _ = try await bench.replay(DeadLetterSelection(), at: later)
        _ = try await claim(bench, destination, at: later)
        try await bench.store.recordAttempts([
            DeliveryAttempt(
                delivery: claimed[0].id, outcome: .retry(at: later + .minutes(5)), status: nil, error: "no connection", response: [],
                at: later, durationMilliseconds: 15_000)
        ])
        try await bench.reopen()
        let detail = try require(try await bench.store.deliveryDetail(.default, claimed[0].id, attemptsMax: 10), "the delivery")
        try expectEqual(
            detail.attempts,
            [
                StoredAttempt(
                    at: bench.start, status: 503, error: "answered 503 \(claimed[0].id)", response: [0x6E, 0x6F], durationMilliseconds: 12),
                StoredAttempt(at: later, status: nil, error: "no connection", response: [], durationMilliseconds: 15_000),
            ], "attempts, those before the replay too")
        try expectEqual(detail.attemptsInAll, 2, "in all")
        try expectEqual(detail.delivery.attempts, 1, "since the replay")
        try expectEqual(detail.job.record, StoreBench.bytes("{\"id\":\"k0\"}"), "the job's record")
        try expectEqual(detail.delivery.state, .pending, "state")
        try expectEqual(
            try await bench.store.deliveryDetail(.default, claimed[0].id, attemptsMax: 1)?.attempts.map(\.error), ["no connection"],
            "the last ones")
        try expectEqual(try await bench.store.deliveryDetail(.default, 999_999, attemptsMax: 1) == nil, true, "of none")
        try expectEqual(
            try await bench.store.deliveryDetail(NamespaceID(2), claimed[0].id, attemptsMax: 1) == nil, true, "in another namespace")
    }
}
