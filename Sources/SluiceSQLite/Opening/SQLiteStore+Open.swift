import CSQLite
import GRDB
import GRDBSQLite
import Glibc
import SluiceCore
import SluiceStore

extension SQLiteStore {
    /// Opens the store, making what is missing and bringing the tables up to date. Blocks: call it off the cooperative pool.
    ///
    /// Throws `.locked`, naming the process, where another server uses the directory, `.diskFull`, or `.storage` where the
    /// directory cannot be written, or the database is damaged, not Sluice's, or from a newer Sluice.
    public static func open(_ options: SQLiteOptions) throws -> SQLiteStore {
        let lock = try DirectoryLock(directory: options.directory)
        _ = isConfigured
        do {
            try makeDatabase(options.directory + "/sluice.db")
            let pool = try DatabasePool(path: options.directory + "/sluice.db", configuration: configuration(options))
            try prepare(pool, options)
            let queue = WriteQueue(options)
            let writer = Writer(pool: pool, queue: queue, lock: lock, options: options)
            try writer.start()
            return SQLiteStore(pool: pool, queue: queue, writer: writer)
        } catch {
            throw SluiceError.storage(error).with("directory", options.directory)
        }
    }

    /// Once a process, before SQLite does anything. Where it was used already it keeps its statistics, which costs a tenth of the
    /// writer's time and nothing else.
    private static let isConfigured = sluice_sqlite_without_statistics() == SQLITE_OK

    /// For its owner only, also where the directory is not; SQLite gives the log the same mode.
    private static func makeDatabase(_ path: String) throws {
        let descriptor = Glibc.open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0o600)
        guard descriptor >= 0 else {
            let words = String(cString: strerror(errno))
            throw SluiceError(.storage, "cannot open the database \(path): \(words). Check its permissions and its mount")
        }
        Glibc.close(descriptor)
    }

    private static func configuration(_ options: SQLiteOptions) -> Configuration {
        var configuration = Configuration()
        configuration.label = "sluice"
        configuration.foreignKeysEnabled = false
        configuration.maximumReaderCount = options.readersMax
        configuration.busyMode = .timeout(Double(SQLiteOptions.busyMilliseconds) / 1000)
        configuration.prepareDatabase { db in
            // Of a database that is made now; one that is there keeps its own.
            try db.execute(sql: "PRAGMA page_size = \(SQLiteOptions.pageBytes)")
            // No connection copies the log into the database by itself; the writer does, between its turns.
            try db.execute(sql: "PRAGMA wal_autocheckpoint = 0")
            let cacheBytes = db.configuration.readonly ? 2 * 1024 * 1024 : options.cacheBytesMax
            try db.execute(sql: "PRAGMA cache_size = -\(cacheBytes / 1024)")
            try db.execute(sql: "PRAGMA temp_store = MEMORY")
        }
        return configuration
    }

    private static func prepare(_ pool: DatabasePool, _ options: SQLiteOptions) throws {
        try pool.read { db in
            let application = try Int32.fetchOne(db, sql: "PRAGMA application_id") ?? 0
            let isEmpty = try Int.fetchOne(db, sql: "SELECT count(*) FROM sqlite_master WHERE name = 'grdb_migrations'") == 0
            guard application == Schema.applicationID || (application == 0 && isEmpty) else {
                throw SluiceError(.storage, "sluice.db belongs to another program: use another data directory")
            }
            if try !isEmpty && Schema.migrator.hasBeenSuperseded(db) {
                throw SluiceError(.storage, "the database was written by a newer Sluice: upgrade, or restore an older backup")
            }
        }
        // With NORMAL, which GRDB sets when it turns the log on: a sync for each of them would be a tenth of a second on some disks,
        // and what a power cut takes of them is done again. The first commit after them syncs them all.
        try Schema.migrator.migrate(pool)
        try pool.writeWithoutTransaction { db in
            try db.execute(sql: "PRAGMA synchronous = \(options.synchronous.rawValue)")
            try db.execute(sql: "PRAGMA journal_size_limit = \(64 * 1024 * 1024)")
        }
        if let pagesMax = options.pagesMax {
            try pool.writeWithoutTransaction { db in
                _ = try Int.fetchOne(db, sql: "PRAGMA max_page_count = \(pagesMax)")
            }
        }
    }
}

// MARK: - For tests and `doctor`

extension SQLiteStore {
    /// What the writer's connection runs with, for example `synchronous`.
    package func writerSetting(_ name: String) async throws -> Int? {
        try await pool.writeWithoutTransaction { try Int.fetchOne($0, sql: "PRAGMA \(name)") }
    }

    /// What a reader's connection runs with.
    package func readerSetting(_ name: String) async throws -> Int? {
        try await pool.read { try Int.fetchOne($0, sql: "PRAGMA \(name)") }
    }
}
