import SluiceCore
import SluiceStore

extension StoreConformance {
    static let attachments: [ConformanceCase] = [
        ConformanceCase("anAttachmentKeepsItsSettings", settings),
        ConformanceCase("aClaimBringsTheSettingsOfItsAttachment", claimedSettings),
        ConformanceCase("P9_manyKeptJobsAreIntendedPieceByPiece", catchesUp),
        ConformanceCase("P9_whoCatchesUpGetsJobsInTheirOrder", keepsOrder),
        ConformanceCase("P9_retentionSparesWhatIsStillToBeIntended", retentionWaits),
        ConformanceCase("P9_detachingInMidCatchUpLosesNothing", detachedInBetween),
        ConformanceCase("P10_detachingIsBounded", detachIsBounded),
        ConformanceCase("P12_catchingUpIsShared", shared),
    ]

    private static func settings(_ bench: inout StoreBench) async throws {
        _ = try await bench.makeTrigger()
        let filter = StoreBench.bytes("{\"filter\":\"record.a\"}")
        try await bench.apply([
            StoreBench.destination("hook"), StoreBench.destination("other"), .attach(trigger: "orders", destination: "hook", from: nil),
            .attach(trigger: "orders", destination: "other", from: nil),
            .setAttachment(trigger: "orders", destination: "hook", settings: filter),
        ])
        try await bench.reopen()
        let stored = try await bench.store.definitions(.default).attachments
        try expectEqual(stored.map(\.settings), [filter, []], "settings of each attachment")
        try await bench.apply([.attach(trigger: "orders", destination: "hook", from: nil)])
        try expectEqual(try await bench.store.definitions(.default).attachments[0].settings, filter, "attached again: they stay")
        let here = bench
        try await expectError(.notFound, "settings of what is not attached") {
            try await here.apply([
                .detach(trigger: "orders", destination: "other"),
                .setAttachment(trigger: "orders", destination: "other", settings: filter),
            ])
        }
        try expectEqual(try await bench.store.definitions(.default).attachments.count, 2, "nothing of a failed change stays")
        try await bench.apply([.setAttachment(trigger: "orders", destination: "hook", settings: [])])
        try expectEqual(try await bench.store.definitions(.default).attachments[0].settings, [], "removed")
        try await bench.apply([
            .setAttachment(trigger: "orders", destination: "hook", settings: filter), .detach(trigger: "orders", destination: "hook"),
            .attach(trigger: "orders", destination: "hook", from: nil),
        ])
        try expectEqual(try await bench.store.definitions(.default).attachments[0].settings, [], "an attachment made anew has none")
    }

    private static func claimedSettings(_ bench: inout StoreBench) async throws {
        let trigger = try await bench.makeTrigger()
        let filter = StoreBench.bytes("{\"filter\":\"record.a\"}")
        try await bench.apply([
            StoreBench.destination("hook"), .attach(trigger: "orders", destination: "hook", from: nil),
            .setAttachment(trigger: "orders", destination: "hook", settings: filter),
        ])
        try await bench.cycle(trigger, try await bench.lease(), 1, keys: ["a", "b"])
        let destination = try await bench.destination("hook")
        let here = bench
        func claim() async throws -> [[UInt8]] {
            try await here.store.claimDeliveries(destination, limit: 1, at: here.start, hiddenUntil: here.start + .hours(1))
                .map(\.attachmentSettings)
        }
        try expectEqual(try await claim(), [filter], "with the filter")
        try await bench.apply([.setAttachment(trigger: "orders", destination: "hook", settings: [])])
        try expectEqual(try await claim(), [[]], "claimed after the change: without")
    }

    // MARK: Catching up

    private static let kept = 1700

    /// A trigger with many jobs, and a destination that is attached from the third on.
    private static func makeBehind(_ bench: StoreBench) async throws -> (trigger: StoredTrigger, destination: DestinationID, fence: Fence) {
        let trigger = try await bench.makeTrigger()
        let fence = try await bench.lease()
        try await bench.cycle(trigger, fence, 1, keys: (1...kept).map { "k\($0)" })
        try await bench.apply([
            StoreBench.destination("hook"), .attach(trigger: "orders", destination: "hook", from: JobPosition(3)),
        ])
        return (trigger, try await bench.destination("hook"), fence)
    }

    private static func claimAll(_ bench: StoreBench, _ destination: DestinationID) async throws -> [Int64] {
        try await bench.store.claimDeliveries(destination, limit: 10_000, at: bench.start, hiddenUntil: bench.start + .hours(1))
            .map(\.job.position.rawValue)
    }

