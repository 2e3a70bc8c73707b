import Synchronization

/// Makes the refreshes that keepers ask for. It runs apart from the polls, so that a poll which is cancelled takes no refresh
/// with it: the answer to one that was sent may hold the only refresh token that still works.
final class TokenRenewer: Sendable {
    /// More keepers than these at once are told to come again.
    private static let waitingMax = 10_000

    private let stream: AsyncStream<TokenKeeper>
    private let source: AsyncStream<TokenKeeper>.Continuation
    /// From the start: what polls ask for before `run` waits for it.
    private let isOpen = Mutex(true)

    init() {
        (stream, source) = AsyncStream.makeStream(bufferingPolicy: .bufferingOldest(TokenRenewer.waitingMax))
    }

    /// False if it will not be made.
    func begin(_ keeper: TokenKeeper) -> Bool {
        guard isOpen.withLock({ $0 }) else { return false }
        if case .enqueued = source.yield(keeper) { return true }
        return false
    }

    /// Runs until `close` was called and the refreshes under way have ended.
    func run() async {
        await withDiscardingTaskGroup { group in
            for await keeper in stream { group.addTask { await keeper.refresh() } }
        }
        isOpen.withLock { $0 = false }
    }

    func close() {
        isOpen.withLock { $0 = false }
        source.finish()
    }
}
