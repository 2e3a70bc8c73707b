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
