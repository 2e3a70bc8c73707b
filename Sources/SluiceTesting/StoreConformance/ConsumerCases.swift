import SluiceCore
import SluiceStore
import Synchronization

extension StoreConformance {
    static let consumers: [ConformanceCase] = [
        ConformanceCase("P9_aConsumerGetsEachJobOnceInTheOrderOfCommits", orderOfCommits),
        ConformanceCase("P9_twoWorkersShareAConsumerWhileTwoTriggersCommit", sharedByWorkers),
        ConformanceCase("P9_aLeaseThatRanOutIsFenced", fencedLease),
        ConformanceCase("P9_whatIsInHandSurvivesReopening", inHandSurvives),
        ConformanceCase("P9_saysOfALeaseAreRefusedWholeOrTaken", refusals),
        ConformanceCase("P9_aConsumersDeadLetterIsReplayed", consumerReplay),
        ConformanceCase("P9_aNewConsumerGetsJobsFromNowOn", consumerFromNow),
        ConformanceCase("P9_aConsumerAttachedFromAPositionRepeatsNothingElse", consumerFromPosition),
        ConformanceCase("P9_detachingAConsumerLosesNothing", consumerDetach),
        ConformanceCase("P9_whatIsRegainedAfterDetachingIsNoDeadLetter", consumerRegains),
        ConformanceCase("P9_retentionSparesTheUnacked", retentionSparesUnacked),
        ConformanceCase("P9_atTheBoundAnUnackedJobIsADeadLetter", unackedExpires),
        ConformanceCase("P9_aSeekSaysWhatItSkips", seek),
        ConformanceCase("P9_fewJobsAmongManyAreFound", fewAmongMany),
        ConformanceCase("P9_aSeekBehindRetentionIsTold", seekIsTold),
        ConformanceCase("P9_aReaderBehindRetentionIsTold", readerIsTold),
        ConformanceCase("aFetchBringsTheSettingsOfItsAttachments", fetchedSettings),
        ConformanceCase("P9_whatComesAgainOfADetachedTriggerIsADeadLetter", detachedInHand),
        ConformanceCase("P9_filteredJobsAreSettledInTheirLease", sifted),
        ConformanceCase("P10_aFetchIsBounded", boundedFetch),
        ConformanceCase("P9_aConsumerIsNoOtherKind", kinds),
    ]

    /// Two triggers on one consumer, `queue`.
    private static func makeConsumer(
        _ bench: StoreBench, from: JobPosition? = nil
    ) async throws -> (one: StoredTrigger, two: StoredTrigger, queue: DestinationID, fence: Fence) {
        let one = try await bench.makeTrigger("one")
        let two = try await bench.makeTrigger("two", topicKeys: ["b"])
        try await bench.apply([
            StoreBench.destination("queue", kind: "pull"), .attach(trigger: "one", destination: "queue", from: from),
            .attach(trigger: "two", destination: "queue", from: from),
        ])
        return (one, two, try await bench.destination("queue"), try await bench.lease())
    }

    private static func fetch(
        _ bench: StoreBench, _ queue: DestinationID, limit: Int = 100, bytesMax: Int = 1 << 20, nonce: Int64 = 5,
        rules: ConsumerMachine.Rules = ConsumerMachine.Rules(), at time: Timestamp? = nil
    ) async throws -> ConsumerBatch {
        try await bench.store.fetchJobs(
            ConsumerFetch(
                consumer: queue, limit: limit, bytesMax: bytesMax, visibility: .seconds(60), rules: rules, nonce: nonce, worker: "suite",
                at: time ?? bench.start))
    }

    @discardableResult
    private static func say(
        _ bench: StoreBench, _ queue: DestinationID, _ lease: LeaseID?, _ action: LeaseSettlement.Action, _ jobs: [String]? = nil,
        rules: ConsumerMachine.Rules = ConsumerMachine.Rules(), at time: Timestamp? = nil
    ) async throws -> LeaseAnswer {
        try await bench.store.settleJobs(
            LeaseSettlement(
                consumer: queue, lease: try require(lease, "the lease"), action: action, jobs: jobs, rules: rules, at: time ?? bench.start))
    }

    private static func nack(delay: Span = .zero) -> LeaseSettlement.Action { .nack(delay: { _ in delay }, reason: "no") }

    private static func keys(_ batch: ConsumerBatch) -> [String] { batch.jobs.map { String(decoding: $0.job.dedupKey, as: UTF8.self) } }

    private static func state(_ bench: StoreBench, _ queue: DestinationID, at time: Timestamp? = nil) async throws -> StoredConsumer {
        try require(try await bench.store.consumers(.default, only: queue, at: time ?? bench.start).first, "the consumer")
    }

    private static func dead(_ bench: StoreBench, _ queue: DestinationID) async throws -> [StoredDelivery] {
        try await bench.store.deliveries(DeliveryQuery(destination: queue, state: .dead, limit: 1000))
    }

    // MARK: Cases

