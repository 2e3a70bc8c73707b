import SluiceCore
import SluicePolling
import SluiceStore
import SluiceTesting
import Synchronization
import Testing

/// What was read before a change is told after it.
@Suite struct StaleNewsTests {
    /// A pause fences a cycle, and the trigger is resumed while it is read anew.
    @Test func P7_aResumeDuringTheReadingAfterAPauseIsNotUndone() async throws {
        let time = ManualTime()
        let server = FeedServer(clock: time)
        server.add(2)
        try await server.with {
            try await Bench.with([BenchConnection(connector: try feed(), url: server.url)], time: time) { bench in
                try await waitUntil("the first jobs") { try await bench.keys() == server.keys && bench.service.cyclesRunning == 0 }
                let steps = Mutex<[TriggerState]>([])
                bench.store.afterTrigger { read in
                    let step = steps.withLock { steps -> Int? in
                        guard let state = read?.state, state == [TriggerState.running, .paused].dropFirst(steps.count).first else {
                            return nil
                        }
                        steps.append(state)
                        return steps.count
                    }
                    if step == 1 { try await bench.command(.pause) }
                    if step == 2 { try await bench.command(.resume) }
                }
                server.add(1)
                try await bench.pollNow()
                try await waitUntil("the resume") { steps.withLock { $0.count } == 2 }
                try await waitUntil("the poll of the resume") {
                    try await bench.keys() == server.keys && bench.service.cyclesRunning == 0
                }
                #expect(try await bench.trigger().state == .running)
                server.add(1)
                try await bench.advanceUntil("the poll after the safety interval") {
                    bench.advance(by: .hours(1))
                    return try await bench.keys() == server.keys
                }
            }
        }
    }

    @Test func aRemovedTriggersNumberIsForgotten() {
        var newest = NewestGenerations()
        let (one, two) = (TriggerID(1), TriggerID(2))
        #expect(newest.takes(one, Generation(3)) && newest.takes(one, Generation(3)) && newest.takes(two, Generation(1)))
        #expect(!newest.takes(one, Generation(2)) && newest[one] == Generation(3))
        #expect(newest.takes(one, Generation(4)) && !newest.takes(one, Generation(3)))
        newest.forget(one)
        #expect(newest[one] == nil && newest.takes(one, Generation(1)) && newest[two] == Generation(1))
    }
}
