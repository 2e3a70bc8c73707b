import Hummingbird
import Logging
import ServiceLifecycle
import SluiceCore
import Synchronization
import UnixSignals

/// A provider to test against: a read API and a sender of webhooks, both as unreliable as wished, over real HTTP on
/// 127.0.0.1. The rules are in pure structs (`ProviderWorld`, `ProviderAPI`, `WebhookMischief`); this holds their state.
///
///     try await StandInProvider.with(.init(changesPerSecond: 50, rates: .hostile)) { provider in
///         provider.setWebhookTarget(.init(url: …, user: …, password: …))
///         provider.makeChanges(3)
///         … provider.baseURL, provider.changes, provider.reads …
///     }
///
/// Beside the API it answers `GET /_log[?after=SEQ]` (the change log as JSON lines), `GET /_counts`, `POST /_pause`,
/// `POST /_resume` and `POST /_change?count=N[&resource=R]`, all without a key.
public final class StandInProvider: Sendable {
    public struct Settings: Sendable {
        /// The user name of the API's basic auth.
        public var apiKey: String
        /// 0 takes a free port.
        public var port: Int
        public var seed: UInt64
        /// Changes it makes by itself; 0 for none.
        public var changesPerSecond: Double
        /// Share of instants at which it makes two to eight changes at once.
        public var burstShare: Double
        public var world: ProviderWorld.Settings
        public var rates: WebhookMischief.Rates
        public var faults: ProviderFaults
        public var webhooksInFlightMax: Int
        public var webhookTimeoutSeconds: Int
        public var now: @Sendable () -> Timestamp

        public init(
            apiKey: String = "stand_in_key", port: Int = 0, seed: UInt64 = 1, changesPerSecond: Double = 0, burstShare: Double = 0.15,
            world: ProviderWorld.Settings = .init(), rates: WebhookMischief.Rates = .none, faults: ProviderFaults = .none,
            webhooksInFlightMax: Int = 32, webhookTimeoutSeconds: Int = 10, now: @escaping @Sendable () -> Timestamp = { SystemTime.now() }
        ) {
            self.apiKey = apiKey
            self.port = port
            self.seed = seed
            self.changesPerSecond = changesPerSecond
            self.burstShare = burstShare
            self.world = world
            self.rates = rates
            self.faults = faults
            self.webhooksInFlightMax = webhooksInFlightMax
            self.webhookTimeoutSeconds = webhookTimeoutSeconds
            self.now = now
        }
    }

    /// Where webhooks go, and the basic auth they carry; no `Authorization` without a user.
    public struct WebhookTarget: Sendable, Equatable {
        public var url: String
        public var user: String?
        public var password: String

        public init(url: String, user: String? = nil, password: String = "") {
            self.url = url
            self.user = user
            self.password = password
        }

        /// Reads a file's text: the URL on its first line and, if there is a second, `USER:PASSWORD`. Nil without a URL.
        public init?(file text: String) {
            let lines = text.split(whereSeparator: \.isNewline)
            guard let url = lines.first, url.hasPrefix("http") else { return nil }
            self.init(url: String(url))
            if lines.count > 1 {
                let parts = lines[1].split(separator: ":", maxSplits: 1, omittingEmptySubsequences: false)
                user = String(parts[0])
                password = parts.count > 1 ? String(parts[1]) : ""
            }
        }
    }

    struct State: Sendable {
        var world: ProviderWorld
        var mischief: WebhookMischief
        var faults: ProviderFaults
        var queue = WebhookQueue()
        var counts = ProviderCounts()
        var inFlight = 0
        var reads: [ProviderAPI.Read] = []
        var lastWebhookSentAt: Timestamp?
        var target: WebhookTarget?
        var isPaused = false
        var isStopping = false
        var port: Int?
        var group: ServiceGroup?
        /// Of the world and the webhooks: the same seed makes the same changes, whatever is read meanwhile.
        var random: ProviderRandom
        /// Of the API's faults.
        var faultRandom: ProviderRandom
    }

    static let readsMax = 100_000

    public let settings: Settings
    let state: Mutex<State>

    public init(_ settings: Settings = Settings()) {
        self.settings = settings
        state = Mutex(
            State(
                world: ProviderWorld(settings: settings.world), mischief: WebhookMischief(rates: settings.rates), faults: settings.faults,
                random: ProviderRandom(seed: settings.seed), faultRandom: ProviderRandom(seed: ~settings.seed)))
    }

    /// Runs a provider for as long as `body` takes.
    @discardableResult
    public static func with<Result: Sendable>(
        _ settings: Settings = Settings(), _ body: @Sendable (StandInProvider) async throws -> Result
    ) async throws -> Result {
        let provider = StandInProvider(settings)
        let (ready, continuation) = AsyncStream.makeStream(of: Void.self, bufferingPolicy: .bufferingNewest(1))
        return try await withThrowingTaskGroup(of: Void.self) { group in
            group.addTask {
                defer { continuation.finish() }
                try await provider.run { continuation.yield() }
            }
            var started = false
            for await _ in ready {
                started = true
                break
            }
            if !started {
                try await group.waitForAll()
                throw SluiceError(.internalError, "The stand-in provider ended before it listened.")
            }
            let result = try await body(provider)
            await provider.stop()
            try await group.waitForAll()
            return result
        }
    }

