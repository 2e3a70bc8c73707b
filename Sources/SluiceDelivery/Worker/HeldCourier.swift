import SluiceCore
import Synchronization

/// A courier in use: closed when it is retired and its last call has ended.
final class HeldCourier: Sendable {
    let plan: any CourierPlan
    let courier: any Courier
    private let state = Mutex((users: 0, isRetired: false))

    init(plan: any CourierPlan, courier: any Courier) {
        self.plan = plan
        self.courier = courier
    }

    /// False if it was retired already.
    func begin() -> Bool {
        state.withLock { state in
            if !state.isRetired { state.users += 1 }
            return !state.isRetired
        }
    }

    /// True: the caller closes the courier.
    func end() -> Bool {
        state.withLock { state in
            state.users -= 1
            return state.isRetired && state.users == 0
        }
    }

    /// True: the caller closes the courier.
    func retire() -> Bool {
        state.withLock { state in
            defer { state.isRetired = true }
            return !state.isRetired && state.users == 0
        }
    }
}
