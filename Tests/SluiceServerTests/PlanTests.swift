import SluiceConnectors
import SluiceCore
import SluiceStore
import Testing

@testable import SluiceServer

@Suite struct PlanTests {
    static let nothing = CurrentState(
        definitions: Definitions(connections: [], endpoints: [], topics: [], triggers: [], destinations: [], attachments: []))

    static func plan(_ text: String, _ current: CurrentState = nothing, _ options: ApplyOptions = ApplyOptions()) throws -> ApplyPlan {
        let manifest = try ManifestReader.read(text, references: Fixture.references)
        return try ApplyPlanner.plan(manifest, connectors: Fixture.connectors, current: current, options: options, names: Fixture.names)
    }

    @Test func aNewManifestCreatesAllAndStarts() throws {
        let plan = try PlanTests.plan(Fixture.manifest)
        #expect(
            plan.steps.map { "\($0.action) \($0.kind) \($0.name)" } == [
                "create connection main", "create destination out", "create trigger orders",
            ])
        #expect(plan.commands == [.init(trigger: "orders", commands: [.start], effects: [.subscribe, .poll(.start)])])
        let states = try plan.sealed(by: try SecretSealer(key: Fixture.key, source: "test")).compactMap { change in
            if case .setTriggerState(let name, let from, let to) = change { "\(name): \(from) → \(to)" } else { nil }
        }
        #expect(states == ["orders: created → starting"], "the state is stored with the definitions")
        #expect(plan.warnings.isEmpty)
        guard case .plain(.putTrigger(_, let uid, _, _, let input, _, let keys, let resets)) = plan.changes[3] else {
            Issue.record("no trigger in \(plan.changes.count) changes")
            return
        }
        #expect(uid == "uid" && !resets && keys == ["", "order"])
        #expect(String(decoding: input, as: UTF8.self) == #"{"resource":"order","code":"0123"}"#)
    }

    @Test func secretsAreKeptApartFromFields() throws {
        let plan = try PlanTests.plan(Fixture.manifest)
        guard case .putConnection(_, _, let fields, let secrets, _) = try #require(plan.changes.first) else { return }
        #expect(String(decoding: fields, as: UTF8.self) == #"{"site":"acme"}"#)
        #expect(secrets.fields.map(\.name) == ["api_key"] && secrets.webhookSecrets == ["user:canary-hook"])
        let sealed = try plan.sealed(by: try SecretSealer(key: Fixture.key, source: "test"))
        guard case .putConnection(_, _, _, let bytes, _) = try #require(sealed.first) else { return }
        #expect(bytes.firstRange(of: Array("canary".utf8)) == nil)
    }

    @Test(arguments: [
        ("connector: shopp", "did you mean `shop`?"), ("connector: shop, fields: {site: a}", "needs `api_key`"),
        ("connector: shop, fields: {site: a, api_kez: x}", "did you mean `api_key`?"),
        ("connector: shop, fields: {site: a, api_key: x, page_size: many}", "`page_size` must be a whole number"),
        ("connector: shop, fields: {site: a, api_key: x}", "needs `webhook: {secrets"),
        ("connector: shop, fields: {site: a, api_key: \"\"}", "`api_key` is empty"),
        ("connector: shop, fields: {site: \"\", api_key: x}", "`site` is empty"),
        ("connector: shop, fields: {site: a, api_key: x}, webhook: {scheme: strype}", "did you mean `stripe`?"),
    ])
    func connectionsAreHeldAgainstTheirConnector(_ body: String, _ part: String) throws {
        let error = try #require(throws: SluiceError.self) { try PlanTests.plan("connections:\n  a: {\(body)}") }
        #expect(error.message.contains(part), "\(error.message)")
    }

    @Test(arguments: [
        ("connection: mein, type: record, input: {resource: a}", "did you mean `main`?"),
        ("connection: main, type: recrod, input: {resource: a}", "did you mean `record`?"),
        ("connection: main, type: record", "needs `resource`"),
        ("connection: main, type: record, input: {resource: a}, destinations: [oout]", "did you mean `out`?"),
    ])
    func triggersAreHeldAgainstTheirType(_ body: String, _ part: String) throws {
        let error = try #require(throws: SluiceError.self) { try PlanTests.plan(Fixture.withTrigger(body)) }
        #expect(error.message.contains(part), "\(error.message)")
    }

    /// The example fits the connectors that come with Sluice.
    @Test func theExampleIsGood() throws {
        let root = #filePath.split(separator: "/").dropLast(3).reduce("") { $0 + "/" + $1 }
        var library = ConnectorLibrary()
        try library.load(directory: root + "/connectors")
        #expect(library.failures.isEmpty, "\(library.failures)")
        let text = String(decoding: try #require(try SmallFile.read(root + "/examples/sluice.yaml")), as: UTF8.self)
        let names = ReferenceText.all(in: try YAMLValue.parse(text, file: "sluice.yaml"))
        // The one is a user and a password, the others are signing secrets.
        let values = Dictionary(
            names.map { ($0, $0.contains("CHARGEBEE_WEBHOOK") ? "canary:canary" : "whsec_Y2FuYXJ5Y2FuYXJ5Y2FuYXJ5Y2FuYXJ5") }
        ) { first, _ in first }
        let manifest = try ManifestReader.read(text, references: values)
        let plan = try ApplyPlanner.plan(manifest, connectors: library.connectors, current: PlanTests.nothing)
        #expect(plan.steps.filter { $0.action == .create }.count == 5 && plan.warnings.isEmpty, "\(plan.warnings)")
    }

    @Test func unsafeAndInlineSecretsAreWarnedOf() throws {
        let plan = try PlanTests.plan(
            "connections:\n  a: {connector: shop, fields: {site: x, api_key: inline-canary}, webhook: {scheme: none}}")
        #expect(
            plan.warnings.count == 2 && plan.warnings.contains { $0.contains("UNSAFE") }
                && plan.warnings.contains { $0.contains("api_key") })
        #expect(!"\(plan.warnings)\(plan.steps)".contains("canary"))
    }

    /// A secret that the scheme cannot take is warned of, and its parameters must be those that it has.
    @Test func webhookSettingsAreHeldAgainstTheirScheme() throws {
        func plan(_ webhook: String) throws -> ApplyPlan {
            try PlanTests.plan("connections:\n  a: {connector: shop, fields: {site: x, api_key: \"${env:KEY}\"}, webhook: {\(webhook)}}")
        }
        let hook = "secrets: [\"${env:HOOK}\"]"
        #expect(try plan("scheme: basic-auth, \(hook)").warnings.isEmpty)
        #expect(try plan("scheme: discord, \(hook)").warnings.contains { $0.contains("public key in hex") })
        #expect(try plan("scheme: azure-event-grid, \(hook)").warnings.contains { $0.contains("experimental") })
        let missing = try #require(throws: SluiceError.self) { try plan("scheme: paypal, \(hook)") }
        #expect(missing.message.contains("webhook_id"), "\(missing.message)")
        let unknown = try #require(throws: SluiceError.self) { try plan("scheme: paypal, \(hook), parameters: {webhok_id: 1}") }
        #expect(unknown.message.contains("did you mean `webhook_id`?"), "\(unknown.message)")
        let header = try #require(throws: SluiceError.self) { try plan("scheme: github, \(hook), header: X-Mine") }
        #expect(header.message.contains("says itself which header it reads"), "\(header.message)")
        #expect(try plan("scheme: header-token, \(hook), header: X-Mine").warnings.isEmpty)
    }

    @Test func applyingAgainChangesNothing() async throws {
        try await Fixture.withAPI { api, store in
            #expect(await api.apply(Fixture.manifest).status == 200)
            let before = try await store.definitions(.default)
            let again = await api.apply(Fixture.manifest)
            #expect((try? JSONDocument(again.body))?.root["changes"]?.bool == false)
            let after = try await store.definitions(.default)
            #expect(before.triggers.map(\.generation) == after.triggers.map(\.generation))
            #expect(before.triggers.map(\.state) == [.running])
        }
    }

    @Test func anotherTypeNeedsAReset() async throws {
        try await Fixture.withAPI { api, store in
            _ = await api.apply(Fixture.manifest)
            let other = Fixture.manifest.replacing("type: record", with: "type: tick").replacing(
                "input: {resource: order, code: 0123}", with: "input: {}")
            let refused = await api.apply(other)
            #expect(refused.status == 409)
            #expect(refused.error?.message.contains("--reset orders") == true, "\(String(describing: refused.error))")
            let now = try await store.orders()
            #expect(now.type == "record")
            #expect(await api.apply(other, resets: ["orders"]).status == 200)
            let later = try await store.orders()
            #expect(later.type == "tick")
            let needless = await api.apply(other, resets: ["orders"])
            #expect(needless.status == 409 && needless.error?.message.contains("cursor reset") == true)
        }
    }

    @Test func anotherInputKeepsTheCursorAndSaysSo() async throws {
        try await Fixture.withAPI { api, store in
            _ = await api.apply(Fixture.manifest)
            let trigger = try await store.orders()
            _ = try await store.setCursor(trigger.id, generation: trigger.generation, cursor: Array("42".utf8), at: Timestamp(seconds: 1))
            let answer = await api.apply(Fixture.manifest.replacing("resource: order", with: "resource: invoice"))
            #expect(PlanText.text(answer.body).contains("the cursor stays"))
            let now = try await store.orders()
            #expect(now.progress.cursor == Array("42".utf8))
        }
    }

    @Test func whatIsNotNamedStaysUnlessPruned() async throws {
        try await Fixture.withAPI { api, store in
            _ = await api.apply(Fixture.manifest)
            #expect(await api.apply("connections: {}").status == 200)
            let now = try await store.orders()
            #expect(now.state == .running)
            #expect(await api.apply("connections: {}", prunes: true).status == 200)
            let later = try await store.orders()
            #expect(later.state == .stopped)
        }
    }

    /// A trigger that is paused from the first is stored so at once: no server sees it run in between.
    @Test func aTriggerThatIsToBePausedNeverRuns() async throws {
        let manifest = Fixture.manifest.replacing("type: record", with: "type: record\n    state: paused")
        let plan = try PlanTests.plan(manifest)
        #expect(plan.commands.first?.commands == [.start, .pause])
        #expect(plan.commands.first?.effects == [.subscribe], "it does not poll")
        try await Fixture.withAPI { api, store in
            #expect(await api.apply(manifest).status == 200)
            let state0 = try await store.orders().state
            #expect(state0 == .paused)
            #expect(await api.apply(manifest.replacing("paused", with: "running")).status == 200)
            let state1 = try await store.orders().state
            #expect(state1 == .running)
            #expect(await api.apply(manifest.replacing("paused", with: "stopped")).status == 200)
            let state2 = try await store.orders().state
            #expect(state2 == .stopped)
        }
    }

    @Test func aChangedSecretIsAChange() async throws {
        try await Fixture.withAPI { api, _ in
            _ = await api.apply(Fixture.manifest)
            var order = ApplyRequest(manifest: Fixture.manifest, references: Fixture.references, file: "sluice.yaml")
            order.references["env:KEY"] = "canary-other"
            let text = PlanText.text(await api.respond(to: order.request).body)
            #expect(text.contains("secrets change") && !text.contains("canary"))
        }
    }
}

extension String {
    fileprivate func replacing(_ part: String, with other: String) -> String {
        guard let range = firstRange(of: part) else { return self }
        return String(self[..<range.lowerBound]) + other + String(self[range.upperBound...])
    }
}

extension Fixture {
    /// The manifest with another trigger.
    fileprivate static func withTrigger(_ body: String) -> String {
        guard let start = manifest.firstRange(of: "triggers:"), let end = manifest.firstRange(of: "destinations:\n  out") else { return "" }
        return manifest[..<start.lowerBound] + "triggers:\n  orders: {\(body)}\n" + manifest[end.lowerBound...]
    }
}
