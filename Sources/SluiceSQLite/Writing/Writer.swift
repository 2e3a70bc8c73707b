import GRDB
import GRDBSQLite
import Glibc
import SluiceCore
import SluiceStore
import Synchronization

/// The one thread that writes. Each turn makes one transaction of whatever waits:
///
/// ```
/// next() ─▶ BEGIN IMMEDIATE ─▶ appends ─▶ each change in a savepoint ─▶ COMMIT (the sync) ─▶ receipts ─▶ observers ─▶ changes' ends
///                                                                         │ fails: all of the batch get the error,
///                                                                         ▼ nothing is kept, the next turn begins afresh
/// ```
/// It alone copies the log into the database, between two turns: SQLite before 3.51.3 can damage a database when two
/// connections do (sqlite.org/wal.html, "the WAL-reset bug").
final class Writer: @unchecked Sendable {
    // `@unchecked`: `logFrames` and `framesCopied` are touched by the writer's thread only.
    let pool: DatabasePool
    let queue: WriteQueue
    let sweep = Sweep()
    private let digests = DigestIndex()
    private let consumers = ConsumerCache()
    private let lock: DirectoryLock
    private let checkpointPages: Int
    private let observers = Mutex<[any StoreObserver]>([])
    /// How long the log was when it was last copied; 0: it began afresh since.
    private var framesCopied = 0
    private static let readerMillisecondsMax: Int32 = 20
    private let logFrames = UnsafeMutablePointer<Int32>.allocate(capacity: 1)

    init(pool: DatabasePool, queue: WriteQueue, lock: DirectoryLock, options: SQLiteOptions) {
        self.pool = pool
        self.queue = queue
        self.lock = lock
        checkpointPages = options.checkpointPages
        logFrames.initialize(to: 0)
    }

    deinit { logFrames.deallocate() }

    func observe(_ observer: any StoreObserver) { observers.withLock { $0.append(observer) } }

    /// Starts the thread, which keeps this object until the queue is closed and empty.
    func start() throws(SluiceError) {
        var thread = pthread_t()
        let code = pthread_create(
            &thread, nil,
            { argument in
                guard let argument else { return nil }
                let writer = Unmanaged<Writer>.fromOpaque(argument).takeRetainedValue()
                writer.loop()
                return nil
            }, Unmanaged.passRetained(self).toOpaque())
        guard code == 0 else {
            Unmanaged.passUnretained(self).release()
            throw SluiceError(.storage, "the writer's thread did not start: \(String(cString: strerror(code)))")
        }
        pthread_detach(thread)
    }

    private func loop() {
        let frames = logFrames
        pool.writeWithoutTransaction { db in
            _ = sqlite3_wal_hook(
                db.sqliteConnection,
                { context, _, _, count in
                    context?.assumingMemoryBound(to: Int32.self).pointee = count
                    return SQLITE_OK
                }, frames)
        }
        var times = WriteQueue.Times()
        while let work = queue.next(after: times) {
            times = turn(work)
            let begunAt = WriteQueue.microseconds()
            if checkpointIfDue() { times.copy = max(1, WriteQueue.microseconds() - begunAt) }
        }
        end()
    }

    private func end() {
        pool.invalidateReadOnlyConnections()
        pool.writeWithoutTransaction { db in
            _ = sqlite3_wal_checkpoint_v2(db.sqliteConnection, nil, SQLITE_CHECKPOINT_TRUNCATE, nil, nil)
        }
        try? pool.close()
        lock.release()
        queue.ended()
    }

