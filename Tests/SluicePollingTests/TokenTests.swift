import SluiceConnectors
import SluiceCore
import SluiceLua
import SluicePolling
import SluiceStore
import SluiceTesting
import Synchronization
import Testing

/// Access tokens over the real polling service and a real store, against a provider that rotates refresh tokens.
@Suite struct TokenTests {
    static let grant = """
        oauth2_refresh_token = { token_url = "{connection.url}/token", client_id = "client",
          client_secret = "{connection.client_secret}", refresh_token = "{connection.refresh_token}", client_auth = "post" }
        """

    /// A connector whose polls name no credentials.
    static func connector(_ authorization: String = grant, path: String = "/items") throws -> LuaConnector {
        let source = """
            return { name = "feed", title = "Feed", version = "1",
            connection = {
              fields = { { name = "url" }, { name = "api_key", secret = true }, { name = "client_secret", secret = true, optional = true },
                { name = "refresh_token", secret = true, optional = true }, { name = "other_url", optional = true } },
              base_url = "{connection.url}", authorization = { \(authorization) }, test = { path = "/me" } },
            triggers = { item = {
              dedup = function(record) return record.id end,
              poll = function(connection, input, closure)
                local answer = get((connection.other_url or connection.url) .. "\(path)", { params = { after = closure and closure.after or 0 } })
                if answer.status ~= 200 then error("the list answered " .. answer.status) end
                return { events = answer.json.items, next_poll = { after = answer.json.next }, can_poll_more = answer.json.more }
              end } } }
            """
        return try LuaConnector.load(source: Array(source.utf8), name: "feed", path: "feed/connector.lua")
    }

    static func connection(_ provider: OAuthProvider, _ triggers: [String] = ["items"], refreshToken: String) throws -> BenchConnection {
        var connection = BenchConnection(connector: try connector(), url: provider.baseURL, triggers: triggers)
        connection.settings.requestSpanMax = .seconds(20)
        connection.values = ["client_secret": "client-secret-canary", "refresh_token": refreshToken]
        return connection
    }

    static func with(
        _ settings: OAuthProvider.Settings = .init(), triggers: [String] = ["items"], items: Int = 3,
        _ body: (OAuthProvider, Bench) async throws -> Void
    ) async throws {
        let time = ManualTime()
        let provider = OAuthProvider(clock: time, settings: settings)
        provider.add(items)
        try await provider.with {
            try await Bench.with([try connection(provider, triggers, refreshToken: provider.authorize())], time: time) { bench in
                try await body(provider, bench)
            }
        }
    }

    static func chain(_ bench: Bench) async throws -> TokenChain? {
        let connection = try #require(try await bench.store.definitions(.default).connections.first)
        return try await PlainCredentials(store: bench.store).load(connection.id, name: "shop").chain
    }

    @Test func fiftyTriggersOfOneConnectionCauseOneRefresh() async throws {
        let names = (0..<50).map { "t\($0)" }
        try await Self.with(triggers: names) { provider, bench in
            for name in names { try await waitUntil("jobs of \(name)") { try await bench.keys(name) == provider.keys } }
            #expect(provider.granted == 1, "one token for all")
            bench.time.advance(by: .minutes(61))
            provider.add(2)
            for name in names { try await bench.pollNow(name) }
            for name in names { try await waitUntil("new jobs of \(name)") { try await bench.keys(name) == provider.keys } }
            #expect(provider.granted == 2, "one refresh for all, and not \(provider.granted - 1)")
            #expect(provider.refusedCount == 0, "no request went out with a token that had expired")
        }
    }

