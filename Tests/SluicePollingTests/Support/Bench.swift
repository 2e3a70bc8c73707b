import AsyncHTTPClient
import Logging
import NIOPosix
import SluiceConnectors
import SluiceCore
import SluiceLua
import SluicePolling
import SluiceSQLite
import SluiceStore
import SluiceTesting
import Synchronization

/// A clock that only moves when told to.
final class ManualTime: TimeSource {
    private let milliseconds = Mutex<Int64>(1_700_000_000_000)
    func now() -> Timestamp { Timestamp(milliseconds: milliseconds.withLock { $0 }) }
    func advance(by span: Span) { milliseconds.withLock { $0 += span.milliseconds } }
}

/// The alarms that stand.
final class AlarmLog: AlarmReporting {
    private let standing = Mutex<[String: Alarm]>([:])
    func raise(_ alarm: Alarm) { standing.withLock { $0[alarm.kind.rawValue + " " + alarm.subject] = alarm } }
    func clear(_ kind: Alarm.Kind, subject: String) { standing.withLock { $0[kind.rawValue + " " + subject] = nil } }
    /// As a restart does.
    func forget() { standing.withLock { $0 = [:] } }
    /// The message of an alarm that stands.
    func message(_ kind: Alarm.Kind, _ subject: String) -> String? { standing.withLock { $0[kind.rawValue + " " + subject]?.message } }
}

/// A connection of a bench and its triggers.
struct BenchConnection: Sendable {
    static let key = "polling-key-canary"
    var name = "shop"
    var connector: any Connector
    var url: String
    var triggers = ["items"]
    var settings = ConnectionPollSettings(allowsPrivate: true, requestSpanMax: .seconds(30))
    /// Why it cannot be used, or nil.
    var problem: SluiceError?
    /// Further fields.
    var values: [String: String] = [:]

    var json: [UInt8] {
        var writer = JSONWriter()
        writer.object { writer in
            writer.member("url", url)
            writer.member("api_key", BenchConnection.key)
            for (name, value) in values { writer.member(name, value) }
        }
        return writer.bytes
    }
}

/// What a server's catalogue is to the polling service; its connectors can be exchanged while polls run.
final class BenchCatalogue: PollingCatalogue {
    private let connections = Mutex<[ConnectionID: BenchConnection]>([:])

    func connection(_ id: ConnectionID) -> BenchConnection? { connections.withLock { $0[id] } }
    func set(_ id: ConnectionID, _ connection: BenchConnection) { connections.withLock { $0[id] = connection } }
    func change(_ name: String, _ body: (inout BenchConnection) -> Void) {
        connections.withLock { connections in
            for (id, connection) in connections where connection.name == name {
                var changed = connection
                body(&changed)
                connections[id] = changed
            }
        }
    }

    func timing(of trigger: StoredTrigger) -> TriggerSchedule.Timing {
        let kind = connections.withLock { $0[trigger.connection] }?.connector.definition.triggers.first?.kind
        return TriggerSchedule.Timing(upstream: kind == .webhook ? .inbox : kind == .longPolling ? .held : .polls)
    }

    func plan(for trigger: StoredTrigger) throws -> PollPlan {
        guard let connection = connections.withLock({ $0[trigger.connection] }), let type = connection.connector.definition.triggers.first
        else {
            throw SluiceError(.internalError, "no such connection")
        }
        if let problem = connection.problem { throw problem }
        return PollPlan(
            connector: connection.connector, triggerType: type, connectionName: connection.name,
            connection: try JSONDocument(connection.json), input: try JSONDocument(Array("{\"trigger\":\"\(trigger.name)\"}".utf8)))
    }

    func connector(ofText text: [UInt8]) throws -> any Connector { try LuaConnector.load(source: text, name: "", path: "former") }

    func authorization(of connection: ConnectionID) -> ConnectionAuthorization? {
        guard let found = connections.withLock({ $0[connection] }), let values = try? JSONDocument(found.json) else { return nil }
        let definition = found.connector.definition
        return ConnectionAuthorization(
            name: found.name, access: definition.access, values: values,
            secretFields: definition.connectionFields.filter(\.isSecret).map(\.name), connector: found.connector)
    }

