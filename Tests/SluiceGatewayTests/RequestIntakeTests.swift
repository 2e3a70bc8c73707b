import Testing

@testable import SluiceGateway

/// The decisions about one connection, without a socket or a clock.
struct RequestIntakeTests {
    static let bounds = RequestIntake.Bounds(bodyBytesMax: 100, headerDeadline: 10, bodyDeadline: 30, idleDeadline: 75, linger: 2)

    static func refusal(_ status: Int, _ reason: String) -> RequestIntake.Action { .refuse(GatewayRefusal(status: status, reason: reason)) }

    @Test func aWholeRequestIsDeliveredAndTheConnectionRests() {
        var intake = RequestIntake(bounds: Self.bounds, now: 0)
        #expect(intake.head(contentLength: 100, keepsAlive: true, at: 1) == .hold)
        #expect(intake.body(byteCount: 60, at: 2) == .hold)
        #expect(intake.body(byteCount: 40, at: 2) == .hold)
        #expect(intake.end(at: 3) == .deliver)
        intake.readCompleted(at: 3)
        // However long the append takes, nothing is ended.
        #expect(intake.tick(at: 1000) == .none)
        #expect(intake.answered(at: 1000) == .none)
        #expect(intake.tick(at: 1074) == .none)
        #expect(intake.tick(at: 1075) == .close)
    }

    @Test func P10_eachPhaseHasItsDeadline() {
        var intake = RequestIntake(bounds: Self.bounds, now: 0)
        #expect(intake.tick(at: 9) == .none)
        #expect(intake.tick(at: 10) == Self.refusal(408, "headers_too_slow"))
        // Answered once; then the client has a moment to close.
        #expect(intake.tick(at: 11) == .none)
        #expect(intake.tick(at: 12) == .close)

        intake = RequestIntake(bounds: Self.bounds, now: 0)
        _ = intake.head(contentLength: nil, keepsAlive: true, at: 9)
        for now in stride(from: Int64(10), to: 38, by: 1) {
            // A trickle of bytes does not move the deadline.
            #expect(intake.body(byteCount: 1, at: now) == .hold)
            #expect(intake.tick(at: now) == .none)
        }
        #expect(intake.tick(at: 39) == Self.refusal(408, "body_too_slow"))
    }

    @Test func P10_whoTakesNoAnswersIsClosed() {
        var intake = RequestIntake(bounds: Self.bounds, now: 0)
        _ = intake.head(contentLength: nil, keepsAlive: true, at: 0)
        _ = intake.end(at: 0)
        intake.writable(false, at: 5)
        intake.writable(false, at: 20)
        #expect(intake.tick(at: 34) == .none)
        intake.writable(true, at: 34)
        #expect(intake.tick(at: 60) == .none)
        intake.writable(false, at: 60)
        #expect(intake.tick(at: 89) == .none)
        #expect(intake.tick(at: 90) == .close, "although a request is unanswered")
    }

    @Test func P10_aLaterRequestsHeadersAreTimedFromTheirFirstByte() {
        var intake = RequestIntake(bounds: Self.bounds, now: 0)
        _ = intake.head(contentLength: nil, keepsAlive: true, at: 0)
        _ = intake.end(at: 0)
        intake.readCompleted(at: 0)
        _ = intake.answered(at: 0)
        intake.readCompleted(at: 50)
        intake.readCompleted(at: 55)
        #expect(intake.tick(at: 59) == .none)
        #expect(intake.tick(at: 60) == Self.refusal(408, "headers_too_slow"))
    }

    @Test func P10_theBodyLimitHoldsInAdvanceAndOnTheWay() {
        var intake = RequestIntake(bounds: Self.bounds, now: 0)
        #expect(intake.head(contentLength: 101, keepsAlive: true, at: 0) == Self.refusal(413, "body_too_large"))
        intake = RequestIntake(bounds: Self.bounds, now: 0)
        _ = intake.head(contentLength: nil, keepsAlive: true, at: 0)
        #expect(intake.body(byteCount: 100, at: 0) == .hold)
        #expect(intake.body(byteCount: 1, at: 0) == Self.refusal(413, "body_too_large"))
        // Nothing that still comes is kept or delivered.
        #expect(intake.body(byteCount: 1, at: 0) == .none)
        #expect(intake.end(at: 0) == .none)
        #expect(intake.head(contentLength: nil, keepsAlive: true, at: 0) == .none)
        #expect(intake.unanswered == 0)
    }

    @Test func aRefusalNeverOvertakesAnEarlierAnswer() {
        var intake = RequestIntake(bounds: Self.bounds, now: 0)
        _ = intake.head(contentLength: nil, keepsAlive: true, at: 0)
        #expect(intake.end(at: 0) == .deliver)
        #expect(intake.head(contentLength: 1000, keepsAlive: true, at: 0) == .none)
        #expect(intake.tick(at: 1000) == .none)
        #expect(intake.answered(at: 1000) == .close)
    }

    @Test func aRequestThatIsCutOffIsNeitherDeliveredNorForgotten() {
        var intake = RequestIntake(bounds: Self.bounds, now: 0)
        _ = intake.head(contentLength: 10, keepsAlive: true, at: 0)
        _ = intake.body(byteCount: 9, at: 0)
        var other = intake
        #expect(intake.malformed(at: 1) == Self.refusal(400, "truncated"))
        // Counted once, though the connection ends as well.
        #expect(intake.disconnected(at: 1) == false)
        #expect(other.disconnected(at: 1) == true)
    }

    @Test func aConnectionThatIsNotKeptClosesWithItsAnswer() {
        var intake = RequestIntake(bounds: Self.bounds, now: 0)
        _ = intake.head(contentLength: nil, keepsAlive: false, at: 0)
        #expect(intake.end(at: 0) == .deliver)
        #expect(intake.tick(at: 1000) == .none)
        #expect(intake.answered(at: 1000) == .close)
    }
}
