import SluiceConnectors
import SluiceCore
import SluiceStore
import SluiceTesting
import Synchronization
import Testing

@testable import SluicePolling

/// How long a poll waits for an access token.
@Suite struct TokenWaitTests {
    /// Timers that run as the test moves the clock.
    private final class ManualTimers: Sendable {
        private struct Timer {
            var at: Timestamp
            var body: @Sendable () -> Void
        }
        private struct State {
            var timers: [Int: Timer] = [:]
            var next = 0
        }
        private let state = Mutex(State())
        private let time: ManualTime
        init(_ time: ManualTime) { self.time = time }

        var count: Int { state.withLock { $0.timers.count } }

        func after(_ span: Span, _ body: @escaping @Sendable () -> Void) -> @Sendable () -> Void {
            let number = state.withLock { state in
                state.next += 1
                state.timers[state.next] = Timer(at: time.now() + span, body: body)
                return state.next
            }
            return { self.state.withLock { _ = $0.timers.removeValue(forKey: number) } }
        }

        func advance(by span: Span) {
            time.advance(by: span)
            let now = time.now()
            let due = state.withLock { state in
                let due = state.timers.filter { $0.value.at <= now }
                for number in due.keys { state.timers[number] = nil }
                return due.values.map(\.body)
            }
            for body in due { body() }
        }
    }

    private struct Scene: Sendable {
        let time = ManualTime()
        let timers: ManualTimers
        let keeper: TokenKeeper
        let answer: AsyncStream<HTTPReply>.Continuation
        let begun = Begun()

        final class Begun: Sendable {
            let count = Mutex(0)
        }

        init() throws {
            let (answers, continuation) = AsyncStream.makeStream(of: HTTPReply.self)
            let (time, begun) = (self.time, self.begun)
            let timers = ManualTimers(time)
            self.timers = timers
            answer = continuation
            let grant = TokenGrant(.clientCredentials, tokenURL: "https://auth.test/token")
            keeper = TokenKeeper(
                TokenKeeper.Parts(
                    connection: ConnectionID(rawValue: 1), name: "shop",
                    request: TokenRequest(grant: grant, values: try JSONDocument(Array("{}".utf8)), secrets: []), credentials: nil,
                    send: { _ in
                        for await reply in answers { return reply }
                        throw CancellationError()
                    }, fence: { nil }, time: time, random: { 0 }, node: "n",
                    begin: { _ in
                        begun.count.withLock { $0 += 1 }
                        return true
                    }, after: { timers.after($0, $1) }))
        }

        func outcome() async -> Result<AccessToken, any Error> {
            do { return .success(try await keeper.token()) } catch { return .failure(error) }
        }
    }

    private static func reply(_ token: String) -> HTTPReply {
        HTTPReply(status: 200, headers: [], body: Array(#"{"access_token":"\#(token)","expires_in":36000}"#.utf8))
    }

    @Test func P10_whoWaitsTooLongForATokenIsToldAndTheRefreshGoesOn() async throws {
        let scene = try Scene()
        async let first = scene.outcome()
        async let second = scene.outcome()
        try await waitUntil("two who wait") { scene.timers.count == 2 }
        scene.timers.advance(by: TokenKeeper.waitSpanMax - .milliseconds(1))
        #expect(scene.timers.count == 2, "not yet")
        scene.timers.advance(by: .milliseconds(1))
        for outcome in [await first, await second] {
            let failure = #expect(throws: PollFailure.self) { try outcome.get() }
            #expect(failure?.kind == .transient && failure?.isFinal == false)
            #expect(failure?.error.message.contains("no access token came within") == true, "\(String(describing: failure))")
            #expect(failure?.error.message.contains("sluice connection test") == true)
            #expect(failure?.error.context["request"] == "not sent")
        }
        #expect(scene.begun.count.withLock { $0 } == 1, "one refresh for both")

        // It comes to an end after all: whoever asks then has the token at once, and nobody is told twice.
        async let refresh: Void = scene.keeper.refresh()
        scene.answer.yield(Self.reply("t1"))
        await refresh
        #expect(try await scene.keeper.token().value == "t1")
        #expect(scene.timers.count == 0 && scene.begun.count.withLock { $0 } == 1)
    }

    @Test func whoeverIsServedOrCancelledLeavesNoTimer() async throws {
        let scene = try Scene()
        async let served = scene.outcome()
        try await waitUntil("one who waits") { scene.timers.count == 1 }
        try await withThrowingTaskGroup(of: Result<AccessToken, any Error>.self) { group in
            group.addTask { await scene.outcome() }
            try await waitUntil("another one") { scene.timers.count == 2 }
            group.cancelAll()
            let cancelled = try #require(try await group.next())
            #expect(throws: CancellationError.self) { try cancelled.get() }
        }
        #expect(scene.timers.count == 1)
        async let refresh: Void = scene.keeper.refresh()
        scene.answer.yield(Self.reply("t1"))
        await refresh
        #expect(try await served.get().value == "t1")
        #expect(scene.timers.count == 0)
        scene.timers.advance(by: .hours(1))
    }
}