    private static func orderOfCommits(_ bench: inout StoreBench) async throws {
        let (one, two, queue, fence) = try await makeConsumer(bench)
        let other = try await bench.makeTrigger("other", topicKeys: ["c"])
        for number in 1...3 {
            try await bench.cycle(one, fence, Int64(number), keys: ["a\(number)", "b\(number)"])
            try await bench.cycle(other, fence, Int64(number), keys: ["x\(number)"])
            try await bench.cycle(two, fence, Int64(number), keys: ["c\(number)"])
        }
        let before = try await state(bench, queue)
        try expectEqual(before.backlog, 9, "jobs that wait")
        try expect(before.oldest != nil, "the oldest job is missing")
        let first = try await fetch(bench, queue, limit: 4)
        try expectEqual(keys(first), ["a1", "b1", "c1", "a2"], "the first jobs, by commit")
        try expect(first.more && first.jobs.allSatisfy { $0.attempt == 1 && !$0.job.record.isEmpty }, "more, whole, for the first time")
        let second = try await fetch(bench, queue)
        try expectEqual(keys(second), ["b2", "c2", "a3", "b3", "c3"], "the others")
        let third = try await fetch(bench, queue)
        try expect(third.lease == nil && third.jobs.isEmpty && !third.more, "jobs after the last")
        let held = try await state(bench, queue)
        try expectEqual([held.unacked, held.inHand, held.backlog], [9, 9, 0], "unacked, in hand, waiting")
        try expectEqual(try await say(bench, queue, first.lease, .ack).settled, .init(jobs: 4, repeated: 0, inHand: 0), "the ack")
        try expectEqual(try await say(bench, queue, first.lease, .ack).settled, .init(jobs: 0, repeated: 4, inHand: 0), "the ack again")
        let one5 = second.jobs[1].job.token
        try expectEqual(try await say(bench, queue, second.lease, .ack, [one5]).settled.inHand, 4, "in hand after one ack")
        try expectEqual(try await say(bench, queue, second.lease, .ack, [one5]).settled.repeated, 1, "that ack again")
        try await say(bench, queue, second.lease, .ack)
        let done = try await state(bench, queue)
        try expectEqual([done.unacked, done.inHand, done.backlog], [0, 0, 0], "nothing is left")
        try expectEqual(done.floor, done.position, "all is settled")
        try expect(done.oldest == nil, "there is an oldest job, and all are acked")
    }

    /// Commits of two triggers and fetches of two workers, all at once: each job is handed out once, and each worker sees
    /// each trigger's positions rise.
    private static func sharedByWorkers(_ bench: inout StoreBench) async throws {
        let (one, two, queue, fence) = try await makeConsumer(bench)
        let here = bench
        let cycles: Int64 = 40
        let seen = Shared<[String: Int]>([:])
        let running = Shared(2)
        try await withThrowingTaskGroup(of: Void.self) { group in
            for trigger in [one, two] {
                group.addTask {
                    defer { running.value.withLock { $0 -= 1 } }
                    for number in 1...cycles {
                        try await here.cycle(trigger, fence, number, keys: (0..<5).map { "\(trigger.name)-\(number)-\($0)" })
                    }
                }
            }
            for worker in 0..<2 {
                group.addTask {
                    var last: [TriggerID: JobPosition] = [:]
                    for _ in 0..<1_000_000 {
                        let wasRunning = running.value.withLock { $0 > 0 }
                        let batch = try await fetch(here, queue, limit: 3, nonce: Int64(worker))
                        for entry in batch.jobs {
                            try expect(entry.job.position > last[entry.job.trigger] ?? .zero, "a job came behind a later one")
                            last[entry.job.trigger] = entry.job.position
                            seen.value.withLock { $0[String(decoding: entry.job.dedupKey, as: UTF8.self), default: 0] += 1 }
                        }
                        if batch.lease != nil { try await say(here, queue, batch.lease, .ack) } else if !wasRunning { return }
                    }
                }
            }
            try await group.waitForAll()
        }
        let counts = seen.value.withLock { $0 }
        try expectEqual(counts.count, Int(cycles) * 10, "jobs that were handed out")
        try expect(counts.values.allSatisfy { $0 == 1 }, "a job was handed out twice")
        try expectEqual(try await state(bench, queue).unacked, 0, "unacked")
    }

    private static func fencedLease(_ bench: inout StoreBench) async throws {
        let (one, _, queue, fence) = try await makeConsumer(bench)
        try await bench.cycle(one, fence, 1, keys: ["a", "b"])
        let first = try await fetch(bench, queue)
        let late = bench.start + .seconds(60)
        try expectEqual(try await fetch(bench, queue, at: late - .milliseconds(1)).jobs.count, 0, "jobs before the time ran out")
        try await say(bench, queue, first.lease, .ack, [first.jobs[0].job.token], at: late)
        let second = try await fetch(bench, queue, nonce: 6, at: late)
        try expectEqual(keys(second), ["b"], "what comes again")
        try expectEqual(second.jobs.first?.attempt, 2, "its attempt")
        let here = bench
        try await expectError(.fenced, "an ack of what another has") { try await say(here, queue, first.lease, .ack, at: late) }
        try await expectError(.fenced, "a nack of what another has") { try await say(here, queue, first.lease, nack(), at: late) }
        try await expectError(.fenced, "more time for what another has") {
            try await say(here, queue, first.lease, .extend(by: .minutes(5)), at: late)
        }
        try await bench.reopen()
        let reopened = bench
        try await expectError(.fenced, "an ack after reopening") { try await say(reopened, queue, first.lease, .ack, at: late) }
        try expectEqual(try await state(bench, queue, at: late).inHand, 1, "in hand")
        try await say(bench, queue, second.lease, .extend(by: .minutes(5)), at: late + .seconds(50))
        try expectEqual(try await fetch(bench, queue, at: late + .minutes(5)).jobs.count, 0, "jobs of a lease that was extended")
        try await say(bench, queue, second.lease, .ack, at: late + .minutes(5))
    }

