/// One refresh of an access token by a refresh token that may rotate. A state machine: what happened in, what to do next out,
/// one thing at a time.
///
/// It promises, whatever crashes and whoever else refreshes:
/// - Nobody gets an access token before the refresh token that came with it is stored.
/// - Of all nodes at most one asks the provider at a time: it claims the chain first. A claim ends with its holder's lease,
///   or by itself.
/// - A token that was stored is given up only when the provider refuses it and every other one that is kept.
/// - What the provider answered is not lost to a store that fails for a moment: it is offered again (`unsaved`).
///
/// ```
///   load ─▶ a fresh access token is there ─▶ finish
///     ├─▶ somebody else asks ─▶ wait ─▶ load …
///     └─▶ store the claim ─▶ send ─▶ answered ─▶ store the new chain ─▶ finish
///              │               │                     └─ changed meanwhile ─▶ load, merge, store …
///              └─ changed      ├─ invalid grant ─▶ send the token before ─▶ … ─▶ load once more ─▶ release, fail: authorize again
///                 ─▶ load …    └─ failed ─▶ release, fail: later
/// ```
/// A crash between the provider's answer and the store leaves the claim and the old tokens. The next one to refresh tries
/// these: with a grace period at the provider they are taken; without one they are refused, and that is said.
public struct TokenRefresh: Sendable {
    public struct Setting: Sendable {
        /// The value that the definition gives, and its digest.
        public var seedToken: String
        public var seed: [UInt8]
        /// An access token that the provider refused: the stored one is no use if it is this.
        public var refused: AccessToken?
        public var node: String
        public var fence: (shard: Int, epoch: LeaseEpoch)
        /// How long the provider and the store may take together.
        public var claimSpan: Span
        /// What a refresh before this one got and could not store.
        public var unsaved: Unsaved?

        public init(
            seedToken: String, seed: [UInt8], refused: AccessToken?, node: String, fence: (shard: Int, epoch: LeaseEpoch),
            claimSpan: Span = .seconds(90), unsaved: Unsaved? = nil
        ) {
            self.seedToken = seedToken
            self.seed = seed
            self.refused = refused
            self.node = node
            self.fence = fence
            self.claimSpan = claimSpan
            self.unsaved = unsaved
        }
    }

    /// An answer that is not stored yet, and the refresh token that was spent on it.
    public struct Unsaved: Sendable, Equatable {
        public var answer: TokenAnswer
        public var spent: String
    }

    public enum Event: Sendable {
        case loaded(TokenChain?, version: Int64)
        case stored(version: Int64)
        /// Somebody else changed what is stored.
        case conflicted
        case storeFailed(SluiceError)
        case answered(TokenAnswer)
        case failed(TokenFailure)
        /// The wait is over.
        case waited
    }

    public enum Action: Sendable, Equatable {
        case load
        /// Replace the chain if its version is still this one.
        case store(TokenChain, version: Int64)
        /// Ask the provider with this refresh token.
        case send(String)
        case wait(Span)
        case finish(AccessToken)
        case fail(TokenFailure)
    }

    private enum Phase {
        case reading
        case claiming(TokenChain)
        case asking(TokenChain, spent: String, untried: [String])
        /// The chain with the answer is on its way to the store.
        case saving(TokenChain)
        case merging
        /// Every token was refused: has somebody else got another one meanwhile?
        case lookingAgain(TokenFailure)
        case releasing(TokenFailure)
    }

    private static let conflictsMax = 20
    private static let savesMax = 4
    private static let othersWait = Span.milliseconds(500)

    private let setting: Setting
    private var phase = Phase.reading
    private var version: Int64 = 0
    private var tried: [String] = []
    private var conflicts = 0
    private var saves = 0
    private var rereads = 0
    private var lastRefusal: TokenFailure?
    private let giveUpWaitingAt: Timestamp
    /// What would be lost if nobody stored it.
    public private(set) var unsaved: Unsaved?

