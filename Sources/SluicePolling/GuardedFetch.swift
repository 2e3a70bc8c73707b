import AsyncHTTPClient
import SluiceConnectors
import SluiceCore
import SluiceOutgoing

/// One request outside a poll, within the guard that polls have: only to public addresses that were checked, no redirect
/// followed, the answer bounded in size and time.
public struct GuardedFetch: Sendable {
    private static let answerBytesMax = 64 * 1024

    private let http: PollHTTP

    /// `spanMax`: for connecting, sending and reading together.
    public init(client: HTTPClient, time: any TimeSource, routes: OutgoingRoutes, spanMax: Span = .seconds(10)) {
        http = PollHTTP(
            client: client, settings: ConnectionPollSettings(requestSpanMax: spanMax), time: time,
            pageBytesMax: GuardedFetch.answerBytesMax, guardAddress: { _, _ in }, routes: routes)
    }

    /// The status of the answer to a GET. Throws `PollFailure`, or `SluiceError` for an address that may not be reached.
    public func get(_ url: String) async throws -> Int {
        var plan = HTTPRequestPlan(url: url)
        plan.acceptsAnyStatus = true
        return try await http.send(plan).status
    }
}
