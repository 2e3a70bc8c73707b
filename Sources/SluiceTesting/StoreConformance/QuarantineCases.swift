import SluiceCore
import SluiceStore

extension StoreConformance {
    static let quarantine: [ConformanceCase] = [
        ConformanceCase("P4_whatWasSetAsideBecomesAJobOnce", retriedOnce),
        ConformanceCase("P9_aRecordThatIsTriedAgainHasItsDeliveries", retriedWithDeliveries),
        ConformanceCase("P3_aRetryForATriggerThatChangedMakesNothing", retryOfAChangedTrigger),
        ConformanceCase("P10_whatIsSetAsideIsBoundedAndTheCursorStaysBeforeIt", bounded),
    ]

    private static func setAside(
        _ bench: inout StoreBench, _ trigger: StoredTrigger, _ fence: Fence, _ names: [String], cycle: Int64 = 1
    ) async throws {
        var commit = bench.page(trigger, fence, cycle: cycle, keys: ["x"], completion: bench.end())
        commit.quarantined = names.map {
            QuarantinedRecord(bytes: StoreBench.bytes("{\"n\":\"\($0)\"}"), reason: "no id", digest: Array($0.utf8))
        }
        _ = try await bench.store.commitPage(commit)
    }

    private static func retry(_ trigger: StoredTrigger, _ records: [(String, String)], at time: Timestamp) -> QuarantineRetry {
        QuarantineRetry(
            trigger: trigger.id, generation: trigger.generation,
            records: records.map { name, key in
                let record = Record(bytes: StoreBench.bytes("{\"n\":\"\(name)\"}")[...])
                return (digest: Array(name.utf8), keyed: [KeyedRecord(record: record, dedupKey: StoreBench.bytes(key), mark: nil)])
            }, at: time)
    }

    private static func bounded(_ bench: inout StoreBench) async throws {
        let trigger = try await bench.makeTrigger()
        let fence = try await bench.lease()
        var cycle: Int64 = 0
        func setAside(_ parts: [QuarantinedRecord]) async throws {
            cycle += 1
            var end = bench.end()
            end.cursor = StoreBench.bytes("\(cycle)")
            var commit = bench.page(trigger, fence, cycle: cycle, keys: ["x\(cycle)"], completion: end)
            commit.quarantined = parts
            _ = try await bench.store.commitPage(commit)
        }
        func parts(_ numbers: Range<Int>, bytes: Int = 2) -> [QuarantinedRecord] {
            numbers.map { QuarantinedRecord(bytes: [UInt8](repeating: 0x20, count: bytes), reason: "no id", digest: Array("\($0)".utf8)) }
        }
        try await setAside(parts(0..<QuarantineLimits.recordsMax - 1))
        try await expectError(.quarantineFull, "one too many") { try await setAside(parts(20_000..<20_002)) }
        let progress = try await bench.trigger().progress
        try expectEqual(progress.quarantined, Int64(QuarantineLimits.recordsMax - 1), "their number")
        try expectEqual(progress.lastPosition, JobPosition(1), "nothing of that page is stored")
        try expectEqual(progress.cursor, StoreBench.bytes("1"), "the cursor")
        // What is known already is not too many, and one more has room.
        try await setAside(parts(0..<100) + parts(20_000..<20_001))
        try await expectError(.quarantineFull, "no room") { try await setAside(parts(20_001..<20_002)) }
        var giving = retry(trigger, [], at: bench.start + .seconds(31))
        giving.discarded = (0..<QuarantineLimits.recordsMax - 1).map { Array("\($0)".utf8) } + [Array("20000".utf8)]
        _ = try await bench.store.retryQuarantine(giving)
        // Large ones are counted by their bytes.
        for number in 0..<5 { try await setAside(parts(30_000 + number..<30_001 + number, bytes: QuarantineLimits.bytesMax / 5)) }
        try await expectError(.quarantineFull, "too large") { try await setAside(parts(30_005..<30_006, bytes: 64)) }
    }

