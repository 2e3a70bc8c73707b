import SluiceConnectors
import SluiceCore
import Synchronization

@testable import SluiceLua

/// A connector around the given pieces of Lua. Line numbers in the tests count from the piece's own first line when it
/// stands first in the file.
func connector(
    poll: String = "return { events = {} }", dedup: String = "return record.id", top: String = "", limits: LuaLimits = LuaLimits()
)
    throws -> LuaConnector
{
    let source = """
        \(top)
        return { name = "test", webhook = { scheme = "none" },
        connection = { fields = { { name = "api_key", secret = true } } },
        webhook_keys = function(request) return keys(request) end,
        triggers = { new_event = {
        webhook_key = function(input) return input.resource end,
        dedup = function(record) \(dedup) end,
        poll = function(connection, input, closure)
        \(poll)
        end } } }
        """
    return try LuaConnector.load(source: Array(source.utf8), name: "test", path: "test/connector.lua", limits: limits)
}

/// A connector whose `webhook_keys` has this body; its first line is line 1 of the file.
func keysConnector(_ body: String, limits: LuaLimits = LuaLimits()) throws -> LuaConnector {
    try connector(top: "local function keys(request) \(body) end", limits: limits)
}

func webhook(_ body: String = "{}", headers: [HTTPField] = []) -> WebhookRequest {
    WebhookRequest(method: "POST", path: "/w/1", query: "a=b", headers: headers, body: Array(body.utf8))
}

func json(_ text: String) -> JSONDocument {
    // Text of the tests themselves.
    guard let document = try? JSONDocument(Array(text.utf8)) else { fatalError("not JSON: \(text)") }
    return document
}

func pollRequest(
    connection: String = "{\"api_key\":\"secret-key-1\"}", input: String = "{}", cursor: String? = nil, pageState: String? = nil,
    recordsMax: Int = 10_000, type: String = "new_event"
) -> PollRequest {
    PollRequest(
        triggerType: type, connection: json(connection), input: json(input), cursor: cursor.map { Array($0.utf8) },
        pageState: pageState.map { Array($0.utf8) }, readBound: Timestamp(seconds: 1_700_000_000), recordsMax: recordsMax)
}

func text(_ bytes: some Collection<UInt8>) -> String { String(decoding: bytes, as: UTF8.self) }

/// Answers each request by a function.
struct FakeHTTP: HTTPSending {
    let answer: @Sendable (HTTPRequestPlan) async throws -> HTTPReply

    init(_ answer: @escaping @Sendable (HTTPRequestPlan) async throws -> HTTPReply) { self.answer = answer }
    init(json: String) { self.init { _ in reply(json) } }

    func send(_ request: HTTPRequestPlan) async throws -> HTTPReply { try await answer(request) }
}

func reply(_ json: String, status: Int = 200, headers: [HTTPField] = []) -> HTTPReply {
    HTTPReply(status: status, headers: headers, body: Array(json.utf8))
}

let noHTTP = FakeHTTP { _ in throw SluiceError(.internalError, "no request was expected") }

/// The message of what the body throws, or nil.
func message(_ body: () async throws -> Void) async -> String? {
    do {
        try await body()
        return nil
    } catch let error as SluiceError {
        return error.message
    } catch let failure as PollFailure {
        return "\(failure.kind): \(failure.error.message)"
    } catch {
        return String(describing: error)
    }
}

/// A door behind which calls wait until it is opened, and at which arrivals can be awaited.
final class Gate: Sendable {
    private struct Inside {
        var isOpen = false
        var waiting: [CheckedContinuation<Void, Never>] = []
        var arrivals = 0
        var watchers: [(Int, CheckedContinuation<Void, Never>)] = []
    }
    private let inside = Mutex(Inside())

    func pass() async {
        await withCheckedContinuation { continuation in
            let (isOpen, ready) = inside.withLock { inside -> (Bool, [CheckedContinuation<Void, Never>]) in
                inside.arrivals += 1
                if !inside.isOpen { inside.waiting.append(continuation) }
                let arrivals = inside.arrivals
                let ready = inside.watchers.filter { $0.0 <= arrivals }.map(\.1)
                inside.watchers.removeAll { $0.0 <= arrivals }
                return (inside.isOpen, ready)
            }
            for watcher in ready { watcher.resume() }
            if isOpen { continuation.resume() }
        }
    }

    func arrivals(_ count: Int) async {
        await withCheckedContinuation { continuation in
            let isThere = inside.withLock { inside -> Bool in
                if inside.arrivals >= count { return true }
                inside.watchers.append((count, continuation))
                return false
            }
            if isThere { continuation.resume() }
        }
    }

    func open() {
        let waiting = inside.withLock { inside -> [CheckedContinuation<Void, Never>] in
            inside.isOpen = true
            defer { inside.waiting = [] }
            return inside.waiting
        }
        for continuation in waiting { continuation.resume() }
    }
}
