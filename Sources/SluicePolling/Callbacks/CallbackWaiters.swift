import NIOCore
import SluiceCore
import Synchronization

/// Those who wait for the end of a callback.
final class CallbackWaiters: Sendable {
    private struct State {
        var byCallback: [String: [Int: Waker]] = [:]
        var count = 0
        var lastNumber = 0
        var isClosed = false
    }
    private let state = Mutex(State())
    private let loops: any EventLoopGroup
    private let waitersMax: Int

    init(loops: any EventLoopGroup, waitersMax: Int) {
        self.loops = loops
        self.waitersMax = waitersMax
    }

    var count: Int { state.withLock { $0.count } }
    var isClosed: Bool { state.withLock { $0.isClosed } }

    /// Nil: as many wait as may, or nobody may any more.
    func register(_ id: String) -> (number: Int, waker: Waker)? {
        state.withLock { state in
            guard state.count < waitersMax, !state.isClosed else { return nil }
            state.count += 1
            state.lastNumber += 1
            let waker = Waker(eventLoop: loops.next())
            state.byCallback[id, default: [:]][state.lastNumber] = waker
            return (state.lastNumber, waker)
        }
    }

    func remove(_ id: String, _ number: Int) {
        state.withLock { state in
            state.count -= 1
            state.byCallback[id]?[number] = nil
            if state.byCallback[id]?.isEmpty == true { state.byCallback[id] = nil }
        }
    }

    func wake(_ id: String) {
        for waker in state.withLock({ $0.byCallback[id].map { Array($0.values) } ?? [] }) { waker.call() }
    }

    func close() {
        let wakers = state.withLock { state in
            state.isClosed = true
            return state.byCallback.values.flatMap(\.values)
        }
        for waker in wakers { waker.call() }
    }
}
