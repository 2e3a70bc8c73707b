import Logging
import NIOPosix
import ServiceLifecycle
import SluiceConnectors
import SluiceCore
import SluiceTesting
import Testing

@testable import SluiceGateway

/// A gateway with everything around it faked, and one connection `shop` at `/hooks/secret-token`.
struct Bench: Sendable {
    static let token = "secret-token"
    static let path = "/hooks/secret-token"
    static let secret = "a-webhook-secret"
    static let orders = TopicID(11)
    static let refunds = TopicID(12)
    static let whole = TopicID(10)

    let inbox = FakeInbox()
    let time = ManualTime()
    let alarms = RecordedAlarms()
    let refusals = RecordedRefusals()
    let logs = LogLines()
    let gateway: Gateway
    var connection: GatewayConnection

    init(
        scheme: SignatureScheme = TestScheme.signed, deliveryID: DeliveryIDSource? = .body(["id"]), requestsPerSecondMax: Int? = nil,
        handshakes: (any HandshakeActing)? = nil, callbacks: (any CallbackTaking)? = nil, publicURL: String? = nil,
        _ configure: (inout GatewayLimits) -> Void = { _ in }
    ) {
        var limits = GatewayLimits()
        configure(&limits)
        let logs = logs
        var logger = Logger(label: "gateway") { _ in logs }
        logger.logLevel = .debug
        gateway = Gateway(
            store: inbox, time: time, alarms: alarms, observer: refusals, handshakes: handshakes, callbacks: callbacks,
            publicURL: { publicURL }, limits: limits, logger: logger)
        connection = GatewayConnection(
            id: ConnectionID(7), name: "shop", connector: TypedConnector(), scheme: scheme, secrets: [Bench.secret],
            deliveryID: deliveryID, topicsByKey: ["order": Bench.orders, "refund": Bench.refunds], wholeConnectionTopic: Bench.whole,
            requestsPerSecondMax: requestsPerSecondMax)
        gateway.update(GatewayRoutes(connectionsByToken: [Bench.token: connection]))
    }

    func signature(_ body: String, secret: String = Bench.secret, age: Int64 = 0) -> String {
        signature(Array(body.utf8), secret: secret, age: age)
    }

    func signature(_ body: [UInt8], secret: String = Bench.secret, age: Int64 = 0) -> String {
        let seconds = time.now().seconds - age
        return "t=\(seconds),v=\(TestScheme.signature(of: body, secret: secret, seconds: seconds))"
    }

    /// A genuine webhook, without HTTP around it.
    func webhook(_ body: String, headers: [HTTPField] = []) -> WebhookRequest { webhook(Array(body.utf8), headers: headers) }

    func webhook(_ body: [UInt8], headers: [HTTPField] = []) -> WebhookRequest {
        WebhookRequest(
            method: "POST", path: Bench.path, query: "", headers: [HTTPField("X-Signature", signature(body))] + headers, body: body)
    }

    func accept(_ request: WebhookRequest, isForced: Bool = false) async -> GatewayAnswer {
        await gateway.accept(request, connection: connection, isForced: isForced)
    }

    /// The bytes of a genuine webhook.
    func httpRequest(_ body: String, path: String = Bench.path) -> String {
        "POST \(path) HTTP/1.1\r\nHost: h\r\nX-Signature: \(signature(body))\r\nContent-Length: \(body.utf8.count)\r\n\r\n\(body)"
    }

    /// Runs the listener on a free port for as long as `body` does.
    func serving<Result: Sendable>(_ body: @Sendable @escaping (Int) async throws -> Result) async throws -> Result {
        let (ports, bound) = AsyncStream.makeStream(of: Int.self, bufferingPolicy: .bufferingOldest(1))
        let service = gateway.application(host: "127.0.0.1", port: 0) { bound.yield($0) }
        var quiet = Logger(label: "services")
        quiet.logLevel = .critical
        let services = ServiceGroup(configuration: .init(services: [service], logger: quiet))
        return try await withThrowingTaskGroup(of: Void.self) { group in
            group.addTask { try await services.run() }
            var iterator = ports.makeAsyncIterator()
            let port = try #require(await iterator.next())
            do {
                let result = try await body(port)
                await services.triggerGracefulShutdown()
                try await group.waitForAll()
                return result
            } catch {
                // A held append would keep the server from ending, and with it the failed test.
                inbox.release()
                group.cancelAll()
                throw error
            }
        }
    }
}

/// Waits until a condition holds.
func eventually(_ what: String, _ condition: @Sendable () async throws -> Bool) async throws {
    try await waitUntil(what, everyMilliseconds: 5, condition)
}

extension Gateway {
    /// As the listener answers, without one.
    func respond(to request: WebhookRequest) async -> GatewayAnswer { await answer(begin(request)) }
}
