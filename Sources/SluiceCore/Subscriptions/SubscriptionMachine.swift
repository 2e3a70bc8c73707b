/// The life of a trigger's subscriptions at its provider (P11).
///
/// ```
///   wanted      recorded            the provider answered                    refreshed, checked
///  ───────▶ subscribing ───────────────────────────────────▶ active ─────────────────────────┐
///              │  ▲  └─ no answer: check first, then adopt (*) │ │ ▲                          │
///              │  └───────────── missing at the provider ──────┘ │ └──────────────────────────┘
///              │ not wanted                 not wanted, replaced │
///              ▼                                                 ▼
///          unsubscribing ◀─────────────────────────────── unsubscribing ──── given up ────▶ left behind
///              │ gone                                            │ gone
/// ```
/// (*) One whose secret was in the answer that nobody recorded is replaced: its webhooks could not be verified.
///
/// It promises: an intention is recorded before the provider is asked, with the unguessable URL that will be used; so whatever
/// a crash leaves at the provider can be found by that URL. A new subscription is made before the one it replaces is removed.
/// When nothing fails any more, the provider has exactly one subscription for a trigger that wants one and none for one that
/// does not, or a problem is shown (`problems`).
///
/// The shell calls `next`, records `takeChanges` durably, and only then does what `next` said; it reports with `finish`.
/// After a crash it begins again from what was recorded. One thing at a time.
public struct SubscriptionMachine: Sendable {
    public enum Operation: String, Sendable { case subscribe, refresh, check, unsubscribe }

    public enum Step: Sendable, Equatable {
        /// Record a new intention with a new URL, then call `created`.
        case create
        case call(Operation, SubscriptionID)
    }

    public internal(set) var entries: [Subscription]
    /// The key of the subscription that is wanted; nil: none.
    public private(set) var wantedKey: String?
    /// Nothing new is made, and nothing is replaced: something is missing that only people can give.
    public private(set) var isHeld = false
    public var abilities: SubscriptionAbilities
    public let policy: SubscriptionPolicy
    public private(set) var inHand: Step?
    private var changed: Set<SubscriptionID> = []
    private var removed: [Subscription] = []

    /// `entries` as they are stored. What was under way when the process before ended is uncertain; what is active is compared
    /// with the provider soon. `random` lies in 0..<1.
    public init(
        entries: [Subscription] = [], abilities: SubscriptionAbilities = SubscriptionAbilities(),
        policy: SubscriptionPolicy = SubscriptionPolicy(), at now: Timestamp, random: Double = 0
    ) {
        self.entries = entries.sorted { $0.id < $1.id }
        self.abilities = abilities
        self.policy = policy
        for index in self.entries.indices {
            var entry = self.entries[index]
            if entry.isUncertain, !entry.hasOutput {
                entry.doubtUntil = now + policy.settleSpan
                entry.nextAt = abilities.isIdempotent && !abilities.canCheck ? now + policy.settleSpan : now
                entry.attempts = max(1, entry.attempts)
            }
            // A clock that jumped postpones nothing.
            entry.nextAt = min(entry.nextAt, now + Backoff.delayMax)
            if entry.phase == .active { entry.checkAt = now + policy.checkSpread.part(random) }
            put(entry)
        }
    }

    /// What the trigger wants now. `held`: existing ones are kept and refreshed, but nothing is made or replaced.
    public mutating func want(_ key: String?, held: Bool = false) {
        wantedKey = key
        isHeld = held
    }

    /// Compare with the provider at once, and try again at once what waits.
    public mutating func checkNow(at now: Timestamp) {
        for entry in entries where entry.phase != .leftBehind {
            update(entry.id) { entry in
                if entry.phase == .active { entry.checkAt = now }
                entry.nextAt = min(entry.nextAt, now)
            }
        }
    }

    /// Takes up what was left behind: where the provider's name for it is known it is removed there, otherwise forgotten, since
    /// somebody has looked. False if there is no such thing.
    public mutating func removeLeftBehind(_ id: SubscriptionID, at now: Timestamp) -> Bool {
        guard let entry = entries.first(where: { $0.id == id }), entry.phase == .leftBehind || entry.mayBeDoubled else { return false }
        if entry.phase != .leftBehind {
            update(id) { $0.mayBeDoubled = false }
        } else if entry.hasOutput {
            update(id) { entry in
                entry.phase = .unsubscribing
                entry.mayBeDoubled = false
                (entry.phaseSince, entry.nextAt, entry.attempts) = (now, now, 0)
            }
        } else {
            remove(id)
        }
        return true
    }

    /// What lies beside an entry has changed: it is to be recorded, too.
    public mutating func touch(_ id: SubscriptionID) { if entries.contains(where: { $0.id == id }) { changed.insert(id) } }

    /// What must be recorded before anything else is done: entries as they are now, and those that are no more.
    public mutating func takeChanges() -> (changed: [Subscription], removed: [Subscription]) {
        defer { (changed, removed) = ([], []) }
        return (entries.filter { changed.contains($0.id) }, removed)
    }

    // MARK: What is to be done

    /// The next thing to do, which is in hand until `created` or `finish`; nil: wait until `wake`.
    public mutating func next(at now: Timestamp) -> Step? {
        guard inHand == nil else { return nil }
        arrange(at: now)
        if wantsAnother, createAt.map({ $0 <= now }) ?? true {
            inHand = .create
        } else if let (operation, id) = due(at: now) {
            if operation == .subscribe {
                let isIdempotent = abilities.isIdempotent
                update(id) { entry in
                    if entry.isUncertain { entry.mayBeDoubled = !isIdempotent }
                    entry.isUncertain = true
                }
            }
            inHand = .call(operation, id)
        }
        return inHand
    }

