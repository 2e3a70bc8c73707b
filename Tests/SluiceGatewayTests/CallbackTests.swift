import SluiceConnectors
import SluiceCore
import SluiceStore
import Synchronization
import Testing

@testable import SluiceGateway

/// Keeps callbacks by their tokens, and what was handed to them.
final class FakeCallbacks: CallbackTaking {
    private struct State {
        var byToken: [String: StoredCallback] = [:]
        var called: [(id: String, body: [UInt8])] = []
        var failure: SluiceError?
        var expires = false
    }
    private let state = Mutex(State())

    var called: [(id: String, body: [UInt8])] { state.withLock { $0.called } }
    func fail(_ error: SluiceError?) { state.withLock { $0.failure = error } }

    /// From now on each expires while it is called.
    func expire() { state.withLock { $0.expires = true } }

    func add(_ token: String, asks: Bool, connection: ConnectionID = ConnectionID(7), state: CallbackState = .pending) {
        var callback = Callback(asks: asks, createdAt: .distantPast, expiresAt: .distantFuture, nextAt: .distantFuture)
        callback.state = state
        let stored = StoredCallback(
            number: 1, id: "cb_" + token, connection: connection, type: nil, input: [], destination: nil, sealedToken: [],
            idempotencyKey: nil, isUnsafe: false, state: callback, pauses: [], generation: .first, source: TriggerID(1), sourceUID: "",
            position: nil, endedBy: nil, result: nil)
        self.state.withLock { $0.byToken[token] = stored }
    }

    func callback(token: String) async throws -> StoredCallback? {
        try state.withLock { state in
            if let failure = state.failure { throw failure }
            return state.byToken[token]
        }
    }

    func called(_ callback: StoredCallback, _ request: WebhookRequest) async throws -> CallbackState {
        state.withLock { state in
            state.called.append((callback.id, request.body))
            return state.expires ? .expired : callback.state.asks ? .pending : .settled
        }
    }
}

@Suite struct CallbackCallTests {
    private func bench(_ configure: (FakeCallbacks) -> Void) -> (Bench, FakeCallbacks) {
        let callbacks = FakeCallbacks()
        configure(callbacks)
        let bench = Bench(callbacks: callbacks)
        bench.gateway.update(
            GatewayRoutes(connectionsByToken: [Bench.token: bench.connection], connections: [ConnectionID(7): bench.connection]))
        return (bench, callbacks)
    }

    private func call(_ bench: Bench, _ token: String, signed: Bool = true, method: String = "POST") async -> GatewayAnswer {
        var request =
            signed ? bench.webhook("{\"paid\":1.10}") : WebhookRequest(method: "POST", path: "", query: "", headers: [], body: [1])
        (request.method, request.path) = (method, "/callbacks/" + token)
        return await bench.gateway.respond(to: request)
    }

    @Test func P8_anUnverifiedCallIsRefusedAndReachesNothing() async throws {
        let (bench, callbacks) = bench { fake in
            fake.add("asks", asks: true)
            fake.add("takes", asks: false)
        }
        for token in ["asks", "takes"] {
            let before = callbacks.called.count
            #expect(await call(bench, token, signed: false).status == 401)
            #expect(callbacks.called.count == before)
            #expect(await call(bench, token).status == 200)
        }
        #expect(callbacks.called.map(\.id) == ["cb_asks", "cb_takes"])
        #expect(callbacks.called.last?.body == Array("{\"paid\":1.10}".utf8), "the body as it came")
        bench.time.advance(by: .minutes(1))
        for _ in 0..<100 { _ = await call(bench, "takes", signed: false) }
        #expect(bench.alarms.raised.contains { $0.kind == .verificationFailing }, "a wrong secret must show")
        #expect(bench.inbox.entries.isEmpty)
    }

    @Test func lateCallsAreAnsweredAndChangeNothing() async throws {
        let (bench, callbacks) = bench { fake in
            for (token, state) in [
                ("settled", CallbackState.settled), ("cancelled", .cancelled), ("failed", .failed),
            ] {
                fake.add(token, asks: false, state: state)
            }
        }
        for token in ["settled", "cancelled", "failed"] {
            #expect(await call(bench, token).status == 200)
            #expect(await call(bench, token, signed: false).status == 200, "whatever it carries: nothing is told")
        }
        #expect(callbacks.called.isEmpty)
    }

    /// A result that is not kept must not look like one that is.
    @Test func P1_callsOfAnExpiredOneAreNotAnsweredAsIfTheyWereKept() async throws {
        let (bench, callbacks) = bench { fake in
            fake.add("expired", asks: false, state: .expired)
            fake.add("takes", asks: false)
        }
        #expect(await call(bench, "expired").status == 410)
        #expect(callbacks.called.isEmpty)
        #expect(await call(bench, "takes").status == 200)
        callbacks.expire()
        #expect(await call(bench, "takes").status == 410, "between the look and the call")
    }

    @Test func whatIsNotACallbackIsNotFound() async throws {
        let (bench, callbacks) = bench { $0.add("tokencanary", asks: true) }
        for token in ["unknown", "", "TOKENCANARY", "tokencanary/", "tokencan%61ry", "../tokencanary", String(repeating: "a", count: 100)] {
            #expect(await call(bench, token).status == 404, "\(token)")
        }
        #expect(await call(bench, "tokencanary", method: "DELETE").status == 405)
        #expect(await call(bench, "tokencanary", method: "GET").status == 405, "no handshake of this connection comes with GET")
        callbacks.fail(SluiceError(.storage, "down"))
        #expect(await call(bench, "tokencanary").status == 503, "send it again")
        bench.gateway.beginShutdown()
        #expect(await call(bench, "tokencanary").status == 503)
        #expect(!bench.logs.text.contains("tokencanary"), "no token in a log")
    }

    @Test func withoutAWayToVerifyOnlyThoseThatAskTakeCalls() async throws {
        let (bench, callbacks) = bench { fake in
            fake.add("asks", asks: true, connection: ConnectionID(99))
            fake.add("takes", asks: false, connection: ConnectionID(99))
        }
        #expect(await call(bench, "takes", signed: false).status == 503)
        #expect(await call(bench, "asks", signed: false).status == 200, "it settles nothing, and is throttled")
        #expect(callbacks.called.map(\.id) == ["cb_asks"])
    }
}
