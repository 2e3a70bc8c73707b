import SluiceConnectors
import SluiceCore
import SluiceStore

/// A poll of a webhook-only trigger: the inbox is its upstream, and its cursor the number of the last webhook it has read.
///
/// The connector makes records of each webhook (`webhook_notification`); what it cannot read is quarantined, and the others go
/// on. A webhook that `webhook_keys` could not match may be anybody's: only a trigger that takes every webhook reads it, for
/// the others it is quarantined until somebody has it matched again (`sluice inbox redeliver`).
struct InboxPoll {
    let store: any InboxStore
    let trigger: StoredTrigger
    let plan: PollPlan

    static let webhooksPerPageMax = 500

    func page(cursor: [UInt8]?) async throws -> PollPage {
        let after = try position(cursor)
        let batch = try await store.readInbox(
            InboxRead(
                connection: trigger.connection, topics: trigger.topics, formerTopics: trigger.formerTopics, after: after ?? .zero,
                since: after == nil ? trigger.createdAt : nil,
                limit: InboxPoll.webhooksPerPageMax))
        let takesAll = try plan.connector.webhookKey(triggerType: trigger.type, input: plan.input)?.isEmpty ?? true
        return try page(of: batch, takesAll: takesAll)
    }

    private func position(_ cursor: [UInt8]?) throws -> InboxSequence? {
        guard let cursor else { return nil }
        guard let number = try? JSONDocument(cursor).root.int64, number >= 0 else {
            throw PollFailure(
                .badCursor,
                SluiceError(.badCursor, "the cursor of a webhook-only trigger is the number of a webhook: set it to one, or reset it"))
        }
        return InboxSequence(number)
    }

    /// What webhooks that were read become. Pure but for the calls of the connector.
    func page(of batch: InboxBatch, takesAll: Bool) throws -> PollPage {
        var page = PollPage(records: [], cursor: InboxPoll.cursor(batch.through), more: batch.more, keys: [])
        for item in batch.items {
            let records: [Record]
            do {
                records = try self.records(of: item, takesAll: takesAll)
            } catch {
                let reason = "webhook \(item.sequence.rawValue): \((error as? SluiceError)?.message ?? "\(error)")"
                page.setAside.append(.init(bytes: item.entry.body, reason: reason, name: "inbox:\(item.sequence.rawValue)"))
                page.cursorMark = item.entry.receivedAt.milliseconds
                continue
            }
            if !page.records.isEmpty, page.records.count + records.count > PollLimits.recordsPerPageMax {
                // The rest comes with the next page, from the webhook before.
                page.cursor = InboxPoll.cursor(InboxSequence(item.sequence.rawValue - 1))
                page.more = true
                break
            }
            add(records, of: item, to: &page)
        }
        page.pageState = page.more ? page.cursor : nil
        if !plan.triggerType.countsByDelivery { page.keys = nil }
        return page
    }

    private func add(_ records: [Record], of item: InboxItem, to page: inout PollPage) {
        let id = item.signedDeliveryID(plan.connector)
        page.records += records
        page.marks += records.map { _ in item.entry.receivedAt.milliseconds }
        page.keys? += records.indices.map {
            .success(
                WebhookKeys.key(
                    signedDeliveryID: id, sequence: item.sequence, receivedAt: item.entry.receivedAt, index: $0, of: records.count))
        }
        page.cursorMark = item.entry.receivedAt.milliseconds
    }

    private func records(of item: InboxItem, takesAll: Bool) throws -> [Record] {
        if !takesAll, let reason = item.entry.unmatchedReason {
            throw SluiceError(
                .connector,
                "it was not matched to a key (\(reason)); mend that, then `sluice inbox redeliver \(item.sequence.rawValue)`")
        }
        let records = try plan.connector.webhookNotification(
            item.request, triggerType: trigger.type, input: plan.input, output: plan.subscriptionOutput)
        guard records.count <= PollLimits.recordsPerPageMax else {
            throw SluiceError(.connector, "it became \(records.count) records, more than \(PollLimits.recordsPerPageMax)")
        }
        return records
    }

    private static func cursor(_ sequence: InboxSequence) -> [UInt8] { Array(String(sequence.rawValue).utf8) }
}

extension InboxItem {
    /// The delivery's id by which its jobs are told apart; nil where none can be trusted.
    public func signedDeliveryID(_ connector: any Connector) -> String? {
        // Only what is told apart by a digest of the whole request came with a signature of its body.
        guard entry.deliveryDigest != nil, let id = entry.deliveryID else { return nil }
        return WebhookKeys.signed(id, of: connector.definition.webhook, body: entry.body)
    }

    /// The webhook as the inbox keeps it: without headers that carry credentials.
    public var request: WebhookRequest {
        let headers = String(decoding: entry.headers, as: UTF8.self).split(separator: "\n").map { line in
            let parts = line.split(separator: ":", maxSplits: 1, omittingEmptySubsequences: false)
            let value = parts.count > 1 ? parts[1].drop { $0 == " " } : ""
            return HTTPField(String(parts[0]), String(value))
        }
        return WebhookRequest(method: entry.method, path: entry.path, query: entry.query, headers: headers, body: entry.body)
    }
}