    /// Begin with `load`.
    public init(_ setting: Setting, at now: Timestamp) {
        self.setting = setting
        unsaved = setting.unsaved
        giveUpWaitingAt = now + setting.claimSpan
        if unsaved != nil { phase = .merging }
    }

    /// What to do next. After `finish` and `fail` it is over.
    public mutating func handle(_ event: Event, at now: Timestamp) -> Action {
        switch (phase, event) {
        case (.reading, .loaded(let chain, let version)): return read(chain, version, at: now)
        case (.merging, .loaded(let chain, let version)): return merge(chain, version)
        case (.lookingAgain(let failure), .loaded(let chain, let version)): return lookAgain(chain, version, failure, at: now)
        case (.claiming(let chain), .stored(let version)):
            self.version = version
            return ask(chain, chain.tokens.filter { !tried.contains($0) })
        case (.asking(let chain, let spent, _), .answered(let answer)): return save(chain, answer, spent)
        case (.asking(let chain, _, let untried), .failed(let failure)): return refused(chain, untried, failure)
        case (.saving(let chain), .stored): return saved(chain, at: now)
        case (.saving, .conflicted): return countConflict(then: .merging)
        case (.saving(let chain), .waited): return .store(chain, version: version)
        case (.saving, .storeFailed(let error)):
            saves += 1
            if saves >= TokenRefresh.savesMax { return .fail(TokenFailure(.transient, error)) }
            return .wait(.milliseconds(250 << Int64(saves)))
        case (.releasing(let failure), .stored), (.releasing(let failure), .conflicted), (.releasing(let failure), .storeFailed):
            return .fail(failure)
        case (.reading, .waited): return .load
        case (.claiming, .conflicted): return countConflict(then: .reading)
        case (.lookingAgain(let failure), .storeFailed): return .fail(failure)
        case (_, .storeFailed(let error)): return .fail(TokenFailure(.transient, error))
        default: return .fail(TokenRefresh.confused)
        }
    }

    private static let confused = TokenFailure(
        .transient, SluiceError(.internalError, "a token refresh was told something that it did not wait for"))

    private mutating func countConflict(then phase: Phase) -> Action {
        conflicts += 1
        if conflicts >= TokenRefresh.conflictsMax {
            return .fail(TokenFailure(.transient, SluiceError(.conflict, "the connection's tokens are being changed by others")))
        }
        self.phase = phase
        return .load
    }

    // MARK: Reading and claiming

    private mutating func read(_ stored: TokenChain?, _ version: Int64, at now: Timestamp) -> Action {
        self.version = version
        var chain = TokenChain(seed: setting.seed, tokens: [setting.seedToken])
        if let stored, stored.seed == setting.seed {
            if let access = stored.access, access.value != setting.refused?.value, access.isFresh(at: now) { return .finish(access) }
            if let claim = stored.claim, isHeld(claim, at: now) {
                if now >= giveUpWaitingAt {
                    return .fail(TokenFailure(.transient, SluiceError(.overloaded, "another node asks for the token and does not finish")))
                }
                return .wait(TokenRefresh.othersWait)
            }
            chain = stored
        }
        chain.claim = TokenChain.Claim(
            node: setting.node, epoch: setting.fence.epoch, shard: setting.fence.shard, until: now + setting.claimSpan)
        phase = .claiming(chain)
        return .store(chain, version: version)
    }

    private func isHeld(_ claim: TokenChain.Claim, at now: Timestamp) -> Bool {
        if claim.node == setting.node || claim.until <= now || claim.until > now + setting.claimSpan { return false }
        return claim.shard != setting.fence.shard || claim.epoch >= setting.fence.epoch
    }

    // MARK: Asking

