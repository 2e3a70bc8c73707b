extension SubscriptionMachine {
    /// What came of a call.
    public enum Outcome: Sendable, Equatable {
        /// The provider has it, until `expiresAt` (nil: for ever).
        case subscribed(expiresAt: Timestamp?)
        case refreshed(expiresAt: Timestamp?)
        case checked(Check)
        case unsubscribed
        case failed(Failure)
    }

    public struct Failure: Sendable, Equatable {
        public var message: String
        /// The provider asked to wait at least this long.
        public var retryAfter: Span?
        /// Asking again will not mend it.
        public var isPermanent: Bool
        /// The provider may have done what it was asked, although it did not say so.
        public var mayHaveActed: Bool
        public init(_ message: String, retryAfter: Span? = nil, isPermanent: Bool = false, mayHaveActed: Bool) {
            self.message = message
            self.retryAfter = retryAfter
            self.isPermanent = isPermanent
            self.mayHaveActed = mayHaveActed
        }
    }

    /// What the provider has, compared with one of our subscriptions.
    public struct Check: Sendable, Equatable {
        public enum Status: String, Sendable, CaseIterable {
            case active, missing, disabled, drifted
            /// It cannot be told, for example because the provider finds nothing by URL.
            case unknown
        }
        public var status: Status
        public var expiresAt: Timestamp?
        /// Others with URLs of this server; nil: the provider's list was not read.
        public var others: [Other]?
        /// What its webhooks are signed with came with an answer that nobody recorded: none of them could be verified.
        public var lacksSecret: Bool
        public init(_ status: Status, expiresAt: Timestamp? = nil, others: [Other]? = nil, lacksSecret: Bool = false) {
            self.status = status
            self.expiresAt = expiresAt
            self.others = others
            self.lacksSecret = lacksSecret
        }
    }

    /// A subscription at the provider beside the one that was compared.
    public struct Other: Sendable, Equatable {
        /// How the provider calls it.
        public var foundID: String
        public enum URL: Sendable { case thisOne, anotherKnown, unknown }
        /// Whose URL it has.
        public var url: URL
        public init(foundID: String, url: URL) {
            self.foundID = foundID
            self.url = url
        }
    }

    /// What follows for others.
    public struct Consequence: Sendable, Equatable {
        /// Webhooks may have been missed until now: poll once.
        public var polls = false
        /// The first attempt to subscribe is over, well or not.
        public var isSettled = false
        /// To be recorded as new entries: what a check found, by its provider's id.
        public var additions: [Addition] = []
        public init() {}
    }

    public struct Addition: Sendable, Equatable {
        public var foundID: String
        public var phase: Subscription.Phase
        public init(foundID: String, phase: Subscription.Phase) {
            self.foundID = foundID
            self.phase = phase
        }
    }

    /// Takes the outcome of what `next` had said. `random` lies in 0..<1.
    public mutating func finish(_ outcome: Outcome, at now: Timestamp, random: Double) -> Consequence {
        guard case .call(let operation, let id) = inHand, let entry = entries.first(where: { $0.id == id }) else {
            handBack()
            return Consequence()
        }
        handBack()
        var consequence = Consequence()
        consequence.isSettled = entry.phase == .subscribing
        switch outcome {
        case .subscribed(let expiresAt):
            guard !isOver(expiresAt, now) else { return finishEnded(operation, entry, now, random, consequence) }
            activate(id, expiresAt: expiresAt, at: now, random: random)
            consequence.polls = true
        case .refreshed(let expiresAt):
            guard !isOver(expiresAt, now) else { return finishEnded(operation, entry, now, random, consequence) }
            update(id) { entry in
                (entry.attempts, entry.lastError, entry.nextAt) = (0, nil, now)
            }
            setExpiry(id, expiresAt, at: now, random: random)
        case .checked(let check): checked(check, entry, at: now, random: random, &consequence)
        case .unsubscribed:
            if abilities.canCheck, entry.foundID == nil {
                // One last look finds what was doubled, or took effect late.
                update(id) { entry in
                    (entry.hasOutput, entry.isUncertain, entry.attempts) = (false, true, 0)
                    entry.nextAt = max(now, entry.doubtUntil ?? now)
                }
            } else {
                goes(id, at: now)
            }
        case .failed(let failure): failed(operation, failure, entry, at: now, random: random)
        }
        return consequence
    }

    private func isOver(_ expiresAt: Timestamp?, _ now: Timestamp) -> Bool { expiresAt.map { $0 <= now } ?? false }

    private mutating func finishEnded(
        _ operation: Operation, _ entry: Subscription, _ now: Timestamp, _ random: Double, _ consequence: Consequence
    ) -> Consequence {
        let failure = Failure("the provider answers with a subscription that has ended already", isPermanent: true, mayHaveActed: true)
        failed(operation, failure, entry, at: now, random: random)
        return consequence
    }

    private mutating func activate(_ id: SubscriptionID, expiresAt: Timestamp?, at now: Timestamp, random: Double) {
        let (canCheck, policy) = (abilities.canCheck, policy)
        update(id) { entry in
            entry.phase = .active
            (entry.hasOutput, entry.isUncertain, entry.mustReplace) = (true, false, false)
            (entry.attempts, entry.lastError) = (0, nil)
            (entry.phaseSince, entry.nextAt) = (now, now)
            // Where nobody can check, `mayBeDoubled` says what is left of the doubt.
            if !canCheck { entry.doubtUntil = nil }
            entry.checkAt = policy.nextCheck(doubtUntil: entry.doubtUntil, at: now, random: random)
        }
        setExpiry(id, expiresAt, at: now, random: random)
    }

    private mutating func setExpiry(_ id: SubscriptionID, _ expiresAt: Timestamp?, at now: Timestamp, random: Double) {
        let policy = policy
        update(id) { entry in
            entry.expiresAt = expiresAt
            entry.refreshAt = expiresAt.map { now + ($0 - now).part(policy.refreshPart - policy.refreshJitter * random) }
        }
    }

    // MARK: Checks

    private mutating func checked(
        _ check: Check, _ entry: Subscription, at now: Timestamp, random: Double, _ consequence: inout Consequence
    ) {
        let (isIdempotent, policy) = (abilities.isIdempotent, policy)
        update(entry.id) { entry in
            entry.checkedAt = now
            entry.lastCheck = check.status.rawValue
            if let doubt = entry.doubtUntil, doubt <= now { entry.doubtUntil = nil }
            // Others with its URL are recorded below, by themselves.
            if check.others != nil, entry.doubtUntil == nil { entry.mayBeDoubled = false }
            entry.checkAt = policy.nextCheck(doubtUntil: entry.doubtUntil, at: now, random: random)
        }
        switch (entry.phase, check.status) {
        case (.subscribing, .missing):
            update(entry.id) { entry in (entry.isUncertain, entry.nextAt) = (false, now) }
            consequence.isSettled = false
        case (.subscribing, .unknown):
            update(entry.id) { entry in
                (entry.isUncertain, entry.nextAt) = (false, now)
                entry.mayBeDoubled = !isIdempotent
            }
            consequence.isSettled = false
        case (.unsubscribing, .unknown):
            update(entry.id) { entry in
                (entry.phase, entry.phaseSince) = (.leftBehind, now)
                entry.lastError = "the provider did not answer when it was asked to subscribe"
            }
        case (.active, .unknown), (.leftBehind, _): break
        case (.subscribing, _):
            activate(entry.id, expiresAt: check.expiresAt, at: now, random: random)
            if check.status != .active || isOver(check.expiresAt, now) || check.lacksSecret { update(entry.id) { $0.mustReplace = true } }
            consequence.polls = true
        case (.active, .missing):
            update(entry.id) { entry in
                entry.phase = .subscribing
                (entry.hasOutput, entry.isUncertain, entry.mustReplace) = (false, false, false)
                (entry.attempts, entry.phaseSince, entry.nextAt) = (0, now, now)
                (entry.expiresAt, entry.refreshAt) = (nil, nil)
                entry.lastError = "it is missing at the provider"
            }
        case (.active, .active):
            if let expiresAt = check.expiresAt, expiresAt != entry.expiresAt {
                setExpiry(entry.id, expiresAt, at: now, random: random)
            }
        case (.active, _): update(entry.id) { $0.mustReplace = true }
        case (.unsubscribing, .missing):
            update(entry.id) { entry in
                if let doubt = entry.doubtUntil { entry.nextAt = doubt } else { entry.isUncertain = false }
            }
        case (.unsubscribing, _): update(entry.id) { entry in (entry.hasOutput, entry.nextAt) = (true, now) }
        }
        if let others = check.others { compare(others, key: entry.key, at: now, &consequence) }
    }

    /// What is doubled is removed, since its URL is ours; what nobody knows is shown, and removed by command only.
    /// `key`: of what was checked. Whoever was made from another one may stand in another list.
    private mutating func compare(_ others: [Other], key: String, at now: Timestamp, _ consequence: inout Consequence) {
        for other in others where !entries.contains(where: { $0.foundID == other.foundID }) {
            switch other.url {
            case .thisOne: consequence.additions.append(Addition(foundID: other.foundID, phase: .unsubscribing))
            case .unknown: consequence.additions.append(Addition(foundID: other.foundID, phase: .leftBehind))
            case .anotherKnown: break
            }
        }
        for entry in entries where entry.phase == .leftBehind && entry.key == key {
            if let foundID = entry.foundID, !others.contains(where: { $0.foundID == foundID }) { remove(entry.id) }
        }
    }

    // MARK: Failures

    private mutating func failed(
        _ operation: Operation, _ failure: Failure, _ before: Subscription, at now: Timestamp, random: Double
    ) {
        let abilities = abilities
        let policy = policy
        update(before.id) { entry in
            if operation == .check, entry.phase == .active {
                entry.lastCheck = "failed: \(failure.message)"
                entry.checkAt = now + max(policy.checkRetry + policy.checkRetry.part(random), failure.retryAfter ?? .zero)
                return
            }
            entry.attempts += 1
            entry.lastError = failure.message
            var delay = Backoff.delay(failures: entry.attempts, random: random)
            switch operation {
            case .subscribe:
                // Set before the call, for the case of a crash.
                entry.isUncertain = failure.mayHaveActed || !abilities.canCheck && entry.doubtUntil != nil
                if failure.mayHaveActed {
                    entry.doubtUntil = now + policy.settleSpan
                    // What came late would replace what the next request makes.
                    if abilities.isIdempotent, !abilities.canCheck { delay = max(delay, policy.settleSpan) }
                }
            case .check:
                // Whoever cannot be asked whether it worked is asked again, and there may be two.
                if failure.isPermanent, entry.attempts >= 5, entry.phase == .subscribing {
                    entry.isUncertain = false
                    entry.mayBeDoubled = !abilities.isIdempotent
                    delay = .zero
                }
            case .refresh:
                if failure.isPermanent, entry.attempts >= 2 { entry.mustReplace = true }
                // Several tries before the end, however short its life.
                if let expiresAt = entry.expiresAt { delay = min(delay, max(.seconds(1), (expiresAt - now).part(0.25))) }
            case .unsubscribe: break
            }
            entry.nextAt = now + max(delay, failure.retryAfter ?? .zero)
            guard entry.phase == .unsubscribing else { return }
            if operation == .check, failure.isPermanent, entry.doubtUntil == nil {
                // The last look after it was removed cannot be had, and there is no doubt to be cleared up.
                entry.isUncertain = false
                return
            }
            let isTooLong = now - entry.phaseSince >= policy.giveUpSpan && entry.attempts >= policy.triesMin
            if isTooLong || failure.isPermanent && entry.attempts >= policy.permanentTriesMax {
                (entry.phase, entry.phaseSince) = (.leftBehind, now)
            }
        }
    }
}

extension SubscriptionPolicy {
    /// Soon after the last moment at which a request may have taken effect, otherwise at the usual interval.
    fileprivate func nextCheck(doubtUntil: Timestamp?, at now: Timestamp, random: Double) -> Timestamp {
        let usual = now + checkInterval - checkInterval.part(0.1 * random)
        return doubtUntil.map { min(usual, max($0, now)) } ?? usual
    }
}
