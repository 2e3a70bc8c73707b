import Testing

@testable import SluiceSQLite

/// When the writer lets more webhooks gather.
struct GatheringTests {
    /// Senders that ask again as soon as they are answered: `inBatch` were taken, `came` meanwhile.
    private func loaded(senders: Int) -> Gathering {
        var gathering = Gathering()
        _ = gathering.rest(waiting: senders, quiet: 0)
        gathering.begins(batch: senders)
        return gathering
    }

    @Test func aLoneWebhookIsWrittenAtOnce() {
        var gathering = Gathering()
        for _ in 0..<100 {
            #expect(gathering.rest(waiting: 1, quiet: 0) == nil)
            gathering.begins(batch: 1)
        }
    }

    @Test func fewSendersAreNotWaitedFor() {
        var gathering = loaded(senders: 7)
        #expect(gathering.rest(waiting: 1, quiet: 0) == nil)
    }

    @Test func whileManyAreOnTheirWayTheWriterRests() {
        var gathering = loaded(senders: 40)
        #expect(gathering.rest(waiting: 10, quiet: 100) == Gathering.microsecondsMax)
    }

    @Test func mostOfThemAreEnough() {
        var gathering = loaded(senders: 40)
        #expect(gathering.rest(waiting: 24, quiet: 0) != nil, "24 of 64")
        gathering.begins(batch: 20)
        #expect(gathering.rest(waiting: 44, quiet: 0) == nil, "44 of 64")
    }

    @Test func whoIsQuietIsNotExpected() {
        var gathering = loaded(senders: 64)
        #expect(gathering.rest(waiting: 1, quiet: Gathering.quietMicroseconds + 1) == nil)
    }

    @Test func sendersThatHaveGoneAreForgottenWithinTwentyBatches() {
        var gathering = loaded(senders: 64)
        var rests = 0
        for _ in 0..<40 {
            if gathering.rest(waiting: 1, quiet: 0) != nil { rests += 1 }
            gathering.begins(batch: 1)
        }
        #expect(rests > 0 && rests < 20)
        #expect(gathering.senders <= 2)
    }
}
