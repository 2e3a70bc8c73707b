import AsyncHTTPClient
import NIOCore
import SluiceConnectors
import SluiceCore
import SluiceOutgoing
import SluiceStore

/// The way of polls to a provider, for those who make one outside of the schedule: the same limits, redirects, statuses, guarded
/// addresses and credentials.
public struct PollLane: Sendable {
    /// How a lane gets access tokens, and who hears of them.
    public struct Access: Sendable {
        public var authorization: ConnectionAuthorization
        /// Where rotated refresh tokens are kept; nil: grants that spend one are refused.
        public var credentials: (any CredentialKeeping)?
        /// Hears of each token request and its answer.
        public var asked: @Sendable (HTTPRequestPlan, Result<HTTPReply, any Error>) -> Void = { _, _ in }
        /// Hears of each access token before it is used.
        public var gives: @Sendable (AccessToken) -> Void = { _ in }

        public init(_ authorization: ConnectionAuthorization) { self.authorization = authorization }
    }

    private let client: HTTPClient
    private let heldClient: HTTPClient
    private let routes: [OutgoingRoutes]
    private let polls: PollHTTP
    private let renewer: TokenRenewer
    public var http: any HTTPSending { polls }

    /// Its requests are made within `use`. Call `close` when done.
    public init(
        settings: ConnectionPollSettings, time: any TimeSource, access: Access? = nil,
        lookUp: @escaping HostLookUp = HostResolver.lookUpForPolls
    ) {
        let limits = PollingService.Limits()
        let (configuration, heldConfiguration) = (PollingService.clientConfiguration(limits), PollingService.heldConfiguration(limits))
        let client = HTTPClient(eventLoopGroupProvider: .singleton, configuration: configuration)
        self.client = client
        heldClient = HTTPClient(eventLoopGroupProvider: .singleton, configuration: heldConfiguration)
        let routes = OutgoingRoutes.polls(configuration, lookUp: lookUp)
        let heldRoutes = OutgoingRoutes.polls(heldConfiguration, lookUp: lookUp)
        self.routes = [routes, heldRoutes]
        let renewer = TokenRenewer()
        self.renewer = renewer
        polls = PollHTTP(
            client: client, settings: settings, time: time, pageBytesMax: limits.pageBytesMax, guardAddress: { _, _ in }, routes: routes,
            heldClient: heldClient, heldRoutes: heldRoutes,
            authorization: access.flatMap { PollLane.authorization($0, settings, time, client, routes, renewer) },
            rateLimit: access?.authorization.access.rateLimit ?? RateLimitRule())
    }

    private static func authorization(
        _ access: Access, _ settings: ConnectionPollSettings, _ time: any TimeSource, _ client: HTTPClient, _ routes: OutgoingRoutes,
        _ renewer: TokenRenewer
    ) -> LaneAuthorization? {
        let rules = access.authorization
        guard let authorization = rules.access.authorization else { return nil }
        let keeper = authorization.grant.map { grant in
            var settings = settings
            settings.requestSpanMax = min(settings.requestSpanMax, .seconds(30))
            let tokens = PollHTTP(
                client: client, settings: settings, time: time, pageBytesMax: TokenRequest.answerBytesMax, guardAddress: { _, _ in },
                routes: routes)
            // Whoever keeps the credentials sees to it that nobody else spends them: the epoch is that of this hour.
            let fence = Fence(shard: 0, epoch: LeaseEpoch(rawValue: time.now().milliseconds))
            return TokenKeeper(
                TokenKeeper.Parts(
                    connection: ConnectionID(rawValue: 0), name: rules.name,
                    request: TokenRequest(grant: grant, values: rules.values, secrets: rules.secrets), credentials: access.credentials,
                    send: { plan in
                        let result = await Result.of { try await tokens.exchangeOnce(plan) }
                        access.asked(plan, result)
                        return try result.get()
                    }, fence: { fence }, time: time, random: { Double.random(in: 0..<1) },
                    node: String(UInt64.random(in: 0...UInt64.max), radix: 36), begin: { renewer.begin($0) },
                    after: TokenKeeper.timer(on: client.eventLoopGroup.any()), gives: access.gives))
        }
        return LaneAuthorization(
            authorization: authorization, values: rules.values, origins: rules.access.origins(values: rules.values), keeper: keeper)
    }

    /// Makes the token requests that the body's requests need, and ends when they have.
    public func use<Value: Sendable>(_ body: () async -> Value) async -> Value {
        async let renewing: Void = renewer.run()
        let value = await body()
        renewer.close()
        await renewing
        return value
    }

    /// Lets the provider hold requests of the body for so long altogether; then they are let go of. Nil: that was before the body's
    /// end.
    public func holding<Value: Sendable>(for span: Span, _ body: (any HTTPSending) async throws -> Value) async throws -> Value? {
        let slot = HeldSlot()
        let timer = heldClient.eventLoopGroup.any().scheduleTask(in: .milliseconds(span.milliseconds)) { slot.release() }
        defer {
            timer.cancel()
            slot.release()
        }
        do {
            return try await body(HeldHTTP(polls: polls, slot: slot))
        } catch is HeldSlot.Released {
            return nil
        }
    }

    public func close() async {
        for routes in routes { routes.close() }
        try? await client.shutdown()
        try? await heldClient.shutdown()
    }
}

extension Result where Failure == any Error {
    fileprivate static func of(_ body: () async throws -> Success) async -> Result {
        do { return .success(try await body()) } catch { return .failure(error) }
    }
}
