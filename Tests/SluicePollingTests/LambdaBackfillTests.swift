import SluiceConnectors
import SluiceCore
import SluicePolling
import SluiceStore
import SluiceTesting
import Synchronization
import Testing

/// A provider whose poll is code: the list of a `WindowFeed`, with what the code says of times.
private final class CodeFeed: Connector {
    let feed: WindowFeed
    let definition: ConnectorDefinition
    private let givesCursor: Bool
    private let givesTime: Bool
    /// Says that there is more, without end.
    let neverEnds: Bool

    init(_ feed: WindowFeed, cursor: Bool = true, time: Bool = true, neverEnds: Bool = false) {
        self.feed = feed
        (givesCursor, givesTime, self.neverEnds) = (cursor, time, neverEnds)
        var definition = feed.definition
        definition.triggers[0].hasCursorAt = cursor
        definition.triggers[0].hasRecordTime = time
        self.definition = definition
    }

    func webhookKeys(_ request: WebhookRequest) throws -> [String] { [] }
    func webhookKey(triggerType: String, input: JSONDocument) throws -> String? { nil }
    func help(webhookBaseURL: String) -> String { "" }
    func incremental(triggerType: String) -> Incremental? { nil }
    func simulation(triggerType: String) -> SimulatedFeed? { nil }
    func dedupKeys(triggerType: String, records: [Record]) throws -> [Result<[UInt8], SluiceError>] {
        try feed.dedupKeys(triggerType: triggerType, records: records)
    }

    func poll(_ request: PollRequest, http: any HTTPSending) async throws -> PollPage {
        var request = request
        // Code knows nothing of windows.
        let goesOn = neverEnds && request.window != nil
        request.window = nil
        if goesOn { request.pageState = nil }
        var page = try await feed.poll(request, http: http)
        if goesOn { (page.more, page.pageState) = (true, Array("{\"pages\":\(feed.requests)}".utf8)) }
        return page
    }

    func cursorAt(_ time: Timestamp, triggerType: String, input: JSONDocument) throws -> [UInt8]? {
        guard givesCursor else { return nil }
        let request = PollRequest(
            triggerType: triggerType, connection: input, input: input, cursor: nil, pageState: nil, readBound: time)
        return try feed.rules.windowStart(BackfillWindow(from: time, to: time + .seconds(1)), request).cursor
    }

    func recordTimes(triggerType: String, records: [Record]) throws -> [Timestamp?]? {
        guard givesTime else { return nil }
        return records.map { $0.view["at"]?.int64.flatMap { $0 == LambdaBackfillTests.unreadable ? nil : Timestamp(seconds: $0) } }
    }

    func subscribe(_ request: SubscriptionRequest, http: any HTTPSending) async throws -> SubscriptionAnswer { throw CodeFeed.none }
    func refreshSubscription(_ request: SubscriptionRequest, http: any HTTPSending) async throws -> SubscriptionAnswer {
        throw CodeFeed.none
    }
    func checkSubscription(_ request: SubscriptionRequest, http: any HTTPSending) async throws -> SubscriptionAnswer { throw CodeFeed.none }
    func unsubscribe(_ request: SubscriptionRequest, http: any HTTPSending) async throws { throw CodeFeed.none }
    func callbackStatus(_ request: CallbackRequest, http: any HTTPSending) async throws -> CallbackAnswer { throw CodeFeed.none }
    private static let none = SluiceError(.connector, "it has none of these")
}

/// Backfills of triggers whose poll is code.
@Suite struct LambdaBackfillTests {
    static let start: Int64 = 1_700_000_000
    /// A time that the code cannot read.
    static let unreadable = start - 455

    private static func items(_ count: Int) -> [WindowFeed.Item] {
        (0..<count).map { WindowFeed.Item(id: "r\($0)", at: start - Int64(count - $0) * 10) }
    }

    private static func with(_ feed: CodeFeed, _ time: ManualTime, _ body: @Sendable (Bench) async throws -> Void) async throws {
        try await Bench.with([BenchConnection(connector: feed, url: "http://feed.test")], time: time) { bench in
            try await waitUntil("the live poll", seconds: 180) { try await bench.trigger().progress.lastSuccessAt != nil }
            try await body(bench)
        }
    }

