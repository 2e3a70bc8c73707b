import SluiceConnectors
import SluiceCore
import SluiceStore

/// How the keys of a slice's records are made, and how they were made before.
struct SliceKeys: Sendable {
    /// Set where it is not what the store has yet.
    var changed: KeyOrigin?
    /// The former connectors by which keys were made that may come again.
    var formers: [any Connector] = []

    /// For `PollRequest.formerRules`.
    func rules(_ type: String) -> [Incremental] { formers.compactMap { $0.incremental(triggerType: type) } }

    /// The former keys of each record of a page; empty where there are none.
    func formerKeys(_ page: PollPage, _ type: String) -> [[[UInt8]]] {
        guard !formers.isEmpty else { return [] }
        let isMade = page.keys != nil && page.formerKeys.count == page.records.count
        var result = isMade ? page.formerKeys : [[[UInt8]]](repeating: [], count: page.records.count)
        for former in formers where !isMade || former.incremental(triggerType: type) == nil {
            // One that had no such trigger type, or whose code fails now, made none of these keys.
            guard let keys = try? former.dedupKeys(triggerType: type, records: page.records), keys.count == result.count else { continue }
            for (index, key) in keys.enumerated() {
                if case .success(let bytes) = key { result[index].append(bytes) }
            }
        }
        return result
    }
}

extension PollingService {
    /// Former connectors that are kept in memory.
    private static let formersMax = 32

    /// By which connectors the keys of a trigger's records were and will be made.
    static func keyOrigin(_ progress: TriggerProgress, _ definition: ConnectorDefinition) -> KeyOrigin {
        KeyOrigin.next(
            after: progress.keyOrigin, connector: definition.hash,
            marked: [progress.markedThrough, progress.cursorMark].compactMap(\.self).max(),
            floor: progress.dedupFloor,
            cyclesCompleted: progress.cyclesCompleted)
    }

    /// How the keys of a trigger's next page are made. The connector's text is kept before anything is keyed by it.
    func sliceKeys(_ trigger: StoredTrigger, _ connector: any Connector) async throws -> SliceKeys {
        let (definition, progress) = (connector.definition, trigger.progress)
        let origin = PollingService.keyOrigin(progress, definition)
        if origin == progress.keyOrigin, origin.formers.isEmpty { return SliceKeys() }
        if let source = definition.source, !state.withLock({ $0.textsKept.contains(definition.hash) }) {
            try await store.keepConnectorText(source, hash: definition.hash, at: time.now())
            state.withLock { _ = $0.textsKept.insert(definition.hash) }
        }
        var keys = SliceKeys(changed: origin == progress.keyOrigin ? nil : origin)
        for former in origin.formers {
            guard let connector = try await self.former(former.connector) else {
                guard keys.changed != nil else { continue }
                logger.warning(
                    "the connector changed, and how it made dedup keys before is not known: what it reads again may become jobs again",
                    metadata: ["trigger": "\(trigger.name)", "former": "\(former.connector)"])
                continue
            }
            keys.formers.append(connector)
        }
        return keys
    }

    /// A connector as it was; nil where its text is not kept, as of those that are compiled in.
    private func former(_ hash: String) async throws -> (any Connector)? {
        if let known = state.withLock({ $0.formers[hash] }) { return known }
        guard let text = try await store.connectorText(hash: hash), let connector = try? catalogue.connector(ofText: text) else {
            return nil
        }
        state.withLock { state in
            if state.formers.count >= PollingService.formersMax { state.formers = [:] }
            state.formers[hash] = connector
        }
        return connector
    }
}
