import NIOCore
import NIOPosix
import SluiceCore
import Synchronization

/// A wake-up that is never missed: one that comes while nobody waits is kept, and several count as one. For one waiter.
final class WakeSignal: Sendable {
    private struct State {
        var isWoken = false
        var waiter: CheckedContinuation<Void, Never>?
        var timer: Scheduled<Void>?
        /// The number of waits so far, so that a timer that comes late ends no later wait.
        var round = 0
    }
    private let state = Mutex(State())

    func wake() {
        let (waiter, timer) = state.withLock { state in
            defer { (state.waiter, state.timer) = (nil, nil) }
            if state.waiter == nil { state.isWoken = true }
            return (state.waiter, state.timer)
        }
        timer?.cancel()
        waiter?.resume()
    }

    /// Returns when woken, or after this much time (at most a day). Does not watch for cancellation: whoever can be
    /// cancelled wakes the signal then.
    func wait(atMost span: Span) async {
        let milliseconds = min(max(span.milliseconds, 0), 86_400_000)
        await withCheckedContinuation { (continuation: CheckedContinuation<Void, Never>) in
            let round: Int? = state.withLock { state in
                if state.isWoken {
                    state.isWoken = false
                    return nil
                }
                precondition(state.waiter == nil, "a WakeSignal has one waiter")
                state.waiter = continuation
                state.round += 1
                return state.round
            }
            guard let round else { return continuation.resume() }
            let timer = MultiThreadedEventLoopGroup.singleton.any().scheduleTask(in: .milliseconds(milliseconds)) {
                self.expire(round)
            }
            let isOver = state.withLock { state in
                guard state.round == round, state.waiter != nil else { return true }
                state.timer = timer
                return false
            }
            if isOver { timer.cancel() }
        }
    }

    private func expire(_ round: Int) {
        let waiter: CheckedContinuation<Void, Never>? = state.withLock { state in
            guard state.round == round else { return nil }
            defer { (state.waiter, state.timer) = (nil, nil) }
            return state.waiter
        }
        waiter?.resume()
    }
}