    private static func inHandSurvives(_ bench: inout StoreBench) async throws {
        let (one, _, queue, fence) = try await makeConsumer(bench)
        try await bench.cycle(one, fence, 1, keys: ["a", "b", "c", "d", "e"])
        let first = try await fetch(bench, queue, limit: 4)
        try await bench.reopen()
        try expectEqual(try await fetch(bench, queue, limit: 1).jobs.map(\.job.position.rawValue), [5], "what was in hand stays so")
        try await bench.reopen()
        try await say(bench, queue, first.lease, .ack, [first.jobs[1].job.token])
        try await bench.reopen()
        try await say(bench, queue, first.lease, nack(delay: .seconds(30)), [first.jobs[0].job.token])
        try await bench.reopen()
        try expectEqual(try await fetch(bench, queue, at: bench.start + .seconds(29)).jobs.count, 0, "before the nack's delay")
        let again = try await fetch(bench, queue, at: bench.start + .seconds(30))
        try expectEqual(keys(again), ["a"], "after it")
        try await bench.reopen()
        try await say(bench, queue, again.lease, .giveBack, at: bench.start + .seconds(31))
        try await bench.reopen()
        let back = try await fetch(bench, queue, at: bench.start + .seconds(31))
        try expectEqual(back.jobs.map(\.attempt), [2], "a lease that was given back is no attempt")
        try await say(bench, queue, back.lease, .ack, at: bench.start + .seconds(31))
        try await say(bench, queue, first.lease, .ack, [first.jobs[2].job.token, first.jobs[3].job.token])
        try await bench.reopen()
        let all = try await state(bench, queue)
        try expectEqual(all.unacked, 1, "unacked: the fifth")
        try expectEqual(
            try await fetch(bench, queue, at: bench.start + .minutes(2)).jobs.map(\.job.position.rawValue), [5], "the fifth again")
    }

    private static func refusals(_ bench: inout StoreBench) async throws {
        let (one, _, queue, fence) = try await makeConsumer(bench)
        try await bench.apply([StoreBench.destination("other", kind: "pull"), .attach(trigger: "one", destination: "other", from: nil)])
        let other = try await bench.destination("other")
        try await bench.cycle(one, fence, 1, keys: ["a", "b", "c", "d"])
        let first = try await fetch(bench, queue, limit: 3)
        let second = try await fetch(bench, queue, limit: 3, nonce: 9)
        let theirs = try await fetch(bench, other)
        let here = bench
        let lease = try require(first.lease, "the lease")
        for (what, id) in [
            ("a lease that is none", LeaseID(number: 99, nonce: 5)),
            ("a lease with another nonce", LeaseID(number: lease.number, nonce: 4)),
        ] { try await expectError(.notFound, what) { try await say(here, queue, id, .ack) } }
        try await expectError(.notFound, "a job of another lease") {
            try await say(here, queue, lease, .ack, [first.jobs[0].job.token, second.jobs[0].job.token])
        }
        try await expectError(.invalid, "a token that is none") { try await say(here, queue, lease, .ack, ["nonsense"]) }
        try expectEqual(try await state(bench, queue).unacked, 4, "a refusal changed something")
        try await say(bench, queue, lease, nack(delay: .minutes(1)), [first.jobs[0].job.token])
        try expectEqual(
            try await say(bench, queue, lease, nack(), [first.jobs[0].job.token]).settled.repeated, 1, "a nack that is repeated")
        try await expectError(.conflict, "an ack of what was nacked") { try await say(here, queue, lease, .ack, [first.jobs[0].job.token]) }
        try await say(bench, queue, lease, .ack, [first.jobs[1].job.token])
        try await expectError(.conflict, "a nack of what was acked") {
            try await say(here, queue, lease, nack(), [first.jobs[1].job.token])
        }
        try await say(bench, queue, lease, .ack)
        try expectEqual(try await state(bench, queue).unacked, 2, "one nacked, one of the second lease")
        try await say(bench, queue, second.lease, .ack)
        try await expectError(.conflict, "a nack of a whole lease that was acked") { try await say(here, queue, second.lease, nack()) }
        try expectEqual(
            try await say(bench, queue, lease, nack()).settled, .init(jobs: 0, repeated: 1, inHand: 0), "a nack of the rest, again")
        try expectEqual(try await state(bench, other).unacked, 4, "another consumer's jobs")
        try await say(bench, other, theirs.lease, .ack)
        try await expectError(.notFound, "a consumer that is none") { _ = try await fetch(here, DestinationID(999)) }
        let listed = try await bench.store.leaseJobs(queue, lease)
        try expectEqual(listed.map(\.token), first.jobs.map(\.job.token), "the jobs of a closed lease")
        try await expectError(.notFound, "the jobs of no lease") { _ = try await here.store.leaseJobs(queue, LeaseID(number: 1, nonce: 1)) }
    }

