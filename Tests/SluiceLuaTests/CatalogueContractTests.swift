import Foundation
import SluiceCore
import Synchronization
import Testing

@testable import SluiceConnectors
@testable import SluiceLua

/// Holds every connector in connectors/ to its fixtures: what it asks the provider, what it makes of the answers, how its
/// webhooks are verified and whom they wake, which handshakes it answers. docs/CONNECTORS.md says how a fixture is written.
@Suite struct CatalogueContractTests {
    @Test func everyConnectorHasFixturesForAllItDefines() throws {
        let names = try Catalogue.names()
        // None is left out here, and the page tells of none that is gone.
        #expect(try names == Catalogue.namesOnThePage())
        for name in names {
            let connector = try Catalogue.connector(name)
            let fixtures = try Catalogue.fixtures().filter { $0.connector == name }
            if Catalogue.checkedLive.contains(name), fixtures.isEmpty { continue }
            for type in connector.definition.triggers {
                #expect(
                    try fixtures.contains { try $0.root()["trigger"]?.string == type.name },
                    "connectors/\(name)/fixtures has nothing for the trigger type \(type.name)")
            }
            if connector.definition.webhook != nil {
                #expect(try fixtures.contains { try $0.root()["webhook"] != nil }, "connectors/\(name)/fixtures has no webhook")
            }
            // Written down, so that whoever doubts a recipe knows where it comes from.
            let source = try Catalogue.source(name)
            #expect(source.contains("-- Source") || source.contains("https://"), "connectors/\(name)/connector.lua names no source")
        }
    }

    @Test(arguments: try Catalogue.fixtures()) func theConnectorKeepsToItsFixture(_ fixture: CatalogueFixture) async throws {
        let root = try fixture.root()
        let known = ["source", "trigger", "connection", "input", "now", "cycles", "webhook", "handshake", "records", "subscription"]
        for member in root.members ?? [] { #expect(known.contains(member.key), "\(fixture) has the unknown key \(member.key)") }
        #expect(root["source"]?.string?.isEmpty == false, "\(fixture) must name the page that its shapes come from")
        let run = try FixtureRun(fixture, root)
        try await run.checkCycles()
        try await run.checkSubscription()
        try run.checkHandshake()
        try run.checkWebhook()
    }

    /// What was said of most of them: data, and short enough to be read.
    @Test func mostConnectorsAreShortAndData() throws {
        let names = try Catalogue.names()
        let data = try names.filter { name in try Catalogue.connector(name).lua.triggers.allSatisfy { $0.incremental != nil } }
        let short = try names.filter { try Catalogue.source($0).split(separator: "\n").filter { !$0.hasPrefix("--") }.count <= 80 }
        #expect(data.count * 3 >= names.count * 2, "data: \(data)")
        #expect(short.count * 3 >= names.count * 2, "short: \(short)")
    }
}

/// The connectors of the repository.
enum Catalogue {
    static let folder = URL(filePath: #filePath).deletingLastPathComponent().deletingLastPathComponent().deletingLastPathComponent()
        .appending(path: "connectors")
    /// Their programs run in the live tests; what they hold open has no fixed sequence of requests.
    static let checkedLive: Set<String> = ["etcd", "syncthing"]

    static func names() throws -> [String] {
        try FileManager.default.contentsOfDirectory(at: folder, includingPropertiesForKeys: nil)
            .filter { FileManager.default.fileExists(atPath: $0.appending(path: "connector.lua").path(percentEncoded: false)) }
            .map(\.lastPathComponent).sorted()
    }

    /// The first column of docs/CATALOGUE.md.
    static func namesOnThePage() throws -> [String] {
        let page = try String(contentsOf: folder.deletingLastPathComponent().appending(path: "docs/CATALOGUE.md"), encoding: .utf8)
        let rows = page.split(separator: "\n").filter { $0.hasPrefix("| ") && !$0.hasPrefix("| connector ") }
        return rows.compactMap { $0.dropFirst(2).split(separator: " ").first.map(String.init) }.sorted()
    }

    static func source(_ name: String) throws -> String {
        try String(contentsOf: folder.appending(path: "\(name)/connector.lua"), encoding: .utf8)
    }

    static func connector(_ name: String) throws -> LuaConnector {
        try LuaConnector.load(source: Array(try source(name).utf8), name: name, path: "connectors/\(name)/connector.lua")
    }

    static func fixtures() throws -> [CatalogueFixture] {
        try names().flatMap { name in
            let folder = folder.appending(path: "\(name)/fixtures")
            let files = (try? FileManager.default.contentsOfDirectory(at: folder, includingPropertiesForKeys: nil)) ?? []
            return files.filter { $0.pathExtension == "json" }.sorted { $0.path < $1.path }
                .map { CatalogueFixture(connector: name, file: $0) }
        }
    }
}

struct CatalogueFixture: Sendable, CustomTestStringConvertible, CustomStringConvertible {
    var connector: String
    var file: URL
    var description: String { "\(connector)/\(file.lastPathComponent)" }
    var testDescription: String { description }

