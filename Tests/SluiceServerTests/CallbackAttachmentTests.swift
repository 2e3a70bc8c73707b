import SluiceCore
import SluiceStore
import Testing

@testable import SluiceServer

/// `triggers: { callbacks:CONNECTION: … }` in sluice.yaml: destinations of any kind get what callbacks end in.
@Suite struct CallbackAttachmentTests {
    private static func manifest(_ lines: String) -> String {
        Fixture.manifest.replacingAll("destinations:\n  out:", "\(lines)\ndestinations:\n  worker: {kind: pull}\n  out:")
    }

    @Test func aConsumerIsAttachedBeforeTheFirstCallback() async throws {
        try await Fixture.withAPI { api, store in
            let text = Self.manifest("  callbacks:main:\n    destinations: [worker, {name: out, filter: 'record.state == \"settled\"'}]")
            let applied = await api.apply(text)
            #expect(applied.status == 200, "\(Self.text(applied))")
            let source = try #require(try await store.trigger(.default, named: "callbacks:main"))
            #expect(source.isCallbackSource && source.state == .running)
            let again = await api.apply(text)
            #expect(again.status == 200 && (try? JSONDocument(again.body))?.root["changes"]?.bool == false, "\(Self.text(again))")
            // The first callback makes no other one.
            let made = try await store.addCallback(
                Self.new(source.connection, sourceUID: "another"), pendingMax: 10, at: Timestamp(seconds: 10))
            #expect(made.callback.source == source.id)
            let definitions = try await store.definitions(.default)
            #expect(definitions.attachments.filter { $0.trigger == source.id }.count == 2)
            let shown = await api.ask("GET", "/v1/triggers/callbacks:main")
            #expect(shown.status == 200 && shown.text.contains("worker"), "\(shown.text)")
            // What the file no longer says is detached; what it does not name stays.
            #expect(await api.apply(Self.manifest("  callbacks:main:\n    destinations: [worker]")).status == 200)
            #expect(try await store.definitions(.default).attachments.filter { $0.trigger == source.id }.count == 1)
            #expect(await api.apply(Fixture.manifest).status == 200)
            #expect(try await store.definitions(.default).attachments.filter { $0.trigger == source.id }.count == 1)
        }
    }

    @Test(arguments: [
        ("  callbacks:main:\n    destinations: [oout]", "did you mean `out`?"),
        ("  callbacks:mein:\n    destinations: [out]", "did you mean `main`?"),
        ("  callbacks:main:\n    connection: main\n    destinations: [out]", "`connection`"),
        ("  'callbacks:':\n    destinations: [out]", "a name in triggers"),
        ("  'call:main':\n    destinations: [out]", "a name in triggers"),
    ]) func mistakesAreNamed(_ lines: String, _ part: String) async throws {
        try await Fixture.withAPI { api, _ in
            let answer = await api.apply(Self.manifest(lines))
            #expect(answer.status == 400 && Self.text(answer).contains(part), "\(Self.text(answer))")
        }
    }

    /// A connection goes with its source, also where no callback was ever made.
    @Test func theSourceGoesWithItsConnection() async throws {
        try await Fixture.withAPI { api, store in
            let text = """
                connections:
                  main:
                    connector: shop
                    fields: {site: acme, api_key: "${env:KEY}"}
                    webhook: {secrets: ["${env:HOOK}"]}
                triggers:
                  callbacks:main: {destinations: [worker]}
                destinations:
                  worker: {kind: pull}
                """
            #expect(await api.apply(text).status == 200)
            try await store.apply([.removeConnection(name: "main")], namespace: .default, at: Timestamp(seconds: 10))
            #expect(try await store.definitions(.default).triggers.isEmpty)
        }
    }

    private static func text(_ answer: APIResponse) -> String { String(decoding: answer.body, as: UTF8.self) }

    private static func new(_ connection: ConnectionID, sourceUID: String) -> NewCallback {
        let machine = CallbackMachine(
            asks: true, at: Timestamp(seconds: 10), expiresAt: Timestamp(seconds: 1000), policy: CallbackPolicy(pauses: []), random: 0)
        return NewCallback(
            id: "cb_1", connection: connection, type: nil, input: Array("{}".utf8), destination: nil, tokenHash: [1], sealedToken: [2],
            idempotencyKey: nil, requestDigest: [3], isUnsafe: false, state: machine.callback, pauses: [], sourceUID: sourceUID)
    }
}
