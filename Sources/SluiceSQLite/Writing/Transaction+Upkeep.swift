import GRDB
import SluiceCore
import SluiceStore

/// API tokens and facts.
extension Transaction {
    func createToken(name: String, hash: [UInt8], at time: Timestamp) throws {
        let insert = try prepare("INSERT INTO api_token (name, hash, created_at) VALUES (?, ?, ?) ON CONFLICT DO NOTHING")
        insert.bind(1, name)
        insert.bind(2, hash)
        insert.bind(3, time)
        try insert.run()
        guard insert.changes > 0 else {
            throw SluiceError(
                .conflict, "there is a token named \(name) already: revoke it, or choose another name", context: ["token": name])
        }
    }

    func revokeToken(name: String) throws {
        let delete = try prepare("DELETE FROM api_token WHERE name = ?")
        delete.bind(1, name)
        try delete.run()
        guard delete.changes > 0 else { throw SluiceError(.notFound, "there is no token named \(name)", context: ["token": name]) }
    }

    func setFact(_ name: String, _ value: [UInt8]) throws {
        let put = try prepare("INSERT INTO fact (name, value) VALUES (?, ?) ON CONFLICT DO UPDATE SET value = excluded.value")
        put.bind(1, name)
        put.bind(2, value)
        try put.run()
    }
}

enum UpkeepRows {
    static func tokens(_ db: Database) throws -> [StoredToken] {
        try Prepared(db, "SELECT name, hash, created_at FROM api_token ORDER BY name").all {
            StoredToken(name: $0.text(0), hash: $0.bytes(1), createdAt: $0.time(2))
        }
    }

    static func fact(_ db: Database, _ name: String) throws -> [UInt8]? {
        let query = try Prepared(db, "SELECT value FROM fact WHERE name = ?")
        query.bind(1, name)
        return try query.first { $0.bytes(0) }
    }
}
