/// How to open a `SQLiteStore`.
public struct SQLiteOptions: Sendable {
    /// When a commit returns. Anything but `full` breaks P1 and is for tests.
    public enum Synchronous: String, Sendable { case full = "FULL", normal = "NORMAL", off = "OFF" }

    /// Of a new database. Webhooks and records are hundreds of bytes to a few thousand: on pages of 4 KiB, half of the writer's calls
    /// wrote one page each.
    static let pageBytes = 8192
    /// How long a connection waits for another one's lock.
    static let busyMilliseconds: Int32 = 1000

    /// Holds `sluice.db`, its log and `sluice.lock`. Made with mode 0700 if it is missing.
    public var directory: String
    public var synchronous: Synchronous
    /// The writer's page cache. Readers have 2 MiB each.
    public var cacheBytesMax: Int
    public var readersMax: Int
    /// Webhooks and their bytes that may wait for a commit; one more is refused with `.overloaded`.
    public var waitingAppendsMax: Int
    public var waitingAppendBytesMax: Int
    /// Page commits and other changes that may wait, and their bytes.
    public var waitingChangesMax: Int
    public var waitingChangeBytesMax: Int
    /// What shares one transaction at most.
    public var batchAppendsMax: Int
    public var batchAppendBytesMax: Int
    public var batchRecordsMax: Int
    /// The log is copied into the database once it has this many pages.
    public var checkpointPages: Int
    /// The database's own bound, in pages; nil: SQLite's. Beyond it calls throw `.diskFull`.
    public var pagesMax: Int?

    public init(
        directory: String, synchronous: Synchronous = .full, cacheBytesMax: Int = 16 * 1024 * 1024, readersMax: Int = 3,
        waitingAppendsMax: Int = 4096, waitingAppendBytesMax: Int = 32 * 1024 * 1024, waitingChangesMax: Int = 1024,
        waitingChangeBytesMax: Int = 64 * 1024 * 1024, batchAppendsMax: Int = 512, batchAppendBytesMax: Int = 16 * 1024 * 1024,
        batchRecordsMax: Int = 1000, checkpointPages: Int = 1000, pagesMax: Int? = nil
    ) {
        self.directory = directory
        self.synchronous = synchronous
        self.cacheBytesMax = cacheBytesMax
        self.readersMax = readersMax
        self.waitingAppendsMax = waitingAppendsMax
        self.waitingAppendBytesMax = waitingAppendBytesMax
        self.waitingChangesMax = waitingChangesMax
        self.waitingChangeBytesMax = waitingChangeBytesMax
        self.batchAppendsMax = batchAppendsMax
        self.batchAppendBytesMax = batchAppendBytesMax
        self.batchRecordsMax = batchRecordsMax
        self.checkpointPages = checkpointPages
        self.pagesMax = pagesMax
    }
}
