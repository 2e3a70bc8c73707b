import GRDBSQLite
import SluiceCore
import SluiceStore

/// Webhooks, as a bulk: one row each, one update a topic.
extension Transaction {
    /// One outcome an entry. Throws only where the whole transaction is lost.
    func append(_ appends: [WaitingAppend]) throws -> [Result<InboxReceipt, SluiceError>] {
        guard !appends.isEmpty else { return [] }
        let insert = try prepare(
            """
            INSERT INTO inbox (seq, ns, connection_id, received_at, digest_head, delivery_digest, delivery_id, topics,
                unmatched_reason, is_forced, method, path, query, headers, body) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
            """)
        var receipts: [Result<InboxReceipt, SluiceError>] = []
        receipts.reserveCapacity(appends.count)
        var signalled: [TopicID: TopicSignal] = [:]
        for append in appends {
            do {
                receipts.append(.success(try self.append(append.entry, insert, &signalled)))
            } catch {
                let failure = SluiceError.storage(error)
                // A row that SQLite refuses, such as one too large, harms nobody else's.
                guard isActive, failure.code != .diskFull else { throw failure }
                receipts.append(.failure(failure))
            }
        }
        try raise(signalled)
        let stored = receipts.compactMap { try? $0.get() }.filter { !$0.isRepeated }
        if let last = stored.last { try digests.flush(rows: stored.count, last: last.sequence, self) }
        return receipts
    }

    private func append(
        _ entry: InboxEntry, _ insert: Prepared, _ signalled: inout [TopicID: TopicSignal]
    ) throws -> InboxReceipt {
        if let digest = entry.deliveryDigest, !entry.isForced {
            if let first = try digests.firstCopy(entry.namespace, digest, self) { return InboxReceipt(sequence: first, isRepeated: true) }
        }
        let sequence = InboxSequence(try allocate(.inbox))
        insert.bind(1, sequence)
        insert.bind(2, entry.namespace)
        insert.bind(3, entry.connection)
        insert.bind(4, entry.receivedAt)
        insert.bind(5, entry.deliveryDigest.map(DigestIndex.head))
        insert.bind(6, entry.deliveryDigest)
        insert.bind(7, entry.deliveryID)
        insert.bind(8, TopicList.bytes(entry.topics))
        insert.bind(9, entry.unmatchedReason)
        insert.bind(10, entry.isForced ? 1 : 0)
        insert.bind(11, entry.method)
        insert.bind(12, entry.path)
        insert.bind(13, entry.query)
        try entry.headers.withUnsafeBytes { headers in
            try entry.body.withUnsafeBytes { body in
                insert.bindInPlace(14, headers)
                insert.bindInPlace(15, body)
                try insert.run()
            }
        }
        if let digest = entry.deliveryDigest { try digests.insert(entry.namespace, digest, sequence, self) }
        for topic in entry.topics {
            let before = signalled[topic]?.at ?? entry.receivedAt
            signalled[topic] = TopicSignal(topic: topic, sequence: sequence, at: max(before, entry.receivedAt))
        }
        return InboxReceipt(sequence: sequence, isRepeated: false)
    }

    /// A topic that was removed meanwhile is no longer signalled.
    private func raise(_ signalled: [TopicID: TopicSignal]) throws {
        guard !signalled.isEmpty else { return }
        let update = try prepare("UPDATE topic SET signal_sequence = ?, signalled_at = max(signalled_at, ?) WHERE id = ?")
        for signal in signalled.values {
            update.bind(1, signal.sequence)
            update.bind(2, signal.at)
            update.bind(3, signal.topic)
            try update.run()
            if update.changes > 0 { effects.signals[signal.topic] = signal }
        }
    }
}

/// Topics of a webhook as a column: eight bytes each, big-endian.
enum TopicList {
    static func bytes(_ topics: [TopicID]) -> [UInt8] {
        var bytes: [UInt8] = []
        bytes.reserveCapacity(8 * topics.count)
        for topic in topics { withUnsafeBytes(of: topic.rawValue.bigEndian) { bytes.append(contentsOf: $0) } }
        return bytes
    }

    static func topics(_ bytes: [UInt8]) -> [TopicID] {
        stride(from: 0, to: bytes.count - 7, by: 8).map { start in
            TopicID(bytes[start..<start + 8].reduce(0) { $0 << 8 | Int64($1) })
        }
    }
}
