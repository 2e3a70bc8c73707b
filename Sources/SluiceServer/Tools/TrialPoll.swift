import SluiceConnectors
import SluiceCore
import SluicePolling
import Synchronization

/// What is polled in a trial.
struct TrialPoll: Sendable {
    var connector: any Connector
    var type: TriggerTypeDefinition
    var connection: JSONDocument
    var input: JSONDocument
    var now: Timestamp
    var order: Trial.Order

    func request(cursor: [UInt8]?, pageState: [UInt8]?) -> PollRequest {
        PollRequest(
            triggerType: type.name, connection: connection, input: input, cursor: cursor, pageState: pageState, readBound: now)
    }

    func keys(of page: PollPage) throws -> [Result<[UInt8], SluiceError>] {
        let keys = try page.keys ?? connector.dedupKeys(triggerType: type.name, records: page.records)
        return keys.map { $0.map(page.wholeKey) }
    }
}

extension Trial {
    /// Gives a way for held requests to a body; nil if they were let go of before its end.
    typealias Holding = ((any HTTPSending) async throws -> Void) async throws -> Void?
    /// Calls of `long_poll` that bring nothing, at most.
    private static let heldRoundsMax = 1000

    /// Over the network.
    mutating func run(_ poll: TrialPoll, _ clock: AnchoredClock, _ scrubber: SecretScrubber) async throws {
        let definition = poll.connector.definition
        let secrets = TrialSecrets()
        let asked = TrialAsked()
        var access: PollLane.Access?
        var tokens: TrialTokens?
        if definition.access.authorization != nil {
            let authorization = ConnectionAuthorization(
                name: "this connection", access: definition.access, values: poll.connection,
                secretFields: definition.connectionFields.filter(\.isSecret).map(\.name))
            tokens = try Trial.tokens(authorization, poll.order)
            var made = PollLane.Access(authorization)
            made.credentials = tokens
            made.gives = { secrets.add($0.value, "access_token") }
            if let grant = definition.access.authorization?.grant {
                let request = TokenRequest(grant: grant, values: poll.connection, secrets: [])
                made.asked = { plan, result in
                    secrets.add(request, plan, result)
                    asked.tell(plan, result)
                }
            }
            access = made
        }
        let lane = PollLane(settings: ConnectionPollSettings(allowsPrivate: poll.order.allowsPrivate), time: clock, access: access)
        let recorder = TrialRecorder(lane.http, time: clock)
        asked.listener = recorder
        let before = self
        self = await lane.use {
            var trial = before
            await trial.follow(poll, recorder) { body in
                try await lane.holding(for: .seconds(poll.order.holdSeconds)) { try await body($0) }
            }
            return trial
        }
        await lane.close()
        // It holds the lane, which holds those who tell it.
        asked.listener = nil
        finish(poll, recorder, secrets.add(to: scrubber))
        if let newest = tokens?.newest, let file = poll.order.tokensFile, let seed = Trial.seed(poll), newest != seed {
            notes.append(
                "the provider has given another refresh token: \(file) holds the newest one. The one that you gave may be good no more, "
                    + "also for a server that has it.")
        }
        tokens?.release()
    }

    /// From a recording.
    mutating func run(_ poll: TrialPoll, _ recorder: TrialRecorder, held: @escaping Holding, _ scrubber: SecretScrubber) async {
        await follow(poll, recorder) { body in
            do { return try await held(body) } catch is TrialReplayer.LetGo { return nil }
        }
        finish(poll, recorder, scrubber)
    }

    private static func seed(_ poll: TrialPoll) -> String? {
        guard let grant = poll.connector.definition.access.authorization?.grant else { return nil }
        return try? TokenRequest(grant: grant, values: poll.connection, secrets: []).seedToken()
    }

