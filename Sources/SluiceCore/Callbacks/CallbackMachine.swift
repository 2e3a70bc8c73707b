/// Decides about one pending operation: when the provider is asked, what its answers and calls mean, how it ends.
///
/// ```
///              called (asks) ─▶ asked at once, or 20 s after the start before
///                  ╭──╮
///                  ▼  │      answered: over, or (where nothing can be asked) a verified call
///  created ─────▶ pending ─────────────────────────────────────────────────────▶ settled | failed
///                  │  │      its time is up, and the last status poll said no more
///                  │  ╰────────────────────────────────────────────────────────▶ expired
///                  ╰──────── cancel ───────────────────────────────────────────▶ cancelled
/// ```
/// It promises:
/// - It ends once. Whatever comes later (calls, answers, a cancellation) changes nothing.
/// - Where the provider can be asked, no call ends it: only the provider's own answer does, or its time, or whoever made it.
/// - Calls cause at most 2 + W/20 s status polls in any W seconds, and the last of them is followed by one.
/// - It does not expire before a status poll that began at its end or later was answered, or was tried for `grace` in vain: counted
///   from the first one that was sent. Where none can be sent, it waits for `graceUnasked`. Both begin anew with each process.
/// - Where nothing can be asked, one that was made before a process began does not expire for `graceOfCalls` from then on: what
///   could not be taken meanwhile is sent again.
///
/// Pure: whoever uses it passes the time in, records what it holds, and begins anew from that after a crash.
public struct CallbackMachine: Sendable, Equatable {
    public private(set) var callback: Callback
    public let policy: CallbackPolicy
    /// Since when this process asks and takes calls.
    let servedSince: Timestamp

    public init(_ callback: Callback, policy: CallbackPolicy = CallbackPolicy(), servedSince: Timestamp = .distantPast) {
        self.callback = callback
        self.policy = policy
        self.servedSince = servedSince
    }

    /// A new one. `random` in 0..<1 spreads the polls of many that were made together.
    public init(asks: Bool, at now: Timestamp, expiresAt: Timestamp, policy: CallbackPolicy = CallbackPolicy(), random: Double = 0) {
        let first = asks ? min(expiresAt, now + CallbackMachine.jittered(policy.pause(0), random)) : expiresAt
        self.init(Callback(asks: asks, createdAt: now, expiresAt: expiresAt, nextAt: first), policy: policy)
    }

    public enum Due: Sendable, Equatable {
        case nothing
        /// Ask the provider. `covers` is to be handed back with its answer.
        case poll(covers: Int64)
        /// Its time is up: `expire` ends it or puts that off.
        case expire
    }

    public func due(at now: Timestamp) -> Due {
        guard callback.state == .pending, callback.nextAt <= now else { return .nothing }
        if callback.asks { return .poll(covers: callback.signals) }
        return callback.expiresAt <= now ? .expire : .nothing
    }

    /// What a status poll brought.
    public enum Answer: Sendable, Equatable {
        case pending(retryAfter: Span? = nil)
        case over(failed: Bool)
        /// No answer; `isHeldBack`: nothing was sent, because the connection waits; `isUnasked`: nothing was sent, because nobody
        /// knows how.
        case none(reason: String, retryAfter: Span? = nil, isHeldBack: Bool = false, isUnasked: Bool = false)
    }

    /// A call came. `covering`: the signals that a poll under way will cover, nil if none is. True: something changed and is to be
    /// recorded before the call is answered.
    public mutating func called(covering: Int64?, at now: Timestamp) -> Bool {
        guard callback.state == .pending, callback.asks else { return false }
        // One that waits already speaks for this one, too.
        if callback.signals > max(callback.covered, covering ?? callback.covered) { return false }
        callback.signals += 1
        callback.nextAt = min(callback.nextAt, max(now, callback.lastStartAt.map { $0 + policy.throttle } ?? now))
        return true
    }

    /// A verified call brought the result. False: it is over already, or the result is the provider's answer alone.
    public mutating func brought(at now: Timestamp) -> Bool {
        guard callback.state == .pending, !callback.asks else { return false }
        end(.settled, at: now)
        return true
    }

