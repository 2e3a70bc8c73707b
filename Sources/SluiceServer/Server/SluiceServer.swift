import AsyncHTTPClient
import Logging
import NIOPosix
import ServiceLifecycle
import SluiceConnectors
import SluiceCore
import SluiceDelivery
import SluiceGateway
import SluiceOutgoing
import SluicePolling
import SluiceStore
import Synchronization

#if canImport(Glibc)
    import Glibc
#elseif canImport(Musl)
    import Musl
#endif

/// How to start a server.
public struct ServerOptions: Sendable {
    public struct Address: Sendable, Equatable {
        public var host: String
        /// 0: any free one.
        public var port: Int
        public init(host: String, port: Int) {
            self.host = host
            self.port = port
        }
        /// As it stands in a URL.
        func url(port: Int) -> String { "http://" + (host.contains(":") ? "[\(host)]" : host) + ":\(port)" }
    }
    public var dataDirectory = "data"
    /// Where webhooks come in.
    public var listen = Address(host: "127.0.0.1", port: 8080)
    /// Where the API answers.
    public var api = Address(host: "127.0.0.1", port: 8081)
    /// How webhooks reach `listen` from outside, if not by its own address.
    public var publicURL: String?
    public var connectorsDirectory: String?
    /// Where files of destinations may lie; nil: in `files` of the data directory.
    public var filesDirectory: String?
    /// Where programs of destinations lie; nil: none may run.
    public var commandsDirectory: String?
    /// A manifest's text, and the values of its references: applied before anything is accepted.
    public var manifest: (text: String, references: [String: String], file: String)?
    /// Over how long polls are spread that make up for webhooks that could not be accepted, at most.
    public var catchUpWindow = Span.minutes(10)
    public var retention = RetentionPolicy()
    /// Webhooks of one connection that may wait for its webhook-only triggers.
    public var unreadWebhooksMax = 1_000_000
    public var logLevel = Logger.Level.info
    public var environment: [String: String] = [:]
    public init() {}
}

/// Puts the parts together: opens the store, joins gateway, polling and delivery to it, and runs them until it is told to
/// stop (SIGTERM, SIGINT), which it does within ten seconds.
public struct SluiceServer: Sendable {
    private let options: ServerOptions
    private let opened: Opened
    private let logger: Logger
    private let alarms: AlarmBoard
    private let shelf: ConnectorShelf
    /// Nil without a connectors directory.
    private let reloader: ConnectorReloader?
    private let catalogue: RuntimeCatalogue
    private let client: HTTPClient
    private let heldClient: HTTPClient
    private let polling: PollingService
    private let subscriptions: SubscriptionService
    private let backfills: BackfillService
    private let callbacks: CallbackDesk
    private let delivery: DeliveryService
    private let feed: JobFeed
    private let consumers: ConsumerService
    private let refusals = RefusalCollector()
    private let desk: HandshakeDesk
    private let gateway: Gateway
    private let control: ServerControl
    private let lifecycle: TriggerLifecycle
    private let address: PublicAddress
    private let localToken = Randomness.apiToken()
    private let api: API

    /// Runs a server to its end. `announce` is given what the person who starts it should read.
    public static func run(_ options: ServerOptions, announce: @escaping @Sendable (String) -> Void) async throws {
        Memory.bound()
        var logger = Logger(label: "sluice")
        logger.logLevel = options.logLevel
        let opened = try await Opened.open(
            dataDirectory: options.dataDirectory, connectorsDirectory: options.connectorsDirectory, environment: options.environment,
            filesDirectory: options.filesDirectory, commandsDirectory: options.commandsDirectory)
        for notice in opened.notices { announce("Note: \(notice)") }
        let server = SluiceServer(options, opened, logger)
        do {
            try await server.prepare(announce)
            try await server.serve(announce)
            try await server.end()
        } catch {
            try? await server.end()
            throw error
        }
    }

