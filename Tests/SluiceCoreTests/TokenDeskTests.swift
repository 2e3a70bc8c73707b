import SluiceCore
import Testing

@Suite struct TokenDeskTests {
    static let start = Timestamp(seconds: 1_000_000)

    static func token(_ value: String, at time: Timestamp = start, holds: Span = .hours(1)) -> AccessToken {
        AccessToken(value: value, obtainedAt: time, expiresAt: time + holds)
    }

    static let outage = TokenFailure(.transient, SluiceError(.providerStatus, "down"))

    @Test func oneRefreshServesAllWhoAsk() {
        var desk = TokenDesk()
        #expect(desk.ask(refused: nil, at: Self.start) == .wait(begins: true))
        for _ in 0..<50 { #expect(desk.ask(refused: nil, at: Self.start) == .wait(begins: false)) }
        let token = Self.token("a")
        desk.succeeded(token, at: Self.start)
        #expect(desk.ask(refused: nil, at: Self.start) == .use(token))
        #expect(desk.ask(refused: nil, at: Self.start + .minutes(58)) == .use(token))
        #expect(desk.ask(refused: nil, at: Self.start + .minutes(59)) == .wait(begins: true), "a minute before it expires")
        #expect(desk.ask(refused: nil, at: Self.start + .minutes(59)) == .use(token), "it still holds while another is fetched")
    }

    @Test func aShortLivedTokenIsRenewedAfterFourFifths() {
        let token = Self.token("a", holds: .seconds(50))
        #expect(token.isFresh(at: Self.start + .seconds(39)))
        #expect(!token.isFresh(at: Self.start + .seconds(40)) && token.isValid(at: Self.start + .seconds(49)))
    }

    @Test func aRefusedTokenIsRenewedOnceAndNotAtOnceAgain() {
        var desk = TokenDesk()
        _ = desk.ask(refused: nil, at: Self.start)
        let first = Self.token("a")
        desk.succeeded(first, at: Self.start)
        guard case .fail(let failure) = desk.ask(refused: first, at: Self.start + .seconds(29)) else {
            Issue.record("a token that was just given was renewed")
            return
        }
        #expect(failure.kind == .refused)
        let later = Self.start + .seconds(31)
        #expect(desk.ask(refused: first, at: later) == .wait(begins: true))
        #expect(desk.ask(refused: first, at: later) == .wait(begins: false))
        let second = Self.token("b", at: later)
        desk.succeeded(second, at: later)
        // Whoever comes late with the first one gets the second.
        #expect(desk.ask(refused: first, at: later) == .use(second))
    }

    /// The whole connection waits as long as the token endpoint fails: it is asked a few times, however many polls want a token.
    @Test func P10_anOutageOfTheTokenEndpointIsAskedWithGrowingPauses() {
        var desk = TokenDesk()
        var (now, asked) = (Self.start, 0)
        while now < Self.start + .hours(1) {
            if desk.ask(refused: nil, at: now) == .wait(begins: true) {
                asked += 1
                desk.failed(Self.outage, at: now, random: 0)
            }
            now = now + .milliseconds(100)
        }
        #expect((5...14).contains(asked), "asked \(asked) times in an hour")
        desk.forgetFailure()
        #expect(desk.ask(refused: nil, at: now) == .wait(begins: true), "somebody mended it")
    }

    @Test func aTokenServesUntilItExpiresWhileTheEndpointIsDown() {
        var desk = TokenDesk()
        _ = desk.ask(refused: nil, at: Self.start)
        let token = Self.token("a")
        desk.succeeded(token, at: Self.start)
        let late = Self.start + .minutes(59) + .seconds(1)
        #expect(desk.ask(refused: nil, at: late) == .wait(begins: true))
        desk.failed(Self.outage, at: late, random: 0)
        #expect(desk.usable(insteadOf: nil, at: late) == token)
        #expect(desk.ask(refused: nil, at: late + .seconds(1)) == .use(token))
        #expect(desk.usable(insteadOf: token, at: late) == nil, "not where the API has refused it")
        desk.failed(Self.outage, at: late, random: 0)
        guard case .wait = desk.ask(refused: nil, at: Self.start + .hours(2)) else {
            Issue.record("after it expired and the pause is over, the endpoint is asked")
            return
        }
    }

    // MARK: Budgets

    @Test func nothingIsAskedOnceTheLimitIsUsedUp() throws {
        var budget = RequestBudget(perSecond: nil)
        budget.heed(RateReport(remaining: 3, limit: 100, resetAfter: .seconds(60)), reserve: 3, at: Self.start)
        let held = budget.takeOrReason(at: Self.start)
        let (wait, reason) = try #require(held)
        #expect(wait == .seconds(60) && reason == .usedUp)
        #expect(budget.blocked(at: Self.start)?.until == Self.start + .seconds(60))
        #expect(budget.take(at: Self.start + .seconds(60)) == nil)
    }

    @Test func P10_aResetFarAwayIsBelievedForAnHourAtMost() {
        var budget = RequestBudget(perSecond: nil)
        budget.heed(RateReport(remaining: 0, resetAfter: .days(30)), at: Self.start)
        #expect(budget.take(at: Self.start) == .hours(1))
    }

    @Test func whatIsLeftIsSpread() {
        var budget = RequestBudget(perSecond: nil)
        budget.heed(RateReport(remaining: 50, limit: 100, resetAfter: .seconds(60)), at: Self.start)
        for _ in 0..<20 { #expect(budget.take(at: Self.start) == nil, "plenty is left") }
        budget.heed(RateReport(remaining: 5, limit: 100, resetAfter: .seconds(60)), at: Self.start)
        var (now, sent) = (Self.start, 0)
        while now < Self.start + .seconds(60) {
            if let (wait, reason) = budget.takeOrReason(at: now) {
                #expect(reason == .spread)
                now = now + wait
            } else {
                sent += 1
            }
        }
        #expect((4...6).contains(sent), "sent \(sent) of the 5 that were left")
        #expect(budget.take(at: Self.start + .seconds(61)) == nil)
    }
}
