import Logging
import SluiceConnectors
import SluiceCore
import SluicePolling
import SluiceStore
import SluiceTesting
import Synchronization
import Testing

extension BenchCatalogue: CallbackCatalogue {
    func callbackMeans(connection: ConnectionID, type: String?) throws -> CallbackMeans {
        guard let found = self.connection(connection) else { throw SluiceError(.internalError, "no such connection") }
        return CallbackMeans(
            connector: found.connector, connectionName: found.name, connection: try JSONDocument(found.json),
            type: type.flatMap { found.connector.definition.callback($0) })
    }
}

/// The callback service over a real store, with a provider that says what the test tells it to.
@Suite struct CallbackServiceTests {
    /// What the provider says, by the operation's name; and how often it was asked.
    final class Provider: Sendable {
        private struct State {
            var answers: [String: Result<CallbackAnswer, PollFailure>] = [:]
            var asked: [String: Int] = [:]
            var hangs: Set<String> = []
        }
        private let state = Mutex(State())
        func says(_ name: String, _ answer: Result<CallbackAnswer, PollFailure>) { state.withLock { $0.answers[name] = answer } }
        func hang(_ name: String) { _ = state.withLock { $0.hangs.insert(name) } }
        func asked(_ name: String) -> Int { state.withLock { $0.asked[name, default: 0] } }

        func status(_ request: CallbackRequest) async throws -> CallbackAnswer {
            let name = request.input.root["n"]?.text ?? ""
            let (answer, hangs) = state.withLock { state in
                state.asked[name, default: 0] += 1
                return (state.answers[name] ?? .success(.pending()), state.hangs.contains(name))
            }
            if hangs { try await Task.sleep(for: .seconds(3600)) }
            return try answer.get()
        }
    }

    struct Fixture: Sendable {
        let bench: Bench
        let service: CallbackService
        let provider: Provider

        func add(_ name: String, connection: String = "shop", asks: Bool = true, lifetime: Span = .hours(1)) async throws -> StoredCallback
        {
            let id = try #require(await bench.store.definitions(.default).connections.first { $0.name == connection }).id
            let now = bench.time.now()
            let machine = CallbackMachine(asks: asks, at: now, expiresAt: now + lifetime)
            return try await service.add(
                NewCallback(
                    id: "cb_" + name, connection: id, type: asks ? "payment" : nil, input: Array("{\"n\":\"\(name)\"}".utf8),
                    tokenHash: Array(name.utf8), sealedToken: [], state: machine.callback, sourceUID: "source-\(connection)")
            ).callback
        }

        func stored(_ name: String) async throws -> StoredCallback { try #require(await bench.store.callback(.default, id: "cb_" + name)) }

        func jobs(_ connection: String = "shop") async throws -> [String] {
            guard let source = try await bench.store.trigger(.default, named: "callbacks:" + connection) else { return [] }
            return try await bench.store.jobs(JobQuery(trigger: source.id)).jobs.map { String(decoding: $0.record, as: UTF8.self) }
        }

        func advance(by span: Span) {
            bench.time.advance(by: span)
            service.lookAgain()
        }
    }

    private func with(
        connections: [String] = ["shop"], limits: CallbackService.Limits = .init(storeRetry: .milliseconds(10)),
        before: @Sendable (Fixture) async throws -> Void = { _ in }, _ body: @Sendable (Fixture) async throws -> Void
    ) async throws {
        let provider = Provider()
        let connector = ConnectorDescription("psp", title: "PSP", version: "1") {
            Field("api_key", isSecret: true)
            CallbackType("payment", inputFields: [Field("n")]) { request, _ in try await provider.status(request) }
        }
        let all = connections.map { BenchConnection(name: $0, connector: connector, url: "http://127.0.0.1:1", triggers: []) }
        try await Bench.with(all, time: ManualTime()) { bench in
            var logger = Logger(label: "callback tests")
            logger.logLevel = .critical
            let service = CallbackService(
                store: bench.store, catalogue: bench.catalogue, time: bench.time, alarms: bench.alarms, polling: bench.service,
                limits: limits, logger: logger, random: { 0 })
            try await before(Fixture(bench: bench, service: service, provider: provider))
            try await withThrowingTaskGroup(of: Void.self) { group in
                group.addTask { await service.run() }
                defer { group.cancelAll() }
                try await waitUntil("the service runs", seconds: 30, everyMilliseconds: 2) { service.hasBegun }
                try await body(Fixture(bench: bench, service: service, provider: provider))
            }
        }
    }