    func root() throws -> JSONView { try JSONDocument(Array(try Data(contentsOf: file)), depthMax: 200).root }
}

/// A connector, held to one fixture.
struct FixtureRun {
    let fixture: CatalogueFixture
    let root: JSONView
    let connector: LuaConnector
    let connection: JSONDocument
    let input: JSONDocument
    let now: Timestamp

    init(_ fixture: CatalogueFixture, _ root: JSONView) throws {
        self.fixture = fixture
        self.root = root
        connector = try Catalogue.connector(fixture.connector)
        connection = try JSONDocument(Array(root["connection"]?.bytes ?? Array("{}".utf8)[...]))
        input = try JSONDocument(Array(root["input"]?.bytes ?? Array("{}".utf8)[...]))
        let text = root["now"]?.string ?? "2026-01-05T12:00:00Z"
        now = Timestamp(seconds: Int64(try Date(text, strategy: .iso8601).timeIntervalSince1970))
    }

    // MARK: - Webhooks

    func checkWebhook() throws {
        guard let sample = root["webhook"] else { return }
        let request = try webhook(sample)
        let name = try #require(sample["scheme"]?.string ?? connector.definition.webhook?.scheme, "\(fixture): no scheme")
        let scheme = try #require(SignatureScheme.named(name), "\(fixture): there is no scheme \(name)")
        let secret = sample["secret"]?.string ?? ""
        var options = SchemeOptions(publicURL: "https://hooks.example.com")
        options.headerName = sample["secret_header"]?.string
        let at = Timestamp(seconds: sample["now"]?.int64 ?? now.seconds)
        func verdict(_ request: WebhookRequest, _ secret: String) -> Verdict {
            scheme.verify(request, secrets: [secret], now: at, options: options)
        }
        #expect(verdict(request, secret) == .valid, "\(fixture): \(verdict(request, secret))")
        if scheme.isSafe { #expect(verdict(request, secret + "x") != .valid, "\(fixture): any secret verifies") }
        if scheme.signsBody {
            var changed = request
            changed.body.append(0x20)
            #expect(verdict(changed, secret) != .valid, "\(fixture): a changed body verifies")
        }
        let keys = try connector.webhookKeys(request)
        #expect(keys == sample["keys"]?.elements?.compactMap(\.string), "\(fixture): webhook_keys gives \(keys)")
        if let type = root["trigger"]?.string, connector.definition.trigger(type)?.subscription == nil {
            let key = try #require(try connector.webhookKey(triggerType: type, input: input), "\(fixture): \(type) hears no webhooks")
            #expect(keys.contains(key), "\(fixture): \(type) listens for \(key), and the webhook is about \(keys)")
        }
        if let wanted = root["records"]?.elements, let type = root["trigger"]?.string {
            let records = try connector.webhookNotification(request, triggerType: type, input: input, output: nil)
            #expect(records.map { Exchanges.compact($0.view) } == wanted.map(Exchanges.compact), "\(fixture): records")
        }
        #expect(deliveryID(request) == sample["delivery_id"]?.string, "\(fixture): the delivery id is \(deliveryID(request) ?? "missing")")
    }

    private func webhook(_ sample: JSONView) throws -> WebhookRequest {
        let headers = (sample["headers"]?.members ?? []).map { HTTPField($0.key, $0.value.string ?? "") }
        let body = sample["body"]
        return WebhookRequest(
            method: sample["method"]?.string ?? "POST", path: "/hooks/TOKEN", query: sample["query"]?.string ?? "", headers: headers,
            body: body?.string.map { Array($0.utf8) } ?? body.map { Array($0.bytes) } ?? [])
    }

    private func deliveryID(_ request: WebhookRequest) -> String? {
        switch connector.definition.webhook?.deliveryID {
        case nil: nil
        case .header(let name): request.header(name)
        case .body(let path): (try? JSONDocument(request.body))?.root[path: path]?.text
        }
    }

    func checkHandshake() throws {
        guard let sample = root["handshake"] else { return }
        let described = try #require(connector.definition.webhook)
        let shapes = Handshake.of(declared: described.handshakes, scheme: described.scheme)
        let name = sample["name"]?.string
        #expect(shapes.contains { $0.name == name }, "\(fixture): the connector has no handshake \(name ?? "")")
        var fields: [String: String] = [:]
        for member in connection.root.members ?? [] { fields[member.key] = member.value.text }
        let request = HandshakeRequest(try webhook(sample), for: shapes)
        let outcome = Handshake.outcome(
            request, among: shapes, isVerified: shapes.contains { $0.name == name && $0.needsSignature },
            HandshakeContext(secrets: [sample["secret"]?.string ?? ""], fields: fields, mayLearnSecret: true))
        guard case .answer(let answer, _) = outcome else {
            Issue.record("\(fixture): the handshake is not answered: \(outcome)")
            return
        }
        #expect(answer.status == Int(sample["status"]?.int64 ?? 200))
        #expect(String(decoding: answer.body, as: UTF8.self) == sample["answer"]?.string ?? "")
    }

    // MARK: - Polls

    /// Cycle after cycle, each until it has no more pages, the cursor handed on.
    func checkCycles() async throws {
        guard let type = root["trigger"]?.string else { return }
        var cursor: [UInt8]?
        for (number, cycle) in (root["cycles"]?.elements ?? []).enumerated() {
            let http = Exchanges(fixture: "\(fixture), cycle \(number + 1)", cycle["requests"]?.elements ?? [], now: now, secrets: secrets)
            var (keys, state, pages): ([String], [UInt8]?, Int) = ([], nil, 0)
            repeat {
                let page = try await connector.poll(
                    PollRequest(triggerType: type, connection: connection, input: input, cursor: cursor, pageState: state, readBound: now),
                    http: http)
                for record in page.records where !record.isDerived {
                    #expect(http.hasSent(record.bytes), "\(fixture): a record is not byte for byte as it came")
                }
                for key in try page.keys ?? connector.dedupKeys(triggerType: type, records: page.records) {
                    keys.append(String(decoding: try key.get(), as: UTF8.self))
                }
                if let next = page.cursor { cursor = next }
                state = page.pageState
                pages += 1
                try #require(pages < 20, "\(fixture): the cycle does not end")
                if !page.more { break }
            } while true
            http.checkAllAsked()
            #expect(keys == cycle["keys"]?.elements?.compactMap(\.string), "\(fixture), cycle \(number + 1): keys \(keys)")
        }
    }

    // MARK: - Subscriptions

    /// Subscribes, checks that it is there, and unsubscribes, in this order.
    func checkSubscription() async throws {
        guard let type = root["trigger"]?.string, connector.definition.trigger(type)?.subscription != nil else { return }
        let sample = try #require(root["subscription"], "\(fixture): the subscription of \(type) is not shown")
        let http = Exchanges(fixture: "\(fixture), subscription", sample["requests"]?.elements ?? [], now: now, secrets: secrets)
        var request = SubscriptionRequest(
            triggerType: type, connection: connection, input: input, webhookURL: "https://hooks.example.com/hooks/TOKEN",
            secret: "offered-secret", output: nil, now: now)
        let made = try await connector.subscribe(request, http: http)
        let output = try #require(made.output, "\(fixture): nothing is kept of the subscription")
        request.output = output
        #expect(String(decoding: output, as: UTF8.self) == sample["output"].map { String(decoding: $0.bytes, as: UTF8.self) })
        let found = try await connector.checkSubscription(request, http: http)
        #expect(found.status == .active, "\(fixture): \(found)")
        #expect(
            found.others?.map(\.id) == sample["others"]?.elements?.compactMap(\.text), "\(fixture): \(String(describing: found.others))")
        try await connector.unsubscribe(request, http: http)
        http.checkAllAsked()
    }

