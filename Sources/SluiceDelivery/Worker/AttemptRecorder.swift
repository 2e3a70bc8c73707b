import Logging
import SluiceCore
import SluiceStore
import Synchronization

/// Records attempts in batches: whatever comes in while one batch is being recorded forms the next, so that the attempts
/// of all destinations share transactions.
final class AttemptRecorder: Sendable {
    struct Entry {
        var attempt: DeliveryAttempt
        /// Called once it is durable, with true; with false if the store would not take it: then the claim runs out and the
        /// delivery is attempted again. Must return quickly.
        var done: @Sendable (Bool) -> Void
    }
    private struct State {
        var entries: [Entry] = []
        var isFinished = false
    }

    private let store: any DeliveryStore
    private let trouble: StoreTrouble
    private let logger: Logger
    private let state = Mutex(State())
    private let signal = WakeSignal()

    static let batchMax = 1000
    static let triesMax = 6

    init(store: any DeliveryStore, trouble: StoreTrouble, logger: Logger) {
        self.store = store
        self.trouble = trouble
        self.logger = logger
    }

    func add(_ entries: [Entry]) {
        guard !entries.isEmpty else { return }
        state.withLock { $0.entries += entries }
        signal.wake()
    }

    /// Lets `run` return once everything is recorded.
    func finish() {
        state.withLock { $0.isFinished = true }
        signal.wake()
    }

    func run() async {
        while true {
            let (batch, isFinished) = state.withLock { state in
                let batch = Array(state.entries.prefix(AttemptRecorder.batchMax))
                state.entries.removeFirst(batch.count)
                return (batch, state.isFinished)
            }
            if batch.isEmpty {
                if isFinished { return }
                await signal.wait(atMost: .hours(1))
            } else {
                await write(batch)
            }
        }
    }

    private func write(_ batch: [Entry]) async {
        var wait = Span.milliseconds(50)
        for attempt in 1...AttemptRecorder.triesMax {
            do {
                try await store.recordAttempts(batch.map(\.attempt))
                trouble.worked(.record)
                for entry in batch { entry.done(true) }
                return
            } catch let error as SluiceError where error.code == .notFound || error.code == .conflict {
                // Refused for good, for example because its trigger was removed: it must not hold up the others.
                trouble.worked(.record)
                if batch.count == 1 { break }
                for entry in batch { await write([entry]) }
                return
            } catch {
                trouble.failed(.record, "what became of deliveries cannot be recorded", error)
                logger.warning("attempts could not be recorded", metadata: ["error": "\(error)", "attempts": "\(batch.count)"])
                if attempt == AttemptRecorder.triesMax || Task.isCancelled { break }
                try? await Task.sleep(for: .milliseconds(wait.milliseconds))
                wait = wait * 3
            }
        }
        for entry in batch { entry.done(false) }
    }
}
