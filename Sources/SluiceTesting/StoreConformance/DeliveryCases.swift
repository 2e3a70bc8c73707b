import SluiceCore
import SluiceStore

extension StoreConformance {
    static let deliveries: [ConformanceCase] = [
        ConformanceCase("P9_aDeliveryIsIntendedWithItsJob", intendedWithJob),
        ConformanceCase("P9_nothingIsClaimedTwiceAtOnce", claimedOnce),
        ConformanceCase("P9_whatWasClaimedAndNotRecordedComesBack", hiddenComesBack),
        ConformanceCase("P9_claimsOfAFormerProcessAreGivenBack", released),
        ConformanceCase("P9_givingBackClaimsLeavesTheRest", releasedSparing),
        ConformanceCase("P9_whatAClockAheadPutOffIsDueAtTheStart", putOffByAClock),
        ConformanceCase("P9_attemptsDecideWhatBecomesOfADelivery", attempts),
        ConformanceCase("P9_whatIsFilteredIsSettledAndWhatIsPutBackWaits", filteredAndPutBack),
        ConformanceCase("P9_everyKindButPullIsCarried", kinds),
        ConformanceCase("P9_aDeadLetterIsReplayed", replayed),
        ConformanceCase("P9_aNewDestinationGetsJobsFromNowOn", attachFromNow),
        ConformanceCase("P9_aNewDestinationGetsJobsFromAPosition", attachFromPosition),
        ConformanceCase("P9_detachingKeepsWhatWasNotDelivered", detach),
        ConformanceCase("P9_retentionSparesTheUndelivered", retentionSpares),
        ConformanceCase("P9_atTheBoundADeliveryIsADeadLetter", expires),
    ]

    private static func makeAttached(_ bench: StoreBench) async throws -> (trigger: StoredTrigger, destination: DestinationID, fence: Fence)
    {
        let trigger = try await bench.makeTrigger()
        try await bench.apply([StoreBench.destination("hook"), .attach(trigger: "orders", destination: "hook", from: nil)])
        return (trigger, try await bench.destination("hook"), try await bench.lease())
    }

    private static func claim(
        _ bench: StoreBench, _ destination: DestinationID, limit: Int = 100, at time: Timestamp? = nil, hide: Span = .minutes(1)
    ) async throws -> [ClaimedDelivery] {
        let time = time ?? bench.start
        return try await bench.store.claimDeliveries(destination, limit: limit, at: time, hiddenUntil: time + hide)
    }

    private static func attempt(_ delivery: Int64, _ outcome: DeliveryAttempt.Outcome, at time: Timestamp) -> DeliveryAttempt {
        DeliveryAttempt(
            delivery: delivery, outcome: outcome, status: outcome == .delivered ? 200 : 503, error: nil, response: [1, 2, 3], at: time,
            durationMilliseconds: 12)
    }

    private static func intendedWithJob(_ bench: inout StoreBench) async throws {
        let (trigger, destination, fence) = try await makeAttached(bench)
        try await bench.apply([
            StoreBench.destination("second"), StoreBench.destination("queue", kind: "pull"),
            .attach(trigger: "orders", destination: "second", from: nil), .attach(trigger: "orders", destination: "queue", from: nil),
        ])
        let observer = RecordingObserver()
        bench.store.observe(observer)
        try await bench.cycle(trigger, fence, 1, keys: ["x", "y", "x"], at: bench.start + .seconds(3))
        _ = try await observer.wait("the deliveries") { $0.deliveries > 0 }
        try await bench.reopen()
        let pending = try await bench.store.pendingDestinations(.default)
        try expectEqual(pending.map(\.destination), [destination, try await bench.destination("second")], "push destinations that wait")
        try expectEqual(pending.map(\.pending), [2, 2], "deliveries that wait")
        try expectEqual(pending.map(\.dueAt), [bench.start + .seconds(3), bench.start + .seconds(3)], "due")
        try expectEqual(try await claim(bench, destination).count, 0, "claimed before they are due")
        let claimed = try await claim(bench, destination, at: bench.start + .seconds(3))
        try expectEqual(claimed.map { String(decoding: $0.job.dedupKey, as: UTF8.self) }, ["x", "y"], "jobs, oldest first")
        try expectEqual(claimed.map(\.job.record), try await bench.allJobs().map(\.record), "their records")
        try expectEqual(claimed.map(\.attempts), [0, 0], "attempts before")
        try expectEqual(claimed.map(\.createdAt), [bench.start + .seconds(3), bench.start + .seconds(3)], "intended at")
        let queue = try await bench.destination("queue")
        try expectEqual(try await bench.store.deliveries(DeliveryQuery(destination: queue)).count, 0, "deliveries to a pull destination")
    }

