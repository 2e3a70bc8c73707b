import SluiceCore

/// Any intention but an append, waiting for its commit.
protocol WaitingChange: AnyObject, Sendable {
    /// About what it holds in memory while it waits.
    var bytes: Int { get }
    /// Page records in it: these bound a batch.
    var records: Int { get }
    /// On the writer's thread, inside a savepoint.
    func perform(_ transaction: Transaction) throws
    /// On the writer's thread, after the commit; `failure` is why nothing of it was kept.
    func finish(_ failure: SluiceError?)
}

/// An intention that answers a `Value`.
final class Change<Value: Sendable>: WaitingChange, @unchecked Sendable {
    // `@unchecked`: `value` is touched by the writer's thread only.
    let bytes: Int
    let records: Int
    private let body: @Sendable (Transaction) throws -> Value
    private let continuation: CheckedContinuation<Value, any Error>
    private var value: Value?

    init(
        bytes: Int, records: Int, _ body: @escaping @Sendable (Transaction) throws -> Value,
        _ continuation: CheckedContinuation<Value, any Error>
    ) {
        self.bytes = bytes
        self.records = records
        self.body = body
        self.continuation = continuation
    }

    func perform(_ transaction: Transaction) throws { value = try body(transaction) }

    func finish(_ failure: SluiceError?) {
        if let failure {
            continuation.resume(throwing: failure)
        } else if let value {
            continuation.resume(returning: value)
        } else {
            continuation.resume(throwing: SluiceError(.internalError, "a change was neither made nor refused"))
        }
    }
}