    private static func consumerReplay(_ bench: inout StoreBench) async throws {
        let (one, _, queue, fence) = try await makeConsumer(bench)
        let rules = ConsumerMachine.Rules(attemptsMax: 2, unackedMax: 100)
        try await bench.cycle(one, fence, 1, keys: ["a", "b"])
        for attempt in 1...2 {
            let batch = try await fetch(bench, queue, rules: rules)
            try expectEqual(batch.jobs.map(\.attempt), attempt == 1 ? [1, 1] : [2], "attempts")
            if attempt == 1 { try await say(bench, queue, batch.lease, .ack, [batch.jobs[1].job.token], rules: rules) }
            let answer = try await say(bench, queue, batch.lease, nack(), attempt == 1 ? [batch.jobs[0].job.token] : nil, rules: rules)
            try expectEqual(answer.dead, attempt - 1, "dead letters of attempt \(attempt)")
        }
        let letters = try await dead(bench, queue)
        try expectEqual(letters.map(\.reason), ["exhausted"], "dead letters")
        try expectEqual(letters.map(\.attempts), [2], "their attempts")
        try expectEqual(try await fetch(bench, queue).jobs.count, 0, "a dead letter is handed out")
        let observer = RecordingObserver()
        bench.store.observe(observer)
        let count = try await bench.replay(DeadLetterSelection(destination: queue), at: bench.start)
        try expectEqual(count, 1, "replayed")
        _ = try await observer.wait("the consumer's news") { $0.consumers.contains([queue]) }
        try await bench.reopen()
        try expect(try await bench.store.pendingDestinations(.default).isEmpty, "a consumer's dead letter is to be carried")
        let again = try await fetch(bench, queue, rules: rules)
        try expectEqual(keys(again), ["a"], "what is replayed")
        try expectEqual(again.jobs.map(\.attempt), [1], "its attempts begin anew")
        try await bench.reopen()
        try await say(bench, queue, again.lease, .ack, rules: rules)
        try expectEqual(try await dead(bench, queue).count, 0, "dead letters")
        let delivered = try await bench.store.deliveries(DeliveryQuery(destination: queue, state: .delivered))
        try expectEqual(delivered.count, 1, "the replayed one is delivered")
    }

    private static func consumerFromNow(_ bench: inout StoreBench) async throws {
        let one = try await bench.makeTrigger("one")
        let fence = try await bench.lease()
        try await bench.cycle(one, fence, 1, keys: ["old"])
        try await bench.apply([StoreBench.destination("queue", kind: "pull")])
        let queue = try await bench.destination("queue")
        try expectEqual(try await fetch(bench, queue).jobs.count, 0, "jobs of no trigger")
        try await bench.cycle(one, fence, 2, keys: ["older"])
        try await bench.apply([.attach(trigger: "one", destination: "queue", from: nil)])
        try await bench.reopen()
        try await bench.cycle(one, fence, 3, keys: ["new"])
        try expectEqual(keys(try await fetch(bench, queue)), ["new"], "jobs from when it was attached")
        try await bench.apply([.attach(trigger: "one", destination: "queue", from: nil)])
        try expectEqual(try await fetch(bench, queue).jobs.count, 0, "attaching again repeats")
    }

    private static func consumerFromPosition(_ bench: inout StoreBench) async throws {
        let one = try await bench.makeTrigger("one")
        let two = try await bench.makeTrigger("two", topicKeys: ["b"])
        let fence = try await bench.lease()
        try await bench.apply([StoreBench.destination("queue", kind: "pull"), .attach(trigger: "one", destination: "queue", from: nil)])
        let queue = try await bench.destination("queue")
        try await bench.cycle(two, fence, 1, keys: ["x1", "x2", "x3"])
        try await bench.cycle(one, fence, 1, keys: ["a1", "a2"])
        let first = try await fetch(bench, queue)
        try expectEqual(keys(first), ["a1", "a2"], "of the first trigger")
        try await say(bench, queue, first.lease, .ack, [first.jobs[0].job.token])
        try await bench.apply([.attach(trigger: "two", destination: "queue", from: JobPosition(2))])
        try await bench.reopen()
        try await bench.cycle(one, fence, 2, keys: ["a3"])
        try expectEqual(keys(try await fetch(bench, queue)), ["x2", "x3", "a3"], "from position two, and what is new")
        let state = try await state(bench, queue)
        try expectEqual(state.unacked, 4, "unacked")
        try expectEqual(keys(try await fetch(bench, queue, at: bench.start + .minutes(2))), ["x2", "x3", "a2", "a3"], "all of it again")
    }

    private static func consumerDetach(_ bench: inout StoreBench) async throws {
        let (one, two, queue, fence) = try await makeConsumer(bench)
        try await bench.cycle(one, fence, 1, keys: ["a", "b", "c"])
        try await bench.cycle(two, fence, 1, keys: ["x"])
        let first = try await fetch(bench, queue, limit: 1)
        try await bench.apply([.detach(trigger: "one", destination: "queue")])
        try await bench.cycle(one, fence, 2, keys: ["d"])
        try await bench.reopen()
        try expectEqual(keys(try await fetch(bench, queue)), ["x"], "of the other trigger only")
        let much = bench.start + .days(5)
        let policy = RetentionPolicy(jobs: .days(1), pendingDeliveries: .days(30), rowsPerBatchMax: 2)
        try expectEqual(try await bench.prune(policy, at: much).expiredDeliveries, 2, "what was left became dead letters")
        let letters = try await dead(bench, queue)
        try expectEqual(
            letters.filter { $0.reason == "detached" }.map(\.position.rawValue).sorted(), [2, 3], "dead letters of the detached")
        try expectEqual(try await bench.keys(one.id).contains("b"), true, "their jobs are kept")
        try expectEqual(try await bench.keys(one.id).contains("d"), false, "a job that nobody waits for")
        let last = try await fetch(bench, queue, at: bench.start + .seconds(59))
        try expect(last.jobs.isEmpty, "what is in hand stays")
        try await say(bench, queue, first.lease, .ack)
        try expectEqual(try await bench.replay(DeadLetterSelection(destination: queue), at: much), 0, "replayed without an attachment")
        try await bench.apply([.attach(trigger: "one", destination: "queue", from: nil)])
        try expectEqual(try await bench.replay(DeadLetterSelection(destination: queue), at: much), 2, "attached again and replayed")
        let again = try await fetch(bench, queue, at: much)
        try expect(Set(["b", "c"]).isSubset(of: Set(keys(again))), "handed out after all: \(keys(again))")
    }