    private static func claimedOnce(_ bench: inout StoreBench) async throws {
        let (trigger, destination, fence) = try await makeAttached(bench)
        try await bench.cycle(trigger, fence, 1, keys: (0..<100).map { "k\($0)" })
        let here = bench
        let claimed = try await withThrowingTaskGroup(of: [ClaimedDelivery].self) { group in
            for _ in 0..<20 { group.addTask { try await claim(here, destination, limit: 7) } }
            return try await group.reduce(into: []) { $0 += $1 }
        }
        try expectEqual(claimed.count, 100, "deliveries claimed")
        try expectEqual(Set(claimed.map(\.id)).count, 100, "different ones")
    }

    private static func hiddenComesBack(_ bench: inout StoreBench) async throws {
        let (trigger, destination, fence) = try await makeAttached(bench)
        try await bench.cycle(trigger, fence, 1, keys: ["x"])
        let first = try await claim(bench, destination)
        try await bench.reopen()
        try expectEqual(try await claim(bench, destination, at: bench.start + .seconds(59)).count, 0, "claimed while hidden")
        let again = try await claim(bench, destination, at: bench.start + .seconds(60))
        try expectEqual(again.map(\.id), first.map(\.id), "claimed once no longer hidden")
    }

    private static func putOffByAClock(_ bench: inout StoreBench) async throws {
        let (trigger, destination, fence) = try await makeAttached(bench)
        let ahead = bench.start + .days(400)
        try await bench.cycle(trigger, fence, 1, keys: ["a"])
        try await bench.cycle(trigger, fence, 2, keys: ["b"], at: ahead)
        let first = try await claim(bench, destination, limit: 1)
        try await bench.store.recordAttempts([attempt(first[0].id, .retry(at: ahead + .minutes(5)), at: ahead)])
        // A retry that waits by the right clock.
        try await bench.cycle(trigger, fence, 3, keys: ["c"], at: bench.start)
        let third = try await claim(bench, destination, limit: 1)
        try await bench.store.recordAttempts([attempt(third[0].id, .retry(at: bench.start + .hours(10)), at: bench.start)])
        try await bench.reopen()
        try expectEqual(
            try await claim(bench, destination, at: bench.start + .seconds(1)).count, 0, "due by the right clock before the start")
        try expectEqual(try await bench.store.releaseClaims(.default, limit: 100, at: bench.start + .seconds(2)), 2, "given back")
        try expectEqual(try await bench.store.releaseClaims(.default, limit: 100, at: bench.start + .seconds(2)), 0, "once")
        let due = try await claim(bench, destination, at: bench.start + .seconds(2))
        try expectEqual(due.map { String(decoding: $0.job.dedupKey, as: UTF8.self) }, ["a", "b"], "due")
    }