    private static func limits(pagesMax: Int64 = 1000) -> BackfillService.Limits {
        var limits = BackfillService.Limits(recordsPerCommitMax: 3)
        limits.pace = BackfillPace(shareMax: 1, redeliveriesPerSecondMax: 1_000_000)
        limits.pagesMax = pagesMax
        return limits
    }

    private static func wanted(
        _ bench: Bench, from: Int64, to: Int64?, _ mode: BackfillMode = .missingOnly, cursor: String? = nil
    ) async throws -> BackfillRequest {
        BackfillRequest(
            trigger: try await bench.trigger(),
            window: BackfillWindow(from: Timestamp(seconds: from), to: to.map { Timestamp(seconds: $0) } ?? bench.time.now()), mode: mode,
            isAudit: true, keysKept: .all, cursor: cursor.map { Array($0.utf8) }, isOpenEnded: to == nil)
    }

    private static func run(_ bench: Bench, _ wanted: BackfillRequest, pagesMax: Int64 = 1000) async throws -> StoredBackfill {
        let service = BackfillService(polling: bench.service, limits: limits(pagesMax: pagesMax))
        let id = try await service.start(wanted).id
        try await withThrowingTaskGroup(of: Void.self) { group in
            group.addTask { await service.run() }
            try await waitUntil("the backfill \(id)", seconds: 180, everyMilliseconds: 2) {
                try await bench.store.backfill(.default, id)?.state.hasEnded != false
            }
            // Whoever hears of its end has its alarm, too.
            try await waitUntil("the alarm is as it is to be", seconds: 180, everyMilliseconds: 2) {
                let state = try await bench.store.backfill(.default, id)?.state
                return (bench.alarms.message(.backfillFailed, "trigger items") != nil) == (state == .failed)
            }
            group.cancelAll()
        }
        guard let stored = try await bench.store.backfill(.default, id) else { throw SluiceError(.internalError, "it is gone") }
        return stored
    }

    /// Records that appeared behind the cursor are found, those before and behind the window are neither counted nor made jobs, and one
    /// without a readable time is counted and said to be so.
    @Test func g_theWindowIsKeptByTheTimesOfRecords() async throws {
        let time = ManualTime()
        let feed = CodeFeed(try WindowFeed(time: time, pageSize: 4))
        let all = Self.items(100)
        feed.feed.put(all.filter { $0.at % 50 != 0 })
        try await Self.with(feed, time) { bench in
            feed.feed.put(all.filter { $0.at % 50 == 0 } + [WindowFeed.Item(id: "odd", at: Self.unreadable)])
            let (from, to) = (Self.start - 600, Self.start - 300)
            let ended = try await Self.run(bench, try await Self.wanted(bench, from: from, to: to))
            #expect(ended.state == .done, "\(ended.lastError ?? "")")
            let inside = all.filter { $0.at >= from && $0.at < to }
            #expect(inside.count == 30 && ended.counts[.provider] == 31 && ended.counts[.unplaced] == 1)
            #expect(ended.counts[.missing] == 7 && ended.counts[.repaired] == 7 && ended.counts[.kept] == 31)
            #expect(ended.counts[.jobsInWindow] == 24 && ended.counts[.extra] == 0)
            let made = try await bench.store.jobs(JobQuery(trigger: try await bench.trigger().id, limit: 1000)).jobs
                .filter { $0.cause == .backfill }
            let wanted = inside.filter { $0.at % 50 == 0 }.map { "\($0.id)@\($0.at)" } + ["odd@\(Self.unreadable)"]
            #expect(Set(made.map { String(decoding: $0.dedupKey, as: UTF8.self) }) == Set(wanted))
            let statement = BackfillStatement.text(ended.window, ended.mode, ended.counts, notes: ended.notes)
            #expect(statement.contains("the provider had 31 records, Sluice has 31 of them, 7 repaired."), "\(statement)")
            #expect(statement.contains("1 of the provider's records have no readable time"), "\(statement)")
            // A second look finds nothing, and a record that went is named.
            feed.feed.remove { $0.id == inside[3].id }
            let again = try await Self.run(bench, try await Self.wanted(bench, from: from, to: to, .dryRun))
            #expect(again.counts[.missing] == 0 && again.counts[.provider] == 30 && again.counts[.extra] == 1)
        }
    }