    private var secrets: [String] {
        connector.definition.connectionFields.filter(\.isSecret).compactMap { connection.root[$0.name]?.string }
    }
}

/// Answers the requests of a fixture in their order, and holds each to what it should be.
final class Exchanges: HTTPSending {
    private let fixture: String
    private let exchanges: [JSONView]
    private let now: Timestamp
    private let secrets: [String]
    private let state = Mutex<(next: Int, sent: [[UInt8]])>((0, []))

    init(fixture: String, _ exchanges: [JSONView], now: Timestamp, secrets: [String]) {
        self.fixture = fixture
        self.exchanges = exchanges
        self.now = now
        self.secrets = secrets
    }

    func send(_ request: HTTPRequestPlan) async throws -> HTTPReply {
        let index = state.withLock { state in
            defer { state.next += 1 }
            return state.next
        }
        guard exchanges.indices.contains(index) else {
            throw SluiceError(.invalid, "\(fixture): one request too many: \(request.method) \(request.url)")
        }
        let wanted = exchanges[index]
        let place = "\(fixture), request \(index + 1)"
        #expect("\(request.method) \(request.url)" == wanted["request"]?.string, "\(place)")
        for header in wanted["headers"]?.members ?? [] {
            #expect(request.headers.first(header.key) == header.value.string, "\(place): header \(header.key)")
        }
        if let body = wanted["body"] {
            let sent = try JSONDocument(request.body).root
            #expect(Exchanges.compact(sent) == Exchanges.compact(body), "\(place): body")
        } else {
            #expect(request.body.isEmpty, "\(place): a body that is not in the fixture")
        }
        for secret in secrets where !secret.isEmpty { #expect(!request.url.contains(secret), "\(place): a secret stands in the URL") }
        let answer = Array(wanted["answer"]?.bytes ?? [])
        state.withLock { $0.sent.append(answer) }
        var headers = (wanted["answer_headers"]?.members ?? []).map { HTTPField($0.key, $0.value.string ?? "") }
        if headers.first("Date") == nil { headers.append(HTTPField("Date", Exchanges.date(now))) }
        return HTTPReply(status: Int(wanted["status"]?.int64 ?? 200), headers: headers, body: answer)
    }

    func hasSent(_ record: ArraySlice<UInt8>) -> Bool {
        state.withLock { $0.sent.contains { $0.firstRange(of: record) != nil } }
    }

    func checkAllAsked() {
        let count = state.withLock { $0.next }
        #expect(count == exchanges.count, "\(fixture): \(count) of \(exchanges.count) requests were made")
    }

    /// JSON without white space, members in their order.
    static func compact(_ view: JSONView) -> String {
        if let members = view.members {
            return "{" + members.map { "\"\($0.key)\":" + compact($0.value) }.joined(separator: ",") + "}"
        }
        if let elements = view.elements { return "[" + elements.map(compact).joined(separator: ",") + "]" }
        return String(decoding: view.bytes, as: UTF8.self)
    }

    /// As HTTP writes it (RFC 9110, 5.6.7).
    private static func date(_ time: Timestamp) -> String {
        let formatter = DateFormatter()
        formatter.locale = Locale(identifier: "en_US_POSIX")
        formatter.timeZone = TimeZone(identifier: "GMT")
        formatter.dateFormat = "EEE, dd MMM yyyy HH:mm:ss 'GMT'"
        return formatter.string(from: Date(timeIntervalSince1970: Double(time.milliseconds) / 1000))
    }
}
