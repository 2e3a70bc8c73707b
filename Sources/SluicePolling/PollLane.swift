import AsyncHTTPClient
import SluiceConnectors
import SluiceCore
import SluiceOutgoing

/// The way of polls to a provider, for those who make one outside of the schedule: the same limits, redirects, statuses and
/// guarded addresses.
public struct PollLane: Sendable {
    private let client: HTTPClient
    private let routes: OutgoingRoutes
    public let http: any HTTPSending

    /// Call `close` when done.
    public init(settings: ConnectionPollSettings, time: any TimeSource, lookUp: @escaping HostLookUp = HostResolver.lookUpForPolls) {
        let limits = PollingService.Limits()
        let configuration = PollingService.clientConfiguration(limits)
        client = HTTPClient(eventLoopGroupProvider: .singleton, configuration: configuration)
        routes = .polls(configuration, lookUp: lookUp)
        http = PollHTTP(
            client: client, settings: settings, time: time, pageBytesMax: limits.pageBytesMax, guardAddress: { _, _ in }, routes: routes)
    }

    public func close() async {
        routes.close()
        try? await client.shutdown()
    }
}
