import Crypto
import SluiceConnectors
import SluiceCore
import SluicePolling
import SluiceStore
import Synchronization

#if canImport(Glibc)
    import Glibc
#elseif canImport(Musl)
    import Musl
#endif

/// The refresh tokens of tries, in a file for its owner alone. A provider that rotates them takes the one that was spent out of use,
/// so the next one is on disk before the access token that came with it is used.
final class TrialTokens: CredentialKeeping {
    private let path: String
    private let seedToken: String
    private let lock: Int32
    private let version = Mutex<Int64>(0)

    /// Throws `.conflict` where another try uses the file, `.invalid` where it holds something else.
    init(_ path: String, seedToken: String) throws {
        let descriptor = open(path + ".lock", O_RDWR | O_CREAT | O_CLOEXEC, 0o600)
        guard descriptor >= 0 else { throw SluiceError(.storage, "cannot write \(path).lock").with("file", path) }
        guard flock(descriptor, LOCK_EX | LOCK_NB) == 0 else {
            close(descriptor)
            throw SluiceError(.conflict, "another try uses \(path): wait until it has ended").with("file", path)
        }
        (self.path, self.seedToken, lock) = (path, seedToken, descriptor)
        _ = try chain()
    }

    deinit { close(lock) }

    /// Lets another try in. The object must not be used again.
    func release() { flock(lock, LOCK_UN) }

    /// The newest of the tokens; nil before the first one was spent.
    var newest: String? { (try? chain())?.tokens.first }

    private func chain() throws(SluiceError) -> TokenChain? {
        guard let bytes = try SmallFile.read(path) else { return nil }
        guard let root = (try? JSONDocument(bytes))?.root, let inner = root["chain"], let chain = TokenChain(json: Array(inner.bytes))
        else {
            throw SluiceError(.invalid, "\(path) holds no tokens of `sluice connector try`: give another file").with("file", path)
        }
        guard chain.seed == Array(SHA256.hash(data: Array(seedToken.utf8))) || chain.tokens.contains(seedToken) else {
            throw SluiceError(
                .conflict, "\(path) holds the tokens that came of another refresh token: give another file, so that they are not lost"
            ).with("file", path)
        }
        return chain
    }

    func load(_ connection: ConnectionID, name: String) async throws -> (chain: TokenChain?, version: Int64) {
        (try chain(), version.withLock { $0 })
    }

    func replace(_ connection: ConnectionID, name: String, version: Int64, by chain: TokenChain, at time: Timestamp) async throws -> Int64?
    {
        guard self.version.withLock({ $0 }) == version else { return nil }
        var writer = JSONWriter()
        writer.object { writer in
            writer.member("refresh_token", chain.tokens.first)
            writer.member("chain", json: chain.json)
        }
        try SmallFile.writePrivate(path, writer.bytes + [0x0A])
        return self.version.withLock { version in
            version += 1
            return version
        }
    }
}

/// What became known in a trial that must not be shown: tokens and assertions.
final class TrialSecrets: Sendable {
    private let known = Mutex<[(text: String, label: String)]>([])

    func add(_ text: String, _ label: String) { known.withLock { $0.append((text, label)) } }

    func add(to scrubber: SecretScrubber) -> SecretScrubber {
        var scrubber = scrubber
        for (text, label) in known.withLock({ $0 }) { scrubber.add(text, label: label) }
        return scrubber
    }

    /// A token request's own credentials and what its answer gives.
    func add(_ request: TokenRequest, _ plan: HTTPRequestPlan, _ result: Result<HTTPReply, any Error>) {
        for pair in String(decoding: plan.body, as: UTF8.self).split(separator: "&") {
            let parts = pair.split(separator: "=", maxSplits: 1)
            guard parts.count == 2, ["refresh_token", "assertion", "client_assertion", "client_secret"].contains(parts[0]) else { continue }
            // Tokens and assertions are written with characters that need no encoding, or are known by their fields.
            add(String(parts[1]), String(parts[0]))
        }
        if let bearer = plan.headers.first("Authorization"), bearer.hasPrefix("Bearer ") { add(String(bearer.dropFirst(7)), "assertion") }
        if case .success(let reply) = result { for token in request.secrets(in: reply) { add(token, "token") } }
    }
}
