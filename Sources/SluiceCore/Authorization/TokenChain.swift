/// The refresh tokens of a connection as they are kept between polls, sealed, under a version that every change raises.
///
/// A provider that rotates refresh tokens gives a new one with each access token and revokes the one before. The new one is
/// stored here before anybody uses it. The one before is kept as well: should the new one not be what the provider thinks
/// it is, because a crash cut its answer off, providers with a grace period still take the old one.
public struct TokenChain: Sendable, Equatable {
    /// Says that somebody asks the provider at this moment, so that nobody else does.
    public struct Claim: Sendable, Equatable {
        /// The process that asks: random, made at its start.
        public var node: String
        /// The epoch of its lease: a claim of an older epoch is void, its holder is gone.
        public var epoch: LeaseEpoch
        public var shard: Int
        /// After this it is void in any case.
        public var until: Timestamp
        public init(node: String, epoch: LeaseEpoch, shard: Int, until: Timestamp) {
            self.node = node
            self.epoch = epoch
            self.shard = shard
            self.until = until
        }
    }

    /// Of more than these the oldest goes.
    public static let tokensMax = 3

    /// A digest of the value that the definition gives. Another value there begins another chain: somebody authorized anew.
    public var seed: [UInt8]
    /// Newest first; never empty.
    public var tokens: [String]
    /// The last access token, so that a restart and other nodes need not ask for one.
    public var access: AccessToken?
    public var claim: Claim?

    public init(seed: [UInt8], tokens: [String], access: AccessToken? = nil, claim: Claim? = nil) {
        self.seed = seed
        self.tokens = tokens
        self.access = access
        self.claim = claim
    }

    /// Puts a token before the others.
    mutating func push(_ token: String) {
        tokens.removeAll { $0 == token }
        tokens.insert(token, at: 0)
        if tokens.count > TokenChain.tokensMax { tokens.removeLast(tokens.count - TokenChain.tokensMax) }
    }
}

extension TokenChain {
    /// What is sealed: JSON.
    public var json: [UInt8] {
        var writer = JSONWriter()
        writer.object { writer in
            writer.key("seed")
            writer.array { writer in for byte in seed { writer.value(Int64(byte)) } }
            writer.key("tokens")
            writer.array { writer in for token in tokens { writer.value(token) } }
            if let access {
                writer.key("access")
                writer.object { writer in
                    writer.member("value", access.value)
                    writer.member("obtained_ms", access.obtainedAt.milliseconds)
                    writer.member("expires_ms", access.expiresAt?.milliseconds)
                }
            }
            if let claim {
                writer.key("claim")
                writer.object { writer in
                    writer.member("node", claim.node)
                    writer.member("epoch", claim.epoch.rawValue)
                    writer.member("shard", Int64(claim.shard))
                    writer.member("until_ms", claim.until.milliseconds)
                }
            }
        }
        return writer.bytes
    }

    /// Reads what `json` wrote; nil for anything else.
    public init?(json: [UInt8]) {
        guard let root = (try? JSONDocument(json))?.root, let seed = root["seed"]?.elements, let tokens = root["tokens"]?.elements else {
            return nil
        }
        self.init(
            seed: seed.compactMap { $0.int64.flatMap { UInt8(exactly: $0) } }, tokens: tokens.compactMap(\.string),
            access: TokenChain.access(root["access"]), claim: TokenChain.claim(root["claim"]))
        if self.tokens.isEmpty { return nil }
    }

    private static func access(_ view: JSONView?) -> AccessToken? {
        guard let view, let value = view["value"]?.string, let obtained = view["obtained_ms"]?.int64 else { return nil }
        return AccessToken(
            value: value, obtainedAt: Timestamp(milliseconds: obtained),
            expiresAt: view["expires_ms"]?.int64.map { Timestamp(milliseconds: $0) })
    }

    private static func claim(_ view: JSONView?) -> Claim? {
        guard let view, let node = view["node"]?.string, let epoch = view["epoch"]?.int64, let until = view["until_ms"]?.int64 else {
            return nil
        }
        return Claim(
            node: node, epoch: LeaseEpoch(epoch), shard: Int(view["shard"]?.int64 ?? 0), until: Timestamp(milliseconds: until))
    }
}