    func settings(of connection: ConnectionID) -> ConnectionPollSettings {
        connections.withLock { $0[connection]?.settings } ?? ConnectionPollSettings()
    }
}

/// The polling service over a real store, on a clock that the test moves.
struct Bench: Sendable {
    let store: FaultyStore
    let time: ManualTime
    let alarms: AlarmLog
    let catalogue: BenchCatalogue
    var service: PollingService
    let client: HTTPClient
    let heldClient: HTTPClient

    /// Runs the service with these connections, their triggers running, for as long as `body` takes.
    static func with(
        _ connections: [BenchConnection], time: ManualTime, limits: PollingService.Limits = .init(), log: LogLines? = nil,
        _ body: (Bench) async throws -> Void
    ) async throws {
        let directory = "/tmp/sluice-polling-\(UInt64.random(in: 0...UInt64.max))"
        let store = FaultyStore(try await offPool { try SQLiteStore.open(SQLiteOptions(directory: directory)) })
        let client = HTTPClient(eventLoopGroupProvider: .singleton, configuration: PollingService.clientConfiguration(limits))
        let heldClient = HTTPClient(eventLoopGroupProvider: .singleton, configuration: PollingService.heldConfiguration(limits))
        let failure = await Result.catching {
            let bench = try await make(connections, store, (client, heldClient), time, limits, log)
            try await withThrowingTaskGroup(of: Void.self) { group in
                group.addTask { await bench.service.run() }
                group.addTask { await bench.service.renewTokens() }
                defer { group.cancelAll() }
                try await body(bench)
            }
        }
        await store.close()
        try await client.shutdown()
        try await heldClient.shutdown()
        try await offPool { try removeDirectory(directory) }
        try failure.get()
    }

    private static func make(
        _ connections: [BenchConnection], _ store: FaultyStore, _ clients: (polls: HTTPClient, held: HTTPClient), _ time: ManualTime,
        _ limits: PollingService.Limits, _ log: LogLines?
    ) async throws -> Bench {
        try await store.apply(connections.flatMap(changes), namespace: .default, at: time.now())
        for trigger in try await store.definitions(.default).triggers {
            _ = try await store.setState(
                StateChange(trigger: trigger.id, generation: trigger.generation, state: .running, reason: nil, at: time.now()))
        }
        let definitions = try await store.definitions(.default)
        let catalogue = BenchCatalogue()
        for stored in definitions.connections {
            if let connection = connections.first(where: { $0.name == stored.name }) { catalogue.set(stored.id, connection) }
        }
        let alarms = AlarmLog()
        let service = service(store, catalogue, alarms, clients, time, limits, log)
        store.observe(service)
        try await service.load(definitions, holder: "test")
        return Bench(
            store: store, time: time, alarms: alarms, catalogue: catalogue, service: service, client: clients.polls,
            heldClient: clients.held)
    }

    private static func service(
        _ store: FaultyStore, _ catalogue: BenchCatalogue, _ alarms: AlarmLog, _ clients: (polls: HTTPClient, held: HTTPClient),
        _ time: ManualTime, _ limits: PollingService.Limits, _ log: LogLines? = nil
    ) -> PollingService {
        var logger = log.map { log in Logger(label: "polling tests") { _ in log } } ?? Logger(label: "polling tests")
        logger.logLevel = log == nil ? .critical : .trace
        return PollingService(
            store: store, catalogue: catalogue, time: time, alarms: alarms, client: clients.polls, limits: limits, logger: logger,
            random: { 0 },
            guardAddress: { host, allowed in
                try AddressGuard.check(host: host, addresses: IPAddress(host).map { [$0] } ?? [], allowed: allowed)
            }, heldClient: clients.held, credentials: PlainCredentials(store: store))
    }

    /// Another process on the same store, after this one was killed: runs for as long as `body` takes.
    func restarted(_ body: (Bench) async throws -> Void) async throws {
        var next = self
        next.service = Bench.service(store, catalogue, alarms, (client, heldClient), time, .init())
        let service = next.service
        try await service.load(try await store.definitions(.default), holder: "after")
        try await withThrowingTaskGroup(of: Void.self) { group in
            group.addTask { await service.run() }
            group.addTask { await service.renewTokens() }
            defer { group.cancelAll() }
            try await body(next)
        }
    }

