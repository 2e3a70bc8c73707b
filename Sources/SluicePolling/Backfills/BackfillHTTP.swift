import SluiceConnectors
import SluiceCore
import Synchronization

/// A connection's lane as a backfill uses it: with half of what the connection may ask, and nothing while the provider says that
/// little is left. What it asks is charged to the connection as well.
final class BackfillHTTP: HTTPSending {
    private let lane: PollHTTP
    private let time: any TimeSource
    private let budget: Mutex<RequestBudget>

    init(_ lane: PollHTTP, pace: BackfillPace, time: any TimeSource) {
        self.lane = lane
        self.time = time
        budget = Mutex(RequestBudget(perSecond: pace.requestsPerSecond(of: lane.settings.requestsPerSecondMax)))
    }

    func send(_ request: HTTPRequestPlan) async throws -> HTTPReply {
        if let (until, reason) = lane.shortage(at: time.now()) {
            throw BackfillHTTP.heldBack(until - time.now(), reason.rawValue)
        }
        while let wait = budget.withLock({ $0.take(at: time.now()) }) {
            if wait > .seconds(5) { throw BackfillHTTP.heldBack(wait, "half of its requests_per_second are used up") }
            try await Task.sleep(for: .milliseconds(max(1, wait.milliseconds)))
        }
        return try await lane.send(request)
    }

    private static func heldBack(_ wait: Span, _ reason: String) -> PollFailure {
        var failure = PollFailure(.rateLimited, SluiceError(.rateLimited, "the connection waits: \(reason)"), retryAfter: wait)
        failure.isHeldBack = true
        return failure
    }
}