    /// A status poll that began at `startedAt` and covers `covers` was answered. False: it was over already.
    public mutating func answered(
        _ answer: Answer, covers: Int64, startedAt: Timestamp, at now: Timestamp, random: Double = 0
    ) -> Bool {
        guard callback.state == .pending, callback.asks else { return false }
        if case .none(let reason, let retryAfter, let isHeldBack, let isUnasked) = answer {
            unanswered(reason, retryAfter, isHeldBack, isSent: !isHeldBack && !isUnasked, startedAt: startedAt, at: now, random)
            return true
        }
        callback.polls += 1
        callback.failures = 0
        callback.lastError = nil
        callback.lastStartAt = startedAt
        guard case .pending(let retryAfter) = answer else {
            if case .over(let failed) = answer { end(failed ? .failed : .settled, at: now) }
            return true
        }
        let wasCalledFor = covers > callback.covered
        callback.covered = max(callback.covered, covers)
        if startedAt >= callback.expiresAt {
            end(.expired, "its time was up, and the provider says that the operation is still pending", at: now)
            return true
        }
        let wished = retryAfter.map { max(.seconds(1), min($0, CallbackPolicy.retryAfterMax)) }
        callback.step = min(callback.step + 1, policy.pauses.count - 1)
        let pause = wished ?? CallbackMachine.jittered(policy.pause(callback.step), random)
        callback.nextAt = min(now + pause, callback.expiresAt)
        // A call may come before the provider's own API knows: it is asked once more soon after. And what came meanwhile waits.
        if wasCalledFor || callback.signals > callback.covered {
            callback.nextAt = min(callback.nextAt, max(now, startedAt + policy.throttle))
        }
        return true
    }

    private mutating func unanswered(
        _ reason: String, _ retryAfter: Span?, _ isHeldBack: Bool, isSent: Bool, startedAt: Timestamp, at now: Timestamp,
        _ random: Double
    ) {
        if !isHeldBack {
            callback.polls += 1
            callback.failures += 1
        }
        if isSent, !isTriedLast(before: startedAt) { callback.lastStartAt = startedAt }
        callback.lastError = reason
        let doubled = Span.seconds(5) * Int64(1 << min(max(callback.failures - 1, 0), 10))
        // Whoever called says that there is an answer to be had.
        let longest: Span = callback.signals > callback.covered ? .minutes(1) : .hours(1)
        var pause = CallbackMachine.jittered(min(doubled, longest), random)
        if let retryAfter { pause = max(min(retryAfter, CallbackPolicy.retryAfterMax), isHeldBack ? .seconds(1) : pause) }
        guard startedAt >= callback.expiresAt else {
            callback.nextAt = min(now + pause, callback.expiresAt)
            return
        }
        let end = isSent ? (callback.lastStartAt ?? startedAt) + policy.grace : max(callback.expiresAt, servedSince) + policy.graceUnasked
        if now < end {
            callback.nextAt = min(now + min(pause, .minutes(1)), end)
        } else {
            let trouble = isSent ? "the last status poll gave no answer" : "the provider could not be asked"
            self.end(.expired, "its time was up, and \(trouble): \(reason)", at: now)
        }
    }

    /// Whether a last status poll was sent before, by this process: `lastStartAt` stays at the first of them.
    private func isTriedLast(before now: Timestamp) -> Bool {
        guard let start = callback.lastStartAt else { return false }
        return start >= max(callback.expiresAt, servedSince) && start <= now
    }

    /// Its time is up, or is put off for calls that could not be taken. False: it is not, or the provider is to be asked first.
    public mutating func expire(at now: Timestamp) -> Bool {
        guard due(at: now) == .expire else { return false }
        let putOff = servedSince + policy.graceOfCalls
        if callback.createdAt < servedSince, now < putOff {
            callback.nextAt = putOff
            return true
        }
        end(.expired, "its time was up, and no call had brought a result", at: now)
        return true
    }

    /// False: it is over; `callback.state` says how.
    public mutating func cancel(reason: String?, at now: Timestamp) -> Bool {
        guard callback.state == .pending else { return false }
        end(.cancelled, reason, at: now)
        return true
    }

    /// Calls may have been missed until now: ask within `window`.
    public mutating func missedCalls(window: Span, at now: Timestamp, random: Double) -> Bool {
        guard callback.state == .pending, callback.asks else { return false }
        let due = now + Span(milliseconds: Int64(Double(window.milliseconds) * random))
        guard due < callback.nextAt else { return false }
        callback.nextAt = due
        return true
    }

    private mutating func end(_ state: CallbackState, _ reason: String? = nil, at now: Timestamp) {
        callback.state = state
        callback.reason = reason
        callback.endedAt = now
        callback.nextAt = .distantFuture
    }

    /// Longer by up to a tenth.
    private static func jittered(_ pause: Span, _ random: Double) -> Span {
        pause + Span(milliseconds: Int64(Double(pause.milliseconds) * 0.1 * random))
    }
}
