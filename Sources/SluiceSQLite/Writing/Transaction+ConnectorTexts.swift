import GRDB
import SluiceCore
import SluiceStore

extension Schema {
    /// `key_origin`: JSON, as `KeyOriginColumn` writes it; null where it was never noted.
    static let formerKeys = """
        ALTER TABLE progress ADD COLUMN key_origin TEXT;
        CREATE TABLE connector_text (hash TEXT PRIMARY KEY, text BLOB NOT NULL, kept_at INTEGER NOT NULL) WITHOUT ROWID;
        """
}

/// What was a connector before it changed.
extension Transaction {
    func keepConnectorText(_ text: [UInt8], _ hash: String, at time: Timestamp) throws {
        let insert = try prepare("INSERT INTO connector_text (hash, text, kept_at) VALUES (?, ?, ?) ON CONFLICT DO NOTHING")
        insert.bind(1, hash)
        insert.bind(2, text)
        insert.bind(3, time)
        try insert.run()
        guard insert.changes > 0 else { return }
        // Rare: only when a connector was never seen before. What is young may belong to a commit that is on its way.
        let remove = try prepare(
            """
            DELETE FROM connector_text WHERE kept_at < ? AND hash NOT IN (
                SELECT key_origin ->> '$.connector' FROM progress WHERE key_origin IS NOT NULL
                UNION SELECT f.value ->> '$.connector' FROM progress, json_each(key_origin, '$.formers') f WHERE key_origin IS NOT NULL)
            """)
        remove.bind(1, time - .days(1))
        try remove.run()
    }

    func setKeyOrigin(_ origin: KeyOrigin, _ trigger: TriggerID) throws {
        let query = try prepare("SELECT key_origin, pruned_below, dedup_floor FROM progress WHERE trigger_id = ?")
        query.bind(1, trigger)
        let stored = try query.first { (origin: $0.optionalBytes(0), prunedBelow: $0.optionalInt(1), floor: $0.optionalInt(2)) }
        let before = try stored?.origin.map { try KeyOriginColumn.decode($0) }
        let update = try prepare("UPDATE progress SET key_origin = ?, pruned_below = ? WHERE trigger_id = ?")
        update.bind(1, KeyOriginColumn.encode(origin))
        update.bind(2, [stored?.prunedBelow, origin.forgottenBelow(since: before, floor: stored?.floor)].compactMap(\.self).max())
        update.bind(3, trigger)
        try update.run()
    }
}

enum ConnectorTextRows {
    static func text(_ db: Database, _ hash: String) throws -> [UInt8]? {
        let query = try Prepared(db, "SELECT text FROM connector_text WHERE hash = ?")
        query.bind(1, hash)
        return try query.first { $0.bytes(0) }
    }
}

enum KeyOriginColumn {
    static func encode(_ origin: KeyOrigin) -> String {
        var writer = JSONWriter()
        writer.object { writer in
            writer.member("connector", origin.connector)
            writer.key("formers")
            writer.array { writer in
                for former in origin.formers {
                    writer.object { writer in
                        writer.member("connector", former.connector)
                        writer.member("mark", former.mark)
                        writer.member("cycles", former.cyclesCompleted)
                    }
                }
            }
        }
        return writer.string
    }

    /// Throws `.storage` for what no Sluice wrote.
    static func decode(_ json: [UInt8]) throws(SluiceError) -> KeyOrigin {
        guard let root = try? JSONDocument(json).root, let connector = root["connector"]?.string else {
            throw SluiceError(.storage, "the database is damaged: with what a trigger's keys were made cannot be read")
        }
        let formers = (root["formers"]?.elements ?? []).compactMap { former in
            former["connector"]?.string.map {
                KeyOrigin.Former(connector: $0, mark: former["mark"]?.int64, cyclesCompleted: former["cycles"]?.int64 ?? 0)
            }
        }
        return KeyOrigin(connector: connector, formers: formers)
    }
}