    /// Detached and attached again before anybody looked at what was left.
    private static func consumerRegains(_ bench: inout StoreBench) async throws {
        let (one, two, queue, fence) = try await makeConsumer(bench)
        try await bench.cycle(one, fence, 1, keys: ["a", "b", "c"])
        try await bench.cycle(two, fence, 1, keys: ["x", "y", "z"])
        try await bench.apply([
            .detach(trigger: "one", destination: "queue"), .detach(trigger: "two", destination: "queue"),
            .attach(trigger: "one", destination: "queue", from: JobPosition(1)),
            .attach(trigger: "two", destination: "queue", from: JobPosition(3)),
        ])
        try await bench.reopen()
        let first = try await fetch(bench, queue)
        try expectEqual(keys(first), ["a", "b", "c", "z"], "from the first of one, and the third of the other")
        try await say(bench, queue, first.lease, .ack)
        _ = try await bench.prune(RetentionPolicy(), at: bench.start)
        let letters = try await dead(bench, queue)
        try expectEqual(letters.map(\.trigger), [two.id, two.id], "of the other only")
        try expectEqual(letters.map(\.position.rawValue).sorted(), [1, 2], "what was not regained")
        // Attached from now on, it regains nothing; going back does.
        try await bench.cycle(one, fence, 2, keys: ["d", "e"])
        try await bench.apply([
            .detach(trigger: "one", destination: "queue"), .attach(trigger: "one", destination: "queue", from: nil),
        ])
        let token = try require(try await bench.store.jobs(JobQuery(trigger: one.id)).jobs.first { $0.position.rawValue == 4 }, "d").token
        _ = try await bench.store.seekConsumer(queue, to: .after(token), at: bench.start)
        let second = try await fetch(bench, queue)
        try expectEqual(keys(second), ["e"], "from where it went")
        try await say(bench, queue, second.lease, .ack)
        _ = try await bench.prune(RetentionPolicy(), at: bench.start)
        let ofOne = try await dead(bench, queue).filter { $0.trigger == one.id }
        try expectEqual(ofOne.map(\.position.rawValue), [4], "what it went past")
    }

    private static func detachedInHand(_ bench: inout StoreBench) async throws {
        let (one, two, queue, fence) = try await makeConsumer(bench)
        try await bench.cycle(one, fence, 1, keys: ["a", "b", "c"])
        try await bench.cycle(two, fence, 1, keys: ["x"])
        let first = try await fetch(bench, queue)
        try await say(bench, queue, first.lease, nack(), [first.jobs[0].job.token, first.jobs[3].job.token])
        try await bench.apply([.detach(trigger: "one", destination: "queue")])
        try await bench.reopen()
        let again = try await fetch(bench, queue)
        try expectEqual(keys(again), ["x"], "of the trigger that is attached")
        try expectEqual(again.dead, 1, "dead letters")
        try await say(bench, queue, first.lease, .ack, [first.jobs[1].job.token])
        let late = bench.start + .seconds(60)
        try expectEqual(keys(try await fetch(bench, queue, at: late)), ["x"], "once the time ran out")
        let letters = try await dead(bench, queue)
        try expectEqual(letters.map(\.position.rawValue).sorted(), [1, 3], "which are dead: not the one that was acked")
        try expectEqual(Set(letters.map(\.reason)), ["detached"], "why")
        try expectEqual(try await state(bench, queue, at: late).unacked, 1, "unacked")
    }

    /// Its worker gets what its filter lets through in the moment in which it is handed out.
    private static func fetchedSettings(_ bench: inout StoreBench) async throws {
        let (one, two, queue, fence) = try await makeConsumer(bench)
        let filter = StoreBench.bytes("{\"filter\":\"record.a\"}")
        try await bench.cycle(one, fence, 1, keys: ["a", "b", "c"])
        try await bench.apply([.setAttachment(trigger: "one", destination: "queue", settings: filter)])
        let first = try await fetch(bench, queue, limit: 1)
        try expectEqual(first.settings, [one.id: filter], "of new jobs")
        try await bench.apply([.setAttachment(trigger: "one", destination: "queue", settings: [])])
        try expectEqual(try await fetch(bench, queue, limit: 1).settings, [:], "removed")
        try await bench.cycle(two, fence, 1, keys: ["x"])
        try await bench.apply([.setAttachment(trigger: "two", destination: "queue", settings: filter)])
        try await bench.reopen()
        let again = try await fetch(bench, queue, at: bench.start + .minutes(2))
        try expectEqual(keys(again), ["a", "b", "c", "x"], "what comes again, and what is new")
        try expectEqual(again.settings, [two.id: filter], "of both")
        try await say(bench, queue, again.lease, nack(), at: bench.start + .minutes(2))
        try await bench.apply([.setAttachment(trigger: "one", destination: "queue", settings: filter)])
        let last = try await fetch(bench, queue, at: bench.start + .minutes(2))
        try expectEqual(last.settings, [one.id: filter, two.id: filter], "of what was nacked")
    }

