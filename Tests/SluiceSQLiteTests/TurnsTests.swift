import Testing

@testable import SluiceSQLite

@Suite struct TurnsTests {
    @Test func webhooksHaveTheWriterForAsLongAsTheyWereHeldUp() {
        var turns = Turns()
        #expect(!turns.leavesRecordsOut(webhooks: 5))
        turns.ended(after: 6000, heldUp: true)
        for _ in 0..<5 {
            #expect(turns.leavesRecordsOut(webhooks: 5))
            turns.ended(after: 1100, heldUp: false)
        }
        #expect(turns.leavesRecordsOut(webhooks: 5) && turns.owed == 500)
        turns.ended(after: 1100, heldUp: false)
        #expect(!turns.leavesRecordsOut(webhooks: 5))
    }

    @Test func whereNoWebhookWaitsNothingIsLeftOut() {
        var turns = Turns()
        turns.ended(after: 6000, heldUp: true)
        #expect(!turns.leavesRecordsOut(webhooks: 0) && turns.leavesRecordsOut(webhooks: 1))
    }

    /// Also where a clock is too coarse to see the transaction.
    @Test func oneTransactionAtLeastGoesBetweenTwoThatHoldUp() {
        var turns = Turns()
        turns.ended(after: 0, heldUp: true)
        #expect(turns.leavesRecordsOut(webhooks: 1))
        turns.ended(after: 1, heldUp: false)
        #expect(!turns.leavesRecordsOut(webhooks: 1))
    }

    /// For a second after one had to wait, and not where none did.
    @Test func recordsComeInFewsWhileWebhooksCome() {
        var turns = Turns()
        turns.ended(after: 6000, heldUp: true, webhooksWait: false, at: 10)
        turns.ended(after: 900, heldUp: false, webhooksWait: true, at: 20)
        #expect(turns.records(upTo: 1000, at: 20) == 1000)
        turns.ended(after: 6000, heldUp: true, webhooksWait: true, at: 100)
        #expect(turns.records(upTo: 1000, at: 100) == 200 && turns.records(upTo: 1000, at: 1_000_099) == 200)
        #expect(turns.records(upTo: 50, at: 100) == 50, "never more than allowed")
        #expect(turns.records(upTo: 1000, at: 1_000_100) == 1000)
    }

    /// Webhooks without end leave records half of the writer.
    @Test func recordsAreNotStarved() {
        var turns = Turns()
        var (webhooks, records): (Int64, Int64) = (0, 0)
        var generator = SystemRandomNumberGenerator()
        for _ in 0..<10_000 {
            let took = Int64.random(in: 0...5000, using: &generator)
            if turns.leavesRecordsOut(webhooks: 64) {
                webhooks += took
                turns.ended(after: took, heldUp: false)
            } else {
                records += took
                turns.ended(after: took, heldUp: true)
            }
        }
        #expect(records > (records + webhooks) / 3)
    }
}
