import SluiceCore
import Synchronization

/// States of one connector, made when needed and kept for the next call. Taking one never waits: there are as many as
/// callers, which the cores bound for calls that return at once and `LuaPollSlots` for polls.
final class LuaStatePool: Sendable {
    private let source: [UInt8]
    private let limits: LuaLimits
    private let definition: [UInt8]
    private let idle: Mutex<[LuaState]>

    /// `first` is the state with which the connector was read.
    init(source: [UInt8], limits: LuaLimits, first: LuaState) {
        self.source = source
        self.limits = limits
        definition = first.definition
        idle = Mutex([first])
    }

    func take() throws(SluiceError) -> LuaState {
        if let state = idle.withLock({ $0.popLast() }) { return state }
        let state = try LuaState(source: source, limits: limits)
        // Functions are known by their number in the file's table.
        guard state.definition == definition else {
            throw SluiceError(.connector, "connector.lua: the file returns another table each time it is loaded; make it return the same")
        }
        return state
    }

    /// Ends the call and keeps the state, unless it is spent or there are enough.
    func giveBack(_ state: LuaState) {
        state.endCall()
        guard !state.isSpent else { return }
        let surplus = idle.withLock { idle -> LuaState? in
            if idle.count >= limits.idleStatesMax { return state }
            idle.append(state)
            return nil
        }
        // Destroyed here, outside of the lock.
        _ = surplus
    }

    /// Runs the body with a state of its own.
    func with<Result>(_ body: (LuaState) throws -> Result) throws -> Result {
        let state = try take()
        defer { giveBack(state) }
        return try body(state)
    }

    var idleCount: Int { idle.withLock { $0.count } }
}

/// Bounds how many polls of a connector hold a state at the same time. Waiting blocks no thread and ends when the task
/// is cancelled; who waits longest goes first.
final class LuaPollSlots: Sendable {
    private struct Waiter {
        var number: UInt64
        var continuation: CheckedContinuation<Void, any Error>
    }

    private struct Slots {
        var free: Int
        var next: UInt64 = 0
        var waiters: [Waiter] = []
    }

    static let waitersMax = 100_000
    private let slots: Mutex<Slots>

    init(count: Int) { slots = Mutex(Slots(free: count)) }

    func acquire() async throws {
        let number: UInt64? = slots.withLock { slots in
            if slots.free > 0 {
                slots.free -= 1
                return nil
            }
            slots.next += 1
            return slots.next
        }
        guard let number else { return }
        try await withTaskCancellationHandler {
            try await withCheckedThrowingContinuation { continuation in enqueue(Waiter(number: number, continuation: continuation)) }
        } onCancel: {
            let waiter = slots.withLock { slots -> Waiter? in
                guard let index = slots.waiters.firstIndex(where: { $0.number == number }) else { return nil }
                return slots.waiters.remove(at: index)
            }
            waiter?.continuation.resume(throwing: CancellationError())
        }
    }

    private func enqueue(_ waiter: Waiter) {
        enum Answer { case wait, go, refuse(any Error) }
        let answer = slots.withLock { slots -> Answer in
            // A cancellation after this line finds the waiter in the list.
            if Task.isCancelled { return .refuse(CancellationError()) }
            if slots.free > 0 {
                slots.free -= 1
                return .go
            }
            if slots.waiters.count >= LuaPollSlots.waitersMax {
                return .refuse(SluiceError(.overloaded, "too many polls wait for a Lua state"))
            }
            slots.waiters.append(waiter)
            return .wait
        }
        switch answer {
        case .wait: break
        case .go: waiter.continuation.resume()
        case .refuse(let error): waiter.continuation.resume(throwing: error)
        }
    }

    func release() {
        let next = slots.withLock { slots -> Waiter? in
            if slots.waiters.isEmpty {
                slots.free += 1
                return nil
            }
            return slots.waiters.removeFirst()
        }
        next?.continuation.resume()
    }

    var freeCount: Int { slots.withLock { $0.free } }
}