    @Test func theProvidersAnswerSettlesAndWhoeverWaitsIsTold() async throws {
        try await with { fixture in
            let made = try await fixture.add("a")
            async let told = fixture.service.wait(made.id, seconds: 60)
            try await waitUntil("somebody waits", seconds: 30) { fixture.service.waiting == 1 }
            try await fixture.service.called(made, record: Record(bytes: Array("{\"paid\":true}".utf8)[...]))
            try await waitUntil("the provider is asked", seconds: 30) { fixture.provider.asked("a") == 1 }
            #expect(try await fixture.stored("a").state.state == .pending, "a call settles nothing")
            fixture.provider.says("a", .success(.over(result: Array("{\"amount\":12345678901234567890.10}".utf8))))
            try await waitUntil("the first answer is recorded", seconds: 30) { try await fixture.stored("a").state.polls == 1 }
            fixture.advance(by: .seconds(20))
            let settled = try await told
            #expect(settled.state.state == .settled && settled.endedBy == .status)
            #expect(settled.result == Array("{\"amount\":12345678901234567890.10}".utf8))
            #expect(
                try await fixture.jobs() == [
                    #"{"callback":"cb_a","state":"settled","connection":"shop","type":"payment","input":{"n":"a"},"result":{"amount":12345678901234567890.10}}"#
                ])
            try await fixture.service.called(settled, record: Record(bytes: Array("1".utf8)[...]))
            #expect(try await fixture.jobs().count == 1)
        }
    }

