import SluiceCore
import SluiceStore

extension SQLiteStore {
    public func startBackfill(_ new: NewBackfill, at time: Timestamp) async throws -> StoredBackfill {
        try await write(bytes: 1024 + new.cursor.count + new.definition.count) { try $0.startBackfill(new, at: time) }
    }

    public func backfills(_ query: BackfillQuery) async throws -> [StoredBackfill] { try await read { try BackfillRows.list($0, query) } }

    public func backfill(_ namespace: NamespaceID, _ id: BackfillID) async throws -> StoredBackfill? {
        try await read { try BackfillRows.one($0, namespace, id) }
    }

    public func commandBackfill(
        _ namespace: NamespaceID, _ id: BackfillID, _ command: BackfillCommand, at time: Timestamp
    ) async throws -> StoredBackfill {
        try await write { try $0.command(namespace, id, command, at: time) }
    }

    public func commitBackfill(_ commit: BackfillCommit) async throws -> BackfillOutcome {
        let (bytes, rows) =
            switch commit.work {
            case .gathered(let jobs, _, _): (jobs.reduce(256) { $0 + $1.key.count + 64 }, jobs.count)
            case .page(let records, _, _):
                (records.reduce(256) { $0 + $1.record.bytes.count + $1.dedupKey.count + 64 }, records.count)
            case .compared(let limit): (256, limit)
            }
        return try await write(bytes: bytes, records: max(1, rows)) { try $0.commitBackfill(commit) }
    }

    public func recordBackfillFailure(_ failure: BackfillFailure) async throws { try await write { try $0.record(failure) } }

    public func backfillDifferences(_ query: BackfillDifferenceQuery) async throws -> [BackfillDifference] {
        try await read { try BackfillRows.differences($0, query) }
    }

    public func removedJobs(_ trigger: TriggerID) async throws -> (through: JobPosition, madeAt: Timestamp)? {
        try await read { try BackfillRows.removedJobs($0, trigger) }
    }
}