    private static func changes(_ connection: BenchConnection) -> [DefinitionChange] {
        let empty = Array("{}".utf8)
        return [
            .putConnection(name: connection.name, connector: "feed", fields: empty, sealedSecrets: [], settings: empty)
        ]
            + connection.triggers.map {
                .putTrigger(
                    name: $0, uid: "uid-\($0)", connection: connection.name, type: "item", input: empty, settings: empty, topicKeys: [""],
                    resets: false)
            }
    }

    // MARK: What tests ask and do

    func trigger(_ name: String = "items") async throws -> StoredTrigger {
        guard let trigger = try await store.trigger(.default, named: name) else { throw SluiceError(.notFound, "no trigger \(name)") }
        return trigger
    }

    /// The dedup keys of a trigger's jobs, in their order.
    func keys(_ name: String = "items") async throws -> [String] {
        let page = try await store.jobs(JobQuery(trigger: try await trigger(name).id, limit: 20_000))
        return page.jobs.map { String(decoding: $0.dedupKey, as: UTF8.self) }
    }

    func pollNow(_ name: String = "items") async throws { service.pollNow(try await trigger(name)) }

    /// Moves the clock and lets the service look at it.
    func advance(by span: Span) {
        time.advance(by: span)
        service.lookAgain()
    }

    /// Moves the clock on, half a minute at a time, until something holds.
    func advanceUntil(_ what: String, seconds: Double = 30, _ condition: @Sendable () async throws -> Bool) async throws {
        try await waitUntil(what, seconds: seconds) {
            if try await condition() { return true }
            advance(by: .seconds(30))
            return false
        }
    }

    /// Changes a trigger's state as the server's lifecycle does.
    func command(_ command: TriggerCommand, _ name: String = "items") async throws {
        let trigger = try await trigger(name)
        let (state, effects) = try trigger.state.after(command)
        let changed = try await store.setState(
            StateChange(trigger: trigger.id, generation: trigger.generation, state: state, reason: nil, at: time.now()))
        let cause = effects.compactMap { if case .poll(let cause) = $0 { cause } else { nil } }.first
        service.triggerChanged(changed, poll: cause)
    }
}

extension Result where Success == Void, Failure == any Error {
    static func catching(_ body: () async throws -> Void) async -> Result {
        do { return .success(try await body()) } catch { return .failure(error) }
    }
}

/// Keeps tokens as they are: sealing is the server's.
struct PlainCredentials: CredentialKeeping {
    let store: any Store

    func load(_ connection: ConnectionID, name: String) async throws -> (chain: TokenChain?, version: Int64) {
        let stored = try await store.credentials(connection)
        return (stored.sealed.flatMap(TokenChain.init(json:)), stored.version)
    }

    func replace(
        _ connection: ConnectionID, name: String, version: Int64, by chain: TokenChain, at time: Timestamp
    ) async throws -> Int64? {
        try await store.replaceCredentials(connection, version: version, sealed: chain.json, at: time)
    }
}

/// A Lua connector for `FeedServer`, with other code in its places.
func feed(poll: String = feedPoll, dedup: String = "return record.id", limits: LuaLimits = LuaLimits()) throws -> LuaConnector {
    let source = """
        return { name = "feed", title = "Feed", version = "1",
        connection = { fields = { { name = "url" }, { name = "api_key", secret = true } } },
        triggers = { item = {
        dedup = function(record) \(dedup) end,
        poll = function(connection, input, closure)
        \(poll)
        end } } }
        """
    return try LuaConnector.load(source: Array(source.utf8), name: "feed", path: "feed/connector.lua", limits: limits)
}

let feedPoll = """
    local answer = get(connection.url, {
      params = { after = closure and closure.after or 0 }, headers = { Authorization = "Bearer " .. connection.api_key } })
    if answer.status ~= 200 then error("the list answered " .. answer.status) end
    local page = answer.json
    return { events = page.items, next_poll = { after = page.next }, can_poll_more = page.more }
    """