    private init(_ options: ServerOptions, _ opened: Opened, _ logger: Logger) {
        self.options = options
        self.opened = opened
        self.logger = logger
        let (store, clock) = (opened.store, opened.clock)
        alarms = AlarmBoard(clock: clock, logger: logger)
        address = PublicAddress(options.publicURL)
        shelf = ConnectorShelf(opened.library, at: clock.now())
        catalogue = RuntimeCatalogue(
            store: store, shelf: shelf, sealer: opened.sealer, alarms: alarms, address: address)
        var limits = PollingService.Limits()
        limits.catchUpWindowMax = options.catchUpWindow
        let configuration = PollingService.clientConfiguration(limits)
        client = HTTPClient(eventLoopGroupProvider: .singleton, configuration: configuration)
        // Of the files that may be open, half are left for webhooks and the rest.
        limits.heldMax = min(limits.heldMax, OpenFiles.raise() / 2)
        let heldConfiguration = PollingService.heldConfiguration(limits)
        heldClient = HTTPClient(eventLoopGroupProvider: .singleton, configuration: heldConfiguration)
        let routes = OutgoingRoutes.polls(configuration)
        polling = PollingService(
            store: store, catalogue: catalogue, time: clock, wallTime: WallClock(), alarms: alarms, client: client, limits: limits,
            logger: logger, random: { Double.random(in: 0..<1) }, guardAddress: { _, _ in }, routes: routes, heldClient: heldClient,
            heldRoutes: .polls(heldConfiguration),
            credentials: SealedCredentials(store: store, sealer: opened.sealer))
        let fetch = GuardedFetch(client: client, time: clock, routes: routes)
        desk = HandshakeDesk(time: clock, logger: logger) { try await fetch.get($0) }
        let stops = DestinationStops()
        delivery = DeliveryService(
            store: store, time: clock, wallTime: WallClock(), alarms: alarms, logger: logger, sieve: { [catalogue] in catalogue.sieve($0) },
            destinationGone: { await stops.gone($0, target: $1, reason: $2) })
        feed = JobFeed(store: store)
        consumers = ConsumerService(store: store, time: clock, alarms: alarms, sieves: catalogue.sieves.ofConsumers)
        var gatewayLimits = GatewayLimits()
        // What the benchmarks compare with: the same listener, reading the same bodies and keeping nothing.
        gatewayLimits.enablesBaseline = options.environment["SLUICE_BENCHMARK_BASELINE"] == "1"
        callbacks = CallbackDesk(
            service: CallbackService(
                store: store, catalogue: catalogue, time: clock, alarms: alarms, polling: polling, logger: logger,
                random: { Double.random(in: 0..<1) }),
            catalogue: catalogue, sealer: opened.sealer, address: address, clock: clock)
        gateway = Gateway(
            store: store, time: clock, wallTime: WallClock(), alarms: alarms, observer: refusals, handshakes: desk, callbacks: callbacks,
            publicURL: { [address] in address.url }, limits: gatewayLimits, logger: logger)
        subscriptions = SubscriptionService(
            store: store, catalogue: catalogue, time: clock, alarms: alarms, polling: polling, logger: logger,
            random: { Double.random(in: 0..<1) }, newToken: { Randomness.endpointToken() })
        backfills = BackfillService(polling: polling)
        control = ServerControl(
            catalogue: catalogue, polling: polling, subscriptions: subscriptions, gateway: gateway, backfills: backfills, time: clock)
        lifecycle = TriggerLifecycle(store: store, clock: clock, control: control, isServing: true) { [subscriptions] in
            subscriptions.settles($0)
        }
        reloader = options.connectorsDirectory.map { [shelf, control, alarms] in
            ConnectorReloader(
                directory: $0, shelf: shelf, store: store, control: control, alarms: alarms, clock: clock, changes: ChangeLock(),
                logger: logger)
        }
        var parts = API.Parts(
            store: store, shelf: shelf, reloader: reloader, sealer: opened.sealer, clock: clock, alarms: alarms, control: control,
            lifecycle: lifecycle, jobs: feed, consumers: consumers, address: address, isServing: true, delivery: delivery,
            places: opened.places)
        parts.callbacks = callbacks
        api = API(
            parts,
            localTokenHash: TokenGate.hash(localToken))
        stops.carryOut { [api, catalogue, logger] in await api.destinationGone($0, target: $1, reason: $2, catalogue, logger) }
        desk.learns { [api, subscriptions] secret, token, connection in
            if try await subscriptions.learn(secret: secret, token: token) { return }
            try await api.learn(secret: secret, token: token, connection: connection)
        }
    }

    /// Everything that must be true before the first webhook is accepted.
    private func prepare(_ announce: @Sendable (String) -> Void) async throws {
        for observer in [polling, feed, delivery, consumers] as [any StoreObserver] { opened.store.observe(observer) }
        catalogue.listen { [gateway, delivery, consumers, places = opened.places] catalogue in
            consumers.definitionsChanged()
            gateway.update(catalogue.gatewayRoutes())
            delivery.update(
                destinations: catalogue.destinations.values.compactMap { CarriedDestinations.destination($0, places) },
                triggers: catalogue.triggerNames)
        }
        catalogue.listenToRoutes { [gateway] in gateway.change(adding: $0, removing: $1) }
        // One server owns a data directory: whatever is claimed was claimed by one that is gone.
        try await delivery.releaseFormerClaims()
        var definitions = try await catalogue.refresh()
        let readers = ConnectorAdoption.inboxReaders(definitions, connectors: shelf.connectors)
        if !readers.isEmpty { try await opened.store.apply(readers, namespace: .default, at: opened.clock.now()) }
        subscriptions.load(definitions, try await opened.store.subscriptions(.default))
        if try await lifecycle.settleAll(definitions.triggers) { definitions = try await catalogue.refresh() }
        try await polling.load(definitions, holder: "process \(getpid())")
        control.loaded(definitions)
        reloader?.begin()
        try await applyManifest(announce)
        for problem in catalogue.current.problems { announce("Warning: \(problem.subject): \(problem.error.message)") }
        for problem in CarriedDestinations.problems(catalogue.current, opened.places) {
            announce("Warning: \(problem). Its deliveries wait until then.")
        }
    }

