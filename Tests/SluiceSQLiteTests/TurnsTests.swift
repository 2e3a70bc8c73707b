import Testing

@testable import SluiceSQLite

@Suite struct TurnsTests {
    private static func records(_ took: Int64, webhooks: Int64 = 0, copy: Int64 = 0) -> Turns.Turn {
        Turns.Turn(webhooks: webhooks, changes: took, copy: copy, hadRecords: true)
    }
    private static func webhooks(_ took: Int64, copy: Int64 = 0, leftRecordsOut: Bool = true) -> Turns.Turn {
        Turns.Turn(webhooks: took, copy: copy, leftRecordsOut: leftRecordsOut)
    }

    @Test func webhooksHaveTheWriterForAsLongAsTheyWereHeldUp() {
        var turns = Turns()
        #expect(!turns.leavesRecordsOut(webhooks: 5))
        turns.ended(Self.records(5000, webhooks: 700, copy: 1000))
        for _ in 0..<5 {
            #expect(turns.leavesRecordsOut(webhooks: 5))
            turns.ended(Self.webhooks(1100))
        }
        #expect(turns.leavesRecordsOut(webhooks: 5) && turns.owed == 500)
        turns.ended(Self.webhooks(1100))
        #expect(!turns.leavesRecordsOut(webhooks: 5))
        #expect(turns.owed == -600, "what they took too long is the records'")
    }

    @Test func whereNoWebhookWaitsNothingIsLeftOut() {
        var turns = Turns()
        turns.ended(Self.records(6000))
        #expect(!turns.leavesRecordsOut(webhooks: 0) && turns.leavesRecordsOut(webhooks: 1))
        turns.rested()
        #expect(!turns.leavesRecordsOut(webhooks: 1))
    }

    /// Records for minutes, of which some always wait, leave no more owed than the last of them took.
    @Test func whatIsOwedDoesNotPileUp() {
        var turns = Turns()
        for _ in 0..<10_000 { turns.ended(Self.records(6000)) }
        #expect(turns.owed == 6000)
    }

    /// Also where a clock is too coarse to see the transaction.
    @Test func oneTransactionAtLeastGoesBetweenTwoThatHoldUp() {
        var turns = Turns()
        turns.ended(Self.records(0))
        #expect(turns.leavesRecordsOut(webhooks: 1))
        turns.ended(Self.webhooks(0))
        #expect(!turns.leavesRecordsOut(webhooks: 1))
    }

    /// Webhooks that have waited for the log do not wait for records as well, unless those have waited, too.
    @Test func theLogHoldsUpBoth() {
        var turns = Turns()
        turns.ended(Self.webhooks(1000, copy: 8000, leftRecordsOut: false))
        #expect(turns.owed == 8000)
        turns.ended(Self.webhooks(1000, copy: 8000))
        #expect(turns.owed == 7000)
    }

    /// For a tenth of a second after one had to wait for records, and not where none did.
    @Test func recordsComeInFewsWhileWebhooksCome() {
        var turns = Turns()
        turns.ended(Self.records(6000), webhooksWait: false, at: 10)
        turns.ended(Self.webhooks(900), webhooksWait: true, at: 20)
        turns.ended(Self.webhooks(900, copy: 8000, leftRecordsOut: false), webhooksWait: true, at: 30)
        #expect(turns.records(upTo: 1000, at: 30) == 1000, "they waited for other webhooks, and for the log")
        turns.ended(Self.records(6000), webhooksWait: true, at: 100)
        #expect(turns.records(upTo: 1000, at: 100) == 200 && turns.records(upTo: 1000, at: 100_099) == 200)
        #expect(turns.records(upTo: 50, at: 100) == 50, "never more than allowed")
        #expect(turns.records(upTo: 1000, at: 100_100) == 1000)
    }

    /// The same numbers each time (SplitMix64).
    private struct Seeded: RandomNumberGenerator {
        var state: UInt64 = 1
        mutating func next() -> UInt64 {
            state &+= 0x9E37_79B9_7F4A_7C15
            var word = state
            word = (word ^ (word >> 30)) &* 0xBF58_476D_1CE4_E5B9
            word = (word ^ (word >> 27)) &* 0x94D0_49BB_1331_11EB
            return word ^ (word >> 31)
        }
    }

    /// What each has beside webhooks without end, whose transactions take so long; after so many transactions the log is to be copied. A
    /// record takes 10 microseconds, a sync 500.
    private struct Shares {
        var now: Int64 = 0
        var forRecords: Int64 = 0
        var forWebhooks: Int64 = 0
        var records = 0
        var recordsPerSecond: Int { Int(Double(records) * 1e6 / Double(now)) }

        init(webhooks took: ClosedRange<Int64>, copyAfter: Int) {
            var turns = Turns()
            var log = 0
            var generator = Seeded()
            for _ in 1...10_000 {
                var turn = Turns.Turn(webhooks: Int64.random(in: took, using: &generator), changes: 500)
                if turns.leavesRecordsOut(webhooks: 64) {
                    turn.leftRecordsOut = true
                    forWebhooks += turn.webhooks + turn.changes
                } else {
                    let size = turns.records(upTo: 1000, at: now)
                    turn.hadRecords = true
                    turn.changes += Int64(size) * 10
                    records += size
                    forRecords += turn.changes
                }
                log += 1
                if log >= copyAfter, !turn.hadRecords || log >= copyAfter * 3 { (turn.copy, log) = (8000, 0) }
                now += turn.webhooks + turn.changes + turn.copy
                turns.ended(turn, webhooksWait: true, at: now)
            }
        }
    }

    /// Webhooks without end leave records as long as they have for themselves, if their transactions are small, and whole pages with each
    /// of them, if they are large. Also where the log is copied again and again.
    @Test(arguments: [20, 3, 2, 1]) func recordsAreNotStarved(copyAfter: Int) {
        let small = Shares(webhooks: 100...1500, copyAfter: copyAfter)
        #expect(abs(small.forRecords - small.forWebhooks) < small.forWebhooks / 10, "\(small)")
        let large = Shares(webhooks: 20_000...60_000, copyAfter: copyAfter)
        #expect(large.recordsPerSecond > 10_000, "\(large)")
    }
}
