import SluiceConnectors
import SluiceCore

/// What came of trying a connection.
public struct ConnectionTestResult: Sendable, Equatable {
    public enum Outcome: String, Sendable, CaseIterable {
        case ok
        /// The API answers 401 or 403, or the token endpoint refuses the credentials.
        case credentialsRefused = "credentials_refused"
        /// Something answers, and it is not the API that was meant.
        case wrongURL = "wrong_url"
        case unreachable
        /// The host answers, and no secure connection comes about.
        case tls
        case forbiddenAddress = "forbidden_address"
        case rateLimited = "rate_limited"
        /// 5xx.
        case providerFault = "provider_fault"
        /// A field is missing or cannot be used: nothing was sent.
        case misconfigured
        /// The connector's own test says so.
        case failed
    }
    public var outcome: Outcome
    /// What is wrong and what mends it. Never holds a secret.
    public var message: String
    public var status: Int?
    public var milliseconds: Int64

    init(_ outcome: Outcome, _ message: String, status: Int? = nil) {
        self.outcome = outcome
        self.message = message
        self.status = status
        milliseconds = 0
    }
}

extension PollingService {
    /// Makes the request that the connector names as its test, or runs its function, as a poll would: same lane, same credentials,
    /// same guard. Without one, reads a page of one of its triggers, or gets an access token. A connection that was refused and works
    /// again is polled at once. Throws `SluiceError` if there is nothing to try.
    public func testConnection(_ connection: ConnectionID) async throws -> ConnectionTestResult {
        guard let rules = catalogue.authorization(of: connection) else {
            throw SluiceError(.connector, "this connection cannot be used: `sluice connection show` says why")
        }
        let start = time.now()
        let keeper = state.withLock { $0.keepers[connection]?.keeper }
        keeper?.forgetFailure()
        var result: ConnectionTestResult
        do {
            if let answer = try await rules.connector?.testConnection(rules.values, http: lane(connection)) {
                result =
                    switch answer {
                    case .works: ConnectionTestResult(.ok, "the connector's own test says that it works")
                    case .failed(let text): ConnectionTestResult(.failed, text)
                    }
            } else if let test = rules.access.test, let base = rules.access.baseURLs.first {
                let plan = try test.plan(base: base, values: rules.values)
                result = PollingService.judge(try await lane(connection).send(plan))
            } else if let works = try await readsAPage(connection) {
                result = works
            } else if let keeper = keeper ?? state.withLock({ $0.keepers[connection]?.keeper }) {
                _ = try await keeper.token()
                result = ConnectionTestResult(.ok, "the provider gives an access token; the connector names no request to try it with")
            } else {
                throw SluiceError(
                    .conflict,
                    "the connector of \(rules.name) names no request to try: add `test = { path = \"/…\" }` or a function to its "
                        + "`connection`, or define a trigger of it, whose poll is tried then")
            }
        } catch let error as SluiceError where error.code != .invalid && error.code != .conflict {
            result = PollingService.judge(PollFailure.classify(error))
        } catch let failure as PollFailure {
            result = PollingService.judge(failure)
        }
        result.message = scrubber(of: connection).scrubbed(result.message)
        result.milliseconds = (time.now() - start).milliseconds
        if result.outcome == .ok, state.withLock({ $0.schedule.isRefused(connection) }) {
            let now = time.now()
            state.withLock { $0.schedule.setRefused(connection, probeAt: now) }
            lookAgain()
        }
        return result
    }

    /// Where the connector names nothing to try: a page as one of the connection's triggers would read it next. Nothing of it is kept.
    private func readsAPage(_ connection: ConnectionID) async throws -> ConnectionTestResult? {
        let triggers = try await store.definitions(.default).triggers.filter { $0.connection == connection && $0.state != .stopped }
        for trigger in triggers.prefix(20) {
            let plan = try catalogue.plan(for: trigger)
            guard plan.triggerType.kind != .webhook else { continue }
            let now = time.now()
            let page = try await plan.connector.poll(
                PollRequest(
                    triggerType: trigger.type, connection: plan.connection, input: plan.input, cursor: trigger.progress.cursor,
                    pageState: nil, readBound: now, now: now), http: lane(connection))
            return ConnectionTestResult(
                .ok,
                "the poll of the trigger \(trigger.name) works: \(page.records.count) records on its next page, of which nothing was kept")
        }
        return nil
    }

    private static func judge(_ reply: HTTPReply) -> ConnectionTestResult {
        var result = verdict(reply)
        if result.outcome != .ok, let words = ConnectionTest.words(of: reply) { result.message += "; it says: " + words }
        return result
    }

    private static func verdict(_ reply: HTTPReply) -> ConnectionTestResult {
        switch reply.status {
        case 200..<300: return ConnectionTestResult(.ok, "the provider answers and takes the credentials", status: reply.status)
        case 401:
            return ConnectionTestResult(.credentialsRefused, "the provider refuses the credentials: correct them", status: reply.status)
        case 403:
            return ConnectionTestResult(
                .credentialsRefused, "the provider knows the credentials or not, and does not let them do this: check what they may do",
                status: reply.status)
        case 408, 425, 500...599:
            return ConnectionTestResult(
                .providerFault, "the provider answers with a fault of its own: try again later", status: reply.status)
        case 429:
            return ConnectionTestResult(
                .rateLimited, "the provider limits our requests at the moment: try again later", status: reply.status)
        case 300..<400:
            return ConnectionTestResult(.wrongURL, "the base URL redirects elsewhere: give the final address", status: reply.status)
        default:
            return ConnectionTestResult(
                .wrongURL, "something answers at the base URL, but not to this request: check the base URL", status: reply.status)
        }
    }

    private static func judge(_ failure: PollFailure) -> ConnectionTestResult {
        let message = failure.error.message
        let status = failure.error.context["status"].flatMap { Int($0) }
        switch (failure.error.code, failure.kind) {
        case (.forbiddenAddress, _): return ConnectionTestResult(.forbiddenAddress, message)
        case (.rateLimited, _), (_, .rateLimited): return ConnectionTestResult(.rateLimited, message, status: status)
        case (.providerAuth, _), (_, .unauthorized): return ConnectionTestResult(.credentialsRefused, message, status: status)
        case (.providerUnreachable, _):
            return ConnectionTestResult(failure.error.context["cause"] == "tls" ? .tls : .unreachable, message)
        case (.providerStatus, _): return ConnectionTestResult(.providerFault, message, status: status)
        case (.providerAnswer, _): return ConnectionTestResult(.wrongURL, message, status: status)
        case (_, .transient): return ConnectionTestResult(.unreachable, message)
        default: return ConnectionTestResult(.misconfigured, message)
        }
    }
}
