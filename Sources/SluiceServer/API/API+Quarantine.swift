import SluiceConnectors
import SluiceCore
import SluicePolling
import SluiceStore

/// Records that could not become jobs, and trying again once the connector is mended.
extension API {
    private static let retriedMax = 1000
    /// So much of a digest tells what is meant.
    private static let digestBytesMin = 6

    func listQuarantine(_ call: APICall) async throws -> APIResponse {
        let trigger = try await trigger(call.parameter("name"))
        let records = try await parts.store.quarantine(.default, trigger: trigger.id, limit: try call.limit())
        return APIResponse.object { writer in
            writer.list("quarantine", records) { writer, record in
                writer.member("reason", record.reason)
                writer.member("digest", Hex.text(record.digest))
                writer.member("record", String(decoding: record.bytes, as: UTF8.self))
            }
            writer.member("total", trigger.progress.quarantined)
        }
    }

    /// `POST /v1/triggers/:name/quarantine/retry`. Takes `{"digests": [...]}`, or nothing for the latest thousand.
    func retryQuarantine(_ call: APICall) async throws -> APIResponse {
        let trigger = try await trigger(call.parameter("name"))
        let (connector, type) = try await retrying(trigger)
        let wanted = try API.digests(call)
        var retry = QuarantineRetry(trigger: trigger.id, generation: trigger.generation, records: [], at: parts.clock.now())
        var left: [(digest: [UInt8], reason: String)] = []
        for part in try await setAside(trigger, wanted) {
            do {
                let keyed = try await keyed(part, trigger, connector, type)
                retry.records.append((digest: part.digest, keyed: keyed))
            } catch let error as SluiceError {
                left.append((digest: part.digest, reason: error.message))
            }
        }
        let report = try await parts.store.retryQuarantine(retry)
        try await clearQuarantineAlarm(trigger)
        return APIResponse.object { writer in
            writer.member("trigger", trigger.name)
            writer.member("jobs", Int64(report.jobs))
            writer.member("removed", Int64(report.removed))
            writer.list("left", left) { writer, part in
                writer.member("digest", Hex.text(part.digest))
                writer.member("reason", part.reason)
            }
        }
    }

    /// `POST /v1/triggers/:name/quarantine/discard`. Takes `{"digests": [...]}`, or `{"all": true}` for the latest thousand.
    func discardQuarantine(_ call: APICall) async throws -> APIResponse {
        let trigger = try await trigger(call.parameter("name"))
        let wanted = try API.digests(call)
        guard (wanted != nil) != (try call.object()["all"]?.bool ?? false) else {
            throw SluiceError(.invalid, "say which records are given up: `digests`, or `all`: true")
        }
        let records = try await setAside(trigger, wanted)
        let report = try await parts.store.retryQuarantine(
            QuarantineRetry(
                trigger: trigger.id, generation: trigger.generation, records: [], discarded: records.map(\.digest), at: parts.clock.now()))
        try await clearQuarantineAlarm(trigger)
        let left = try await self.trigger(trigger.name).progress.quarantined
        return APIResponse.object { writer in
            writer.member("trigger", trigger.name)
            writer.member("discarded", Int64(report.removed))
            writer.member("left", left)
        }
    }

    /// Those with digests that begin so; nil: the latest. Throws `.notFound` for a digest of which there is none.
    private func setAside(_ trigger: StoredTrigger, _ wanted: [[UInt8]]?) async throws -> [QuarantinedRecord] {
        let all = try await parts.store.quarantine(.default, trigger: trigger.id, limit: API.retriedMax)
        guard let wanted else { return all }
        if let unknown = wanted.first(where: { digest in !all.contains { $0.digest.starts(with: digest) } }) {
            throw SluiceError(
                .notFound,
                "nothing with the digest \(Hex.text(unknown)) is set aside: `sluice trigger quarantine \(trigger.name)` lists them")
        }
        return all.filter { part in wanted.contains { part.digest.starts(with: $0) } }
    }

    /// The webhook goes its way once more under another number: what was set aside of it is done with.
    func discardQuarantine(ofWebhook number: Int64, connection: ConnectionID) async throws {
        for trigger in try await definitions().triggers where trigger.connection == connection && trigger.progress.quarantined > 0 {
            let records = try await parts.store.quarantine(.default, trigger: trigger.id, limit: API.retriedMax)
            let digests = records.filter { $0.webhookNumber == number }.map(\.digest)
            guard !digests.isEmpty else { continue }
            let order = QuarantineRetry(
                trigger: trigger.id, generation: trigger.generation, records: [], discarded: digests, at: parts.clock.now())
            do {
                _ = try await parts.store.retryQuarantine(order)
                try await clearQuarantineAlarm(trigger)
            } catch let error as SluiceError where error.code == .conflict || error.code == .notFound {
                // It was changed meanwhile, and keeps its quarantine: the webhook has gone its way all the same.
                continue
            }
        }
    }

