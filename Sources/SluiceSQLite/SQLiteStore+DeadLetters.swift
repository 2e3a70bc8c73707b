import GRDB
import SluiceCore
import SluiceStore

extension SQLiteStore {
    public func deadLetters(_ query: DeadLetterQuery) async throws -> DeadLetterPage {
        try await read { try DeadLetterRows.page($0, query) }
    }

    public func deliveryDetail(_ namespace: NamespaceID, _ delivery: Int64, attemptsMax: Int) async throws -> DeliveryDetail? {
        try await read { try DeadLetterRows.detail($0, namespace, delivery, attemptsMax: attemptsMax) }
    }

    public func replayDeadLetters(
        _ selection: DeadLetterSelection, after: DeadLetterMark?, limit: Int, at time: Timestamp
    ) async throws -> DeadLetterBatch {
        try await write(records: limit) { try $0.replayDeadLetters(selection, after, limit: limit, at: time) }
    }

    public func discardDeadLetters(
        _ selection: DeadLetterSelection, by who: String, because note: String, after: DeadLetterMark?, limit: Int, at time: Timestamp
    ) async throws -> DeadLetterBatch {
        try await write(records: limit) { try $0.discardDeadLetters(selection, who, note, after, limit: limit, at: time) }
    }

    public func catchUp(limit: Int, at time: Timestamp) async throws -> CatchUpReport {
        // Asked every second: where there is nothing, nothing is written.
        let isNeeded = try await read { db in try Prepared(db, "SELECT 1 FROM catch_up LIMIT 1").first { _ in true } ?? false }
        guard isNeeded else { return CatchUpReport() }
        return try await write(records: limit) { try $0.catchUp(limit: limit, at: time) }
    }
}
