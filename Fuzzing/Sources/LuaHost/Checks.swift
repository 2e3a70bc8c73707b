import Dispatch
import SluiceConnectors
import SluiceCore

/// Ends the process where something is wrong, so that libFuzzer keeps the input.
func check(_ holds: @autoclosure () -> Bool, _ message: @autoclosure () -> String) {
    if !holds() { fatalError(message()) }
}

func document(_ text: String) -> JSONDocument {
    guard let document = try? JSONDocument(Array(text.utf8)) else { fatalError("not JSON: \(text)") }
    return document
}

private final class Box<Value>: @unchecked Sendable { var result: Result<Value, any Error>? }

/// Runs it to its end on this thread's watch: libFuzzer knows no tasks.
func finish<Value: Sendable>(_ body: @escaping @Sendable () async throws -> Value) -> Result<Value, any Error> {
    let (box, done) = (Box<Value>(), DispatchSemaphore(value: 0))
    Task {
        do { box.result = .success(try await body()) } catch { box.result = .failure(error) }
        done.signal()
    }
    done.wait()
    return box.result!
}

/// What a connector's failure may be: an error of the host, a failure of a poll, or the end of the task. Never something else.
func checkFailure(_ error: any Error) {
    switch error {
    case let error as SluiceError: check(!error.message.isEmpty, "an error without a message")
    case let failure as PollFailure: _ = failure.error.message
    case is CancellationError: break
    default: fatalError("an error of another kind: \(error)")
    }
}

/// What every page must be, whatever the code was.
func checkPage(_ page: PollPage) {
    for record in page.records {
        check(
            (try? JSONDocument(Array(record.bytes), depthMax: 2000)) != nil,
            "a record is not JSON: \(String(decoding: record.bytes, as: UTF8.self))")
    }
    for state in [page.cursor, page.pageState] {
        guard let state else { continue }
        check(state.count <= PollLimits.cursorBytesMax, "a cursor of \(state.count) bytes")
        check((try? JSONDocument(state)) != nil, "a cursor is not JSON: \(String(decoding: state, as: UTF8.self))")
    }
    check(!page.more || page.pageState != nil, "more without a place to go on")
}
