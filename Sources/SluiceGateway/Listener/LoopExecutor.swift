import NIOCore
import Synchronization

/// Runs the tasks of connections on their own event loop, so that a request is read, verified, queued and answered without
/// a change of threads. What a task does here must be short: it shares the loop with other connections.
///
/// There is one for each loop. Jobs that become ready together, such as the webhooks of one commit, cost one wake-up.
final class LoopExecutor: TaskExecutor {
    private struct Ready {
        var jobs: [UnownedJob] = []
        var isAnnounced = false
    }

    private let eventLoop: any EventLoop
    private let ready = Mutex(Ready())

    init(_ eventLoop: any EventLoop) { self.eventLoop = eventLoop }

    func enqueue(_ job: consuming ExecutorJob) {
        let job = UnownedJob(job)
        let isFirst = ready.withLock { ready in
            ready.jobs.append(job)
            defer { ready.isAnnounced = true }
            return !ready.isAnnounced
        }
        if isFirst { eventLoop.execute { self.runReady() } }
    }

    /// Runs what is ready now; what becomes ready meanwhile waits for its own turn, behind what the loop has to read.
    private func runReady() {
        var jobs: [UnownedJob] = []
        ready.withLock { ready in
            swap(&jobs, &ready.jobs)
            ready.isAnnounced = false
        }
        for job in jobs { job.runSynchronously(on: asUnownedTaskExecutor()) }
    }
}

/// The executors of a group, by loop.
struct LoopExecutors: Sendable {
    private let byLoop: [ObjectIdentifier: LoopExecutor]

    init(_ group: any EventLoopGroup) {
        byLoop = Dictionary(
            group.makeIterator().map { (ObjectIdentifier($0), LoopExecutor($0)) }, uniquingKeysWith: { first, _ in first })
    }

    subscript(loop: any EventLoop) -> LoopExecutor { byLoop[ObjectIdentifier(loop)] ?? LoopExecutor(loop) }
}
