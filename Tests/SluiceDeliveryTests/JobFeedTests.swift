import SluiceCore
import SluiceStore
import Synchronization
import Testing

@testable import SluiceDelivery

@Suite(.timeLimit(.minutes(10))) struct JobFeedTests {
    let store = FakeStore()
    let clock = TestClock()

    private func feed(waitersMax: Int = 20_000) -> JobFeed {
        let feed = JobFeed(store: store, waitersMax: waitersMax)
        store.observe(feed)
        return feed
    }

    @Test func shortPollAnswersAtOnce() async throws {
        let feed = feed()
        #expect(try await feed.read(JobQuery()).jobs.isEmpty)
        store.commit("a", at: clock.now())
        store.commit("b", at: clock.now())
        let page = try await feed.read(JobQuery(limit: 1), waitSeconds: 60)
        #expect(page.jobs.count == 1)
        #expect(page.more)
        #expect(try await feed.read(JobQuery(after: page.next)).jobs.map(\.token) == ["2"])
        #expect(feed.waiting == 0)
    }

    @Test func waitEndsWithAnEmptyPage() async throws {
        let feed = feed()
        let begun = ContinuousClock.now
        let page = try await feed.read(JobQuery(after: "0"), waitSeconds: 1)
        #expect(page.jobs.isEmpty)
        #expect(page.next == "0")
        #expect(begun.duration(to: .now) >= .seconds(1))
        // Asked before the wait and after it, not in between.
        #expect(store.state.withLock(\.reads) == 2)
    }

    @Test func aThousandWaitersWakeOnOneCommit() async throws {
        let feed = feed()
        try await withThrowingTaskGroup(of: Int.self) { group in
            for number in 0..<1000 {
                let trigger = number % 2 == 0 ? TriggerID(1) : nil
                group.addTask { try await feed.read(JobQuery(trigger: trigger), waitSeconds: 60).jobs.count }
            }
            try await eventually("all wait") { store.state.withLock(\.reads) == 1000 }
            #expect(feed.waiting == 1000)
            let begun = ContinuousClock.now
            store.commit("a", at: clock.now())
            var woken = 0
            for try await count in group { woken += count }
            #expect(woken == 1000)
            #expect(begun.duration(to: .now) < .seconds(50))
        }
        #expect(feed.waiting == 0)
        #expect(store.state.withLock(\.reads) == 2000)
    }

    @Test func P9_readersMissNothingUnderConcurrency() async throws {
        let feed = feed()
        let total = 300
        try await withThrowingTaskGroup(of: [String].self) { group in
            for _ in 0..<40 {
                group.addTask {
                    var after: String?
                    var seen: [String] = []
                    while seen.count < total {
                        let page = try await feed.read(JobQuery(after: after, limit: 7), waitSeconds: 30)
                        guard !page.jobs.isEmpty else { return seen }
                        seen += page.jobs.map(\.token)
                        after = page.next
                    }
                    return seen
                }
            }
            group.addTask {
                for number in 0..<total {
                    self.store.commit("k\(number)", at: self.clock.now())
                    if number % 3 == 0 { await Task.yield() }
                }
                return (1...total).map(String.init)
            }
            for try await seen in group { #expect(seen == (1...total).map(String.init)) }
        }
    }

    @Test func P9_aCommitBetweenReadAndWaitWakes() async throws {
        let feed = feed()
        store.afterRead.withLock { $0 = { [store, clock] in store.commit("a", at: clock.now()) } }
        let begun = ContinuousClock.now
        #expect(try await feed.read(JobQuery(), waitSeconds: 60).jobs.count == 1)
        #expect(begun.duration(to: .now) < .seconds(50))
    }

    @Test func otherTriggersDoNotWake() async throws {
        let feed = feed()
        let rounds = 20
        try await withThrowingTaskGroup(of: [TriggerID].self) { group in
            group.addTask { try await feed.read(JobQuery(trigger: TriggerID(2)), waitSeconds: 60).jobs.map(\.trigger) }
            try await eventually("it waits") { store.state.withLock(\.reads) == 1 }
            for number in 0..<rounds {
                store.afterRead.withLock { $0 = { [store, clock] in store.commit("a\(number)", trigger: TriggerID(1), at: clock.now()) } }
                // A reader of all that is woken shows that the waking for this commit is over.
                #expect(try await feed.read(JobQuery(after: String(number)), waitSeconds: 60).jobs.count == 1)
            }
            store.commit("b", trigger: TriggerID(2), at: clock.now())
            #expect(try await group.next() == [TriggerID(2)])
        }
        #expect(store.state.withLock(\.reads) == 2 + 2 * rounds)
    }

    @Test func cancellationEndsAWait() async throws {
        let feed = feed()
        try await withThrowingTaskGroup(of: JobPage.self) { group in
            group.addTask { try await feed.read(JobQuery(), waitSeconds: 60) }
            try await eventually("it waits") { store.state.withLock(\.reads) == 1 }
            group.cancelAll()
            await #expect(throws: CancellationError.self) { _ = try await group.next() }
        }
        #expect(feed.waiting == 0)
    }

    @Test func P10_waitersAreBounded() async throws {
        let feed = feed(waitersMax: 1)
        try await withThrowingTaskGroup(of: JobPage.self) { group in
            group.addTask { try await feed.read(JobQuery(), waitSeconds: 60) }
            try await eventually("it waits") { feed.waiting == 1 }
            let error = await #expect(throws: SluiceError.self) { try await feed.read(JobQuery(), waitSeconds: 60) }
            #expect(error?.code == .overloaded)
            feed.stopWaiting()
            #expect(try await group.next()?.jobs.isEmpty == true)
        }
        #expect(try await feed.read(JobQuery(), waitSeconds: 60).jobs.isEmpty)
        let error = await #expect(throws: SluiceError.self) { try await feed.read(JobQuery(), waitSeconds: 61) }
        #expect(error?.code == .invalid)
    }

    @Test func aWakeBeforeTheWaitIsKept() async {
        let signal = WakeSignal()
        signal.wake()
        signal.wake()
        let begun = ContinuousClock.now
        await signal.wait(atMost: .seconds(60))
        #expect(begun.duration(to: .now) < .seconds(50))
        await signal.wait(atMost: .milliseconds(20))
        #expect(begun.duration(to: .now) >= .milliseconds(20))
    }
}
