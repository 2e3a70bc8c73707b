import Crypto
import SluiceCore
import SluiceGateway
import Synchronization

@testable import SluiceConnectors

/// A clock that only moves when told to.
final class ManualTime: TimeSource {
    private let milliseconds = Mutex<Int64>(1_700_000_000_000)
    func now() -> Timestamp { Timestamp(milliseconds: milliseconds.withLock { $0 }) }
    func advance(by span: Span) { milliseconds.withLock { $0 += span.milliseconds } }
}

/// Alarms that stand, and everything that was ever raised or cleared.
final class RecordedAlarms: AlarmReporting {
    private struct State {
        var standing: [String: Alarm] = [:]
        var raised: [Alarm] = []
    }
    private let state = Mutex(State())

    var standing: [Alarm] { state.withLock { Array($0.standing.values) } }
    var raised: [Alarm] { state.withLock { $0.raised } }

    func raise(_ alarm: Alarm) {
        state.withLock {
            $0.standing[alarm.kind.rawValue + alarm.subject] = alarm
            $0.raised.append(alarm)
        }
    }

    func clear(_ kind: Alarm.Kind, subject: String) { state.withLock { $0.standing[kind.rawValue + subject] = nil } }
}

final class RecordedRefusals: GatewayObserver {
    private let state = Mutex<[ConnectionID?]>([])
    var connections: [ConnectionID?] { state.withLock { $0 } }
    func webhooksRefused(_ connection: ConnectionID?, at time: Timestamp) { state.withLock { $0.append(connection) } }
}

/// Keys are the `type` of a JSON body, or the header `X-Type` if there is one; type `boom` throws.
struct TypedConnector: Connector {
    let definition = ConnectorDefinition(
        name: "typed", title: "Typed", version: "1", hash: "1", language: "swift", connectionFields: [], webhook: nil, triggers: [])

    func webhookKeys(_ request: WebhookRequest) throws -> [String] {
        if let type = request.header("X-Type") { return [type] }
        let body: JSONDocument
        do { body = try JSONDocument(request.body) } catch { throw SluiceError(.connector, "\(error)") }
        if body.root["type"]?.string == "boom" { throw SluiceError(.connector, "connector.lua:7: attempt to index a nil value") }
        if let types = body.root["types"]?.elements { return types.compactMap(\.string) }
        return body.root["type"]?.string.map { [$0] } ?? []
    }

    func webhookKey(triggerType: String, input: JSONDocument) throws -> String? { nil }
    func poll(_ request: PollRequest, http: any HTTPSending) async throws -> PollPage { PollPage(records: [], more: false) }
    func dedupKeys(triggerType: String, records: [Record]) throws -> [Result<[UInt8], SluiceError>] { [] }
    func help(webhookBaseURL: String) -> String { "" }
}

/// A scheme like those of real providers: `X-Signature: t=SECONDS,v=HEX` with HMAC-SHA256 over `SECONDS.BODY`.
enum TestScheme {
    static let signed = SignatureScheme(name: "test-hmac", isSafe: true, signsBody: true, secretHint: "any text") {
        request, secrets, now, options in
        guard let header = request.header("X-Signature") else { return .refused(Refusal(.missingHeader, "X-Signature is missing")) }
        let parts = header.split(separator: ",")
        guard parts.count == 2, parts[0].hasPrefix("t="), parts[1].hasPrefix("v="), let seconds = Int64(parts[0].dropFirst(2)) else {
            return .refused(Refusal(.malformedHeader, "X-Signature is not t=SECONDS,v=HEX"))
        }
        guard now.seconds - seconds <= (options.tolerance ?? .seconds(300)).milliseconds / 1000 else {
            return .refused(Refusal(.stale, "too old"))
        }
        guard secrets.contains(where: { signature(of: request.body, secret: $0, seconds: seconds) == parts[1].dropFirst(2) }) else {
            return .refused(Refusal(.mismatch, "no secret gives this signature"))
        }
        return .valid
    }

    static let unsigned = SignatureScheme(name: "none", isSafe: false, signsBody: false, secretHint: "") { _, _, _, _ in .valid }

    static func signature(of body: [UInt8], secret: String, seconds: Int64) -> String {
        let code = HMAC<SHA256>.authenticationCode(for: Array("\(seconds).".utf8) + body, using: SymmetricKey(data: Array(secret.utf8)))
        return code.map { ($0 < 16 ? "0" : "") + String($0, radix: 16) }.joined()
    }
}
