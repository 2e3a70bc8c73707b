import Glibc
import SluiceCore

/// A data directory that was in use and whose database is gone would start as a new one, and nobody would hear of the loss.
enum DatabaseLoss {
    /// What a start leaves beside the database.
    private static let traces = ["master.key", "local.token"]

    /// What to tell whoever starts a server on this directory, or nil. Throws `.storage` where the database is there and empty: a copy
    /// that broke off leaves such a file, and a start does not, since it makes the tables before the master key.
    static func find(in directory: String) throws(SluiceError) -> String? {
        guard let trace = traces.first(where: { access("\(directory)/\($0)", F_OK) == 0 }) else { return nil }
        let path = directory + "/sluice.db"
        guard let bytes = size(path) else {
            return
                "made a new database in \(directory), where \(trace) was there before: if this directory had data, stop and restore sluice.db"
        }
        guard bytes == 0, (size(path + "-wal") ?? 0) == 0 else { return nil }
        throw SluiceError(
            .storage,
            "\(path) is empty, and \(trace) shows that this directory was in use: restore a backup, or remove the empty file to begin anew"
        ).with("file", path)
    }

    private static func size(_ path: String) -> Int? {
        var status = stat()
        return stat(path, &status) == 0 ? Int(status.st_size) : nil
    }
}
