import SluiceConnectors
import SluiceCore
import SluiceStore

/// What somebody wants read again.
public struct BackfillRequest: Sendable {
    /// How far back the trigger's dedup keys are kept.
    public enum KeysKept: Sendable, Equatable {
        case all
        /// Of records with this mark and above.
        case from(Int64)
        case unknown
    }

    public var trigger: StoredTrigger
    public var window: BackfillWindow
    public var mode: BackfillMode
    public var isAudit: Bool
    /// Even where neither dedup keys nor jobs tell what was there: what was delivered once may be delivered again.
    public var isBeyondRetention: Bool
    public var keysKept: KeysKept
    /// Where to begin, JSON, given by hand: for lists that cannot be read by time.
    public var cursor: [UInt8]?
    /// The window ends now because nobody named an end: everything to the end of the list is wanted.
    public var isOpenEnded: Bool
    public init(
        trigger: StoredTrigger, window: BackfillWindow, mode: BackfillMode, isAudit: Bool = false, isBeyondRetention: Bool = false,
        keysKept: KeysKept, cursor: [UInt8]? = nil, isOpenEnded: Bool = false
    ) {
        self.cursor = cursor
        self.isOpenEnded = isOpenEnded
        self.trigger = trigger
        self.window = window
        self.mode = mode
        self.isAudit = isAudit
        self.isBeyondRetention = isBeyondRetention
        self.keysKept = keysKept
    }
}

extension BackfillService {
    /// Jobs that were removed are of records from before they were made, by clocks that may differ by so much.
    private static let clocksDiffer = Span.minutes(5)

    /// Checks and begins one. Throws `.invalid` for what cannot be read by time, `.conflict` where the trigger does not run or
    /// another backfill of it does, `.needsConfirmation` where retention has removed what would have to be compared with.
    public func start(_ wanted: BackfillRequest) async throws -> StoredBackfill {
        let trigger = wanted.trigger
        switch trigger.state {
        case .starting, .running, .paused, .failed: break
        default:
            throw SluiceError(.conflict, "the trigger \(trigger.name) is \(trigger.state.rawValue): start it first").with(
                "trigger", trigger.name)
        }
        guard !trigger.isCallbackSource else {
            throw SluiceError(
                .invalid,
                "\(trigger.name) holds how callbacks ended: there is no list to read again. Each was asked about until it ended, and "
                    + "`sluice callback list` shows them"
            ).with("trigger", trigger.name)
        }
        let plan = try polling.catalogue.plan(for: trigger)
        let request = request(trigger, plan, cursor: nil, window: wanted.window)
        let begin: BackfillSource.Begin
        do {
            begin = try BackfillSource(plan, trigger).begin(wanted, request)
        } catch let failure as PollFailure {
            throw failure.error
        }
        var notes = begin.notes
        if let note = try await reach(wanted, begin) { notes.append(note) }
        notes += BackfillService.notes(wanted.window, begin, plan.triggerType, now: time.now())
        let started = try await store.startBackfill(
            NewBackfill(
                trigger: trigger.id, mode: wanted.mode, isAudit: wanted.isAudit, window: wanted.window, cursor: begin.cursor,
                definition: BackfillService.definition(of: trigger), notes: notes),
            at: time.now())
        logger.info("a backfill began", metadata: ["backfill": "\(started.id)", "trigger": "\(trigger.name)"])
        lookAgain()
        return started
    }

    func request(_ trigger: StoredTrigger, _ plan: PollPlan, cursor: [UInt8]?, window: BackfillWindow) -> PollRequest {
        let now = time.now()
        var request = PollRequest(
            triggerType: trigger.type, connection: plan.connection, input: plan.input, cursor: cursor, pageState: nil, readBound: now)
        request.window = window
        return request
    }

    /// What a trigger reads. Its state and its settings may change while a backfill lasts, this may not.
    static func definition(of trigger: StoredTrigger) -> [UInt8] {
        Array("\(trigger.uid)\n\(trigger.connection)\n\(trigger.type)\n".utf8) + trigger.input
    }

    /// Says what would be delivered twice, or throws (P4). A record is known by its dedup key, or by its job.
    private func reach(_ wanted: BackfillRequest, _ begin: BackfillSource.Begin) async throws -> String? {
        switch wanted.keysKept {
        case .all: return nil
        case .from(let floor) where begin.mark >= floor: return nil
        case .from, .unknown: break
        }
        guard let removed = try await store.removedJobs(wanted.trigger.id),
            wanted.window.from < removed.madeAt + BackfillService.clocksDiffer
        else { return nil }
        let what =
            "jobs up to position \(removed.through), made until \(removed.madeAt), were removed by retention, and their dedup keys are gone"
        if wanted.mode.repairs, !wanted.isBeyondRetention {
            throw SluiceError(
                .needsConfirmation,
                "\(what): records of these would become jobs again and be delivered again. Begin later, look first with "
                    + "`--mode dry-run`, or repeat with --beyond-retention if that is meant"
            ).with("trigger", wanted.trigger.name)
        }
        return "\(what.prefix(1).uppercased())\(what.dropFirst()): what they were counts as missing."
    }

    private static func notes(
        _ window: BackfillWindow, _ begin: BackfillSource.Begin, _ type: TriggerTypeDefinition, now: Timestamp
    ) -> [String] {
        var notes: [String] = []
        if let kept = begin.retention ?? type.retention, now - window.from > kept {
            notes.append(
                "The provider keeps what it lists for \(kept.milliseconds / 86_400_000) days: "
                    + "what it had before \(now - kept) cannot be known."
            )
        }
        if type.visibilityLag > .zero, now - window.to < type.visibilityLag {
            notes.append("Records become visible up to \(type.visibilityLag) late: the last ones of the window may not have been.")
        }
        return notes
    }
}

extension SluiceError.Code {
    /// The same words as the API's.
    static let needsConfirmation: Self = "needs_confirmation"
}
