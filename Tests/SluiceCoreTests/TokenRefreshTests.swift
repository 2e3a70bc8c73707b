import SluiceCore
import Testing

/// Refreshes of a rotating token through crashes, other nodes and failing stores: thousands of histories, each from a seed.
@Suite struct TokenRefreshTests {
    /// A provider that rotates: which refresh tokens it takes.
    struct Provider {
        /// A token that was used is taken again until its successor is used.
        var hasGrace: Bool
        var number = 0
        var valid: Set<String> = ["seed"]
        /// Token → those it was replaced by.
        var predecessors: [String: String] = [:]
        var asks = 0

        mutating func refresh(_ token: String, at now: Timestamp) -> TokenRefresh.Event {
            asks += 1
            guard valid.contains(token) else {
                return .failed(TokenFailure(.invalidGrant, SluiceError(.providerAuth, "invalid_grant; authorize again")))
            }
            number += 1
            let next = "r\(number)"
            valid.insert(next)
            if let before = predecessors[token] { valid.remove(before) }
            if hasGrace { predecessors[next] = token } else { valid.remove(token) }
            return .answered(
                TokenAnswer(
                    access: AccessToken(value: "a\(number)", obtainedAt: now, expiresAt: now + .minutes(10)), refreshToken: next))
        }
    }

    struct Stored {
        var chain: TokenChain?
        var version: Int64 = 0
    }

    struct Random {
        var state: UInt64
        mutating func next(_ bound: Int) -> Int {
            state = state &* 6_364_136_223_846_793_005 &+ 1_442_695_040_888_963_407
            return Int((state >> 33) % UInt64(bound))
        }
    }

    /// A node: a refresh under way, or none.
    struct Node {
        var name: String
        var epoch: LeaseEpoch
        var refresh: TokenRefresh?
        var action = TokenRefresh.Action.load
        var unsaved: TokenRefresh.Unsaved?
        var held: AccessToken?
    }

    /// What a history came to.
    struct Outcome {
        var finished = 0
        var refused = 0
        var lostAnswers = 0
        var asksAtOnce = 0
        var gaveUnstored = false
    }

    struct World {
        var provider: Provider
        var stored = Stored()
        var nodes: [Node]
        var now = Timestamp(seconds: 1_000_000)
        var random: Random
        var crashes: Bool
        var storeFails: Bool
        var outcome = Outcome()
        private var lives = 0

        init(nodes: Int, grace: Bool, crashes: Bool, storeFails: Bool, seed: UInt64) {
            provider = Provider(hasGrace: grace)
            self.nodes = (0..<nodes).map { Node(name: "n\($0)", epoch: LeaseEpoch(1)) }
            random = Random(state: seed &* 2_654_435_761 &+ 12345)
            self.crashes = crashes
            self.storeFails = storeFails
        }

        mutating func step() {
            now = now + .milliseconds(Int64(random.next(400)))
            let index = random.next(nodes.count)
            guard nodes[index].refresh != nil else { return begin(index) }
            if crashes, random.next(12) == 0 { return crash(index) }
            perform(index)
        }

        private mutating func begin(_ index: Int) {
            // The access token at hand is used up now and then, as it is when it expires.
            if let held = nodes[index].held, held.isFresh(at: now), random.next(3) > 0 { return }
            let setting = TokenRefresh.Setting(
                seedToken: "seed", seed: [1], refused: nodes[index].held, node: nodes[index].name, fence: (0, nodes[index].epoch),
                unsaved: nodes[index].unsaved)
            nodes[index].refresh = TokenRefresh(setting, at: now)
            nodes[index].action = .load
        }

        /// The process is gone: what it had begun may or may not have happened, and nobody hears of it.
        private mutating func crash(_ index: Int) {
            let action = nodes[index].action
            if nodes[index].unsaved != nil || nodes[index].refresh?.unsaved != nil, !isSaved(nodes[index]) { outcome.lostAnswers += 1 }
            if random.next(2) == 0 {
                switch action {
                case .send(let token): if case .answered = provider.refresh(token, at: now) { outcome.lostAnswers += 1 }
                case .store(let chain, let version): _ = replace(chain, version)
                default: break
                }
            }
            lives += 1
            let epoch = LeaseEpoch(nodes.map(\.epoch.rawValue).max()! + 1)
            nodes[index] = Node(name: "life\(lives)", epoch: epoch)
        }

        private func isSaved(_ node: Node) -> Bool {
            guard let unsaved = node.refresh?.unsaved ?? node.unsaved, let token = unsaved.answer.refreshToken else { return true }
            return stored.chain?.tokens.contains(token) ?? false
        }

        private mutating func replace(_ chain: TokenChain, _ version: Int64) -> TokenRefresh.Event {
            guard stored.version == version else { return .conflicted }
            stored = Stored(chain: chain, version: version + 1)
            return .stored(version: version + 1)
        }

        private mutating func perform(_ index: Int) {
            let event: TokenRefresh.Event
            switch nodes[index].action {
            case .load: event = .loaded(stored.chain, version: stored.version)
            case .store(let chain, let version):
                event =
                    storeFails && random.next(6) == 0 ? .storeFailed(SluiceError(.storage, "no")) : replace(chain, version)
            case .send(let token):
                let others = nodes.indices.filter { other in
                    if other != index, case .send = nodes[other].action, nodes[other].refresh != nil { true } else { false }
                }
                outcome.asksAtOnce = max(outcome.asksAtOnce, others.count + 1)
                event = provider.refresh(token, at: now)
            case .wait: event = .waited
            case .finish(let token):
                // What came with it must be durable by now.
                if let access = stored.chain?.access, access != token, access.obtainedAt < token.obtainedAt { outcome.gaveUnstored = true }
                if stored.chain == nil { outcome.gaveUnstored = true }
                outcome.finished += 1
                nodes[index].held = token
                return end(index)
            case .fail(let failure):
                if failure.kind == .invalidGrant { outcome.refused += 1 }
                return end(index)
            }
            nodes[index].action = nodes[index].refresh!.handle(event, at: now)
        }