    private static func retentionSparesUnacked(_ bench: inout StoreBench) async throws {
        let (one, _, queue, fence) = try await makeConsumer(bench)
        try await bench.cycle(one, fence, 1, keys: ["a", "b", "c", "d"])
        let first = try await fetch(bench, queue, limit: 3)
        try await say(bench, queue, first.lease, .ack, [first.jobs[0].job.token])
        try await say(bench, queue, first.lease, nack(delay: .hours(1)), [first.jobs[1].job.token])
        let policy = RetentionPolicy(jobs: .days(1), pendingDeliveries: .days(30), rowsPerBatchMax: 3)
        let later = bench.start + .days(5)
        try await bench.reopen()
        try expectEqual(try await bench.prune(policy, at: later).jobs, 1, "jobs removed: the acked one")
        try expectEqual(try await bench.keys(one.id), ["b", "c", "d"], "nacked, in hand, not handed out: all kept")
        let again = try await fetch(bench, queue, at: later)
        try expectEqual(keys(again), ["b", "c", "d"], "and handed out")
        try await say(bench, queue, again.lease, .ack, at: later)
        try expectEqual(try await bench.prune(policy, at: later).jobs, 3, "jobs removed once they are acked")
    }

    private static func unackedExpires(_ bench: inout StoreBench) async throws {
        let (one, _, queue, fence) = try await makeConsumer(bench)
        try await bench.cycle(one, fence, 1, keys: ["a", "b", "c", "d", "e"])
        let first = try await fetch(bench, queue, limit: 2)
        try await say(bench, queue, first.lease, nack(delay: .hours(1)), [first.jobs[0].job.token])
        let policy = RetentionPolicy(jobs: .days(3), pendingDeliveries: .days(2), rowsPerBatchMax: 2)
        let later = bench.start + .days(2) + .seconds(1)
        try await bench.cycle(one, fence, 2, keys: ["young"], at: later)
        try expectEqual(try await bench.prune(policy, at: later).expiredDeliveries, 5, "dead letters")
        try await bench.reopen()
        let letters = try await dead(bench, queue)
        try expectEqual(Set(letters.map(\.reason)), ["expired"], "their reason")
        try expectEqual(letters.map(\.position.rawValue).sorted(), [1, 2, 3, 4, 5], "which")
        try expectEqual(keys(try await fetch(bench, queue, at: later)), ["young"], "what is young is handed out")
        let letter = try require(letters.last, "a dead letter").id
        try expectEqual(
            try await bench.replay(DeadLetterSelection(deliveries: [letter]), at: later), 1, "replayed")
        try expectEqual(try await bench.prune(policy, at: later + .hours(1)).expiredDeliveries, 0, "a replayed one is young")
        try expectEqual(try await fetch(bench, queue, at: later).jobs.count, 1, "it is handed out")
        let much = later + .days(2) + .hours(1)
        try expectEqual(try await bench.prune(policy, at: much).expiredDeliveries, 2, "the young and the replayed at their time")
    }

    /// The consumer's jobs lie far apart among those of others, some of which are younger than its last one.
    private static func fewAmongMany(_ bench: inout StoreBench) async throws {
        let (one, two, queue, fence) = try await makeConsumer(bench)
        let others = try await bench.makeTrigger("others", topicKeys: ["c"])
        var expected: [String] = []
        for round in 1...6 {
            let number = Int64(round)
            try await bench.cycle(others, fence, number, keys: (0..<700).map { "o\(round)-\($0)" }, at: bench.start + .minutes(number))
            for (trigger, name) in [(one, "a"), (two, "b")] where round != 3 || name == "a" {
                let keys = (0..<round).map { "\(name)\(round)-\($0)" }
                try await bench.cycle(trigger, fence, number, keys: keys, at: bench.start + .minutes(number))
                expected += keys
            }
        }
        try await bench.cycle(others, fence, 7, keys: (0..<700).map { "o7-\($0)" }, at: bench.start + .minutes(7))
        let here = bench
        func all(_ limit: Int, bytesMax: Int = 1 << 20) async throws -> [String] {
            var found: [String] = []
            for _ in 0..<100 {
                let batch = try await fetch(here, queue, limit: limit, bytesMax: bytesMax)
                guard !batch.jobs.isEmpty else { return found }
                try expect(batch.jobs.count <= limit, "the limit")
                found += keys(batch)
                try await say(here, queue, batch.lease, .ack)
            }
            return found
        }
        try expectEqual(try await all(4), expected, "in the order of commits, across batches")
        try expectEqual(try await state(bench, queue).backlog, 0, "nothing is left")
        // Back to the middle, with one of them acked before and its place passed again.
        _ = try await bench.store.seekConsumer(queue, to: .time(bench.start + .minutes(4)), at: bench.start)
        try expectEqual(try await all(100), expected.filter { "456".contains($0.dropFirst().first ?? "0") }, "from the fourth minute on")
        _ = try await bench.store.seekConsumer(queue, to: .oldest, at: bench.start)
        try expectEqual(try await all(3, bytesMax: 1), expected, "one at a time where they are large")
        // From a trigger that it has left nothing comes; of those that went the others are found.
        try await bench.apply([.detach(trigger: "two", destination: "queue")])
        _ = try await bench.store.seekConsumer(queue, to: .oldest, at: bench.start)
        try expectEqual(try await all(100), expected.filter { $0.hasPrefix("a") }, "without the one that was detached")
    }

