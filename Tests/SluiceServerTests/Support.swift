import FoundationEssentials
import SluiceConnectors
import SluiceCore
import SluiceDelivery
import SluiceSQLite
import SluiceStore
import Testing

@testable import SluiceServer

/// A connector that never leaves the process.
struct FakeConnector: Connector {
    var definition = ConnectorDefinition(
        name: "shop", title: "Shop", version: "1", hash: "h", language: "swift",
        connectionFields: [
            Field("site"), Field("api_key", isSecret: true), Field("page_size", type: .integer, isOptional: true, defaultJSON: "50"),
            Field("ratio", type: .number, isOptional: true), Field("live", type: .boolean, isOptional: true),
            Field("since", type: .dateTime, isOptional: true), Field("extra", type: .object, isOptional: true),
        ],
        webhook: WebhookDescription(scheme: "basic-auth"),
        triggers: [
            TriggerTypeDefinition(
                name: "record", title: "Record", kind: .hybrid, inputFields: [Field("resource"), Field("code", isOptional: true)]),
            TriggerTypeDefinition(name: "tick", title: "Tick", kind: .polling),
        ])

    func webhookKeys(_ request: WebhookRequest) throws -> [String] { [] }
    func webhookKey(triggerType: String, input: JSONDocument) throws -> String? { input.root["resource"]?.string }
    func poll(_ request: PollRequest, http: any HTTPSending) async throws -> PollPage { PollPage(records: [], more: false) }
    func dedupKeys(triggerType: String, records: [Record]) throws -> [Result<[UInt8], SluiceError>] { [] }
    func help(webhookBaseURL: String) -> String { "Put \(webhookBaseURL) into the shop." }
}

enum Fixture {
    static let connectors: [String: any Connector] = ["shop": FakeConnector()]
    static let key = [UInt8](repeating: 7, count: 32)
    static let names = ApplyPlanner.NameSource(endpointToken: { "token" }, triggerUID: { "uid" })

    static let manifest = """
        connections:
          main:
            connector: shop
            fields: {site: acme, api_key: "${env:KEY}"}
            webhook: {secrets: ["${env:HOOK}"]}
        triggers:
          orders:
            connection: main
            type: record
            input: {resource: order, code: 0123}
            safety_interval: 15s
            destinations: [out]
        destinations:
          out: {kind: push, url: "https://example.com/in?key=urlcanary", secret: "${env:PUSH}", headers: {Authorization: "Bearer ${env:HEADER}"}}
        """
    static let references = [
        "env:KEY": "canary-key", "env:HOOK": "user:canary-hook", "env:PUSH": "whsec_Y2FuYXJ5Y2FuYXJ5Y2FuYXJ5Y2FuYXJ5",
        "env:HEADER": "canary-header",
    ]

    /// A directory of its own, removed after the body.
    static func withDirectory<Value>(_ body: (String) async throws -> Value) async throws -> Value {
        let path = "/tmp/sluice-server-\(UInt64.random(in: 0...UInt64.max))"
        try SmallFile.makeDirectory(path)
        defer { try? FileManager.default.removeItem(atPath: path) }
        return try await body(path)
    }

    /// The API on a store of its own.
    static func withAPI<Value>(
        localToken: String? = nil, connectors: [String: any Connector] = connectors, _ body: (API, any Store) async throws -> Value
    ) async throws -> Value {
        try await withDirectory { directory in
            let store = try SQLiteStore.open(SQLiteOptions(directory: directory, synchronous: .off))
            let clock = AnchoredClock(wallMillisecondsAtStart: 1_800_000_000_000)
            let control = NoPollers()
            let api = API(
                API.Parts(
                    store: store, shelf: ConnectorShelf(connectors), sealer: try SecretSealer(key: key, source: "test"), clock: clock,
                    alarms: AlarmBoard(clock: clock), control: control,
                    lifecycle: TriggerLifecycle(store: store, clock: clock, control: control, isServing: true), jobs: JobFeed(store: store),
                    address: PublicAddress("https://hooks.example.com/"), isServing: true,
                    places: DestinationPlaces(files: "/data/files", commands: "/opt/commands")),
                localTokenHash: localToken.map { TokenGate.hash($0) })
            do {
                let value = try await body(api, store)
                await store.close()
                return value
            } catch {
                await store.close()
                throw error
            }
        }
    }
}

extension API {
    /// Asks as somebody inside the process. Every answer must be as the OpenAPI document describes it.
    func ask(_ method: String, _ path: String, _ body: String = "", query: [(name: String, value: String)] = []) async -> (
        status: Int, text: String
    ) {
        let request = APIRequest(method, path, query: query, isTrusted: true, body: Array(body.utf8))
        let answer = await respond(to: request)
        if let problem = Documented.problem(with: answer, to: request) { Issue.record("\(problem)") }
        return (answer.status, String(decoding: answer.body, as: UTF8.self))
    }

    func apply(_ manifest: String, prunes: Bool = false, resets: [String] = []) async -> APIResponse {
        var order = ApplyRequest(manifest: manifest, references: Fixture.references, file: "sluice.yaml")
        order.prunes = prunes
        order.resets = resets
        let answer = await respond(to: order.request)
        if let problem = Documented.problem(with: answer, to: order.request) { Issue.record("\(problem)") }
        return answer
    }
}

extension Store {
    /// The trigger of the fixture's manifest.
    func orders() async throws -> StoredTrigger { try #require(await trigger(.default, named: "orders")) }
}
