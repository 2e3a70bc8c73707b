import SluiceConnectors
import SluiceCore
import SluiceStore

extension PollingService {
    /// Makes the token requests that polls need. Run it beside `run`, and let it end after `run` has: it ends by itself once
    /// `stopRenewing` was called, when what it has asked for is answered and stored.
    public func renewTokens() async { await renewer.run() }

    /// No token request begins any more.
    public func stopRenewing() { renewer.close() }

    /// A kept access token, with what it was made for.
    struct Keeping {
        var fingerprint: [UInt8]
        var keeper: TokenKeeper
    }

    /// What a connection's requests are given, in a form ready for its lane. A keeper whose credentials have not changed stays:
    /// its token is still good.
    func laneAuthorization(_ connection: ConnectionID, _ settings: ConnectionPollSettings, in state: inout State) -> LaneAuthorization? {
        guard let rules = catalogue.authorization(of: connection), let authorization = rules.access.authorization else {
            state.keepers[connection] = nil
            return nil
        }
        var keeper: TokenKeeper?
        if let grant = authorization.grant {
            let fingerprint = rules.fingerprint(settings)
            if let known = state.keepers[connection], known.fingerprint == fingerprint {
                known.keeper.forgetFailure()
                keeper = known.keeper
            } else {
                let made = makeKeeper(connection, grant, rules, settings)
                state.keepers[connection] = Keeping(fingerprint: fingerprint, keeper: made)
                keeper = made
            }
        } else {
            state.keepers[connection] = nil
        }
        return LaneAuthorization(
            authorization: authorization, values: rules.values, origins: rules.access.origins(values: rules.values), keeper: keeper)
    }

    private func makeKeeper(
        _ connection: ConnectionID, _ grant: TokenGrant, _ rules: ConnectionAuthorization, _ settings: ConnectionPollSettings
    ) -> TokenKeeper {
        // The token endpoint is often another host with limits of its own: the API's budget is not charged.
        var settings = settings
        settings.requestsPerSecondMax = nil
        settings.requestSpanMax = min(settings.requestSpanMax, .seconds(30))
        let lane = PollHTTP(
            client: client, settings: settings, time: time, pageBytesMax: TokenRequest.answerBytesMax, guardAddress: guardAddress,
            routes: routes)
        return TokenKeeper(
            TokenKeeper.Parts(
                connection: connection, name: rules.name,
                request: TokenRequest(grant: grant, values: rules.values, secrets: rules.secrets), credentials: credentials,
                send: { try await lane.exchangeOnce($0) }, fence: { [weak self] in self?.state.withLock { $0.fence } }, time: time,
                wallTime: wallTime, random: random, node: node, begin: { [renewer] in renewer.begin($0) },
                after: TokenKeeper.timer(on: client.eventLoopGroup.any())))
    }

    /// Of what a provider may repeat: the connection's secrets, and the access tokens that its requests show or showed.
    func scrubber(of connection: ConnectionID) -> SecretScrubber {
        let desk = state.withLock { $0.keepers[connection]?.keeper }?.desk
        let tokens = [desk?.access, desk?.former, desk?.refused].compactMap { $0?.value }
        return SecretScrubber((catalogue.authorization(of: connection)?.secrets ?? []) + tokens)
    }

    /// What is known of a connection's credentials and budget.
    public func connectionStatus(_ connection: ConnectionID) -> ConnectionStatus {
        let now = time.now()
        var status = ConnectionStatus()
        status.authorization = catalogue.authorization(of: connection)?.access.authorization?.name
        let (keeper, lane, isRefused) = state.withLock { state in
            (state.keepers[connection]?.keeper, state.lanes[connection], state.schedule.isRefused(connection))
        }
        status.isRefused = isRefused
        if let desk = keeper?.desk {
            status.tokenExpiresAt = desk.access?.expiresAt
            status.tokenRefreshedAt = desk.refreshedAt
            status.tokenError = desk.lastFailure?.error.message
            status.tokenRetryAt = desk.notBefore.flatMap { $0 > now ? $0 : nil }
        }
        if let blocked = lane?.blocked(at: now) {
            (status.waitsUntil, status.waitsFor) = (blocked.until, blocked.reason.rawValue)
        }
        return status
    }
}