    /// Runs until it is stopped, cancelled or gets one of `signals`. `onReady` is called once it listens.
    public func run(signals: [UnixSignal] = [], onReady: @escaping @Sendable () -> Void = {}) async throws {
        var logger = Logger(label: "stand-in-provider")
        logger.logLevel = .critical
        let application = Application(
            responder: CallbackResponder<BasicRequestContext> { request, _ in await self.respond(to: request) },
            configuration: .init(address: .hostname("127.0.0.1", port: settings.port), serverName: "stand-in-provider"),
            onServerRunning: { channel in
                self.state.withLock { $0.port = channel.localAddress?.port }
                onReady()
            }, logger: logger)
        var configuration = ServiceGroupConfiguration(
            services: [
                .init(service: application),
                .init(service: ProviderLoop(body: { try await self.keepChanging() })),
                .init(service: ProviderLoop(body: { try await WebhookSender(provider: self).run() })),
            ], gracefulShutdownSignals: signals, logger: logger)
        configuration.maximumGracefulShutdownDuration = .seconds(3)
        let group = ServiceGroup(configuration: configuration)
        state.withLock { $0.group = group }
        try await withTaskCancellationHandler {
            try await group.run()
        } onCancel: {
            self.state.withLock { $0.isStopping = true }
        }
    }

    /// Ends `run`: no more answers, no more webhooks.
    public func stop() async {
        let group = state.withLock { state in
            state.isStopping = true
            return state.group
        }
        await group?.triggerGracefulShutdown()
    }

    /// The port it listens on. Known once it listens.
    public var port: Int { state.withLock { $0.port ?? settings.port } }
    /// For example http://127.0.0.1:40123, without a slash at the end.
    public var baseURL: String { "http://127.0.0.1:\(port)" }
    /// The change log.
    public var changes: [ProviderChange] { state.withLock { $0.world.changes } }
    /// The pages that were asked for, the oldest first; at most 100,000.
    public var reads: [ProviderAPI.Read] { state.withLock { $0.reads } }
    /// When the last real webhook was about to leave, by the same clock as `reads`.
    public var lastWebhookSentAt: Timestamp? { state.withLock { $0.lastWebhookSentAt } }

    public var counts: ProviderCounts {
        state.withLock { state in
            var counts = state.counts
            counts.changes = state.world.changes.count
            counts.planned = state.mischief.counts
            counts.pending = state.queue.count + state.inFlight
            return counts
        }
    }

    /// Where webhooks go from now on; nil for nowhere.
    public func setWebhookTarget(_ target: WebhookTarget?) { state.withLock { $0.target = target } }
    public func setRates(_ rates: WebhookMischief.Rates) { state.withLock { $0.mischief.rates = rates } }
    public func setFaults(_ faults: ProviderFaults) { state.withLock { $0.faults = faults } }
    /// Whether it makes changes by itself; `makeChanges` works either way.
    public func setPaused(_ isPaused: Bool) { state.withLock { $0.isPaused = isPaused } }

    /// Makes `count` changes at this instant and plans their webhooks.
    @discardableResult
    public func makeChanges(_ count: Int = 1, resource: String? = nil) -> [ProviderChange] {
        let now = settings.now()
        return state.withLock { state in (0..<count).map { _ in Self.makeChange(&state, at: now, resource: resource) } }
    }

    private static func makeChange(_ state: inout State, at now: Timestamp, resource: String?) -> ProviderChange {
        let change = state.world.makeChange(at: now, resource: resource, using: &state.random)
        for webhook in state.mischief.plan(change, at: now, using: &state.random) where !state.queue.insert(webhook) {
            state.counts.statuses[webhook.kind, default: [:]]["overflow", default: 0] += 1
        }
        return change
    }

    private func keepChanging() async throws {
        let rhythm = ChangeRhythm(rate: settings.changesPerSecond, burstShare: settings.burstShare)
        var random = ProviderRandom(seed: settings.seed &+ 1)
        while true {
            let step = settings.changesPerSecond > 0 ? rhythm.next(using: &random) : (waitMilliseconds: 1000, changes: 0)
            try await Task.sleep(for: .milliseconds(step.waitMilliseconds))
            let now = settings.now()
            // In one go: whoever has paused it sees no further change.
            state.withLock { state in
                if state.isPaused { return }
                for _ in 0..<step.changes { _ = Self.makeChange(&state, at: now, resource: nil) }
            }
        }
    }
}

/// A loop that ends by cancellation when the provider stops.
private struct ProviderLoop: Service {
    let body: @Sendable () async throws -> Void

    func run() async throws {
        do {
            try await cancelWhenGracefulShutdown(body)
        } catch is CancellationError {
            // The way it ends.
        }
    }
}