    private mutating func ask(_ chain: TokenChain, _ candidates: [String]) -> Action {
        guard let first = candidates.first else { return release(chain, lastRefusal ?? TokenRefresh.confused) }
        tried.append(first)
        phase = .asking(chain, spent: first, untried: Array(candidates.dropFirst()))
        return .send(first)
    }

    private mutating func refused(_ chain: TokenChain, _ untried: [String], _ failure: TokenFailure) -> Action {
        guard failure.kind == .invalidGrant else { return release(chain, failure) }
        lastRefusal = failure
        if !untried.isEmpty { return ask(chain, untried) }
        phase = .lookingAgain(failure)
        return .load
    }

    /// Another node may have been given a token while ours was refused for being spent: by it.
    private mutating func lookAgain(_ stored: TokenChain?, _ version: Int64, _ failure: TokenFailure, at now: Timestamp) -> Action {
        self.version = version
        guard let stored, stored.seed == setting.seed else { return .fail(failure) }
        if let access = stored.access, access.value != setting.refused?.value, access.isFresh(at: now) { return .finish(access) }
        let untried = stored.tokens.filter { !tried.contains($0) }
        if untried.isEmpty { return release(stored, failure) }
        if let claim = stored.claim, isHeld(claim, at: now) {
            phase = .reading
            return .wait(TokenRefresh.othersWait)
        }
        return ask(stored, untried)
    }

    private mutating func release(_ chain: TokenChain, _ failure: TokenFailure) -> Action {
        guard chain.claim?.node == setting.node else { return .fail(failure) }
        var chain = chain
        chain.claim = nil
        phase = .releasing(failure)
        return .store(chain, version: version)
    }

    // MARK: Saving

    private mutating func save(_ chain: TokenChain, _ answer: TokenAnswer, _ spent: String) -> Action {
        unsaved = Unsaved(answer: answer, spent: spent)
        return store(answer, spent, in: chain)
    }

    private mutating func store(_ answer: TokenAnswer, _ spent: String, in chain: TokenChain) -> Action {
        var chain = chain
        chain.push(spent)
        if let token = answer.refreshToken { chain.push(token) }
        chain.access = answer.access
        if chain.claim?.node == setting.node { chain.claim = nil }
        phase = .saving(chain)
        return .store(chain, version: version)
    }

    private mutating func saved(_ chain: TokenChain, at now: Timestamp) -> Action {
        unsaved = nil
        guard let access = chain.access else { return .fail(TokenRefresh.confused) }
        // What an earlier refresh could not store may have expired meanwhile.
        if setting.unsaved == nil || rereads > 0 || access.isFresh(at: now) { return .finish(access) }
        rereads += 1
        phase = .reading
        return .load
    }

    /// The answer goes into what somebody else made of the chain.
    private mutating func merge(_ stored: TokenChain?, _ version: Int64) -> Action {
        self.version = version
        guard let unsaved else { return .fail(TokenRefresh.confused) }
        guard let stored else { return store(unsaved.answer, unsaved.spent, in: TokenChain(seed: setting.seed, tokens: [unsaved.spent])) }
        guard stored.seed == setting.seed else {
            self.unsaved = nil
            return .fail(TokenFailure(.transient, SluiceError(.conflict, "the connection was authorized anew meanwhile")))
        }
        guard let newest = stored.tokens.first, newest != unsaved.spent, newest != unsaved.answer.refreshToken else {
            return store(unsaved.answer, unsaved.spent, in: stored)
        }
        // Both were given out; which one the provider will take is not known, so both are kept.
        var chain = stored
        if let token = unsaved.answer.refreshToken, !chain.tokens.contains(token) {
            chain.tokens.insert(token, at: 1)
            if chain.tokens.count > TokenChain.tokensMax { chain.tokens.removeLast() }
        }
        if chain.access == nil || chain.access?.value == setting.refused?.value { chain.access = unsaved.answer.access }
        if chain.claim?.node == setting.node { chain.claim = nil }
        phase = .saving(chain)
        return .store(chain, version: version)
    }
}
