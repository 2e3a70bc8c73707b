import SluiceCore
import Synchronization

/// Whoever asks over one connection, for as long as it is open: whether it has hung up, and whether an answer was handed over to the
/// system that sends it.
///
/// A caller has hung up when no more comes from it (a FIN), or when the connection is gone (a reset). Those that close only their own
/// direction and go on reading look the same, so this ends what waits, and nothing else. HTTP/1.1 has one request at a time on a
/// connection.
final class Caller: Sendable {
    private struct State {
        var isGone = false
        var watch: Watch?
        var handover: Handover?
    }
    private let state = Mutex(State())

    var isGone: Bool { state.withLock(\.isGone) }

    /// For those that closed their own direction only: nobody else reads it.
    static let hasHungUp = SluiceError(.invalid, "the connection was closed while this waited: keep it open until the answer is there")

    /// Called on the connection's event loop.
    func hangUp() {
        let watch = state.withLock { state in
            state.isGone = true
            return state.watch
        }
        watch?.end(isGone: true)
    }

    /// Runs what may wait for long. Its task is cancelled once the caller has hung up; then `.invalid` is thrown, for those that
    /// closed their own direction only, unless the body returned all the same.
    func untilHangUp<Value: Sendable>(_ body: @escaping @Sendable () async throws -> Value) async throws -> Value {
        let watch = Watch()
        let isGone = state.withLock { state in
            state.watch = watch
            return state.isGone
        }
        if isGone { watch.end(isGone: true) }
        defer { state.withLock { if $0.watch === watch { $0.watch = nil } } }
        return try await withThrowingTaskGroup(of: Value.self) { group in
            group.addTask {
                defer { watch.end(isGone: false) }
                return try await body()
            }
            let isGone = await watch.ended()
            if isGone { group.cancelAll() }
            do {
                guard let value = try await group.next() else { throw CancellationError() }
                return value
            } catch is CancellationError where isGone {
                throw Caller.hasHungUp
            }
        }
    }

    // MARK: Answers that must arrive

    /// The answer that is written next; `nil` once it is done with.
    func hands(over handover: Handover) { state.withLock { $0.handover = handover } }

    /// The end of an answer was written, or could not be.
    var handover: Handover? { state.withLock(\.handover) }

    func handedOver(_ handover: Handover, isWritten: Bool) {
        if isWritten { handover.done() }
        state.withLock { if $0.handover === handover { $0.handover = nil } }
    }

    /// Lets go of what will never be written.
    func forget() {
        let handover = state.withLock { state in
            defer { state.handover = nil }
            return state.handover
        }
        _ = handover
    }
}

/// Waits for the first of two ends.
private final class Watch: Sendable {
    private enum State {
        case open
        case waited(CheckedContinuation<Bool, Never>)
        case over(isGone: Bool)
    }
    private let state = Mutex(State.open)

    func end(isGone: Bool) {
        let waiter: CheckedContinuation<Bool, Never>? = state.withLock { state in
            switch state {
            case .open:
                state = .over(isGone: isGone)
                return nil
            case .waited(let waiter):
                state = .over(isGone: isGone)
                return waiter
            case .over: return nil
            }
        }
        waiter?.resume(returning: isGone)
    }

    /// Whether the caller hung up before the work was done. For one waiter.
    func ended() async -> Bool {
        await withCheckedContinuation { continuation in
            let isGone: Bool? = state.withLock { state in
                if case .over(let isGone) = state { return isGone }
                state = .waited(continuation)
                return nil
            }
            if let isGone { continuation.resume(returning: isGone) }
        }
    }
}

/// An answer with something that is taken back unless the answer is written: `undelivered` is called once nobody holds it any more,
/// also where not even its head could be written.
final class Handover: Sendable {
    private let isDone = Atomic(false)
    private let undelivered: @Sendable () -> Void
    init(_ undelivered: @escaping @Sendable () -> Void) { self.undelivered = undelivered }
    func done() { isDone.store(true, ordering: .releasing) }
    deinit { if !isDone.load(ordering: .acquiring) { undelivered() } }
}
