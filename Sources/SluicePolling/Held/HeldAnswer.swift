import AsyncHTTPClient
import NIOCore
import NIOHTTP1
import SluiceConnectors
import SluiceCore
import Synchronization

/// The answer to a request that the provider holds: comes whole after a while, or line by line without end.
///
/// It costs one connection and what waits to be read, no task of its own. Whoever reads waits for the head, for everything or
/// for the next lines; `end(_:)` ends it from outside at any time. When more waits than may, the provider is made to wait.
final class HeldAnswer: HTTPClientResponseDelegate {
    typealias Response = Void

    private struct State {
        var head: HTTPResponseHead?
        var buffer = LineBuffer()
        /// Set once it is over.
        var end: Result<Void, any Error>?
        var waiter: CheckedContinuation<Void, Never>?
        /// The provider waits for this.
        var room: EventLoopPromise<Void>?
        var request: HTTPClient.Task<Void>?
        var whenOver: (@Sendable () -> Void)?
    }

    /// The stream said nothing for as long as it may.
    struct Silence: Error {}

    /// More than this waits for its reader only where one line is longer.
    static let waitingBytesMax = 1 << 20

    /// Whose answer it is.
    let client: HTTPClient
    private let state: Mutex<State>
    private let isStream: Bool
    private let bytesMax: Int

    /// `whenOver` is called once.
    init(client: HTTPClient, isStream: Bool, bytesMax: Int, whenOver: @escaping @Sendable () -> Void) {
        self.client = client
        self.isStream = isStream
        self.bytesMax = bytesMax
        state = Mutex(State(whenOver: whenOver))
    }

    func began(_ request: HTTPClient.Task<Void>) {
        let isOver = state.withLock { state in
            state.request = request
            return state.end != nil
        }
        if isOver { request.fail(reason: CancellationError()) }
    }

    var isOver: Bool { state.withLock { $0.end != nil } }

    /// Ends it, and whoever waits hears why.
    func end(_ error: any Error) {
        let request = state.withLock { $0.request }
        finish(.failure(error))
        request?.fail(reason: error)
    }

    // MARK: What the client tells, on its event loop

    func didReceiveHead(task: HTTPClient.Task<Void>, _ head: HTTPResponseHead) -> EventLoopFuture<Void> {
        wake { $0.head = head }
        return task.eventLoop.makeSucceededVoidFuture()
    }

    func didReceiveBodyPart(task: HTTPClient.Task<Void>, _ buffer: ByteBuffer) -> EventLoopFuture<Void> {
        let (isTooMuch, room) = state.withLock { state -> (Bool, EventLoopPromise<Void>?) in
            state.buffer.append(buffer.readableBytesView)
            if state.buffer.count > bytesMax { return (true, nil) }
            guard isStream, state.end == nil, state.buffer.count > HeldAnswer.waitingBytesMax, state.buffer.hasLine else {
                return (false, nil)
            }
            state.room = task.eventLoop.makePromise()
            return (false, state.room)
        }
        if isTooMuch { end(NIOTooManyBytesError(maxBytes: bytesMax)) } else { wake { _ in } }
        return room?.futureResult ?? task.eventLoop.makeSucceededVoidFuture()
    }

    func didFinishRequest(task: HTTPClient.Task<Void>) { finish(.success(())) }
    func didReceiveError(task: HTTPClient.Task<Void>, _ error: any Error) { finish(.failure(error)) }

    private func finish(_ result: Result<Void, any Error>) {
        let (waiter, room, whenOver) = state.withLock { state in
            defer { (state.waiter, state.room, state.whenOver, state.request) = (nil, nil, nil, nil) }
            if state.end == nil { state.end = result }
            return (state.waiter, state.room, state.whenOver)
        }
        waiter?.resume()
        room?.succeed()
        whenOver?()
    }

    private func wake(_ change: (inout State) -> Void) {
        let waiter = state.withLock { state in
            change(&state)
            defer { state.waiter = nil }
            return state.waiter
        }
        waiter?.resume()
    }

    // MARK: Reading, by one reader at a time

    /// Status and headers. Throws what ended the answer before.
    func head() async throws -> HTTPResponseHead {
        while true {
            let (head, end) = state.withLock { ($0.head, $0.end) }
            if let head { return head }
            try end?.get()
            await news { $0.head != nil }
        }
    }

    /// The whole body.
    func body() async throws -> [UInt8] {
        while true {
            let found = state.withLock { state -> Result<[UInt8], any Error>? in
                state.end.map { end in end.map { state.buffer.takeAll() } }
            }
            if let found { return try found.get() }
            await news { _ in false }
        }
    }

    /// The next complete lines, as a JSON array; nil after the last. Throws what broke the stream off, after its last lines.
    func lines(silence: Span, on eventLoop: any EventLoop) async throws -> [UInt8]? {
        let timer = Mutex<Scheduled<Void>?>(nil)
        defer { timer.withLock { $0 }?.cancel() }
        while true {
            let (lines, end, room) = state.withLock { state in
                let isEnded = if case .success = state.end { true } else { false }
                let lines = state.buffer.take(bytesMax: HeldAnswer.waitingBytesMax, atEnd: isEnded)
                defer { if lines != nil { state.room = nil } }
                return (lines, state.end, lines != nil ? state.room : nil)
            }
            room?.succeed()
            if let lines { return lines }
            if let end {
                try end.get()
                return nil
            }
            timer.withLock { timer in
                guard timer == nil else { return }
                timer = eventLoop.scheduleTask(in: .milliseconds(silence.milliseconds)) { self.end(Silence()) }
            }
            await news { $0.buffer.hasLine }
        }
    }

    /// Waits for the next change, unless it is there or the answer is over. Cancelling the task ends the answer.
    private func news(_ isThere: @Sendable (State) -> Bool) async {
        await withTaskCancellationHandler {
            await withCheckedContinuation { continuation in
                let goesOn = state.withLock { state in
                    if state.end != nil || isThere(state) { return true }
                    state.waiter = continuation
                    return false
                }
                if goesOn { continuation.resume() }
            }
        } onCancel: {
            end(CancellationError())
        }
    }
}
