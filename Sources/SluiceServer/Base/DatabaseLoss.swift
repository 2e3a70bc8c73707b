import Glibc
import SluiceCore

/// A data directory that was in use and whose database is gone would start as a new one, and nobody would hear of the loss.
enum DatabaseLoss {
    /// What a start leaves beside the database.
    private static let traces = ["master.key", "local.token"]

    /// What to tell whoever starts a server on this directory, or nil. Throws `.storage` where the database is there and empty, as a copy
    /// leaves it that broke off, or where its log is there without it: SQLite would remove the log. A start leaves neither, since it makes
    /// the tables before the master key.
    static func find(in directory: String) throws(SluiceError) -> String? {
        guard let trace = traces.first(where: { access("\(directory)/\($0)", F_OK) == 0 }) else { return nil }
        let path = directory + "/sluice.db"
        switch size(path) {
        case nil where size(path + "-wal") ?? 0 > 0:
            throw SluiceError(
                .storage, "\(path) is missing, and its log sluice.db-wal is there: put it back, or restore a backup into another directory"
            ).with("file", path)
        case nil:
            return
                "made a new database in \(directory), where \(trace) was there before: if this directory had data, stop and restore sluice.db"
        case 0:
            throw SluiceError(
                .storage,
                "\(path) is empty, and \(trace) shows that this directory was in use: restore a backup, or remove the empty file to begin anew"
            ).with("file", path)
        default: return nil
        }
    }

    private static func size(_ path: String) -> Int? {
        var status = stat()
        return stat(path, &status) == 0 ? Int(status.st_size) : nil
    }
}