    /// A refresh token is spent only where the next one can be kept.
    private static func tokens(_ authorization: ConnectionAuthorization, _ order: Order) throws -> TrialTokens? {
        guard let grant = authorization.access.authorization?.grant else { return nil }
        let request = TokenRequest(grant: grant, values: authorization.values, secrets: [])
        let seed: String
        do throws(PollFailure) {
            guard let found = try request.seedToken() else { return nil }
            seed = found
        } catch {
            throw error.error
        }
        guard let file = order.tokensFile else {
            let field = request.refreshTokenField ?? "refresh_token"
            throw SluiceError(
                .invalid,
                "this connection gets its access by a refresh token (`\(field)`). Many providers take one out of use when it is spent, and "
                    + "a server that has it would be refused from then on. Authorize once more for tries and give --tokens FILE, where the "
                    + "newest one is kept; or try the connection where it runs: `sluice connection test NAME`")
        }
        return try TrialTokens(file, seedToken: seed)
    }

    // MARK: The poll itself

    private mutating func follow(_ poll: TrialPoll, _ http: TrialRecorder, _ holding: Holding) async {
        do {
            var pageState: [UInt8]?
            var more = true
            for _ in 0..<max(1, poll.order.pages) where more {
                let page = try await poll.connector.poll(poll.request(cursor: cursorAfter, pageState: pageState), http: http)
                try take(page, poll)
                (pageState, more) = (page.pageState, page.more)
            }
            guard poll.type.kind == .longPolling, !more, poll.order.holdSeconds > 0 else { return }
            try await hold(poll, http, holding)
        } catch {
            fail(error)
        }
    }

    private mutating func fail(_ error: any Error) {
        let classified = PollFailure.classify(error)
        let isConnectors = !(error is PollFailure) && classified.error.code == .connector
        failureKind = isConnectors ? "connector" : "\(classified.kind)"
        // What is set beside a URL in sluice.yaml is an option here.
        failure = classified.error.description.replacing(
            "set allow_private: true or allow_networks where the URL is set", with: "give --allow-private")
    }

    /// Holds requests until something comes of one.
    private mutating func hold(_ poll: TrialPoll, _ http: TrialRecorder, _ holding: Holding) async throws {
        var trial = self
        let ended: Void? = try await holding { held in
            let recorder = TrialRecorder(held, goingOnWith: http)
            for _ in 0..<Trial.heldRoundsMax {
                let page = try await poll.connector.longPoll(poll.request(cursor: trial.cursorAfter, pageState: nil), http: recorder)
                try trial.take(page, poll)
                if !page.records.isEmpty { return }
            }
        }
        self = trial
        if ended == nil {
            notes.append("a request was held for \(poll.order.holdSeconds) s and nothing came: make a change there, or --hold-seconds more")
        }
    }

    private mutating func take(_ page: PollPage, _ poll: TrialPoll) throws {
        let keys = try poll.keys(of: page)
        // Of a long poll only what brought something is a page to be shown.
        if poll.type.kind != .longPolling || pages.isEmpty || !page.records.isEmpty || !page.warnings.isEmpty {
            pages.append(shown(page, keys))
        }
        if let cursor = page.cursor { cursorAfter = cursor }
    }

    /// All secrets are known now.
    private mutating func finish(_ poll: TrialPoll, _ recorder: TrialRecorder, _ scrubber: SecretScrubber) {
        exchanges = recorder.exchanges(scrubber)
        failure = failure.map(scrubber.text)
        cursorAfter = cursorAfter.map { scrubber.body($0) }
        for index in pages.indices { pages[index].scrub(scrubber) }
        guard failure == nil else { return }
        notePages(poll)
        noteVersions(poll)
    }
}

/// Where token requests are told to before there is somebody to hear.
private final class TrialAsked: Sendable {
    private let kept = Mutex<TrialRecorder?>(nil)
    var listener: TrialRecorder? {
        get { kept.withLock { $0 } }
        set { kept.withLock { $0 = newValue } }
    }

    func tell(_ plan: HTTPRequestPlan, _ result: Result<HTTPReply, any Error>) {
        guard let listener else { return }
        listener.keep(plan, result, since: listener.now)
    }
}
