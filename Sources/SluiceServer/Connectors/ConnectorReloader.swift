import Crypto
import Logging
import NIOPosix
import ServiceLifecycle
import SluiceConnectors
import SluiceCore
import SluiceLua
import SluiceStore
import Synchronization

/// Takes changed connector files up while the server runs. A broken one keeps the last good one running, and says so: alarm
/// `connector_broken`, `sluice connector list`, the log. A new directory is picked up; one that is gone runs on until a restart.
///
/// What changes with a connector: the next cycle of each of its triggers (one that is under way ends its slice with the old one),
/// the schemes and routes of its webhooks, which topics its triggers listen to, and how often they poll.
public final class ConnectorReloader: Sendable {
    /// What one look at the directory found.
    public struct Report: Sendable {
        /// New or changed, and loaded.
        public var loaded: [String] = []
        /// Not loaded: a new fault, or one that stands.
        public var broken: [String] = []
        /// Their files are gone; they run on.
        public var gone: [String] = []
    }

    private let directory: String
    private let shelf: ConnectorShelf
    private let store: any Store
    private let control: any TriggerControl
    private let alarms: any AlarmReporting
    private let clock: any TimeSource
    private let logger: Logger
    /// Shared with the API: definitions are changed by one at a time.
    let changes: ChangeLock
    private struct State {
        var files = ConnectorFiles()
        /// Loaded, and what follows from it is not done yet.
        var pending: Set<String> = []
    }
    private let state = Mutex(State())

    init(
        directory: String, shelf: ConnectorShelf, store: any Store, control: any TriggerControl, alarms: any AlarmReporting,
        clock: any TimeSource, changes: ChangeLock, logger: Logger
    ) {
        (self.directory, self.shelf, self.store, self.control) = (directory, shelf, store, control)
        (self.alarms, self.clock, self.changes, self.logger) = (alarms, clock, changes, logger)
    }

    /// Raises alarms for what could not be loaded at the start.
    func begin() { for (name, problem) in shelf.problems { raise(problem, of: name) } }

    /// Looks at the directory and takes over what is new. Throws if the directory cannot be read, or the store fails: then the
    /// next look does what is left.
    public func reload() async throws -> Report {
        try await changes.run {
            let loaded = try await NIOThreadPool.singleton.runIfActive { try self.read() }
            let pending = self.state.withLock { state in
                state.pending.formUnion(loaded.changed)
                return state.pending
            }
            if !pending.isEmpty {
                try await self.adopt(pending)
                self.state.withLock { $0.pending.subtract(pending) }
            }
            return Report(loaded: loaded.changed.sorted(), broken: self.shelf.problems.keys.sorted(), gone: loaded.gone)
        }
    }

    // MARK: Files

    /// Blocks. Which connectors have changed, and which files are gone.
    private func read() throws -> (changed: [String], gone: [String]) {
        let seen = try ConnectorStamps.all(in: directory)
        let (names, gone) = state.withLock { $0.files.look(seen, nowNanoseconds: ConnectorStamps.nowNanoseconds()) }
        for name in gone {
            let runs = shelf.connector(name) != nil
            logger.warning(
                "a connector's file is gone\(runs ? "; it runs on until the server starts again" : "")",
                metadata: ["connector": "\(name)"])
            if runs {
                let error = SluiceError(.connector, "its file is gone: it runs on until the server starts again")
                _ = shelf.setProblem(.init(file: path(name), error: error, since: clock.now()), of: name)
                alarms.clear(.connectorBroken, subject: "connector \(name)")
            } else if shelf.clearProblem(of: name) {
                alarms.clear(.connectorBroken, subject: "connector \(name)")
            }
        }
        return (names.filter(load), gone)
    }

    private func path(_ name: String) -> String { "\(directory)/\(name)/connector.lua" }

    /// Whether the connector is another one now.
    private func load(_ name: String) -> Bool {
        let path = path(name)
        do {
            guard let source = try SmallFile.read(path, bytesMax: LuaConnector.sourceBytesMax) else { return false }
            let current = shelf.connector(name)?.definition
            if let current, current.language != "lua" {
                throw SluiceError(.connector, "there are two connectors named \(name): rename one").with("file", path)
            }
            if current?.hash == Hex.text(SHA256.hash(data: source)) {
                // As it runs: perhaps it was broken for a while, and mended by taking the change back.
                mended(name)
                return false
            }
            let connector = try LuaConnector.load(source: source, name: name, path: path)
            _ = shelf.put(connector)
            mended(name)
            logger.notice(
                "a connector was loaded",
                metadata: [
                    "connector": "\(name)", "version": "\(connector.definition.version)", "hash": "\(connector.definition.hash.prefix(12))",
                ])
            return true
        } catch {
            let error = error as? SluiceError ?? SluiceError(.connector, "\(path): \(error)")
            let problem = ConnectorShelf.Problem(file: path, error: error, since: clock.now())
            if shelf.setProblem(problem, of: name) { raise(problem, of: name) }
            return false
        }
    }