    @Test func aRotatedTokenIsStoredBeforeItIsUsed() async throws {
        try await Self.with { provider, bench in
            try await waitUntil("3 jobs") { try await bench.keys() == provider.keys }
            let usedBefore = Mutex(false)
            let former = Set(provider.apiTokens)
            bench.store.beforeCredentials { sealed in
                guard let access = TokenChain(json: sealed)?.access?.value else { return }
                try await Task.sleep(for: .milliseconds(150))
                if !former.contains(access), provider.apiTokens.contains(access) { usedBefore.withLock { $0 = true } }
            }
            provider.revokeAccessTokens()
            bench.time.advance(by: .minutes(1))
            provider.add(1)
            try await bench.pollNow()
            try await waitUntil("4 jobs") { try await bench.keys() == provider.keys }
            #expect(!usedBefore.withLock { $0 })
            let chain = try #require(try await Self.chain(bench))
            #expect(chain.tokens.first != provider.forms.last?["refresh_token"], "the newest is another than the one used")
            #expect(chain.tokens.dropFirst().first == provider.forms.last?["refresh_token"], "the one used is kept as well")
            #expect(chain.claim == nil)
        }
    }

    /// The provider forgot the access token: one refresh, one more request, and nothing failed.
    @Test func aRefusedAccessTokenIsRenewedOnce() async throws {
        try await Self.with { provider, bench in
            try await waitUntil("3 jobs") { try await bench.keys() == provider.keys }
            provider.revokeAccessTokens()
            bench.time.advance(by: .minutes(1))
            provider.add(1)
            try await bench.pollNow()
            try await waitUntil("4 jobs") { try await bench.keys() == provider.keys }
            #expect(provider.granted == 2 && provider.refusedCount == 1)
            #expect(try await bench.trigger().progress.failures == 0)
            #expect(bench.alarms.message(.triggerFailing, "trigger items") == nil)
        }
    }

    /// Killed between the provider's answer and our commit. With a grace period the next process goes on by itself.
    @Test func withGraceAKillBetweenAnswerAndCommitIsSurvived() async throws {
        var settings = OAuthProvider.Settings()
        settings.grace = .minutes(30)
        try await Self.with(settings) { provider, bench in
            try await Self.killedBetweenAnswerAndCommit(provider, bench) { after in
                try await after.advanceUntil("4 jobs") { try await after.keys() == provider.keys }
                #expect(after.alarms.message(.connectionRefused, "connection shop") == nil)
            }
        }
    }

    /// Without one the token is lost, and that is said at once; a new one from the file brings everything back.
    @Test func withoutGraceAKillBetweenAnswerAndCommitIsSaidAndMendedByANewToken() async throws {
        try await Self.with { provider, bench in
            try await Self.killedBetweenAnswerAndCommit(provider, bench) { after in
                try await waitUntil("the alarm") { after.alarms.message(.connectionRefused, "connection shop") != nil }
                try await Self.authorizedAnew(provider, after)
            }
        }
    }

    private static func killedBetweenAnswerAndCommit(
        _ provider: OAuthProvider, _ bench: Bench, _ body: (Bench) async throws -> Void
    ) async throws {
        try await waitUntil("3 jobs") { try await bench.keys() == provider.keys }
        let before = provider.granted
        // From now on the store takes no answer: the process hangs there until it is gone.
        let hangs = Mutex(false)
        bench.store.beforeCredentials { sealed in
            guard TokenChain(json: sealed)?.claim == nil else { return }
            hangs.withLock { $0 = true }
            try await Task.sleep(for: .seconds(600))
        }
        provider.revokeAccessTokens()
        bench.time.advance(by: .minutes(1))
        provider.add(1)
        try await bench.pollNow()
        try await waitUntil("the answer is about to be stored") { hangs.withLock { $0 } }
        #expect(provider.granted == before + 1)
        bench.store.beforeCredentials(nil)
        try await bench.restarted { after in
            try await after.pollNow()
            try await body(after)
        }
    }

    private static func authorizedAnew(_ provider: OAuthProvider, _ bench: Bench) async throws {
        let alarm = try #require(bench.alarms.message(.connectionRefused, "connection shop"))
        #expect(alarm.contains("authorize again") && alarm.contains("`refresh_token`") && alarm.contains("sluice apply"), "\(alarm)")
        #expect(!alarm.contains("canary"), "\(alarm)")
        let token = provider.authorize()
        bench.catalogue.change("shop") { $0.values["refresh_token"] = token }
        bench.service.connectionChanged(try await bench.trigger().connection)
        try await bench.advanceUntil("the new items") { try await bench.keys() == provider.keys }
        try await waitUntil("the alarm is gone") { bench.alarms.message(.connectionRefused, "connection shop") == nil }
        try await waitUntil("the mark is gone") { try await bench.store.definitions(.default).connections.first?.problem == nil }
    }

