/// Where requests go. The table is also the documentation of what there is.
extension API {
    struct Route: Sendable {
        var method: String
        /// Parts beginning with `:` are parameters.
        var pattern: [Substring]
        /// Needs no token.
        var isOpen: Bool
        var handler: @Sendable (API, APICall) async throws -> APIResponse

        init(
            _ method: String, _ path: StaticString, isOpen: Bool = false,
            _ handler: @escaping @Sendable (API, APICall) async throws -> APIResponse
        ) {
            self.method = method
            pattern = path.description.split(separator: "/")
            self.isOpen = isOpen
            self.handler = handler
        }
    }

    enum Match {
        case found(Route, [String: String])
        case otherMethods([String])
        case none
    }

    static let routes: [Route] = [
        Route("GET", "/v1/health", isOpen: true) { try await $0.health($1) },
        Route("GET", "/v1/status") { try await $0.status($1) },
        Route("GET", "/v1/alarms") { try await $0.listAlarms($1) },
        Route("POST", "/v1/apply") { try await $0.apply($1) },
        Route("GET", "/v1/connectors") { try await $0.listConnectors($1) },
        Route("POST", "/v1/connectors/reload") { try await $0.reloadConnectors($1) },
        Route("GET", "/v1/connections") { try await $0.listConnections($1) },
        Route("GET", "/v1/connections/:name") { try await $0.showConnection($1) },
        Route("POST", "/v1/connections/:name/rotate-endpoint") { try await $0.rotateEndpoint($1) },
        Route("POST", "/v1/connections/:name/test") { try await $0.testConnection($1) },
        Route("GET", "/v1/destinations") { try await $0.listDestinations($1) },
        Route("GET", "/v1/triggers") { try await $0.listTriggers($1) },
        Route("GET", "/v1/triggers/:name") { try await $0.showTrigger($1) },
        Route("GET", "/v1/triggers/:name/cursor") { try await $0.showCursor($1) },
        Route("PUT", "/v1/triggers/:name/cursor") { try await $0.setCursor($1) },
        Route("DELETE", "/v1/triggers/:name/cursor") { try await $0.resetCursor($1) },
        Route("GET", "/v1/triggers/:name/quarantine") { try await $0.listQuarantine($1) },
        Route("POST", "/v1/triggers/:name/:command") { try await $0.commandTrigger($1) },
        Route("GET", "/v1/subscriptions") { try await $0.listSubscriptions($1) },
        Route("POST", "/v1/subscriptions/check") { try await $0.checkSubscriptions($1) },
        Route("POST", "/v1/subscriptions/:number/remove-left-behind") { try await $0.removeLeftBehind($1) },
        Route("GET", "/v1/jobs") { try await $0.listJobs($1) },
        Route("GET", "/v1/jobs/:id") { try await $0.showJob($1) },
        Route("GET", "/v1/inbox") { try await $0.listInbox($1) },
        Route("GET", "/v1/inbox/:sequence") { try await $0.showInbox($1) },
        Route("POST", "/v1/inbox/:sequence/redeliver") { try await $0.redeliverInbox($1) },
        Route("GET", "/v1/deliveries") { try await $0.listDeliveries($1) },
        Route("GET", "/v1/deliveries/:id") { try await $0.showDelivery($1) },
        Route("POST", "/v1/deliveries/replay") { try await $0.replayDeliveries($1) },
        Route("GET", "/v1/dead-letters") { try await $0.listDeadLetters($1) },
        Route("POST", "/v1/dead-letters/replay") { try await $0.replayDeadLetters($1) },
        Route("POST", "/v1/dead-letters/discard") { try await $0.discardDeadLetters($1) },
        Route("GET", "/v1/dead-letters/:id") { try await $0.showDeadLetter($1) },
        Route("POST", "/v1/triggers/:name/filter/try") { try await $0.tryFilter($1) },
        Route("GET", "/v1/tokens") { try await $0.listTokens($1) },
        Route("POST", "/v1/tokens") { try await $0.createToken($1) },
        Route("DELETE", "/v1/tokens/:name") { try await $0.revokeToken($1) },
    ]

    static func match(_ request: APIRequest) -> Match {
        let parts = request.path.split(separator: "/", omittingEmptySubsequences: true)
        var methods: [String] = []
        for route in routes where route.pattern.count == parts.count {
            var parameters: [String: String] = [:]
            let fits = zip(route.pattern, parts).allSatisfy { wanted, part in
                guard wanted.hasPrefix(":") else { return wanted == part }
                parameters[String(wanted.dropFirst())] = Percent.decoded(part)
                return Percent.decoded(part) != nil
            }
            if !fits { continue }
            if route.method == request.method { return .found(route, parameters) }
            methods.append(route.method)
        }
        return methods.isEmpty ? .none : .otherMethods(methods)
    }
}
