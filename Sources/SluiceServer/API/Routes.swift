/// Where requests go. Each route has an operation in the OpenAPI document: OpenAPI/OpenAPI.swift says how to add one.
extension API {
    struct Route: Sendable {
        var method: String
        /// `/v1/triggers/:name`.
        var path: String
        /// Parts beginning with `:` are parameters.
        var pattern: [Substring]
        var parameterCount: Int
        /// Needs no token.
        var isOpen: Bool
        var handler: @Sendable (API, APICall) async throws -> APIResponse

        init(
            _ method: String, _ path: StaticString, isOpen: Bool = false,
            _ handler: @escaping @Sendable (API, APICall) async throws -> APIResponse
        ) {
            self.method = method
            self.path = path.description
            pattern = path.description.split(separator: "/")
            parameterCount = pattern.count { $0.hasPrefix(":") }
            self.isOpen = isOpen
            self.handler = handler
        }
    }

    enum Match {
        case found(Route, [String: String])
        /// `isOpen`: what is there needs no token.
        case otherMethods([String], isOpen: Bool)
        case none
    }

    static let routes: [Route] = [
        Route("GET", "/openapi.json", isOpen: true) { try await $0.openAPI($1) },
        Route("GET", "/v1/health", isOpen: true) { try await $0.health($1) },
        Route("GET", "/v1/status") { try await $0.status($1) },
        Route("GET", "/v1/alarms") { try await $0.listAlarms($1) },
        Route("POST", "/v1/apply") { try await $0.apply($1) },
        Route("GET", "/v1/connectors") { try await $0.listConnectors($1) },
        Route("POST", "/v1/connectors/reload") { try await $0.reloadConnectors($1) },
        Route("GET", "/v1/connections") { try await $0.listConnections($1) },
        Route("GET", "/v1/connections/:name") { try await $0.showConnection($1) },
        Route("DELETE", "/v1/connections/:name") { try await $0.removeConnection($1) },
        Route("POST", "/v1/connections/:name/rotate-endpoint") { try await $0.rotateEndpoint($1) },
        Route("POST", "/v1/connections/:name/test") { try await $0.testConnection($1) },
        Route("GET", "/v1/destinations") { try await $0.listDestinations($1) },
        Route("GET", "/v1/destinations/:name") { try await $0.showDestination($1) },
        Route("DELETE", "/v1/destinations/:name") { try await $0.removeDestination($1) },
        Route("POST", "/v1/destinations/:name/rotate-secret") { try await $0.rotateSecret($1) },
        Route("POST", "/v1/destinations/:name/pause") { try await $0.pauseDestination($1) },
        Route("POST", "/v1/destinations/:name/resume") { try await $0.resumeDestination($1) },
        Route("GET", "/v1/triggers") { try await $0.listTriggers($1) },
        Route("GET", "/v1/triggers/:name") { try await $0.showTrigger($1) },
        Route("DELETE", "/v1/triggers/:name") { try await $0.removeTrigger($1) },
        Route("GET", "/v1/triggers/:name/cursor") { try await $0.showCursor($1) },
        Route("PUT", "/v1/triggers/:name/cursor") { try await $0.setCursor($1) },
        Route("DELETE", "/v1/triggers/:name/cursor") { try await $0.resetCursor($1) },
        Route("GET", "/v1/triggers/:name/quarantine") { try await $0.listQuarantine($1) },
        Route("POST", "/v1/triggers/:name/quarantine/retry") { try await $0.retryQuarantine($1) },
        Route("POST", "/v1/triggers/:name/quarantine/discard") { try await $0.discardQuarantine($1) },
        Route("POST", "/v1/triggers/:name/:command") { try await $0.commandTrigger($1) },
        Route("GET", "/v1/subscriptions") { try await $0.listSubscriptions($1) },
        Route("POST", "/v1/subscriptions/check") { try await $0.checkSubscriptions($1) },
        Route("POST", "/v1/subscriptions/:number/remove-left-behind") { try await $0.removeLeftBehind($1) },
        Route("GET", "/v1/jobs") { try await $0.listJobs($1) },
        Route("GET", "/v1/jobs/stream") { try await $0.streamJobs($1) },
        Route("GET", "/v1/jobs/:id") { try await $0.showJob($1) },
        Route("GET", "/v1/consumers") { try await $0.listConsumers($1) },
        Route("GET", "/v1/consumers/:name") { try await $0.showConsumer($1) },
        Route("POST", "/v1/consumers/:name/fetch") { try await $0.fetchJobs($1) },
        Route("POST", "/v1/consumers/:name/ack") { try await $0.ackJobs($1) },
        Route("POST", "/v1/consumers/:name/nack") { try await $0.nackJobs($1) },
        Route("POST", "/v1/consumers/:name/extend") { try await $0.extendLease($1) },
        Route("PUT", "/v1/consumers/:name/position") { try await $0.seekConsumer($1) },
        Route("GET", "/v1/inbox") { try await $0.listInbox($1) },
        Route("GET", "/v1/inbox/:sequence") { try await $0.showInbox($1) },
        Route("POST", "/v1/inbox/:sequence/redeliver") { try await $0.redeliverInbox($1) },
        Route("GET", "/v1/deliveries") { try await $0.listDeliveries($1) },
        Route("GET", "/v1/deliveries/:id") { try await $0.showDelivery($1) },
        Route("GET", "/v1/dead-letters") { try await $0.listDeadLetters($1) },
        Route("POST", "/v1/dead-letters/replay") { try await $0.replayDeadLetters($1) },
        Route("POST", "/v1/dead-letters/discard") { try await $0.discardDeadLetters($1) },
        Route("GET", "/v1/dead-letters/:id") { try await $0.showDeadLetter($1) },
        Route("POST", "/v1/triggers/:name/filter/try") { try await $0.tryFilter($1) },
        Route("POST", "/v1/backfills") { try await $0.startBackfill($1) },
        Route("GET", "/v1/backfills") { try await $0.listBackfills($1) },
        Route("GET", "/v1/backfills/:id") { try await $0.showBackfill($1) },
        Route("GET", "/v1/backfills/:id/differences") { try await $0.listBackfillDifferences($1) },
        Route("POST", "/v1/backfills/:id/:command") { try await $0.commandBackfill($1) },
        Route("GET", "/v1/callbacks") { try await $0.listCallbacks($1) },
        Route("POST", "/v1/callbacks") { try await $0.createCallback($1) },
        Route("GET", "/v1/callbacks/:id") { try await $0.showCallback($1) },
        Route("POST", "/v1/callbacks/:id/cancel") { try await $0.cancelCallback($1) },
        Route("GET", "/v1/tokens") { try await $0.listTokens($1) },
        Route("POST", "/v1/tokens") { try await $0.createToken($1) },
        Route("DELETE", "/v1/tokens/:name") { try await $0.revokeToken($1) },
    ]

    /// Of the addresses that fit, the one counts that names most of its parts, as OpenAPI has it: at `/v1/triggers/orders/cursor` there is
    /// no command `cursor`.
    static func match(_ request: APIRequest) -> Match {
        let parts = request.path.split(separator: "/", omittingEmptySubsequences: true)
        let decoded = parts.map { Percent.decoded($0) }
        if decoded.contains(nil) { return .none }
        let fitting = routes.filter { route in
            route.pattern.count == parts.count && zip(route.pattern, parts).allSatisfy { $0.hasPrefix(":") || $0 == $1 }
        }
        guard let parameters = fitting.map(\.parameterCount).min() else { return .none }
        let there = fitting.filter { $0.parameterCount == parameters }
        guard let route = there.first(where: { $0.method == request.method }) else {
            return .otherMethods(there.map(\.method), isOpen: there.allSatisfy(\.isOpen))
        }
        var named: [String: String] = [:]
        for (wanted, part) in zip(route.pattern, decoded) where wanted.hasPrefix(":") { named[String(wanted.dropFirst())] = part }
        return .found(route, named)
    }
}