    private func clearQuarantineAlarm(_ trigger: StoredTrigger) async throws {
        guard try await parts.store.quarantine(.default, trigger: trigger.id, limit: 1).isEmpty else { return }
        parts.alarms.clear(.quarantined, subject: "trigger \(trigger.name)")
    }

    private static func digests(_ call: APICall) throws -> [[UInt8]]? {
        guard let list = try call.object()["digests"], !list.isNull else { return nil }
        let digests = list.elements?.map { $0.string.flatMap { Hex.bytes($0) } }
        guard let digests, !digests.contains(where: { ($0?.count ?? 0) < API.digestBytesMin }) else {
            throw SluiceError(
                .invalid, "`digests` is a list of digests in hexadecimal as the quarantine's list has them, or of their first 12 digits")
        }
        return digests.compactMap(\.self)
    }

    /// The trigger's connector as it is now, where a record alone is enough for its key.
    private func retrying(_ trigger: StoredTrigger) async throws -> (any Connector, TriggerTypeDefinition) {
        let connection = try await definitions().connections.first { $0.id == trigger.connection }
        guard let connection, let connector = parts.connectors[connection.connector], let type = connector.definition.trigger(trigger.type)
        else {
            throw SluiceError(.conflict, "the connector of \(trigger.name) is not loaded: `sluice connector list` says why")
        }
        if let rules = connector.incremental(triggerType: type.name), !rules.keysStandAlone || type.kind == .longPolling {
            throw SluiceError(
                .conflict,
                "the records of \(trigger.name) get their keys from what they stand in (a partition, a list inside, a second request), "
                    + "which is not set aside with them: have them read again, `sluice backfill start \(trigger.name)`, and "
                    + "then discard what is set aside, `sluice trigger quarantine \(trigger.name) --discard --all`")
        }
        if type.kind == .webhook, type.subscription != nil {
            throw SluiceError(
                .conflict,
                "the webhooks of \(trigger.name) are read with what its subscription gave: `sluice inbox redeliver NUMBER`, with the "
                    + "number that stands in the reason")
        }
        return (connector, type)
    }

    /// What a part that was set aside has become. Throws `SluiceError` with why it still is nothing.
    private func keyed(
        _ part: QuarantinedRecord, _ trigger: StoredTrigger, _ connector: any Connector, _ type: TriggerTypeDefinition
    ) async throws -> [KeyedRecord] {
        if type.kind == .webhook, let number = part.webhookNumber { return try await keyed(webhook: number, trigger, connector, type) }
        if type.countsByDelivery { throw SluiceError(.connector, "it is not known any more which delivery it came with") }
        let records = [Record(bytes: part.bytes[...])]
        return try zip(records, try connector.dedupKeys(triggerType: type.name, records: records)).map { try API.keyed($0, $1) }
    }

    private static func keyed(_ record: Record, _ key: Result<[UInt8], SluiceError>) throws -> KeyedRecord {
        let bytes = try key.get()
        guard !bytes.isEmpty, bytes.count <= KeyedRecord.dedupKeyBytesMax else {
            throw SluiceError(.connector, "its dedup key has \(bytes.count) bytes: from 1 to \(KeyedRecord.dedupKeyBytesMax) are kept")
        }
        return KeyedRecord(record: record, dedupKey: bytes, mark: nil)
    }

    /// The records of a webhook that could not be read, or matched, before; none where it is for somebody else.
    private func keyed(
        webhook number: Int64, _ trigger: StoredTrigger, _ connector: any Connector, _ type: TriggerTypeDefinition
    ) async throws -> [KeyedRecord] {
        guard let item = try await parts.store.inboxItem(.default, InboxSequence(number)) else {
            throw SluiceError(.notFound, "webhook \(number) is not in the inbox any more")
        }
        let input = try JSONDocument(Defaults.filled(trigger.input, type.inputFields))
        let key = try connector.webhookKey(triggerType: type.name, input: input) ?? ""
        if !key.isEmpty, try !connector.webhookKeys(item.request).contains(key) { return [] }
        let records = try connector.webhookNotification(item.request, triggerType: type.name, input: input, output: nil)
        guard type.countsByDelivery else {
            return try zip(records, try connector.dedupKeys(triggerType: type.name, records: records)).map { try API.keyed($0, $1) }
        }
        // As the trigger's own polls make them.
        let id = item.signedDeliveryID(connector)
        return records.enumerated().map { index, record in
            let bytes = WebhookKeys.key(
                signedDeliveryID: id, sequence: item.sequence, receivedAt: item.entry.receivedAt, index: index, of: records.count)
            return KeyedRecord(record: record, dedupKey: bytes, mark: item.entry.receivedAt.milliseconds)
        }
    }
}

extension QuarantinedRecord {
    /// The number of the webhook that this is; nil for a record.
    var webhookNumber: Int64? {
        guard reason.hasPrefix("webhook ") else { return nil }
        return Int64(reason.dropFirst("webhook ".count).prefix { $0 != ":" })
    }
}