    private static func attachment(_ bench: StoreBench) async throws -> StoredAttachment {
        try require(try await bench.store.definitions(.default).attachments.first, "the attachment")
    }

    /// Catches up; returns how many deliveries each call intended.
    private static func catchUp(_ bench: StoreBench, limit: Int = 400, calls: Int = 100) async throws -> [Int] {
        var intended: [Int] = []
        for _ in 0..<calls {
            let report = try await bench.store.catchUp(limit: limit, at: bench.start)
            intended.append(report.intended)
            if !report.isPartial { break }
        }
        return intended
    }

    private static func catchesUp(_ bench: inout StoreBench) async throws {
        let (_, destination, _) = try await makeBehind(bench)
        let first = try await claimAll(bench, destination)
        try expect(!first.isEmpty && first.count < 1000, "one transaction intended \(first.count)")
        try expectEqual(first, Array(3..<Int64(first.count) + 3), "the oldest first")
        try expectEqual(try await attachment(bench).caughtUpTo, first.last.map(JobPosition.init), "it shows how far it came")
        // The note is durable: after a crash it goes on where it stood.
        try await bench.reopen()
        let calls = try await catchUp(bench)
        try expect(calls.count > 2 && calls.allSatisfy { $0 <= 400 }, "bounded batches: \(calls)")
        try expectEqual(calls.reduce(0, +), kept - 2 - first.count, "all the others, each once")
        try expectEqual(try await claimAll(bench, destination), Array(Int64(first.count) + 3...Int64(kept)), "in their order")
        try expectEqual(try await attachment(bench).caughtUpTo, nil, "caught up")
        try expectEqual(try await catchUp(bench), [0], "nothing is left to do")
        // From further back: only what is missing.
        try await bench.apply([.attach(trigger: "orders", destination: "hook", from: JobPosition(1))])
        _ = try await catchUp(bench)
        try expectEqual(try await claimAll(bench, destination), [1, 2], "the two before")
        try expectEqual(try await bench.store.deliveries(DeliveryQuery(limit: 10_000)).count, kept, "one delivery a job")
    }

    private static func keepsOrder(_ bench: inout StoreBench) async throws {
        let (trigger, destination, fence) = try await makeBehind(bench)
        // Committed while it is behind: covered by the note, so that it overtakes nobody.
        try await bench.cycle(trigger, fence, 2, keys: ["live1", "live2"])
        var seen = try await claimAll(bench, destination)
        for call in 0..<100 {
            let report = try await bench.store.catchUp(limit: 400, at: bench.start)
            if call == 0 { try await bench.cycle(trigger, fence, 3, keys: ["live3"]) }
            seen += try await claimAll(bench, destination)
            if !report.isPartial { break }
        }
        try expectEqual(seen, Array(3...Int64(kept) + 3), "every job, in the order of their positions")
        try await bench.cycle(trigger, fence, 4, keys: ["after"])
        try expectEqual(try await claimAll(bench, destination), [Int64(kept) + 4], "from now on with the job")
    }

    private static func retentionWaits(_ bench: inout StoreBench) async throws {
        let (_, destination, _) = try await makeBehind(bench)
        let policy = RetentionPolicy(jobs: .days(1), pendingDeliveries: .days(90), rowsPerBatchMax: 500)
        try expectEqual(try await bench.prune(policy, at: bench.start + .days(30)).jobs, 2, "only what the destination is not to have")
        _ = try await catchUp(bench)
        try expectEqual(try await claimAll(bench, destination).count, kept - 2, "nothing was lost")
    }

    private static func detachedInBetween(_ bench: inout StoreBench) async throws {
        let (trigger, destination, fence) = try await makeBehind(bench)
        try await bench.cycle(trigger, fence, 2, keys: ["live"])
        try await bench.apply([.detach(trigger: "orders", destination: "hook")])
        try await bench.cycle(trigger, fence, 3, keys: ["later"])
        _ = try await catchUp(bench)
        try expectEqual(try await claimAll(bench, destination), [], "nothing is delivered any more")
        let dead = try await bench.store.deadLetters(DeadLetterQuery(limit: 10_000)).letters
        try expectEqual(
            Set(dead.map(\.delivery.position.rawValue)), Set(3...Int64(kept) + 1), "what was to be delivered until then is a dead letter")
        try expectEqual(Set(dead.map(\.delivery.reason)), ["detached"], "reason")
        // Attached again: from now on, without what became dead letters.
        try await bench.apply([.attach(trigger: "orders", destination: "hook", from: nil)])
        try await bench.cycle(trigger, fence, 4, keys: ["new"])
        try expectEqual(try await claimAll(bench, destination), [Int64(kept) + 3], "the next job")
        try await bench.apply([
            .detach(trigger: "orders", destination: "hook"), .removeDestination(name: "hook", discardsUndelivered: true),
        ])
        try expectEqual(try await catchUp(bench), [0], "a destination that was removed leaves no note")
    }