    private static func retriedOnce(_ bench: inout StoreBench) async throws {
        let trigger = try await bench.makeTrigger()
        let fence = try await bench.lease()
        try await setAside(&bench, trigger, fence, ["a", "b", "c", "d"])
        // "b" is a job already, and "z" was never set aside.
        let order = retry(trigger, [("a", "a"), ("b", "x"), ("z", "z")], at: bench.start + .seconds(30))
        let report = try await bench.store.retryQuarantine(order)
        try expectEqual(report, QuarantineRetryReport(jobs: 1, removed: 2), "report")
        let again = try await bench.store.retryQuarantine(order)
        try expectEqual(again, QuarantineRetryReport(jobs: 0, removed: 0), "the same again")
        try await bench.reopen()
        var giving = retry(trigger, [], at: bench.start + .seconds(31))
        giving.discarded = [Array("d".utf8), Array("y".utf8)]
        try expectEqual(try await bench.store.retryQuarantine(giving), QuarantineRetryReport(jobs: 0, removed: 1), "discarded")
        try expectEqual(try await bench.store.retryQuarantine(giving), QuarantineRetryReport(jobs: 0, removed: 0), "discarded again")
        let kept = try await bench.store.quarantine(.default, trigger: trigger.id, limit: 10)
        try expectEqual(kept.map(\.digest), [Array("c".utf8)], "what is left")
        let progress = try await bench.trigger().progress
        try expectEqual(progress.quarantined, 1, "their number")
        try expectEqual(progress.lastPosition, JobPosition(2), "position")
        let jobs = try await bench.store.jobs(JobQuery(trigger: trigger.id)).jobs
        try expectEqual(jobs.map { String(decoding: $0.dedupKey, as: UTF8.self) }, ["x", "a"], "jobs")
        try expectEqual(jobs.last.map { Array($0.record) }, StoreBench.bytes("{\"n\":\"a\"}"), "its bytes")
        // The open cycle goes on as if nothing had been.
        let next = try await bench.store.commitPage(bench.page(trigger, fence, cycle: 2, keys: ["a", "e"], completion: bench.end()))
        try expectEqual(next, .committed(jobs: 1, lastPosition: JobPosition(3)), "the next page")
        // What was given up comes with the feed's next answer, too.
        try await setAside(&bench, trigger, fence, ["d", "c", "f"], cycle: 3)
        let after = try await bench.store.quarantine(.default, trigger: trigger.id, limit: 10)
        try expectEqual(after.map(\.digest), [Array("f".utf8), Array("c".utf8)], "not what was given up")
        try expectEqual(try await bench.trigger().progress.quarantined, 2, "their number then")
    }

    private static func retriedWithDeliveries(_ bench: inout StoreBench) async throws {
        let trigger = try await bench.makeTrigger()
        try await bench.apply([StoreBench.destination("hook"), .attach(trigger: "orders", destination: "hook", from: nil)])
        let fence = try await bench.lease()
        try await setAside(&bench, trigger, fence, ["a"])
        let observer = RecordingObserver()
        bench.store.observe(observer)
        _ = try await bench.store.retryQuarantine(retry(trigger, [("a", "a")], at: bench.start + .seconds(30)))
        _ = try await observer.wait("the job") { $0.triggers.contains([trigger.id]) }
        let deliveries = try await bench.store.deliveries(DeliveryQuery(limit: 10))
        try expectEqual(deliveries.count, 2, "deliveries")
    }

    private static func retryOfAChangedTrigger(_ bench: inout StoreBench) async throws {
        let trigger = try await bench.makeTrigger()
        let fence = try await bench.lease()
        try await setAside(&bench, trigger, fence, ["a"])
        var order = retry(trigger, [("a", "a")], at: bench.start + .seconds(30))
        order.generation = Generation(trigger.generation.rawValue + 1)
        do {
            _ = try await bench.store.retryQuarantine(order)
            throw ConformanceFailure(description: "a retry for another generation was taken")
        } catch let error as SluiceError {
            try expectEqual(error.code, .conflict, "code")
        }
        try expectEqual(try await bench.store.quarantine(.default, trigger: trigger.id, limit: 10).count, 1, "what is left")
        try expectEqual(try await bench.trigger().progress.lastPosition, JobPosition(1), "position")
    }
}