    /// Whether it was. Passive: waits for no reader. A log that readers keep from starting afresh is waited for once it is long, though never for long:
    /// while somebody reads for minutes, as a backup does, webhooks are still to be answered.
    private func checkpointIfDue() -> Bool {
        let frames = Int(logFrames.pointee)
        if frames < framesCopied { framesCopied = 0 }
        // What was copied already and could not start afresh has to grow before it is worth another look.
        guard frames >= checkpointPages, framesCopied == 0 || frames >= framesCopied + checkpointPages / 2 else { return false }
        // Webhooks that have waited for a page do not wait for the log as well, unless it has become long meanwhile.
        guard frames >= max(checkpointPages, framesCopied) + checkpointPages * 2 || queue.mayPause else { return false }
        pool.writeWithoutTransaction { db in
            let mode = frames >= checkpointPages * 8 ? SQLITE_CHECKPOINT_RESTART : SQLITE_CHECKPOINT_PASSIVE
            sqlite3_busy_timeout(db.sqliteConnection, Writer.readerMillisecondsMax)
            _ = sqlite3_wal_checkpoint_v2(db.sqliteConnection, nil, mode, nil, nil)
            sqlite3_busy_timeout(db.sqliteConnection, SQLiteOptions.busyMilliseconds)
        }
        framesCopied = frames
        return true
    }

    // MARK: One turn

    private struct Outcome {
        var receipts: [Result<InboxReceipt, SluiceError>] = []
        var failures: [SluiceError?] = []
        var effects = Effects()
    }

    private func turn(_ work: WriteWork) -> WriteQueue.Times {
        let begunAt = WriteQueue.microseconds()
        var appendedAt = begunAt
        let outcome: Result<Outcome, SluiceError> = pool.writeWithoutTransaction { db in
            let transaction = Transaction(db, digests, consumers)
            do {
                try transaction.run("BEGIN IMMEDIATE")
                var outcome = Outcome()
                outcome.receipts = try transaction.append(work.appends)
                appendedAt = WriteQueue.microseconds()
                try Writer.perform(work.changes, transaction, &outcome)
                try transaction.saveCounters()
                try transaction.run("COMMIT")
                return .success(outcome)
            } catch {
                if transaction.isActive { try? transaction.run("ROLLBACK") }
                digests.forget()
                consumers.forget()
                return .failure(.storage(error))
            }
        }
        // Senders first: their time is what is measured. Whoever made a change finds that everybody had been told of it.
        for (waiting, receipt) in zip(work.appends, Writer.receipts(work, outcome)) { waiting.then(receipt) }
        if case .success(let outcome) = outcome { tell(outcome.effects) }
        finish(work, outcome)
        return WriteQueue.Times(webhooks: appendedAt - begunAt, changes: WriteQueue.microseconds() - appendedAt)
    }

    private static func perform(_ changes: [any WaitingChange], _ transaction: Transaction, _ outcome: inout Outcome) throws {
        for change in changes {
            do {
                try transaction.savepoint { try change.perform(transaction) }
                outcome.failures.append(nil)
            } catch {
                let failure = SluiceError.storage(error)
                guard transaction.isActive else { throw failure }
                outcome.failures.append(failure)
            }
        }
        outcome.effects = transaction.effects
    }

    private static func receipts(
        _ work: WriteWork, _ outcome: Result<Outcome, SluiceError>
    ) -> [Result<InboxReceipt, SluiceError>] {
        switch outcome {
        case .success(let outcome): outcome.receipts
        case .failure(let failure): Array(repeating: .failure(failure), count: work.appends.count)
        }
    }

    private func finish(_ work: WriteWork, _ outcome: Result<Outcome, SluiceError>) {
        switch outcome {
        case .success(let outcome):
            for (change, failure) in zip(work.changes, outcome.failures) { change.finish(failure) }
        case .failure(let failure):
            for change in work.changes { change.finish(failure) }
        }
    }

    private func tell(_ effects: Effects) {
        let observers = observers.withLock { $0 }
        let signals = effects.signals.values.sorted { $0.topic < $1.topic }
        let triggers = effects.triggers.sorted()
        for observer in observers {
            if !signals.isEmpty { observer.signalled(signals) }
            if !triggers.isEmpty { observer.jobsCommitted(triggers, at: effects.at) }
            if effects.hasDeliveries { observer.deliveriesIntended() }
            if !effects.consumers.isEmpty { observer.consumersChanged(effects.consumers.sorted()) }
        }
    }
}