    private static func released(_ bench: inout StoreBench) async throws {
        let (trigger, destination, fence) = try await makeAttached(bench)
        try await bench.apply([StoreBench.destination("second"), .attach(trigger: "orders", destination: "second", from: nil)])
        let second = try await bench.destination("second")
        try await bench.cycle(trigger, fence, 1, keys: ["a", "b", "c", "d"])
        let first = try await claim(bench, destination, limit: 3, hide: .hours(1))
        _ = try await claim(bench, second, limit: 1, hide: .hours(1))
        // The second attempt of one of them was under way.
        try await bench.store.recordAttempts([attempt(first[1].id, .retry(at: bench.start + .seconds(5)), at: bench.start)])
        let later = bench.start + .seconds(5)
        try expectEqual(try await claim(bench, destination, limit: 2, at: later, hide: .hours(1)).count, 2, "the retry and the fourth")
        try await bench.reopen()
        let observer = RecordingObserver()
        bench.store.observe(observer)
        try expectEqual(try await bench.store.releaseClaims(NamespaceID(2), limit: 100, at: later), 0, "of another namespace")
        try expectEqual(try await bench.store.releaseClaims(.default, limit: 3, at: later), 3, "a bounded batch")
        _ = try await observer.wait("what was given back") { $0.deliveries > 0 }
        try expectEqual(try await bench.store.releaseClaims(.default, limit: 3, at: later), 2, "the rest")
        try expectEqual(try await bench.store.releaseClaims(.default, limit: 3, at: later), 0, "none is left")
        try await bench.cycle(trigger, fence, 2, keys: ["e"], at: bench.start + .seconds(1))
        try await bench.reopen()
        try expectEqual(try await bench.store.pendingDestinations(.default).map(\.dueAt), [bench.start, bench.start], "due at once")
        let again = try await claim(bench, destination, at: later)
        try expectEqual(again.map(\.job.position.rawValue), [1, 2, 3, 4, 5], "in their old places, before what came later")
        try expectEqual(again.map(\.attempts), [0, 1, 0, 0, 0], "with the attempts that they had")
        try expectEqual(try await claim(bench, second, at: later).map(\.job.position.rawValue), [1, 2, 3, 4, 5], "of all destinations")
    }

    private static func releasedSparing(_ bench: inout StoreBench) async throws {
        let (trigger, destination, fence) = try await makeAttached(bench)
        let ordered = try await bench.makeTrigger("ledger")
        try await bench.apply([
            StoreBench.destination("books"), .attach(trigger: "ledger", destination: "books", from: nil),
            .setOrdered(trigger: "ledger", true), StoreBench.destination("queue", kind: "pull"),
            .attach(trigger: "orders", destination: "queue", from: nil),
        ])
        try await bench.cycle(trigger, fence, 1, keys: ["retry", "back", "done", "dead", "replayed", "runs out"])
        try await bench.cycle(ordered, fence, 1, keys: ["x", "y"])
        let queue = try await bench.destination("queue")
        let lease = try await bench.store.fetchJobs(
            ConsumerFetch(consumer: queue, limit: 10, visibility: .hours(2), nonce: 7, at: bench.start))
        let books = try await bench.destination("books")
        let claimed = try await claim(bench, destination, hide: .hours(1))
        let head = try await claim(bench, books, hide: .hours(1))
        let (retryAt, backAt) = (bench.start + .hours(5), bench.start + .hours(6))
        try await bench.store.recordAttempts([
            attempt(claimed[0].id, .retry(at: retryAt), at: bench.start), attempt(claimed[1].id, .putBack(at: backAt), at: bench.start),
            attempt(claimed[2].id, .delivered, at: bench.start), attempt(claimed[3].id, .dead(reason: "gone"), at: bench.start),
            attempt(claimed[4].id, .dead(reason: "gone"), at: bench.start),
        ])
        let replayAt = bench.start + .seconds(1)
        try expectEqual(try await bench.replay(DeadLetterSelection(deliveries: [claimed[4].id]), at: replayAt), 1, "replayed")
        try await bench.reopen()
        try expectEqual(try await bench.store.releaseClaims(.default, limit: 100, at: bench.start + .seconds(1)), 2, "what is claimed")
        let stored = try await bench.store.deliveries(DeliveryQuery(destination: destination))
        try expectEqual(
            stored.map(\.nextAttemptAt), [bench.start, replayAt, nil, nil, backAt, retryAt], "due times, newest first: each keeps its own")
        try expectEqual(stored.map(\.state), [.pending, .pending, .dead, .delivered, .pending, .pending], "states")
        try expectEqual(stored.map(\.attempts), [0, 0, 1, 1, 0, 1], "attempts")
        let now = bench.start + .seconds(1)
        try expectEqual(
            try await claim(bench, books, at: now).map(\.id), head.map(\.id), "of what is in order the first, and nothing behind it")
        let other = try await bench.store.fetchJobs(ConsumerFetch(consumer: queue, limit: 10, visibility: .hours(2), nonce: 8, at: now))
        try expectEqual(lease.jobs.count, 6, "a worker's jobs")
        try expectEqual(other.jobs.count, 0, "stay with it")
    }

