import Glibc
import SluiceCore
import SluiceStore

/// A webhook that waits for its commit.
struct WaitingAppend: Sendable {
    var entry: InboxEntry
    /// `entry.storedBytes`, counted once.
    var bytes: Int
    var then: @Sendable (Result<InboxReceipt, SluiceError>) -> Void

    init(entry: InboxEntry, then: @escaping @Sendable (Result<InboxReceipt, SluiceError>) -> Void) {
        self.entry = entry
        self.then = then
        bytes = entry.storedBytes
    }
}

/// What one transaction takes.
struct WriteWork {
    var appends: [WaitingAppend] = []
    var changes: [any WaitingChange] = []
}

/// The bounded queue before the writer's thread. Nothing waits for room: what does not fit is refused at once (P10).
///
/// The writer takes whatever is there: the commit in flight forms the next batch, and waiting for a larger one costs its
/// senders more than the syncs it would save. Webhooks go first, and after a transaction with page records the next ones
/// leave pages out if webhooks wait (`Turns`).
final class WriteQueue: @unchecked Sendable {
    // `@unchecked`: everything below is guarded by `mutex`.
    private let mutex = UnsafeMutablePointer<pthread_mutex_t>.allocate(capacity: 1)
    private let condition = UnsafeMutablePointer<pthread_cond_t>.allocate(capacity: 1)
    private let options: SQLiteOptions
    private var appends: [WaitingAppend] = []
    private var appendBytes = 0
    private var changes: [any WaitingChange] = []
    private var changeBytes = 0
    private var turns = Turns()
    /// What the writer does since it took its work.
    private var turn = Turns.Turn()
    private var isClosing = false
    private var isEnded = false
    private var whenEnded: [@Sendable () -> Void] = []

    init(_ options: SQLiteOptions) {
        self.options = options
        pthread_mutex_init(mutex, nil)
        pthread_cond_init(condition, nil)
    }

    deinit {
        pthread_mutex_destroy(mutex)
        pthread_cond_destroy(condition)
        mutex.deallocate()
        condition.deallocate()
    }

    // MARK: Callers

    /// Returns why it was refused, or nil.
    func add(_ append: WaitingAppend) -> SluiceError? {
        let bytes = append.bytes
        return locked {
            if isClosing { return .closed }
            guard appends.isEmpty || (appends.count < options.waitingAppendsMax && appendBytes + bytes <= options.waitingAppendBytesMax)
            else { return WriteQueue.overloaded("webhooks", appends.count) }
            appends.append(append)
            appendBytes += bytes
            pthread_cond_signal(condition)
            return nil
        }
    }

    func add(_ change: any WaitingChange) -> SluiceError? {
        locked {
            if isClosing { return .closed }
            guard
                changes.isEmpty
                    || (changes.count < options.waitingChangesMax && changeBytes + change.bytes <= options.waitingChangeBytesMax)
            else { return WriteQueue.overloaded("changes", changes.count) }
            changes.append(change)
            changeBytes += change.bytes
            pthread_cond_signal(condition)
            return nil
        }
    }

    var isOpen: Bool { locked { !isClosing } }

    /// How many records one change should have, as things are now.
    var recordsPerCommit: Int { locked { turns.records(upTo: options.batchRecordsMax, at: WriteQueue.microseconds()) } }

    /// Lets the writer finish what is queued and end; `whenEnded` is called once it has.
    func close(_ whenEnded: @escaping @Sendable () -> Void) {
        let callNow = locked {
            isClosing = true
            if !isEnded { self.whenEnded.append(whenEnded) }
            pthread_cond_signal(condition)
            return isEnded
        }
        if callNow { whenEnded() }
    }

    // MARK: The writer

    /// Waits for work; nil once the queue is closed and empty. `times`: of the work before.
    func next(after times: Times = Times()) -> WriteWork? {
        locked {
            (turn.webhooks, turn.changes, turn.copy) = (times.webhooks, times.changes, times.copy)
            turns.ended(turn, webhooksWait: !appends.isEmpty, at: WriteQueue.microseconds())
            turn = Turns.Turn()
            while appends.isEmpty && changes.isEmpty {
                if isClosing { return nil }
                turns.rested()
                pthread_cond_wait(condition, mutex)
            }
            var work = WriteWork()
            takeAppends(&work)
            takeChanges(&work)
            return work
        }
    }

    /// What the writer took for one piece of work, in microseconds: as in `Turns.Turn`.
    struct Times {
        var webhooks: Int64 = 0
        var changes: Int64 = 0
        var copy: Int64 = 0
    }

    /// Whether the writer may do something else now. Not while webhooks wait that a page has held up.
    var mayPause: Bool { locked { !turn.hadRecords || appends.isEmpty } }

    func ended() {
        let callbacks = locked {
            isEnded = true
            defer { whenEnded = [] }
            return whenEnded
        }
        for callback in callbacks { callback() }
    }

    private func takeAppends(_ work: inout WriteWork) {
        var count = 0
        var bytes = 0
        while count < min(appends.count, options.batchAppendsMax) {
            let more = appends[count].bytes
            if count > 0, bytes + more > options.batchAppendBytesMax { break }
            bytes += more
            count += 1
        }
        appendBytes -= bytes
        if count == appends.count {
            swap(&work.appends, &appends)
        } else {
            work.appends = Array(appends.prefix(count))
            appends.removeFirst(count)
        }
    }

    private func takeChanges(_ work: inout WriteWork) {
        let leavesRecordsOut = turns.leavesRecordsOut(webhooks: work.appends.count)
        let recordsMax = turns.records(upTo: options.batchRecordsMax, at: WriteQueue.microseconds())
        var records = 0
        var count = 0
        while count < min(changes.count, 64) {
            let change = changes[count]
            if change.records > 0 {
                // In order: what waits behind a page that is left out waits, too.
                turn.leftRecordsOut = leavesRecordsOut
                if leavesRecordsOut || (records > 0 && records + change.records > recordsMax) { break }
                records += change.records
                turn.hadRecords = true
            }
            changeBytes -= change.bytes
            count += 1
        }
        work.changes = Array(changes.prefix(count))
        changes.removeFirst(count)
    }

    private func locked<T>(_ body: () -> T) -> T {
        pthread_mutex_lock(mutex)
        defer { pthread_mutex_unlock(mutex) }
        return body()
    }

    /// Of a clock that nobody sets.
    static func microseconds() -> Int64 {
        var time = timespec()
        clock_gettime(CLOCK_MONOTONIC, &time)
        return Int64(time.tv_sec) * 1_000_000 + Int64(time.tv_nsec) / 1000
    }

    private static func overloaded(_ what: String, _ waiting: Int) -> SluiceError {
        SluiceError(
            .overloaded, "the store cannot keep up: too many \(what) wait for the disk; try again in a moment",
            context: ["waiting": String(waiting)])
    }
}

extension InboxEntry {
    /// About what it takes in memory and on disk.
    var storedBytes: Int { body.count + headers.count + path.utf8.count + query.utf8.count + 256 }
}