    /// The intention is recorded.
    public mutating func created(_ entry: Subscription) {
        inHand = nil
        entries.append(entry)
    }

    /// What was in hand could not be begun: nothing was asked of the provider.
    public mutating func dropped() { inHand = nil }

    /// When `next` may have something to do; nil: not before something changes.
    public func wake() -> Timestamp? {
        if inHand != nil { return nil }
        var times: [Timestamp] = wantsAnother ? [createAt ?? .distantPast] : []
        for entry in entries {
            switch entry.phase {
            case .subscribing: if !isHeld || wantedKey == nil { times.append(entry.nextAt) }
            case .unsubscribing: times.append(entry.nextAt)
            case .active:
                if wantedKey == nil { times.append(.distantPast) }
                if let expiresAt = entry.expiresAt, !entry.mustReplace { times.append(expiresAt) }
                if let refreshAt = entry.refreshAt, !entry.mustReplace { times.append(max(refreshAt, entry.nextAt)) }
                if abilities.canCheck, entry.id == newest?.id { times.append(entry.checkAt) }
            case .leftBehind: break
            }
        }
        return times.min()
    }

    /// The one that is used, or will be.
    public var newest: Subscription? { entries.last { $0.isLive } }

    /// Whether webhooks can come.
    public func isSubscribed(at now: Timestamp) -> Bool { entries.contains { $0.phase == .active && !$0.isLapsed(at: now) } }

    /// Nothing is left to unsubscribe from, or it was given up visibly.
    public var isOver: Bool { entries.allSatisfy { $0.phase == .leftBehind } && inHand == nil }

    private var wantsAnother: Bool {
        guard let wantedKey, !isHeld else { return false }
        guard let newest else { return true }
        return newest.phase == .active && (newest.mustReplace || newest.key != wantedKey)
    }

    private var createAt: Timestamp? { newest.map { $0.phaseSince + policy.replaceSpanMin } }

    /// Everything that follows without asking anybody.
    private mutating func arrange(at now: Timestamp) {
        for entry in entries where entry.phase == .active && !entry.mustReplace {
            let cannotBeRefreshed = !abilities.canRefresh && entry.refreshAt.map { $0 <= now } ?? false
            if entry.isLapsed(at: now) || cannotBeRefreshed { update(entry.id) { $0.mustReplace = true } }
        }
        let newest = newest
        for entry in entries where entry.isLive {
            let isSurplus =
                if let newest, wantedKey != nil {
                    entry.id != newest.id && (newest.phase == .active || entry.phase == .subscribing)
                        || !isHeld && entry.id == newest.id && entry.phase == .subscribing && entry.key != wantedKey
                } else {
                    wantedKey == nil
                }
            if isSurplus { retire(entry.id, at: now) }
        }
        for entry in entries where entry.phase == .unsubscribing && !entry.hasOutput {
            if !entry.isUncertain {
                goes(entry.id, at: now)
            } else if !abilities.canCheck {
                update(entry.id) { entry in
                    entry.phase = .leftBehind
                    entry.phaseSince = now
                    entry.lastError = "the provider did not answer when it was asked to subscribe"
                }
            }
        }
    }

    private mutating func retire(_ id: SubscriptionID, at now: Timestamp) {
        update(id) { entry in
            entry.phase = .unsubscribing
            (entry.phaseSince, entry.nextAt, entry.attempts) = (now, now, 0)
        }
    }

    /// It is no more, apart from what nobody can know.
    mutating func goes(_ id: SubscriptionID, at now: Timestamp) {
        guard let entry = entries.first(where: { $0.id == id }) else { return }
        guard entry.mayBeDoubled else { return remove(id) }
        update(id) { entry in
            entry.phase = .leftBehind
            entry.hasOutput = false
            entry.phaseSince = now
        }
    }

    private func due(at now: Timestamp) -> (Operation, SubscriptionID)? {
        if let newest {
            if newest.phase == .subscribing, newest.nextAt <= now, !isHeld {
                return (newest.isUncertain && abilities.canCheck ? .check : .subscribe, newest.id)
            }
            if let old = entries.first(where: { mayRefresh($0, at: now) }) { return (.refresh, old.id) }
        }
        if let entry = entries.first(where: { $0.phase == .unsubscribing && $0.nextAt <= now }) {
            return (entry.hasOutput ? .unsubscribe : .check, entry.id)
        }
        if let newest, newest.phase == .active, abilities.canCheck, newest.checkAt <= now { return (.check, newest.id) }
        return nil
    }

    private func mayRefresh(_ entry: Subscription, at now: Timestamp) -> Bool {
        guard entry.phase == .active, abilities.canRefresh, !entry.mustReplace, let refreshAt = entry.refreshAt else { return false }
        return refreshAt <= now && entry.nextAt <= now
    }

    // MARK: Entries

    mutating func update(_ id: SubscriptionID, _ body: (inout Subscription) -> Void) {
        guard let index = entries.firstIndex(where: { $0.id == id }) else { return }
        var entry = entries[index]
        body(&entry)
        put(entry)
    }

    private mutating func put(_ entry: Subscription) {
        guard let index = entries.firstIndex(where: { $0.id == entry.id }), entries[index] != entry else { return }
        entries[index] = entry
        changed.insert(entry.id)
    }

    mutating func remove(_ id: SubscriptionID) {
        guard let index = entries.firstIndex(where: { $0.id == id }) else { return }
        removed.append(entries.remove(at: index))
        changed.remove(id)
    }

    mutating func handBack() { inHand = nil }
}

extension Span {
    /// A part of it, `random` in 0..<1.
    func part(_ random: Double) -> Span { Span(milliseconds: Int64(Double(milliseconds) * random)) }
}