    private func mended(_ name: String) {
        _ = shelf.clearProblem(of: name)
        alarms.clear(.connectorBroken, subject: "connector \(name)")
    }

    private func raise(_ problem: ConnectorShelf.Problem, of name: String) {
        let runs =
            shelf.connector(name).map { "version \($0.definition.version) (\($0.definition.hash.prefix(12))) runs on" } ?? "nothing runs"
        let message = "\(problem.error.message); \(runs) until the file is mended"
        logger.error("a connector is broken", metadata: ["connector": "\(name)", "error": "\(message)"])
        alarms.raise(Alarm(kind: .connectorBroken, subject: "connector \(name)", message: message))
    }

    // MARK: What follows

    /// Brings what is stored in line with connectors that have changed, and tells those who run them.
    private func adopt(_ names: Set<String>) async throws {
        let definitions = try await store.definitions(.default)
        let changes = ConnectorAdoption.changes(
            definitions, connectors: shelf.connectors, changed: names, newToken: Randomness.endpointToken)
        for problem in changes.problems { logger.warning("\(problem)") }
        if !changes.definitions.isEmpty { try await store.apply(changes.definitions, namespace: .default, at: clock.now()) }
        try await control.connectorsChanged(names)
    }
}

/// What is stored and follows from connectors: which topics triggers listen to, and who needs an address. Pure.
enum ConnectorAdoption {
    static func changes(
        _ definitions: Definitions, connectors: [String: any Connector], changed: Set<String>, newToken: () -> String
    ) -> (definitions: [DefinitionChange], problems: [String]) {
        var (changes, problems): ([DefinitionChange], [String]) = ([], [])
        let withEndpoint = Set(definitions.endpoints.map(\.connection))
        let keysByTopic = Dictionary(definitions.topics.map { ($0.id, $0.key) }) { first, _ in first }
        let triggers = Dictionary(grouping: definitions.triggers, by: \.connection)
        for connection in definitions.connections where changed.contains(connection.connector) {
            guard let connector = connectors[connection.connector] else { continue }
            if connector.definition.hasStaticWebhooks, !withEndpoint.contains(connection.id) {
                changes.append(.addEndpoint(connection: connection.name, token: newToken(), othersExpireAt: nil))
            }
            for trigger in triggers[connection.id] ?? [] {
                guard let type = connector.definition.trigger(trigger.type) else { continue }
                if let change = readsInbox(trigger, type) { changes.append(change) }
                do {
                    let keys = try TopicKeys.of(type, connector, input: trigger.input, uid: trigger.uid)
                    guard Set(keys) != Set(trigger.topics.compactMap { keysByTopic[$0] }) else { continue }
                    changes.append(
                        .putTrigger(
                            name: trigger.name, uid: trigger.uid, connection: connection.name, type: trigger.type, input: trigger.input,
                            settings: trigger.settings, topicKeys: keys, resets: false))
                } catch {
                    problems.append(
                        "trigger \(trigger.name) listens as before: \((error as? SluiceError)?.message ?? "its webhook_key failed")")
                }
            }
        }
        return (changes, problems)
    }

    /// Of connectors that were exchanged while no server ran: whose webhooks are kept until they are read.
    static func inboxReaders(_ definitions: Definitions, connectors: [String: any Connector]) -> [DefinitionChange] {
        let names = Dictionary(definitions.connections.map { ($0.id, $0.connector) }) { first, _ in first }
        return definitions.triggers.compactMap { trigger in
            names[trigger.connection].flatMap { connectors[$0]?.definition.trigger(trigger.type) }.flatMap { readsInbox(trigger, $0) }
        }
    }

    private static func readsInbox(_ trigger: StoredTrigger, _ type: TriggerTypeDefinition) -> DefinitionChange? {
        let reads = type.kind == .webhook
        return trigger.readsInbox == reads ? nil : .readsInbox(trigger: trigger.name, reads)
    }
}

/// Looks at the directory again and again.
struct ConnectorWatch: Service {
    let reloader: ConnectorReloader
    let interval: Span
    let logger: Logger

    func run() async throws {
        await cancelWhenGracefulShutdown {
            var lastFault: String?
            while !Task.isCancelled {
                try? await Task.sleep(for: .milliseconds(interval.milliseconds))
                if Task.isCancelled { return }
                do {
                    _ = try await reloader.reload()
                    lastFault = nil
                } catch is CancellationError {
                    return
                } catch {
                    // Said once, not every few seconds.
                    if "\(error)" != lastFault { logger.error("connectors cannot be looked at", metadata: ["error": "\(error)"]) }
                    lastFault = "\(error)"
                }
            }
        }
    }
}
