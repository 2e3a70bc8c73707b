import GRDB
import SluiceCore
import SluiceStore

/// Credentials that change by themselves.
extension Transaction {
    func replaceCredentials(_ connection: ConnectionID, _ version: Int64, _ sealed: [UInt8], at time: Timestamp) throws -> Int64? {
        let stored = try CredentialRows.credentials(db, connection)
        guard stored.version == version else { return nil }
        let put = try prepare(
            """
            INSERT INTO credential (connection_id, version, sealed, changed_at) VALUES (?, ?, ?, ?)
            ON CONFLICT (connection_id) DO UPDATE SET version = excluded.version, sealed = excluded.sealed, changed_at = excluded.changed_at
            """)
        put.bind(1, connection)
        put.bind(2, version + 1)
        put.bind(3, sealed)
        put.bind(4, time)
        try put.run()
        return version + 1
    }
}

enum CredentialRows {
    static func credentials(_ db: Database, _ connection: ConnectionID) throws -> StoredCredentials {
        let query = try Prepared(
            db, "SELECT k.sealed, k.version FROM connection c LEFT JOIN credential k ON k.connection_id = c.id WHERE c.id = ?")
        query.bind(1, connection)
        guard let found = try query.first({ StoredCredentials(sealed: $0.optionalBytes(0), version: $0.int(1)) }) else {
            throw SluiceError(.notFound, "this connection was removed", context: ["connection": connection.description])
        }
        return found
    }
}