    @Test func whereNothingCanBeAskedTheCallIsTheResultOnce() async throws {
        try await with { fixture in
            let made = try await fixture.add("a", asks: false)
            let bodies = (0..<20).map { Array("{\"n\":\($0)}".utf8) }
            // All of them believe that it is pending.
            try await withThrowingTaskGroup(of: Void.self) { group in
                for body in bodies { group.addTask { try await fixture.service.called(made, record: Record(bytes: body[...])) } }
                try await group.waitForAll()
            }
            let stored = try await fixture.stored("a")
            #expect(stored.state.state == .settled && stored.endedBy == .webhook)
            #expect(try await fixture.jobs().count == 1)
            await #expect(throws: SluiceError.self) { try await fixture.service.cancel("cb_a", reason: nil) }
            let large = try await fixture.add("b", asks: false)
            await #expect(throws: SluiceError.self) {
                try await fixture.service.called(
                    large, record: Record(bytes: [UInt8](repeating: 0x31, count: CallbackAnswer.resultBytesMax + 1)[...]))
            }
        }
    }

    @Test func anAnswerIsNotLostThoughTheStoreFails() async throws {
        try await with { fixture in
            fixture.provider.says("a", .success(.over(result: Array("1".utf8), failed: true)))
            fixture.bench.store.failCallbacks(Array(repeating: SluiceError(.diskFull, "full"), count: 5))
            _ = try await fixture.add("a")
            fixture.advance(by: .seconds(5))
            try await waitUntil("it is recorded", seconds: 30) { try await fixture.stored("a").state.state == .failed }
            #expect(fixture.bench.store.callbackFaultsLeft == 0)
            #expect(fixture.provider.asked("a") == 1, "the answer was kept, not asked for again")
        }
    }

    @Test func aProviderThatRefusesOrAnswersGarbageIsAskedAgainAndShown() async throws {
        try await with { fixture in
            fixture.provider.says(
                "a",
                .failure(
                    PollFailure(.unauthorized, SluiceError(.providerAuth, "the provider refuses the credentials \(BenchConnection.key)"))))
            fixture.provider.says("b", .success(.over(result: Array("{oops".utf8))))
            for name in ["a", "b"] { _ = try await fixture.add(name) }
            fixture.advance(by: .seconds(5))
            try await waitUntil("both were asked", seconds: 30) {
                for name in ["a", "b"] where try await fixture.stored(name).state.failures != 1 { return false }
                return true
            }
            #expect(try await fixture.stored("b").state.lastError?.contains("not JSON") == true)
            let alarm = try #require(fixture.bench.alarms.message(.callbackStatus, "connection shop"))
            #expect(alarm.hasSuffix("refuses the credentials [secret]"), "\(alarm)")
            #expect(try await fixture.stored("a").state.lastError == "the provider refuses the credentials [secret]")
            for name in ["a", "b"] { fixture.provider.says(name, .success(.over(result: Array("1".utf8)))) }
            fixture.advance(by: .hours(2))
            try await waitUntil("both are settled", seconds: 30) { try await fixture.jobs().count == 2 }
            #expect(fixture.bench.alarms.message(.callbackStatus, "connection shop") == nil)
        }
    }

    @Test func itExpiresAfterALastStatusPoll() async throws {
        try await with { fixture in
            _ = try await fixture.add("a", lifetime: .seconds(60))
            _ = try await fixture.add("b", asks: false, lifetime: .seconds(60))
            fixture.advance(by: .seconds(61))
            try await waitUntil("both are over", seconds: 30) { try await fixture.jobs().count == 2 }
            for name in ["a", "b"] {
                let stored = try await fixture.stored(name)
                #expect(stored.state.state == .expired && stored.endedBy == .time && stored.result == nil)
            }
            #expect(fixture.provider.asked("a") == 1 && fixture.provider.asked("b") == 0)
        }
    }

    /// Their time was up while nobody was here.
    @Test func P9_aDowntimeCostsNoResult() async throws {
        try await with(before: { fixture in
            fixture.provider.says("a", .failure(PollFailure(.transient, SluiceError(.providerAnswer, "down"))))
            _ = try await fixture.add("a", lifetime: .seconds(60))
            for name in ["b", "c"] { _ = try await fixture.add(name, asks: false, lifetime: .seconds(60)) }
            fixture.bench.time.advance(by: .hours(1))
        }) { fixture in
            try await waitUntil("it was asked, and the others are put off", seconds: 30) {
                let now = fixture.bench.time.now()
                for name in ["a", "b", "c"] where try await fixture.stored(name).state.nextAt <= now { return false }
                return true
            }
            #expect(fixture.provider.asked("a") == 1)
            #expect(try await fixture.stored("a").state.state == .pending)
            fixture.provider.says("a", .success(.over(result: Array("1".utf8))))
            #expect(try await fixture.service.called(fixture.stored("b"), record: Record(bytes: Array("2".utf8)[...])) == .settled)
            fixture.advance(by: .minutes(5))
            try await waitUntil("it is settled", seconds: 30) { try await fixture.stored("a").state.state == .settled }
            fixture.advance(by: .hours(1))
            try await waitUntil("nobody called", seconds: 30) { try await fixture.stored("c").state.state == .expired }
            let late = try await fixture.service.called(fixture.stored("c"), record: Record(bytes: Array("3".utf8)[...]))
            #expect(late == .expired)
        }
    }

    @Test func P12_aProviderThatHangsHoldsUpNoOther() async throws {
        try await with(connections: ["stuck", "shop"]) { fixture in
            for index in 0..<12 {
                fixture.provider.hang("s\(index)")
                _ = try await fixture.add("s\(index)", connection: "stuck")
            }
            fixture.advance(by: .seconds(6))
            try await waitUntil("some hang", seconds: 30) { (0..<12).contains { fixture.provider.asked("s\($0)") > 0 } }
            fixture.provider.says("a", .success(.over(result: Array("1".utf8))))
            _ = try await fixture.add("a")
            fixture.advance(by: .seconds(6))
            try await waitUntil("the other one is settled", seconds: 30) { try await fixture.stored("a").state.state == .settled }
            #expect((0..<12).reduce(0) { $0 + fixture.provider.asked("s\($1)") } <= 4, "at most four at once of one connection")
        }
    }
}
