import SluiceCore
import Testing

@Suite struct CircuitBreakerTests {
    let start = Timestamp(seconds: 1_800_000_000)

    @Test func opensAfterFailuresInARow() {
        var breaker = CircuitBreaker()
        for _ in 1..<CircuitBreaker.failuresToOpen {
            breaker.noteFailure(at: start)
            #expect(breaker.state(at: start) == .closed)
        }
        breaker.noteSuccess()
        for _ in 1..<CircuitBreaker.failuresToOpen { breaker.noteFailure(at: start) }
        #expect(breaker.state(at: start) == .closed)
        breaker.noteFailure(at: start)
        #expect(breaker.state(at: start) == .open)
        #expect(breaker.opensAgainAt == start + .seconds(30))
        #expect(breaker.state(at: start + .milliseconds(29_999)) == .open)
        #expect(breaker.state(at: start + .seconds(30)) == .halfOpen)
    }

    @Test func opensForLongerEachTimeUpToABound() {
        var breaker = CircuitBreaker()
        var now = start
        for _ in 1...CircuitBreaker.failuresToOpen { breaker.noteFailure(at: now) }
        var spans: [Span] = []
        for _ in 0..<8 {
            spans.append(breaker.opensAgainAt! - now)
            now = breaker.opensAgainAt!
            #expect(breaker.state(at: now) == .halfOpen)
            breaker.noteFailure(at: now)
        }
        #expect(spans == [30, 60, 120, 240, 480, 900, 900, 900].map { Span.seconds($0) })
        breaker.noteSuccess()
        #expect(breaker == CircuitBreaker())
    }

    @Test func callsThatWereUnderWayDoNotProlongIt() {
        var breaker = CircuitBreaker()
        for _ in 1...CircuitBreaker.failuresToOpen + 8 { breaker.noteFailure(at: start) }
        #expect(breaker.opensAgainAt == start + .seconds(30))
        breaker.noteFailure(at: start + .seconds(29))
        #expect(breaker.opensAgainAt == start + .seconds(30))
    }

    /// Whatever happens: it is open only after enough failures in a row, never for longer than the bound, and a success closes it.
    @Test(arguments: 0..<200) func holdsInAnyHistory(_ seed: UInt64) {
        var state = seed &* 6_364_136_223_846_793_005 &+ 1_442_695_040_888_963_407
        var breaker = CircuitBreaker()
        var (now, inRow) = (start, 0)
        for _ in 0..<500 {
            state = state &* 6_364_136_223_846_793_005 &+ 1_442_695_040_888_963_407
            now = now + .milliseconds(Int64(state >> 33) % 60_000)
            let mayCall = breaker.state(at: now) != .open
            if mayCall, (state >> 20) % 10 < 3 {
                breaker.noteSuccess()
                inRow = 0
            } else if mayCall || (state >> 21) % 5 == 0 {
                breaker.noteFailure(at: now)
                inRow += 1
            }
            #expect(breaker.failuresInRow == inRow)
            if inRow < CircuitBreaker.failuresToOpen { #expect(breaker.state(at: now) == .closed) }
            if let until = breaker.opensAgainAt {
                #expect(until - now <= CircuitBreaker.openSpanMost)
                #expect(inRow >= CircuitBreaker.failuresToOpen)
            }
        }
    }
}

@Suite struct DeliveryRateTests {
    let start = Timestamp(seconds: 1_800_000_000)

    @Test(arguments: ["", "10", "/s", "10/", "10/d", "0/s", "-1/s", "+1/s", "1.5/s", "1000001/s", "10/s/s", " 10/s"])
    func refusesOthers(_ text: String) { #expect(DeliveryRate(text) == nil) }

    @Test(arguments: [("10/s", 0.01), ("600/m", 0.01), ("36000/h", 0.01), ("1/h", 1.0 / 3_600_000)])
    func reads(_ text: String, _ perMillisecond: Double) throws {
        let rate = try #require(DeliveryRate(text))
        #expect(rate.perMillisecond == perMillisecond)
        #expect(rate.description == text)
    }

    @Test func aBucketGivesTheRateAndASecondsWorthAtOnce() throws {
        var bucket = RateBucket(try #require(DeliveryRate("10/s")), at: start)
        #expect(bucket.take(100, at: start) == 10)
        #expect(bucket.take(1, at: start) == 0)
        #expect(bucket.nextAt == start + .milliseconds(100))
        #expect(bucket.take(5, at: bucket.nextAt) == 1)
        bucket.giveBack(1)
        #expect(bucket.take(5, at: start + .milliseconds(100)) == 1)
        #expect(bucket.take(100, at: start + .hours(1)) == 10)
        // A clock that goes back gives nothing and takes nothing.
        #expect(bucket.take(100, at: start) == 0)
        #expect(bucket.take(100, at: start + .hours(1) + .milliseconds(500)) == 5)
    }

    @Test func aSlowRateGivesOneAtATime() throws {
        var bucket = RateBucket(try #require(DeliveryRate("2/m")), at: start)
        var (now, taken) = (start, 0)
        while now < start + .minutes(10) {
            taken += bucket.take(10, at: now)
            now = max(bucket.nextAt, now + .milliseconds(1))
        }
        #expect(taken == 20)
    }
}
