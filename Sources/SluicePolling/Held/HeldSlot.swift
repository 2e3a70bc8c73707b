import Synchronization

/// What a long-polling trigger holds at its provider: at most one request, which can be let go from outside. A stream stays
/// here between two cycles, each of which commits what has come of it.
final class HeldSlot: Sendable {
    private struct State {
        var current: HeldAnswer?
        var stream: HeldAnswer?
        var isReleased = false
    }
    private let state = Mutex(State())

    /// Let go from outside, because the trigger is paused, changed or asked to poll.
    struct Released: Error {}

    /// A cycle begins.
    func begin() { state.withLock { $0.isReleased = false } }

    var isReleased: Bool { state.withLock { $0.isReleased } }

    /// Lets go of whatever is held; the cycle that waits for it ends at once, and it costs nothing where there is none.
    func release() {
        let held = state.withLock { state in
            defer { state = State(isReleased: true) }
            return [state.current, state.stream].compactMap { $0 }
        }
        for answer in held { answer.end(Released()) }
    }

    /// What has come of the stream is not to be gone on with: the next request opens it where the committed cursor says.
    func dropStream() {
        let stream = state.withLock { state in
            defer { state.stream = nil }
            return state.stream
        }
        stream?.end(Released())
    }

    /// The stream to go on with, if one is open.
    var openStream: HeldAnswer? { state.withLock { $0.stream } }

    /// Makes this the answer that is waited for. Throws if everything was let go meanwhile.
    func hold(_ answer: HeldAnswer, isStream: Bool) throws {
        let isReleased = state.withLock { state in
            if !state.isReleased { if isStream { state.stream = answer } else { state.current = answer } }
            return state.isReleased
        }
        if isReleased {
            answer.end(Released())
            throw Released()
        }
    }

    func done(_ answer: HeldAnswer) {
        state.withLock { state in
            if state.current === answer { state.current = nil }
            if state.stream === answer { state.stream = nil }
        }
    }
}