    private static func seek(_ bench: inout StoreBench) async throws {
        let (one, _, queue, fence) = try await makeConsumer(bench)
        for number in 1...4 {
            try await bench.cycle(one, fence, Int64(number), keys: ["a\(number)"], at: bench.start + .minutes(Int64(number)))
        }
        let first = try await fetch(bench, queue, limit: 2)
        try await say(bench, queue, first.lease, .ack, [first.jobs[0].job.token])
        let here = bench
        let forward = try await bench.store.seekConsumer(queue, to: .time(bench.start + .minutes(4)), at: bench.start)
        try expectEqual([forward.skipped, forward.again], [2, 0], "skipped: one in hand, one not handed out")
        try await expectError(.fenced, "an ack of a lease from before") { try await say(here, queue, first.lease, .ack) }
        try await bench.reopen()
        try expectEqual(keys(try await fetch(bench, queue)), ["a4"], "from there")
        let back = try await bench.store.seekConsumer(queue, to: .after(first.jobs[0].job.token), at: bench.start)
        try expectEqual([back.skipped, back.again], [0, 3], "what comes again")
        try expectEqual(keys(try await fetch(bench, queue)), ["a2", "a3", "a4"], "again")
        try expectEqual(try await bench.store.seekConsumer(queue, to: .now, at: bench.start).skipped, 3, "skipped by going to now")
        try expectEqual(try await fetch(bench, queue).jobs.count, 0, "at the end")
        try expectEqual(try await bench.store.seekConsumer(queue, to: .oldest, at: bench.start).again, 4, "all again")
        try expectEqual(try await fetch(bench, queue, at: bench.start).jobs.count, 4, "from the oldest")
        let reopened = bench
        try await expectError(.invalid, "a place that is none") {
            _ = try await reopened.store.seekConsumer(queue, to: .after("nonsense"), at: reopened.start)
        }
    }

    /// Jobs that were removed are not passed over in silence.
    private static func seekIsTold(_ bench: inout StoreBench) async throws {
        let (one, two, queue, fence) = try await makeConsumer(bench)
        let start = bench.start
        func days(_ count: Int64) -> Timestamp { start + .days(count) }
        try await bench.cycle(one, fence, 1, keys: ["a1", "a2"], at: days(0))
        try await bench.cycle(two, fence, 1, keys: ["b1"], at: days(1))
        let read = try await bench.store.jobs(JobQuery(limit: 1))
        let first = try require(read.jobs.first, "the first job").token
        let all = try await fetch(bench, queue)
        try await say(bench, queue, all.lease, .ack)
        try await bench.cycle(one, fence, 2, keys: ["a3"], at: days(9))
        try await bench.cycle(two, fence, 2, keys: ["b2"], at: days(10))
        let policy = RetentionPolicy(jobs: .days(5), pendingDeliveries: .days(30), rowsPerBatchMax: 100)
        try expectEqual(try await bench.prune(policy, at: days(11)).jobs, 3, "jobs removed: those that were acked")
        try await bench.reopen()
        let here = bench
        let place = try await state(bench, queue).position
        var next: String?
        for target in [SeekTarget.after(first), .time(days(0)), .time(days(1))] {
            do {
                _ = try await bench.store.seekConsumer(queue, to: target, at: days(11))
                throw ConformanceFailure(description: "a seek to \(target) passed over jobs that were removed")
            } catch let error as SluiceError {
                try expectEqual(error.code, .pastRetention, "the error")
                try expectEqual(error.context["oldest_position"], "3", "the oldest position that is left: a3")
                try expectEqual(error.context["oldest_at"], days(9).description, "when it was made")
                next = error.context["next"]
            }
        }
        try expectEqual(try await state(bench, queue).position, place, "a refusal moves nothing")
        try expectEqual(try await bench.store.seekConsumer(queue, to: .time(days(2)), at: days(11)).again, 0, "behind what was removed")
        try expectEqual(keys(try await fetch(bench, queue, at: days(11))), ["a3", "b2"], "nothing is missing there")
        _ = try await bench.store.seekConsumer(queue, to: .after(try require(next, "the token to go on with")), at: days(11))
        try expectEqual(keys(try await fetch(bench, queue, at: days(11))), ["a3", "b2"], "going on with what is kept")
        _ = try await bench.store.seekConsumer(queue, to: .oldest, at: days(11))
        try expectEqual(keys(try await fetch(bench, queue, at: days(11))), ["a3", "b2"], "from the oldest")
        // Of what is not this consumer's nothing is missed.
        try await bench.apply([
            StoreBench.destination("late", kind: "pull"), .attach(trigger: "two", destination: "late", from: nil),
            .detach(trigger: "two", destination: "late"),
        ])
        _ = try await here.store.seekConsumer(try await bench.destination("late"), to: .time(days(0)), at: days(11))
    }

