import NIOCore
import NIOPosix
import Synchronization

/// One thread for the blocking calls of one courier, so that a disk or a broker which hangs holds up neither Swift's
/// cooperative pool nor another destination.
///
/// A blocking call cannot be broken off. Who waits for one goes on after a bounded time; until that call has returned nothing
/// else is begun, so there is never more than one of them late.
public final class CourierThread: Sendable {
    private let pool = NIOThreadPool(numberOfThreads: 1)
    /// Calls that nobody waits for any more.
    private let late = Mutex(0)

    public init() { pool.start() }

    deinit { pool.shutdownGracefully(queue: .global()) { _ in } }

    /// What `work` returns; nil where it took longer than `seconds`, where the task was cancelled meanwhile, and at once
    /// where an earlier call is late.
    public func run<Value: Sendable>(within seconds: Int, _ work: @escaping @Sendable () -> Value) async -> Value? {
        if late.withLock({ $0 > 0 }) { return nil }
        let answer = OneAnswer<Value>()
        let giveUp: @Sendable () -> Void = { [self] in if answer.give(nil) { late.withLock { $0 += 1 } } }
        return await withTaskCancellationHandler {
            await withCheckedContinuation { continuation in
                answer.wait(continuation)
                let timer = MultiThreadedEventLoopGroup.singleton.any().scheduleTask(in: .seconds(Int64(seconds))) { giveUp() }
                pool.submit { [self] state in
                    let value: Value? = if case .active = state, answer.isWanted { work() } else { nil }
                    timer.cancel()
                    if !answer.give(value) { late.withLock { $0 -= 1 } }
                }
            }
        } onCancel: {
            giveUp()
        }
    }

    /// Does `work` once the call under way has returned, then ends the thread. Returns at once; what is run after returns nil.
    public func close(_ work: @escaping @Sendable () -> Void) {
        pool.submit { _ in work() }
        pool.shutdownGracefully(queue: .global()) { _ in }
    }
}

/// An answer that the first of several gives.
private final class OneAnswer<Value: Sendable>: Sendable {
    private enum State {
        case open
        case waited(CheckedContinuation<Value?, Never>)
        case given(Value?)
        case over
    }
    private let state = Mutex(State.open)

    var isWanted: Bool {
        state.withLock { state in
            switch state {
            case .open, .waited: true
            case .given, .over: false
            }
        }
    }

    func wait(_ continuation: CheckedContinuation<Value?, Never>) {
        let early: Value?? = state.withLock { state in
            if case .given(let value) = state {
                state = .over
                return .some(value)
            }
            state = .waited(continuation)
            return .none
        }
        if let early { continuation.resume(returning: early) }
    }

    /// False if one was given before.
    func give(_ value: Value?) -> Bool {
        let (isFirst, waiter): (Bool, CheckedContinuation<Value?, Never>?) = state.withLock { state in
            switch state {
            case .open:
                state = .given(value)
                return (true, nil)
            case .waited(let continuation):
                state = .over
                return (true, continuation)
            case .given, .over: return (false, nil)
            }
        }
        waiter?.resume(returning: value)
        return isFirst
    }
}
