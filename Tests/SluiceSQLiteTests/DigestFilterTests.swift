import GRDB
import SluiceCore
import Testing

@testable import SluiceSQLite

@Suite struct DigestFilterTests {
    private static func heads(_ count: Int, seed: UInt64) -> [Int64] {
        (0..<UInt64(count)).map { Int64(($0 &* 0x9E37_79B9_7F4A_7C15 &+ seed) >> 16) }
    }

    /// Heads that lie close together are spread as well as random ones; namespaces do not share theirs.
    @Test(arguments: [false, true]) func whatWasPutInMayBeThereAndHardlyAnythingElse(_ isDense: Bool) {
        let count = 50_000
        var filter = DigestFilter(capacity: count)
        let heads = isDense ? (0..<Int64(count)).map { $0 } : Self.heads(count, seed: 0)
        for head in heads { filter.insert(.default, head) }
        #expect(filter.count == count && filter.byteCount < count * 10 / 8 + 64)
        #expect(heads.allSatisfy { filter.mayContain(.default, $0) })
        let others = isDense ? (0..<Int64(count)).map { $0 + Int64(count) } : Self.heads(count, seed: 1 << 40)
        #expect(others.count { filter.mayContain(.default, $0) } < count * 3 / 100)
        #expect(heads.count { filter.mayContain(NamespaceID(2), $0) } < count * 3 / 100)
    }

    private func piece(_ heads: ArraySlice<Int64>) -> [TableFilter.Place] {
        heads.map { .init(namespace: .default, head: $0, sequence: InboxSequence(1)) }
    }

    @Test func untilTheWholeTableWasReadEverythingMayBeThere() throws {
        var filter = TableFilter()
        #expect(filter.isWorn && filter.reading == nil && filter.mayContain(.default, 5))
        filter.begin(rows: 300)
        #expect(!filter.isWorn && filter.reading == .start)
        let heads = Self.heads(300, seed: 0).sorted()
        filter.add(piece(heads[..<200]), isLast: false)
        #expect(filter.reading == .init(namespace: .default, head: heads[199], sequence: InboxSequence(1)))
        // It lies before the place that was reached: no piece will bring it.
        filter.insert(.default, heads[10] + 1)
        #expect(filter.mayContain(.default, 12_345))
        filter.add(piece(heads[200...]), isLast: true)
        #expect(filter.reading == nil && !filter.isWorn)
        #expect((heads + [heads[10] + 1]).allSatisfy { filter.mayContain(.default, $0) })
        #expect(Self.heads(1000, seed: 1 << 40).count { filter.mayContain(.default, $0) } < 10)
    }

    /// What was put in while a larger one is filled is in both.
    @Test func aFullOneIsReplacedAndServesMeanwhile() {
        var filter = TableFilter()
        filter.begin(rows: 0)
        filter.add([], isLast: true)
        let heads = Self.heads(TableFilter.capacityMin + 1, seed: 0)
        for head in heads.dropLast() { filter.insert(.default, head) }
        #expect(!filter.isWorn)
        filter.insert(.default, heads[heads.count - 1])
        #expect(filter.isWorn)
        filter.begin(rows: heads.count)
        filter.insert(.default, 77)
        #expect(heads.allSatisfy { filter.mayContain(.default, $0) } && filter.mayContain(.default, 77))
        // Rows came back that a piece had not seen: it begins again.
        filter.restart()
        #expect(filter.reading == nil && filter.isWorn && filter.mayContain(.default, 77))
        filter.begin(rows: heads.count)
        filter.add(piece(heads[...] + [77]), isLast: true)
        #expect(!filter.isWorn && heads.allSatisfy { filter.mayContain(.default, $0) } && filter.mayContain(.default, 77))
    }

    @Test func oneWhoseRowsHaveGoneIsReplaced() {
        var filter = TableFilter()
        filter.begin(rows: 200_000)
        filter.add(piece(Self.heads(200_000, seed: 0)[...]), isLast: true)
        for _ in 0..<100_000 { filter.remove() }
        #expect(!filter.isWorn)
        filter.remove()
        #expect(filter.isWorn)
    }

    @Test(arguments: [-5, 0, .max]) func anyEstimateOfItsRowsWillDo(_ rows: Int) {
        var filter = TableFilter()
        filter.begin(rows: rows)
        filter.add([], isLast: true)
        #expect(!filter.mayContain(.default, 5))
    }

    /// A part that becomes four has been written as far as the one that it was: nothing is forgotten, nothing read for nothing.
    @Test func formerPartsAreDividedAsFarAsTheyWereWritten() throws {
        let database = try DatabaseQueue()
        try Schema.migrator.migrate(database, upTo: "14 removals")
        try database.write { try $0.execute(sql: "UPDATE inbox_digest_mark SET seq = 1000 + part") }
        try Schema.migrator.migrate(database)
        let marks = try database.read { try Int64.fetchAll($0, sql: "SELECT seq FROM inbox_digest_mark ORDER BY part") }
        #expect(marks == (0..<64).map { 1000 + $0 / 4 })
    }
}
