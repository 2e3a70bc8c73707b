import NIOCore

/// Runs the task of a connection on the connection's own event loop, so that a request is read, verified, queued and
/// answered without a change of threads. What a task does here must be short: it shares the loop with other connections.
final class LoopExecutor: TaskExecutor {
    private let eventLoop: any EventLoop

    init(_ eventLoop: any EventLoop) { self.eventLoop = eventLoop }

    func enqueue(_ job: consuming ExecutorJob) {
        let job = UnownedJob(job)
        eventLoop.execute { job.runSynchronously(on: self.asUnownedTaskExecutor()) }
    }
}