    private static func readerIsTold(_ bench: inout StoreBench) async throws {
        let (one, two, queue, fence) = try await makeConsumer(bench)
        try await bench.apply([.detach(trigger: "two", destination: "queue")])
        try await bench.cycle(one, fence, 1, keys: ["a1"])
        try await bench.cycle(two, fence, 1, keys: ["b1"])
        let early = try await bench.store.jobs(JobQuery(limit: 1)).next
        let ofTwo = try await bench.store.jobs(JobQuery(trigger: two.id)).next
        try await bench.cycle(one, fence, 2, keys: ["a2", "a3"])
        // In hand, so that it outlives what came after it.
        let held = try await fetch(bench, queue, limit: 2)
        try await say(bench, queue, held.lease, .ack, [held.jobs[0].job.token])
        let third = try await fetch(bench, queue, limit: 1)
        try await say(bench, queue, third.lease, .ack)
        let later = bench.start + .days(5)
        let policy = RetentionPolicy(jobs: .days(1), pendingDeliveries: .days(30), rowsPerBatchMax: 100)
        try await bench.cycle(one, fence, 3, keys: ["a4"], at: later)
        try expectEqual(try await bench.prune(policy, at: later).jobs, 3, "jobs removed: all but the one in hand and the new one")
        try await bench.reopen()
        let here = bench
        var next: String?
        do {
            _ = try await bench.store.jobs(JobQuery(after: early))
            throw ConformanceFailure(description: "a reader behind retention was not told")
        } catch let error as SluiceError {
            try expectEqual(error.code, .pastRetention, "the error")
            next = error.context["next"]
            try expectEqual(error.context["oldest_position"], "2", "the oldest position that is left")
        }
        try expectEqual(
            try await bench.store.jobs(JobQuery(after: next)).jobs.map(\.position.rawValue), [2, 4], "going on with what is left")
        try await expectError(.pastRetention, "a reader of one trigger") {
            _ = try await here.store.jobs(JobQuery(trigger: one.id, after: early))
        }
        try expectEqual(
            try await bench.store.jobs(JobQuery(trigger: two.id, after: ofTwo)).jobs.count, 0, "of another, who missed nothing")
        let start = try await bench.store.jobs(JobQuery(limit: 1))
        try expectEqual(start.jobs.map(\.position.rawValue), [2], "from the oldest that is kept")
        try expectEqual(
            try await bench.store.jobs(JobQuery(after: start.next)).jobs.map(\.position.rawValue), [4],
            "who begins there is not told of what was before")
        try await say(bench, queue, held.lease, .ack, at: later)
        try expectEqual(try await bench.prune(policy, at: later).jobs, 1, "the one that was in hand")
        try expectEqual(try await bench.store.jobs(JobQuery(after: start.next)).jobs.count, 1, "who has read it misses nothing")
        try await expectError(.pastRetention, "who has not") { _ = try await here.store.jobs(JobQuery(after: next)) }
    }

    private static func sifted(_ bench: inout StoreBench) async throws {
        let (one, _, queue, fence) = try await makeConsumer(bench)
        try await bench.cycle(one, fence, 1, keys: ["a", "b", "c"])
        let batch = try await fetch(bench, queue)
        let answer = try await say(
            bench, queue, batch.lease, .sift(refused: [(batch.jobs[1].job.token, "no field")]), [batch.jobs[0].job.token])
        try expectEqual(answer.dead, 1, "dead letters")
        try expectEqual(answer.settled.inHand, 1, "in hand")
        try expectEqual(try await dead(bench, queue).map(\.reason), ["filter"], "the reason")
        try expectEqual(try await bench.store.backlog(queue).filtered, 1, "how many were left out")
        try await bench.reopen()
        try expectEqual(
            try await bench.store.leaseJobs(queue, try require(batch.lease, "the lease")).map(\.token), [batch.jobs[2].job.token],
            "the lease is of what its worker got")
        try expectEqual(
            try await say(bench, queue, batch.lease, .ack).settled, .init(jobs: 1, repeated: 0, inHand: 0), "the ack of the lease")
        let here = bench
        try await expectError(.conflict, "a nack after it") { try await say(here, queue, batch.lease, nack()) }
        try expectEqual(try await state(bench, queue).unacked, 0, "unacked")
        try expectEqual(try await dead(bench, queue).count, 1, "dead letters after the ack of the lease")
    }

    private static func boundedFetch(_ bench: inout StoreBench) async throws {
        let (one, _, queue, fence) = try await makeConsumer(bench)
        try await bench.cycle(one, fence, 1, keys: (0..<9).map { "key\($0)" })
        let size = try await bench.store.jobs(JobQuery(limit: 1)).jobs[0].record.count
        let some = try await fetch(bench, queue, bytesMax: size * 3)
        try expectEqual(some.jobs.count, 3, "jobs within three records' bytes")
        try expect(some.more, "more is there")
        try expectEqual(try await fetch(bench, queue, bytesMax: 1).jobs.count, 1, "at least one job")
        let rules = ConsumerMachine.Rules(attemptsMax: 20, unackedMax: 6)
        try expectEqual(try await fetch(bench, queue, rules: rules).jobs.count, 2, "up to what may be unacked")
        let full = try await fetch(bench, queue, rules: rules)
        try expect(full.jobs.isEmpty && full.isAtBound && !full.more, "at the bound nothing is handed out")
        let late = bench.start + .minutes(2)
        let again = try await fetch(bench, queue, limit: 4, bytesMax: size * 3, rules: rules, at: late)
        try expectEqual(again.jobs.map(\.job.position.rawValue), [1, 2, 3], "what comes again is bounded, too")
        try expect(again.more, "more comes again")
    }

    private static func kinds(_ bench: inout StoreBench) async throws {
        let (one, _, queue, fence) = try await makeConsumer(bench)
        let here = bench
        try await expectError(.conflict, "a consumer that becomes a push destination") {
            try await here.apply([StoreBench.destination("queue")])
        }
        try await bench.apply([StoreBench.destination("hook")])
        try await expectError(.conflict, "and the other way") { try await here.apply([StoreBench.destination("hook", kind: "pull")]) }
        let hook = try await bench.destination("hook")
        try await expectError(.notFound, "a fetch from what is pushed to") { _ = try await fetch(here, hook) }
        try await bench.cycle(one, fence, 1, keys: ["a"])
        let batch = try await fetch(bench, queue)
        try await bench.apply([.removeDestination(name: "queue", discardsUndelivered: true)])
        try await expectError(.notFound, "an ack after its consumer was removed") { try await say(here, queue, batch.lease, .ack) }
        try await bench.reopen()
        try expectEqual(try await bench.store.consumers(.default, only: nil, at: bench.start).count, 0, "consumers")
    }
}

/// A value that several tasks share.
private final class Shared<Value: Sendable>: Sendable {
    let value: Mutex<Value>
    init(_ value: Value) { self.value = Mutex(value) }
}
