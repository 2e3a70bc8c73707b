import NIOCore
import SluiceCore
import Synchronization

/// Lets one loop sleep until it is called or a time has come. Calls made while it is awake are remembered, once.
final class Waker: Sendable {
    private struct State {
        var isCalled = false
        var sleeper: CheckedContinuation<Void, Never>?
    }
    private let state = Mutex(State())
    private let eventLoop: any EventLoop

    init(eventLoop: any EventLoop) { self.eventLoop = eventLoop }

    func call() {
        let sleeper = state.withLock { state -> CheckedContinuation<Void, Never>? in
            guard let sleeper = state.sleeper else {
                state.isCalled = true
                return nil
            }
            state.sleeper = nil
            return sleeper
        }
        sleeper?.resume()
    }

    /// Returns when called, when `span` has passed (nil: no such time), or when the task is cancelled.
    func sleep(for span: Span?) async {
        let timer = span.map { eventLoop.scheduleTask(in: .milliseconds(max(0, $0.milliseconds))) { self.call() } }
        await withTaskCancellationHandler {
            await withCheckedContinuation { continuation in
                let wasCalled = state.withLock { state -> Bool in
                    if state.isCalled || Task.isCancelled {
                        state.isCalled = false
                        return true
                    }
                    state.sleeper = continuation
                    return false
                }
                if wasCalled { continuation.resume() }
            }
        } onCancel: {
            call()
        }
        timer?.cancel()
    }
}
