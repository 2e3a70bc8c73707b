import SluiceCore
import SluiceStore
import Synchronization

/// An inbox in memory whose appends can be held and made to fail, and which recognises repetitions by their digest.
final class FakeInbox: InboxStore {
    private struct State {
        var entries: [InboxEntry] = []
        var sequencesByDigest: [[UInt8]: InboxSequence] = [:]
        var error: SluiceError?
        var isHolding = false
        var held: [CheckedContinuation<Void, Never>] = []
    }

    private let state = Mutex(State())

    var entries: [InboxEntry] { state.withLock { $0.entries } }
    /// Appends that wait for `release`.
    var heldCount: Int { state.withLock { $0.held.count } }

    func fail(with error: SluiceError?) { state.withLock { $0.error = error } }
    func hold() { state.withLock { $0.isHolding = true } }

    func release() {
        let held = state.withLock { state in
            defer { state.held = [] }
            state.isHolding = false
            return state.held
        }
        held.forEach { $0.resume() }
    }

    func append(_ webhook: InboxEntry) async throws -> InboxReceipt {
        await withCheckedContinuation { continuation in
            let isHeld = state.withLock { state in
                if state.isHolding { state.held.append(continuation) }
                return state.isHolding
            }
            if !isHeld { continuation.resume() }
        }
        return try state.withLock { state in
            if let error = state.error { throw error }
            if let digest = webhook.deliveryDigest, !webhook.isForced, let first = state.sequencesByDigest[digest] {
                return InboxReceipt(sequence: first, isRepeated: true)
            }
            state.entries.append(webhook)
            let sequence = InboxSequence(Int64(state.entries.count))
            if let digest = webhook.deliveryDigest { state.sequencesByDigest[digest] = sequence }
            return InboxReceipt(sequence: sequence, isRepeated: false)
        }
    }

    func append(_ webhook: InboxEntry, then: @escaping @Sendable (Result<InboxReceipt, SluiceError>) -> Void) {
        Task {
            do {
                then(.success(try await append(webhook)))
            } catch {
                then(.failure(error as? SluiceError ?? SluiceError(.storage, "\(error)")))
            }
        }
    }

    func inbox(_ query: InboxQuery) async throws -> [InboxItem] { [] }
    func inboxItem(_ namespace: NamespaceID, _ sequence: InboxSequence) async throws -> InboxItem? { nil }
    func readInbox(_ query: InboxRead) async throws -> InboxBatch { InboxBatch(items: [], through: query.after, more: false) }
    func unreadWebhooks(_ namespace: NamespaceID, countMax: Int) async throws -> [ConnectionID: Int] { [:] }
}
