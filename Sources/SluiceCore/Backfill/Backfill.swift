/// A stretch of time that is read again: from `from` on, and before `to`. Neighbouring windows share no moment.
public struct BackfillWindow: Sendable, Equatable {
    public var from: Timestamp
    public var to: Timestamp

    public init(from: Timestamp, to: Timestamp) {
        self.from = from
        self.to = to
    }

    /// Throws `.invalid` for a window that is empty, or that has not passed yet: what is not there cannot be compared.
    public init(from: Timestamp, to: Timestamp?, now: Timestamp) throws(SluiceError) {
        let end = to ?? now
        guard from < now else { throw SluiceError(.invalid, "`from` is \(from), which lies in the future: it is \(now) now") }
        guard end <= now else {
            throw SluiceError(.invalid, "`to` is \(end), which lies in the future: it is \(now) now; leave it out for everything until now")
        }
        guard from < end else { throw SluiceError(.invalid, "`from` (\(from)) must lie before `to` (\(end))") }
        self.init(from: from, to: end)
    }
}

/// What becomes of the records that are read.
public enum BackfillMode: String, Sendable, Codable, CaseIterable {
    /// A record whose job is unknown becomes a job.
    case missingOnly = "missing-only"
    /// That, and what is known is delivered again, as a new attempt of the same job.
    case replayAll = "replay-all"
    /// Nothing but the difference is written down.
    case dryRun = "dry-run"

    /// Whether jobs may be made.
    public var repairs: Bool { self != .dryRun }
}

/// ```
/// running ⇄ paused
///    ├─ everything was read and compared ─▶ done
///    ├─ its trigger became another one, or nothing came of it for too long ─▶ failed
///    └─ somebody cancelled it (paused or failed as well) ─▶ cancelled
/// ```
/// A provider that fails leaves it running: it waits, and says for what.
public enum BackfillState: String, Sendable, Codable, CaseIterable {
    case running, paused, done, failed, cancelled

    public var hasEnded: Bool { self == .done || self == .failed || self == .cancelled }

    /// Throws `.conflict` where the command makes no sense. The same twice changes nothing.
    public func after(_ command: BackfillCommand) throws(SluiceError) -> BackfillState {
        switch (self, command) {
        case (.running, .pause), (.paused, .pause): return .paused
        case (.running, .resume), (.paused, .resume): return .running
        // Of one that failed: somebody has seen it.
        case (.running, .cancel), (.paused, .cancel), (.cancelled, .cancel), (.failed, .cancel): return .cancelled
        default:
            throw SluiceError(.conflict, "the backfill is \(rawValue): it cannot be \(command.participle); start another one")
                .with("backfill_state", rawValue)
        }
    }
}

public enum BackfillCommand: String, Sendable, CaseIterable {
    case pause, resume, cancel
    var participle: String {
        switch self {
        case .pause: "paused"
        case .resume: "resumed"
        case .cancel: "cancelled"
        }
    }
}

/// What it does, one after the other.
///
/// ```
/// gathering ──▶ reading ──▶ gatheringNew ──▶ comparing
/// the jobs      the pages   jobs made        both sides; then
/// there are     in the      since it         it is done
///               window      began
/// ```
/// Jobs are gathered first, so that a record is known by its job even where its dedup key was forgotten long ago (P4). While it
/// lasts no dedup key of the trigger is forgotten, so whatever became a job meanwhile is known by its key.
public enum BackfillPhase: String, Sendable, Codable, CaseIterable {
    case gathering, reading, gatheringNew = "gathering_new", comparing

    /// Nil after the last.
    public var next: BackfillPhase? {
        switch self {
        case .gathering: .reading
        case .reading: .gatheringNew
        case .gatheringNew: .comparing
        case .comparing: nil
        }
    }
}

/// What a backfill counts. Every record and every job counts once, however often a page is read.
public enum BackfillCount: String, Sendable, CaseIterable {
    /// Pages of the provider.
    case pages
    /// Records that the provider has in the window.
    case provider
    /// Those that were jobs, or known by their dedup key, when they were read.
    case known
    /// Those that were neither.
    case missing
    /// Jobs that were made of missing ones.
    case repaired
    /// Jobs that were delivered again.
    case redelivered
    /// Records that could not be keyed.
    case quarantined
    /// Records without a readable time. They are counted among the others: the provider lists them.
    case unplaced
    /// Jobs of the trigger that were compared with.
    case jobs
    /// Those of the window.
    case jobsInWindow = "jobs_in_window"
    /// Those whose record has no readable time.
    case jobsUnplaced = "jobs_unplaced"
    /// Known at the end: of the provider's records, those that are jobs.
    case kept
    /// Known at the end: those that are known by their dedup key only.
    case keyOnly = "key_only"
    /// Known at the end: jobs of the window that the provider no longer lists there.
    case extra
}

public struct BackfillCounts: Sendable, Equatable {
    private var values = [Int64](repeating: 0, count: BackfillCount.allCases.count)
    public init() {}

    public subscript(_ count: BackfillCount) -> Int64 {
        get { values[BackfillCounts.index(count)] }
        set { values[BackfillCounts.index(count)] = newValue }
    }

    private static func index(_ count: BackfillCount) -> Int { BackfillCount.allCases.firstIndex(of: count)! }

    public func write(to writer: inout JSONWriter) {
        writer.object { writer in for count in BackfillCount.allCases { writer.member(count.rawValue, self[count]) } }
    }

    public init(_ json: JSONView) {
        for count in BackfillCount.allCases { self[count] = json[count.rawValue]?.int64 ?? 0 }
    }
}
