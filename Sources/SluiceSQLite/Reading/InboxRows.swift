import GRDB
import SluiceCore
import SluiceStore

/// Accepted webhooks.
enum InboxRows {
    /// A body's length is known without reading it.
    private static func columns(includesContent: Bool = true) -> String {
        let content = includesContent ? "headers, body" : "NULL, NULL"
        return """
            SELECT seq, ns, connection_id, received_at, method, path, query, \(content), delivery_id, delivery_digest, is_forced, topics,
                unmatched_reason, length(body) FROM inbox
            """
    }

    static func list(_ db: Database, _ query: InboxQuery) throws -> [InboxItem] {
        // Of all: the plus keeps SQLite from an index that begins with `ns` and from sorting all there is.
        let hasIndex = query.connection != nil || query.unmatchedOnly
        var conditions = "\(hasIndex ? "" : "+")ns = ?1 AND seq < ?2"
        if query.connection != nil { conditions += " AND connection_id = ?4" }
        if query.unmatchedOnly { conditions += " AND unmatched_reason IS NOT NULL" }
        let columns = columns(includesContent: query.includesContent)
        let statement = try Prepared(db, "\(columns) WHERE \(conditions) ORDER BY seq DESC LIMIT ?3")
        statement.bind(1, query.namespace)
        statement.bind(2, query.before?.rawValue ?? Int64.max)
        statement.bind(3, query.limit)
        if let connection = query.connection { statement.bind(4, connection) }
        return try statement.all(read)
    }

    static func item(_ db: Database, _ namespace: NamespaceID, _ sequence: InboxSequence) throws -> InboxItem? {
        let statement = try Prepared(db, "\(columns()) WHERE seq = ? AND ns = ?")
        statement.bind(1, sequence)
        statement.bind(2, namespace)
        return try statement.first(read)
    }

    /// The last webhook that a reader of the inbox has read, as SQL on its `progress p`.
    static let position = "coalesce(CAST(CAST(p.cursor AS TEXT) AS INTEGER), 0)"

    /// After which webhook a trigger needs those of one of its topics, as SQL on `trigger t`, `progress p`, `trigger_topic l` and `topic o`;
    /// NULL where it needs none. Of a topic that it listens to no more, a reader needs what it has not read.
    static let needed = """
        CASE WHEN l.through IS NULL THEN CASE WHEN o.signal_sequence > p.covered_sequence THEN p.covered_sequence END
        WHEN t.reads_inbox = 1 AND l.through > \(position) THEN min(p.covered_sequence, \(position)) END
        """

    /// How many numbers of the inbox one read looks at, at most, whomever they belong to.
    private static let looksMax: Int64 = 200_000

    /// The index leads through the connection's rows; whether a row is meant is found out from its topics, which stand before
    /// its body, so that bodies of other triggers are not read.
    static func batch(_ db: Database, _ query: InboxRead) throws -> InboxBatch {
        // Rows are committed in the order of their numbers: nothing can come before the last one later.
        let newest = try Prepared(db, "SELECT max(seq) FROM inbox").first { $0.optionalInt(0) } ?? nil
        let formers = query.formerTopics.filter { $0.through > query.after }
        guard let newest, newest > query.after.rawValue, !query.topics.isEmpty || !formers.isEmpty else {
            return InboxBatch(items: [], through: max(query.after, InboxSequence(newest ?? 0)), more: false)
        }
        let last = min(newest, query.after.rawValue.addingReportingOverflow(looksMax).partialValue)
        let topics = (query.topics + formers.map(\.topic)).prefix(64)
        let meant = topics.indices.map { "instr(topics, ?\($0 + 6)) > 0" }.joined(separator: " OR ")
        let statement = try Prepared(
            db,
            "\(columns()) WHERE ns = ?1 AND connection_id = ?2 AND seq > ?3 AND seq <= ?4 AND received_at >= ?5 AND (\(meant)) ORDER BY seq"
        )
        statement.bind(1, query.namespace)
        statement.bind(2, query.connection)
        statement.bind(3, query.after)
        statement.bind(4, last)
        statement.bind(5, query.since ?? .distantPast)
        for (index, topic) in topics.enumerated() { statement.bind(Int32(index + 6), TopicList.bytes([topic])) }
        var batch = InboxBatch(items: [], through: InboxSequence(last), more: last < newest)
        var bytes = 0
        defer { statement.reset() }
        while try statement.step() {
            let item = read(statement)
            // The bytes of a topic can also lie across two others.
            guard
                item.entry.topics.contains(where: query.topics.contains)
                    || formers.contains(where: { $0.through >= item.sequence && item.entry.topics.contains($0.topic) })
            else { continue }
            bytes += item.entry.body.count + item.entry.headers.count
            if !batch.items.isEmpty, batch.items.count >= query.limit || bytes > query.bytesMax {
                (batch.through, batch.more) = (batch.items[batch.items.count - 1].sequence, true)
                break
            }
            batch.items.append(item)
        }
        return batch
    }

    static func unread(_ db: Database, _ namespace: NamespaceID, countMax: Int) throws -> [ConnectionID: Int] {
        let readers = try Prepared(
            db,
            """
            SELECT t.connection_id, min(\(needed)) FROM "trigger" t CROSS JOIN progress p ON p.trigger_id = t.id
                CROSS JOIN trigger_topic l ON l.ns = t.ns AND l.trigger_id = t.id CROSS JOIN topic o ON o.id = l.topic_id
            WHERE t.ns = ? AND t.reads_inbox = 1 AND t.state NOT IN ('created', 'stopped') AND \(needed) IS NOT NULL
            GROUP BY t.connection_id
            """)
        readers.bind(1, namespace)
        var result: [ConnectionID: Int] = [:]
        for (connection, covered) in try readers.all({ ($0.id(0) as ConnectionID, $0.int(1)) }) {
            let count = try Prepared(
                db, "SELECT count(*) FROM (SELECT 1 FROM inbox WHERE ns = ? AND connection_id = ? AND seq > ? LIMIT ?)")
            count.bind(1, namespace)
            count.bind(2, connection)
            count.bind(3, covered)
            count.bind(4, countMax)
            result[connection] = Int(try count.first { $0.int(0) } ?? 0)
        }
        return result
    }

    private static func read(_ row: Prepared) -> InboxItem {
        InboxItem(
            sequence: row.id(0),
            entry: InboxEntry(
                namespace: row.id(1), connection: row.id(2), receivedAt: row.time(3), method: row.text(4), path: row.text(5),
                query: row.text(6), headers: row.bytes(7), body: row.bytes(8), deliveryID: row.optionalText(9),
                deliveryDigest: row.optionalBytes(10), isForced: row.int(11) != 0, topics: TopicList.topics(row.bytes(12)),
                unmatchedReason: row.optionalText(13)), bodyBytes: Int(row.int(14)))
    }
}