    private static func attempts(_ bench: inout StoreBench) async throws {
        let (trigger, destination, fence) = try await makeAttached(bench)
        try await bench.cycle(trigger, fence, 1, keys: ["good", "slow", "bad"])
        let claimed = try await claim(bench, destination, hide: .hours(9))
        let retryAt = bench.start + .minutes(5)
        try await bench.store.recordAttempts([
            attempt(claimed[0].id, .delivered, at: bench.start), attempt(claimed[1].id, .retry(at: retryAt), at: bench.start),
            attempt(claimed[2].id, .dead(reason: "gone"), at: bench.start), attempt(999_999, .delivered, at: bench.start),
        ])
        try await bench.reopen()
        let stored = try await bench.store.deliveries(DeliveryQuery())
        try expectEqual(stored.map(\.state), [.dead, .pending, .delivered], "states, newest first")
        try expectEqual(stored.map(\.attempts), [1, 1, 1], "attempts")
        try expectEqual(stored.map(\.lastStatus), [503, 503, 200], "status")
        try expectEqual(stored.map(\.nextAttemptAt), [nil, retryAt, nil], "next attempt")
        try expectEqual(stored[0].reason, "gone", "why it is dead")
        try expectEqual(stored.map(\.position.rawValue), [3, 2, 1], "positions")
        try expectEqual(try await bench.store.deliveries(DeliveryQuery(state: .dead)).map(\.id), [claimed[2].id], "dead letters")
        try expectEqual(try await bench.store.deliveries(DeliveryQuery(state: .delivered)).map(\.id), [claimed[0].id], "delivered")
        try expectEqual(try await claim(bench, destination, at: retryAt - .milliseconds(1)).count, 0, "claimed before the retry is due")
        let again = try await claim(bench, destination, at: retryAt)
        try expectEqual(again.map(\.id), [claimed[1].id], "claimed once the retry is due")
        try expectEqual(again.map(\.attempts), [1], "attempts before")
    }

    private static func filteredAndPutBack(_ bench: inout StoreBench) async throws {
        let (trigger, destination, fence) = try await makeAttached(bench)
        try await bench.cycle(trigger, fence, 1, keys: ["skipped", "back", "both"])
        let claimed = try await claim(bench, destination, hide: .hours(9))
        let later = bench.start + .minutes(5)
        try await bench.store.recordAttempts([
            attempt(claimed[0].id, .filtered, at: bench.start), attempt(claimed[1].id, .putBack(at: later), at: bench.start),
            attempt(claimed[2].id, .filtered, at: bench.start),
        ])
        // What is settled stays so.
        try await bench.store.recordAttempts([
            attempt(claimed[2].id, .putBack(at: bench.start), at: bench.start), attempt(claimed[2].id, .filtered, at: bench.start),
        ])
        try await bench.reopen()
        let stored = try await bench.store.deliveries(DeliveryQuery())
        try expectEqual(stored.map(\.state), [.filtered, .pending, .filtered], "states, newest first")
        try expectEqual(stored.map(\.attempts), [0, 0, 0], "attempts")
        try expectEqual(stored.map(\.nextAttemptAt), [nil, later, nil], "next attempt")
        try expectEqual(try await bench.store.backlog(destination).filtered, 2, "how many were left out, each counted once")
        try expectEqual(
            try await bench.store.deliveries(DeliveryQuery(state: .filtered)).map(\.id), [claimed[2].id, claimed[0].id], "filtered")
        try expectEqual(try await claim(bench, destination, at: later - .milliseconds(1)).count, 0, "claimed before its time")
        try expectEqual(try await claim(bench, destination, at: later).map(\.id), [claimed[1].id], "claimed again")
        try await bench.store.recordAttempts([attempt(claimed[1].id, .delivered, at: later)])
        let policy = RetentionPolicy(jobs: .days(1), pendingDeliveries: .days(1), rowsPerBatchMax: 100)
        try expectEqual(try await bench.prune(policy, at: bench.start + .days(3)).jobs, 3, "what is filtered keeps no job")
    }

