import SluiceCore
import Testing

@testable import SluiceConnectors

/// Every form of list with every trap that applies to it, by the hundred: nothing lost, nothing twice.
@Suite struct TrapFeedTests {
    typealias Style = TrapFeed.Style
    static let rounds = 14

    /// Which traps a list can spring that its description says enough about.
    static func traps(_ order: TrapFeed.Order, _ paging: TrapFeed.Paging) -> TrapFeed.Traps {
        var traps: TrapFeed.Traps = [.ties, .pageWideTies, .late, .future, .shortPages, .poison, .shifts, .deletions]
        if [.token, .bodyToken].contains(paging) { traps.insert(.tokenAlways) }
        if ![.offset, .page, .keyset].contains(paging) { traps.insert(.expiringTokens) }
        // A record without an id cannot mark a place, and one that moves is no place.
        if paging == .keyset { traps.subtract(order == .byID ? .poison : [.poison, .shifts]) }
        // Numbers name no place within one moment; elsewhere they are for lists that nothing leaves.
        if paging == .page { traps.subtract(order == .ascending ? .pageWideTies : [.shifts, .deletions]) }
        return traps
    }

    private func run(_ style: Style, seed: UInt64) async throws -> (run: TrapRun, feed: TrapFeed) {
        let feed = TrapFeed(style, seed: seed)
        var run = TrapRun(try style.rules(), feed, seed: seed)
        for _ in 0..<Self.rounds {
            for _ in 0...seed % 3 { feed.happen() }
            try await run.cycle()
        }
        feed.change {
            $0.isCalm = true
            $0.now += Style.lateMillisecondsMax + 2000
        }
        try await run.cycle()
        feed.change { $0.now += 2000 }
        try await run.cycle()
        return (run, feed)
    }

    @Test(arguments: TrapFeed.Order.allCases, TrapFeed.Paging.allCases)
    func P4_everyListWithEveryTrapLosesNothing(_ order: TrapFeed.Order, _ paging: TrapFeed.Paging) async throws {
        for seed in 1...12 as ClosedRange<UInt64> {
            let forms = TrapFeed.Form.allCases
            var style = Style(order: order, paging: paging, form: forms[Int(seed) % forms.count], isStrict: seed % 3 == 0)
            style.isBounded = order != .descending || seed % 2 == 0
            style.traps = Self.traps(order, paging)
            let (run, feed) = try await run(style, seed: seed)
            let lost = run.lost(feed.expected)
            #expect(lost.isEmpty, "seed \(seed), \(style.form.rawValue), strict \(style.isStrict), bounded \(style.isBounded)")
            #expect(run.doubled.isEmpty, "seed \(seed), \(style.form.rawValue)")
            if style.traps.contains(.poison) { #expect(run.quarantined >= 0) }
        }
    }

    /// The stand-in is no dummy: what is often written by hand loses records in it, trap by trap.
    @Test(arguments: [
        ("ties", TrapFeed.Traps.ties, TrapFeed.Order.ascending, TrapFeed.Paging.token), ("late", .late, .ascending, .token),
        ("future", .future, .ascending, .offset), ("shifts", .shifts, .ascending, .offset), ("deletions", .deletions, .byID, .offset),
        ("short pages", .shortPages, .byID, .token), ("an unordered list", .shifts, .byID, .page),
    ])
    func aNaiveReaderLosesRecords(_ name: String, _ traps: TrapFeed.Traps, _ order: TrapFeed.Order, _ paging: TrapFeed.Paging) async throws
    {
        var losses = 0
        for seed in 1...20 as ClosedRange<UInt64> {
            var style = Style(order: order, paging: paging, isStrict: true)
            style.traps = traps
            let feed = TrapFeed(style, seed: seed)
            var naive = NaiveRun(feed)
            for _ in 0..<Self.rounds {
                for _ in 0...seed % 3 { feed.happen() }
                try await naive.cycle()
            }
            feed.change {
                $0.isCalm = true
                $0.now += Style.lateMillisecondsMax + 2000
            }
            try await naive.cycle()
            losses += feed.expected.subtracting(naive.jobs).count
            let (run, same) = try await run(style, seed: seed)
            #expect(run.lost(same.expected).isEmpty, "\(name), seed \(seed)")
        }
        #expect(losses > 0, "\(name)")
    }

    /// With the answer to it taken away, `incremental` itself falls into the trap.
    @Test func theOverlapIsWhatKeepsOffsetsWhole() async throws {
        var style = Style(order: .byID, paging: .offset)
        style.traps = [.deletions]
        var (lost, whole) = (0, 0)
        for seed in 1...30 as ClosedRange<UInt64> {
            for overlap in [0, 1] as [Int64] {
                let feed = TrapFeed(style, seed: seed)
                var rules = try style.rules()
                guard case .offset(var pages) = rules.pagination else { return }
                pages.overlap = overlap
                rules.pagination = .offset(pages)
                // Read whole each time, so that a record is lost only for as long as it is skipped.
                rules.cursor = nil
                var run = TrapRun(rules, feed, seed: seed)
                run.crashes = false
                for _ in 0..<8 { feed.happen() }
                let before = feed.expected
                try await run.cycle()
                let missing = run.lost(before.intersection(feed.expected)).count
                if overlap == 0 { lost += missing } else { whole += missing }
            }
        }
        #expect(lost > 0)
        #expect(whole == 0)
    }
}