        private mutating func end(_ index: Int) {
            nodes[index].unsaved = nodes[index].refresh?.unsaved
            nodes[index].refresh = nil
        }
    }

    static func run(nodes: Int, grace: Bool, crashes: Bool, storeFails: Bool = false, seed: Int) -> World {
        var world = World(nodes: nodes, grace: grace, crashes: crashes, storeFails: storeFails, seed: UInt64(seed))
        for _ in 0..<400 { world.step() }
        return world
    }

    /// Where nothing crashes, nobody is ever refused, only one asks at a time, and nothing is given out before it is stored.
    @Test(arguments: [1, 2, 3], [true, false]) func nodesTakeTurnsAndLoseNothing(nodes: Int, grace: Bool) {
        for seed in 0..<500 {
            let outcome = Self.run(nodes: nodes, grace: grace, crashes: false, seed: seed).outcome
            #expect(outcome.refused == 0 && outcome.finished > 0 && !outcome.gaveUnstored && outcome.asksAtOnce <= 1, "seed \(seed)")
        }
    }

    /// A store that fails now and then costs time and no token, also at a provider without grace.
    @Test func aFailingStoreLosesNoToken() {
        for seed in 0..<1000 {
            let outcome = Self.run(nodes: 2, grace: false, crashes: false, storeFails: true, seed: seed).outcome
            #expect(outcome.refused == 0 && !outcome.gaveUnstored, "seed \(seed)")
        }
    }

    /// With a grace period every crash is survived: afterwards somebody gets a token.
    @Test func withGraceEveryCrashIsSurvived() {
        for seed in 0..<2000 {
            var world = Self.run(nodes: 1, grace: true, crashes: true, seed: seed)
            #expect(world.outcome.refused == 0 && !world.outcome.gaveUnstored, "seed \(seed): \(world.outcome)")
            world.crashes = false
            let before = world.outcome.finished
            for _ in 0..<100 { world.step() }
            #expect(world.outcome.finished > before, "seed \(seed): nobody gets a token any more")
        }
    }

    /// Without one, only a crash that cut an answer off can end the chain, and then it is said.
    @Test func withoutGraceOnlyACutOffAnswerEndsTheChain() {
        var ended = 0
        for seed in 0..<2000 {
            let outcome = Self.run(nodes: 1, grace: false, crashes: true, seed: seed).outcome
            if outcome.refused > 0 { ended += 1 }
            #expect(outcome.refused == 0 || outcome.lostAnswers > 0, "seed \(seed): \(outcome)")
        }
        #expect(ended > 0, "the crash between the answer and the store was never hit")
    }

    @Test func aClaimOfALostLeaseIsVoid() {
        let now = Timestamp(seconds: 1000)
        let claim = TokenChain.Claim(node: "other", epoch: LeaseEpoch(4), shard: 0, until: now + .seconds(60))
        let chain = TokenChain(seed: [1], tokens: ["t"], claim: claim)
        func first(_ epoch: Int64, at time: Timestamp) -> TokenRefresh.Action {
            var refresh = TokenRefresh(
                .init(seedToken: "t", seed: [1], refused: nil, node: "me", fence: (0, LeaseEpoch(epoch))), at: time)
            return refresh.handle(.loaded(chain, version: 3), at: time)
        }
        #expect(first(4, at: now) == .wait(.milliseconds(500)), "it may still ask")
        #expect(first(5, at: now) != .wait(.milliseconds(500)), "its holder is gone")
        #expect(first(4, at: now + .seconds(61)) != .wait(.milliseconds(500)), "it has run out")
        #expect(first(4, at: now - .hours(5)) != .wait(.milliseconds(500)), "the clock was wrong when it was made")
    }

    /// Another value in the definition begins another chain, whatever was rotated before.
    @Test func anotherSeedBeginsAnew() {
        let now = Timestamp(seconds: 1000)
        let access = AccessToken(value: "old", obtainedAt: now, expiresAt: now + .hours(1))
        let chain = TokenChain(seed: [1], tokens: ["rotated", "first"], access: access)
        var refresh = TokenRefresh(.init(seedToken: "second", seed: [2], refused: nil, node: "me", fence: (0, LeaseEpoch(1))), at: now)
        guard case .store(let claimed, version: 7) = refresh.handle(.loaded(chain, version: 7), at: now) else {
            Issue.record("no claim")
            return
        }
        #expect(claimed.tokens == ["second"] && claimed.seed == [2] && claimed.access == nil)
        #expect(refresh.handle(.stored(version: 8), at: now) == .send("second"))
    }

    @Test func aChainIsReadAsItWasWritten() {
        let now = Timestamp(seconds: 1000)
        let chain = TokenChain(
            seed: [0, 255, 7], tokens: ["a\"\\", "b"], access: AccessToken(value: "x", obtainedAt: now, expiresAt: nil),
            claim: .init(node: "n", epoch: LeaseEpoch(9), shard: 2, until: now))
        #expect(TokenChain(json: chain.json) == chain)
        #expect(TokenChain(json: TokenChain(seed: [1], tokens: ["t"]).json) == TokenChain(seed: [1], tokens: ["t"]))
        #expect(TokenChain(json: Array("{}".utf8)) == nil)
    }
}