    private static func kinds(_ bench: inout StoreBench) async throws {
        let trigger = try await bench.makeTrigger()
        let kinds = ["push", "command", "file", "nats", "pull"]
        for kind in kinds {
            try await bench.apply([
                StoreBench.destination(kind, kind: kind), .attach(trigger: "orders", destination: kind, from: nil),
            ])
        }
        let fence = try await bench.lease()
        try await bench.cycle(trigger, fence, 1, keys: ["x"])
        try expectEqual(try await bench.store.pendingDestinations(.default).count, 4, "destinations with something to carry")
        for kind in kinds {
            let count = try await claim(bench, try await bench.destination(kind)).count
            try expectEqual(count, kind == "pull" ? 0 : 1, "claimed for \(kind)")
        }
        for kind in ["file", "pull"] {
            try await bench.apply([
                StoreBench.destination("late-\(kind)", kind: kind),
                .attach(trigger: "orders", destination: "late-\(kind)", from: JobPosition(1)),
            ])
            let count = try await claim(bench, try await bench.destination("late-\(kind)")).count
            try expectEqual(count, kind == "pull" ? 0 : 1, "claimed of a \(kind) attached from the first position")
        }
    }

    private static func replayed(_ bench: inout StoreBench) async throws {
        let (trigger, destination, fence) = try await makeAttached(bench)
        try await bench.cycle(trigger, fence, 1, keys: ["x", "y", "z"])
        let claimed = try await claim(bench, destination)
        try await bench.store.recordAttempts(claimed.map { attempt($0.id, .dead(reason: "exhausted"), at: bench.start) })
        let observer = RecordingObserver()
        bench.store.observe(observer)
        let later = bench.start + .days(1)
        let one = try await bench.replay(DeadLetterSelection(deliveries: [claimed[1].id]), at: later)
        try expectEqual(one, 1, "one dead letter")
        _ = try await observer.wait("the replay") { $0.deliveries > 0 }
        let again = try await claim(bench, destination, at: later)
        try expectEqual(again.map(\.job.position), [JobPosition(2)], "the same job")
        try expectEqual(again.first?.createdAt, later, "a replayed delivery is as young as a new one")
        let older = try await bench.store.deliveries(DeliveryQuery(before: claimed[2].id, limit: 1))
        try expectEqual(older.map(\.id), [claimed[1].id], "the one before the third")
        try expectEqual(
            try await bench.replay(DeadLetterSelection(namespace: NamespaceID(2)), at: later), 0, "of another namespace")
        try expectEqual(
            try await bench.replay(DeadLetterSelection(destination: destination), at: later), 2, "the others")
        try expectEqual(try await bench.store.deliveries(DeliveryQuery(state: .dead)).count, 0, "dead letters left")
        try expectEqual(try await claim(bench, destination, at: later).count, 2, "claimed")
    }

    private static func attachFromNow(_ bench: inout StoreBench) async throws {
        let trigger = try await bench.makeTrigger()
        let fence = try await bench.lease()
        try await bench.cycle(trigger, fence, 1, keys: ["before"])
        try await bench.apply([StoreBench.destination("hook"), .attach(trigger: "orders", destination: "hook", from: nil)])
        try await bench.cycle(trigger, fence, 2, keys: ["after"])
        let destination = try await bench.destination("hook")
        try expectEqual(try await claim(bench, destination).map(\.job.position), [JobPosition(2)], "jobs delivered")
        try await bench.apply([.attach(trigger: "orders", destination: "hook", from: nil)])
        let attachment = try require(try await bench.store.definitions(.default).attachments.first, "the attachment")
        try expectEqual(attachment.fromPosition, JobPosition(1), "attaching again changes nothing")
    }

    private static func attachFromPosition(_ bench: inout StoreBench) async throws {
        let trigger = try await bench.makeTrigger()
        let fence = try await bench.lease()
        try await bench.cycle(trigger, fence, 1, keys: ["a", "b", "c", "d"])
        let observer = RecordingObserver()
        bench.store.observe(observer)
        try await bench.apply([
            StoreBench.destination("hook"), .attach(trigger: "orders", destination: "hook", from: JobPosition(3)),
        ])
        _ = try await observer.wait("the deliveries") { $0.deliveries > 0 }
        let destination = try await bench.destination("hook")
        try await bench.apply([.attach(trigger: "orders", destination: "hook", from: JobPosition(3))])
        try expectEqual(try await claim(bench, destination).map(\.job.position.rawValue), [3, 4], "kept jobs from the third on, once")
        try await bench.apply([.attach(trigger: "orders", destination: "hook", from: JobPosition(1))])
        try expectEqual(try await claim(bench, destination).map(\.job.position.rawValue), [1, 2], "the earlier ones, asked for later")
        try await bench.cycle(trigger, fence, 2, keys: ["e"])
        try expectEqual(try await claim(bench, destination).map(\.job.position.rawValue), [5], "and the new ones")
    }

