import SluiceConnectors
import SluiceCore
import SluicePolling
import SluiceStore
import SluiceTesting
import Testing

/// What the lane adds to requests, where it does not, and what nobody may read.
@Suite struct AuthorizedLaneTests {
    /// A connection to the feed whose connector declares how requests show who asks.
    static func connection(_ server: FeedServer, _ authorization: String, _ values: [String: String] = [:]) throws -> BenchConnection {
        let url = String(server.url.dropLast("/items".count))
        var connection = BenchConnection(connector: try TokenTests.connector(authorization), url: url)
        connection.values = values
        return connection
    }

    @Test(arguments: [
        (#"api_key = { header = "X-Key", value = "{connection.api_key}" }"#, "X-Key: polling-key-canary"),
        (#"bearer = "{connection.api_key}""#, "Authorization: Bearer polling-key-canary"),
        (#"basic = { user = "{connection.api_key}" }"#, "Authorization: Basic cG9sbGluZy1rZXktY2FuYXJ5Og=="),
        (#"api_key = { query = "api key", value = "{connection.api_key}" }"#, "&api%20key=polling-key-canary"),
    ])
    func credentialsAreAddedToEachRequest(authorization: String, expected: String) async throws {
        let time = ManualTime()
        let server = FeedServer(clock: time)
        server.add(3)
        try await server.with {
            try await Bench.with([try Self.connection(server, authorization)], time: time) { bench in
                try await waitUntil("3 jobs") { try await bench.keys() == server.keys }
                #expect(server.requests.allSatisfy { $0.head.contains(expected) }, "\(server.requests.map(\.head))")
            }
        }
    }

    /// A connector that asks another host: the credentials do not go there.
    @Test func P10_credentialsGoToTheConnectionsOwnHostOnly() async throws {
        let time = ManualTime()
        let (own, other) = (FeedServer(clock: time), FeedServer(clock: time))
        other.add(3)
        try await own.with {
            try await other.with {
                let elsewhere = String(other.url.dropLast("/items".count))
                let connection = try Self.connection(own, #"bearer = "{connection.api_key}""#, ["other_url": elsewhere])
                try await Bench.with([connection], time: time) { bench in
                    try await waitUntil("3 jobs") { try await bench.keys() == other.keys }
                    #expect(other.requests.allSatisfy { !$0.head.contains("canary") && !$0.head.contains("Authorization") })
                }
            }
        }
    }

    /// Redirects of the token endpoint, on any host, are never followed.
    @Test func P10_aTokenRequestFollowsNoRedirect() async throws {
        let time = ManualTime()
        let other = FeedServer(clock: time)
        try await other.with {
            let target = other.url
            try await TokenTests.with { provider, bench in
                provider.failAlways(.status(307, headers: ["Location": target]))
                bench.time.advance(by: .minutes(90))
                try await bench.pollNow()
                try await waitUntil("a refusal") { bench.alarms.message(.connectionRefused, "connection shop") != nil }
                let alarm = try #require(bench.alarms.message(.connectionRefused, "connection shop"))
                #expect(alarm.contains("redirects") && alarm.contains("token URL"), "\(alarm)")
                #expect(other.requests.isEmpty)
            }
        }
    }

    @Test func P10_aPrivateTokenEndpointIsRefusedUnlessAllowed() async throws {
        let time = ManualTime()
        let provider = OAuthProvider(clock: time)
        try await provider.with {
            var connection = try TokenTests.connection(provider, refreshToken: provider.authorize())
            connection.settings.allowsPrivate = false
            try await Bench.with([connection], time: time) { bench in
                try await waitUntil("a failure") { try await bench.trigger().progress.failures > 0 }
                let error = try #require(try await bench.trigger().progress.lastError)
                #expect(error.contains("allow_private: true"), "\(error)")
                #expect(provider.forms.isEmpty)
            }
        }
    }

    /// A provider that repeats what it was sent: nobody reads it in an error, an alarm or a status.
    @Test func secretsAreTakenOutOfWhatTheProviderSays() async throws {
        try await TokenTests.with { provider, bench in
            try await waitUntil("3 jobs") { try await bench.keys() == provider.keys }
            provider.failAlways(
                .status(
                    400,
                    body:
                        #"{"error":"invalid_grant","error_description":"refresh-1-canary of client-secret-canary is spent","debug":"canary"}"#
                ))
            provider.revokeAccessTokens()
            bench.time.advance(by: .minutes(1))
            try await bench.pollNow()
            try await waitUntil("the alarm") { bench.alarms.message(.connectionRefused, "connection shop") != nil }
            try await waitUntil("the mark") { try await bench.store.definitions(.default).connections.first?.problem != nil }
            let trigger = try await bench.trigger()
            let texts = [
                bench.alarms.message(.connectionRefused, "connection shop"), bench.alarms.message(.triggerFailing, "trigger items"),
                trigger.progress.lastError, try await bench.store.definitions(.default).connections.first?.problem,
                String(describing: bench.service.connectionStatus(trigger.connection)),
            ].compactMap(\.self)
            #expect(texts.count == 5)
            for text in texts { #expect(!text.contains("canary"), "\(text)") }
            #expect(texts[0].contains("is spent"), "\(texts[0])")
        }
    }

    @Test func theStatusTellsHowLongTheTokenHolds() async throws {
        try await TokenTests.with { provider, bench in
            let start = bench.time.now()
            try await waitUntil("3 jobs") { try await bench.keys() == provider.keys }
            let status = bench.service.connectionStatus(try await bench.trigger().connection)
            #expect(status.authorization == "oauth2_refresh_token" && status.tokenError == nil && !status.isRefused)
            #expect(status.tokenExpiresAt == start + .hours(1) && status.tokenRefreshedAt == start)
        }
    }

    // MARK: Trying a connection

    @Test func aConnectionTestSaysWhatIsWrong() async throws {
        try await TokenTests.with { provider, bench in
            try await waitUntil("3 jobs") { try await bench.keys() == provider.keys }
            let id = try await bench.trigger().connection
            func outcome() async throws -> ConnectionTestResult.Outcome { try await bench.service.testConnection(id).outcome }
            #expect(try await outcome() == .ok)

            func change(_ body: (inout BenchConnection) -> Void) {
                bench.catalogue.change("shop", body)
                bench.service.connectionChanged(id)
            }
            let url = provider.baseURL
            change { $0.settings.allowsPrivate = false }
            #expect(try await outcome() == .forbiddenAddress)
            change { $0.settings.allowsPrivate = true }
            change { $0.url = url + "/elsewhere" }
            #expect([.wrongURL, .credentialsRefused].contains(try await outcome()))
            change { $0.url = "http://127.0.0.1:1" }
            #expect(try await outcome() == .unreachable)
            change { $0.url = url.replacing("http://", with: "https://") }
            let tls = try await bench.service.testConnection(id)
            #expect(tls.outcome == .tls, "\(tls)")
            change { $0.url = url }
            provider.revokeRefreshTokens()
            provider.revokeAccessTokens()
            bench.time.advance(by: .minutes(2))
            let refused = try await bench.service.testConnection(id)
            #expect(refused.outcome == .credentialsRefused && refused.message.contains("authorize again"), "\(refused)")
            #expect(!String(describing: refused).contains("canary"))
        }
    }

    /// A refused connection that works again is polled without waiting for the probe.
    @Test func aTestThatSucceedsRevivesTheConnection() async throws {
        try await TokenTests.with { provider, bench in
            try await waitUntil("3 jobs") { try await bench.keys() == provider.keys }
            provider.failAlways(.status(401, body: #"{"error":"invalid_client"}"#))
            provider.revokeAccessTokens()
            bench.time.advance(by: .minutes(1))
            provider.add(1)
            try await bench.pollNow()
            try await waitUntil("the alarm") { bench.alarms.message(.connectionRefused, "connection shop") != nil }
            try await waitUntil("nothing runs") { bench.service.cyclesRunning == 0 }
            provider.failAlways(nil)
            let id = try await bench.trigger().connection
            #expect(try await bench.service.testConnection(id).outcome == .ok)
            try await bench.advanceUntil("4 jobs") { try await bench.keys() == provider.keys }
            #expect(bench.alarms.message(.connectionRefused, "connection shop") == nil)
        }
    }

    // MARK: Rates

    /// Held back by the provider's rate: the cycle goes on later, and nothing counts as failed.
    @Test func aUsedUpRateIsWaitedForAndIsNoFailure() async throws {
        let time = ManualTime()
        let server = FeedServer(clock: time)
        server.add(5)
        server.setFault { request in
            guard request.after == 0 else { return nil }
            let body = FeedServer.pageBody(after: 0, of: 5)
            return .whole("200 OK", body, headers: ["RateLimit: \"burst\";r=0;t=90", "RateLimit-Policy: \"burst\";q=60;w=90"])
        }
        try await server.with {
            try await Bench.with([BenchConnection(connector: try feed(), url: server.url)], time: time) { bench in
                let start = time.now()
                try await waitUntil("a page") { try await bench.keys().count == 2 }
                try await waitUntil("nothing runs") { bench.service.cyclesRunning == 0 }
                let trigger = try await bench.trigger()
                #expect(trigger.progress.failures == 0 && trigger.progress.lastError == nil, "nothing failed")
                #expect(bench.alarms.message(.triggerFailing, "trigger items") == nil)
                #expect(bench.service.connectionStatus(trigger.connection).waitsFor == "the provider's rate limit is used up")
                bench.advance(by: .seconds(89))
                try await Task.sleep(for: .milliseconds(200))
                #expect(server.requests.count == 1, "nobody asks before the time")
                try await bench.advanceUntil("5 jobs") { try await bench.keys() == server.keys }
                #expect(server.requests.dropFirst().allSatisfy { $0.at >= start + .seconds(90) }, "\(server.requests.map(\.at))")
            }
        }
    }

    /// GitHub says 403 for too many requests: that is no refusal of the credentials.
    @Test func aForbiddenThatNamesAWaitIsARateLimit() async throws {
        let time = ManualTime()
        let server = FeedServer(clock: time)
        server.add(3)
        server.setFault { _ in .whole("403 Forbidden", "{}", headers: ["X-RateLimit-Remaining: 0", "X-RateLimit-Reset: 60"]) }
        try await server.with {
            try await Bench.with([BenchConnection(connector: try feed(), url: server.url)], time: time) { bench in
                try await waitUntil("a failure") { try await bench.trigger().progress.failures == 1 }
                #expect(try await bench.trigger().progress.lastError?.contains("limits our requests") == true)
                server.setFault(nil)
                try await bench.advanceUntil("3 jobs") { try await bench.keys() == server.keys }
                #expect(bench.alarms.message(.connectionRefused, "connection shop") == nil)
            }
        }
    }
}

extension String {
    fileprivate func replacing(_ part: String, with other: String) -> String {
        guard let range = ranges(of: part).first else { return self }
        return String(self[..<range.lowerBound]) + other + String(self[range.upperBound...])
    }
}
