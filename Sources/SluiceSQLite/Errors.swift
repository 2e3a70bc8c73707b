import GRDB
import GRDBSQLite
import Glibc
import SluiceCore

extension SluiceError {
    /// What a result code of SQLite means to people. Values never appear in it: SQLite's own words name columns at most.
    static func storage(connection: OpaquePointer?, code: Int32) -> SluiceError {
        let words = connection.flatMap { sqlite3_errmsg($0) }.map { String(cString: $0) } ?? String(cString: sqlite3_errstr(code))
        let extended = connection.map { sqlite3_extended_errcode($0) } ?? code
        let system = connection.map { sqlite3_system_errno($0) } ?? 0
        return storage(extended: extended, system: system, words: words)
    }

    /// Any error of GRDB or of this module.
    static func storage(_ error: any Error) -> SluiceError {
        if let error = error as? SluiceError { return error }
        if error is CancellationError { return SluiceError(.storage, "the read was cancelled") }
        if let error = error as? DatabaseError {
            return storage(extended: error.extendedResultCode.rawValue, system: 0, words: error.message ?? "no message")
        }
        return SluiceError(.storage, "the database failed: \(type(of: error))")
    }

    private static func storage(extended: Int32, system: Int32, words: String) -> SluiceError {
        let context = ["sqlite": String(extended)]
        switch extended & 0xFF {
        case SQLITE_FULL:
            return .diskFull(context)
        case SQLITE_IOERR where system == ENOSPC || system == EDQUOT:
            return .diskFull(context)
        case SQLITE_NOTADB, SQLITE_CORRUPT:
            return SluiceError(
                .storage, "the database is damaged or not Sluice's (\(words)): restore the data directory from a backup", context: context)
        case SQLITE_READONLY, SQLITE_CANTOPEN, SQLITE_PERM:
            return SluiceError(
                .storage, "the database cannot be written (\(words)): check the data directory's permissions and mount", context: context)
        default:
            return SluiceError(.storage, "the database failed: \(words)", context: context)
        }
    }

    private static func diskFull(_ context: [String: String]) -> SluiceError {
        SluiceError(
            .diskFull, "the disk of the data directory is full, nothing was stored: make room; Sluice goes on by itself", context: context)
    }

    static let closed = SluiceError(.storage, "the store is closed")
}