    private static func detach(_ bench: inout StoreBench) async throws {
        let (trigger, destination, fence) = try await makeAttached(bench)
        try await bench.cycle(trigger, fence, 1, keys: ["x"])
        try await bench.apply([.detach(trigger: "orders", destination: "hook")])
        try await bench.cycle(trigger, fence, 2, keys: ["y"])
        try expectEqual(try await claim(bench, destination).count, 0, "claimed after detaching")
        let dead = try await bench.store.deliveries(DeliveryQuery(state: .dead))
        try expectEqual(dead.map(\.position.rawValue), [1], "what was not delivered stays visible")
        let here = bench
        try await expectError(.notFound, "detaching what is not attached") {
            try await here.apply([.detach(trigger: "orders", destination: "hook")])
        }
        try await bench.apply([.removeDestination(name: "hook", discardsUndelivered: true)])
        _ = try await bench.prune(at: bench.start)
        try expectEqual(try await bench.store.deliveries(DeliveryQuery()).count, 0, "deliveries of a removed destination")
    }

    private static func retentionSpares(_ bench: inout StoreBench) async throws {
        let (trigger, destination, fence) = try await makeAttached(bench)
        try await bench.cycle(trigger, fence, 1, keys: (0..<10).map { "k\($0)" })
        let claimed = try await claim(bench, destination, limit: 4)
        try await bench.store.recordAttempts(
            claimed.prefix(3).map { attempt($0.id, .delivered, at: bench.start) }
                + [attempt(claimed[3].id, .dead(reason: "exhausted"), at: bench.start + .days(5))])
        let policy = RetentionPolicy(jobs: .days(10), pendingDeliveries: .days(40), rowsPerBatchMax: 4)
        try expectEqual(try await bench.prune(policy, at: bench.start + .days(9)).jobs, 0, "jobs younger than the retention")
        try expectEqual(try await bench.prune(policy, at: bench.start + .days(11)).jobs, 3, "jobs that were delivered")
        try expectEqual(try await bench.allJobs().map(\.position.rawValue), Array(4...10), "undelivered jobs and a dead letter's")
        try expectEqual(try await bench.prune(policy, at: bench.start + .days(16)).jobs, 1, "the dead letter's, after as long again")
        try expectEqual(
            try await claim(bench, destination, at: bench.start + .days(16)).map(\.job.position.rawValue), Array(5...10), "still delivered")
    }

    private static func expires(_ bench: inout StoreBench) async throws {
        let (trigger, destination, fence) = try await makeAttached(bench)
        try await bench.cycle(trigger, fence, 1, keys: ["x", "y"])
        let policy = RetentionPolicy(jobs: .days(30), pendingDeliveries: .days(30), rowsPerBatchMax: 1)
        try expectEqual(try await bench.prune(policy, at: bench.start + .days(29)).expiredDeliveries, 0, "before the bound")
        let bound = bench.start + .days(31)
        let report = try await bench.prune(policy, at: bound)
        try expectEqual([report.expiredDeliveries, report.jobs], [2, 0], "at the bound: expired, and their jobs kept")
        let dead = try await bench.store.deliveries(DeliveryQuery(state: .dead))
        try expectEqual(dead.map(\.reason), ["expired", "expired"], "reasons")
        try expectEqual(
            try await bench.replay(DeadLetterSelection(destination: destination), at: bound), 2, "replayed")
        try expectEqual(try await bench.prune(policy, at: bound + .days(1)).expiredDeliveries, 0, "a replayed one counts from the replay")
        try expectEqual(try await claim(bench, destination, at: bound).count, 2, "claimed after the replay")
    }
}
