import AsyncHTTPClient
import SluiceConnectors
import SluiceCore

/// The way of polls to a provider, for those who make one outside of the schedule: the same limits, redirects, statuses and
/// guarded addresses.
public struct PollLane: Sendable {
    private let client: HTTPClient
    private let routes: PollRoutes
    public let http: any HTTPSending

    /// `resolve` as for `PollRoutes`. Call `close` when done.
    public init(settings: ConnectionPollSettings, time: any TimeSource, resolve: @escaping PollRoutes.Resolve) {
        let limits = PollingService.Limits()
        let configuration = PollingService.clientConfiguration(limits)
        client = HTTPClient(eventLoopGroupProvider: .singleton, configuration: configuration)
        routes = PollRoutes(configuration: configuration, resolve: resolve)
        http = PollHTTP(
            client: client, settings: settings, time: time, pageBytesMax: limits.pageBytesMax, guardAddress: { _, _ in }, routes: routes)
    }

    public func close() async {
        routes.close()
        try? await client.shutdown()
    }
}