    /// With many pending: one transaction takes some, the rest follows, and meanwhile nothing of it is carried; what is delivered stays
    /// so, other triggers' deliveries stay, and what is attached again does not lose what is new.
    private static func detachIsBounded(_ bench: inout StoreBench) async throws {
        try await bench.apply([StoreBench.connection(), StoreBench.trigger("orders"), StoreBench.destination("hook")])
        try await bench.apply([.attach(trigger: "orders", destination: "hook", from: nil)])
        let trigger = try await bench.set(try await bench.trigger(), .running)
        let other = try await bench.makeTrigger("other", topicKeys: ["b"])
        try await bench.apply([.attach(trigger: "other", destination: "hook", from: nil)])
        let (fence, destination) = (try await bench.lease(), try await bench.destination("hook"))
        try await bench.cycle(trigger, fence, 1, keys: (0..<kept).map { "k\($0)" })
        try await bench.cycle(other, fence, 1, keys: ["o1", "o2"])
        let (start, soon) = (bench.start, bench.start + .minutes(1))
        let first = try await bench.store.claimDeliveries(destination, limit: 1, at: start, hiddenUntil: soon)
        try await bench.store.recordAttempts(first.map { BackfillBench.delivered($0.id, start) })
        try await bench.apply([.detach(trigger: "orders", destination: "hook")])
        let dead = try await bench.store.deadLetters(DeadLetterQuery(limit: 10_000)).letters.count
        try expect(dead > 0 && dead < 1000, "one transaction settled \(dead)")
        // Attached again, from now on, and from the first: neither is mixed up with what was left.
        try await bench.apply([.attach(trigger: "orders", destination: "hook", from: nil)])
        try await bench.cycle(trigger, fence, 2, keys: ["new"])
        var seen: [String] = []
        for _ in 0..<50 {
            let claimed = try await bench.store.claimDeliveries(destination, limit: 100, at: start, hiddenUntil: soon)
            seen += claimed.map { String(decoding: $0.job.dedupKey, as: UTF8.self) }
        }
        try expectEqual(seen.sorted(), ["new", "o1", "o2"], "what is carried before the rest was settled")
        try await bench.reopen()
        let calls = try await catchUp(bench)
        try expect(calls.allSatisfy { $0 <= 400 }, "bounded batches: \(calls)")
        let all = try await bench.store.deliveries(DeliveryQuery(limit: 10_000))
        try expectEqual(all.count { $0.state == .dead && $0.reason == "detached" }, kept - 1, "dead letters")
        try expectEqual(all.count { $0.state == .delivered }, 1, "what was delivered before")
        try expectEqual(all.count { $0.state == .pending }, 3, "what is on its way")
        try expectEqual(try await catchUp(bench), [0], "nothing is left to do")
        // A replay of what was left is carried.
        try expectEqual(
            try await bench.replay(DeadLetterSelection(destination: destination), limit: 1000, at: start + .seconds(1)), kept - 1,
            "replayed")
        let replayed = try await bench.store.claimDeliveries(destination, limit: 10, at: start + .seconds(1), hiddenUntil: soon)
        try expectEqual(replayed.count, 10, "carried after their replay")
    }

    private static func shared(_ bench: inout StoreBench) async throws {
        let (_, first, _) = try await makeBehind(bench)
        try await bench.apply([
            StoreBench.destination("second"), .attach(trigger: "orders", destination: "second", from: JobPosition(1)),
        ])
        let second = try await bench.destination("second")
        _ = (try await claimAll(bench, first), try await claimAll(bench, second))
        let report = try await bench.store.catchUp(limit: 400, at: bench.start)
        try expectEqual(report, CatchUpReport(intended: 400, isPartial: true), "one batch")
        try expectEqual(
            [try await claimAll(bench, first).count, try await claimAll(bench, second).count], [200, 200], "each destination has its part")
    }
}
