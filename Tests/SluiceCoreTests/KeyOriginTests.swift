import SluiceCore
import Testing

/// With which connectors keys are made while a changed `dedup` overlaps with the one before.
@Suite struct KeyOriginTests {
    private func next(_ stored: KeyOrigin?, _ connector: String, mark: Int64? = nil, floor: Int64? = nil, cycles: Int64 = 0) -> KeyOrigin {
        KeyOrigin.next(after: stored, connector: connector, marked: mark, floor: floor, cyclesCompleted: cycles)
    }

    @Test func P4_aFormerConnectorIsAskedUntilItsKeysAreForgotten() {
        let first = next(nil, "a")
        #expect(first == KeyOrigin(connector: "a"))
        #expect(next(first, "a", mark: 5, floor: 1, cycles: 3) == first)
        let changed = next(first, "b", mark: 100, floor: 40, cycles: 3)
        #expect(changed == KeyOrigin(connector: "b", formers: [.init(connector: "a", mark: 100, cyclesCompleted: 3)]))
        #expect(next(changed, "b", mark: 150, floor: 100, cycles: 100_000) == changed, "however many cycles read the same window")
        #expect(next(changed, "b", mark: 170, floor: 101, cycles: 4) == KeyOrigin(connector: "b"))
    }

    @Test func P4_withoutMarksCyclesCount() {
        let changed = next(KeyOrigin(connector: "a"), "b", cycles: 7)
        #expect(next(changed, "b", cycles: 7 + DedupRetention.cyclesKept) == changed)
        #expect(next(changed, "b", cycles: 8 + DedupRetention.cyclesKept).formers.isEmpty)
    }

    @Test func changesWithinOneOverlapAreAllKnownUpToABound() {
        var origin = next(nil, "0")
        for number in 1...3 { origin = next(origin, String(number), mark: Int64(number), floor: 0) }
        #expect(origin.formers.map(\.connector) == ["0", "1", "2"])
        // Back to one that was before: it is no former of itself.
        origin = next(origin, "1", mark: 4, floor: 0)
        #expect(origin.connector == "1" && origin.formers.map(\.connector) == ["0", "2", "3"])
        for number in 4...20 { origin = next(origin, String(number), mark: 4, floor: 0) }
        #expect(origin.formers.map(\.connector) == (12...19).map(String.init))
    }

    /// A lookback that becomes longer must not reach what was keyed by a connector that nobody asks any more.
    @Test func P4_whatALetGoConnectorKeyedIsForgotten() {
        let changed = next(KeyOrigin(connector: "a"), "b", mark: 100, floor: 40)
        #expect(changed.forgottenBelow(since: KeyOrigin(connector: "a"), floor: 40) == nil, "it is asked still")
        #expect(next(changed, "b", mark: 150, floor: 101).forgottenBelow(since: changed, floor: 101) == 101)
        #expect(next(changed, "a", mark: 150, floor: 40).forgottenBelow(since: changed, floor: 40) == nil, "back again")
        var origin = changed
        for number in 0..<KeyOrigin.formersMax { origin = next(origin, String(number), mark: 200, floor: 40) }
        #expect(!origin.formers.contains { $0.connector == "a" })
        #expect(origin.forgottenBelow(since: changed, floor: 40) == nil, "pushed out before its time")
        #expect(changed.forgottenBelow(since: nil, floor: 40) == nil && changed.forgottenBelow(since: changed, floor: nil) == nil)
    }
}
