import SluiceCore
import SluiceStore

extension SQLiteStore {
    public func addCallback(
        _ new: NewCallback, pendingMax: Int, at time: Timestamp
    ) async throws -> (callback: StoredCallback, isNew: Bool) {
        try await write(bytes: 1024 + new.input.count) { try $0.addCallback(new, pendingMax: pendingMax, at: time) }
    }

    public func callback(_ namespace: NamespaceID, id: String) async throws -> StoredCallback? {
        try await read { db in
            try CallbackRows.one(db, where: "c.ns = ? AND c.uid = ?") {
                $0.bind(1, namespace)
                $0.bind(2, id)
            }
        }
    }

    public func callback(tokenHash: [UInt8]) async throws -> StoredCallback? {
        try await read { db in try CallbackRows.one(db, where: "c.token_hash = ?") { $0.bind(1, tokenHash) } }
    }

    public func callbacks(_ query: CallbackQuery) async throws -> [StoredCallback] { try await read { try CallbackRows.list($0, query) } }

    public func pendingCallbacks(_ namespace: NamespaceID) async throws -> [PendingCallbacks] {
        try await read { try CallbackRows.pending($0, namespace) }
    }

    public func dueCallbacks(
        _ namespace: NamespaceID, connection: ConnectionID, at time: Timestamp, limit: Int
    ) async throws -> [StoredCallback] {
        try await read { try CallbackRows.due($0, namespace, connection, at: time, limit: limit) }
    }

    public func recordCallback(_ change: CallbackChange) async throws -> StoredCallback {
        let bytes = 512 + (change.ending?.result?.count ?? 0) + (change.ending?.record?.count ?? 0)
        return try await write(bytes: bytes) { try $0.recordCallback(change) }
    }

    public func hastenCallbacks(
        _ namespace: NamespaceID, after: Int64, limit: Int, window: Span, at time: Timestamp
    ) async throws -> Int64? {
        try await write { try $0.hastenCallbacks(namespace, after: after, limit: limit, window: window, at: time) }
    }
}