    @Test func aRevokedRefreshTokenIsSaidAtOnceAndMendedByANewOne() async throws {
        try await Self.with(triggers: ["items", "more"]) { provider, bench in
            try await waitUntil("3 jobs") { try await bench.keys() == provider.keys }
            provider.revokeRefreshTokens()
            provider.revokeAccessTokens()
            bench.time.advance(by: .minutes(1))
            provider.add(1)
            let asked = provider.forms.count
            try await bench.pollNow()
            try await waitUntil("the alarm") { bench.alarms.message(.connectionRefused, "connection shop") != nil }
            #expect(provider.forms.count <= asked + 2, "the newest and the one before were tried, and no more")
            for _ in 0..<20 { bench.advance(by: .minutes(10)) }
            try await Task.sleep(for: .milliseconds(200))
            #expect(provider.forms.count <= asked + 2, "nobody asks while the connection is refused")
            try await Self.authorizedAnew(provider, bench)
        }
    }

    /// A store that fails when the answer is to be kept: the token is not used, not lost, and no second one is asked for.
    @Test func anAnswerThatCouldNotBeStoredIsOfferedAgain() async throws {
        try await Self.with { provider, bench in
            try await waitUntil("3 jobs") { try await bench.keys() == provider.keys }
            let failing = Mutex(true)
            bench.store.beforeCredentials { sealed in
                if TokenChain(json: sealed)?.claim == nil, failing.withLock({ $0 }) { throw SluiceError(.diskFull, "the disk is full") }
            }
            provider.revokeAccessTokens()
            bench.time.advance(by: .minutes(1))
            provider.add(1)
            try await bench.pollNow()
            try await waitUntil("a failure") { try await bench.trigger().progress.failures > 0 }
            #expect(try await bench.trigger().progress.lastError?.contains("disk_full") == true)
            failing.withLock { $0 = false }
            try await bench.advanceUntil("4 jobs") { try await bench.keys() == provider.keys }
            #expect(provider.granted == 2, "the answer that was there is used")
        }
    }

    /// The token endpoint is down: all triggers of the connection share the wait, and a token that holds still serves.
    @Test func P12_anOutageOfTheTokenEndpointIsSharedByTheConnection() async throws {
        let names = (0..<10).map { "t\($0)" }
        try await Self.with(triggers: names) { provider, bench in
            for name in names { try await waitUntil("jobs of \(name)") { try await bench.keys(name) == provider.keys } }
            provider.failAlways(.status(503))
            // It holds for another half minute.
            bench.time.advance(by: .minutes(59) + .seconds(30))
            provider.add(1)
            try await bench.pollNow("t0")
            try await waitUntil("a job with the old token") { try await bench.keys("t0") == provider.keys }
            let asked = provider.forms.count
            bench.time.advance(by: .minutes(1))
            provider.add(1)
            for name in names { try await bench.pollNow(name) }
            for _ in 0..<20 {
                bench.advance(by: .seconds(30))
                try await Task.sleep(for: .milliseconds(20))
            }
            #expect(provider.forms.count - asked <= 12, "\(provider.forms.count - asked) requests in ten minutes for ten triggers")
            #expect(bench.alarms.message(.connectionRefused, "connection shop") == nil, "an outage is no refusal")
            provider.failAlways(nil)
            for name in names { try await bench.advanceUntil("jobs of \(name)") { try await bench.keys(name) == provider.keys } }
            #expect(provider.granted == 2)
        }
    }

    @Test func afterARestartTheStoredTokenServes() async throws {
        try await Self.with { provider, bench in
            try await waitUntil("3 jobs") { try await bench.keys() == provider.keys }
            provider.add(1)
            try await bench.restarted { after in
                try await after.pollNow()
                try await waitUntil("4 jobs") { try await after.keys() == provider.keys }
            }
            #expect(provider.granted == 1)
        }
    }
}
