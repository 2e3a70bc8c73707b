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
            after: progress.keyOrigin, connector: definition.hash, mark: progress.cursorMark, floor: progress.dedupFloor,
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

/// Which former keys of a record still say that it is known.
enum FormerKeys {
    /// So many of a trigger's newest jobs are looked through for what became of a former key.
    static let jobsLookedThroughMax = 100_000

    /// Drops the former keys whose job held another state of the record, by the keys as they are made now. Under a former key alone,
    /// such as an id without a version, a record that changes after its connector would be taken for known.
    ///
    /// - Parameters:
    ///   - jobs: what is known of each former key, for records that are not known by their own.
    ///   - connector: makes the keys of what the jobs hold; nil where keys are made from what the provider sent, which no job holds: then
    ///     a higher mark tells another state.
    static func withoutStale(
        _ records: [KeyedRecord], _ jobs: [[UInt8]: FormerJob], epoch: String?, connector: (any Connector)?, triggerType: String
    ) -> [KeyedRecord] {
        guard !jobs.isEmpty else { return records }
        let epoch = epoch.map { Array("\($0)/".utf8) } ?? []
        let keys = keysNow(jobs, connector, triggerType).mapValues { epoch + $0 }
        return records.map { record in
            guard !record.formerKeys.isEmpty else { return record }
            var record = record
            record.formerKeys.removeAll { former in
                let key = keys[former]
                // What came with this mark already did not change since, however it is described now.
                if let mark = record.mark, let before = jobs[former]?.mark { return mark > before && key != record.dedupKey }
                return key.map { $0 != record.dedupKey } ?? false
            }
            return record
        }
    }

    /// The keys, as they are made now, of what the jobs hold, by their former ones. None of what lacks the version, as where the provider
    /// was not asked for it before, and none where the connector's code fails on it.
    private static func keysNow(
        _ jobs: [[UInt8]: FormerJob], _ connector: (any Connector)?, _ triggerType: String
    ) -> [[UInt8]: [UInt8]] {
        guard let connector else { return [:] }
        let held = jobs.compactMap { former, job in job.record.map { (former: former, record: $0) } }
        guard !held.isEmpty, let keys = try? connector.dedupKeys(triggerType: triggerType, records: held.map(\.record)) else { return [:] }
        var result: [[UInt8]: [UInt8]] = [:]
        for (held, key) in zip(held, keys) {
            if case .success(let bytes) = key, !Incremental.isMadeOfContent(bytes) { result[held.former] = bytes }
        }
        return result
    }
}