    /// Without the times of records there is no end that could be kept, and the statement says what was counted.
    @Test func withoutTimesOnlyAnOpenEndIsTaken() async throws {
        let time = ManualTime()
        let feed = CodeFeed(try WindowFeed(time: time), time: false)
        feed.feed.put(Self.items(30))
        try await Self.with(feed, time) { bench in
            let bounded = try await Self.wanted(bench, from: Self.start - 100, to: Self.start - 50)
            let error = await #expect(throws: SluiceError.self) { try await Self.run(bench, bounded) }
            #expect(error?.code == .invalid && error?.message.contains("record_time") == true && error?.message.contains("`to`") == true)
            feed.feed.put([WindowFeed.Item(id: "late", at: Self.start - 95)])
            let ended = try await Self.run(bench, try await Self.wanted(bench, from: Self.start - 100, to: nil))
            #expect(ended.counts[.provider] == 11 && ended.counts[.repaired] == 1 && ended.counts[.unplaced] == 11)
            #expect(ended.counts[.jobsUnplaced] == 30 && ended.counts[.extra] == 0)
            #expect(ended.notes == ["Its records give no time: everything that the provider listed from the start on is counted."])
        }
    }

    @Test func whereNobodyKnowsACursorItIsGivenByHand() async throws {
        let time = ManualTime()
        let feed = CodeFeed(try WindowFeed(time: time), cursor: false, time: false)
        feed.feed.put(Self.items(30))
        try await Self.with(feed, time) { bench in
            let without = try await Self.wanted(bench, from: Self.start - 100, to: nil)
            let error = await #expect(throws: SluiceError.self) { try await Self.run(bench, without) }
            #expect(error?.code == .invalid && error?.message.contains("cursor_at") == true && error?.message.contains("--cursor") == true)
            feed.feed.put([WindowFeed.Item(id: "late", at: Self.start - 95)])
            let known = try #require(try await bench.trigger().progress.cursor)
            let cursor = String(decoding: known, as: UTF8.self).replacing("\(Self.start - 10)", with: "\(Self.start - 100)")
            let ended = try await Self.run(bench, try await Self.wanted(bench, from: Self.start - 100, to: nil, cursor: cursor))
            #expect(ended.counts[.repaired] == 1 && ended.notes.contains { $0.contains("given by hand") })
        }
    }