    private func applyManifest(_ announce: @Sendable (String) -> Void) async throws {
        guard let manifest = options.manifest else { return }
        let request = ApplyRequest(manifest: manifest.text, references: manifest.references, file: manifest.file)
        let answer = await api.respond(to: request.request)
        if let error = answer.error { throw error }
        announce(PlanText.text(answer.body))
    }

    private func chores() -> Chores {
        let unread = UnreadWatch(
            store: opened.store, gateway: gateway, alarms: alarms, unreadMax: options.unreadWebhooksMax, logger: logger)
        let letters = DeadLetterWatch(store: opened.store, alarms: alarms)
        return Chores(
            store: opened.store, clock: opened.clock, retention: options.retention, logger: logger,
            tellRefusals: { [refusals, polling] in refusals.tell(polling) }, countUnread: { await unread.look() },
            tellLetters: { since in
                try await letters.tell(since: since)
                try await letters.clear()
            })
    }

    private func serve(_ announce: @escaping @Sendable (String) -> Void) async throws {
        // Polls begin once webhooks are taken: one that is lost before is made up for by a poll that starts after it.
        let (listening, isListening) = AsyncStream.makeStream(of: Void.self)
        let bound = BoundPorts { [options, address, localToken, polling, opened] publicPort, apiPort in
            polling.webhooksMissed(connection: nil, at: opened.clock.now())
            address.bound(options.listen.url(port: publicPort))
            isListening.finish()
            let session = Session(
                apiURL: options.api.url(port: apiPort), publicURL: address.url ?? "", pid: getpid(), token: localToken)
            do {
                try session.write(dataDirectory: options.dataDirectory)
            } catch {
                announce("Note: commands will not find this server: \(error)")
            }
            announce("Webhooks  \(session.publicURL)/hooks/…   (listening on \(options.listen.url(port: publicPort)))")
            announce("API       \(session.apiURL)/v1/   (token for this machine: \(options.dataDirectory)/local.token)")
            announce("Ready. Stop with Ctrl-C or SIGTERM.")
        }
        let parts: [any Service] = [
            // The first is the last to be ended: tokens that polls asked for are stored before.
            TokenRenewal(polling: polling),
            CancelledAtShutdown { [polling, subscriptions, backfills] in
                for await _ in listening {}
                // Providers may ask something at a URL while they are asked to subscribe it.
                async let polls: Void = polling.run()
                async let windows: Void = backfills.run()
                await subscriptions.run()
                await polls
                await windows
            },
            CancelledAtShutdown { [callbacks] in await callbacks.service.run() },
            EndedAtShutdown(graceSeconds: 5, stop: { [delivery] in delivery.stop() }, body: { [delivery] in await delivery.run() }),
            CancelledAtShutdown { [consumers] in await consumers.run() },
            CancelledAtShutdown { [desk] in await desk.run() },
            chores(),
            APIServer(
                api: api, host: options.api.host, port: options.api.port,
                connectionsMax: max(2000, OpenFiles.raise() * 3 / 4), logger: logger, onBound: { bound.api($0) },
                onShutdown: { [feed, consumers, callbacks] in
                    feed.stopWaiting()
                    consumers.stopWaiting()
                    callbacks.service.stopWaiting()
                }),
            gateway.application(host: options.listen.host, port: options.listen.port, onBound: { bound.listener($0) }),
        ]
        let watches = reloader.map { ConnectorWatch(reloader: $0, interval: .seconds(2), logger: logger) as any Service }
        var configuration = ServiceGroupConfiguration(
            services: (parts + [watches].compactMap { $0 }).map { .init(service: $0) }, gracefulShutdownSignals: [.sigterm, .sigint],
            logger: logger)
        configuration.maximumGracefulShutdownDuration = .seconds(8)
        configuration.maximumCancellationDuration = .seconds(2)
        try await ServiceGroup(configuration: configuration).run()
    }

    private func end() async throws {
        Session.remove(dataDirectory: options.dataDirectory)
        await opened.store.close()
        try await client.shutdown()
        try await heldClient.shutdown()
    }
}

/// Tells once both listeners are bound.
private final class BoundPorts: Sendable {
    private let ports = Mutex<(listener: Int?, api: Int?)>((nil, nil))
    private let body: @Sendable (Int, Int) -> Void

    init(_ body: @escaping @Sendable (Int, Int) -> Void) { self.body = body }

    func listener(_ port: Int) { note { $0.listener = port } }
    func api(_ port: Int) { note { $0.api = port } }

    private func note(_ change: (inout (listener: Int?, api: Int?)) -> Void) {
        let both = ports.withLock { ports -> (Int, Int)? in
            change(&ports)
            if let listener = ports.listener, let api = ports.api { return (listener, api) }
            return nil
        }
        if let both { body(both.0, both.1) }
    }
}
