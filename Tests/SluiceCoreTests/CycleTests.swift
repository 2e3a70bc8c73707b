import SluiceCore
import Testing

/// The stretch of a cycle between two turns, and what follows for dedup keys.
@Suite struct CycleTests {
    private let start = Timestamp(seconds: 1_800_000_000)

    private func slice(_ limits: CycleSlice.Limits = CycleSlice.Limits(), barrenPages: Int = 0) -> CycleSlice {
        let cycle = OpenCycle(number: 1, cause: .webhook, startedAt: start, readBound: start, notedSequence: .zero)
        return CycleSlice(cycle: cycle, barrenPages: barrenPages, limits: limits, at: start)
    }

    @Test func pagesGoOnUntilThereAreNoMore() throws {
        var slice = slice()
        try slice.read(pageState: [1], more: true)
        #expect(slice.cycle.nextPage == 1 && slice.cycle.pageState == [1])
        #expect(slice.committed(jobs: 2, movedCursor: true, more: true, at: start) == .nextPage)
        try slice.read(pageState: [2], more: false)
        #expect(slice.cycle.pageState == nil)
        #expect(slice.committed(jobs: 0, movedCursor: false, more: false, at: start) == .end)
        #expect(slice.cycle.jobs == 2)
    }

    @Test func yieldsAfterItsPagesAndAfterItsTime() throws {
        var slice = slice(CycleSlice.Limits(pagesPerSliceMax: 2))
        try slice.read(pageState: [1], more: true)
        #expect(slice.committed(jobs: 1, movedCursor: true, more: true, at: start) == .nextPage)
        try slice.read(pageState: [2], more: true)
        #expect(slice.committed(jobs: 1, movedCursor: true, more: true, at: start) == .yield(notBefore: start))
        var slow = self.slice()
        try slow.read(pageState: [1], more: true)
        #expect(slow.committed(jobs: 1, movedCursor: true, more: true, at: start + .seconds(10)) == .yield(notBefore: start + .seconds(10)))
    }

    @Test func P10_restsAfterPagesWithoutNews() throws {
        var slice = slice(CycleSlice.Limits(pagesPerSliceMax: 1000, barrenPagesMax: 600), barrenPages: 598)
        try slice.read(pageState: [1], more: true)
        #expect(slice.committed(jobs: 0, movedCursor: false, more: true, at: start) == .nextPage)
        try slice.read(pageState: [2], more: true)
        #expect(slice.committed(jobs: 0, movedCursor: false, more: true, at: start) == .rest(until: start + .minutes(5)))
        #expect(slice.barrenPages == 0)
        try slice.read(pageState: [3], more: true)
        _ = slice.committed(jobs: 0, movedCursor: false, more: true, at: start)
        try slice.read(pageState: [4], more: true)
        _ = slice.committed(jobs: 0, movedCursor: true, more: true, at: start)
        #expect(slice.barrenPages == 0)
    }

    @Test func P10_theSamePlaceThriceFails() throws {
        var slice = slice()
        try slice.read(pageState: [7], more: true)
        try slice.read(pageState: [7], more: true)
        #expect(throws: SluiceError.self) { try slice.read(pageState: [7], more: true) }
    }

    @Test func P4_keysAreForgottenByPositionOnly() {
        #expect(DedupRetention.floor(committedMark: nil, lookback: 5) == nil)
        #expect(DedupRetention.floor(committedMark: 1000, lookback: 60) == 938)
        #expect(DedupRetention.floor(committedMark: Int64.min, lookback: 60) == Int64.min)
        #expect(!DedupRetention.forgets(mark: 938, lastCycle: 1, floor: 938, cyclesCompleted: 1_000_000))
        #expect(DedupRetention.forgets(mark: 937, lastCycle: 9, floor: 938, cyclesCompleted: 9))
        #expect(!DedupRetention.forgets(mark: 937, lastCycle: 1, floor: nil, cyclesCompleted: 1_000_000))
        #expect(!DedupRetention.forgets(mark: nil, lastCycle: 1, floor: 938, cyclesCompleted: 201))
        #expect(DedupRetention.forgets(mark: nil, lastCycle: 1, floor: 938, cyclesCompleted: 202))
    }
}

/// The life of a trigger: every command in every state.
@Suite struct TriggerStateTests {
    static let table: [(TriggerState, TriggerCommand, TriggerState?, [TriggerEffect])] = [
        (.created, .start, .starting, [.subscribe, .poll(.start)]), (.created, .stop, .stopped, []),
        (.created, .pause, nil, []), (.created, .resume, nil, []), (.created, .poll, nil, []),
        (.starting, .start, .starting, []), (.starting, .pause, .paused, []), (.starting, .resume, .starting, []),
        (.starting, .poll, .starting, [.poll(.manual)]), (.starting, .stop, .stopping, [.unsubscribe]),
        (.running, .start, .running, []), (.running, .pause, .paused, []), (.running, .resume, .running, []),
        (.running, .poll, .running, [.poll(.manual)]), (.running, .stop, .stopping, [.unsubscribe]),
        (.paused, .start, .running, [.poll(.resume)]), (.paused, .pause, .paused, []), (.paused, .resume, .running, [.poll(.resume)]),
        (.paused, .poll, nil, []), (.paused, .stop, .stopping, [.unsubscribe]),
        (.failed, .start, .running, [.poll(.resume)]), (.failed, .pause, .paused, []), (.failed, .resume, .running, [.poll(.resume)]),
        (.failed, .poll, .failed, [.poll(.manual)]), (.failed, .stop, .stopping, [.unsubscribe]),
        (.stopping, .start, .starting, [.subscribe, .poll(.start)]), (.stopping, .pause, nil, []), (.stopping, .resume, nil, []),
        (.stopping, .poll, nil, []),
        (.stopping, .stop, .stopping, []),
        (.stopped, .start, .starting, [.subscribe, .poll(.start)]), (.stopped, .pause, nil, []), (.stopped, .resume, nil, []),
        (.stopped, .poll, nil, []), (.stopped, .stop, .stopped, []),
    ]

    @Test func everyCommandInEveryState() throws {
        #expect(TriggerStateTests.table.count == TriggerState.allCases.count * TriggerCommand.allCases.count)
        for (state, command, expected, effects) in TriggerStateTests.table {
            guard let expected else {
                #expect(throws: SluiceError.self, "\(state) \(command)") { try state.after(command) }
                continue
            }
            let result = try state.after(command)
            #expect(result.state == expected && result.effects == effects, "\(state) \(command)")
        }
    }

    @Test func eventsMatterOnlyWhereTheyAreExpected() {
        for state in TriggerState.allCases {
            #expect(state.after(.subscribed) == (state == .starting ? .running : state))
            #expect(state.after(.recovered) == (state == .failed ? .running : state))
            #expect(state.after(.unsubscribed) == (state == .stopping ? .stopped : state))
            #expect(state.after(.failedForGood(reason: "")) == (state.polls ? .failed : state))
        }
    }

    /// P7: webhooks are accepted and marked while it is paused or failed.
    @Test func P7_listensWhereverItMayBePolledAgain() {
        #expect(TriggerState.allCases.filter(\.listens) == [.starting, .running, .paused, .failed, .stopping])
    }
}