    /// A described list that is read by time takes no cursor by hand; one by a number does.
    @Test func aDescribedListTakesACursorWhereItHasNoTime() async throws {
        let time = ManualTime()
        let timed = try WindowFeed(time: time)
        timed.put(Self.items(5))
        try await Bench.with([BenchConnection(connector: timed, url: "http://feed.test")], time: time) { bench in
            try await waitUntil("the live poll", seconds: 180) { try await bench.trigger().progress.lastSuccessAt != nil }
            let request = try await Self.wanted(bench, from: Self.start - 100, to: nil, cursor: "1")
            let error = await #expect(throws: SluiceError.self) { try await Self.run(bench, request) }
            #expect(error?.message.contains("leave `cursor` out") == true)
        }
        let numbered = try WindowFeed(time: time, cursor: #"{"field":"at","parameter":"since","type":"integer","order":"asc"}"#)
        numbered.put(Self.items(30))
        try await Bench.with([BenchConnection(connector: numbered, url: "http://feed.test")], time: time) { bench in
            try await waitUntil("the live poll", seconds: 180) { try await bench.trigger().progress.lastSuccessAt != nil }
            numbered.put([WindowFeed.Item(id: "late", at: Self.start - 95)])
            let known = try #require(try await bench.trigger().progress.cursor)
            let cursor = String(decoding: known, as: UTF8.self).replacing("\(Self.start - 10)", with: "\(Self.start - 100)")
            let bounded = try await Self.wanted(bench, from: Self.start - 100, to: Self.start - 50, cursor: cursor)
            await #expect(throws: SluiceError.self) { try await Self.run(bench, bounded) }
            let request = try await Self.wanted(bench, from: Self.start - 100, to: nil, cursor: cursor)
            let ended = try await Self.run(bench, request)
            #expect(ended.state == .done && ended.counts[.repaired] == 1 && ended.counts[.provider] == 11, "\(ended.lastError ?? "")")
            #expect(ended.counts[.extra] == 0, "jobs without a time are not said to be gone")
            let bad = try await Self.run(bench, try await Self.wanted(bench, from: Self.start - 100, to: nil, cursor: #"{"no":"cursor"}"#))
            #expect(bad.state == .failed && bad.lastError?.isEmpty == false)
        }
    }

    /// A poll that never comes to an end ends the backfill, whose alarm says what to do; it goes with the next success, or with whoever
    /// lets it be.
    @Test func aBackfillThatFailsRaisesAnAlarm() async throws {
        let time = ManualTime()
        let feed = CodeFeed(try WindowFeed(time: time), neverEnds: true)
        feed.feed.put(Self.items(10))
        try await Self.with(feed, time) { bench in
            let failed = try await Self.run(bench, try await Self.wanted(bench, from: Self.start - 100, to: Self.start), pagesMax: 6)
            #expect(failed.state == .failed && failed.lastError?.contains("within 6 pages") == true, "\(failed.lastError ?? "")")
            let message = try #require(bench.alarms.message(.backfillFailed, "trigger items"))
            #expect(message.contains("The audit \(failed.id) failed") && message.contains("sluice backfill cancel \(failed.id)"))
            // Another process knows of it as well.
            bench.alarms.clear(.backfillFailed, subject: "trigger items")
            let service = BackfillService(polling: bench.service, limits: Self.limits())
            try await withThrowingTaskGroup(of: Void.self) { group in
                group.addTask { await service.run() }
                try await waitUntil("the alarm stands again", seconds: 180) {
                    bench.alarms.message(.backfillFailed, "trigger items") != nil
                }
                group.cancelAll()
            }
            #expect(try await bench.store.commandBackfill(.default, failed.id, .cancel, at: time.now()).state == .cancelled)
            await service.lookAtEnd(of: failed.trigger)
            #expect(bench.alarms.message(.backfillFailed, "trigger items") == nil)
            #expect(try await bench.store.backfill(.default, failed.id)?.lastError?.contains("6 pages") == true)
        }
        let ends = CodeFeed(feed.feed)
        try await Self.with(ends, time) { bench in
            bench.alarms.raise(Alarm(kind: .backfillFailed, subject: "trigger items", message: "the one before"))
            let done = try await Self.run(bench, try await Self.wanted(bench, from: Self.start - 100, to: Self.start))
            #expect(done.state == .done && bench.alarms.message(.backfillFailed, "trigger items") == nil)
        }
    }

    /// How callbacks ended is no list of a provider.
    @Test func aSourceOfCallbacksIsRefused() async throws {
        let time = ManualTime()
        let feed = CodeFeed(try WindowFeed(time: time))
        try await Self.with(feed, time) { bench in
            let empty = Array("{}".utf8)
            try await bench.store.apply(
                [
                    .putTrigger(
                        name: "callbacks:shop", uid: "uid-c", connection: "shop", type: StoredTrigger.callbackType, input: empty,
                        settings: empty, topicKeys: [], resets: false),
                    .setTriggerState(name: "callbacks:shop", from: .created, to: .running),
                ], namespace: .default, at: time.now())
            var wanted = try await Self.wanted(bench, from: Self.start - 100, to: nil)
            wanted.trigger = try await bench.trigger("callbacks:shop")
            let refused = wanted
            let error = await #expect(throws: SluiceError.self) { try await Self.run(bench, refused) }
            #expect(error?.code == .invalid && error?.message.contains("no list to read again") == true)
        }
    }
}
